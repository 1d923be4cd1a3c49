"""Exo cameras before anything is computed: Undistort Exo straightens a fisheye video, as depth models expect; Rank Exo
Cameras says which of several takes of one event shows most of what the wearer saw.
"""

from __future__ import annotations

import json
from pathlib import Path

from comfy_api.latest import io, ui

from ..egox_core.cameras.model import calibrated_fisheye, camera_to_json
from ..egox_core.errors import EgoXInputError
from ..egox_core.file_names import META
from ..egox_core.prior.rank import ExoCandidate, load_candidate, rank_exo_cameras, rank_text
from ..egox_core.progress import Progress
from ..egox_core.safe_files import require_file
from ..egox_core.takes.exo_camera import ExoLens
from ..egox_core.video.reproject import undistort, undistorted_camera
from .host.paths import resolve
from .host.progress import host_progress
from .search_words import searched


class EgoXUndistortExo(io.ComfyNode):
    """Frames of a fisheye lens in, frames of a pinhole lens and its numbers out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        coefficient = {"default": 0.0, "min": -10.0, "max": 10.0, "step": 0.0001}
        return io.Schema(
            node_id="EgoXUndistortExo",
            display_name="Undistort Exo",
            category="EgoX/input",
            **searched("EgoXUndistortExo"),
            description="Straightens a fisheye exo video (OpenCV's fisheye model, four numbers, as action cameras are "
                        "calibrated) into a pinhole one of the same size.",
            inputs=[
                io.Image.Input("exo_images", tooltip="The fisheye frames."),
                io.Float.Input("focal_x", default=400.0, min=1.0, max=100000.0, step=0.01,
                               tooltip="Calibrated focal length across, px of the calibrated picture."),
                io.Float.Input("focal_y", default=0.0, min=0.0, max=100000.0, step=0.01,
                               tooltip="Calibrated focal length down, px; 0: as across."),
                io.Float.Input("centre_x", default=-1.0, min=-1.0, max=100000.0, step=0.01,
                               tooltip="Column of the principal point, px; -1: the picture's middle."),
                io.Float.Input("centre_y", default=-1.0, min=-1.0, max=100000.0, step=0.01,
                               tooltip="Row of the principal point, px; -1: the picture's middle."),
                io.Int.Input("calibrated_width", default=0, min=0, max=20000, advanced=True,
                             tooltip="Width of the picture that the calibration is of, px; 0: that of the frames. "
                                     "Frames of another size are taken as the whole picture, resized."),
                io.Float.Input("k1", **coefficient, tooltip="First fisheye coefficient (theta^3)."),
                io.Float.Input("k2", **coefficient, tooltip="Second fisheye coefficient (theta^5)."),
                io.Float.Input("k3", **coefficient, tooltip="Third fisheye coefficient (theta^7)."),
                io.Float.Input("k4", **coefficient, tooltip="Fourth fisheye coefficient (theta^9)."),
                io.Combo.Input("keep", options=["inside", "all"], default="inside", advanced=True,
                               tooltip="inside: the widest view without empty corners. all: everything the lens saw, "
                                       "with black corners."),
            ],
            outputs=[
                io.Image.Output(display_name="exo_images", tooltip="The straightened frames."),
                io.Mask.Output(display_name="seen", tooltip="1 where the fisheye saw something."),
                io.String.Output(display_name="camera", tooltip="The pinhole camera as JSON, for meta.json's "
                                                                "exo_camera."),
            ],
        )

    @classmethod
    def execute(cls, exo_images, focal_x, focal_y, centre_x, centre_y, calibrated_width, k1, k2, k3, k4,
                keep) -> io.NodeOutput:
        _, height, width, _ = exo_images.shape
        source = calibrated_fisheye((width, height), (focal_x, focal_y or focal_x), (centre_x, centre_y),
                                    calibrated_width or width, (k1, k2, k3, k4))
        target = undistorted_camera(source, keep)
        frames, seen = undistort(exo_images[..., :3], source, target, host_progress(len(exo_images)))
        mask = seen.float()[None].expand(len(frames), -1, -1)
        return io.NodeOutput(frames, mask, json.dumps(camera_to_json(target)))


class EgoXRankExoCameras(io.ComfyNode):
    """Take folders in, the best one and a table out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXRankExoCameras",
            display_name="Rank Exo Cameras",
            category="EgoX/input",
            **searched("EgoXRankExoCameras"),
            description="Predicts for several exo takes how much of the ego view each would cover, and names the best. "
                        "With depth the renderer is asked at a small size; without it the poses alone are judged.",
            inputs=[
                io.String.Input("takes", default="", multiline=True,
                                tooltip="One take folder a line, in the input folder; each with a meta.json (exo and "
                                        "ego cameras) and, better, a depth file."),
                io.Boolean.Input("use_depth", default=True,
                                 tooltip="Judge by depth where all takes have it; off: by poses alone, faster."),
                io.Int.Input("frames", default=6, min=1, max=49,
                             tooltip="How many frames of each take to look at, spread over the clip."),
                io.Combo.Input("exo_lens", options=["as given", "raw", "raw where known"], default="as given",
                               tooltip="As in Depth Align. as given: the K of meta.json, as a pinhole. raw: the true "
                                       "lens of Ego-Exo4D's GoPro videos. raw where known: raw for takes whose K is "
                                       "Ego-Exo4D's, as given for the others."),
            ],
            outputs=[
                io.String.Output(display_name="best", tooltip="The folder of the best take."),
                io.Float.Output(display_name="coverage", tooltip="Its predicted share of the ego picture, 0 to 1."),
                io.String.Output(display_name="report", tooltip="All takes, best first."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, takes=None) -> bool | str:
        try:
            for folder, line in [] if takes is None else take_folders(takes):
                require_file(folder / META, f"take {line}")
        except EgoXInputError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, takes, use_depth, frames, exo_lens) -> io.NodeOutput:
        progress = host_progress()
        ranks = rank_exo_cameras(exo_candidates(takes, use_depth, exo_lens, progress), frames=frames,
                                 progress=progress)
        text = rank_text(ranks)
        return io.NodeOutput(ranks[0].name, ranks[0].coverage, text, ui=ui.PreviewText(text))


def exo_candidates(takes: str, use_depth: bool, exo_lens: ExoLens, progress: Progress) -> list[ExoCandidate]:
    """One candidate a line of ``takes``: a take folder inside the host's folders or the pack's sample.

    Raises:
        EgoXInputError: no line, a folder outside, a take without camera or ego poses.
    """
    return [load_candidate(folder, line, use_depth=use_depth, exo_lens=exo_lens, progress=progress)
            for folder, line in take_folders(takes)]


def take_folders(takes: str) -> list[tuple[Path, str]]:
    """(folder, its line) of each line.

    Raises:
        EgoXInputError: no line, a folder that is not there or outside the host's folders.
    """
    lines = [line.strip() for line in takes.splitlines() if line.strip()]
    if not lines:
        raise EgoXInputError("takes", got="no folder", expected="one take folder a line", fix="name the folders")
    return [(resolve(line, "take folder", folder_too=True), line) for line in lines]
