"""Run the authors' own example with the released weights, and compare it with the true video.

    python3 run.py bench released --take FOLDER [--truth VIDEO] [--save]
    python3 run.py bench released --take FOLDER --stand-in      the same path on any machine

FOLDER is the take cmu_soccer06 of the authors' release (exo.mp4, depth.npz, meta.json, and the true
ego video). Noise released, 50 steps, seed 42, 49 frames, as in the one public run of the authors'
code (github.com/skr3178/egoX), 47 minutes with 4-bit weights on 24 GB: PSNR 17.83 dB and SSIM .653
of RGB, as our own columns have them. (It quotes .691, which is of luma; luma has 19.44 dB.)
Run again by a volunteer, after a change of the model path; the weights are those of the README.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.record import add_arguments, finish
from egox_core.errors import EgoXInputError
from egox_core.file_names import EXO, TRUTH
from egox_core.video import resize_picture
from egox_train.metrics.frame_metrics import frame_metrics
from tools.pictures import read_frames
from tools.setup.api_client import read_prompt
from tools.setup.base_dir import make_base_dir, model_path_arguments, user_model_arguments
from tools.setup.demo import (
    DemoOptions,
    apply_options,
    check_take,
    inputs_by_type,
    move_videos,
    run_prompt,
    save_all,
    stage_take,
    use_standins,
)
from tools.setup.environment import Environment, this_environment
from tools.setup.layout import Layout, SetupError
from tools.setup.server import Server

PUBLIC_FIGURES = {"psnr": 17.83, "ssim": 0.653}
MOST_DIFFERENCES = {"psnr": 0.5, "ssim": 0.02}
"""Distance that a run may have and still say the same: theirs had 4-bit weights, and a GPU's
attention kernels round differently."""
SEED, STEPS = 42, 50
TRUTH_NAMES = (TRUTH, "ego_GT.mp4", "ego_gt.mp4")


def released_prompt(
    options: DemoOptions, staged: str, stand_in: bool, repo: Path
) -> dict[str, Any]:
    """Build the ComfyUI graph of the authors' example, for the real weights or for small
    stand-ins."""
    prompt = read_prompt("egox_demo" if stand_in else "egox_basic", repo)
    prompt = save_all(apply_options(prompt, options, staged))
    for node_type, values in {
        "EgoXWanSampler": {"seed": SEED, "noise": "released"},
    }.items():
        for node_inputs in inputs_by_type(prompt, node_type):
            node_inputs.update(values)
    return use_standins(prompt) if stand_in else prompt


def generate(environment: Environment, options: DemoOptions, stand_in: bool) -> tuple[Path, float]:
    """Run a ComfyUI graph, and return the folder with the generated ego.mp4 and the seconds that it
    took.

    Raises:
        SetupError: no take, the server did not start, weights are missing, the graph failed.
    """
    check_take(options.take)
    layout = environment.layout
    base_folder = make_base_dir(layout.base, layout)
    prompt = released_prompt(options, stage_take(options.take, base_folder), stand_in, layout.repo)
    models = user_model_arguments(environment.host, base_folder)
    if stand_in:
        models = model_path_arguments(layout.repo / "models", base_folder, "pack")
    log_file = layout.logs / "released_server.log"
    with Server(environment, base_folder, log_file, arguments=models) as server:
        start_time_s = time.monotonic()
        run_outcome = run_prompt(server, prompt)
        folder = move_videos(run_outcome, prompt, base_folder, layout.output / "egox_released")
        return folder, time.monotonic() - start_time_s


def compare(ego: Path, truth: Path) -> dict[str, float]:
    """Compute PSNR and SSIM of a generated video against the true one."""
    generated_frames = read_frames(ego)
    height, width = generated_frames.shape[1:3]
    true_frames = read_frames(truth)[: len(generated_frames)]
    generated_frames = torch.from_numpy(generated_frames[: len(true_frames)]).float() / 255
    true_frames = (
        torch.stack([torch.from_numpy(resize_picture(x, width, height)) for x in true_frames]) / 255
    )
    metric_values = frame_metrics(generated_frames, true_frames)
    return {key: float(metric_values[key]) for key in PUBLIC_FIGURES}


def compare_with_public_run(metric_values: dict[str, float]) -> dict[str, Any]:
    """Check that PSNR and SSIM differ little from those of the published run."""
    differences = {key: metric_values[key] - PUBLIC_FIGURES[key] for key in PUBLIC_FIGURES}
    return {
        "off": differences,
        "near": all(abs(differences[key]) <= MOST_DIFFERENCES[key] for key in PUBLIC_FIGURES),
    }


def table(result: dict[str, Any]) -> str:
    """Format the benchmark's result as a text table."""
    lines = [
        f"{result['take']}: {result['steps']} steps in {result['minutes']:.1f} min",
        "| | here | public run | off by | near is |",
        "|---|---|---|---|---|",
    ]
    lines += [
        (
            f"| {key.upper()} | {value:.3f} | {PUBLIC_FIGURES[key]} | {result['off'][key]:+.3f} | "
            f"{MOST_DIFFERENCES[key]} |"
        )
        for key, value in result["values"].items()
    ]
    if result["stand_in"]:
        lines.append("STAND-IN weights: the path ran to its end; the figures are noise's.")
        return "\n".join(lines)
    return "\n".join([*lines, "It is near." if result["near"] else "It is NOT near."])


def main() -> int:
    parser = argparse.ArgumentParser(prog="released", description=__doc__.splitlines()[0])
    parser.add_argument("--take", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="VIDEO",
        help=f"default: {TRUTH_NAMES[0]} or {TRUTH_NAMES[1]} in the take",
    )
    parser.add_argument("--stand-in", action="store_true", help="tiny random weights, any machine")
    for name, unit_text in (("frames", "4n+1"), ("size", "px"), ("steps", "")):
        parser.add_argument(
            f"--{name}",
            type=int,
            help=f"{unit_text} for a try; the figures then say nothing of the public run",
        )
    add_arguments(parser)
    args = parser.parse_args()
    truth_files = [args.truth] if args.truth else [args.take / name for name in TRUTH_NAMES]
    truth_file = next((file for file in truth_files if file.is_file()), None)
    if truth_file is None:
        sys.exit(
            "bench released: no true ego video; looked for "
            f"{', '.join(f.name for f in truth_files)} beside {EXO}. Give it with --truth."
        )
    environment = this_environment(Layout())
    if environment is None:
        sys.exit(
            "bench released: there is no ComfyUI here; set COMFYUI_DIR to one with the weights"
        )
    options = DemoOptions(
        take=args.take, frames=args.frames, size=args.size, steps=args.steps or STEPS
    )
    try:
        folder, seconds = generate(environment, options, args.stand_in)
        metric_values = compare(folder / "ego.mp4", truth_file)
    except (SetupError, EgoXInputError) as error:
        sys.exit(f"bench released: {error}")
    result = {
        "take": args.take.resolve().name,
        "stand_in": args.stand_in,
        "steps": options.steps,
        "minutes": seconds / 60,
        "values": metric_values,
        **compare_with_public_run(metric_values),
    }
    return finish("released", result, args, table(result), args.stand_in or result["near"])


if __name__ == "__main__":
    sys.exit(main())
