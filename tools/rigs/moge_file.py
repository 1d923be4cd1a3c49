"""Write a stand-in for the weights of MoGe-2 ViT-S, which can't be downloaded everywhere.

Names and shapes are those of the published file (four bytes for each of 35.1 M numbers, two
projections, of layers 5 and 11), the numbers are random. Only the last stage is set: it draws a
floor that rises to the horizon, 2 to 5 m away, and sees 60 degrees, so that a picture comes out.
"""

from pathlib import Path

import torch
from torch import Tensor

WIDTH, DEPTH, PATCH, PROJECTIONS = 384, 12, 14, 2
LEVELS = (WIDTH, 256, 128, 64, 32)
RANDOM_SCALE = 0.02
PLANE_PER_UV = 0.66
"""Ray per uv of the view plane: 60 degrees at 16:9."""
FLOOR_M, RISE = 3.0, 1.0


def backbone_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + 37 * 37, WIDTH),
        "mask_token": (1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    for number in range(DEPTH):
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            shapes[f"blocks.{number}.{name}"] = (WIDTH,)
        for name in ("ls1.gamma", "ls2.gamma"):
            shapes[f"blocks.{number}.{name}"] = (WIDTH,)
        for name, rows, columns in (
            ("attn.qkv", 3 * WIDTH, WIDTH),
            ("attn.proj", WIDTH, WIDTH),
            ("mlp.fc1", 4 * WIDTH, WIDTH),
            ("mlp.fc2", WIDTH, 4 * WIDTH),
        ):
            shapes[f"blocks.{number}.{name}.weight"] = (rows, columns)
            shapes[f"blocks.{number}.{name}.bias"] = (rows,)
    return {f"encoder.backbone.{name}": shape for name, shape in shapes.items()}


def stack_shapes(name: str, inputs: tuple[int, ...], output: int = 0) -> dict[str, tuple[int, ...]]:
    """List the shapes of a stack of convolutions over five levels, the last of which may end it."""
    kernels: dict[str, tuple[int, ...]] = {}
    for level, (channels, width) in enumerate(zip(inputs, LEVELS, strict=True)):
        kernels[f"input_blocks.{level}"] = (width, channels, 1, 1)
    for level, (width, next_width) in enumerate(zip(LEVELS, LEVELS[1:], strict=False)):
        if level < 3:
            kernels[f"resamplers.{level}.0"] = (width, next_width, 2, 2)  # transposed
        kernels[f"resamplers.{level}.1"] = (next_width, next_width if level < 3 else width, 3, 3)
    for level in (1, 2, 3):
        for layer in (2, 5):
            kernels[f"res_blocks.{level}.0.layers.{layer}"] = (LEVELS[level], LEVELS[level], 3, 3)
    if output:
        kernels["output_blocks.4"] = (output, LEVELS[-1], 1, 1)
    shapes: dict[str, tuple[int, ...]] = {}
    for kernel, shape in kernels.items():
        is_transposed = shape[2] == 2
        shapes[f"{name}.{kernel}.weight"] = shape
        shapes[f"{name}.{kernel}.bias"] = (shape[1] if is_transposed else shape[0],)
    return shapes


def all_shapes() -> dict[str, tuple[int, ...]]:
    shapes = backbone_shapes()
    for number in range(PROJECTIONS):
        shapes[f"encoder.output_projections.{number}.weight"] = (WIDTH, WIDTH, 1, 1)
        shapes[f"encoder.output_projections.{number}.bias"] = (WIDTH,)
    shapes |= stack_shapes("neck", (WIDTH + 2, 2, 2, 2, 2))
    for head, output in (("points", 3), ("mask", 1), ("normal", 3)):
        shapes |= stack_shapes(f"{head}_head", LEVELS, output)
    for number, rows in ((0, WIDTH), (2, WIDTH), (4, 1)):
        shapes[f"scale_head.{number}.weight"] = (rows, WIDTH)
        shapes[f"scale_head.{number}.bias"] = (rows,)
    return shapes


def write_moge_standin(file: Path) -> None:
    """Write random weights whose last stage draws a floor."""
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {
        name: torch.randn(shape, generator=generator) * RANDOM_SCALE
        for name, shape in all_shapes().items()
    }
    for name in weights:
        if name.startswith("encoder.backbone") and "norm" in name and name.endswith("weight"):
            weights[name].fill_(1)
    weights["encoder.image_mean"] = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    weights["encoder.image_std"] = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

    # At the finest level only uv goes on, through the neck and the head of the points.
    for name in (
        "neck.input_blocks.4",
        "neck.resamplers.3.1",
        "points_head.input_blocks.4",
        "points_head.resamplers.3.1",
        "points_head.output_blocks.4",
        "mask_head.output_blocks.4",
        "scale_head.4",
    ):
        weights[f"{name}.weight"].zero_()
        weights[f"{name}.bias"].zero_()
    for axis in (0, 1):
        weights["neck.input_blocks.4.weight"][axis, axis] = 1
        weights["points_head.input_blocks.4.weight"][axis, axis] = 1
        weights["points_head.output_blocks.4.weight"][axis, axis] = PLANE_PER_UV
    weights["points_head.output_blocks.4.weight"][2, 1] = -RISE  # nearer below
    weights["points_head.output_blocks.4.bias"][2] = torch.tensor(FLOOR_M).log()
    weights["mask_head.output_blocks.4.bias"].fill_(4)  # all of it is seen
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": weights, "model_config": {}}, file)
