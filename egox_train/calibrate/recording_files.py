"""Find the files of a recording: the head camera's video, the fixed cameras' videos, and the files
beside them."""

from pathlib import Path

from egox_core.errors import EgoXInputError
from egox_core.file_names import VIDEO_SUFFIXES
from egox_core.frozen import frozen
from egox_core.safe_files import require_folder
from egox_core.video import VideoInfo, probe_video

EGO, EXO = "ego", "exo"


@frozen
class ExoFile:
    """Files of one fixed camera."""

    name: str
    video: Path
    info: VideoInfo
    keypoints: Path | None
    depth: Path | None  # metric z depth of its frames


def find_files(folder: Path) -> tuple[Path, tuple[ExoFile, ...]]:
    """Find the videos ``ego`` and ``exo*`` of a recording, and ``<exo>_keypoints`` and
    ``<exo>_depth.npz`` beside them.

    Raises:
        EgoXInputError: no such folder, one of the two is missing, two of one name.
    """
    require_folder(folder, "recording", "a folder with ego.mp4 and exo.mp4")
    videos = sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
    ego_videos = [p for p in videos if p.stem.lower() == EGO]
    exo_videos = [p for p in videos if p.stem.lower().startswith(EXO)]
    if (
        len(ego_videos) != 1
        or not exo_videos
        or len({p.stem.lower() for p in exo_videos}) != len(exo_videos)
    ):
        raise EgoXInputError(
            f"recording {folder}",
            got=", ".join(p.name for p in videos) or "no video",
            expected="ego.mp4 of the head camera, and exo.mp4 (or exo1.mp4, exo2.mp4, ...)",
            fix="rename the videos",
        )
    exo_files = []
    for video in exo_videos:
        keypoint_paths = (folder / f"{video.stem}_keypoints{end}" for end in (".json", ".npz", ""))
        keypoints_path = next((p for p in keypoint_paths if p.exists()), None)
        exo_files.append(
            ExoFile(
                name=video.stem,
                video=video,
                info=probe_video(video),
                keypoints=keypoints_path,
                depth=depth if (depth := folder / f"{video.stem}_depth.npz").is_file() else None,
            )
        )
    return ego_videos[0], tuple(exo_files)
