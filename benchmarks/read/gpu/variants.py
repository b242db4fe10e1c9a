"""Variants of tiles and of a launcher's options, which have to be timed to be ranked.

To try one, add a line to `VARIANTS`; its keywords are those of the launcher in `stm_fast.kernels`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import medians, ratio, relative_error
from benchmarks.read.cases import Case
from benchmarks.read.gpu.calls import operands
from benchmarks.read.gpu.cases import STM, TOY, XMEM, each
from benchmarks.read.gpu.check import poisoned
from benchmarks.read.gpu.clock import in_turns
from stm_fast.kernels.tiles import Tile


@dataclass(frozen=True)
class Variant:
    """An operation of `stm_fast.ops.tile_tuning` in a case, with keywords of its launcher.

    Its keywords are its name.
    """

    operation: str
    case: Case
    keywords: dict[str, Any] = field(hash=False)

    def __str__(self) -> str:
        said = ", ".join(
            _text_of(value) if isinstance(value, Tile) else f"{name} = {value}" for name, value in self.keywords.items()
        )
        where = str(self.case).partition(", ")[2]
        return f"{self.operation} with {said}: {where}"


def _text_of(tile: Tile) -> str:
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
    # Warp specialization: triton 3.7.1 cannot compile it.
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
    """Return all variants."""
    return TOYS if toy else VARIANTS


def check_variant(variant: Variant, _: str, device: torch.device) -> dict[str, Any]:
    """Return the distance of a variant's result to that of the table's tile, or why the chip cannot run it."""
    from triton.runtime.errors import OutOfResources, PTXASError

    launch = _launch(variant, device)
    expected = launch().double()
    try:
        with poisoned():
            found = launch(**variant.keywords)
    except (OutOfResources, PTXASError) as error:
        return {"too_large": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
    error, allowed = relative_error([found], [expected]), 2 * variant.case.tolerance
    return {"error": error, "tolerance": allowed, "wrong": not error < allowed}


def time_variant(variant: Variant, engine: str, device: torch.device) -> dict[str, Any]:
    """Time a variant in turns with the table's choice; return its time and how many times as fast it is."""
    result = check_variant(variant, engine, device)
    if "too_large" in result or result["wrong"]:
        return result
    launch = _launch(variant, device)
    times = in_turns({"table": launch, "variant": partial(launch, **variant.keywords)}, device)
    microseconds = {name: 1e6 * seconds for name, seconds in medians(times).items()}
    faster = ratio(times["table"], times["variant"])
    return result | {"microseconds": microseconds["variant"], "table": microseconds["table"], "ratio": faster}


def _launch(variant: Variant, device: torch.device) -> Callable[..., Tensor]:
    from stm_fast.ops import tile_tuning

    parts, value = operands(variant.case, device)
    return tile_tuning.operations(parts, value)[variant.operation]
