"""Define the node Save Robot Episode, which appends a run to a LeRobot data set."""

from dataclasses import replace
from pathlib import Path

import folder_paths
from comfy_api.latest import io
from torch import Tensor

from ..egox_core import stages
from ..egox_core.errors import EgoXInputError
from ..egox_core.remarks import Remark
from ..egox_core.robots import (
    SetOptions,
    camera_fit,
    make_episodes,
    open_set,
    require_pyarrow,
)
from ..egox_core.safe_files import require_safe_name, require_writable
from ..egox_core.types import UNOBSERVED, CameraTrajectory, EgoPrior, PointCloud
from .host.memory import drawing_device
from .host.progress import host_progress
from .host.remember import STRAIGHTENED
from .io_types import EgoXDepth, EgoXHands, EgoXScene, EgoXTrajectory
from .path_views import exact_views_of
from .search_words import node_schema
from .show import result_views

SETS = "egox_robots"
"""Subfolder of ComfyUI's output folder that contains the data sets."""


class EgoXSaveRobotEpisode(io.ComfyNode):
    """Append a run to a robot data set."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXSaveRobotEpisode",
            display_name="Save Robot Episode",
            category="EgoX/robots",
            description=(
                "Appends this run to a LeRobot v3 data set in output/egox_robots: both videos, the "
                "hands in the head's frame as state and action, cameras, and how well they fit."
            ),
            inputs=[
                io.Image.Input("exo_images", tooltip="The exo frames, from Load Exo Video."),
                io.Image.Input("ego_images", tooltip="The ego frames, from Decode Ego Half."),
                EgoXTrajectory.Input(
                    "trajectory", tooltip="The ego camera's path, from Ego Pose Input."
                ),
                EgoXDepth.Input(
                    "depth", tooltip="The exo video's depth, from Depth Align: it has the camera."
                ),
                io.String.Input(
                    "dataset",
                    default="my_set",
                    tooltip=(
                        "The name of the data set, a folder in output/egox_robots. A new name "
                        "begins a new set."
                    ),
                ),
                io.String.Input(
                    "task",
                    default="",
                    tooltip="The person's task in a few words, such as: pour water into a cup.",
                ),
                EgoXHands.Input(
                    "hands",
                    optional=True,
                    tooltip=(
                        "Both hands, from Estimate Head Pose or Draw Hands. Without them the set "
                        "has neither state nor action."
                    ),
                ),
                EgoXScene.Input(
                    "scene",
                    optional=True,
                    tooltip=(
                        "The scene from Build Scene. With it the node checks whether the cameras "
                        "fit the pictures."
                    ),
                ),
                EgoXDepth.Input(
                    "ego_depth",
                    optional=True,
                    tooltip=(
                        "The prior's depth, from Render Ego Prior, to be saved as a depth video."
                    ),
                ),
                io.Boolean.Input(
                    "generated",
                    default=True,
                    optional=True,
                    tooltip=(
                        "Whether a model made the ego frames. Turn it off for a true ego video."
                    ),
                ),
                io.Boolean.Input(
                    "resample",
                    default=False,
                    optional=True,
                    tooltip=(
                        "If the clip has a different frame rate from the set's: takes the nearest "
                        "frames. Otherwise the clip is refused."
                    ),
                ),
                io.Boolean.Input(
                    "strict",
                    default=False,
                    optional=True,
                    tooltip="Refuses a run whose cameras do not fit the pictures. Needs scene.",
                ),
                io.String.Input(
                    "made_by",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="The model and weights that made the ego frames, for the data card.",
                ),
                io.Boolean.Input(
                    "ego_seen",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Adds a video of which ego pixels the exo camera observed: now, at another "
                        "time, perhaps, or never. Needs scene."
                    ),
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="folder", tooltip="The data set's folder, for a loader's root."
                )
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, dataset=None, task=None) -> bool | str:
        try:
            # What a wire brings isn't known yet.
            set_name = require_safe_name("x" if dataset is None else dataset, "dataset")
            # Before hours of sampling, not after them.
            require_pyarrow()
            set_folder = Path(folder_paths.get_output_directory(), SETS, set_name)
            require_writable(set_folder, "output folder", repr(set_name))
        except EgoXInputError as error:
            return str(error)
        return True if task is None or task.strip() else "task: say in a few words what is done"

    @classmethod
    def execute(
        cls,
        exo_images,
        ego_images,
        trajectory,
        depth,
        dataset,
        task,
        hands=None,
        scene=None,
        ego_depth=None,
        generated=True,
        resample=False,
        strict=False,
        made_by="",
        ego_seen=False,
    ) -> io.NodeOutput:
        folder = Path(folder_paths.get_output_directory(), SETS) / require_safe_name(
            dataset, "dataset"
        )
        progress = host_progress()
        camera_fit_report = None
        ego_trajectory = trajectory
        exo_path = depth.exo
        if scene is not None:
            ego_trajectory = trajectory.in_world_of(scene.exo)
            if scene.exo.world != exo_path.world:  # of another depth: what was drawn counts
                exo_path = replace(
                    scene.exo, lens=exo_path.lens, lens_guessed=exo_path.lens_guessed
                )
        camera_remarks = dict.fromkeys(
            (*trajectory.other_exo(depth.exo), *ego_trajectory.other_exo(depth.exo))
        )
        ego_trajectory = ego_trajectory.with_depth_camera(exo_path)
        with open_set(folder, SetOptions(made_by=made_by)) as robot_set:
            run_name = f"run_{len(robot_set):06d}"
            fps = robot_set.rate_for(run_name, ego_trajectory.frames.times_s, resample=resample)
            if scene is not None:
                exact = exact_views_of(scene, ego_trajectory, depth, exo_images)
                camera_fit_report = camera_fit(
                    scene,
                    ego_trajectory,
                    ego_images.cpu(),
                    generated,
                    progress,
                    exact_views=exact[0] if exact else None,
                )
            straightened = STRAIGHTENED.get(ego_images, {})
            view_notes = [straightened.get("words")]
            depth_m = None if ego_depth is None else ego_depth.depth_m
            drawn_prior = None
            is_corrected = trajectory.corrected_deg is not None
            if ego_seen or (is_corrected and ego_depth is not None and scene is not None):
                drawn_prior = draw_ego(scene, ego_trajectory, ego_images)
            if is_corrected and ego_depth is not None:
                depth_m = None if drawn_prior is None else drawn_prior.depth_m
                if drawn_prior is None:
                    view_notes.append("ego_depth is left out: it is of the path before")
            seen = drawn_prior.seen if ego_seen and drawn_prior else None
            if seen is not None and straightened:
                seen = seen.masked_fill(straightened["filled"], UNOBSERVED)
            first_number = len(robot_set)
            episodes = make_episodes(
                run_name,
                task,
                exo_images,
                ego_images,
                ego_trajectory,
                hands,
                fps=fps,
                resample=resample,
                generated=generated,
                depth_m=depth_m,
                seen=seen,
                fit=camera_fit_report,
                notes=[Remark(words) for words in view_notes if words],
                strict=strict,
                progress=progress,
            )
            for episode in episodes:
                robot_set.append(episode, progress)
        last_number = first_number + len(episodes) - 1
        episode_text = (
            f"episode {first_number}"
            if last_number == first_number
            else f"episodes {first_number} to {last_number}"
        )
        frame_count = sum(map(len, episodes))
        note_lines = [
            f"{episode_text} of {folder.name}, {frame_count} frames",
            episodes[0].fit.text(),
        ]
        note_lines += map(str, camera_remarks)
        if hands is None:
            note_lines.append("no hands: without state and action")
        else:
            note_lines.append(hands.with_depth_check(depth.depth_m, depth.exo.camera).text())
        return io.NodeOutput(
            str(folder), ui=result_views and result_views.note("\n".join(note_lines))
        )


def draw_ego(
    scene: PointCloud | None, trajectory: CameraTrajectory, ego_images: Tensor
) -> EgoPrior:
    """Draw what the ego frames' pixels show, with their depth and what the exo camera observed.

    Raises:
        EgoXInputError: no scene.
    """
    if scene is None:
        raise EgoXInputError(
            "ego_seen",
            got="no scene",
            expected="the scene, in which the lines of sight are followed",
            fix="connect 'scene' from Build Scene, or turn ego_seen off",
        )
    ego = trajectory.ego.resized(ego_images.shape[2], ego_images.shape[1])
    ego_prior, _ = stages.prior(
        scene,
        replace(trajectory, ego=ego),
        classes=True,
        draw_anyway=True,  # camera_fit tells of a head that can't be there
        device=drawing_device(),
        progress=host_progress(),
    )
    return ego_prior
