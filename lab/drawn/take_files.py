"""Write a synthetic take as a take folder (docs/conventions.md)."""

import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from egox_core.file_names import DEPTH, EXO, HANDS, META, TRUTH
from egox_core.hands import write_hands
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import atomic_write, write_json
from egox_train.video_writer import QUALITY, write_video

from .take import SyntheticTake


def write_take(
    take: SyntheticTake,
    folder: Path,
    *,
    quality: int = QUALITY,
    progress: Progress = no_progress,
) -> None:
    """Write the videos, depth, hands and poses of a synthetic take into a folder.

    With several exo cameras each gets such a folder, exo1, exo2, … in ``folder``; all have the one
    truth.

    ``depth.npz`` holds float16 metres and the dynamic mask, packed by LZMA: with a standing camera
    most of a frame repeats the one before, which the zip's usual packing can't see. ``meta.json``
    also carries ``ego_camera`` and ``exo_camera`` (the exact lenses) and ``fps``, which readers of
    the released form skip.

    Args:
        quality: x264 constant rate factor of both videos.
    """
    folder = Path(folder)
    if take.further:
        for view_number, take_view in enumerate(take.views, start=1):
            write_take(
                replace(take_view, further=()),
                folder / f"exo{view_number}",
                quality=quality,
                progress=progress,
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_video(folder / EXO, take.exo_rgb, take.spec.fps, quality=quality, progress=progress)
    write_video(folder / TRUTH, take.ego_rgb, take.spec.fps, quality=quality, progress=progress)
    write_packed(
        folder / DEPTH, depth_m=take.exo_depth_m.half().numpy(), dynamic=take.exo_dynamic.numpy()
    )
    write_hands(take.hands, folder / HANDS)
    write_json(folder / META, take_meta(take))


def take_meta(take: SyntheticTake) -> dict[str, object]:
    """Build the content of a take's meta.json."""
    return {
        "prompt": take.prompt,
        "camera_intrinsics": _rounded(take.exo.camera.intrinsics.tolist()),
        "camera_extrinsics": _rounded(take.exo.rows()),
        "ego_intrinsics": _rounded(take.ego.camera.intrinsics.tolist()),
        "ego_extrinsics": _rounded(take.ego.rows()),
        "exo_camera": asdict(take.exo.camera),
        "ego_camera": asdict(take.ego.camera),
        "fps": take.spec.fps,
        "source": f"EgoX synthetic take: {take.spec.text()}",
    }


def write_packed(path: Path, **arrays: np.ndarray) -> None:
    """Open a compressed .npz file, into which arrays can be written."""
    with (
        atomic_write(path) as temporary_file,
        zipfile.ZipFile(temporary_file, "w", zipfile.ZIP_LZMA) as archive,
    ):
        for name, array in arrays.items():
            zip_member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            zip_member.compress_type = zipfile.ZIP_LZMA
            with archive.open(zip_member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(array, order="C"), allow_pickle=False)


def _rounded(rows: list) -> list:
    return np.round(rows, 7).tolist()
