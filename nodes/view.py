"""Turn a decoded ego video back to its camera path, or the path to the video."""

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..egox_core.cameras import CameraModel
from ..egox_core.depth import frames_of_size
from ..egox_core.errors import EgoXInputError
from ..egox_core.frame_store import store_frames
from ..egox_core.frozen import frozen
from ..egox_core.metrics import ClipTurn, straighten_picture
from ..egox_core.scene import build_scene
from ..egox_core.types import UNOBSERVED, CameraTrajectory, DepthVideo, PointCloud
from ..egox_core.video import RELEASED_TINT, Tint, recolour, reproject
from .host.progress import host_progress
from .host.remember import STRAIGHTENED
from .io_types import EgoXTrajectory
from .path_views import views_of


def straighten_input(advanced: bool = False) -> io.Combo.Input:
    """Build the input that chooses what is turned."""
    return io.Combo.Input(
        "straighten",
        options=["off", "picture", "camera"],
        default="off",
        optional=True,
        advanced=advanced or None,  # ty: ignore[invalid-argument-type]
        tooltip=(
            "The released weights turn a clip's picture by some degrees. picture: turned back to "
            "the camera path if the turn can be measured and is 5 degrees or more; what the lens "
            "didn't see is filled from what is around it. camera: the picture stays, and the "
            "output 'trajectory' is the path that it shows."
        ),
    )


def colour_input(advanced: bool = False) -> io.Combo.Input:
    """Build the input that chooses the video's colours."""
    return io.Combo.Input(
        "colour",
        options=["as drawn", "tint", "as exo"],
        default="as drawn",
        optional=True,
        advanced=advanced or None,  # ty: ignore[invalid-argument-type]
        tooltip=(
            "The released weights draw everything too blue. tint: taken back by the gains that "
            "were measured for the LoRA (the released one at strength 1, or as its file says); "
            "as exo where there are none. as exo: the exo video's white, for clips in the wild."
        ),
    )


def shown_path_output() -> io.Output:
    """Build the output of the camera path that a video shows."""
    return EgoXTrajectory.Output(
        display_name="trajectory",
        tooltip=(
            "The camera path that the video shows: corrected if straighten is 'camera' and the "
            "turn was measured, otherwise the one that was ordered."
        ),
    )


class Colours:
    """Change the colours of pictures as an input chooses, and say how."""

    def __init__(self, colour: str, sources: Mapping[str, Any]) -> None:
        self._colour, self.words = colour, ""
        self._exo_images = sources.get("exo_images")
        self._tint = RELEASED_TINT
        if colour == "tint":
            loras, tint_text = sources.get("loras") or "", sources.get("tint")
            if tint_text:
                self._tint = Tint.of(tint_text)
                self.words = self._tint.words(loras)
            else:
                self._colour = "as drawn" if self._exo_images is None else "as exo"
                self.words = f"Colours {self._colour}: no tint is known of {loras or 'this latent'}"

    def __call__(self, frames: Tensor) -> Tensor:  # [T, H, W, 3]
        exo_images, progress = self._exo_images, host_progress()
        return recolour(frames, self._colour, exo_images, tint=self._tint, progress=progress)


@frozen
class StraightView:
    """Hold a decoded video after it or its path was turned."""

    frames: Tensor  # [T, H, W, 3]
    path: CameraTrajectory | None  # that the frames show
    # by which frames can be turned back to the path
    turn: ClipTurn = field(default_factory=ClipTurn.unmeasured)
    words: str = ""  # what was done
    filled: Tensor | None = None  # [H, W] bool, of the frames if they were turned

    def note_on(self, frames: Tensor) -> None:
        """Keep for later nodes how the final frames were turned back, if they were."""
        if self.filled is not None:
            STRAIGHTENED[frames] = {"words": self.words, "filled": self.filled}

    def mark(self, seen: Tensor | None) -> Tensor | None:  # [T, H, W] uint8 classes
        """Mark what was filled as never seen."""
        if seen is None or self.filled is None:
            return seen
        return store_frames(
            (frame.masked_fill(self.filled, UNOBSERVED) for frame in seen), len(seen)
        )

    def seen_by(
        self,
        target: CameraModel,
        lens: CameraModel,
        decoded: Tensor,  # [T, H, W, 3] before they were turned
        colours: Colours,
        put_back: Tensor | None,  # [T, H, W, 3] what was added to the recoloured frames
    ) -> "StraightView":
        """Draw the view for another lens, its pixels resampled once."""
        progress = host_progress(len(decoded))
        frames, words, filled = straighten_picture(
            decoded.cpu(), self.turn, lens, target=target, progress=progress
        )
        frames = colours(frames)
        if put_back is not None:
            frames = (frames + reproject(put_back, lens, target, progress)).clamp(0, 1)
        return replace(self, frames=frames, words=words, filled=filled)


def measure_turn(
    frames: Tensor,  # [T, H, W, 3] as sampled
    path: CameraTrajectory | None,
    depth: DepthVideo | None,
    exo_images: Tensor | None,  # [T, H', W', 3]
    scene: PointCloud | None = None,  # None: built from exo_images and depth
) -> ClipTurn:
    """Measure how frames are turned against their path, or say why it can't be judged."""
    if path is None:
        return ClipTurn.unjudged("no camera path came with the latent")
    try:  # what doesn't fit here must not cost a sampled video
        if scene is None:
            if depth is None or exo_images is None:
                return ClipTurn.unjudged("no scene came with the latent")
            pictures = frames_of_size(exo_images.cpu(), *depth.depth_m.shape[1:])
            scene = build_scene(pictures, depth, "auto")
        return views_of(scene, path, depth, exo_images)[0].clip_turn(frames.cpu())
    except EgoXInputError as error:
        return ClipTurn.unjudged(str(error))


def measure_chunk(
    turns: list[ClipTurn],
    frames: Tensor,  # [T, H, W, 3] of the chunk, as sampled
    exo_images: Tensor,  # [T, H', W', 3]
    depth: DepthVideo,
    path: CameraTrajectory,
) -> CameraTrajectory:
    """Measure a chunk's turn, append it to ``turns``, and compute the path that it shows."""
    turns.append(measure_turn(frames, path, depth, exo_images))
    return turns[-1].correct_path(path) if turns[-1].judged else path


def apply_turn(
    frames: Tensor, choice: str, lens: CameraModel, path: CameraTrajectory | None, turn: ClipTurn
) -> StraightView:
    """Turn frames back to their path, or the path to the frames."""
    if choice == "picture":
        frames, words, filled = straighten_picture(
            frames.cpu(), turn, lens, progress=host_progress(len(frames))
        )
        return StraightView(frames=frames, path=path, turn=turn, words=words, filled=filled)
    words = f"Camera path not corrected: {turn.reason}"
    if turn.judged and path is not None:
        path = turn.correct_path(path)
        words = f"Camera path corrected by {turn.angle_deg:.0f}° ± {turn.interval_deg:.0f}"
    return StraightView(frames=frames, path=path, words=words)
