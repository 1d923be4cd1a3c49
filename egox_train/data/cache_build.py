"""Build the cache of encoded clips, so that training needs no VAE, text encoder or vision
encoder."""

from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import clear_leftovers
from egox_core.wan import has_ftfy

from ..compute_type import compute_type
from ..fingerprint import fingerprint
from ..options import DEFAULT_RUN_OPTIONS, CacheSettings, RunOptions
from ..parallel import WorkerPlan, make_once, run_all, select_shard
from ..wan.weights import weights_bytes, weights_hash
from .cache_store import (
    EMPTY_CAPTION,
    INDEX_FILE,
    CacheEntry,
    CacheIndex,
    parse_index,
    shard_header,
    shard_name,
    to_storage,
    write_index,
    write_shard,
)
from .clip_files import PreparedClip, check_unchanged, file_bytes, read_clip
from .clip_tensors import clip_tensors, encoders
from .manifest import ClipRecord, read_manifest, read_splits

CACHE_VERSION = 2  # raised when the contents of a shard change their meaning


@frozen
class CacheOutcome:
    """Result of building a cache of encoded training clips."""

    clips: int
    new: int  # shards written now
    kept: int  # shards that were there and fit, or that another process made meanwhile
    # shards of other parts that aren't there yet; the cache has no index until they are
    missing: int = 0
    remake_reason: str = ""  # what had changed, "" where nothing
    omitted_clips: tuple[tuple[str, str], ...] = ()  # (clip, why it can't be read)


@frozen
class _Shard:
    """Job for a worker process, which encodes some clips of one take into a file (a shard) of the
    cache."""

    root: Path
    file: Path
    fingerprint: str
    records: tuple[ClipRecord, ...]
    settings: CacheSettings
    wait: bool = False  # for another process that makes this very shard

    def fits(self) -> bool:
        """Check that an existing shard was made from the same clips and settings."""
        actual_fingerprint, omitted_reasons = shard_header(self.file)
        return actual_fingerprint == self.fingerprint and not any(
            _is_readable(self.root, record)
            for record in self.records
            if record.clip in omitted_reasons
        )


def build_cache(
    manifest: Path,
    folder: Path,
    settings: CacheSettings,
    run: RunOptions = DEFAULT_RUN_OPTIONS,
    *,
    progress: Progress = no_progress,
) -> CacheOutcome:
    """Build or complete the cache of a manifest, and keep existing shards that are up to date.

    Several processes, on several machines too, may work on one folder: none makes a shard that
    another one makes.

    Args:
        run: its part (i, n) makes every n-th shard from the i-th on. The part that ends last writes
            the index.

    Raises:
        EgoXInputError: bad manifest or models, a full disk, no clip at all that can be read. Others
            are left out by name.
    """
    records = [r for r in read_manifest(manifest) if r.ground_truth]
    if not records:
        raise EgoXInputError(
            "cache",
            got="no clip with a ground truth",
            expected="at least one",
            fix="training needs the wearer's own video: prepare takes that have one",
        )
    if settings.image_embedding != "none" and settings.clip_vision is None:
        raise EgoXInputError(
            "cache",
            got=f"image embedding {settings.image_embedding} without a CLIP vision model",
            expected="--clip-vision, or --image-embedding none",
            fix="a base without img_emb (Wan 2.2) takes none; Wan 2.1 needs clip_vision_h",
        )
    shard_settings = _content_settings(settings)
    content_settings = shard_settings | _common_hidden_lines(records)
    models = _model_hashes(settings)
    text_encoder_path = None if settings.text.startswith("zeros:") else Path(settings.text)
    vision_model = None if settings.image_embedding == "none" else settings.clip_vision
    worker_plan = WorkerPlan.of(
        run, settings.device, weights_bytes(settings.vae, text_encoder_path, vision_model)
    )
    if text_encoder_path or vision_model:
        encoder_type = compute_type(settings.encoder_dtype, worker_plan.devices[0])
    else:
        encoder_type = "float32"  # of nothing: the VAE computes in it anyway
    shards = _plan_shards(
        records,
        manifest.parent,
        folder,
        replace(settings, encoder_dtype=encoder_type),
        {"version": CACHE_VERSION, "models": models, "settings": shard_settings},
    )
    part_shards = select_shard(shards, run.part)
    shards_to_make = [s for s in part_shards if not s.fits()]
    change_texts = _changed_settings(folder, content_settings | models) or _changed_takes(
        shards_to_make
    )
    folder.mkdir(parents=True, exist_ok=True)
    clear_leftovers(folder, names={s.file.stem for s in part_shards})
    failures, results = run_all(
        _make_shard,
        shards_to_make,
        [shard.file.name for shard in shards_to_make],
        worker_plan,
        finished_count=len(part_shards) - len(shards_to_make),
        stage="cache shards",
        progress=progress,
    )
    if failures:
        raise EgoXInputError(
            "cache",
            got=(
                f"{len(failures)} shards that could not be made; first: "
                f"{': '.join([*failures.items()][0])}"
            ),
            expected="room on the disk, and models that run",
            fix="see the message, then start again: shards that are done are kept",
        )
    new_count = sum(is_new for _, is_new in results)
    shard_headers = [shard_header(s.file) for s in shards]
    omitted_reasons = {
        clip: omission_reason
        for _, omitted_clips in shard_headers
        for clip, omission_reason in omitted_clips.items()
    }
    cache_outcome = CacheOutcome(
        clips=len(records) - len(omitted_reasons),
        new=new_count,
        kept=len(part_shards) - new_count,
        missing=sum(
            actual_fingerprint != s.fingerprint
            for s, (actual_fingerprint, _) in zip(shards, shard_headers, strict=True)
        ),
        remake_reason=change_texts,
        omitted_clips=tuple(sorted(omitted_reasons.items())),
    )
    if cache_outcome.missing:
        return cache_outcome
    if not cache_outcome.clips:
        raise EgoXInputError(
            "cache",
            got=f"no clip that can be read; first {': '.join(cache_outcome.omitted_clips[0])}",
            expected="at least one",
            fix="run prepare again: it remakes damaged files",
        )
    splits = read_splits(manifest)
    write_index(
        folder,
        CacheIndex(
            settings=content_settings,
            models=models,
            shards={s.file.name: s.fingerprint for s in shards},
            entries=tuple(
                CacheEntry(
                    clip=r.clip,
                    take=r.take,
                    split=splits.get(r.clip, "train"),
                    shard=s.file.name,
                    start=r.start,
                    rank=r.rank,
                    fps=r.fps,
                )
                for s in shards
                for r in s.records
                if r.clip not in omitted_reasons
            ),
        ),
    )
    for leftover_file in sorted(folder.glob("shard-*.safetensors")):
        if leftover_file.name not in {s.file.name for s in shards}:
            leftover_file.unlink()
    return cache_outcome


def _plan_shards(
    records: list[ClipRecord],
    root: Path,
    folder: Path,
    settings: CacheSettings,
    cache_content: dict[str, Any],  # that all shards have in common
) -> list[_Shard]:
    """Divide the clips into shards, each with clips of one take only."""
    shards = []
    for take, take_records in groupby(
        sorted(records, key=lambda r: (r.take, r.clip)), key=lambda r: r.take
    ):
        take_records = list(take_records)
        for shard_number, first_index in enumerate(
            range(0, len(take_records), settings.shard_clips)
        ):
            clips = tuple(take_records[first_index : first_index + settings.shard_clips])
            shards.append(
                _Shard(
                    root=root,
                    file=folder / shard_name(take, shard_number),
                    records=clips,
                    settings=settings,
                    fingerprint=fingerprint(
                        {**cache_content, "clips": [[r.clip, r.files] for r in clips]}
                    ),
                )
            )
    return shards


def _changed_takes(shards: list[_Shard]) -> str:
    """Describe the takes whose existing shards were made from other clips or settings."""
    takes = sorted({s.records[0].take for s in shards if s.file.is_file()})
    return f"the clips of {len(takes)} takes, first {takes[0]}" if takes else ""


def _content_settings(settings: CacheSettings) -> dict[str, Any]:
    """List the settings that change a cache's contents, without paths and devices."""
    setting_values = asdict(settings)
    content_names = ("image_embedding", "rays", "views", "dtype", "shard_clips", "text_encoding")
    named_type = (
        {} if settings.encoder_dtype == "auto" else {"encoder_dtype": settings.encoder_dtype}
    )
    return {k: setting_values[k] for k in content_names} | {
        "text_cleaning": "ftfy" if has_ftfy() else "plain",
        **named_type,
    }


def _common_hidden_lines(records: list[ClipRecord]) -> dict[str, Any]:
    """Check that all clips' priors were rendered with the same hidden-lines setting, and return it.

    Raises:
        EgoXInputError: priors of both kinds.
    """
    hidden_line_settings = {record.hidden_lines for record in records}
    if len(hidden_line_settings) > 1:
        raise EgoXInputError(
            "hidden sight lines",
            got="clips whose priors draw them and clips whose priors leave them out",
            expected="one of the two",
            fix="prepare all of them with one --hidden-lines",
        )
    return {} if hidden_line_settings == {"draw"} else {"hidden_lines": hidden_line_settings.pop()}


def _model_hashes(settings: CacheSettings) -> dict[str, str]:
    hashes = {
        "vae": weights_hash(
            settings.vae / "vae" if (settings.vae / "vae").is_dir() else settings.vae, "VAE"
        ),
        "text": settings.text
        if settings.text.startswith("zeros:")
        else weights_hash(Path(settings.text), "text encoder"),
    }
    if settings.clip_vision is not None and settings.image_embedding != "none":
        hashes["clip_vision"] = weights_hash(settings.clip_vision, "CLIP vision")
    return hashes


def _changed_settings(folder: Path, settings_now: dict[str, Any]) -> str:
    """List the models and settings that differ from those of an existing cache."""
    if not (folder / INDEX_FILE).is_file():
        return ""
    try:
        old_index = parse_index(folder)
    except EgoXInputError:
        return f"{INDEX_FILE}, which is damaged"
    old_values = {**old_index.settings, **old_index.models}
    return ", ".join(
        sorted(
            k
            for k in settings_now.keys() | old_values.keys()
            if settings_now.get(k) != old_values.get(k)
        )
    )


def _make_shard(shard: _Shard, device: str) -> tuple[bool, bool] | str:
    """Encode the clips of one cache shard, unless another process does.

    The shard records the clips that can't be read."""
    settings = replace(shard.settings, device=device)
    encoders(settings)  # what is wrong with a model is no clip's fault
    return make_once(
        shard.file.with_suffix(""),
        lambda: shard.fits() or None,
        lambda: _encode_shard(shard, settings),
        shard.wait,
    )


def _encode_shard(shard: _Shard, settings: CacheSettings) -> bool:
    _, text, _ = encoders(settings)
    tensors = {EMPTY_CAPTION: to_storage(text.encode(""), getattr(torch, settings.dtype))}
    omitted_reasons = {}
    for record in shard.records:
        try:
            clip = clip_tensors(_read_unchanged(shard.root, record), settings)
        except EgoXInputError as error:
            omitted_reasons[record.clip] = str(error)
            continue
        clip |= file_bytes(shard.root / record.folder)
        tensors |= {f"{record.clip}/{name}": tensor for name, tensor in clip.items()}
    write_shard(shard.file, tensors, shard.fingerprint, omitted_reasons)
    return True


def _read_unchanged(root: Path, record: ClipRecord) -> PreparedClip:
    """Read a clip whose files are those of the manifest, by which the shard is known.

    They are hashed right before they are decoded, so the disk is read once.

    Raises:
        EgoXInputError: a file changed, missing or corrupt.
    """
    check_unchanged(root / record.folder, record)
    return read_clip(root, record)


def _is_readable(root: Path, record: ClipRecord) -> bool:
    try:
        _read_unchanged(root, record)
    except EgoXInputError:
        return False
    return True
