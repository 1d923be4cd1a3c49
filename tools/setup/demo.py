"""``run.py demo``: the shipped demo workflow through the real server, and its results as files."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egox_core.errors import EgoXInputError
from egox_core.file_names import DEPTH, EXO, HEAD_KEYPOINTS, META, TRUTH
from egox_core.sizes import PIXEL_STEP, REFERENCE_EXO_SIZE

from .api_client import ApiClient, Outcome, PromptRefused, read_prompt
from .base_dir import BaseDir, make_base_dir, read_models
from .demo_head import estimate_head, keypoints_in_use
from .environment import Environment
from .layout import Layout, SetupError
from .progress_bar import STAGES, ProgressBar, stage_of
from .server import Server
from .side_by_side import join

TAKE_FRAMES = 49
"""Length at which a take is run unless asked otherwise: the released model's."""

STANDINS = {
    "UNETLoader": ("unet_name", "egox_standin_wan22_i2v.safetensors"),
    "VAELoader": ("vae_name", "egox_standin_wan_vae.safetensors"),
    "EgoXLoadLora": ("lora_name", "egox_standin_lora_wan22.safetensors"),
}
"""Node type -> its file input, and the stand-in for it."""


@dataclass(frozen=True)
class DemoOptions:
    """Changes of the demo graph by the command line; None leaves the workflow's own value."""

    take: Path | None = None
    frames: int | None = None
    size: int | None = None
    steps: int | None = None
    keep_server: bool = False
    port: int | None = None
    stand_in: bool = False
    """Random weights, which a take of one's own always gets: the small model knows drawn rooms
    only."""
    head: str = "true"
    """``true``: the take's own ego poses; ``estimated``: those of Estimate Head Pose."""
    keypoints: Path | None = None
    """OpenPose's form, a list with one object per frame of the video; None: the file beside it."""


def run_demo(
    environment: Environment, options: DemoOptions, say: Callable[[str], None] = print
) -> int:
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
    arguments = read_models(layout.repo / "models", base, "pack") if is_stand_in else ()
    began = time.monotonic()
    with Server(
        environment, base, layout.logs / "demo_server.log", port=options.port, arguments=arguments
    ) as server:
        client = server.client
        say(
            f"Server: ComfyUI {client.version()} at {server.address} (up in {time.monotonic() - began:.1f} s, "
            f"log in {server.log})"
        )
        exo = find_exo(of_type(prompt, "EgoXLoadExoVideo")[0], base, layout)
        try:
            if options.head == "estimated":
                file = options.keypoints or (options.take or exo.parent) / HEAD_KEYPOINTS
                keypoints = keypoints_in_use(file, exo, of_type(prompt, "EgoXLoadExoVideo")[0])
                prompt = estimate_head(prompt, keypoints, client.object_info())
            if is_stand_in:
                prompt = use_standins(prompt)
            outcome = run_prompt(client, prompt, server)
            check_stages(prompt, outcome)
            results = collect(outcome, prompt, base, layout)
            finish(prompt, exo, results)
        except EgoXInputError as error:
            raise SetupError(str(error)) from None
        tell(results, prompt, say)
        if options.keep_server:
            say(f"\nThe server goes on at {server.address}. Press Ctrl-C to end it.")
            server.wait_for_ctrl_c()
    return 0


def run_prompt(client: ApiClient, prompt: dict[str, Any], server: Server) -> Outcome:
    """Run a graph to its end under a progress bar.

    Raises:
        SetupError: refused, failed, or the server went away.
    """
    try:
        outcome = client.run(prompt, ProgressBar(prompt).on_event)
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
    if options.keypoints is not None and options.head != "estimated":
        raise SetupError("--keypoints is for --head estimated.")
    if options.take is not None:
        missing = [name for name in (EXO, DEPTH, META) if not (options.take / name).is_file()]
        if missing:
            raise SetupError(f"--take {options.take}: not a take, it lacks {', '.join(missing)}.")


def stage_take(take: Path, base: BaseDir) -> str:
    """Copy a take into the demo host's own input folder; its folder's name there."""
    name = "take_" + "".join(c if c.isalnum() or c in "-_." else "_" for c in take.resolve().name)
    target = base.input / name
    target.mkdir(parents=True, exist_ok=True)
    for file in (EXO, DEPTH, META, TRUTH):
        if (take / file).is_file():
            part = target / f".part-{file}"
            shutil.copyfile(take / file, part)
            os.replace(part, target / file)
        else:
            (target / file).unlink(missing_ok=True)
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
        _set(prompt, "EgoXLoadExoVideo", "frame_count", frames)
    if size is not None:
        _set(prompt, "EgoXLoadExoVideo", "height", size)
        width = round(size * width / height / PIXEL_STEP) * PIXEL_STEP
        _set(prompt, "EgoXLoadExoVideo", "width", width)
    if options.steps is not None:
        _set(prompt, "EgoXWanSampler", "steps", options.steps)
    if staged is not None:
        _set(prompt, "EgoXLoadExoVideo", "file", f"{staged}/{EXO}")  # depth and poses are beside it
    return prompt


def save_prior(prompt: dict[str, Any]) -> dict[str, Any]:
    """Save the prior beside the ego video: the page has a player for it, a command line has
    files."""
    (prior,) = (
        node_id for node_id, node in prompt.items() if node["class_type"] == "EgoXRenderEgoPrior"
    )
    (load,) = (
        node_id for node_id, node in prompt.items() if node["class_type"] == "EgoXLoadExoVideo"
    )
    (ego,) = of_type(prompt, "SaveVideo")
    prompt["prior_video"] = {
        "class_type": "CreateVideo",
        "inputs": {"images": [prior, 0], "fps": [load, 2]},
    }
    folder = ego["filename_prefix"].rpartition("/")[0]
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


def check_stages(prompt: dict[str, Any], outcome: Outcome) -> None:
    """Refuse to call it a demo unless each of the six stages has run."""
    ran = {stage_of(prompt[node_id]["class_type"]) for node_id in outcome.ran if node_id in prompt}
    lacking = [name for number, (name, _) in enumerate(STAGES, 1) if number not in ran]
    if lacking:
        raise SetupError(f"These stages did not run: {', '.join(lacking)}.")
    print(f"All {len(STAGES)} stages ran.", flush=True)


def collect(
    outcome: Outcome,
    prompt: dict[str, Any],
    base: BaseDir,
    layout: Layout,
    folder: str = "egox_demo",
) -> Path:
    """Move what the SaveVideo nodes wrote to output/FOLDER/NAME.mp4; that folder."""
    target = layout.output / folder
    target.mkdir(parents=True, exist_ok=True)
    for node_id, output in outcome.outputs.items():
        prefix = prompt.get(node_id, {}).get("inputs", {}).get("filename_prefix")
        for saved in output.get("images", []) if prefix else []:
            source = base.output / saved.get("subfolder", "") / saved["filename"]
            shutil.move(source, target / f"{Path(prefix).name}{source.suffix}")
    lacking = [name for name in ("ego.mp4", "prior.mp4") if not (target / name).is_file()]
    if lacking:
        raise SetupError(f"The workflow saved no {' and no '.join(lacking)}.")
    return target


def finish(prompt: dict[str, Any], exo: Path, results: Path) -> None:
    """Put the exo video, the prior and the ego video (and the truth where known) side by side."""
    (load,) = of_type(prompt, "EgoXLoadExoVideo")
    truth = exo.parent / TRUTH
    join(
        results,
        exo,
        truth if truth.is_file() else None,
        start=load.get("start_frame", 0),
        fps=load.get("target_fps", 0),
        label="(stand-in weights)" if standins(prompt) else "",
    )


def find_exo(load: dict[str, Any], base: BaseDir, layout: Layout) -> Path:
    """The exo video's file: in the host's input folder or in the pack."""
    for place in (base.input / load["file"], layout.repo / load["file"]):
        if place.is_file():
            return place
    raise SetupError(f"The exo video {load['file']} was not found again.")


def standins(prompt: dict[str, Any]) -> list[str]:
    """Names of the stand-in model files that a prompt uses."""
    values = [
        value
        for node in prompt.values()
        for value in node["inputs"].values()
        if isinstance(value, str)
    ]
    return sorted(
        {value for value in values if "standin" in value and value.endswith(".safetensors")}
    )


def tell(results: Path, prompt: dict[str, Any], say: Callable[[str], None]) -> None:
    """Say what each result is, and what of it is stand-in."""
    fake = standins(prompt)
    mark = " - STAND-IN weights: noise, not a picture of anything" if fake else ""
    about = {
        "ego.mp4": f"the ego video that came out{mark}",
        "prior.mp4": "the ego prior: the exo video's points seen from the ego camera (real geometry)",
        "side_by_side.mp4": "exo | prior | ego, and the ground truth where it is known",
        "contact_sheet.png": "some frames of that under each other",
    }
    say(f"\nResults in {results}")
    for name, what in about.items():
        say(f"  {name:<18} {what}")
    if fake:
        say(
            "The stand-in models used were " + ", ".join(fake) + ".\n"
            "With the real weights (README) the same graph makes the real video: workflows/egox_basic.json."
        )
