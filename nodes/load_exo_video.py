"""Define the node Load Exo Video, which loads the frames in use and their sound."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import InputImpl, io

from ..egox_core.arrays import as_frames
from ..egox_core.errors import EgoXInputError
from ..egox_core.file_names import VIDEO_SUFFIXES
from ..egox_core.frames import UNTIMED_FPS
from ..egox_core.remarks import Remark
from ..egox_core.sizes import (
    PIXEL_STEP,
    REFERENCE_EXO_SIZE,
    REFERENCE_SIZE,
    latent_frames,
    latent_size,
)
from ..egox_core.stages import Clip, load_clip
from ..egox_core.types import Sound
from ..egox_core.video import VideoSource, frame_rate, made_safe, open_clip, open_video, real_tracks
from .host.graph import Graph, check_or_message, inputs_of, selection_of, this_node
from .host.paths import TAKE_FILES, file_fingerprint, list_files, resolve
from .host.progress import host_progress
from .host.steps import show_on_node
from .host.video import native_video, wrap_audio
from .io_types import EgoXFrames
from .pose_inputs import declared_input
from .search_words import node_schema

FIRST_VIDEO = "sample/synthetic_room/exo.mp4"
"""Sample with as many frames as a new node loads."""
MAX_SIDE = 4096
"""Largest width or height of a frame in pixels."""
MANY_CHANNELS = 8


class EgoXLoadExoVideo(io.ComfyNode):
    """Load the exo frames from a file or ComfyUI's VIDEO, with their indices in the source."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXLoadExoVideo",
            display_name="Load Exo Video",
            category="EgoX/input",
            description=(
                "Loads 4n+1 frames of the third-person video. Connect its output 'frames' to Depth "
                "Align and Ego Pose Input, so that depth and poses are taken for the same frames."
            ),
            inputs=[
                io.Combo.Input(
                    "file",
                    options=list_files(VIDEO_SUFFIXES),
                    default=FIRST_VIDEO,
                    upload=io.UploadType.video,
                    tooltip=(
                        "A video in the input folder, or one of the pack's samples. Ignored if "
                        "'video' or 'images' is connected."
                    ),
                ),
                io.Int.Input(
                    "start_frame",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="First frame of the source video to use. The first frame is number 0.",
                ),
                io.Int.Input(
                    "frame_count",
                    default=49,
                    min=1,
                    max=4801,
                    step=4,
                    tooltip=(
                        "Number of frames to load: 4n+1 (for example 49), because the VAE encodes "
                        "the first frame alone and then four at a time. EgoX was trained on 49."
                    ),
                ),
                io.Float.Input(
                    "target_fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Frames per second to take from the source video. 0 takes every frame.",
                ),
                io.Combo.Input(
                    "resize",
                    options=["crop", "pad"],
                    default="crop",
                    advanced=True,
                    tooltip=(
                        "Fits a source with a different aspect ratio: crop its edges, or add black "
                        "borders."
                    ),
                ),
                io.Int.Input(
                    "width",
                    default=REFERENCE_EXO_SIZE[0],
                    min=PIXEL_STEP,
                    max=MAX_SIDE,
                    step=PIXEL_STEP,
                    tooltip=(
                        "Width of the exo frames in pixels, a multiple of 16. EgoX was trained on "
                        "784."
                    ),
                ),
                io.Int.Input(
                    "height",
                    default=REFERENCE_SIZE,
                    min=PIXEL_STEP,
                    max=MAX_SIDE,
                    step=PIXEL_STEP,
                    tooltip=(
                        "Height of the exo frames in pixels, a multiple of 16. The ego video is "
                        "square and has this height. EgoX was trained on 448."
                    ),
                ),
                io.Video.Input(
                    "video",
                    optional=True,
                    tooltip=(
                        "A video from another node, for example Load Video. Used instead of 'file'."
                    ),
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip=(
                        "The frames of a video from another node. Used instead of 'file' and "
                        "'video'."
                    ),
                ),
                io.Float.Input(
                    "images_fps",
                    default=UNTIMED_FPS,
                    min=0.01,
                    max=1000.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Frames per second of 'images'.",
                ),
                # A socket: saved graphs have the upload button's value where a widget would be
                # next.
                io.Boolean.Input(
                    "one_shot",
                    default=False,
                    optional=True,
                    force_input=True,
                    tooltip=(
                        "The frames are one shot, though they look as if there were a cut: a lamp "
                        "goes off, or a person fills the picture."
                    ),
                ),
                declared_input(
                    "the picture",
                    "exo.part=left of a stereo video, right, or mirrored of a selfie, which "
                    "mirrors depth, masks, K and hands in files as well",
                    # For the same reason.
                    force_input=True,
                ),
            ],
            outputs=[
                io.Image.Output(display_name="exo_images", tooltip="The exo frames."),
                io.Audio.Output(
                    display_name="audio",
                    tooltip="The sound of these frames, if the video has any.",
                ),
                io.Float.Output(display_name="fps", tooltip="Frames per second of the exo frames."),
                EgoXFrames.Output(
                    display_name="frames",
                    tooltip=(
                        "The numbers and times of these frames in the source video, for Depth "
                        "Align and Ego Pose Input."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id],  # for check_or_message
        )

    @classmethod
    def validate_inputs(cls, file=None) -> bool | str:
        # ``file`` is named so that the host takes names that are not in its list (a file uploaded
        # since, a path in a sub-folder). Of an input that is named it checks no bounds: no others.
        return check_or_message(cls, check_video)

    @classmethod
    def fingerprint_inputs(cls, file, **settings) -> str:
        if not isinstance(file, str):
            return ""
        # Depth and poses beside the video are read by later nodes, which can't see its name before
        # they run.
        folder = file.replace("\\", "/").rpartition("/")[0]
        take_files = [f"{folder}/{name}" if folder else name for name in TAKE_FILES]
        return "\n".join(file_fingerprint(name) for name in (file, *take_files))

    @classmethod
    def execute(
        cls,
        file,
        start_frame,
        frame_count,
        target_fps,
        resize,
        width,
        height,
        video=None,
        images=None,
        images_fps=UNTIMED_FPS,
        one_shot=False,
        declared=None,
    ) -> io.NodeOutput:
        if images is not None:
            video = native_video(as_frames(images, "exo video"), images_fps)
        options: dict[str, Any] = {
            "start_frame": start_frame,
            "frame_count": frame_count,
            "target_fps": target_fps,
            "resize": resize,
            "size": (width, height),
            "one_shot": one_shot,
            "declared": declared,
            "progress": host_progress(frame_count),
        }
        check_side(max(width, height))
        clip, notes = _read_clip(file, video, options)
        sound = clip.sound
        notes = (*notes, *(sound.notes if sound else ()))
        if notes:
            show_on_node("; ".join(map(str, notes)), this_node(cls)[1] or None)
        audio = sound and wrap_audio(sound)
        selection = clip.selection
        frames = clip.exo if clip.exo.is_floating_point() else clip.exo.float().div_(255)
        return io.NodeOutput(frames, audio, selection.fps, selection)


def check_side(longest: int) -> None:
    """Refuse a picture width or height from a linked node, which ComfyUI does not check.

    Raises:
        EgoXInputError: too large.
    """
    if longest > MAX_SIDE:
        raise EgoXInputError(
            "video size",
            got=f"{longest} px",
            expected=f"at most {MAX_SIDE} px per side",
            fix="ask for less",
        )


def check_video(graph: Graph, node: str) -> None:
    """Check the video file, frame count and size before a run starts.

    Raises:
        EgoXInputError: no 4n+1 frames, no multiples of 16 px; as :func:`.host.graph.selection_of`.
    """
    count, width, height = (
        inputs_of(graph, node).get(name) for name in ("frame_count", "width", "height")
    )
    if isinstance(count, int):
        latent_frames(count)
    if isinstance(width, int) and isinstance(height, int):
        latent_size(width, height, "video size")
    selection_of(graph, node)


def has_edited_picture(video: InputImpl.VideoFromFile) -> bool:
    """Check whether ComfyUI has cropped or resized a video without changing its file.

    ComfyUI from 0.35 on stores such edits in a VIDEO and applies them when its frames are read.
    """
    has_edits = getattr(video, "has_pending_frame_edits", None)
    if has_edits is not None:
        return has_edits()
    if not hasattr(video, "as_cropped"):
        return False
    return (
        video.get_dimensions()
        != InputImpl.VideoFromFile(video.get_stream_source()).get_dimensions()
    )


def refuse_sound_of_edited(source: VideoSource) -> None:
    """Refuse a video whose sound would crash ComfyUI's reader.

    PyAV ends the process at 8 channels or more, and at channels that the container names.

    Raises:
        EgoXInputError: such sound.
    """
    with open_video(source) as container:
        tracks = [made_safe(track) for track in real_tracks(container.streams.audio)]
    max_channels = max((count for count, _ in tracks), default=0)
    if max_channels >= MANY_CHANNELS or any(has_names for _, has_names in tracks):
        raise EgoXInputError(
            "video that was cropped or resized",
            got=f"sound of {max_channels} channels, on which ComfyUI's own reader ends the process",
            expected="sound of one channel or two",
            fix="connect the video before it is cropped, or give the file stereo sound",
        )


def _source_and_window(video) -> tuple[VideoSource, tuple[float, float]]:
    video_source = video.get_stream_source()
    # Older hosts know no trimming.
    time_window = (
        video.get_active_trim_window() if hasattr(video, "get_active_trim_window") else (0.0, 0.0)
    )
    return Path(video_source) if isinstance(video_source, str) else video_source, time_window


def _read_clip(file: str, video, options: dict) -> tuple[Clip, tuple[Remark, ...]]:
    """Read the clip of a VIDEO socket or of the named file, with remarks on the source."""
    if video is None:
        clip, report = load_clip(resolve(file, "exo video"), **options)
        return clip, report.notes
    if isinstance(video, InputImpl.VideoFromFile):
        video_source, time_window = _source_and_window(video)
        with open_video(video_source):
            pass  # refuses a playlist, which the host's own reader would follow
        if not has_edited_picture(video):
            clip, report = load_clip(video_source, window_s=time_window, **options)
            return clip, report.notes
        return _read_edited_clip(video, options)
    components = video.get_components()
    sound = None
    if components.audio is not None:
        sound = Sound(
            waveform=components.audio["waveform"][0], sample_rate=components.audio["sample_rate"]
        )
    clip, _ = load_clip(components.images, fps=float(components.frame_rate), sound=sound, **options)
    return clip, ()


def _read_edited_clip(
    video: InputImpl.VideoFromFile, options: dict
) -> tuple[Clip, tuple[Remark, ...]]:
    """Read the pictures of a cropped or resized video from ComfyUI, and the times from its file.

    Poses follow the file's own frame indices, before trimming.

    Raises:
        EgoXInputError: sound on which the host's reader ends the process.
    """
    video_source, time_window = _source_and_window(video)
    refuse_sound_of_edited(video_source)
    file_clip = open_clip(video_source, frame_count=1, window_s=time_window)
    clip, _ = load_clip(video.get_components().images, fps=file_clip.info.fps, **options)
    frame_indices = (clip.selection.indices + file_clip.first).clamp(
        max=file_clip.info.frame_count - 1
    )
    times = torch.tensor(file_clip.info.times_s, dtype=torch.float64)[frame_indices]
    selection = replace(
        clip.selection,
        indices=frame_indices,
        times_s=times,
        fps=frame_rate(times.numpy(), clip.selection.fps),
    )
    return replace(
        clip, selection=selection, source=replace(file_clip, selection=selection)
    ), file_clip.notes
