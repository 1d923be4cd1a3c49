"""Build manifest records of clips for tests."""

from typing import Any

from egox_train.data.manifest import ClipRecord


def clip_record(clip: str, **more: Any) -> ClipRecord:
    """Build the manifest record of a clip of five frames."""
    record_fields = dict(
        clip=clip,
        take="t",
        layout="take",
        exo_camera="cam",
        folder=f"clips/{clip}",
        start=0,
        step=1,
        frames=5,
        fps=20.0,
        exo_size=(64, 32),
        ego_size=(32, 32),
        depth="file",
        caption="none",
        pictures="as filmed",
        moving="derived",
        predicted_coverage=0.5,
        rank=1,
        coverage=0.4,
        ground_truth=True,
        files={"exo.mp4": "0" * 64},
    )
    return ClipRecord(**{**record_fields, **more})
