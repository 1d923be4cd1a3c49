"""The text embedding of the demo's graph: the host's LotusConditioning, which needs no text
encoder."""

from __future__ import annotations

from pathlib import Path

from tools.setup.environment import Environment
from tools.setup.layout import SetupError

CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
from comfy_extras.nodes_lotus import LotusConditioning
from safetensors.torch import save_file
save_file({"embedding": LotusConditioning.execute().result[0][0][0].float().cpu().contiguous()}, sys.argv[2])
"""


def save_text_embedding(environment: Environment | None, file: Path) -> None:
    """Writes ``embedding`` [tokens, width] as the stock node gives it, so that training and
    sampling share it.

    Raises:
        SetupError: no host, or one that can't run the node.
    """
    if environment is None or environment.host is None:
        raise SetupError(
            f"{file.name} comes from the host's LotusConditioning, and there is no host here; make it "
            "where there is one, and bring it along."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    code = environment.run(["-c", CODE, str(environment.host.root), str(file)])
    if code or not file.is_file():
        raise SetupError("The host's LotusConditioning could not be run.")
