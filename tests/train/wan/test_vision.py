"""Test how the CLIP vision encoder crops its input."""

import numpy as np
import pytest
import torch

from egox_train.wan.vision import VisionEncoder


@pytest.mark.parametrize("size", [(28, 61), (61, 28), (56, 120)])
def test_clip_input_is_cropped_as_by_its_processor(tmp_path, size):
    """Check that the encoder crops a picture as transformers' image processor does."""
    transformers = pytest.importorskip("transformers")
    layer_settings = {"num_hidden_layers": 3, "num_attention_heads": 2}
    config = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, image_size=28, patch_size=14, **layer_settings
    )
    model = transformers.CLIPVisionModel(config).eval()
    model.save_pretrained(tmp_path)
    coarse_picture = np.random.default_rng(0).integers(
        0, 256, (*(n // 4 for n in size), 3), np.uint8
    )
    picture = np.pad(
        coarse_picture.repeat(4, 0).repeat(4, 1), [(0, n % 4) for n in size] + [(0, 0)]
    )
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=28)
    with torch.no_grad():
        expected_states = model(
            **processor(images=picture, return_tensors="pt"), output_hidden_states=True
        ).hidden_states[-2][0]
    egox_states = VisionEncoder(tmp_path).encode(torch.from_numpy(picture)[None] / 255)
    assert egox_states.shape == (5, 16)
    torch.testing.assert_close(
        egox_states, expected_states, atol=2e-2 if min(size) > 28 else 1e-4, rtol=0
    )
