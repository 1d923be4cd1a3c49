"""Prepare a small model with one clip's inputs, for tests and benchmarks.

It needs an importable ComfyUI and the pack loaded as a package (the tests' ``pack`` fixture does
both).
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from egox_core.frozen import frozen
from egox_core.sizes import CHANNELS, PIXELS_PER_LATENT, latent_frames
from tools.rigs import standins


@frozen
class RigSize:
    """Store the picture sizes in px and the number of frames (4n+1) of a test clip."""

    frames: int = 9
    exo_width: int = 64
    height: int = 32

    @property
    def ego_width(self) -> int:
        return self.height


def node_defaults(node: Any) -> dict[str, Any]:
    """List the defaults of a node's inputs."""
    inputs = node.GET_SCHEMA().inputs
    return {
        node_input.id: node_input.default
        for node_input in inputs
        if getattr(node_input, "default", None) is not None
    }


@dataclass(slots=True, kw_only=True)
class ModelRig:
    """Hold a small model and all inputs that sampling one clip needs."""

    pack: ModuleType
    size: RigSize
    model: Any
    vae: Any
    positive: list
    negative: list
    latent: dict
    canvas: Any
    depth: Any
    trajectory: Any

    def nodes(self, name: str) -> ModuleType:
        """Import a module of the pack's ``nodes`` package by its name."""
        return importlib.import_module(f"{self.pack.__name__}.nodes.{name}")

    @property
    def gga_defaults(self) -> dict[str, Any]:
        """Return the default values of the geometry inputs that the model patch and the sampler
        node have."""
        return {entry.id: entry.default for entry in self.nodes("gga_inputs").gga_inputs()}

    def patch(self, model: Any = None, **changes: Any) -> Any:
        """Run EgoX Model Patch with its defaults, on the rig's model or another one."""
        inputs = {
            "depth": self.depth,
            "trajectory": self.trajectory,
            **self.gga_defaults,
            **changes,
        }
        return self.nodes("model_patch").EgoXModelPatch.execute(
            self.model if model is None else model, self.canvas, **inputs
        )[0]

    def ksample(
        self,
        model: Any,
        *,
        sampler: str = "euler",
        steps: int = 3,
        cfg: float = 3.0,
        seed: int = 5,
        latent: dict | None = None,
        **inputs: Any,
    ) -> torch.Tensor:
        """Sample a latent [B, 16, t, h, w_ego] with ComfyUI's KSampler."""
        import nodes as host_nodes

        with torch.inference_mode():
            (sampled,) = host_nodes.common_ksampler(
                model,
                seed,
                steps,
                cfg,
                sampler,
                "simple",
                inputs.pop("positive", self.positive),
                inputs.pop("negative", self.negative),
                latent or self.latent,
                **inputs,
            )
        return sampled["samples"]

    def wan_sample(
        self,
        model: Any = None,
        *,
        sampler: str = "released",
        steps: int = 3,
        cfg: float = 3.0,
        seed: int = 5,
        **changes: Any,
    ) -> torch.Tensor:
        """Sample a latent by Wan EgoX Sampler with its defaults."""
        inputs = {
            "positive": self.positive,
            "negative": self.negative,
            "latent": self.latent,
            "canvas": self.canvas,
            "depth": self.depth,
            "trajectory": self.trajectory,
            "scheduler": "simple",
            "shift": 3.0,
            **self.gga_defaults,
            **changes,
        }
        node = self.nodes("sampling").EgoXWanSampler
        with torch.inference_mode():
            sampled = node.execute(
                self.model if model is None else model,
                seed=seed,
                steps=steps,
                cfg=cfg,
                sampler=sampler,
                **inputs,
            )
        return sampled[0]["samples"]


def import_core_module(pack: ModuleType, name: str) -> ModuleType:
    """Import a module of ``egox_core`` as the nodes do, so that types are identical."""
    return importlib.import_module(f"{pack.__name__}.egox_core.{name}")


def load_transformer(path: Path, **model_options: Any) -> Any:
    """Load a transformer by the code of ComfyUI's UNETLoader."""
    import comfy.sd

    return comfy.sd.load_diffusion_model(str(path), model_options=model_options)


def load_vae(path: Path) -> Any:
    """Load a VAE by the code of ComfyUI's VAELoader."""
    import comfy.sd
    import comfy.utils

    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(path)))
    vae.throw_exception_if_invalid()
    return vae


def text_conditioning(width: int, tokens: int, seed: int) -> list:
    """Draw random text features [1, tokens, width] in the form of ComfyUI's CONDITIONING."""
    return [[torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(seed)), {}]]


def clip_pictures(size: RigSize) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw exo frames and an ego prior [T, H, W, 3] of smooth moving colours."""
    generator = torch.Generator().manual_seed(0)

    def draw_picture(width: int) -> torch.Tensor:
        coarse_colours = torch.rand(1, 3, 3, 4, 4, generator=generator)
        smooth_colours = torch.nn.functional.interpolate(
            coarse_colours, (size.frames, size.height, width), mode="trilinear"
        )
        return smooth_colours[0].permute(1, 2, 3, 0).contiguous()

    return draw_picture(size.exo_width), draw_picture(size.ego_width)


def clip_geometry(pack: ModuleType, size: RigSize) -> tuple[Any, Any]:
    """Make the depth of a slanted floor and the path of an ego camera."""
    types_module, cameras_module = (
        import_core_module(pack, "types"),
        import_core_module(pack, "cameras"),
    )
    exo_camera = cameras_module.CameraModel.pinhole(
        size.exo_width, size.height, 0.8 * size.exo_width
    )
    depth_of_row = torch.linspace(4.0, 2.0, size.height)[None, :, None]
    depth_of_column = torch.linspace(-0.5, 0.5, size.exo_width)[None, None, :]
    depth_m = (depth_of_row + depth_of_column).expand(size.frames, -1, -1).clone()
    w2c = torch.eye(3, 4, dtype=torch.float64).repeat(size.frames, 1, 1)
    angle = torch.linspace(0.4, -0.4, size.frames, dtype=torch.float64)
    w2c[:, 0, 0] = w2c[:, 2, 2] = angle.cos()
    w2c[:, 0, 2], w2c[:, 2, 0] = angle.sin(), -angle.sin()
    w2c[:, :, 3] = torch.stack(
        (0.5 * angle, torch.full_like(angle, 0.2), torch.full_like(angle, -0.5)), dim=-1
    )
    frames = import_core_module(pack, "frames").Frames.timed(
        torch.arange(size.frames).double() / 20
    )
    exo = cameras_module.CameraPath.of_exo(exo_camera, frames=frames)
    lens = cameras_module.preset_camera("aria_released", size.height)
    ego = cameras_module.CameraPath(lens=lens, w2c=w2c, frames=frames, world="exo")
    return types_module.DepthVideo(depth_m=depth_m, exo=exo), types_module.CameraTrajectory(
        ego=ego, exo=exo
    )


def make_rig(
    pack: ModuleType,
    # A folder as standins.py writes it.
    models: Path,
    size: RigSize | None = None,
    *,
    # True selects the form of Wan 2.1, with CLIP vision.
    image_embedding: bool = False,
    # Numbers for the positive and the negative prompt.
    prompt_tokens: tuple[int, int] = (6, 6),
    image_embedding_mode: str = "released",
    noise_seed: int = 0,
    # Further arguments of condition_clip.
    **conditioning: Any,
) -> ModelRig:
    """Load the stand-in models, and encode a small clip."""
    size = size or RigSize()
    model_files = standins.TESTS_ONLY if image_embedding else standins.SHIPPED
    model = load_transformer(
        models / model_files["transformer_img_emb" if image_embedding else "transformer"]
    )
    vae = load_vae(models / standins.SHIPPED["vae"])
    text_width = model.get_model_object("diffusion_model").text_dim
    exo_frames, prior_frames = clip_pictures(size)
    clip_vision = (
        load_clip_vision(models / standins.TESTS_ONLY["clip_vision"]) if image_embedding else None
    )
    conditioning_module = importlib.import_module(f"{pack.__name__}.nodes.conditioning")
    positive, negative, latent, canvas, _ = conditioning_module.condition_clip(
        text_conditioning(text_width, prompt_tokens[0], 1),
        text_conditioning(text_width, prompt_tokens[1], 2),
        vae,
        exo_frames,
        prior_frames,
        noise_seed,
        image_embedding_mode,
        clip_vision=clip_vision,
        **conditioning,
    )
    depth, trajectory = clip_geometry(pack, size)
    return ModelRig(
        pack=pack,
        size=size,
        model=model,
        vae=vae,
        positive=positive,
        negative=negative,
        latent=latent,
        canvas=canvas,
        depth=depth,
        trajectory=trajectory,
    )


def random_rig(pack: ModuleType, models: Path, size: RigSize) -> ModelRig:
    """Make a rig with random latents instead of encoded pictures, for measurements.

    The model has the form of Wan 2.2, without an image embedding."""
    types_module = import_core_module(pack, "types")
    model = load_transformer(models / standins.SHIPPED["transformer"])
    generator = torch.Generator().manual_seed(0)
    t = latent_frames(size.frames)
    h = size.height // PIXELS_PER_LATENT
    exo, prior = (
        torch.randn(1, CHANNELS, t, h, picture_width // PIXELS_PER_LATENT, generator=generator)
        for picture_width in (size.exo_width, size.ego_width)
    )
    canvas = types_module.Canvas(
        exo_latent=exo,
        prior_latent=prior,
        frames=size.frames,
        image_embedding="none",
        exo_size=(size.exo_width, size.height),
        ego_size=(size.ego_width, size.height),
    )
    conditioning_values = {
        "concat_latent_image": prior,
        "concat_mask": torch.ones(1, 4, *prior.shape[2:]),
    }
    text_width = model.get_model_object("diffusion_model").text_dim
    positive, negative = (
        [[text_conditioning(text_width, 6, i)[0][0], conditioning_values]] for i in (1, 2)
    )
    depth, trajectory = clip_geometry(pack, size)
    return ModelRig(
        pack=pack,
        size=size,
        model=model,
        vae=None,
        positive=positive,
        negative=negative,
        latent={"samples": torch.zeros_like(prior)},
        canvas=canvas,
        depth=depth,
        trajectory=trajectory,
    )


def load_clip_vision(path: Path) -> Any:
    """Load the stand-in picture encoder, which no loader of ComfyUI reads."""
    import comfy.clip_vision
    import comfy.utils

    vision = comfy.clip_vision.ClipVisionModel(standins.CLIP_VISION_CONFIG)
    vision.load_sd(comfy.utils.load_torch_file(str(path)))
    return vision
