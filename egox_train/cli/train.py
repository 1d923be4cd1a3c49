"""Define all subcommands of ``train_egox.py`` with their command line arguments."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from egox_core.progress import Progress, no_progress
from egox_core.safe_files import require_there

from ..options import GenerateOptions, RunOptions, add_dataclass_arguments, from_arguments
from .cache import cache_arguments, run_cache
from .calibrate import calibrate_arguments, run_calibrate
from .data import (
    CLIP_OPTION_NAMES,
    add_batch_arguments,
    join_arguments,
    prepare_arguments,
    run_join,
    run_prepare,
    run_undistort,
    undistort_arguments,
)
from .evaluate import evaluate_arguments, masks_arguments, run_evaluate, run_masks
from .facts import facts_arguments, run_facts
from .headpose import headpose_arguments, run_headpose
from .info_log import is_first_process
from .launch import launch
from .lerobot import lerobot_arguments, run_lerobot


class Command(NamedTuple):
    """Subcommand of ``train_egox.py``: its name, arguments and the function that runs it."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Progress], int]
    not_there: tuple[str, ...] = ("out",)
    """Arguments whose paths needn't be there: what is written, and names in each take's folder."""


def _launch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "launcher",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="accelerate launch --config_file FILE train_egox.py train --config FILE, or torchrun",
    )


def _launch(args: argparse.Namespace, progress: Progress) -> int:
    return launch(args.launcher)


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        nargs="+",
        default=[None],
        help="YAML file; configs/ holds examples. Further files lie on top of it",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="one setting, as optimizer.learning_rate=2e-4; may be given again and again",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="refuse to continue from checkpoints in the output folder",
    )
    parser.add_argument(
        "--print-defaults",
        action="store_true",
        help="print every setting with its default and stop",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything that can be checked before the base is read, and say the memory",
    )
    parser.add_argument(
        "--memory-table",
        action="store_true",
        help="print the predicted memory of the 14B by base, offloads, optimizer, rank and size",
    )


def _train(args: argparse.Namespace, progress: Progress) -> int:
    from ..data.cache_store import require_index
    from ..train.config import dump_config, load_config, parse_config

    if args.print_defaults:
        print(
            dump_config(
                parse_config({"base": "BASE", "cache": "CACHE", "output": "OUTPUT", "steps": 1000})
            )
        )
        return 0
    if args.memory_table:
        from ..train.memory import memory_table

        print(memory_table())
        return 0
    from egox_core.errors import EgoXInputError

    config = load_config(args.config[0], args.overrides, more_files=args.config[1:])
    args.config_paths = [config.base, config.cache, config.init_lora, config.validation.vae]
    for name in ("base", "cache", "init_lora"):
        require_there(getattr(config, name), f"{name} of the configuration")
    require_index(config.cache)
    from ..train.checkpoints import checkpoint_folders
    from ..train.loop import describe_training, train

    if args.fresh and checkpoint_folders(Path(config.output)):
        raise EgoXInputError(
            "output folder",
            got="checkpoints of an earlier run",
            expected="none (--fresh)",
            fix="choose a different folder, or leave --fresh out to continue",
        )
    if args.dry_run:
        print("\n".join(describe_training(config)))
        return 0
    train_outcome = train(config, progress=progress if is_first_process() else no_progress)
    if not is_first_process():
        return 0
    print(
        f"{'finished' if train_outcome.finished else 'stopped and saved'} at step "
        f"{train_outcome.step}, loss {train_outcome.last_loss:.4f}: {config.output}"
    )
    return 0


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="LoRA file, or output folder of train")
    parser.add_argument("file", type=Path, help=".safetensors file to write")
    parser.add_argument(
        "--form",
        choices=("released", "native", "fused"),
        default="released",
        help="released or native (ComfyUI) naming, or fused into --base as a ComfyUI file",
    )
    parser.add_argument("--base", type=Path, help="base model, for --form fused")
    parser.add_argument(
        "--strength", type=float, default=1.0, help="scales the delta that is fused"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="bfloat16",
        help="number format of the written weights",
    )


def _export(args: argparse.Namespace, progress: Progress) -> int:
    import torch

    from ..train.export import export

    metadata = export(
        args.source,
        args.file,
        args.form,
        base=args.base,
        strength=args.strength,
        dtype=getattr(torch, args.dtype),
    )
    print(f"wrote {args.file}")
    from egox_core.wan import describe_unusual_settings

    lora_description = describe_unusual_settings(metadata)
    if lora_description and args.form == "native":
        print(lora_description)
    return 0


def _inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="LoRA file")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _inspect(args: argparse.Namespace, progress: Progress) -> int:
    from ..train.export import inspect

    lora_description = inspect(args.file)
    print(
        json.dumps(lora_description, indent=1)
        if args.json
        else "\n".join(f"{k}: {v}" for k, v in lora_description.items())
    )
    return 0


def _generate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cache", type=Path, help="cache of the clips")
    parser.add_argument("out", type=Path, help="folder for one mp4 a clip")
    add_dataclass_arguments(parser, GenerateOptions)
    add_batch_arguments(parser, *CLIP_OPTION_NAMES)


def _generate(args: argparse.Namespace, progress: Progress) -> int:
    from ..data.cache_store import require_index
    from ..parallel import RunEstimate

    require_index(args.cache)
    from ..train.generate import generate

    generate_outcome = generate(
        args.cache,
        args.out,
        from_arguments(GenerateOptions, args),
        from_arguments(RunOptions, args),
        progress=progress,
    )
    if isinstance(generate_outcome, RunEstimate):
        print(generate_outcome)
        return 0
    clips, new_count = generate_outcome
    print(f"{clips} clips ({new_count} made now): {args.out}")
    return 0


COMMANDS: Mapping[str, Command] = {
    "undistort": Command(
        "the exo videos as prepare shows them, for any depth or mask tool",
        undistort_arguments,
        run_undistort,
    ),
    "headpose": Command(
        "the wearer's camera from keypoints of the exo video, for takes without ego poses",
        headpose_arguments,
        run_headpose,
    ),
    "calibrate": Command(
        "cameras and clocks of your own recording: two videos to takes for prepare",
        calibrate_arguments,
        run_calibrate,
    ),
    "facts": Command(
        "unit, axes, world, lens and other facts that are taken of takes' files, and by whom",
        facts_arguments,
        run_facts,
    ),
    "prepare": Command(
        "raw takes to a training set: clips, manifest, splits, contact sheet, report",
        prepare_arguments,
        run_prepare,
        not_there=("out", "ego_path"),
    ),
    "join": Command(
        "one training set of the parts that `prepare --shard` made",
        join_arguments,
        run_join,
        not_there=(),
    ),
    "cache": Command(
        "latents, embeddings and attention geometry of a training set",
        cache_arguments,
        run_cache,
    ),
    "train": Command(
        "train a LoRA (or a base) on a cache; continues where it stopped",
        _train_arguments,
        _train,
    ),
    "launch": Command(
        "run a launcher's command so that SIGTERM and SIGUSR1 save, and end with 0",
        _launch_arguments,
        _launch,
    ),
    "export": Command(
        "write a LoRA in released or native naming, or fused into its base",
        _export_arguments,
        _export,
        not_there=("file",),
    ),
    "generate": Command(
        "ego videos for a whole cache, headless and resumable",
        _generate_arguments,
        _generate,
    ),
    "lerobot": Command(
        "takes, or generated clips, as a LeRobot v3 data set that robots learn from",
        lerobot_arguments,
        run_lerobot,
    ),
    "inspect": Command(
        "print rank, alpha, targets, hash and training configuration of a LoRA file",
        _inspect_arguments,
        _inspect,
    ),
    "masks": Command(
        "object masks of true and generated ego videos by SAM 2, for evaluate",
        masks_arguments,
        run_masks,
    ),
    "evaluate": Command(
        "score generated ego videos against the true ones of a manifest",
        evaluate_arguments,
        run_evaluate,
    ),
}
