"""The resources of every Triton kernel on every chip, compared with `triton_budgets.json`.

    python -m tools.triton_budgets            compile everything and compare with the file
    python -m tools.triton_budgets --write    compile everything and write the file
    python -m tools.triton_budgets --table    print the file as tables

No GPU is needed: the kernels are compiled for each chip as a launch on it would compile them. The file has budgets for
each version of triton that is tested. To compile with another version, put it first in PYTHONPATH.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from stm_fast.kernels import chips
from stm_fast.kernels.operands import Gradients, Operands
from tools.budget_rules import broken_rules
from tools.inspection import DESCRIPTOR_BYTES

FILE = Path(__file__).parent / "triton_budgets.json"
VERSIONS = "3.6.0", "3.7.1"
"""Versions of triton: the oldest supported one and the pinned one."""
QUERIES = 1620
LOOP_HEADS = "instructions", "matrix", "waits", "barriers", "bytes per copy"
"""Columns of the table for one iteration of the main loop."""
INSTRUCTIONS_MARGIN = 1.03
"""Factor by which the instructions of a kernel and its main loop may exceed their budget."""


class Shape(NamedTuple):
    """A read whose kernels are compiled.

    Attributes:
        name: name of the read.
        channels: key channels.
        value_channels: value channels.
        key: dtype of queries and keys.
        value: dtype of values.
        affine: whether the scores have gain, offset and bias.
        chosen: k of the top-k read.
        tokens: memory tokens.
        capacity: tokens that the memory has room for; by default as many as it holds.
        first_token: index of the first token in the memory's storage.
        channels_last: whether keys and values are channels last.
        tf32: whether float32 may be multiplied as TensorFloat-32.
    """

    name: str
    channels: int
    value_channels: int
    key: torch.dtype
    value: torch.dtype
    affine: bool = False
    chosen: int = 30
    tokens: int = 8100
    capacity: int | None = None
    first_token: int = 0
    channels_last: bool = False
    tf32: bool = False


BANK = 8104
"""Capacity of a memory bank for five 480p frames."""
SHAPES = (
    Shape("STM", 128, 512, torch.bfloat16, torch.bfloat16, capacity=BANK),
    Shape("STM, T = 20", 128, 512, torch.bfloat16, torch.bfloat16, tokens=32400),
    Shape("STCN", 64, 512, torch.float16, torch.float16, affine=True, capacity=BANK),
    Shape("XMem", 128, 512, torch.float32, torch.bfloat16, affine=True, capacity=BANK),
    Shape("float32", 64, 512, torch.float32, torch.float32, capacity=BANK),
    Shape("TF32", 128, 512, torch.float32, torch.float32, tf32=True),
    Shape("best 128", 128, 512, torch.bfloat16, torch.bfloat16, chosen=128, capacity=BANK),
    Shape("widest", 512, 1024, torch.float32, torch.float32, affine=True, chosen=128),
    Shape("packed", 128, 512, torch.bfloat16, torch.bfloat16),
    Shape("odd offset", 128, 512, torch.bfloat16, torch.bfloat16, tokens=8097, capacity=BANK, first_token=3),
    Shape("far, channels last", 256, 1024, torch.bfloat16, torch.bfloat16, tokens=8_400_004, channels_last=True),
)
OPERATIONS = ("read", "backward", "usage", "top-k", "top-k backward")


def compile_for(chip: chips.Chip, shape: Shape, operation: str) -> dict[str, dict[str, int]]:
    """Return the resources of each kernel that an operation launches, by name: the worst of its launches."""
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
        worst_of = {name: min if name in ("matrix", "copy_bytes") else max for name in found}
        known.update({name: worst_of[name](known[name], found[name]) for name in found})
    return worst


def _problem(shape: Shape) -> tuple[Operands, Tensor]:
    """Return the operands and values of a read, without storage."""

    def empty(*size: int, dtype: torch.dtype) -> Tensor:
        if shape.channels_last:
            return torch.empty(*size[:-2], size[-1], size[-2], dtype=dtype, device="meta").mT
        return torch.empty(size, dtype=dtype, device="meta")

    def memory(*size: int, dtype: torch.dtype) -> Tensor:
        whole = empty(*size, shape.capacity or shape.tokens, dtype=dtype)
        return whole[..., shape.first_token : shape.first_token + shape.tokens]

    vectors = (
        torch.empty(1, items, device="meta") if shape.affine else None
        for items in (shape.tokens, QUERIES, shape.tokens)
    )
    query = empty(1, shape.channels, QUERIES, dtype=shape.key)
    key = memory(1, shape.channels, dtype=shape.key)
    return Operands(query, key, *vectors, 0.125), memory(1, 1, shape.value_channels, dtype=shape.value)


def _launch(operation: str, operands: Operands, value: Tensor, chosen: int) -> None:
    out = value.new_empty(*value.shape[:3], QUERIES)
    lse = out.new_empty(1, QUERIES, dtype=torch.float32)
    indices, weights = out.new_empty(1, QUERIES, chosen, dtype=torch.int64), lse.new_empty(1, QUERIES, chosen)
    *tensors, _ = operands
    gradients = Gradients(*(None if t is None else t.new_empty(t.shape) for t in (*tensors, value)))
    match operation:
        case "read":
            from stm_fast.kernels import forward

            forward.read(operands, value, out, lse, splits=2)
        case "backward":
            from stm_fast.kernels import backward

            backward.read_backward(operands, value, out, lse, out, lse, gradients, splits=2)
        case "usage":
            from stm_fast.kernels import usage

            usage.usage(operands, lse, lse.new_empty(1, value.shape[3]))
        case "top-k":
            from stm_fast.kernels import top_k

            top_k.top_k_read(operands, value, out, lse, indices, weights, splits=2)
        case "top-k backward":
            from stm_fast.kernels import top_k_backward

            top_k_backward.top_k_read_backward(operands, value, out, indices, weights, out, lse, gradients)


def measure(chip_names: list[str], shape_names: list[str]) -> dict[str, Any]:
    """Return resources by chip, shape and kernel, compiled on all cores."""
    wanted = [(chip, shape, operation) for chip in chip_names for shape in shape_names for operation in OPERATIONS]
    table: dict[str, Any] = {chip: {shape: {} for shape in shape_names} for chip in chip_names}
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        for (chip, shape, _), found in zip(wanted, processes.map(_compile_by_name, wanted), strict=True):
            table[chip][shape].update(found)
    return table


def _compile_by_name(names: tuple[str, str, str]) -> dict[str, dict[str, int]]:
    chip, shape, operation = names
    return compile_for(chips.CHIPS[chip], next(known for known in SHAPES if known.name == shape), operation)


def budgets_of(version: str) -> dict[str, Any]:
    """Return the budgets of a version of triton by chip, shape and kernel."""
    known: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return dict(known.get(version, {}))


def text_of(versions: dict[str, Any]) -> str:
    """Return budgets of versions of triton as JSON, one line per kernel."""
    spread = json.dumps(versions, indent=1)
    return re.sub(r"\{[^{}]+\}", lambda needs: " ".join(needs[0].split()), spread) + "\n"


def faults(found: dict[str, Any], budgets: dict[str, Any]) -> Iterator[str]:
    """Yield one sentence for each exceeded budget and each broken rule."""
    for chip, shapes in found.items():
        for shape, kernels in shapes.items():
            for kernel, needs in kernels.items():
                where = f"{kernel} for {shape} on {chip}"
                allowed = budgets.get(chip, {}).get(shape, {}).get(kernel)
                if allowed is None:
                    yield f"{where} has no budget"
                    continue
                for name in ("registers", "spilled", "shared", "waits", "barriers", "serialized"):
                    if needs[name] > allowed[name]:
                        yield f"{where}: {name} {needs[name]}, budget {allowed[name]}"
                for name in ("instructions", "code"):
                    if needs[name] > INSTRUCTIONS_MARGIN * allowed[name]:
                        yield f"{where}: {name} {needs[name]}, budget {allowed[name]}"
                if needs["copy_bytes"] < allowed["copy_bytes"]:
                    yield f"{where}: copies of {needs['copy_bytes']} bytes, budget {allowed['copy_bytes']}"
                if bool(needs["matrix"]) != bool(allowed["matrix"]):
                    yield f"{where}: {needs['matrix']} matrix instructions, budget {allowed['matrix']}"
    yield from broken_rules(found)


def table_of(budgets: dict[str, Any], chip_names: list[str], shape_names: list[str]) -> str:
    """Return budgets as a Markdown table."""
    heads = "chip", "read", "kernel", "registers", "spilled bytes", "shared KB", *LOOP_HEADS
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    lines += [
        f"| {chip} | {shape} | {kernel.removesuffix('_kernel')} | {needs['registers']} | {needs['spilled']} "
        f"| {needs['shared'] / 1024:.0f} | {needs['instructions']} | {needs['matrix']} | {needs['waits']} "
        f"| {needs['barriers']} | {copy_width(needs['copy_bytes'])} |"
        for chip in chip_names
        for shape in shape_names
        for kernel, needs in budgets[chip][shape].items()
    ]
    return "\n".join(lines)


def copy_width(copy_bytes: int) -> str:
    """Return the bytes of an asynchronous copy as text, or "descriptor"."""
    return {0: "", DESCRIPTOR_BYTES: "descriptor"}.get(copy_bytes, str(copy_bytes))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write triton_budgets.json")
    parser.add_argument("--table", action="store_true", help="print triton_budgets.json as a table")
    parser.add_argument("--chip", choices=chips.CHIPS, action="append", help="only this chip")
    parser.add_argument("--shape", choices=[shape.name for shape in SHAPES], action="append", help="only this read")
    arguments = parser.parse_args()
    chip_names = arguments.chip or list(chips.CHIPS)
    shape_names = arguments.shape or [shape.name for shape in SHAPES]
    known = budgets_of(triton.__version__)
    if arguments.table:
        sys.stdout.write(table_of(known, chip_names, shape_names) + "\n")
        return
    found = measure(chip_names, shape_names)
    if arguments.write:
        merged = {chip: known.get(chip, {}) | found.get(chip, {}) for chip in chips.CHIPS}
        versions = {version: budgets_of(version) for version in VERSIONS} | {triton.__version__: merged}
        FILE.write_text(text_of(versions))
    broken = list(broken_rules(found) if arguments.write else faults(found, known))
    sys.stdout.write("\n".join([*broken, f"triton {triton.__version__}: {len(broken)} faults"]) + "\n")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
