"""The ``lpips`` package on a given AlexNet, as the second implementation of our LPIPS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file


def lpips_of_package(weights: Path) -> Callable[[np.ndarray, np.ndarray], float]:
    """(picture, picture) [H, W, 3] uint8 -> distance."""
    import lpips

    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    features = {k: v for k, v in load_file(weights).items() if k.startswith("features.")}
    own = network.net.state_dict()
    network.net.load_state_dict({k: features[f"features.{k.split('.', 1)[1]}"] for k in own})
    network.eval()

    def distance(first: np.ndarray, second: np.ndarray) -> float:
        pair = (
            torch.from_numpy(x.copy()).movedim(-1, 0)[None].float() / 127.5 - 1
            for x in (first, second)
        )
        with torch.no_grad():
            return float(network(*pair))

    return distance
