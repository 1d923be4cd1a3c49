"""Checks that files belong to the video in use: by their folder, by how many maps or poses they
hold."""

from pathlib import Path

from ..errors import EgoXInputError
from ..file_names import VIDEO_SUFFIXES
from ..sizes import spare_frames
from ..types import FrameSelection
from .meta import meta_beside


def check_same_take(kind: str, path: Path, video: Path | None) -> None:
    """Refuse a file of a take folder whose own video is another one than the video in use.

    Only folders laid out as a take (a meta.json and a video) say whose file they hold; a copy of
    the same video elsewhere counts as the same.

    Args:
        kind: depth or poses, for the message.

    Raises:
        EgoXInputError: another video.
    """
    folder = path.parent
    if video is None or folder.resolve() == video.parent.resolve() or meta_beside(path) is None:
        return
    # The ground truth and the prior are no videos that files are made for, but they are beside the
    # one that is.
    videos = [
        each
        for each in sorted(folder.iterdir())
        if each.suffix.lower() in VIDEO_SUFFIXES and each.is_file()
    ]
    same = (each.samefile(video) or each.stat().st_size == video.stat().st_size for each in videos)
    if videos and not any(same):
        raise EgoXInputError(
            f"{kind} {path.name}",
            got=f"the {kind} of {folder.name}/{videos[0].name}, while the video in use is {video.name}",
            expected=f"{kind} of the video in use",
            fix="choose its own file, or the one next to the video; if it does belong to this video, "
            "put both into one folder, or upload them together",
        )


def check_same_count(
    what: str,
    count: int,
    frames: FrameSelection | None,
    fix: str,
    *,
    # Fewer are right, too: the file was made with this pack, up to the last frame in use.
    fewer: bool = False,
) -> None:
    """Refuse numbered maps or poses that are not one for each frame of the source video.

    Where they are fewer or more (another frame rate, another cut), the i-th would be taken for
    another moment than the i-th frame.

    Raises:
        EgoXInputError: another count.
    """
    whole = None if frames is None else frames.source_frames
    if frames is None or whole is None:
        return
    if abs(count - whole) > spare_frames(whole) and not (fewer and count < whole):
        raise EgoXInputError(
            what,
            got=f"{count} for a video of {whole} frames ({frames.source_fps:g} a second)",
            expected="one for each of its frames",
            fix=fix,
        )
