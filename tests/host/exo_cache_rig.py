"""Build a model for tests of the exo cache, and compare its cached with full forwards."""

import torch

from tools.rigs import model_rig


def large_rig(pack, repo_root) -> model_rig.ModelRig:
    rig_size = model_rig.RigSize(frames=9, exo_width=128, height=64)
    with torch.inference_mode():
        return model_rig.random_rig(pack, repo_root / "models", rig_size)


def exo_cache_of(model):
    (wrapper,) = model.get_wrappers("diffusion_model", "egox")
    return wrapper.calls.exo_cache


def count_full_and_reused(model) -> tuple[int, int]:
    """Count a model's forwards that computed the exo half, and those that reused the cached one."""
    return exo_cache_of(model).full_count, exo_cache_of(model).reused_count


def sample_twice(rig, model, cfg: float = 3.0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Predict each of two sampling steps twice."""
    import comfy.samplers

    prediction_pairs = []

    def sample_each_step_twice(predict, x, sigmas, extra_args=None, callback=None, disable=None):
        for sigma in sigmas[:2]:
            noise_level = x.new_ones([x.shape[0]]) * sigma
            prediction_pairs.append(
                (predict(x, noise_level, **extra_args), predict(x, noise_level, **extra_args))
            )
        callback(
            {
                "i": 0,
                "denoised": prediction_pairs[0][0],
                "x": x,
                "sigma": sigmas[0],
                "sigma_hat": sigmas[0],
            }
        )
        return prediction_pairs[-1][0]

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(rig.positive, rig.negative)
    guider.set_cfg(cfg)
    noise = torch.randn(rig.latent["samples"].shape, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        guider.sample(
            noise,
            rig.latent["samples"],
            comfy.samplers.KSAMPLER(sample_each_step_twice),
            torch.tensor([0.9, 0.5, 0.0]),
            disable_pbar=True,
            seed=1,
        )
    return prediction_pairs


PACKED_TOLERANCE = 1e-2
"""Largest error of keys and values that are cached in 8 bits, as a share of the largest value."""


def check_reused_equals_full(
    rig, model, tolerance: float = PACKED_TOLERANCE, **options
) -> torch.Tensor:
    """Check that predictions with the exo cache are close to full ones."""
    prediction_pairs = sample_twice(rig, model, **options)
    for full_prediction, reused_prediction in prediction_pairs:
        assert (
            full_prediction - reused_prediction
        ).abs().max() <= tolerance * full_prediction.abs().max()
    return prediction_pairs[0][0]


def leave_little_room(rig, monkeypatch) -> None:
    """Report so little free memory to the exo cache that it stores keys and values in 8 bits."""
    exo_cache_module = rig.nodes("patch.exo_cache")
    kept_size = exo_cache_module.kept_size
    monkeypatch.setattr(
        exo_cache_module,
        "kept_size",
        lambda *sizes: kept_size(*sizes) if sizes[-1] is None else 2**62,
    )


def mark_exo_alone(model):
    """Clone a model, marked as having a LoRA that was trained with exo tokens alone."""
    marked_model = model.clone()
    marked_model.set_attachments("egox_lora_metadata", {"egox.exo": "alone"})
    return marked_model
