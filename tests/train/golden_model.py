"""Build the small transformer for which reference outputs are stored."""

from safetensors.torch import load_file

from egox_core.safe_files import read_json
from tests.paths import GOLDEN


def golden_transformer():
    """Build the transformer of two layers for which reference outputs are stored."""
    from diffusers import WanTransformer3DModel

    config = read_json(GOLDEN / "tiny_config.json")
    model = WanTransformer3DModel(**{k: v for k, v in config.items() if not k.startswith("note")})
    loaded_weights = load_file(GOLDEN / "tiny_transformer.safetensors")
    model.load_state_dict(
        {
            k.removeprefix("weights."): v
            for k, v in loaded_weights.items()
            if k.startswith("weights.")
        }
    )
    return model
