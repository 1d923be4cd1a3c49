"""How far every released number is from ours: rays, bias, transformer, LoRA, packing, sampling.

    python3 run.py fidelity [--json] [--save]

Compares with the goldens of tests/golden (random tensors through the authors' code) and, where the development data
lies beside the repository, with those of two real takes. In float32, on the CPU. Ends with 1 if a bound is exceeded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

from benchmarks.support.fidelity_core import Check
from benchmarks.support.record import add_arguments, finish
from tools.rigs.model_rig import core
from tools.rigs.pack_in_process import import_host, load_pack
from tools.setup.host import find_host
from tools.setup.layout import REPO_ROOT, SetupError

TAKE_GOLDENS = REPO_ROOT.parent / "shared" / "golden"


def all_checks(pack: ModuleType, take_goldens: Path | None) -> Iterator[Check]:
    """Every comparison; those of takes only where their numbers are."""
    from benchmarks.support import fidelity_core, fidelity_model

    of_pack = partial(core, pack)
    if take_goldens is not None:
        yield from fidelity_core.geometry_checks(of_pack, take_goldens)
    yield from fidelity_core.packing_checks(of_pack)
    yield from fidelity_core.schedule_checks(of_pack)
    yield from fidelity_core.lora_delta_checks(of_pack)
    yield from fidelity_model.model_checks(pack)


def table(checks: list[Check]) -> str:
    """One line a check."""
    width = max(len(check.name) for check in checks)
    return "\n".join(f"{check.name:{width}s}  {check.difference:9.2e}  bound {check.bound:7.1e}  "
                     f"{'ok' if check.passed else 'EXCEEDED'}" for check in checks)


def main() -> int:
    parser = argparse.ArgumentParser(prog="fidelity", description=__doc__.splitlines()[0])
    add_arguments(parser)
    args = parser.parse_args()
    host = find_host()
    if host is None:
        raise SetupError("fidelity needs ComfyUI: run it as `python3 run.py fidelity`, or set COMFYUI_DIR.")
    take_goldens = TAKE_GOLDENS if TAKE_GOLDENS.is_dir() else None
    with tempfile.TemporaryDirectory() as base:
        import_host(host.root, Path(base), cpu=True)  # a GPU may round float32 products to fewer bits
        checks = list(all_checks(load_pack(), take_goldens))
    note = "" if take_goldens else "\nnot compared: rays and bias of real takes (../shared/golden is not there)"
    failed = [check.name for check in checks if not check.passed]
    verdict = f"\n{len(checks)} comparisons, {len(failed)} exceeded{note}"
    rows = [{"name": c.name, "difference": c.difference, "bound": c.bound, "passed": c.passed} for c in checks]
    finish("fidelity", {"host": host.version_text, "takes_compared": take_goldens is not None, "checks": rows,
                        "passed": not failed}, args, table(checks) + verdict)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
