"""Check that files beside a video belong to it."""

from pathlib import Path

from ..errors import EgoXInputError
from ..file_names import VIDEO_SUFFIXES
from ..safe_files import visible_files
from .meta import meta_beside


def check_same_take(kind: str, path: Path, video: Path | None) -> None:
    """Refuse a file from a take folder whose video differs from the video in use.

    Only folders laid out as a take (a meta.json and a video) say whose file they hold. A copy
    of the same video elsewhere counts as the same.

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
    videos = [file for file in visible_files(folder) if file.suffix.lower() in VIDEO_SUFFIXES]
    size_matches = (
        file.samefile(video) or file.stat().st_size == video.stat().st_size for file in videos
    )
    if videos and not any(size_matches):
        raise EgoXInputError(
            f"{kind} {path.name}",
            got=(
                f"the {kind} of {folder.name}/{videos[0].name}, while the video in use is "
                f"{video.name}"
            ),
            expected=f"{kind} of the video in use",
            fix=(
                "choose its own file, or the one next to the video; if it does belong to this "
                "video, put both into one folder, or upload them together"
            ),
        )
