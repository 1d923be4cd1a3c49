"""``run.py demo``: the shipped demo workflow through the real server, and its results as files."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egox_core.errors import EgoXInputError
from egox_core.file_names import DEPTH, EXO, META, TRUTH
from egox_core.sizes import PIXEL_STEP, REFERENCE_EXO_SIZE
from egox_core.types import FrameSelection
from egox_core.video import probe_video, select_frames

from .api_client import Event, Outcome, PromptRefused, read_prompt
from .base_dir import BaseDir, make_base_dir, read_models
from .environment import Environment
from .layout import Layout, SetupError
from .server import Server
from .side_by_side import join

LOAD = "EgoXLoadExoVideo"
# Length at which a take is run unless asked otherwise: the released model's.
TAKE_FRAMES = 49
# Node type -> its file input, and the stand-in for it.
STANDINS = {
    "UNETLoader": ("unet_name", "egox_standin_wan22_i2v.safetensors"),
    "VAELoader": ("vae_name", "egox_standin_wan_vae.safetensors"),
    "EgoXLoadLora": ("lora_name", "egox_standin_lora_wan22.safetensors"),
}
SELECTED_BY = ("start_frame", "frame_count", "target_fps", "resize", "width", "height")


@dataclass(frozen=True)
class DemoOptions:
    """Changes of the demo graph by the command line; None leaves the workflow's own value."""

    take: Path | None = None
    frames: int | None = None
    size: int | None = None
    steps: int | None = None
    keep_server: bool = False
    port: int | None = None
    # Random weights, which a take of one's own always gets: the small model knows drawn rooms only.
    stand_in: bool = False


def run_demo(environment: Environment, options: DemoOptions) -> int:
    """Make output/egox_demo/{ego,prior,side_by_side}.mp4 and contact_sheet.png; the exit code.

    Raises:
        SetupError: the take is no take, the server did not start, or the prompt was refused or
            failed.
    """
    layout = environment.layout
    check_options(options)
    base = make_base_dir(layout.base, layout)
    staged = stage_take(options.take, base) if options.take else None
    prompt = save_prior(apply_options(read_prompt("egox_demo", layout.repo), options, staged))
    is_stand_in = options.stand_in or staged is not None
    if is_stand_in:
        use_standins(prompt)
    arguments = read_models(layout.repo / "models", base, "pack") if is_stand_in else ()
    log = layout.logs / "demo_server.log"
    with Server(
        environment,
        base,
        log,
        port=options.port,
        arguments=arguments,
        shows=options.keep_server,  # else nobody looks at the nodes
    ) as server:
        print(f"Server: ComfyUI {server.client.version()} at {server.address}, log in {log}")
        try:
            exo, chosen = frames_in_use(prompt, base, layout)
            results = collect(run_prompt(server, prompt), prompt, base, layout)
            truth = exo.parent / TRUTH
            join(
                results,
                exo,
                truth if truth.is_file() else None,
                chosen.source_indices.tolist(),
                "(stand-in weights)" if is_stand_in else "",
            )
        except EgoXInputError as error:
            raise SetupError(str(error)) from None
        tell(results, is_stand_in)
        if options.keep_server:
            print(f"\nThe server goes on at {server.address}. Press Ctrl-C to end it.")
            server.wait_for_ctrl_c()
    return 0


class Progress:
    """Progress of each node on one line of a terminal; its seconds on a line that stays."""

    def __init__(self, prompt: dict[str, Any]) -> None:
        self.prompt, self.node, self.began = prompt, "", 0.0

    def __call__(self, event: Event) -> None:
        kind, data = event
        if kind == "progress_state" and self.node in data["nodes"] and os.isatty(1):
            state = data["nodes"][self.node]
            print(f"  {self._name()} {state['value']:g}/{state['max']:g}  ", end="\r", flush=True)
        elif kind in ("executing", "execution_success"):
            if self.node:
                print(f"  {self._name():<28} {time.monotonic() - self.began:7.1f} s", flush=True)
            self.node, self.began = data.get("node") or "", time.monotonic()

    def _name(self) -> str:
        # Nodes that a node made itself while running are not in the prompt.
        return self.prompt.get(self.node, {}).get("class_type", "?").removeprefix("EgoX")


def run_prompt(server: Server, prompt: dict[str, Any]) -> Outcome:
    """Run a graph to its end, and tell its progress.

    Raises:
        SetupError: refused, failed, or the server went away.
    """
    try:
        outcome = server.client.run(prompt, Progress(prompt))
    except PromptRefused as error:
        raise SetupError(f"The server refused the workflow:\n{error}") from None
    except ConnectionError as error:
        raise SetupError(
            f"The server went away ({error}). The end of {server.log}:\n{server.log_tail()}"
        ) from None
    if outcome.status != "success":
        raise SetupError(f"The workflow failed in {outcome.error_text}\n(log: {server.log})")
    return outcome


def check_options(options: DemoOptions) -> None:
    """Refuse before the server starts what no node would see; the nodes refuse the rest."""
    if options.take is not None:
        missing = [name for name in (EXO, DEPTH, META) if not (options.take / name).is_file()]
        if missing:
            raise SetupError(f"--take {options.take}: not a take, it lacks {', '.join(missing)}.")


def stage_take(take: Path, base: BaseDir) -> str:
    """Copy a take into the demo host's own input folder; its folder's name there."""
    name = "take_" + "".join(c if c.isalnum() or c in "-_." else "_" for c in take.resolve().name)
    target = base.input / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in (EXO, DEPTH, META, TRUTH):
        if (take / file).is_file():
            shutil.copyfile(take / file, target / file)
    return name


def apply_options(
    prompt: dict[str, Any], options: DemoOptions, staged: str | None
) -> dict[str, Any]:
    """Set what the options ask for, by node type.

    Raises:
        SetupError: the graph has no such node or input.
    """
    width, height = REFERENCE_EXO_SIZE
    size = options.size or (height if staged else None)
    frames = options.frames or (TAKE_FRAMES if staged else None)
    if frames is not None:
        _set(prompt, LOAD, "frame_count", frames)
    if size is not None:
        _set(prompt, LOAD, "height", size)
        width = round(size * width / height / PIXEL_STEP) * PIXEL_STEP
        _set(prompt, LOAD, "width", width)
    if options.steps is not None:
        _set(prompt, "EgoXWanSampler", "steps", options.steps)
    if staged is not None:
        _set(prompt, LOAD, "file", f"{staged}/{EXO}")  # depth and poses are beside it
    return prompt


def save_prior(prompt: dict[str, Any]) -> dict[str, Any]:
    """Save the prior beside the ego video: the page has a player for it, a command line has
    files."""
    ids = {node["class_type"]: node_id for node_id, node in prompt.items()}
    (ego,) = of_type(prompt, "SaveVideo")
    folder = ego["filename_prefix"].rpartition("/")[0]
    prompt["prior_video"] = {
        "class_type": "CreateVideo",
        "inputs": {"images": [ids["EgoXRenderEgoPrior"], 0], "fps": [ids[LOAD], 2]},
    }
    prompt["prior_file"] = {
        "class_type": "SaveVideo",
        "inputs": {**ego, "video": ["prior_video", 0], "filename_prefix": f"{folder}/prior"},
    }
    return prompt


def use_standins(prompt: dict[str, Any]) -> dict[str, Any]:
    """Put the stand-in weights into every loader of a demo graph."""
    for kind, (name, file) in STANDINS.items():
        _set(prompt, kind, name, file)
    return prompt


def of_type(prompt: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Inputs of each node of a type."""
    return [node["inputs"] for node in prompt.values() if node["class_type"] == kind]


def _set(prompt: dict[str, Any], kind: str, name: str, value: Any) -> None:
    nodes = of_type(prompt, kind)
    if not nodes or any(name not in inputs for inputs in nodes):
        raise SetupError(f"The demo workflow has no {kind} node with an input {name} to set.")
    for inputs in nodes:
        inputs[name] = value


def frames_in_use(
    prompt: dict[str, Any], base: BaseDir, layout: Layout
) -> tuple[Path, FrameSelection]:
    """The exo video's file, in the host's input folder or in the pack, and which frames of it are
    used.

    Raises:
        EgoXInputError: frames that the video doesn't have.
    """
    (load,) = of_type(prompt, LOAD)
    places = (base.input / load["file"], layout.repo / load["file"])
    exo = next((place for place in places if place.is_file()), None)
    if exo is None:
        raise SetupError(
            f"The exo video {load['file']} is neither in {base.input} nor in the pack."
        )
    wanted = {name: load[name] for name in SELECTED_BY if name in load}
    return exo, select_frames(probe_video(exo), **wanted)


def collect(outcome: Outcome, prompt: dict[str, Any], base: BaseDir, layout: Layout) -> Path:
    """Move what the SaveVideo nodes wrote to output/egox_demo/NAME.mp4; that folder."""
    target = layout.output / "egox_demo"
    target.mkdir(parents=True, exist_ok=True)
    for node_id, output in outcome.outputs.items():
        prefix = prompt[node_id]["inputs"].get("filename_prefix")
        for saved in output.get("images", []) if prefix else []:
            source = base.output / saved.get("subfolder", "") / saved["filename"]
            shutil.move(source, target / f"{Path(prefix).name}{source.suffix}")
    return target


def tell(results: Path, is_stand_in: bool) -> None:
    """Say what each result is, and what of it is stand-in."""
    mark = " - STAND-IN weights: noise, not a picture of anything" if is_stand_in else ""
    print(
        f"\nResults in {results}\n"
        f"  ego.mp4            the ego video that came out{mark}\n"
        "  prior.mp4          the ego prior: the exo video's points seen from the ego camera (real geometry)\n"
        "  side_by_side.mp4   exo | prior | ego, and the ground truth where it is known\n"
        "  contact_sheet.png  some frames of that under each other"
    )
    if is_stand_in:
        print(
            f"The stand-in models used were {', '.join(file for _, file in STANDINS.values())}.\n"
            "With the real weights (README) the same graph makes the real video: workflows/egox_basic.json."
        )
