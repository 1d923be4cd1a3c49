"""Write segmentation models with random weights."""

from pathlib import Path

import torch

LABELS = {0: "wall", 1: "person, individual, someone", 2: "floor"}


def write_semantic(folder: Path) -> Path:
    """Write a SegFormer model with random weights."""
    import transformers

    torch.manual_seed(0)
    segformer_config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[3, 3],
        strides=[2, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        **_labels(),
    )
    transformers.SegformerForSemanticSegmentation(segformer_config).save_pretrained(folder)
    transformers.SegformerImageProcessor(size={"height": 32, "width": 64}).save_pretrained(folder)
    return folder


def write_universal(folder: Path) -> Path:
    """Write a Mask2Former model that labels everything as person."""
    import transformers

    torch.manual_seed(0)
    backbone = transformers.SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1] * 4,
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    model = transformers.Mask2FormerForUniversalSegmentation(
        transformers.Mask2FormerConfig(
            backbone_config=backbone,
            feature_size=32,
            mask_feature_size=32,
            hidden_dim=32,
            encoder_feedforward_dim=16,
            encoder_layers=1,
            num_attention_heads=2,
            dim_feedforward=16,
            decoder_layers=2,
            num_queries=5,
            **_labels(),
        )
    )
    model.class_predictor.weight.data *= 0
    model.class_predictor.bias.data = torch.tensor([0.0, 9.0, 0.0, 0.0])
    model.save_pretrained(folder)
    transformers.Mask2FormerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def _labels() -> dict:
    return {"id2label": LABELS, "label2id": {label: number for number, label in LABELS.items()}}
