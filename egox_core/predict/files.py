"""The predictor's weights as a file: half precision, with the network's size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import EgoXInputError, intact
from ..safe_files import write_whole
from ..wan.weights import file_metadata
from .network import PredictorSize, ViewPredictor

PREDICTOR_FILE = "egox_predicted_view.safetensors"
SIZE = "egox.predictor"


def save_predictor(
    tensors: Mapping[str, Tensor], size: PredictorSize, file: Path, metadata: Mapping[str, str]
) -> None:
    """Writes the weights, whole or not at all."""
    with write_whole(file) as temporary:
        save_file(
            {k: v.half().contiguous() for k, v in tensors.items()},
            temporary,
            metadata={"format": "pt", SIZE: json.dumps(asdict(size)), **metadata},
        )


def load_predictor(file: Path) -> ViewPredictor:
    """The network of a file, float32, not to be trained.

    Raises:
        EgoXInputError: no such file, or one without a predictor.
    """
    what = f"predictor {file.name}"
    size = file_metadata(file, what).get(SIZE)
    if size is None:
        raise EgoXInputError(
            what,
            got="other weights",
            expected="what task predict leaves",
            fix=f"choose {PREDICTOR_FILE}",
        )
    errors = (SafetensorError, OSError, RuntimeError, TypeError, ValueError)
    with intact(what, errors, expected="a whole file of weights", fix="copy it again"):
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(size).items()}
        model = ViewPredictor(PredictorSize(**values))
        model.load_state_dict({k: v.float() for k, v in load_file(file).items()})
    return model.eval().requires_grad_(False)
