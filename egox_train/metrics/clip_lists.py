"""List the clips that ``evaluate`` and ``masks`` process, from a manifest or a folder of videos."""

import re
from pathlib import Path

from egox_core.errors import EgoXInputError, check_choice
from egox_core.file_names import TRUTH
from egox_core.safe_files import require_folder

from ..data.manifest import ClipRecord, in_splits, read_manifest
from ..options import ProtocolName
from .table1 import SPLITS


def clips_of(
    source: Path, split: str, protocol: ProtocolName | None
) -> tuple[list[ClipRecord], Path, list[ClipRecord]]:
    """List the clips of a manifest or a folder of videos that belong to the chosen ``split``.

    Args:
        source: a manifest. A protocol that needs nothing else takes a folder, too: of takes (each
            with ego_ground_truth.mp4), or of true videos <clip>.mp4.
        split: as :func:`in_splits`; with a protocol also seen and unseen.

    Raises:
        EgoXInputError: a bad manifest, no such split, a folder without videos.
    """
    if protocol is not None:
        split = SPLITS.get(split, split)
    if protocol is None or source.is_file():
        # Files are checked row by row, so that one missing file doesn't stop the others.
        all_records = read_manifest(source, check_files=False)
        return all_records, source.parent, in_splits(all_records, source, split)
    require_folder(source, "true videos", "a manifest, or a folder of takes or of <clip>.mp4")
    takes = {file.parent.name: file.parent.name for file in source.glob(f"[!.]*/{TRUTH}")}
    files = {file.stem: "." for file in source.glob("[!.]*.mp4")}
    records = [_record(clip, folder) for clip, folder in sorted({**files, **takes}.items())]
    if not records:
        raise EgoXInputError(
            f"true videos {source.name}",
            got="no video",
            expected=f"folders with {TRUTH}, or <clip>.mp4",
            fix="give the folder that holds the takes",
        )
    if split:
        check_choice("split", split, SPLITS.values())
    return records, source, records


def _record(clip: str, folder: str) -> ClipRecord:
    """Build a clip record for a folder that has only videos."""
    return ClipRecord(
        clip=clip,
        take=take_name_of_clip(clip),
        layout="take",
        exo_camera="",
        folder=folder,
        start=0,
        step=1,
        frames=1,
        fps=1,
        exo_size=(1, 1),
        ego_size=(1, 1),
        pictures="as filmed",
        depth="file",
        moving="derived",
        caption="none",
        predicted_coverage=0,
        rank=1,
        coverage=0,
        ground_truth=True,
        files={},
    )


def take_name_of_clip(clip: str) -> str:
    """Derive a take's name from a clip's name."""
    name_match = re.fullmatch(r"(.+)_\d+_\d+", clip)
    return clip if name_match is None else name_match[1]
