"""Compare all numbers with those of the authors' released code: rays, bias, model, LoRA, packing
and sampling.

    python3 run.py fidelity [--json] [--save]

Compares with the goldens of tests/golden (random tensors through the authors' code) and, where the
development data is beside the repository, with those of two real takes. In float32, on the CPU.
Ends with 1 if a bound is exceeded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from benchmarks.support.record import bench_parser, finish
from tools.rigs.pack_in_process import pack_on_host
from tools.setup.layout import REPO_ROOT

if TYPE_CHECKING:
    from benchmarks.support.fidelity_core import Check

GOLDEN_FOLDER = REPO_ROOT.parent / "shared" / "golden"


def all_checks(pack: ModuleType, golden_folder: Path | None) -> Iterator[Check]:
    """Run all comparisons with the released code's numbers, and skip those whose takes are
    missing."""
    from benchmarks.support import fidelity_core, fidelity_model

    if golden_folder is not None:
        yield from fidelity_core.geometry_checks(golden_folder)
    yield from fidelity_core.packing_checks()
    yield from fidelity_core.schedule_checks()
    yield from fidelity_core.lora_delta_checks()
    yield from fidelity_model.model_checks(pack)


def table(checks: list[Check]) -> str:
    """Format the comparisons as text, one line each."""
    width = max(len(check.name) for check in checks)
    return "\n".join(
        f"{check.name:{width}s}  {check.difference:9.2e}  bound {check.bound:7.1e}  "
        f"{'ok' if check.passed else 'EXCEEDED'}"
        for check in checks
    )


def main() -> int:
    args = bench_parser(__doc__).parse_args()
    golden_folder = GOLDEN_FOLDER if GOLDEN_FOLDER.is_dir() else None
    with pack_on_host("fidelity", cpu=True) as (
        comfyui_host,
        pack_module,
    ):  # a GPU may round float32 products to fewer bits
        checks = list(all_checks(pack_module, golden_folder))
    note = (
        ""
        if golden_folder
        else "\nnot compared: rays and bias of real takes (../shared/golden is not there)"
    )
    failed_names = [check.name for check in checks if not check.passed]
    verdict = f"\n{len(checks)} comparisons, {len(failed_names)} exceeded{note}"
    rows = [
        {"name": c.name, "difference": c.difference, "bound": c.bound, "passed": c.passed}
        for c in checks
    ]
    return finish(
        "fidelity",
        {
            "host": comfyui_host.version_text,
            "takes_compared": golden_folder is not None,
            "checks": rows,
            "passed": not failed_names,
        },
        args,
        table(checks) + verdict,
        not failed_names,
    )


if __name__ == "__main__":
    raise SystemExit(main())
