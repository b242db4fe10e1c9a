"""The registry of reads that are checked and timed on a GPU, the most important first."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from benchmarks.read.cases import Case

OPERATIONS = ("read", "backward", "top_k", "usage", "top_k_backward")
FRAMES = (5, 20, 1, 100)
FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16

STM = Case("read", BFLOAT16, 128, 512, 1, 5)
STCN = Case("read", BFLOAT16, 64, 512, 1, 5)
CUTIE = Case("read", BFLOAT16, 64, 256, 1, 5)
XMEM = Case("read", FLOAT32, 128, 512, 1, 5, value_dtype=BFLOAT16, affine=True)
"""XMem's selection turns its 64 channels into 128 of float32; its values have 16 bits."""
OBJECTS = replace(STCN, objects=4)
TOY = Case("read", FLOAT16, 16, 16, 2, 2, queries=9, top_k=3)
"""Small enough to interpret kernels, and without bfloat16, which triton's interpreter multiplies wrongly."""


def each(case: Case, operations: Iterable[str] = OPERATIONS, frames: Iterable[int] = (5,)) -> list[Case]:
    """Return a case with other operations and memory frames."""
    return [replace(case, operation=operation, frames=count) for operation in operations for count in frames]


def timed(toy: bool = False) -> list[Case]:
    """Return the cases that are timed."""
    if toy:
        return each(TOY, frames=(2,))
    float32 = replace(STM, dtype=FLOAT32)
    return [
        *each(STM, frames=FRAMES),
        *each(float32, ["read"], FRAMES),
        *each(float32, OPERATIONS[1:]),
        *each(STCN, ["read"], (5, 20)),
        *each(XMEM, ["read"], (5, 20)),
        *each(XMEM, OPERATIONS[1:]),
        *each(OBJECTS, ["read", "backward"]),
        CUTIE,
        replace(STM, dtype=FLOAT16),
        *each(replace(STCN, dtype=FLOAT32), ["top_k"], (20,)),
    ]


def checked(toy: bool = False) -> list[Case]:
    """Return the cases to check: all timed ones, which compiles them, and every op with every dtype and layout."""
    if toy:
        mixed = replace(TOY, dtype=FLOAT32, value_dtype=FLOAT16, affine=True, channels_last=True)
        return [*timed(toy), *each(mixed, OPERATIONS[:2])]
    cases = [
        *timed(),
        *each(replace(STM, dtype=FLOAT16)),
        *each(replace(STCN, affine=True)),
        *each(replace(STM, value_dtype=FLOAT32)),
        *each(replace(STM, dtype=FLOAT32, value_dtype=BFLOAT16)),
        *each(OBJECTS, OPERATIONS[2:]),
        *each(replace(STM, channels_last=True)),
        *each(replace(STM, packed=True)),
        *each(replace(STCN, dtype=FLOAT32, affine=True, channels_last=True)),
        replace(STM, key_channels=256, value_channels=1024),
        *(replace(STM, operation="top_k", top_k=best) for best in (1, 128)),
    ]
    return list(dict.fromkeys(cases))


def repeated(toy: bool = False) -> list[Case]:
    """Return the cases whose results must have the same bits every time."""
    return each(TOY, OPERATIONS[:2]) if toy else [*each(STM), *each(replace(STM, dtype=FLOAT32))]


def called(toy: bool = False) -> list[Case]:
    """Return the cases whose host time is measured: short reads, where it matters."""
    return each(TOY, OPERATIONS[:2]) if toy else [*each(STM, ["read"], (1, 5)), *each(STM, OPERATIONS[1:])]
