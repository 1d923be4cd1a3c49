"""Share the drawn clips, which are slow to write."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from egox_core import stages
from egox_train.video_writer import write_video

from .drawn_clip import CLIP_FRAMES, FPS, FRAME_INDICES, PICTURES, Clip, drawn_take


@pytest.fixture(scope="session")
def load_drawn_clip(tmp_path_factory) -> Callable[[str, str, bool], Clip]:
    pytest.importorskip("av", reason="decodes video")

    @cache
    def write_exo_video(source: tuple[int, int], exo_moves: bool) -> Path:
        path, take = tmp_path_factory.mktemp("routes"), drawn_take(source, exo_moves)
        write_video(path / "exo.mp4", take.exo_rgb, FPS, quality=1)
        return path

    @cache
    def clip(picture_name: str, frames_name: str, exo_moves: bool) -> Clip:
        picture_spec, indices = PICTURES[picture_name], FRAME_INDICES[frames_name]
        video_folder = write_exo_video(picture_spec.source, exo_moves)
        loaded_clip, _ = stages.load_clip(
            video_folder / "exo.mp4",
            start_frame=indices[0],
            frame_count=CLIP_FRAMES,
            target_fps=FPS / 2 if frames_name == "every second" else 0.0,
            size=picture_spec.size,
        )
        assert loaded_clip.selection.indices.tolist() == indices
        return Clip(
            drawn_take(picture_spec.source, exo_moves),
            video_folder,
            picture_spec,
            indices,
            loaded_clip.exo,
            loaded_clip.selection,
            exo_moves,
        )

    return clip
