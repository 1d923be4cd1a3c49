"""Run the shipped demo workflow on a real server for ``run.py demo``."""

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

LOAD, DECODE = "EgoXLoadExoVideo", "EgoXDecodeEgoHalf"
GAP = 4
"""Pixels between the pictures of the side-by-side video."""
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
    # Random weights, which a take of one's own always gets: the small model knows drawn rooms only.
    stand_in: bool = False


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
    is_stand_in = options.stand_in or staged_take is not None
    if is_stand_in:
        use_standins(prompt)
    save_all(prompt, (base.input, layout.repo))
    arguments = model_path_arguments(layout.repo / "models", base, "pack") if is_stand_in else ()
    log_file = layout.logs / "demo_server.log"
    with Server(environment, base, log_file, port=options.port, arguments=arguments) as server:
        print(f"Server: ComfyUI {server.client.version()} at {server.address}, log in {log_file}")
        outcome = run_prompt(server, prompt)
        results = move_videos(outcome, prompt, base, layout.output / "egox_demo")
        print_results(results, read_node_text(outcome, prompt, DECODE), is_stand_in)
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
        missing = [name for name in (EXO, DEPTH, META) if not (options.take / name).is_file()]
        if missing:
            raise SetupError(f"--take {options.take}: not a take, it lacks {', '.join(missing)}.")


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


def save_all(prompt: dict[str, Any], search_folders: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Add nodes to the demo's graph that save the prior and a side-by-side video.

    The page has players for them, a command line needs files."""
    node_ids = {node["class_type"]: node_id for node_id, node in prompt.items()}
    (load_inputs,), (save_inputs,) = (
        inputs_by_type(prompt, LOAD),
        inputs_by_type(prompt, "SaveVideo"),
    )
    videos = {"prior": [node_ids["EgoXRenderEgoPrior"], 0], "ego": [node_ids[DECODE], 0]}
    truth_file = Path(load_inputs["file"]).with_name(TRUTH).as_posix()
    if any((search_folder / truth_file).is_file() for search_folder in search_folders):
        inputs = {**load_inputs, "file": truth_file, "width": load_inputs["height"]}
        prompt["truth"] = {"class_type": LOAD, "inputs": inputs}
        videos["truth"] = ["truth", 0]
    row_output = [node_ids[LOAD], 0]
    stitch_options = {"direction": "right", "match_image_size": True, "spacing_color": "black"}
    for name, images in videos.items():
        inputs = {"image1": row_output, "image2": images, "spacing_width": GAP, **stitch_options}
        prompt[f"row_{name}"] = {"class_type": "ImageStitch", "inputs": inputs}
        row_output = [f"row_{name}", 0]
    for name, images in {"prior": videos["prior"], "side_by_side": row_output}.items():
        inputs = {"images": images, "fps": [node_ids[LOAD], 2]}
        prompt[f"{name}_video"] = {"class_type": "CreateVideo", "inputs": inputs}
        prefix = f"{save_inputs['filename_prefix'].rpartition('/')[0]}/{name}"
        inputs = {**save_inputs, "video": [f"{name}_video", 0], "filename_prefix": prefix}
        prompt[f"{name}_file"] = {"class_type": "SaveVideo", "inputs": inputs}
    return prompt


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


def print_results(results: Path, node_text: str, is_stand_in: bool) -> None:
    """Print the demo's result files, and which weights are stand-ins."""
    weights_note = " - STAND-IN weights: noise, not a picture of anything" if is_stand_in else ""
    print(
        f"\nResults in {results}\n"
        f"  ego.mp4            the ego video that came out{weights_note}\n"
        "  prior.mp4          the ego prior: the exo video's points seen from the ego camera (real "
        "geometry)\n"
        "  side_by_side.mp4   exo | prior | ego, and the ground truth if it is known"
    )
    if is_stand_in:
        print(
            f"The stand-in models used were {', '.join(file for _, file in STANDINS.values())}.\n"
            "With the real weights (README) the same graph makes the real video: "
            "workflows/egox_basic.json."
        )
    else:
        print(node_text)
