"""Write the networks of the video metrics with random weights."""

from pathlib import Path

import torch


def alexnet() -> dict[str, torch.Tensor]:
    """Draw random weights for AlexNet's layers."""
    from torchvision.models import alexnet as network

    torch.manual_seed(1)
    return network(weights=None).features.state_dict(prefix="features.")


def write_clip(folder: Path) -> None:
    """Write a small CLIP vision model with random weights."""
    import transformers

    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        image_size=32,
        num_attention_heads=2,
        patch_size=8,
        projection_dim=16,
    )
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder)


def write_dino(folder: Path, kind: str) -> None:
    """Write a small DINOv2 or DINOv3 model with random weights."""
    import transformers

    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "patch_size": 14,
        "image_size": 224,
    }
    if kind == "dinov2":
        transformers.Dinov2Model(transformers.Dinov2Config(**sizes, mlp_ratio=2)).save_pretrained(
            folder
        )
    else:
        transformers.DINOv3ViTModel(
            transformers.DINOv3ViTConfig(**sizes, intermediate_size=64, num_register_tokens=4)
        ).save_pretrained(folder)


def write_dino_processor(folder: Path) -> None:
    """Write the image processor files of a DINOv3 model folder."""
    import transformers

    processor = getattr(transformers, "DINOv3ViTImageProcessor", None)
    (processor or transformers.DINOv3ViTImageProcessorFast)().save_pretrained(folder)


def write_sam(folder: Path, is_confident: bool = False) -> Path:
    """Write a small SAM 2 video model with random weights."""
    import transformers

    torch.manual_seed(0)
    hiera = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "num_attention_heads": 1,
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [3],
        "image_size": [128, 128],
        "window_positional_embedding_background_size": [4, 4],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": hiera,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "fpn_hidden_size": 128,
    }
    config = transformers.Sam2VideoConfig(
        vision_config=vision,
        image_size=128,
        prompt_encoder_config={"hidden_size": 128, "image_size": 128},
        mask_decoder_config={
            "hidden_size": 128,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=32,
    )
    model = transformers.Sam2VideoModel(config)
    if is_confident:
        decoder = model.mask_decoder
        decoder.iou_prediction_head.proj_out.bias.data += 10
        for network in decoder.output_hypernetworks_mlps:
            network.proj_out.weight.data *= 1000
            network.proj_out.bias.data *= 1000
    model.save_pretrained(folder)
    pictures = (
        getattr(transformers, "Sam2ImageProcessor", None) or transformers.Sam2ImageProcessorFast
    )
    transformers.Sam2VideoProcessor(
        pictures(size={"height": 128, "width": 128}, mask_size={"height": 32, "width": 32}),
        transformers.Sam2VideoVideoProcessor(size={"height": 128, "width": 128}),
        target_size=128,
    ).save_pretrained(folder)
    return folder


def write_raft(file: Path) -> None:
    """Write a file with random weights of torchvision's RAFT network."""
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(0)
    torch.save(raft_large(weights=None).state_dict(), file)


class StandInI3d(torch.nn.Module):
    """Stand in for cd-fvd's I3D network by one layer with its inputs and outputs."""

    def __init__(self, classes: int, in_channels: int) -> None:
        super().__init__()
        self.layer = torch.nn.Conv3d(in_channels, classes, (1, 32, 32), stride=(1, 32, 32))

    def forward(self, video: torch.Tensor) -> torch.Tensor:  # [B, C, T, H, W] -> [B, classes]
        return self.layer(video).mean((2, 3, 4))


def write_i3d(file: Path) -> None:
    """Write a file with random weights of the network that stands in for I3D."""
    torch.manual_seed(0)
    torch.save(StandInI3d(400, in_channels=3).state_dict(), file)
