"""Define the node EgoX Sample Long Video, which samples a long video in chunks."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from comfy_api.latest import io
from torch import Tensor

from ..egox_core.errors import EgoXInputError
from ..egox_core.frame_store import FrameStore, store_frames
from ..egox_core.metrics import ClipTurn
from ..egox_core.prior import LookAwayMemory
from ..egox_core.sizes import FRAMES_PER_LATENT
from ..egox_core.types import UNOBSERVED
from ..egox_core.wan import (
    ChunkFiles,
    check_pictures,
    ego_half,
    plan_chunks,
    sample_chunks,
)
from .conditioning import condition_clip, conditioning_inputs, low_memory_input
from .gga_inputs import (
    LAMBDA,
    check_geometry,
    geometry_inputs,
    recompute_exo_input,
    wan_model_input,
)
from .host.graph import (
    Graph,
    check_or_message,
    input_digest,
    inputs_of,
    linked_node_id,
    this_node,
    upstream_files,
)
from .host.memory import drawing_device
from .host.paths import file_fingerprint, persistent_path
from .host.progress import host_progress
from .host.remember import PRIOR_SOURCES
from .host.vae import decode_video, encode_video
from .host.video import clip_fps, native_video
from .io_types import LATENT_SOURCES
from .sampling import model_colours, sample_clip, sampling_inputs
from .search_words import node_schema
from .show import result_views
from .view import (
    Colours,
    StraightView,
    apply_turn,
    colour_input,
    measure_chunk,
    shown_path_output,
    straighten_input,
)

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

CHUNK_DAYS = 3
"""Days after which the chunks of a run that nobody continued are deleted."""
OF_CHUNKS = (
    *("exo_images", "prior", "depth", "trajectory", "audio"),
    *("straighten", "colour"),
)
"""Inputs that a chunk reads only in its own frames, or that change no chunk."""
SEEDS = 2**64
"""Number of seeds that ComfyUI accepts."""


class EgoXSampleLong(io.ComfyNode):
    """Sample the ego frames of a video of any length."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXSampleLong",
            display_name="EgoX Sample Long Video",
            category="EgoX/model",
            description=(
                "Samples a video that is longer than the model's clip length, chunk by chunk. Each "
                "chunk continues from the last ego frames of the previous one. A video of a single "
                "chunk is the same as from EgoX Conditioning, Wan EgoX Sampler and Decode Ego "
                "Half. After Cancel or a crash, run it again: only missing chunks are computed."
            ),
            inputs=[
                wan_model_input(),
                *conditioning_inputs(),
                io.Model.Input(
                    "low_noise_model",
                    optional=True,
                    tooltip=(
                        "The low-noise model of a Wan 2.2 pair, from its own EgoX LoRA. 'model' is "
                        "then the high-noise model."
                    ),
                ),
                *geometry_inputs(),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="The sound of the exo video, for the output 'video'.",
                ),
                io.Int.Input(
                    "length",
                    default=49,
                    min=5,
                    max=4801,
                    step=FRAMES_PER_LATENT,
                    tooltip=(
                        "Number of frames per chunk: 4n+1, the clip length that the model was "
                        "trained on (49 for EgoX). The last chunk is aligned with the end of the "
                        "video."
                    ),
                ),
                io.Int.Input(
                    "continue_motion_max_frames",
                    display_name="continue motion, frames",
                    default=5,
                    min=1,
                    max=4797,
                    step=FRAMES_PER_LATENT,
                    advanced=True,
                    tooltip=(
                        "Number of ego frames that each chunk reuses from the end of the previous "
                        "one: 4n+1, fewer than 'length'. More frames make the transition steadier "
                        "but leave fewer new frames per chunk."
                    ),
                ),
                io.Boolean.Input(
                    "look_away_memory",
                    default=False,
                    tooltip=(
                        "Keeps places consistent when the wearer looks away and back: places that "
                        "exo never saw are stored as they were generated, and drawn into the prior "
                        "from the second next chunk on. Needs depth and trajectory."
                    ),
                ),
                *sampling_inputs(),
                io.Int.Input(
                    "switch_step",
                    default=0,
                    min=0,
                    max=998,
                    advanced=True,
                    tooltip="Step at which low_noise_model takes over. 0: after half of the steps.",
                ),
                recompute_exo_input(advanced=True),
                low_memory_input(advanced=True),
                straighten_input(advanced=True),
                colour_input(advanced=True),
            ],
            outputs=[
                io.Image.Output(display_name="ego", tooltip="The frames of the ego video."),
                io.Video.Output(
                    display_name="video", tooltip="The ego video with sound, for Save Video."
                ),
                shown_path_output(),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],  # for what the chunks are made of
            has_intermediate_output=True,  # a cached run shows its preview again
        )

    @classmethod
    def validate_inputs(cls, lambda_g=None, model=None) -> bool | str:
        return check_or_message(cls, check_long, LAMBDA.check(lambda_g))

    @classmethod
    def execute(
        cls,
        model,
        positive,
        negative,
        vae,
        exo_images,
        prior,
        length,
        continue_motion_max_frames,
        look_away_memory,
        seed,
        steps,
        switch_step,
        low_memory=False,
        clip_vision=None,
        low_noise_model=None,
        depth=None,
        trajectory=None,
        audio=None,
        straighten="off",
        colour="as drawn",
        # The other arguments of sample_clip.
        **sampling,
    ) -> io.NodeOutput:
        seen_classes = PRIOR_SOURCES.get(prior, {}).get("seen")
        frames, prior = check_pictures(exo_images, prior)
        exo_images, prior = exo_images[..., :3], prior[..., :3]
        chunks = plan_chunks(frames, length, continue_motion_max_frames)
        graph, node_id = this_node(cls)
        encoding = {"low_memory": low_memory, "clip_vision": clip_vision, "model": model}
        encode = partial(
            condition_clip, positive, negative, vae, image_embedding="auto", **encoding
        )
        samplers = [
            partial(sample_clip, node_id or None, pass_model, steps=steps, **sampling, **step_range)
            for pass_model, step_range in model_steps(model, low_noise_model, steps, switch_step)
        ]
        notes = []
        sample_chunk = make_chunk_sampler(encode, samplers, vae, seed, len(chunks), notes)
        chunk_files = open_chunk_files(graph, node_id) if node_id in graph else None
        look_away = LookAwayMemory(host_progress(), drawing_device) if look_away_memory else None
        frame_shape = tuple(prior.shape[1:])
        prior_store = (
            FrameStore(frames, frame_shape, np.float32)
            if look_away and bool(result_views)
            else None
        )
        chunk_turns: list[ClipTurn] | None = [] if straighten != "off" else None
        ego = sample_chunks(
            chunks,
            exo_images,
            prior,
            depth,
            trajectory,
            sample_chunk,
            chunk_files,
            look_away,
            prior_store,
            None if chunk_turns is None else partial(measure_chunk, chunk_turns),
        )
        if chunk_files is not None:
            chunk_files.clear()
        if look_away and notes:
            notes[-1] = "; ".join((notes[-1], *map(str, look_away.notes)))
        view = StraightView(frames=ego, path=trajectory)
        if chunk_turns and trajectory is not None:
            lens = trajectory.ego.camera.rescale(ego.shape[2], ego.shape[1])
            turn = ClipTurn.of_chunks(chunk_turns)
            view = apply_turn(ego, straighten, lens, trajectory, turn)
        colours = Colours(colour, {"exo_images": exo_images, **model_colours(model)})
        ego = colours(view.frames)
        view.note_on(ego)
        prior_drawn = prior_store.tensor() if prior_store else prior
        clips = {"exo": exo_images, "prior": prior_drawn, "ego": ego}
        seen_classes = mark_remembered_unobserved(seen_classes, prior, prior_drawn)
        chunk_sizes = len(chunks), chunks[0].count
        ui = result_views and result_views.long_ego(
            *(cls, clips, trajectory, *chunk_sizes, notes, view.mark(seen_classes)),
            view_notes=(view.words, colours.words),
        )
        return io.NodeOutput(ego, native_video(ego, clip_fps(trajectory), audio), view.path, ui=ui)


def mark_remembered_unobserved(
    seen: Tensor | None,  # [T or more, H, W] uint8 classes of the prior's pixels
    prior: Tensor,  # [T, H, W, 3]
    prior_with_memory: Tensor,  # [T, H, W, 3] with what look-away memory added
) -> Tensor | None:  # [T, H, W] uint8
    """Mark pixels as unobserved if they come from earlier generated chunks."""
    if seen is None or prior_with_memory is prior:
        return None if seen is None else seen[: len(prior)]
    frames = zip(seen, prior, prior_with_memory, strict=False)
    marked_frames = (
        frame_classes.masked_fill((frame != frame_with_memory).any(-1), UNOBSERVED)
        for frame_classes, frame, frame_with_memory in frames
    )
    return store_frames(marked_frames, len(prior))


def make_chunk_sampler(
    # A condition_clip of pictures and a seed.
    encode: Callable[..., tuple],
    # A sample_clip for each model.
    sample_passes: Sequence[Callable[..., tuple[dict, str]]],
    vae: VAE,
    seed: int,
    chunk_count: int,
    notes: list[str],
) -> Callable[..., Tensor]:
    """Build the function that samples the ego frames of one chunk."""

    def sample(chunk, exo, prior, depth, trajectory, previous_frames):
        chunk_seed = (seed + chunk.number) % SEEDS
        progress_prefix = "" if chunk_count == 1 else f"chunk {chunk.number + 1}/{chunk_count}, "
        *conditionings, latent, canvas, _ = encode(exo, prior, chunk_seed)
        tile_size = latent[LATENT_SOURCES]["tile_size"]
        known_latents = encode_video(vae, previous_frames, tile_size) if chunk.known else None
        sample_options = {"seed": chunk_seed, "part": progress_prefix, "known": known_latents}
        for sample_pass in sample_passes:
            latent, note = sample_pass(
                *conditionings, latent, canvas, depth, trajectory, **sample_options
            )
        notes.append(note)
        return decode_video(vae, ego_half(latent["samples"]), tile_size)

    return sample


def check_long(graph: Graph, node: str) -> None:
    """Check a long video's lengths, geometry, models, memory and view before a run.

    Raises:
        EgoXInputError: lengths, steps or a geometry that can't be, memory or straighten
            without depth or trajectory.
    """
    input_values = inputs_of(graph, node)
    length, known_frames = (
        input_values.get("length"),
        input_values.get("continue_motion_max_frames"),
    )
    if isinstance(length, int) and isinstance(known_frames, int):
        plan_chunks(1, length, known_frames)  # refuses what can't be
    for name in ("depth", "trajectory"):
        if linked_node_id(graph, node, name) is not None:
            continue
        if input_values.get("look_away_memory") is True:
            raise EgoXInputError(
                "look-away memory",
                got=f"no {name}",
                expected="depth and trajectory",
                fix=f"connect '{name}', or switch look_away_memory off",
            )
        if input_values.get("straighten", "off") != "off":
            raise EgoXInputError(
                "straighten",
                got=f"no {name}",
                expected="depth and trajectory, by which the turn is measured",
                fix=f"connect '{name}', or set straighten to off",
            )
    steps = input_values.get("steps")
    switch = input_values.get("switch_step", 0)
    if isinstance(steps, int) and isinstance(switch, int):
        if linked_node_id(graph, node, "low_noise_model") is not None:
            choose_switch_step(steps, switch)
    check_geometry(graph, node)


def model_steps(
    model: ModelPatcher, low_noise_model: ModelPatcher | None, steps: int, switch_step: int
) -> tuple[tuple[ModelPatcher, dict[str, Any]], ...]:
    """List the models that sample a chunk, each with its steps.

    Raises:
        EgoXInputError: no step left for the second model.
    """
    if low_noise_model is None:
        return ((model, {}),)
    switch = choose_switch_step(steps, switch_step)
    return (
        (model, {"end_step": switch, "leftover_noise": True}),
        (low_noise_model, {"start_step": switch, "add_noise": False}),
    )


def choose_switch_step(steps: int, switch_step: int) -> int:
    """Choose the step at which the second model of a pair takes over.

    Raises:
        EgoXInputError: no step left for the second model.
    """
    switch = switch_step or max(1, steps // 2)
    if switch >= steps:
        raise EgoXInputError(
            "switch_step",
            got=switch,
            expected=f"less than the {steps} steps",
            fix="0 uses half of the steps; a pair of models needs at least 2",
        )
    return switch


def open_chunk_files(graph: Graph, node: str) -> ChunkFiles:
    """Open the stored chunks of a node, from which an interrupted run continues."""
    chunk_folder = persistent_path("chunks")
    oldest_time = time.time() - CHUNK_DAYS * 24 * 3600
    for chunk_file in chunk_folder.glob("*.npy") if chunk_folder.is_dir() else ():
        if chunk_file.stat().st_mtime < oldest_time:
            chunk_file.unlink(missing_ok=True)
    return ChunkFiles(chunk_folder, chunk_digest(graph, node))


def chunk_digest(graph: Mapping[str, Any], node: str) -> str:
    """Compute a digest of all settings and files that a chunk is made with."""
    input_names = [name for name in inputs_of(graph, node) if name not in OF_CHUNKS]
    file_fingerprints = sorted(
        file_fingerprint(name) for name in upstream_files(graph, node, input_names)
    )
    return hashlib.sha256(
        "\n".join([input_digest(graph, node, input_names), *file_fingerprints]).encode()
    ).hexdigest()
