"""Write files to ComfyUI's temp folder, and describe them as its page requests them."""

from pathlib import Path

import folder_paths
from comfy.cli_args import args
from torch import Tensor

from ..host.video import native_video

SUBFOLDER = "egox"


def write_temp_file(name: str, data: bytes) -> dict[str, str]:
    """Write bytes to a file of the given name in ComfyUI's temp folder."""
    folder = Path(folder_paths.get_temp_directory()) / SUBFOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return {"filename": name, "subfolder": SUBFOLDER, "type": "temp"}


def write_temp_video(name: str, frames: Tensor, fps: float, metadata: dict) -> dict[str, str]:
    """Write a video to ComfyUI's temp folder, with ``metadata`` as ComfyUI's own Save nodes write
    it."""
    folder, file, counter, subfolder, _ = folder_paths.get_save_image_path(
        f"{SUBFOLDER}/{name}", folder_paths.get_temp_directory()
    )
    video_path = Path(folder) / f"{file}_{counter:05}_.mp4"
    metadata_saved = None if args.disable_metadata else metadata
    native_video(frames, fps).save_to(str(video_path), metadata=metadata_saved)
    return {"filename": video_path.name, "subfolder": subfolder, "type": "temp"}
