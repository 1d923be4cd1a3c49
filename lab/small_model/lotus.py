"""Save the text embedding that the demo uses, taken from ComfyUI's LotusConditioning node.

python -m lab.small_model.lotus FILE    # with EGOX_HOST_DIR naming the host's folder
"""

import os
import subprocess
import sys
from pathlib import Path

from egox_core.errors import EgoXInputError

LOTUS_CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
from comfy_extras.nodes_lotus import LotusConditioning
from safetensors.torch import save_file
embedding = LotusConditioning.execute().result[0][0][0]
save_file({"embedding": embedding.float().cpu().contiguous()}, sys.argv[2])
"""


def save_text_embedding(file: Path) -> None:
    """Write the text embedding [tokens, width] of ComfyUI's LotusConditioning node to a file.

    Raises:
        EgoXInputError: no host (``run.py`` names it in EGOX_HOST_DIR), or one that can't run the
            node.
    """
    host_folder = os.environ.get("EGOX_HOST_DIR")
    if host_folder:
        file.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-c", LOTUS_CODE, host_folder, str(file)])
    if not file.is_file():
        raise EgoXInputError(
            file.name,
            got=f"a ComfyUI in {host_folder} that does not run LotusConditioning"
            if host_folder
            else "no ComfyUI",
            expected="the host's LotusConditioning, whose text the small model is trained with",
            fix=(
                "begin by `python3 run.py train-demo` where there is a host, or bring the file "
                "along"
            ),
        )


if __name__ == "__main__":
    save_text_embedding(Path(sys.argv[1]))
