"""Checks that files belong to the video in use: by their folder, by how many maps or poses they
hold."""

from pathlib import Path

from ..errors import EgoXInputError
from ..file_names import VIDEO_SUFFIXES
from ..sizes import spare_frames
from ..types import FrameSelection
from .meta import meta_beside


def other_takes_video(path: Path, video_path: Path | None) -> str | None:
    """``folder/video`` of the take whose file this is, where that is another video than the one in
    use; else None.

    Only folders laid out as a take (a meta.json and a video) say whose file they hold; a copy of
    the same video elsewhere counts as the same."""
    folder = path.parent
    if (
        video_path is None
        or folder.resolve() == video_path.parent.resolve()
        or meta_beside(path) is None
    ):
        return None
    # The ground truth and the prior are no videos that files are made for, but they are beside the
    # one that is.
    videos = [
        each
        for each in sorted(folder.iterdir())
        if each.suffix.lower() in VIDEO_SUFFIXES and each.is_file()
    ]
    if not videos or any(
        each.samefile(video_path) or each.stat().st_size == video_path.stat().st_size
        for each in videos
    ):
        return None
    return f"{folder.name}/{videos[0].name}"


def check_poses_of(path: Path, video: Path | None) -> None:
    """Refuse the poses of a take folder whose own video is another one than the video in use.

    Raises:
        EgoXInputError: another video.
    """
    other = other_takes_video(path, video)
    if other is not None and video is not None:
        raise EgoXInputError(
            f"poses {path.name}",
            got=f"the poses of {other}, while the video in use is {video.name}",
            expected="poses of the video in use",
            fix="choose its own file, or the one beside the video; if these do belong to this video, "
            "upload both together with 'Upload own files'",
        )


def check_same_count(what: str, count: int, frames: FrameSelection | None, fix: str) -> None:
    """Refuse numbered maps or poses that are not one for each frame of the source video.

    Where they are fewer or more (another frame rate, another cut), the i-th would be taken for
    another moment than the i-th frame.

    Raises:
        EgoXInputError: another count.
    """
    whole = None if frames is None else frames.source_frames
    if frames is not None and whole is not None and abs(count - whole) > spare_frames(whole):
        raise EgoXInputError(
            what,
            got=f"{count} for a video of {whole} frames ({frames.source_fps:g} a second)",
            expected="one for each of its frames",
            fix=fix,
        )
