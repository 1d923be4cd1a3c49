"""Check that payloads which version 1.3.0 pickled still go through the stages."""

import lzma
import pickle
from pathlib import Path

import torch

from egox_core import stages

KEPT = Path(__file__).with_name("kept_payloads_1_3.pickle.xz")
"""Clip, depth, path, scene and hands of 5 frames, made of random colours by version 1.3.0."""


def test_payloads_of_1_3_are_drawn_as_new_ones():
    kept = pickle.loads(lzma.decompress(KEPT.read_bytes()))
    scene, _ = stages.scene(kept["clip"].exo, kept["depth"])
    kept_prior, _ = stages.prior(kept["scene"], kept["trajectory"])
    prior, _ = stages.prior(scene, kept["trajectory"])
    assert torch.equal(kept_prior.rgb, prior.rgb)
    assert prior.rgb.any()
    assert kept["hands"].in_use(kept["depth"].frames).valid.shape == (5, 2)
