"""Write depth models with random weights."""

from pathlib import Path

import torch


def write_models(folder: Path) -> tuple[Path, Path]:
    """Write a metric and a relative depth model with random weights."""
    import transformers

    backbone = transformers.Dinov2Config(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2"],
        reshape_hidden_states=False,
    )
    weights = None
    for kind in ("metric", "relative"):
        torch.manual_seed(0)
        model = transformers.DepthAnythingForDepthEstimation(
            transformers.DepthAnythingConfig(
                backbone_config=backbone,
                patch_size=14,
                reassemble_hidden_size=24,
                reassemble_factors=[2, 1],
                neck_hidden_sizes=[8, 8],
                fusion_hidden_size=8,
                head_in_index=-1,
                head_hidden_size=8,
                depth_estimation_type=kind,
                max_depth=20,
            )
        ).eval()
        last_layer = model.head.conv3
        if weights is None:
            _spread(model, last_layer)
        else:
            model.load_state_dict(weights)
            last_layer.weight.data = -last_layer.weight.data
            last_layer.bias.data = 2 - last_layer.bias.data
        weights = model.state_dict()
        model.save_pretrained(folder / kind)
    return folder / "metric", folder / "relative"


@torch.no_grad()
def _spread(model: torch.nn.Module, last: torch.nn.Conv2d) -> None:
    """Scale the last layer of a depth model so that its depth varies visibly."""
    outputs = []
    hook = last.register_forward_hook(lambda module, given, result: outputs.append(result))
    generator = torch.Generator().manual_seed(0)
    coarse_pictures = torch.randn(4, 3, 6, 10, generator=generator)
    model(
        pixel_values=torch.nn.functional.interpolate(
            coarse_pictures, size=(112, 196), mode="bicubic"
        )
    )
    hook.remove()
    scale = 0.3 / float(outputs[0].std())
    last.bias.data = -1.5 + scale * (last.bias.data - float(outputs[0].mean()))
    last.weight.data = last.weight.data * scale
