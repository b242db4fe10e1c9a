"""What compiling could not decide: the same operation with another tile, or another option of its launcher.

To try something, add a line to `VARIANTS`; its keywords are those of the launcher in `stm_fast.kernels`.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Case
from benchmarks.gpu.calls import operands
from benchmarks.gpu.cases import STM, TOY, XMEM, each
from benchmarks.gpu.check import largest_error, poisoned, tolerance
from benchmarks.gpu.clock import in_turns
from stm_fast.kernels.tiles import Tile


@dataclass(frozen=True)
class Variant:
    """An operation of `stm_fast.kernels.tuning` in a case, with keywords of its launcher.

    It is named by its keywords.
    """

    operation: str
    case: Case
    keywords: dict[str, Any] = field(hash=False)

    def __str__(self) -> str:
        said = ", ".join(
            _spoken(value) if isinstance(value, Tile) else f"{name} = {value}" for name, value in self.keywords.items()
        )
        where = str(self.case).partition(", ")[2]
        return f"{self.operation} with {said}: {where}"


def _spoken(tile: Tile) -> str:
    options = [name for name, chosen in zip(Tile._fields[5:], tile[5:], strict=True) if chosen]
    return ", ".join(
        [f"tile {' x '.join(map(str, tile[:3]))}", f"{tile.warps} warps", f"{tile.stages} stages", *options]
    )


def _tiles(operation: str, cases: list[Case], *found: Tile) -> list[Variant]:
    return [Variant(operation, case, {"tile": tile}) for case in cases for tile in found]


VARIANTS = [
    *_tiles(
        "read",
        each(STM, ["read"], (5, 20)),
        Tile(128, 64, 256, 8, 2),
        Tile(128, 32, 256, 8, 3),
        Tile(64, 64, 256, 4, 3),
        Tile(64, 64, 256, 8, 3),
    ),
    # Warps that load: triton 3.7.1 cannot compile them.
    *_tiles("read", [replace(STM, channels_last=True)], Tile(128, 128, 128, 4, 2, specialized=True)),
    *(Variant("read", STM, {"splits": splits}) for splits in (2, 4, 5, 10)),
    *_tiles(
        "read",
        [XMEM],
        Tile(32, 32, 512, 8, 2),
        Tile(128, 32, 128, 8, 3, split_float32=True),
        Tile(128, 32, 256, 8, 2, split_float32=True),
    ),
    *_tiles("query_gradient", [STM], Tile(128, 64, 64, 8, 2), Tile(128, 64, 64, 8, 3), Tile(64, 32, 512, 4, 2)),
    *_tiles("key_gradient", [STM], Tile(64, 64, 64, 8, 2), Tile(64, 128, 64, 8, 2), Tile(32, 64, 512, 4, 2)),
    *_tiles("value_gradient", [STM], Tile(64, 128, 256, 8, 3), Tile(64, 64, 256, 8, 3), Tile(64, 128, 128, 8, 3)),
    *_tiles("usage", [STM], Tile(64, 64, 16, 4, 3), Tile(128, 128, 16, 8, 3)),
    *_tiles("top_k", [STM], Tile(64, 64, 16, 8, 2), Tile(64, 64, 16, 4, 2)),
]
TOYS = [
    Variant("read", TOY, {"tile": Tile(16, 16, 16, 4, 1), "splits": 2}),
    Variant("usage", TOY, {"tile": Tile(16, 32, 16, 4, 1)}),
]


def variants(toy: bool) -> list[Variant]:
    """All of them."""
    return TOYS if toy else VARIANTS


def check_variant(variant: Variant, _: str, device: torch.device) -> dict[str, Any]:
    """The distance of a variant's result to that of the table's tile; or why the chip cannot hold it."""
    from triton.runtime.errors import OutOfResources, PTXASError

    launch = _launch(variant, device)
    expected = launch().double()
    try:
        with poisoned():
            found = launch(**variant.keywords)
    except (OutOfResources, PTXASError) as error:
        return {"too_large": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
    error, allowed = largest_error([found], [expected]), 2 * tolerance(variant.case)
    return {"error": error, "tolerance": allowed, "wrong": not error < allowed}


def time_variant(variant: Variant, engine: str, device: torch.device) -> dict[str, Any]:
    """A variant in turns with the table's choice; its time, and how many times faster it is."""
    result = check_variant(variant, engine, device)
    if "too_large" in result or result["wrong"]:
        return result
    launch = _launch(variant, device)
    times = in_turns({"table": launch, "variant": partial(launch, **variant.keywords)}, device)
    ratio = statistics.median(a / b for a, b in zip(times["table"], times["variant"], strict=True))
    medians = {name: 1e6 * statistics.median(seconds) for name, seconds in times.items()}
    return result | {"microseconds": medians["variant"], "table": medians["table"], "ratio": ratio}


def _launch(variant: Variant, device: torch.device) -> Callable[..., Tensor]:
    from stm_fast.kernels import launch, tuning

    parts, value = operands(variant.case, device)
    return tuning.operations(launch.Operands(*parts), value)[variant.operation]
