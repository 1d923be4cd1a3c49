"""Run the shipped demo workflow on a real server for ``run.py demo``.

A take of one's own is previewed without a model instead."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egox_core.file_names import DEPTH, EXO, META, TRUTH
from egox_core.sizes import PIXEL_STEP, REFERENCE_EXO_SIZE

from .api_client import Event, Outcome, PromptRefused, read_prompt
from .base_dir import BaseDir, make_base_dir, model_path_arguments
from .environment import Environment
from .layout import SetupError
from .server import Server

LOAD, PRIOR, DECODE = "EgoXLoadExoVideo", "EgoXRenderEgoPrior", "EgoXDecodeEgoHalf"
PREVIEW = "EgoXPreviewEgoView"
GEOMETRY_NODES = (LOAD, "EgoXDepthAlign", "EgoXEgoPoseInput", "EgoXBuildScene", PRIOR)
FILM_OUTPUTS = {DECODE: 3, PREVIEW: 2}
"""Output with exo video, prior, ego video and truth side by side, by node type."""
# Default number of frames for a take, as in the released model.
TAKE_FRAMES = 49
# For each node type: its file input, and the stand-in's file.
STANDINS = {
    "UNETLoader": ("unet_name", "egox_standin_wan22_i2v.safetensors"),
    "VAELoader": ("vae_name", "egox_standin_wan_vae.safetensors"),
    "EgoXLoadLora": ("lora_name", "egox_standin_lora_wan22.safetensors"),
}


@dataclass(frozen=True)
class DemoOptions:
    """Store command-line values that replace values of the demo's graph."""

    take: Path | None = None
    frames: int | None = None
    size: int | None = None
    steps: int | None = None
    keep_server: bool = False
    port: int | None = None
    # Random weights: the whole graph runs, and its ego video is noise.
    stand_in: bool = False

    @property
    def is_preview(self) -> bool:
        """True for a take of one's own: the small model knows drawn rooms only."""
        return self.take is not None and not self.stand_in


def run_demo(environment: Environment, options: DemoOptions) -> int:
    """Run the demo, write its videos, and return the exit code.

    Raises:
        SetupError: the take is no take, the server did not start, or the prompt was refused or
            failed.
    """
    layout = environment.layout
    check_options(options)
    base = make_base_dir(layout.base, layout)
    staged_take = stage_take(options.take, base) if options.take else None
    prompt = apply_options(read_prompt("egox_demo", layout.repo), options, staged_take)
    if options.is_preview:
        prompt = preview_prompt(prompt)
    if options.stand_in:
        use_standins(prompt)
    save_all(prompt)
    arguments = (
        model_path_arguments(layout.repo / "models", base, "pack") if options.stand_in else ()
    )
    log_file = layout.logs / "demo_server.log"
    with Server(environment, base, log_file, port=options.port, arguments=arguments) as server:
        print(f"Server: ComfyUI {server.client.version()} at {server.address}, log in {log_file}")
        outcome = run_prompt(server, prompt)
        results = move_videos(outcome, prompt, base, layout.output / "egox_demo")
        result_node = PREVIEW if options.is_preview else DECODE
        print_results(results, read_node_text(outcome, prompt, result_node), options)
        if options.keep_server:
            print(f"\nThe server keeps running at {server.address}. Press Ctrl-C to end it.")
            server.wait_for_ctrl_c()
    return 0


def print_node_names(prompt: dict[str, Any]) -> Callable[[Event], None]:
    """Make a listener that prints each node's name when it begins."""

    def listen(event: Event) -> None:
        kind, data = event
        # Nodes that a node made itself while running are not in the prompt.
        if kind == "executing" and data.get("node") in prompt:
            print(f"  {prompt[data['node']]['class_type'].removeprefix('EgoX')}", flush=True)

    return listen


def run_prompt(server: Server, prompt: dict[str, Any]) -> Outcome:
    """Run a graph to its end, and print its progress.

    Raises:
        SetupError: refused, failed, or the server went away.
    """
    try:
        outcome = server.client.run(prompt, print_node_names(prompt))
    except PromptRefused as error:
        raise SetupError(f"The server refused the workflow:\n{error}") from None
    except ConnectionError as error:
        raise SetupError(
            f"The server went away ({error}). The end of {server.log}:\n{server.log_tail()}"
        ) from None
    if outcome.status != "success":
        error_words = outcome.error_text.replace(
            "frame_count", "--frames"
        )  # the command's own word
        raise SetupError(f"The workflow failed in {error_words}\n(log: {server.log})")
    return outcome


def check_options(options: DemoOptions) -> None:
    """Check the demo's options before the server starts."""
    if options.take is not None:
        check_take(options.take)
    if options.is_preview and options.steps is not None:
        raise SetupError(
            f"--steps {options.steps}: a take is previewed without a model, which has no steps. "
            "Leave it out, or add --stand-in to run the whole graph with random weights."
        )


def check_take(take: Path) -> None:
    """Check that a take's folder has its three files."""
    missing = [name for name in (EXO, DEPTH, META) if not (take / name).is_file()]
    if missing:
        raise SetupError(f"--take {take}: not a take, it lacks {', '.join(missing)}.")


def stage_take(take: Path, base: BaseDir) -> str:
    """Copy a take into ComfyUI's input folder, and return its name there."""
    name = "take_" + "".join(
        character if character.isalnum() or character in "-_." else "_"
        for character in take.resolve().name
    )
    take_folder = base.input / name
    shutil.rmtree(take_folder, ignore_errors=True)
    take_folder.mkdir(parents=True)
    for file in (EXO, DEPTH, META, TRUTH):
        if (take / file).is_file():
            shutil.copyfile(take / file, take_folder / file)
    return name


def apply_options(
    prompt: dict[str, Any], options: DemoOptions, staged_take: str | None
) -> dict[str, Any]:
    """Write the options' values into the demo's graph.

    Raises:
        SetupError: the graph has no such node or input.
    """
    width, height = REFERENCE_EXO_SIZE
    size = options.size or (height if staged_take else None)
    frames = options.frames or (TAKE_FRAMES if staged_take else None)
    if frames is not None:
        _set_input(prompt, LOAD, "frame_count", frames)
    if size is not None:
        _set_input(prompt, LOAD, "height", size)
        width = round(size * width / height / PIXEL_STEP) * PIXEL_STEP
        _set_input(prompt, LOAD, "width", width)
    if options.steps is not None:
        _set_input(prompt, "EgoXWanSampler", "steps", options.steps)
    if staged_take is not None:
        _set_input(prompt, LOAD, "file", f"{staged_take}/{EXO}")  # depth and poses are beside it
    return prompt


def preview_prompt(prompt: dict[str, Any]) -> dict[str, Any]:
    """Replace the model of the demo's graph by Preview Ego View, and save its video."""
    nodes = {name: node for name, node in prompt.items() if node["class_type"] in GEOMETRY_NODES}
    node_ids = {node["class_type"]: name for name, node in nodes.items()}
    preview_inputs = {
        "prior": [node_ids[PRIOR], 0],
        "depth": [node_ids[PRIOR], 3],
        "unobserved": [node_ids[PRIOR], 4],
        "shading": "auto",
        "gain": 1.0,
        "exo_images": [node_ids[LOAD], 0],
        "audio": [node_ids[LOAD], 1],
    }
    nodes["preview"] = {"class_type": PREVIEW, "inputs": preview_inputs}
    save_inputs = inputs_by_type(prompt, "SaveVideo")[0]
    add_saver(nodes, save_inputs, "preview", ["preview", 1])
    return nodes


def save_all(prompt: dict[str, Any]) -> dict[str, Any]:
    """Add nodes to a graph that save its prior and its side-by-side film.

    The page has players for them, a command line needs files."""
    node_ids = {node["class_type"]: node_id for node_id, node in prompt.items()}
    savers = inputs_by_type(prompt, "SaveVideo")
    inputs = {"images": [node_ids[PRIOR], 0], "fps": [node_ids[LOAD], 2]}
    prompt["prior_video"] = {"class_type": "CreateVideo", "inputs": inputs}
    add_saver(prompt, savers[0], "prior", ["prior_video", 0])
    for kind, output in FILM_OUTPUTS.items():
        film = [node_ids.get(kind), output]
        if kind in node_ids and all(saver["video"] != film for saver in savers):
            add_saver(prompt, savers[0], "side_by_side", film)
    return prompt


def add_saver(prompt: dict[str, Any], like: dict[str, Any], name: str, video: list[Any]) -> None:
    """Add a SaveVideo node with the options and the folder of another one."""
    prefix = f"{like['filename_prefix'].rpartition('/')[0]}/{name}"
    inputs = {**like, "video": video, "filename_prefix": prefix}
    prompt[f"{name}_file"] = {"class_type": "SaveVideo", "inputs": inputs}


def use_standins(prompt: dict[str, Any]) -> dict[str, Any]:
    """Replace the weights in a graph's loaders by stand-ins."""
    for kind, (name, file) in STANDINS.items():
        _set_input(prompt, kind, name, file)
    return prompt


def inputs_by_type(prompt: dict[str, Any], node_class: str) -> list[dict[str, Any]]:
    """List the inputs of each node of a type."""
    return [node["inputs"] for node in prompt.values() if node["class_type"] == node_class]


def _set_input(prompt: dict[str, Any], node_class: str, name: str, value: Any) -> None:
    nodes = inputs_by_type(prompt, node_class)
    if not nodes or any(name not in inputs for inputs in nodes):
        raise SetupError(f"The demo workflow has no {node_class} node with an input {name} to set.")
    for inputs in nodes:
        inputs[name] = value


def move_videos(outcome: Outcome, prompt: dict[str, Any], base: BaseDir, target: Path) -> Path:
    """Move the videos of the SaveVideo nodes to ``target``/NAME.mp4."""
    target.mkdir(parents=True, exist_ok=True)
    for node_id, output in outcome.outputs.items():
        prefix = prompt[node_id]["inputs"].get("filename_prefix")
        for saved in output.get("images", []) if prefix else []:
            saved_path = base.output / saved.get("subfolder", "") / saved["filename"]
            shutil.move(saved_path, target / f"{Path(prefix).name}{saved_path.suffix}")
    return target


def read_node_text(outcome: Outcome, prompt: dict[str, Any], kind: str) -> str:
    """Read the text that a type's only node shows."""
    (node_id,) = (name for name, node in prompt.items() if node["class_type"] == kind)
    return "\n".join(outcome.outputs[node_id]["text"])


def print_results(results: Path, node_text: str, options: DemoOptions) -> None:
    """Print the demo's result files, and which weights are stand-ins."""
    name, made_of = "ego", "the ego video that came out"
    if options.is_preview:
        name, made_of = "preview", "the ego prior, filled and shaded without a model"
    if options.stand_in:
        made_of += " - STAND-IN weights: noise, not a picture of anything"
    print(
        f"\nResults in {results}\n"
        f"  {f'{name}.mp4':<18} {made_of}\n"
        "  prior.mp4          the ego prior: the exo video's points seen from the ego camera (real "
        "geometry)\n"
        f"  side_by_side.mp4   exo | prior | {name}, and the ground truth if it is known"
    )
    if options.stand_in:
        print(f"The stand-in models used were {', '.join(file for _, file in STANDINS.values())}.")
    else:
        print(node_text)
    if options.is_preview:
        print(
            "The whole model needs the weights of README's table and a GPU: "
            "workflows/egox_basic.json."
        )
