"""What every kernel needs on every chip, held against `triton_budgets.json`.

    python -m tools.triton_budgets            compile everything and compare with the file
    python -m tools.triton_budgets --write    compile everything and write the file
    python -m tools.triton_budgets --table    print the file as a table

No GPU is needed: the kernels are compiled for chips that are not there, as a launch there would compile them.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from stm_fast.kernels import chips
from stm_fast.kernels.launch import Operands

FILE = Path(__file__).parent / "triton_budgets.json"
QUERIES = 1620


class Shape(NamedTuple):
    """A read whose kernels are compiled.

    Attributes:
        name: whom it stands for.
        channels, value_channels: of keys and values.
        key, value: their dtypes.
        affine: with gain, offset and bias.
        chosen: tokens of top-k.
        tokens: of the memory.
        last: channels side by side in memory.
        tf32: float32 may be multiplied as TensorFloat-32.
    """

    name: str
    channels: int
    value_channels: int
    key: torch.dtype
    value: torch.dtype
    affine: bool = False
    chosen: int = 30
    tokens: int = 8100
    last: bool = False
    tf32: bool = False


SHAPES = (
    Shape("STM", 128, 512, torch.bfloat16, torch.bfloat16),
    Shape("STCN", 64, 512, torch.float16, torch.float16, affine=True),
    Shape("XMem", 128, 512, torch.float32, torch.bfloat16, affine=True),
    Shape("float32", 64, 512, torch.float32, torch.float32),
    Shape("TF32", 128, 512, torch.float32, torch.float32, tf32=True),
    Shape("best 128", 128, 512, torch.bfloat16, torch.bfloat16, chosen=128),
    Shape("widest", 512, 1024, torch.float32, torch.float32, affine=True, chosen=128),
    Shape("channels last, far", 256, 1024, torch.bfloat16, torch.bfloat16, tokens=8_400_004, last=True),
)
OPERATIONS = ("read", "backward", "usage", "top-k", "top-k backward")


def compile_for(chip: chips.Chip, shape: Shape, operation: str) -> dict[str, dict[str, int]]:
    """Resources of each kernel that an operation launches on a chip, by its name; the worst of its launches."""
    from triton.backends.compiler import GPUTarget

    from tools import inspection

    operands, value = _problem(shape)
    target = GPUTarget(chip.backend, chip.arch, chip.warp)
    torch.backends.cuda.matmul.fp32_precision = "tf32" if shape.tf32 else "ieee"
    with inspection.compiling_for(target) as kernels, chips.pretending(chip):
        _launch(operation, operands, value, shape.chosen)
    worst: dict[str, dict[str, int]] = {}
    for kernel in kernels:
        found = inspection.resources(kernel)._asdict()
        known = worst.setdefault(found.pop("kernel"), found)
        worst_of = {name: min if name in ("matrix", "copies") else max for name in found}
        known.update({name: worst_of[name](known[name], found[name]) for name in found})
    return worst


def _problem(shape: Shape) -> tuple[Operands, Tensor]:
    """A read without storage."""

    def empty(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        if shape.last and len(size) > 2:
            return torch.empty(*size[:-2], size[-1], size[-2], dtype=dtype, device="meta").mT
        return torch.empty(size, dtype=dtype, device="meta")

    gain, offset, bias = [empty(1, n) if shape.affine else None for n in (shape.tokens, QUERIES, shape.tokens)]
    query, key = (empty(1, shape.channels, items, dtype=shape.key) for items in (QUERIES, shape.tokens))
    return (
        Operands(query, key, gain, offset, bias, 0.125),
        empty(1, 1, shape.value_channels, shape.tokens, dtype=shape.value),
    )


def _launch(operation: str, operands: Operands, value: Tensor, chosen: int) -> None:
    from stm_fast.kernels import backward, forward, top_k, top_k_backward, usage

    out = value.new_empty(*value.shape[:3], QUERIES)
    lse = out.new_empty(1, QUERIES, dtype=torch.float32)
    indices, weights = out.new_empty(1, QUERIES, chosen, dtype=torch.int64), lse.new_empty(1, QUERIES, chosen)
    *tensors, _ = operands
    gradients = tuple(out.new_empty(0) if t is None else t.new_empty(t.shape) for t in (*tensors, value))
    match operation:
        case "read":
            forward.read(operands, value, out, lse, splits=2)
        case "backward":
            backward.read_backward(operands, value, out, lse, out, lse, gradients, splits=2)
        case "usage":
            usage.usage(operands, lse, lse.new_empty(1, value.shape[3]))
        case "top-k":
            top_k.top_k_read(operands, value, out, lse, indices, weights, splits=2)
        case "top-k backward":
            top_k_backward.top_k_read_backward(operands, value, out, indices, weights, out, lse, gradients)


def measure(chip_names: list[str], shape_names: list[str]) -> dict[str, Any]:
    """Resources by chip, shape and kernel, compiled on all cores."""
    wanted = [(chip, shape, operation) for chip in chip_names for shape in shape_names for operation in OPERATIONS]
    table: dict[str, Any] = {chip: {shape: {} for shape in shape_names} for chip in chip_names}
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        for (chip, shape, _), found in zip(wanted, processes.map(_compile_by_name, wanted), strict=True):
            table[chip][shape].update(found)
    return table


def _compile_by_name(names: tuple[str, str, str]) -> dict[str, dict[str, int]]:
    chip, shape, operation = names
    return compile_for(chips.CHIPS[chip], next(known for known in SHAPES if known.name == shape), operation)


def chips_of(budgets: dict[str, Any]) -> dict[str, Any]:
    """What a file of budgets says of chips."""
    return {chip: shapes for chip, shapes in budgets.items() if chip in chips.CHIPS}


def faults(found: dict[str, Any], budgets: dict[str, Any]) -> Iterator[str]:
    """What is worse than the budgets allow, or against a chip's limits, one sentence each."""
    for chip, shapes in found.items():
        for shape, kernels in shapes.items():
            for kernel, needs in kernels.items():
                where = f"{kernel} for {shape} on {chip}"
                allowed = budgets.get(chip, {}).get(shape, {}).get(kernel)
                if allowed is None:
                    yield f"{where} has no budget"
                    continue
                for name in ("registers", "spilled", "shared"):
                    if needs[name] > allowed[name]:
                        yield f"{where}: {name} {needs[name]}, budget {allowed[name]}"
                for name in ("matrix", "copies"):
                    if bool(needs[name]) != bool(allowed[name]):
                        yield f"{where}: {needs[name]} {name} instructions, budget {allowed[name]}"
                if needs["shared"] > chips.CHIPS[chip].shared:
                    yield f"{where}: shared memory {needs['shared']} of {chips.CHIPS[chip].shared}"


def table_of(budgets: dict[str, Any]) -> str:
    """The budgets as a Markdown table."""
    lines = [
        "| chip | read | kernel | registers | spilled bytes | shared KB | matrix instructions | asynchronous copies |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {chip} | {shape} | {kernel.removesuffix('_kernel')} | {needs['registers']} | {needs['spilled']} "
        f"| {needs['shared'] / 1024:.0f} | {needs['matrix']} | {needs['copies']} |"
        for chip, shapes in chips_of(budgets).items()
        for shape, kernels in shapes.items()
        for kernel, needs in kernels.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write triton_budgets.json")
    parser.add_argument("--table", action="store_true", help="print triton_budgets.json as a table")
    parser.add_argument("--chip", choices=chips.CHIPS, action="append", help="only this chip")
    parser.add_argument("--shape", choices=[shape.name for shape in SHAPES], action="append", help="only this read")
    arguments = parser.parse_args()
    if arguments.table:
        sys.stdout.write(table_of(json.loads(FILE.read_text())) + "\n")
        return
    found = measure(arguments.chip or list(chips.CHIPS), arguments.shape or [shape.name for shape in SHAPES])
    if arguments.write:
        known = json.loads(FILE.read_text()) if FILE.exists() else {}
        merged = {chip: known.get(chip, {}) | found.get(chip, {}) for chip in chips.CHIPS}
        FILE.write_text(json.dumps({**merged, "triton": triton.__version__}, indent=1) + "\n")
        return
    broken = list(faults(found, json.loads(FILE.read_text())))
    sys.stdout.write("\n".join([*broken, f"{len(broken)} faults"]) + "\n")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
