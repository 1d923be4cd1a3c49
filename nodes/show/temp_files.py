"""Files of the host's temp folder, described as its page asks for them."""

from pathlib import Path

import folder_paths
from comfy.cli_args import args
from torch import Tensor

from ..host.video import native_video

SUBFOLDER = "egox"


def temp_file(name: str, data: bytes) -> dict[str, str]:
    """Write ``data`` to a file of that name."""
    folder = Path(folder_paths.get_temp_directory()) / SUBFOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return {"filename": name, "subfolder": SUBFOLDER, "type": "temp"}


def temp_video(name: str, frames: Tensor, fps: float, metadata: dict) -> dict[str, str]:
    """Write a video, with ``metadata`` as the host's own Save nodes write it."""
    folder, file, counter, subfolder, _ = folder_paths.get_save_image_path(
        f"{SUBFOLDER}/{name}", folder_paths.get_temp_directory()
    )
    place = Path(folder) / f"{file}_{counter:05}_.mp4"
    metadata_saved = None if args.disable_metadata else metadata
    native_video(frames, fps).save_to(str(place), metadata=metadata_saved)
    return {"filename": place.name, "subfolder": subfolder, "type": "temp"}
