#!/usr/bin/env python3
"""Run the commands that prepare data, train, generate and evaluate without ComfyUI."""

import logging
import sys
from pathlib import Path

# diffusers and transformers import both wherever they are installed, and each then warns of what
# it lacks; where one is used (base_dtype, optimizer), we say so ourselves.
for _name in ("bitsandbytes.backends.cpu.ops", "diffusers.quantizers.torchao.torchao_quantizer"):
    logging.getLogger(_name).setLevel(logging.ERROR)
ROOT = Path(__file__).resolve().parent
if not (ROOT / "egox_train").is_dir():
    sys.exit(
        "This copy of the pack holds the nodes alone. To train, prepare data or measure, clone the "
        'repository and run there: pip install -e ".[train]"'
    )

try:
    from egox_train.cli.front import main
except ModuleNotFoundError as error:
    if str(error.name).startswith("egox"):
        raise
    sys.exit(
        f"The package {error.name} is not installed for {sys.executable}. Use the Python that has "
        f'torch, and install there: pip install -e "{ROOT}[train]"'
    )
except KeyboardInterrupt:
    print("stopped", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":  # workers of `prepare` and `cache` import this file anew
    sys.exit(main())
