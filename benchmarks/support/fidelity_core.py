"""Compare the core's numbers with the released code's, without ComfyUI: rays, bias, packing,
schedules and LoRA weight changes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from egox_core.cameras import CameraModel, CameraPath, preset_camera
from egox_core.gga import BiasRows, GgaOptions, ego_rays, gga_geometry, world_rays
from egox_core.types import CameraTrajectory, DepthVideo, GgaGeometry, of_frames
from egox_core.wan import (
    build_mask,
    convert_lora,
    embedding_picture,
    make_scheduler,
    model_input,
    normalise_latent,
    released_schedule,
    rename_parameter,
)
from tools.rigs.golden_model import load_golden, select_prefix

TAKE_NAMES = ("sfu_covid", "joker")
GUIDANCE_LAMBDAS = (0.5, 1.0, 3.0)
FRAMES, COLUMNS, EXO_COLUMNS, EGO_COLUMNS, TOKENS_A_FRAME = 13, 77, 49, 28, 2156


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one comparison with the released code: its name, the largest difference, and the
    largest allowed one."""

    name: str
    difference: float
    bound: float

    @property
    def passed(self) -> bool:
        """True if the difference is at most the allowed one."""
        return self.difference <= self.bound


def largest_difference(our_values: Tensor, released_values: Tensor) -> float:
    """Compute the largest absolute difference of two tensors, infinite if a value is NaN."""
    return float((our_values - released_values).abs().nan_to_num(nan=math.inf).max())


def golden_take(golden_tensors: dict[str, Tensor]) -> tuple[DepthVideo, CameraTrajectory]:
    """Rebuild the depth and the camera path that the released code used for its stored numbers."""
    height, width = golden_tensors["in_depth_hw"].tolist()
    fx, fy, cx, cy = golden_tensors["mid_exo_fx_fy_cx_cy"].tolist()
    depth_map_m = torch.full((49, height, width), float("nan"))
    frames, rows, columns = (
        golden_tensors[f"in_depth_{axis}"].long() for axis in ("frames", "rows", "cols")
    )
    depth_map_m[frames[:, None, None], rows[:, None], columns] = golden_tensors[
        "in_depth_samples"
    ].float()
    camera = CameraModel(lens="pinhole", width=width, height=height, fx=fx, fy=fy, cx=cx, cy=cy)
    exo_path = CameraPath.of_exo(camera, golden_tensors["in_exo_extrinsics_w2c"])
    lens = preset_camera("aria_released", 448)
    ego_path = CameraPath(lens=lens, w2c=golden_tensors["in_ego_extrinsics_w2c"], world="take")
    return DepthVideo(depth_m=depth_map_m, exo=exo_path), CameraTrajectory(
        ego=ego_path, exo=exo_path
    )


def geometry_checks(folder: Path) -> Iterator[Check]:
    """Compare the attention's ray directions and biases of two takes with the released code's
    stored numbers."""
    bias_golden = load_golden("gga_bias", folder)
    for name in TAKE_NAMES:
        golden_tensors = load_golden(f"gga_geometry_{name}", folder)
        depth, trajectory = golden_take(golden_tensors)
        ego_intrinsics = golden_tensors["in_ego_intrinsics"].double()
        geometry = gga_geometry(depth, trajectory, meta_intrinsics=ego_intrinsics)
        computed_rays = world_rays(
            ego_rays("released", trajectory.ego.camera, 56, 56, ego_intrinsics),
            of_frames(trajectory, slice(None, None, 4)).ego,
        )
        yield Check(
            f"{name}: ego rays",
            largest_difference(computed_rays, golden_tensors["out_cam_rays"]),
            1e-5,
        )
        query_directions = geometry.query_dirs.unflatten(1, (28, EGO_COLUMNS))
        yield Check(
            f"{name}: query directions",
            largest_difference(
                query_directions, golden_tensors["pooled_query_dirs"][:, :, EXO_COLUMNS:]
            ),
            1e-5,
        )
        key_directions = geometry.key_dirs.unflatten(1, (FRAMES, 28, COLUMNS))[
            golden_tensors["pooled_key_query_frames"].long()
        ]
        yield Check(
            f"{name}: key directions",
            largest_difference(
                key_directions[..., :EXO_COLUMNS, :], golden_tensors["pooled_key_dirs_exo"]
            ),
            1e-5,
        )
        for lambda_g in GUIDANCE_LAMBDAS:
            yield from bias_checks(name, geometry, bias_golden, lambda_g)


def bias_checks(
    name: str, geometry: GgaGeometry, golden_tensors: dict[str, Tensor], lambda_g: float
) -> Iterator[Check]:
    """Compare rows of the attention bias with the released code's stored numbers."""
    options = GgaOptions(lambda_g=lambda_g)
    bias_rows = BiasRows(geometry, options, torch.float32, reuse=True)
    exo_mask = torch.arange(geometry.tokens) % COLUMNS < EXO_COLUMNS
    weight_error = bias_error = ego_error = 0.0
    tokens = golden_tensors[
        "ego_query_tokens_64" if lambda_g == 1.0 else "ego_query_tokens_16"
    ].tolist()
    for expected_row, token in zip(
        golden_tensors[f"{name}.lambda_{lambda_g}.bias_exo_keys"], tokens, strict=True
    ):
        frame, row, column = (
            token // TOKENS_A_FRAME,
            token % TOKENS_A_FRAME // COLUMNS,
            token % COLUMNS,
        )
        query_index = row * EGO_COLUMNS + column - EXO_COLUMNS
        query_position = frame * bias_rows.per_frame + query_index
        bias_row = bias_rows(slice(query_position, query_position + 1))[0]
        direction_cosines = geometry.key_dirs[frame] @ geometry.query_dirs[frame, query_index]
        weight_error = max(
            weight_error, largest_difference(bias_row[exo_mask].exp(), expected_row.exp())
        )
        is_well_conditioned = direction_cosines[exo_mask] > -0.99
        bias_error = max(
            bias_error,
            largest_difference(
                bias_row[exo_mask][is_well_conditioned], expected_row[is_well_conditioned]
            ),
        )
        expected_ego_bias = golden_tensors[f"{name}.lambda_{lambda_g}.bias_all_ego_keys_constant"]
        ego_error = max(ego_error, largest_difference(bias_row[~exo_mask], expected_ego_bias))
    yield Check(f"{name}: exp(bias), λ {lambda_g}", weight_error, 1e-5)
    yield Check(f"{name}: bias where cos > -0.99, λ {lambda_g}", bias_error, 2e-4)
    yield Check(f"{name}: bias of ego keys, λ {lambda_g}", ego_error, 1e-9)


def packing_checks() -> Iterator[Check]:
    """Compare the packing of the model's 36 input channels with the released code's stored
    numbers."""
    golden_tensors = load_golden("pack_mask")
    clean_exo_latent, prior_latent = (
        normalise_latent(golden_tensors[f"in.{name}_latent_raw"]) for name in ("exo", "ego_prior")
    )
    t, h, w_exo = clean_exo_latent.shape[2:]
    mask = build_mask("released", t, h, w_exo, prior_latent.shape[-1])
    packed_input = model_input(
        golden_tensors["in.ego_noise"], clean_exo_latent, mask, clean_exo_latent, prior_latent
    )
    yield Check(
        "packing: 36 channels",
        largest_difference(packed_input, golden_tensors["out.model_input_36ch"]),
        1e-6,
    )
    yield Check(
        "packing: mask",
        largest_difference(packed_input[:, 16:20], golden_tensors["out.mask_4ch"]),
        0.0,
    )
    trainer_mask = build_mask("trainer", t, h, w_exo, prior_latent.shape[-1])
    yield Check(
        "packing: the trainer's mask",
        largest_difference(
            trainer_mask, load_golden("train_step")["gc_on_gga.model_input_36ch"][:, 16:20]
        ),
        0.0,
    )
    decoded_videos: list[Tensor] = []

    def decode(latent: Tensor) -> Tensor:
        decoded_videos.append(latent)
        return torch.zeros(1, 8, 8, 3)

    exo_latent, noise = golden_tensors["in.exo_latent_raw"], golden_tensors["in.ego_noise"]
    embedding_picture("released", exo_latent=exo_latent, ego_noise=noise, decode=decode)
    # The released code normalises and denormalises the exo latent on the way, which costs it two
    # roundings.
    yield Check(
        "image embedding: latent to decode",
        largest_difference(decoded_videos[0], golden_tensors["clip.decode_input_latent"][:, :, :1]),
        2e-6,
    )


def schedule_checks() -> Iterator[Check]:
    """Compare the noise schedule of 50 steps with the released code's stored numbers and with
    diffusers."""
    golden_tensors = load_golden("schedule_50")
    for shift in (1.0, 3.0, 5.0):
        sigmas, timesteps = released_schedule(50, shift)
        scheduler = make_scheduler(sigmas)
        yield Check(
            f"schedule, shift {shift}: sigmas",
            largest_difference(scheduler.sigmas, golden_tensors[f"shift_{shift}.sigmas"]),
            1e-6,
        )
        yield Check(
            f"schedule, shift {shift}: timesteps",
            largest_difference(scheduler.timesteps, golden_tensors[f"shift_{shift}.timesteps"]),
            0.0,
        )
    golden_tensors = load_golden("denoise_6step")
    for run_name in ("no_gga", "gga3"):
        scheduler = make_scheduler(released_schedule(6)[0])
        x = golden_tensors["in.initial_latent"]
        error = 0.0
        for i, t in enumerate(scheduler.timesteps):
            x = scheduler.step(
                golden_tensors[f"{run_name}.noise_pred_after_cfg_and_exo_zero.{i}"],
                t,
                x,
                return_dict=False,
            )[0]
            error = max(
                error, largest_difference(x, golden_tensors[f"{run_name}.latents_after_step.{i}"])
            )
        yield Check(f"diffusers' UniPC on the stored predictions, {run_name}", error, 1e-5)


def lora_delta_checks() -> Iterator[Check]:
    """Compare the weight changes B A of the LoRA with those of the released code's fused model."""
    golden_tensors = load_golden("tiny_lora")
    for lora_tag in ("r4a4", "r4a8"):
        lora = convert_lora(select_prefix(golden_tensors, f"{lora_tag}.file."))
        error = 0.0
        for name, weight_change in select_prefix(golden_tensors, f"{lora_tag}.delta_1.0.").items():
            native_name = f"diffusion_model.{rename_parameter(name)}".removesuffix(".weight")
            lora_product = (
                lora.tensors[f"{native_name}.lora_B.weight"]
                @ lora.tensors[f"{native_name}.lora_A.weight"]
            )
            error = max(error, largest_difference(lora_product, weight_change))
        yield Check(f"LoRA {lora_tag}: delta", error, 1e-6)
        yield Check(f"LoRA {lora_tag}: tensors without a place", float(len(lora.unmatched)), 0.0)
