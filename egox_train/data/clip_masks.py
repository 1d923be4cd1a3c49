"""Get masks of a clip's moving pixels from a mask file, a segmentation model or the depth file."""

from dataclasses import replace

from torch import Tensor

from egox_core.remarks import Remark
from egox_core.safe_files import require_folder

from ..parallel import on_device
from ..takes.mask_files import MaskFrameReader, check_mask_file, find_mask, read_mask
from .clip_files import FIRST_FRAME_WINDOW, ClipWindow
from .exo_pictures import ExoPictures, exo_pictures
from .manifest import MaskSource
from .prepare_options import PrepareOptions
from .raw_take import RawTake, RawView


def check_mask_source(options: PrepareOptions) -> None:
    """Check that the requested mask folder or segmentation model exists.

    Raises:
        EgoXInputError: no such folder of masks; see :func:`.mask_model.load_mask_model`.
    """
    require_folder(options.mask_root, "mask root", "the folder of <take>__<camera> masks")
    if options.mask_model is not None:
        from .mask_model import load_mask_model

        load_mask_model(options, options.local_device)


def add_mask_file(
    view: RawView, take: RawTake, options: PrepareOptions
) -> tuple[RawView, tuple[Remark, ...]]:
    """Find the mask file of an exo camera's video, and store its path in ``view``.

    Raises:
        EgoXInputError: none for this view, or one of another length or shape than its video.
    """
    if options.mask_root is None:
        return view, ()
    mask = find_mask(options.mask_root, f"{take.name}__{view.name}", options.file_frames)
    pictures = exo_pictures(view, take.layout, options)
    remark = check_mask_file(
        mask,
        pictures.select_map_frames(FIRST_FRAME_WINDOW),
        redrawn=pictures.undistortion is not None,
    )
    return replace(view, mask=mask), (remark,)


def moving_in_clip(
    pictures: ExoPictures,
    window: ClipWindow,
    options: PrepareOptions,
    frames: Tensor,  # [T, H, W, 3] uint8, the clip's pictures
    opened: MaskFrameReader | None = None,  # of the view's mask file
) -> tuple[Tensor | None, MaskSource]:  # [T, H, W] bool
    """Read or compute the masks of a clip's moving pixels, and name their source.

    Raises:
        EgoXInputError: as :func:`..takes.mask_files.read_mask` and
            :func:`.mask_model.moving_masks`.
    """
    if pictures.view.mask is not None:
        return read_mask(
            pictures.view.mask, pictures.select_map_frames(window), opened=opened
        ), "mask file"
    if options.mask_model is not None:
        from .mask_model import moving_masks

        return on_device(
            options.device, moving_masks, replace(options, device=None), frames
        ), "mask model"
    return None, "derived"
