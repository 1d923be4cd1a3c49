"""What both benches of the small model ask for: takes, sampler, folder; and what stands for each."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from egox_core.errors import EgoXInputError
from egox_core.prior.options import PRIOR_PRESETS
from lab.drawn import SyntheticSpec
from lab.small_model.contract import DEFAULT_SAMPLER, FULL, Sampler, load_sampler
from lab.small_model.held_out import HeldOutClip, clips_of_folder, clips_of_seeds

WORK = Path(__file__).resolve().parent.parent.parent / "output"
LEAST_TAKES = 64


def add_take_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """Where takes and videos of the bench ``name`` come from and go to."""
    parser.add_argument("--takes", type=Path, help="folder of take folders, as write_take leaves them")
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "COUNT"), help="instead: takes of these seeds")
    parser.add_argument("--spec", type=Path, help="JSON of SyntheticSpec fields, for --seeds")
    parser.add_argument("--count", type=int, help="only the first takes")
    parser.add_argument("--preset", choices=list(PRIOR_PRESETS), help="of the prior; the sampler's own unless given")
    parser.add_argument("--sampler", default=DEFAULT_SAMPLER, help="module with generate(clips, settings) and so on")
    parser.add_argument("--base", type=Path, help="instead of a sampler: the model's file, with --vae and --lora")
    parser.add_argument("--vae", type=Path)
    parser.add_argument("--lora", type=_named_file, action="append", default=[], metavar="[NAME=]FILE",
                        help=f"a trained LoRA, {FULL!r} without a name; may be given again")
    parser.add_argument("--text", help="zeros:TOKENSxDIM, or the file of the one embedding that the model knows")
    parser.add_argument("--work", type=Path, default=WORK / name, help="folder for videos, rows, contact sheet")


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    return (name, Path(file)) if equals else (FULL, Path(text))


def sampler_of(args: argparse.Namespace) -> Sampler:
    """The named module, or the files' own sampler.

    Raises:
        EgoXInputError: no such module, files missing.
    """
    if args.base is None:
        return load_sampler(args.sampler)
    from lab.small_model.wan_sampler import WanSampler

    if args.vae is None:
        raise EgoXInputError("--base", got="no --vae", expected="the VAE that the model was trained with",
                             fix="give both")
    return WanSampler(base=args.base, vae=args.vae, loras=dict(args.lora), text=args.text)


def held_out_clips(args: argparse.Namespace, sampler: Sampler) -> list[HeldOutClip]:
    """The clips that the arguments name.

    Raises:
        EgoXInputError: none named, and the sampler has none of its own; clips of several sizes.
    """
    preset = args.preset or sampler.PRIOR_PRESET
    if args.takes is not None:
        clips = clips_of_folder(args.takes, preset)[: args.count]
    elif args.seeds is not None:
        fields = json.loads(args.spec.read_text(encoding="utf-8")) if args.spec else {}
        first, count = args.seeds
        clips = clips_of_seeds(SyntheticSpec(**fields), range(first, first + (args.count or count)), preset)
    elif specs := sampler.held_out():
        clips = [clips_of_seeds(spec, [spec.seed], preset)[0] for spec in specs[: args.count]]
    else:
        raise EgoXInputError("held-out takes", got="none named", expected="--takes FOLDER or --seeds FIRST COUNT",
                             fix="name takes that no training saw")
    if len({(c.exo.shape, c.truth.shape) for c in clips}) > 1:
        raise EgoXInputError("held-out takes", got="takes of several sizes or lengths", expected="one size",
                             fix="swapping exo and prior between takes needs equal ones")
    return clips
