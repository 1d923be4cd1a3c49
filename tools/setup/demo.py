"""``run.py demo``: the shipped demo workflow through the real server, and its results as files."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .api_client import ApiClient, Outcome, PromptRefused
from .base_dir import BaseDir, make_base_dir
from .demo_head import ESTIMATED, HEADS, KEYPOINTS, estimate_head, read_keypoints
from .environment import Environment
from .layout import Layout, SetupError
from .progress_bar import STAGES, ProgressBar, stage_of
from .server import Server
from .workflow import to_prompt

FULL_WIDTH, FULL_SIZE, FULL_FRAMES = 784, 448, 49
"""What a take is run at unless asked otherwise: exo width, height and length of the released model."""
FRAME_STEP, PIXEL_STEP = 4, 16
"""The model takes 4n+1 frames and sides that are multiples of 16 px. These and the names below are said a second time,
since egox_core can't be imported before its environment exists; tests/tools/test_demo.py holds the two equal."""
EXO, DEPTH, META, TRUTH = TAKE_FILES = ("exo.mp4", "depth.npz", "meta.json", "ego_ground_truth.mp4")
NEEDED_FILES = (EXO, DEPTH, META)

STANDINS = {
    "UNETLoader": ("unet_name", "egox_standin_wan22_i2v.safetensors"),
    "VAELoader": ("vae_name", "egox_standin_wan_vae.safetensors"),
    "EgoXLoadLora": ("lora_name", "egox_standin_lora_wan22.safetensors"),
}
"""Node type -> its file input, and the stand-in for it."""


@dataclass(frozen=True)
class DemoOptions:
    """What the command line may change of the demo graph; None leaves the workflow's own value."""

    take: Path | None = None
    frames: int | None = None
    size: int | None = None
    steps: int | None = None
    keep_server: bool = False
    port: int | None = None
    stand_in: bool = False
    """Random weights of the same form. A take of one's own always gets them: the small model knows drawn rooms only."""
    head: str = "true"
    """Of HEADS: the take's own ego poses, or those that Estimate Head Pose makes of keypoints."""
    keypoints: Path | None = None
    """OpenPose's form, a list with one object a frame of the video; None: head_keypoints.json beside it."""


def run_demo(environment: Environment, options: DemoOptions, say: Callable[[str], None] = print) -> int:
    """Make output/egox_demo/{ego,prior,side_by_side}.mp4 and contact_sheet.png; the exit code.

    Raises:
        SetupError: the take is no take, the server did not start, or the prompt was refused or failed.
    """
    layout = environment.layout
    check_options(options)
    ensure_standins(environment)
    base = make_base_dir(layout.base, layout)
    staged = stage_take(options.take, base) if options.take else None
    began = time.monotonic()
    server = Server(environment, base, layout.logs / "demo_server.log", port=options.port)
    with server:
        client = server.client
        say(f"Server: ComfyUI {client.version()} at {server.address} (up in {time.monotonic() - began:.1f} s, "
            f"log in {server.log})")
        workflow = json.loads((layout.repo / "workflows" / "egox_demo.json").read_text(encoding="utf-8"))
        object_info = client.object_info()
        prompt = save_prior(apply_options(to_prompt(workflow, object_info), options, staged))
        if options.head == ESTIMATED:
            prompt = estimate_head(prompt, read_keypoints(keypoints_file(options, prompt, base, layout)), object_info)
        if options.stand_in or staged:
            prompt = use_standins(prompt)
        outcome = _run(client, prompt, server)
        check_stages(prompt, outcome)
        results = collect(outcome, prompt, base, layout)
        finish(environment, prompt, base, results, options)
        tell(results, prompt, say)
        if options.keep_server:
            say(f"\nThe server goes on at {server.address}. Press Ctrl-C to end it.")
            wait_for_ctrl_c(server)
    return 0


def _run(client: ApiClient, prompt: dict[str, Any], server: Server) -> Outcome:
    try:
        outcome = client.run(prompt, ProgressBar(prompt).on_event)
    except PromptRefused as error:
        raise SetupError(f"The server refused the demo workflow:\n{error}") from None
    except ConnectionError as error:
        raise SetupError(f"The server went away ({error}). The end of {server.log}:\n{server.log_tail()}") from None
    if outcome.status != "success":
        raise SetupError(f"The demo workflow failed in {outcome.error_text}\n(log: {server.log})")
    return outcome


def check_options(options: DemoOptions) -> None:
    """Refuse what the nodes would refuse, but before the server starts."""
    if options.frames is not None and (options.frames < 5 or options.frames % FRAME_STEP != 1):
        near = max(5, round((options.frames - 1) / FRAME_STEP) * FRAME_STEP + 1)
        raise SetupError(f"--frames {options.frames}: the model takes 4n+1 frames, for instance {near}.")
    if options.size is not None and (options.size < 64 or options.size % PIXEL_STEP):
        raise SetupError(f"--size {options.size}: a multiple of {PIXEL_STEP} from 64 on, for instance "
                         f"{max(64, round(options.size / PIXEL_STEP) * PIXEL_STEP)}.")
    if options.steps is not None and options.steps < 1:
        raise SetupError(f"--steps {options.steps}: at least 1.")
    if options.head not in HEADS:
        raise SetupError(f"--head {options.head}: one of {', '.join(HEADS)}.")
    if options.keypoints is not None and options.head != ESTIMATED:
        raise SetupError("--keypoints is for --head estimated.")
    if options.take is not None:
        missing = [name for name in NEEDED_FILES if not (options.take / name).is_file()]
        if missing:
            raise SetupError(f"--take {options.take}: not a take, it lacks {', '.join(missing)}.")


def ensure_standins(environment: Environment) -> None:
    """The stand-in models lie in the repository; remake them where somebody removed them."""
    models = environment.layout.repo / "models"
    if not list(models.glob("diffusion_models/*.safetensors")) or not list(models.glob("vae/*.safetensors")):
        if environment.run(["-m", "tools.rigs.standins"]):
            raise SetupError("The stand-in models could not be made (run.py make standins).")


def stage_take(take: Path, base: BaseDir) -> str:
    """Copy a take into the demo host's own input folder; its folder's name there."""
    name = "take_" + "".join(c if c.isalnum() or c in "-_." else "_" for c in take.resolve().name)
    target = base.input / name
    target.mkdir(parents=True, exist_ok=True)
    for file in TAKE_FILES:
        if (take / file).is_file():
            part = target / f".part-{file}"
            shutil.copyfile(take / file, part)
            os.replace(part, target / file)
        else:
            (target / file).unlink(missing_ok=True)
    return name


def apply_options(prompt: dict[str, Any], options: DemoOptions, staged: str | None) -> dict[str, Any]:
    """Set what the options ask for, by node type.

    Raises:
        SetupError: the graph has no such node or input.
    """
    size = options.size or (FULL_SIZE if staged else None)
    frames = options.frames or (FULL_FRAMES if staged else None)
    if frames is not None:
        _set(prompt, "EgoXLoadExoVideo", "frame_count", frames)
    if size is not None:
        _set(prompt, "EgoXLoadExoVideo", "height", size)
        _set(prompt, "EgoXLoadExoVideo", "width", round(size * FULL_WIDTH / FULL_SIZE / PIXEL_STEP) * PIXEL_STEP)
    if options.steps is not None:
        _set(prompt, "EgoXWanSampler", "steps", options.steps)
    if staged is not None:
        _set(prompt, "EgoXLoadExoVideo", "file", f"{staged}/{EXO}")
        for node in _of_type(prompt, "EgoXLoadExoVideo"):
            node["inputs"].pop("video", None)
        _set(prompt, "EgoXDepthAlign", "depth_file", f"{staged}/{DEPTH}")
        _set(prompt, "EgoXDepthAlign", "camera_file", "")
        _set(prompt, "EgoXEgoPoseInput", "source", "file")
        _set(prompt, "EgoXEgoPoseInput", "file", f"{staged}/{META}")
        _set(prompt, "EgoXEgoPoseInput", "camera", "auto")
    return prompt


def save_prior(prompt: dict[str, Any]) -> dict[str, Any]:
    """Save the prior beside the ego video: the page has a player for it, a command line has files."""
    (prior,) = (node_id for node_id, node in prompt.items() if node["class_type"] == "EgoXRenderEgoPrior")
    (ego,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "SaveVideo")
    (load,) = (node_id for node_id, node in prompt.items() if node["class_type"] == "EgoXLoadExoVideo")
    prompt["prior_video"] = {"class_type": "CreateVideo", "inputs": {"images": [prior, 0], "fps": [load, 2]}}
    folder = ego["filename_prefix"].rpartition("/")[0]
    prompt["prior_file"] = {"class_type": "SaveVideo", "inputs": {**ego, "video": ["prior_video", 0],
                                                                  "filename_prefix": f"{folder}/prior"}}
    return prompt


def use_standins(prompt: dict[str, Any]) -> dict[str, Any]:
    """Put the stand-in weights into every loader of a demo graph."""
    for kind, (name, file) in STANDINS.items():
        _set(prompt, kind, name, file)
    return prompt


def _of_type(prompt: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [node for node in prompt.values() if node["class_type"] == kind]


def _set(prompt: dict[str, Any], kind: str, name: str, value: Any) -> None:
    nodes = _of_type(prompt, kind)
    if not nodes:
        raise SetupError(f"The demo workflow has no {kind} node to set {name} of.")
    for node in nodes:
        if name not in node["inputs"]:
            raise SetupError(f"{kind} has no input {name}; it has {', '.join(sorted(node['inputs']))}.")
        node["inputs"][name] = value


def check_stages(prompt: dict[str, Any], outcome: Outcome) -> None:
    """Refuse to call it a demo unless each of the six stages has run."""
    ran = {stage_of(prompt[node_id]["class_type"]) for node_id in outcome.ran if node_id in prompt}
    lacking = [name for number, (name, _) in enumerate(STAGES, 1) if number not in ran]
    if lacking:
        raise SetupError(f"These stages did not run: {', '.join(lacking)}.")
    print(f"All {len(STAGES)} stages ran.", flush=True)


def collect(outcome: Outcome, prompt: dict[str, Any], base: BaseDir, layout: Layout) -> Path:
    """Copy what the SaveVideo nodes wrote to output/egox_demo/NAME.mp4; that folder."""
    target = layout.output / "egox_demo"
    target.mkdir(parents=True, exist_ok=True)
    for node_id, output in outcome.outputs.items():
        prefix = prompt.get(node_id, {}).get("inputs", {}).get("filename_prefix")
        for saved in output.get("images", []) if prefix else []:
            source = base.output / saved.get("subfolder", "") / saved["filename"]
            part = target / f".part-{Path(prefix).name}{source.suffix}"
            shutil.copyfile(source, part)
            os.replace(part, target / f"{Path(prefix).name}{source.suffix}")
            source.unlink()
    lacking = [name for name in ("ego.mp4", "prior.mp4") if not (target / name).is_file()]
    if lacking:
        raise SetupError(f"The demo workflow saved no {' and no '.join(lacking)}.")
    return target


def finish(environment: Environment, prompt: dict[str, Any], base: BaseDir, results: Path,
           options: DemoOptions) -> None:
    """Put the exo video, the prior and the ego video (and the truth where known) side by side."""
    load = _of_type(prompt, "EgoXLoadExoVideo")[0]["inputs"]
    exo = _video_of(prompt, base, environment.layout)
    truth = exo.parent / TRUTH
    arguments = ["-m", "tools.setup.side_by_side", "--exo", str(exo), "--prior", str(results / "prior.mp4"),
                 "--ego", str(results / "ego.mp4"), "--start", str(load.get("start_frame", 0)),
                 "--fps", str(load.get("target_fps", 0)), "--out", str(results)]
    if truth.is_file():
        arguments += ["--truth", str(truth)]
    if standins(prompt):
        arguments += ["--label", "(stand-in weights)"]
    if environment.run(arguments):
        raise SetupError("The side-by-side video could not be made.")


def _video_of(prompt: dict[str, Any], base: BaseDir, layout: Layout) -> Path:
    return find_exo(_of_type(prompt, "EgoXLoadExoVideo")[0]["inputs"], prompt, base, layout)


def keypoints_file(options: DemoOptions, prompt: dict[str, Any], base: BaseDir, layout: Layout) -> Path:
    """The one that was named, else the one beside the video; a take's own folder, since it isn't staged."""
    return options.keypoints or (options.take or _video_of(prompt, base, layout).parent) / KEYPOINTS


def find_exo(load: dict[str, Any], prompt: dict[str, Any], base: BaseDir, layout: Layout) -> Path:
    """The exo video's file: in the host's input folder or the pack's sample."""
    name = load.get("file")
    if isinstance(load.get("video"), list):
        name = prompt[load["video"][0]]["inputs"].get("file")
    plain = str(name).split(" [")[0]
    for place in (base.input / plain, layout.repo / plain, layout.repo / "sample" / plain,
                  layout.repo / "sample" / Path(plain).name):
        if place.is_file():
            return place
    raise SetupError(f"The exo video {name} was not found again.")


def standins(prompt: dict[str, Any]) -> list[str]:
    """Names of the stand-in model files that a prompt uses."""
    values = [value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, str)]
    return sorted({value for value in values if "standin" in value and value.endswith(".safetensors")})


def tell(results: Path, prompt: dict[str, Any], say: Callable[[str], None]) -> None:
    """Say what each result is, and what of it is stand-in."""
    fake = standins(prompt)
    mark = " - STAND-IN weights: noise, not a picture of anything" if fake else ""
    about = {"ego.mp4": f"the ego video that came out{mark}",
             "prior.mp4": "the ego prior: the exo video's points seen from the ego camera (real geometry)",
             "side_by_side.mp4": "exo | prior | ego, and the ground truth where it is known",
             "contact_sheet.png": "some frames of that under each other"}
    say(f"\nResults in {results}")
    for name, what in about.items():
        say(f"  {name:<18} {what}")
    if fake:
        say("The stand-in models used were " + ", ".join(fake) + ".\n"
            "With the real weights (README) the same graph makes the real video: workflows/egox_basic.json.")


def wait_for_ctrl_c(server: Server) -> None:
    try:
        while server.is_running():
            time.sleep(0.3)
    except KeyboardInterrupt:
        pass
