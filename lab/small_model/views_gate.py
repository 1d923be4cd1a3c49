"""The gate of the experiments on several exo views: whether short trainings show that the cameras' rays are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from egox_core.errors import EgoXInputError
from egox_core.metrics.bootstrap import paired_difference
from egox_core.metrics.image import psnr
from egox_core.progress import Progress, no_progress
from lab.drawn import SyntheticSpec, make_take
from lab.small_model.arguments import WORK
from lab.small_model.contract import Sampler, SampleSettings, VideoStore, facts_of
from lab.small_model.files import WorkFiles
from lab.small_model.held_out import HeldOutClip, clip_of_take, with_path_of
from lab.small_model.sampler import open_sampler
from lab.small_model.scores import as_float, mean_of
from lab.small_model.settings import VIEWS_GATES
from lab.small_model.stages import view_loras
from lab.small_model.wan_sampler import WanSampler

NOISES = (1234, 1235)
OTHER_PATH = "another take's path"
LEAST_PATH_COST = 1.0  # dB
STEPS = 10  # of sampling, on every rung


def judge_trained_arms(specs: Sequence[SyntheticSpec], stage: str, progress: Progress = no_progress) -> dict[str, Any]:
    """:func:`judge` on held-out rooms, with what ``run.py train-demo --stage STAGE`` has trained.

    Raises:
        SetupError: the small model isn't there.
        EgoXInputError: an arm that isn't trained, a single room.
    """
    gate, loras = VIEWS_GATES[stage], view_loras(WorkFiles(), stage)
    if missing := [name for arm, seed in gate.runs if (name := f"{arm}@{seed}") not in loras]:
        raise EgoXInputError("arms of the gate", got=f"{', '.join(missing)} not trained", expected="all of them",
                             fix=f"python3 run.py train-demo --stage {stage}")
    sampler = open_sampler(WanSampler, loras)
    clips = [clip_of_take(make_take(spec), sampler.PRIOR_PRESET) for spec in specs]  # no arm reads the prior
    store = VideoStore(folder=WORK / "views" / "videos", model=sampler.fingerprint())
    judged = judge(sampler, store, clips, gate.arms, progress)
    return {"rooms": len(clips), "stage": stage, "steps": gate.part.steps,
            "model": facts_of(sampler), **judged}


def judge(sampler: Sampler, store: VideoStore, clips: Sequence[HeldOutClip], arms: Sequence[str],
          progress: Progress = no_progress) -> dict[str, Any]:
    """PSNR of each arm, what it gains over the first, what another take's path costs it, and whether the gate holds.

    Raises:
        EgoXInputError: a single clip.
    """
    loras = {arm: [name for name in sampler.loras() if name.split("@")[0] == arm] for arm in arms}

    def figures(arm: str, asked: Sequence[HeldOutClip]) -> dict[str, float]:
        runs = [store.generated(sampler, asked, SampleSettings(lora=name, seed=seed, steps=STEPS),
                                f"{name}, noise {seed}", progress)
                for name in loras[arm] for seed in NOISES]
        return {clip.name: sum(float(psnr(as_float(run[i]), as_float(clip.truth)).mean()) for run in runs) / len(runs)
                for i, clip in enumerate(clips)}

    takes = {clip.name: clip.name for clip in clips}
    plain = figures(arms[0], clips)
    rows = [{"arm": arms[0], "psnr": mean_of({"psnr": plain}, "psnr").as_dict()}]
    for arm in arms[1:]:
        own, other = figures(arm, clips), figures(arm, with_path_of(clips))
        gain, cost = (paired_difference(own, against, takes) for against in (plain, other))
        rows.append({"arm": arm, "psnr": mean_of({"psnr": own}, "psnr").as_dict(),
                     OTHER_PATH: mean_of({"psnr": other}, "psnr").as_dict(), "gain": gain.as_dict(),
                     "path_cost": cost.as_dict(), "holds": gain.low > 0 and cost.mean >= LEAST_PATH_COST})
    return {"rows": rows, "holds": any(row.get("holds") for row in rows)}
