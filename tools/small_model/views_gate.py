"""The gate of the experiments on several exo views: whether short trainings show that the cameras' rays are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from egox_core.errors import EgoXInputError
from egox_core.metrics.bootstrap import paired_difference
from egox_core.metrics.image import psnr
from egox_core.progress import Progress, no_progress
from egox_core.synthetic import SyntheticSpec, make_take
from tools.small_model.arguments import WORK
from tools.small_model.contract import Sampler, SampleSettings, VideoStore, facts_of
from tools.small_model.files import files_of
from tools.small_model.held_out import HeldOutClip, clip_of_take, with_path_of
from tools.small_model.sampler import open_sampler
from tools.small_model.scores import as_float, mean_of
from tools.small_model.settings import VIEWS_GATE
from tools.small_model.stages import view_lora
from tools.small_model.transformer import VIEW_ARMS
from tools.small_model.wan_sampler import WanSampler

NOISES = (1234, 1235)
WITHOUT, WITH = VIEW_ARMS
OTHER_PATH = "another take's path"
LEAST_PATH_COST = 1.0  # dB


def judge_trained_arms(specs: Sequence[SyntheticSpec], training: str,
                       progress: Progress = no_progress) -> dict[str, Any]:
    """:func:`judge` on held-out rooms, with what ``run.py train-demo --stage views_gate`` has trained on the base of
    this training.

    Raises:
        SetupError: the small model isn't there.
        EgoXInputError: see :func:`judge`.
    """
    files = files_of(training)
    arms = {f"{arm}@{seed}": view_lora(files, arm, seed)
            for seed in range(1, VIEWS_GATE.seeds + 1) for arm in VIEW_ARMS}
    sampler = open_sampler(WanSampler, {name: file for name, file in arms.items() if file.is_file()}, training)
    clips = [clip_of_take(make_take(spec), sampler.PRIOR_PRESET) for spec in specs]  # no arm reads the prior
    store = VideoStore(folder=WORK / "views" / "videos", model=sampler.fingerprint())
    judged = judge(sampler, store, clips, progress)
    return {"rooms": len(clips), "training": training, "model": facts_of(sampler), **judged}


def judge(sampler: Sampler, store: VideoStore, clips: Sequence[HeldOutClip],
          progress: Progress = no_progress) -> dict[str, Any]:
    """PSNR of each arm, what the rays gain, what another take's path costs, and whether the gate holds.

    Raises:
        EgoXInputError: an arm that isn't trained, a single clip.
    """
    loras = {arm: [name for name in sampler.loras() if name.split("@")[0] == arm] for arm in VIEW_ARMS}
    if missing := [arm for arm, names in loras.items() if not names]:
        raise EgoXInputError("arms of the gate", got=f"{' and '.join(missing)} not trained", expected="all of them",
                             fix="python3 run.py train-demo --stage views_gate")

    def figures(arm: str, asked: Sequence[HeldOutClip]) -> dict[str, float]:
        runs = [store.generated(sampler, asked, SampleSettings(lora=name, seed=seed), f"{name}, noise {seed}", progress)
                for name in loras[arm] for seed in NOISES]
        return {clip.name: sum(float(psnr(as_float(run[i]), as_float(clip.truth)).mean()) for run in runs) / len(runs)
                for i, clip in enumerate(clips)}

    scores = {WITHOUT: figures(WITHOUT, clips), WITH: figures(WITH, clips),
              OTHER_PATH: figures(WITH, with_path_of(clips))}
    takes = {clip.name: clip.name for clip in clips}
    gain, cost = (paired_difference(scores[WITH], scores[other], takes) for other in (WITHOUT, OTHER_PATH))
    return {"psnr": {name: mean_of({"psnr": values}, "psnr").as_dict() for name, values in scores.items()},
            "gain": gain.as_dict(), "path_cost": cost.as_dict(),
            "holds": gain.low > 0 and cost.mean >= LEAST_PATH_COST}
