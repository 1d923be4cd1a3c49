"""Generate ego videos for all clips of a cache."""

import json
import logging
import math
import time
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.file_names import PRIOR, SEEN
from egox_core.frozen import frozen
from egox_core.metrics import keep_observed, straighten_picture
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import clear_leftovers, write_json
from egox_core.stereo import StereoForm, mark_stereo, second_eye, stereo_pictures
from egox_core.types import UNOBSERVED, CameraTrajectory, video_classes
from egox_core.wan import MERGED, check_run_files, check_strength, trained_with, weight_file

from ..compute_type import DTYPES, compute_type
from ..data.cache_store import CacheReader
from ..data.clip_files import read_all, read_classes
from ..data.manifest import read_manifest
from ..fingerprint import fingerprint
from ..metrics.clip_inputs import ClipFiles, clip_files, clip_scene, clip_views
from ..options import DEFAULT_RUN_OPTIONS, GenerateOptions, RunOptions
from ..parallel import (
    RunEstimate,
    WorkerPlan,
    estimate_run,
    make_once,
    run_all,
    select_shard,
)
from ..video_writer import write_levels, write_video
from ..wan.diffusers_processor import GgaScope, install_gga
from ..wan.text import make_text_encoder
from ..wan.transformer import base_without_weights, load_base
from ..wan.vae import VaeEncoder
from ..wan.weights import file_metadata, weights_bytes, weights_hash
from .config import ConditioningConfig, SamplesConfig
from .lora import fuse, read_lora
from .samples import CachedSamples, TrainingItem
from .sampling import sample_ego

logger = logging.getLogger(__name__)


@frozen
class _ClipJob:
    cache: Path
    clip: str
    fps: float
    out: Path
    options: GenerateOptions
    key: str  # of cache, weights and options
    wait: bool = False  # for another process that makes this very clip

    @property
    def video(self) -> Path:
        return self.out / f"{self.clip}.mp4"

    @property
    def stereo_video(self) -> Path:
        """Path of the clip's stereo video with both eyes."""
        return self.out / f"{self.clip}_180_LR.mp4"

    @property
    def note(self) -> Path:
        return self.out / f"{self.clip}.json"


def generate(
    cache: Path,
    out: Path,
    options: GenerateOptions,
    run_options: RunOptions = DEFAULT_RUN_OPTIONS,
    *,
    progress: Progress = no_progress,
) -> tuple[int, int] | RunEstimate:
    """Generate an ego video for every clip of a cache's split, and return the number of clips and
    of new ones.

    The files are ``out/<clip>.mp4``, and ``out/<clip>.seen.mkv`` if the cache has the
    classes of ego pixels.

    A clip whose file is from the same cache, weights and options is kept. Several processes may
    work on one folder: none makes a clip that another one makes.

    Raises:
        EgoXInputError: bad base, LoRA or cache; clips that failed are named after all others are
            written.
    """
    cache_reader = CacheReader(cache)
    clips = select_shard(
        sorted(cache_reader.clips(options.split)), run_options.part, run_options.clips
    )
    check_strength(options.strength)
    if options.steps < 1 or not math.isfinite(options.cfg):
        raise EgoXInputError(
            "generate",
            got=f"steps {options.steps}, cfg {options.cfg}",
            expected="at least one step and numbers",
            fix="correct them",
        )
    if not 0 <= options.keep_observed <= 1:
        raise EgoXInputError(
            "keep_observed", got=options.keep_observed, expected="0 to 1", fix="1 keeps all of it"
        )
    if options.straighten != "off" and options.manifest is None:
        raise EgoXInputError(
            "straighten",
            got="no --manifest",
            expected="the manifest that the cache was made from, with the clips' scenes",
            fix="add --manifest, or leave --straighten out",
        )
    check_run_files(options.base, options.lora, options.vae)
    if options.cfg != 1.0:
        _check_encoder(options, cache_reader)
    model_files = (options.base, options.vae, options.lora, options.text_file)
    worker_plan = WorkerPlan.of(run_options, options.device, weights_bytes(*model_files))
    dtype = compute_type(options.dtype, worker_plan.devices[0])
    options = replace(options, dtype=dtype)
    parameter_count = sum(p.numel() for p in base_without_weights(options.base).parameters())
    logger.info(
        "base of %.2g G weights in %s: at most %.1f GB a worker, less where its file is mapped",
        parameter_count / 1e9,
        dtype,
        parameter_count * DTYPES[dtype].itemsize / 1e9,
    )
    # hashed below, or without effect
    path_options = ("base", "vae", "lora", "text", "device", "stereo", "stabilise", "manifest")
    if options.straighten == "off":  # older clips keep their key
        path_options += ("straighten",)
    model_parts = {
        "options": {k: str(v) for k, v in asdict(options).items() if k not in path_options},
        "base": weights_hash(options.base, "base model"),
        "vae": weights_hash(options.vae, "VAE"),
        "lora": weights_hash(options.lora, "LoRA") if options.lora else "",
        "shards": dict(cache_reader.index.shards),
    }
    if options.stereo is not None and options.stabilise != "full":
        model_parts["stabilise"] = options.stabilise
    job_key = fingerprint(model_parts)
    merge_conditioning(
        options, cache_reader
    )  # refuses a LoRA that doesn't fit this cache before anything is loaded
    jobs = [
        _ClipJob(
            cache=cache, clip=c, fps=cache_reader.fps_of(c), out=out, options=options, key=job_key
        )
        for c in clips
    ]
    jobs = [job for job in jobs if not _is_done(job)]
    clip_names = [job.clip for job in jobs]
    if run_options.dry_run:
        return estimate_run(_generate_clip, jobs, "out", worker_plan)
    clear_leftovers(out, names=set(clips))
    failed_clips, results = run_all(
        _generate_clip,
        jobs,
        clip_names,
        worker_plan,
        finished_count=len(clips) - len(clip_names),
        stage="clips generated",
        progress=progress,
    )
    if failed_clips:
        raise EgoXInputError(
            "generate",
            got=(
                f"{len(failed_clips)} clips that failed; first: "
                f"{': '.join([*failed_clips.items()][0])}"
            ),
            expected="all of them",
            fix="see the message; the others are done and will be kept",
        )
    return len(clips), sum(is_new for _, is_new in results)


def merge_conditioning(options: GenerateOptions, reader: CacheReader) -> ConditioningConfig:
    """Combine the conditioning settings of the LoRA, the cache and the command line.

    Raises:
        EgoXInputError: the cache was made with other rays than the LoRA was trained with.
    """
    metadata = {}
    if not options.base.is_dir():
        base_settings = weight_file(options.base, "base model").settings
        metadata |= base_settings if MERGED in base_settings else {}
    if options.lora:
        metadata |= file_metadata(options.lora, "LoRA")
    cache_rays = reader.index.settings.get("rays")
    lora_rays = trained_with(metadata).get("rays") if options.mode is None else None
    if None not in (cache_rays, lora_rays) and cache_rays != lora_rays:
        raise EgoXInputError(
            "cache setting rays",
            got=repr(cache_rays),
            expected=f"{lora_rays!r}, as the LoRA has it",
            fix="make a cache with --rays of the LoRA",
        )
    return ConditioningConfig.from_lora(
        metadata,
        mode=options.mode,
        lambda_g=options.lambda_g,
        rays=cache_rays,
        image_embedding=reader.index.settings.get("image_embedding"),
    )


def _check_encoder(options: GenerateOptions, reader: CacheReader) -> None:
    if options.text is None:
        raise EgoXInputError(
            "generate with cfg",
            got="no text encoder",
            fix="give --text as cache has it, or leave --cfg at 1",
            expected="--text, to encode the negative prompt",
        )
    cached_encoder = reader.index.models.get("text")
    file = options.text_file
    encoder_hash = options.text if file is None else weights_hash(file, "text encoder")
    if cached_encoder is not None and encoder_hash != cached_encoder:
        raise EgoXInputError(
            "text encoder of the negative prompt",
            got=encoder_hash,
            expected=f"that of the cache, {cached_encoder}",
            fix="give the encoder that the cache was made with",
        )


def _is_done(job: _ClipJob) -> bool:
    try:
        return (
            job.video.is_file()
            and (job.options.stereo is None or job.stereo_video.is_file())
            and json.loads(job.note.read_text("utf-8"))["made_from"] == job.key
        )
    except (OSError, ValueError, KeyError):
        return False


_MODELS: dict[str, tuple[torch.nn.Module, GgaScope, VaeEncoder, Tensor | None]] = {}


def _load_models(
    options: GenerateOptions, position_scale: float
) -> tuple[torch.nn.Module, GgaScope, VaeEncoder, Tensor | None]:
    """Load the models that generating needs, once per process."""
    options_key = repr((options, position_scale))
    if options_key not in _MODELS:
        _MODELS.clear()
        base_model = load_base(options.base, DTYPES[options.dtype])
        if options.lora is not None:
            fuse(base_model, read_lora(options.lora)[0], options.strength)
        gga_scope = install_gga(base_model, position_scale)
        negative_embedding = None  # [1, tokens, dim]; its encoder isn't kept
        if options.cfg != 1.0 and options.text is not None:
            text_encoder = make_text_encoder(options.text, options.device, DTYPES[options.dtype])
            negative_embedding = text_encoder.encode(options.negative)[None]
        _MODELS[options_key] = (
            base_model.to(options.device).eval(),
            gga_scope,
            VaeEncoder(options.vae, options.device),
            negative_embedding,
        )
    return _MODELS[options_key]


def _generate_clip(job: _ClipJob, device: str) -> tuple[bool, bool] | str:
    def make() -> bool:
        start_time_s = time.monotonic()
        frames = _sample_clip(job, device)
        view_note, path, filled = {}, None, None
        if job.options.straighten != "off":
            frames, path, filled, view_note = _straighten(job, frames)
        if observed_prior := _read_observed(job, frames):
            prior_frames, pixel_classes = observed_prior
            if filled is not None:
                pixel_classes = pixel_classes.masked_fill(filled, UNOBSERVED)
            keep_mode = job.options.keep_observed
            frames, redrawn_mask, kept_pixels, was_judged = keep_observed(
                frames, prior_frames, pixel_classes, keep_mode
            )
            if not bool(was_judged.all()):
                unjudged_count = int((~was_judged).sum())
                logger.info(
                    "%s: in %d of %d frames nothing is said of what exo saw: the prior doesn't "
                    "match there (its depth is off, or all of it was redrawn)",
                    *(job.clip, unjudged_count, len(was_judged)),
                )
            class_maps = video_classes(pixel_classes, redrawn_mask, kept_pixels)
            write_levels(job.out / f"{job.clip}.{SEEN}", class_maps, job.fps)
        write_video(job.video, frames, job.fps, threads=1)
        if job.options.stereo is not None:
            _write_stereo_video(
                job, frames, job.options.stereo, StereoForm(stabilise=job.options.stabilise), path
            )
        clip_seconds = round(time.monotonic() - start_time_s, 1)
        note = {"clip": job.clip, "made_from": job.key, "seconds": clip_seconds, **view_note}
        write_json(job.note, note)
        return True

    return make_once(job.out / job.clip, lambda: _is_done(job) or None, make, job.wait)


def _files_with_scene(clip: str, manifest: Path, what: str) -> ClipFiles:
    """Look up a clip's files by its manifest.

    Raises:
        EgoXInputError: a clip that isn't in it, or that has no depth or poses.
    """
    records = {record.clip: record for record in read_manifest(manifest, check_files=False)}
    files = clip_files(manifest.parent, records[clip], (), None) if clip in records else None
    if files is None or not files.has_scene:
        raise EgoXInputError(
            f"{what} of {clip}",
            got=f"no scene in {manifest.name}",
            expected="the clip, with depth and poses",
            fix="give the manifest that the cache was made from",
        )
    return files


def _straighten(
    job: _ClipJob, frames: Tensor
) -> tuple[Tensor, CameraTrajectory | None, Tensor | None, dict[str, Any]]:
    """Turn a clip back, or its path, and say what was measured and done.

    The path is None where it is as it was ordered, and so are the filled pixels [H, W] bool.
    """
    assert job.options.manifest is not None  # as generate has seen
    files = _files_with_scene(job.clip, job.options.manifest, "straighten")
    path, (_, views) = clip_views(files)
    turn = views.clip_turn(frames.cpu())
    note: dict[str, Any] = {"view": turn.text()}
    if turn.judged:
        note |= {"view_turn_deg": turn.turn_deg.tolist(), "view_interval_deg": turn.interval_deg}
    if job.options.straighten == "picture":
        lens = path.ego.camera.rescale(frames.shape[2], frames.shape[1])
        frames, note["straightened"], filled = straighten_picture(frames.cpu(), turn, lens)
        return frames, None, filled, note
    if not turn.judged:
        return frames, None, None, note
    path = turn.correct_path(path)
    return frames, path, None, note | {"ego_extrinsics": path.ego.w2c.tolist()}


def _write_stereo_video(
    job: _ClipJob,
    video: Tensor,
    manifest: Path,
    stereo_form: StereoForm,
    shown_path: CameraTrajectory | None,
) -> None:
    """Write a clip as stereo video for VR (VR180)."""
    scene_points, camera_path = clip_scene(_files_with_scene(job.clip, manifest, "second eye"))
    camera_path = shown_path or camera_path
    right_eye_video = second_eye(video, scene_points, camera_path, stereo_form)
    logger.info(
        "%s: %s",
        job.clip,
        "; ".join(
            filter(None, [*map(str, right_eye_video.notes), stereo_form.word(right_eye_video.up)])
        ),
    )
    pictures = stereo_pictures(
        video, right_eye_video.rgb, camera_path, stereo_form, up=right_eye_video.up
    )
    write_video(job.stereo_video, pictures, job.fps, threads=1)
    mark_stereo(job.stereo_video, half_sphere=True)


def _sample_clip(job: _ClipJob, device: str) -> Tensor:  # [T, H, W, 3]
    options = replace(job.options, device=device)
    conditioning_config = merge_conditioning(options, CacheReader(job.cache))
    cached_samples = CachedSamples(
        SamplesConfig(cache=job.cache, conditioning=conditioning_config), options.split
    )
    model, gga_scope, vae, negative_embedding = _load_models(
        options, conditioning_config.position_scale
    )
    clip_sample = cached_samples.load(TrainingItem(clip=job.clip)).to(
        options.device, DTYPES[str(options.dtype)]
    )
    if negative_embedding is not None:
        negative_embedding = negative_embedding.to(clip_sample.text)
    latent = sample_ego(
        model,
        gga_scope,
        clip_sample,
        conditioning_config,
        steps=options.steps,
        shift=options.shift,
        seed=options.seed,
        recompute_exo=options.recompute_exo,
        cfg=options.cfg,
        negative_embedding=negative_embedding,
    )
    return vae.decode(latent[0].cpu())


def _read_observed(
    job: _ClipJob,
    frames: Tensor,  # [T, H, W, 3]
) -> tuple[Tensor, Tensor] | None:  # [T, H, W, 3] 0...1; [T, H, W] uint8
    """Read a clip's prior and the visibility classes of its pixels, or return None for an old
    cache.

    Raises:
        EgoXInputError: such a cache where observed pixels are to be kept.
    """
    files = CacheReader(job.cache).tensors(job.clip, [PRIOR, SEEN])
    if len(files) < 2:
        if job.options.keep_observed:
            raise EgoXInputError(
                "keep_observed",
                got="a cache without priors and the classes of their pixels",
                expected="one of clips that have seen.mkv",
                fix="run prepare and cache again",
            )
        return None
    frame_count, (height, width) = len(frames), frames.shape[1:3]
    prior_bytes, classes_file = (BytesIO(files[name].numpy().tobytes()) for name in (PRIOR, SEEN))
    size = (width, height)
    return read_all(prior_bytes, frame_count, size).float() / 255, read_classes(
        classes_file, frame_count, size
    )
