"""Compile the attention kernels for GPUs that this machine doesn't have, and print the registers
and shared memory that they use.

    python3 run.py bench cubins [--save]

For whoever changes the kernels, their tiles or the least Triton: none may spill a register or ask
for more shared memory than its card has. Needs Triton, no GPU.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from egox_core.gga import product_kernels

RESULT_PAGE = Path(__file__).parent / "results" / "product_cubins.md"
SHARED_MEMORY_KB = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
"""Shared memory that a block may ask for, by compute capability (CUDA programming guide)."""
DTYPE_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
FLOAT_ARGUMENTS = "score_scale shift slope above floor scale".split()
UNALIGNED_ARGUMENTS = "start stop width per_frame base span blocks tokens".split()
"""Numbers that needn't be multiples of 16."""


def compile_kernel(kernel, card: int, dtype: torch.dtype, constants: dict):
    """Compile a Triton kernel for one GPU architecture."""
    argument_names, warp_count = kernel.arg_names, constants.pop("num_warps")
    argument_types = dict.fromkeys(argument_names, "i32") | dict.fromkeys(FLOAT_ARGUMENTS, "fp32")
    argument_types |= dict.fromkeys(
        "q k v out grad q_grad k_grad v_grad".split(), "*" + DTYPE_NAMES[dtype]
    )
    column_type = "*fp32" if dtype == torch.float32 else "*fp16"
    argument_types |= dict.fromkeys(("query_columns", "key_columns"), column_type)
    argument_types |= dict.fromkeys(("sums", "dots"), "*fp32") | dict.fromkeys(
        constants, "constexpr"
    )
    undivided_names = {*FLOAT_ARGUMENTS, *UNALIGNED_ARGUMENTS, *constants}
    kernel_source = ASTSource(
        fn=kernel,
        signature={name: argument_types[name] for name in argument_names},
        constexprs={(argument_names.index(name),): x for name, x in constants.items()},
        attrs={
            (i,): [["tt.divisibility", 16]]
            for i, x in enumerate(argument_names)
            if x not in undivided_names
        },
    )
    return triton.compile(
        kernel_source, target=GPUTarget("cuda", card, 32), options={"num_warps": warp_count}
    )


def kernel_usage(cubin: bytes) -> tuple[int, int]:
    """Count the registers per thread and the spilled bytes of a compiled kernel."""
    cuobjdump_path = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command_words = [cuobjdump_path, "-res-usage", file.name]
        resource_text = subprocess.run(
            command_words, capture_output=True, text=True, check=True
        ).stdout
    registers, stack_bytes = re.findall(r"REG:(\d+) STACK:(\d+)", resource_text)[0]
    return int(registers), int(stack_bytes)


def kernel_cell(card: int, dtype: torch.dtype, dim: int, name: str) -> tuple[str, bool]:
    """Format one kernel's registers, spills and shared memory as a table cell, and check them
    against the limits."""
    kernel, constants = product_kernels(divmod(card, 10), dtype, dim)[name]
    block_sizes = [str(constants[f"block_{side}"]) for side in ("queries", "keys")]
    block_sizes += [str(constants[x]) for x in ("num_warps", "in_flight")]
    compiled_kernel = compile_kernel(kernel, card, dtype, constants)
    registers, stack_bytes = kernel_usage(compiled_kernel.asm["cubin"])
    shared_kb = compiled_kernel.metadata.shared / 1024
    cell_text = f"{' '.join(block_sizes)}: {registers} / {stack_bytes} / {shared_kb:.0f}"
    return cell_text, not stack_bytes and shared_kb <= SHARED_MEMORY_KB[card]


def main() -> int:
    """Print or save the table of kernel resources, and return 1 if a kernel exceeds the limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help=f"keep it as {RESULT_PAGE.name}")
    is_result_saved = parser.parse_args().save
    card_headings = [
        f"{capability // 10}.{capability % 10} ({shared_kb})"
        for capability, shared_kb in SHARED_MEMORY_KB.items()
    ]
    lines = [
        f"The kernels of guided attention by product, compiled by Triton {triton.__version__}",
        (
            "(`python3 run.py bench cubins --save`) for cards that weren't there. A cell: queries, "
            "keys, warps, in"
        ),
        (
            "flight: registers / spilled bytes / KB of shared memory, at most the figures next to "
            "the card."
        ),
        "",
        f"| head | kernel | {' | '.join(card_headings)} |",
        f"|{'---|' * (2 + len(card_headings))}",
    ]
    all_within_limits = True
    print(*lines, sep="\n")
    for dtype, head_dim in ((dtype, head_dim) for dtype in DTYPE_NAMES for head_dim in (64, 128)):
        for name in product_kernels((8, 0), dtype, head_dim):
            cell_texts, results_within_limits = zip(
                *(
                    kernel_cell(capability, dtype, head_dim, name)
                    for capability in SHARED_MEMORY_KB
                ),
                strict=True,
            )
            lines.append(
                f"| {' | '.join((f'{DTYPE_NAMES[dtype]} {head_dim}', name, *cell_texts))} |"
            )
            print(lines[-1] + ("" if all(results_within_limits) else "  <-- too much"), flush=True)
            all_within_limits &= all(results_within_limits)
    if is_result_saved:
        RESULT_PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if all_within_limits else 1


if __name__ == "__main__":
    raise SystemExit(main())
