"""Resample depth of another size to the video's frames, together with its camera.

1. Depth of the video's height but wider is centre-cropped (the released takes: 796 against 784).
2. Depth of the video's shape (within 0.5 %) covers the whole source picture and takes part in its
   crop or padding.
3. Depth of the shape of the frames handed on (within 0.5 %) covers those.
4. Depth with both sides rounded to multiples of 8 to 64 px, as a network's patches ask for, is
   stretched back onto the nearer of both, up to 3 %; it may be a crop, which a note says.
Anything else is refused.

Depth of a socket (:func:`fit_depth_size`) follows the same rules, and so does a host MASK of one
frame or many (:func:`fit_host_mask`)."""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..arrays import Array, as_floats, as_mask, rectangle
from ..cameras import CameraModel
from ..errors import EgoXInputError
from ..frame_store import FrameStore, store_frames
from ..frames import Frames, Numbering, entries_of, settle_frames
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..remarks import Remark
from ..sizes import centre_crop_left, same_aspect
from ..types import DepthVideo, FrameSelection
from .label_map import check_no_labels
from .valid import check_valid_shares, mark_invalid

SAME_SHAPE = 0.01
"""Difference of width over height up to which frames are resized to the depth's size."""
ROUNDED_ASPECT = 0.03
"""Difference of aspects up to which sides rounded to a network's patches are stretched back."""
SAME_EDGE = 1.05
"""Neighbours whose depths differ by less than this factor are one surface and may be interpolated
between."""


@frozen
class DepthWindow:
    """Rectangle of a depth map that shows a frame, and the size that it is resampled to."""

    left: float
    top: float
    width: float
    height: float
    size: tuple[int, int]  # (width, height) of the result
    # (width, height) of the picture that a map with rounded sides shows, and the other reading
    picture: tuple[int, int] | None = None
    note: str = ""

    def camera(self, camera: CameraModel) -> CameraModel:
        """Compute the camera of the resampled depth map, exact to the half-pixel convention."""
        width, height = self.size
        scale_x, scale_y = width / self.width, height / self.height
        return replace(
            camera,
            width=width,
            height=height,
            fx=camera.fx * scale_x,
            fy=camera.fy * scale_y,
            cx=(camera.cx - self.left + 0.5) * scale_x - 0.5,
            cy=(camera.cy - self.top + 0.5) * scale_y - 0.5,
        )

    def map_camera(
        self,
        camera: CameraModel,
        map_size: tuple[int, int],  # (width, height) px
    ) -> CameraModel:
        """Compute the camera of the whole map from that of the resampled one, as :meth:`camera`."""
        scale_x, scale_y = self.width / self.size[0], self.height / self.size[1]
        return replace(
            camera,
            width=map_size[0],
            height=map_size[1],
            fx=camera.fx * scale_x,
            fy=camera.fy * scale_y,
            cx=(camera.cx + 0.5) * scale_x - 0.5 + self.left,
            cy=(camera.cy + 0.5) * scale_y - 0.5 + self.top,
        )

    def fit_depth(
        self,
        depth: np.ndarray,  # [H, W] float32
    ) -> np.ndarray:  # [h, w] float32, of :attr:`size`
        """Resample the rectangle of a depth map to the window's size, with NaN outside the map.

        Between samples of one surface values are interpolated. Across a depth edge or a gap
        the nearest one is taken, so that no surface appears between two others.
        """
        if self._is_crop:
            return self._crop(depth, np.nan)
        (left_samples, fraction_x), (upper_samples, fraction_y) = self._sample_positions()
        (rows, columns) = depth.shape
        (nearest, inside) = self._nearest_samples(depth)
        corners = np.stack(
            [
                depth[
                    np.clip(upper_samples + row_offset, 0, rows - 1)[:, None],
                    np.clip(left_samples + column_offset, 0, columns - 1),
                ]
                for row_offset in (0, 1)
                for column_offset in (0, 1)
            ]
        )
        weight_y = fraction_y[:, None]
        weight_x = fraction_x[None]
        interpolated = (corners[0] * (1 - weight_x) + corners[1] * weight_x) * (1 - weight_y) + (
            corners[2] * (1 - weight_x) + corners[3] * weight_x
        ) * weight_y
        lowest, highest = corners.min(0), corners.max(0)  # NaN where any corner is
        is_smooth = (lowest > 0) & (highest < SAME_EDGE * lowest)
        resampled = np.where(is_smooth, interpolated, nearest).astype(np.float32)
        return np.where(inside, resampled, np.float32(np.nan))

    def fit_mask(
        self,
        mask: np.ndarray,  # [H, W] bool
    ) -> np.ndarray:  # [h, w] bool, of :attr:`size`
        """Resample the rectangle of a mask to the window's size, with False outside the mask."""
        if self._is_crop:
            return self._crop(mask, False)
        nearest, inside = self._nearest_samples(mask)
        return nearest & inside

    def fit_clip(
        self,
        # Z depth and moving pixels, per frame.
        maps: Iterable[tuple[np.ndarray, np.ndarray | None]],
        # Number of frames.
        count: int,
        # Names the depth in errors.
        name: str,
        progress: Progress = no_progress,
    ) -> tuple[Tensor, Tensor | None, float]:
        """Resample all depth maps of a file [T, h, w], with NaN for invalid pixels.

        Returns:
            The maps, what moves, and the share of pixels that is invalid.

        Raises:
            EgoXInputError: a frame with hardly any valid pixel.
        """
        depth_store = FrameStore(count, self.size[::-1], np.float32)
        moving_store = None
        shares = []
        for number, (depth, dynamic) in enumerate(maps):
            fitted_depth = self.fit_depth(mark_invalid(torch.tensor(depth)).numpy())
            shares.append(float(np.isfinite(fitted_depth).mean()))
            depth_store.append(fitted_depth)
            if dynamic is not None:
                moving_store = moving_store or FrameStore(count, self.size[::-1], np.bool_)
                moving_store.append(self.fit_mask(dynamic))
            progress(number + 1, count, "reading depth")
        invalid_share = check_valid_shares(torch.tensor(shares), name)
        return (
            depth_store.tensor(),
            None if moving_store is None else moving_store.tensor(),
            invalid_share,
        )

    @property
    def _is_crop(self) -> bool:
        return (
            (self.width, self.height) == self.size
            and self.left == int(self.left)
            and self.top == int(self.top)
        )

    def _crop(self, values: np.ndarray, outside: float) -> np.ndarray:
        cropped_map = rectangle(values, int(self.left), int(self.top), *self.size, outside)
        return np.ascontiguousarray(cropped_map)

    def _nearest_samples(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look up the nearest sample for each result pixel, and whether it is inside the map."""
        (left_samples, fraction_x), (upper_samples, fraction_y) = self._sample_positions()
        x, y = left_samples + (fraction_x >= 0.5), upper_samples + (fraction_y >= 0.5)
        rows, columns = values.shape
        inside = ((y >= 0) & (y < rows))[:, None] & ((x >= 0) & (x < columns))[None]
        return values[np.clip(y, 0, rows - 1)[:, None], np.clip(x, 0, columns - 1)], inside

    def _sample_positions(
        self,
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Compute for each result column and row the sample before its centre, and the fraction
        beyond that sample."""

        def along_axis(start: float, length: float, count: int) -> tuple[np.ndarray, np.ndarray]:
            centres = start + (np.arange(count) + 0.5) * (length / count) - 0.5
            samples = np.floor(centres + 1e-9).astype(np.int64)
            return samples, np.clip(centres - samples, 0, 1).astype(np.float32)

        return along_axis(self.left, self.width, self.size[0]), along_axis(
            self.top, self.height, self.size[1]
        )


def depth_window(
    depth_size: tuple[int, int],
    frames: Frames,
    what: str,
    picture_size: tuple[int, int] | None = None,
) -> DepthWindow:
    """Find the rectangle of a depth map that shows the frames in use.

    Sizes are (width, height); ``what`` names the map in errors, ``picture_size`` is the size of
    pictures that frames don't say (default: the map's).

    Raises:
        EgoXInputError: shapes that differ by more than 0.5 % and are not of rules 1 and 4.
    """
    width, height = depth_size
    clip = FrameSelection.of_picture(frames, picture_size or depth_size)
    source, used_size = clip.source_size, clip.size
    if clip.exo_part in ("left", "right") and same_aspect(depth_size, (2 * source[0], source[1])):
        raise EgoXInputError(
            what,
            got=f"{width}x{height} px, both halves of the video's picture",
            expected=f"maps of its {clip.exo_part} half, which exo.part declares",
            fix=f"make them from the {clip.exo_part} half alone",
        )
    source_window, in_use_window = (
        _window_of_picture(depth_size, source),
        _window_of_picture(depth_size, used_size),
    )
    if source_window is None and in_use_window is None:
        rounded_windows = [_rounded_window(depth_size, size) for size in (source, used_size)]
        source_window, in_use_window = (
            rounded_windows if len({source, used_size}) > 1 else (rounded_windows[0], None)
        )
        if source_window and in_use_window:
            aspects = [
                abs(math.log(width * source_height / (height * source_width)))
                for source_width, source_height in (source, used_size)
            ]
            source_window = None if aspects[1] < aspects[0] else source_window
    if source_window is not None:
        return clip.window(source_window)
    if in_use_window is not None:
        return in_use_window
    raise _shape_error(what, depth_size, source)


def _window_of_picture(depth_size: tuple[int, int], size: tuple[int, int]) -> DepthWindow | None:
    """Find the rectangle of a depth map that shows a picture, or return None if their aspect ratios
    differ."""
    left = centre_crop_left(depth_size, size)
    if left is None and not same_aspect(depth_size, size):
        return None
    width, height = depth_size if left is None else size
    return DepthWindow(left=left or 0, top=0, width=width, height=height, size=size)


def _patch_px(depth_size: tuple[int, int], size: tuple[int, int]) -> int:
    """Guess the network patch size in px to which a depth map's sides were rounded, or return 0."""
    width, height = depth_size
    patch_size = max(
        (multiple for multiple in range(8, 65) if not width % multiple and not height % multiple),
        default=0,
    )
    rounding_px = abs(height - width * size[1] / size[0])
    return patch_size if rounding_px < patch_size * (1 + size[1] / size[0]) else 0


def _rounded_window(depth_size: tuple[int, int], size: tuple[int, int]) -> DepthWindow | None:
    """Find the rectangle of a depth map whose sides a network rounded to whole patches, or return
    None.

    None if rounding doesn't explain the size."""
    patch_size = _patch_px(depth_size, size)
    (width, height) = size
    aspect_ratio = depth_size[0] * height / (depth_size[1] * width)
    if not patch_size or abs(aspect_ratio - 1) > ROUNDED_ASPECT:
        return None
    edge, crop_px = (
        ("upper", height * (1 - 1 / aspect_ratio) / 2)
        if aspect_ratio > 1
        else ("left", width * (1 - aspect_ratio) / 2)
    )
    return DepthWindow(
        left=0,
        top=0,
        width=depth_size[0],
        height=depth_size[1],
        size=size,
        picture=size,
        note=(
            f"depth of {depth_size[0]}x{depth_size[1]} px: sides rounded to multiples of "
            f"{patch_size}, stretched back to {width}x{height}; if it is a crop, it is off by "
            f"{crop_px:.1f} px at the {edge} edge"
        ),
    )


def _shape_error(label: str, depth_size: tuple[int, int], size: tuple[int, int]) -> EgoXInputError:
    """Make the error for a depth map whose aspect ratio differs from the video's."""
    width, height = depth_size
    patch_size = _patch_px(depth_size, size)
    guess_text, advice = "", ""
    if patch_size > 0:
        guess_text = f": stretched to multiples of {patch_size} px, or a crop"
        advice = ", and resize it to the video's shape"
    return EgoXInputError(
        label,
        got=f"{width}x{height} px, aspect ratio {width / height:.4f}{guess_text}",
        expected=f"the video's aspect ratio ({size[0] / size[1]:.4f}, within 0.5 %), or its "
        "height and more width",
        fix=f"make it from the video that is loaded{advice}",
    )


def window_of_size(
    depth: DepthVideo,
    size: tuple[int, int],  # (width, height) px of the result
    name: str = "depth",
    # The frames of that size; the maps may belong to their source.
    frames: Frames | None = None,
) -> DepthWindow | None:
    """Find the rectangle of a depth's maps that is resized, or None if they have the size.

    Raises:
        EgoXInputError: another aspect.
    """
    depth_size = depth.exo.camera.stored_size
    if depth_size == size:
        return None
    return _window_of_picture(depth_size, size) or depth_window(
        depth_size, settle_frames(frames, depth.frames), name, size
    )


def fit_depth_size(
    depth: DepthVideo,
    width: int,
    height: int,
    name: str = "depth",
    # The frames of that size; the maps may belong to their source.
    frames: Frames | None = None,
) -> tuple[DepthVideo, str]:
    """Resize depth, masks and camera to ``width`` x ``height``, with a note on rounded sides.

    Same height, but wider: centre-cropped. Same aspect (to 0.5 %): resampled. Between near and
    far the nearest sample is taken, because a mean of them is on neither surface.

    Raises:
        EgoXInputError: another aspect.
    """
    window = window_of_size(depth, (width, height), name, frames)
    if window is None:
        return depth, ""

    def fit_each(values: Tensor | None, fit_map) -> Tensor | None:
        return (
            None
            if values is None
            else store_frames(
                (torch.from_numpy(fit_map(frame.numpy())) for frame in values), len(values)
            )
        )

    fitted_depth = replace(
        depth,
        depth_m=fit_each(depth.depth_m, window.fit_depth),
        exo=replace(depth.exo, lens=window.camera(depth.exo.camera)),
        dynamic=fit_each(depth.dynamic, window.fit_mask),
        sky=fit_each(depth.sky, window.fit_mask),
        trust=fit_each(depth.trust, window.fit_depth),
    )
    return fitted_depth, window.note


def fit_host_mask(
    mask: Array,  # [B, h, w] or [h, w], 0...1
    frames: Frames,
    height: int,
    width: int,
    # Names the mask in messages: "dynamic mask", "sky mask".
    name: str,
) -> tuple[Tensor | None, tuple[Remark, ...]]:  # [T, height, width] bool
    """Fit a ComfyUI mask to a depth's frames and size, and note which frames it was taken for.

    - all zero, whatever its size: no mask (the host's loaders give 64x64 zeros where there is
      none);
    - one frame: it holds for the whole clip;
    - same aspect (to 0.5 %, or sides rounded as depth's): resized, a pixel counts from one half on;
    - same height, but wider: centre-cropped, as depth is.

    Raises:
        EgoXInputError: masks that may be of other frames, another aspect, a mask over everything, a
            map of labels.
    """
    mask = as_mask(mask, name).detach()
    if not any(bool((frame >= 0.5).any()) for frame in mask):
        return None, ()
    count, mask_height, mask_width = mask.shape
    notes: tuple[Remark, ...] = ()
    if count != 1:
        numbering = Numbering(what=name, count=count, in_memory=True)
        entries = entries_of(frames, numbering)
        mask = mask[entries.at]
        notes = (entries.remark,)
    left = centre_crop_left((mask_width, mask_height), (width, height))
    if left is not None:
        mask = mask[:, :, left : left + width]
    elif not same_aspect((mask_width, mask_height), (width, height)) and not _rounded_window(
        (mask_width, mask_height), (width, height)
    ):
        raise EgoXInputError(
            name,
            got=f"{mask_width}x{mask_height}",
            expected=f"the aspect ratio of {width}x{height} (within 0.5 %)",
            fix="make it from the exo video's frames",
        )

    def fit_frame(frame: Tensor) -> Tensor:  # [h, w] -> [height, width] bool
        frame = frame.float().cpu()
        check_no_labels(frame.numpy(), name)
        if frame.shape != (height, width):
            frame = F.interpolate(
                frame[None, None],
                size=(height, width),
                mode="bilinear",
                antialias=True,
            )[0, 0]
        return frame >= 0.5

    fitted_masks = store_frames(map(fit_frame, mask), len(mask))
    if any(bool(frame.all()) for frame in fitted_masks):
        raise EgoXInputError(
            name,
            got="a frame that is masked all over",
            expected="some pixels left",
            fix="invert the mask if it marks the part to keep",
        )
    return fitted_masks if count != 1 else fitted_masks.expand(len(frames), -1, -1), notes


def frames_of_size(
    frames: Tensor,  # [T, h, w, 3] uint8, or float 0...1
    height: int,
    width: int,
) -> Tensor:  # [T, height, width, 3]
    """Resize frames to the depth's size if their aspect ratios agree, or return them unchanged."""
    frame_height, frame_width = frames.shape[1:3]
    if (frame_height, frame_width) == (height, width) or abs(
        frame_width * height / (frame_height * width) - 1
    ) > SAME_SHAPE:
        return frames
    channels_first = as_floats(frames).movedim(-1, 1)
    resized = F.interpolate(channels_first, (height, width), mode="bilinear", antialias=True)
    return resized.movedim(1, -1).clamp(0, 1)


def mask_share(mask: Tensor | None) -> float:  # [T, H, W] bool
    """Compute the share of pixels that are marked, 0...1."""
    return 0.0 if mask is None else float(torch.count_nonzero(mask)) / mask.numel()


def with_host_masks(
    depth: DepthVideo,
    *,
    dynamic: Array | None = None,  # [B, h, w] host MASK
    sky: Array | None = None,  # [B, h, w] host MASK
) -> tuple[DepthVideo, tuple[Remark, ...]]:
    """Replace a depth's masks by ComfyUI masks, with notes on which frames they were taken for.

    An empty or missing one leaves its own.

    Raises:
        EgoXInputError: as :func:`fit_host_mask`.
    """
    notes: list[Remark] = []
    for name, mask in (("dynamic", dynamic), ("sky", sky)):
        if mask is None:
            continue
        size = depth.depth_m.shape[1:]
        fitted_mask, read_notes = fit_host_mask(mask, depth.frames, *size, f"{name} mask")
        notes += read_notes
        if fitted_mask is not None:
            depth = replace(depth, **{name: fitted_mask})
    return depth, tuple(notes)
