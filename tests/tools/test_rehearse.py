"""The dress rehearsal's files: of the size that docs/weights.md says."""

from __future__ import annotations

import math
import re

import pytest

from tools.rehearse import scaled_float8, umt5_shapes
from tools.rigs import standin_shapes as rig


@pytest.mark.parametrize(
    ("file", "shapes"),
    [
        (
            "wan2.1_i2v_480p_14B_fp8_scaled",
            lambda: rig.transformer_shapes(
                rig.TransformerForm(dim=5120, ffn_dim=13824, layers=40, heads=40)
            ),
        ),
        ("umt5_xxl_fp8_e4m3fn_scaled", umt5_shapes),
    ],
)
def test_files_have_the_true_size(repo_root, file, shapes):
    """But for the header and umT5's tokenizer of 4.3 MB."""
    text = (repo_root / "docs" / "weights.md").read_text(encoding="utf-8")
    known = int(re.search(rf"`{file}\.safetensors`.*? ([\d,]+) \|", text)[1].replace(",", ""))
    entries = scaled_float8(shapes()).values()
    size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in entries)
    assert 0 < known - size < 5e6
