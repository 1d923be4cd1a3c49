"""Compiles the Triton kernels for cards that need not be here: registers, spills, shared memory.

    python3 -m benchmarks.triton_cubins [--save]

Run again by whoever changes a kernel, in a Python that has Triton (torch is not needed), once with
each version that users may have. A page of all versions: ``benchmarks/results/triton_cubins.md``.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "benchmarks/results/triton_cubins.json"
GGA = ROOT / "egox_core/gga"
VERSION = tuple(map(int, metadata.version("triton").split(".")[:2]))
CARDS = (80, 86, 89, 90, 100, 120)
KNOWN = CARDS if VERSION >= (3, 3) else CARDS[:4]
"""Cards that the installed version's assembler knows; on others it would end the process."""
SHARED_OF = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
"""KB of shared memory that a block may have (CUDA C++ Programming Guide, compute capabilities)."""
DTYPES = ("bf16", "fp16", "fp32")
HEAD_SIZES = (64, 128)
FLOATS = ("scale", "factor", "floor", "score_scale", "one")
UNALIGNED = {"start", "stop", "per_frame", "first_frame", "blocks", "heads", "tokens", "rows"}


def constants(file: str) -> dict[str, int]:
    """Block sizes that a launcher names, read without importing it (it needs torch)."""
    found = {}
    for node in ast.parse((GGA / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            found |= {
                name.id: value.value
                for name, value in zip(node.targets[0].elts, node.value.elts, strict=True)
            }
    return found


def kernels():
    """The module of kernels, without the package round it."""
    spec = importlib.util.spec_from_file_location("triton_kernels", GGA / "triton_kernels.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases(card: int) -> Iterator[tuple[str, object, str, dict, dict]]:
    """(name, kernel, dtype, constexprs, options) of all that may be launched on this card."""
    module, flash, rows = kernels(), constants("flash.py"), constants("triton_rows.py")
    for dtype in DTYPES:
        for linear in (False, True):
            what = {"has_gain": linear, "has_offset": linear}
            yield (
                f"rows {dtype}{' linear' * linear}",
                module.bias_rows_kernel,
                dtype,
                {**what, "block_rows": rows["BLOCK_ROWS"], "block_keys": rows["BLOCK_KEYS"]},
                {},
            )
            if dtype == "fp32":
                continue  # by name only, for comparisons: no speed is promised
            for size in HEAD_SIZES:
                yield (
                    f"flash {dtype} {size}{' linear' * linear}",
                    module.guided_flash_kernel,
                    dtype,
                    {
                        "steep": not linear,
                        **what,
                        "block_queries": flash["BLOCK_QUERIES"],
                        "block_keys": flash["BLOCK_KEYS"],
                        "block_dim": size,
                    },
                    {"num_warps": flash["WARPS"], "num_stages": module.stages(card, linear)},
                )


def compiled(kernel, dtype: str, choices: dict, options: dict, card: int):
    """The kernel as it is launched on such a card: pointers and strides are multiples of 16."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    def kind(name: str) -> str:
        if name in ("q", "k", "v", "out"):
            return f"*{dtype}"
        if name in ("query_dirs", "key_dirs", "gain", "offset", "queries", "keys"):
            return "*fp32"
        return "fp32" if name in FLOATS else "i32"

    names = kernel.arg_names
    signature = {name: kind(name) for name in names if name not in choices}
    aligned = [
        i for i, name in enumerate(names) if name in signature and name not in (*FLOATS, *UNALIGNED)
    ]
    if VERSION >= (3, 3):
        source = ASTSource(
            fn=kernel,
            signature={n: signature.get(n, "constexpr") for n in names},
            constexprs=choices,
            attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
        )
    else:
        if VERSION == (3, 2):
            from triton.backends.compiler import AttrsDescriptor

            attrs = AttrsDescriptor.from_dict(
                {
                    "cls": "AttrsDescriptor",
                    "arg_properties": {"tt.divisibility": aligned, "tt.equal_to": []},
                }
            )
        else:
            from triton.compiler.compiler import AttrsDescriptor

            attrs = AttrsDescriptor(tuple(aligned), ())
        source = ASTSource(fn=kernel, signature=signature, constants=choices, attrs=attrs)
    return triton.compile(source, target=GPUTarget("cuda", card, 32), options=options)


def figures(binary) -> dict[str, int]:
    """Registers a thread, bytes spilled a thread, bytes of shared memory a block."""
    import triton

    ptx = binary.asm["ptx"]
    folder = Path(triton.__file__).parent / "backends/nvidia/bin"
    words = ["-v", "-arch", re.search(r"\.target (\w+)", ptx)[1], "k.ptx", "-o", "k.cubin"]
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "k.ptx").write_text(ptx, encoding="utf-8")
        # Newer versions have two assemblers, of which one may be too old for the text.
        runs = [
            subprocess.run([file, *words], cwd=work, capture_output=True, text=True)
            for file in sorted(folder.glob("ptxas*"))
        ]
    said = next(run.stderr for run in runs if run.returncode == 0)
    return {
        "registers": int(re.search(r"Used (\d+) registers", said)[1]),
        "spilled": sum(map(int, re.findall(r"(\d+) bytes spill", said))),
        "shared": binary.metadata.shared,
    }


def matrix(cards: tuple[int, ...] = KNOWN) -> dict[str, dict[str, dict | str]]:
    """{case: {card: figures, or why there are none}} with the Triton that is installed."""
    rows: dict[str, dict[str, dict | str]] = {}
    for card in cards:
        for name, kernel, dtype, choices, options in cases(card):
            try:
                found = figures(compiled(kernel, dtype, choices, options, card))
            except Exception as error:  # noqa: BLE001  (a compiler may fail in any way)
                found = (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
            rows.setdefault(name, {})[f"sm_{card}"] = found
    return rows


def page(results: dict[str, dict]) -> str:
    """All versions: a row a version and case, a column a card."""
    cards = [f"sm_{card}" for card in CARDS]
    lines = [
        "Registers a thread / bytes spilled / KB of shared memory; `-`: not compiled by it.",
        "",
        f"| Triton | kernel | {' | '.join(cards)} |",
        "|" + "---|" * (len(cards) + 2),
    ]
    for version in sorted(results, key=lambda v: [int(x) for x in v.split(".")]):
        for name, row in results[version].items():
            cells = [
                f"{c['registers']} / {c['spilled']} / {c['shared'] / 1024:.0f}"
                if isinstance(c := row.get(card), dict)
                else "-"
                for card in cards
            ]
            lines.append(f"| {version} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="triton_cubins", description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="add this version to the page")
    args = parser.parse_args()
    results = json.loads(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else {}
    version = metadata.version("triton")
    results[version] = matrix()
    print(page({version: results[version]}))
    if args.save:
        PAGE.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        PAGE.with_suffix(".md").write_text(page(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
