"""Predict from counts how long the Triton kernels take on a GPU. Nothing here has been measured.

    python -m benchmarks.read.gpu.model [--gpu "H100 SXM"] [--gap MICROSECONDS]

Each term is the time that one part of the chip would need if a kernel waited for nothing else. The work per iteration
of the loop over tiles is counted from the launcher's tiles, its instructions are from `tools/triton_budgets.json`:

- tensor: multiply-adds, at the peak rate;
- issue: instructions of all warps, four per processor and clock;
- exp: exponentials, at the rate of the special function units;
- shared: operands that wgmma reads from shared memory, 128 bytes per clock;
- L2: tiles fetched from L2, and each program's own tile once. The bandwidth is an assumption;
- DRAM: inputs and outputs once, and the sums of splits;
- merge: the sums of splits once more, by the kernel that adds them;
- launch: the kernels of the call, times the gap between two launches. That gap is an assumption.

All terms but the last three are those of the processor with most programs. The optimistic time is the longest of the
terms that can overlap, plus merge; or launch, if that is longer. The sum assumes no overlap at all. Neither is a bound:
no term includes latency, barriers, misses in L2 or a clock that falls under load, so a kernel can take longer than the
sum. For top-k only the first kernel counts: two passes, without appending and sorting.
"""

import argparse
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch

from stm_fast.kernels import chips, launch, tiles
from stm_fast.kernels.splits import MERGE_LAUNCH, Work, results_time, split_count, tile_time
from stm_fast.kernels.tiles import Tile
from tools import triton_budgets

QUERIES = 1620
FRAMES = (1, 5, 20, 100)
ITEM = 2
"""Bytes per number, in reads of 16 bits."""
GAP = 5.0
"""Microseconds from one launch to the next, assumed; `benchmarks.read.gpu.first_light` measures it."""
ISSUED = 4
"""Instructions that a processor issues per clock."""
SHARED_BYTES = 128
"""Bytes that a processor reads from shared memory per clock."""
WGMMA_ROWS = 64
"""Rows of one product's left operand; the right operand is read again for every 64 rows."""


class GPU(NamedTuple):
    """Public figures of a GPU, except for the bandwidth of L2.

    Attributes:
        chip: its class in `stm_fast.kernels.chips`.
        processors: number of processors.
        gigahertz: boost clock of the processors.
        products: 16-bit multiply-adds of a processor's tensor cores per clock.
        exponentials: exponentials of a processor per clock.
        l2: TB/s from L2 to all processors; assumed, from others' measurements of an H100.
        dram: TB/s of DRAM.
    """

    chip: str
    processors: int
    gigahertz: float
    products: int
    exponentials: int
    l2: float
    dram: float

    def microseconds(self, clocks: float) -> float:
        """Return the time of a number of clocks."""
        return clocks / self.gigahertz / 1e3


GPUS = {
    "H100 SXM": GPU("sm_90", 132, 1.83, 2048, 16, 5.5, 3.35),
    "H200 SXM": GPU("sm_90", 132, 1.83, 2048, 16, 5.5, 4.8),
}
READS = {shape.name: shape for shape in triton_budgets.SHAPES if shape.name in ("STM", "STCN")}
OPERATIONS = {
    "dense": "read",
    "query_gradient": "query_gradient",
    "key_gradient": "key_gradient",
    "value_gradient": "value_gradient",
    "usage": "usage",
    "candidates": "top_k",
}
"""Kernels, and the names of their operations in `stm_fast.kernels.tiles`."""
CANDIDATES = 32
"""Candidates that a split of the top-k read keeps per query."""
OWN_QUERIES = ("dense", "query_gradient", "candidates")
"""Kernels whose programs own queries and split the memory; programs of others own tokens."""
PASSES = {"candidates": 2}
"""Passes over the memory, if more than one."""
MORE_LAUNCHES = {"query_gradient": 3, "key_gradient": 2, "value_gradient": 2, "usage": 1}
"""Launches beside the kernel: sums over splits, and copies of queries and gradients for descriptors to read."""


class Product(NamedTuple):
    """A product `[m, k] · [k, n]` of a tile; the left operand is in shared memory or in registers."""

    m: int
    n: int
    k: int
    left_in_shared: bool

    @property
    def shared_bytes(self) -> int:
        """Bytes that are read from shared memory."""
        return ITEM * self.m // WGMMA_ROWS * self.k * (self.n + (WGMMA_ROWS if self.left_in_shared else 0))


class Turn(NamedTuple):
    """Work of a kernel per tile, and what a program fetches once."""

    products: list[Product]
    exponentials: int
    bytes: int
    own_bytes: int


class Prediction(NamedTuple):
    """Microseconds of each term; see the module."""

    splits: int
    tensor: float
    issue: float
    exp: float
    shared: float
    l2: float
    dram: float
    merge: float
    launch: float

    @property
    def overlapping(self) -> dict[str, float]:
        """The terms that may overlap."""
        return {name: getattr(self, name) for name in ("tensor", "issue", "exp", "shared", "l2", "dram")}

    @property
    def optimistic(self) -> float:
        """Microseconds with perfect overlap."""
        return max(max(self.overlapping.values()) + self.merge, self.launch)

    @property
    def total(self) -> float:
        """Microseconds without any overlap."""
        return sum(self.overlapping.values()) + self.merge + self.launch

    @property
    def longest(self) -> str:
        """The name of the longest term."""
        terms = {**self.overlapping, "merge": self.merge, "launch": self.launch}
        return max(terms, key=terms.__getitem__)


def turn_of(kernel: str, tile: Tile, channels: int, value_channels: int) -> Turn:
    """Return the work of a kernel per tile, given the channels of keys and values."""
    own, other = (tile.queries, tile.tokens) if kernel in OWN_QUERIES else (tile.tokens, tile.queries)
    part = min(tile.value_channels, value_channels)
    passes = PASSES.get(kernel, 1)
    scores = Product(own, other, channels, left_in_shared=True)
    products, fetched, held = [scores] * passes, channels, channels
    if kernel in ("dense", "value_gradient"):
        products.append(Product(own, part, other, left_in_shared=False))
        fetched += part
    elif kernel in ("query_gradient", "key_gradient"):
        products.append(Product(own, other, value_channels, left_in_shared=True))
        products.append(Product(own, channels, other, left_in_shared=False))
        fetched += value_channels
        held += value_channels
    exponentials = 0 if kernel == "candidates" else own * other + (own if kernel == "dense" else 0)
    return Turn(products, exponentials, ITEM * passes * other * fetched, ITEM * own * held)


def predict(
    gpu: GPU,
    kernel: str,
    tile: Tile,
    needs: dict[str, int],
    channels: int,
    value_channels: int,
    frames: int,
    gap: float = GAP,
    queries: int = QUERIES,
) -> Prediction:
    """Predict the time of a kernel and the one that merges its splits.

    Args:
        gpu: the GPU.
        kernel: one of `OPERATIONS`.
        tile: its tile.
        needs: its budget.
        channels: of keys.
        value_channels: of values.
        frames: memory frames, each with as many tokens as there are queries.
        gap: microseconds from one launch to the next.
        queries: number of queries.
    """
    tokens = queries * frames
    turn = turn_of(kernel, tile, channels, value_channels)
    slices = launch.blocks(value_channels, tile.value_channels) if kernel in ("dense", "value_gradient") else 1
    query_tiles, token_tiles = launch.blocks(queries, tile.queries), launch.blocks(tokens, tile.tokens)
    splits = 1
    if kernel in OWN_QUERIES:
        work = _work(gpu, kernel, tile, channels, value_channels, queries)
        splits = split_count(work._replace(programs=query_tiles * slices, tiles=token_tiles), gpu.processors)
        programs, turns = query_tiles * slices * splits, launch.blocks(token_tiles, splits)
    else:
        programs, turns = token_tiles * slices, query_tiles
    programs_per_processor = launch.blocks(programs, gpu.processors)
    clocks = gpu.microseconds(programs_per_processor * turns)
    issued = PASSES.get(kernel, 1) * needs["instructions"] * needs["warps"] / ISSUED
    moved, summed = _traffic(kernel, channels, value_channels, queries, tokens, splits)
    return Prediction(
        splits=splits,
        tensor=clocks * sum(product.m * product.n * product.k for product in turn.products) / gpu.products,
        issue=clocks * issued,
        exp=clocks * turn.exponentials / gpu.exponentials,
        shared=clocks * sum(product.shared_bytes for product in turn.products) / SHARED_BYTES,
        l2=programs_per_processor * (turns * turn.bytes + turn.own_bytes) * gpu.processors / gpu.l2 / 1e6,
        dram=moved / gpu.dram / 1e6,
        merge=summed / gpu.dram / 1e6,
        launch=gap * (1 + MORE_LAUNCHES.get(kernel, 0) + (kernel == "dense" and splits > 1)),
    )


def _work(gpu: GPU, kernel: str, tile: Tile, channels: int, value_channels: int, queries: int) -> Work:
    """Return the work per tile and per split's results that the kernel's launcher passes to `split_count`."""
    number = torch.empty(0, dtype=torch.bfloat16, device="meta")
    columns = {"dense": (channels, tile.value_channels), "query_gradient": (2 * channels, value_channels)}
    results = {"dense": 4 * value_channels, "query_gradient": 4 * channels, "candidates": 8 * CANDIDATES}
    with chips.pretending(chips.CHIPS[gpu.chip]):
        return Work(
            programs=1,
            tiles=1,
            tile=tile_time(tile, *columns.get(kernel, (2 * channels, 0)), number, number),
            results=results_time(queries, results[kernel], number.device),
            merge=MERGE_LAUNCH if kernel == "dense" else 0.0,
        )


def _traffic(
    kernel: str, channels: int, value_channels: int, queries: int, tokens: int, splits: int
) -> tuple[int, int]:
    """Return the bytes moved by a kernel and by merging its splits."""
    keys, values = ITEM * channels * tokens, ITEM * value_channels * tokens
    asked, readout = ITEM * channels * queries, ITEM * value_channels * queries
    match kernel:
        case "dense" if splits > 1:
            sums = 4 * splits * value_channels * queries
            return keys + values + asked + sums, sums + readout
        case "query_gradient":
            sums = 4 * splits * channels * queries
            return keys + values + asked + readout + sums, sums + asked
        case "key_gradient":
            return 2 * keys + values + asked + readout, 0
        case "usage" | "candidates":
            return PASSES.get(kernel, 1) * (keys + asked), 0
    return keys + values + asked + readout, 0


def tile_of(kernel: str, chip: str, shape: triton_budgets.Shape) -> Tile:
    """Return the table's tile for a read."""
    with chips.pretending(chips.CHIPS[chip]):
        room = shape.capacity or shape.tokens
        key = torch.empty(1, shape.channels, room, dtype=shape.key, device="meta")
        value = torch.empty(1, 1, shape.value_channels, room, dtype=shape.value, device="meta")
        return tiles.tile_for(OPERATIONS[kernel], key, key if kernel in ("usage", "candidates") else value)


def pinned() -> str:
    """Return the version of triton that this package is developed with."""
    found = re.search(r"^triton==(\S+)", (Path(__file__).parents[3] / "requirements.txt").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError("requirements.txt does not pin triton")
    return found[1]


def table(gpu: GPU, reads: list[str], gap: float = GAP) -> str:
    """Return predictions as Markdown."""
    terms = ("tensor", "issue", "exp", "shared", "l2", "dram", "merge", "launch")
    spoken = (name.upper() if name in ("l2", "dram") else name for name in terms)
    heads = ("read", "kernel", "T", "splits", *spoken, "optimistic", "sum", "longest", "TFLOP/s")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    budgets = triton_budgets.budgets_of(pinned())[gpu.chip]
    for read in reads:
        shape = READS[read]
        channels, value_channels = shape.channels, shape.value_channels
        for kernel in OPERATIONS:
            tile = tile_of(kernel, gpu.chip, shape)
            needs = budgets[read][f"{kernel}_kernel"]
            for frames in FRAMES:
                found = predict(gpu, kernel, tile, needs, channels, value_channels, frames, gap)
                useful = _useful(kernel, channels, value_channels, frames)
                cells: list[Any] = [read, kernel, frames, found.splits]
                cells += [f"{getattr(found, name):.1f}" for name in terms]
                cells += [f"{found.optimistic:.0f}", f"{found.total:.0f}", found.longest.replace("l2", "L2")]
                cells.append(f"{useful / found.total:.0f} - {useful / found.optimistic:.0f}")
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _useful(kernel: str, channels: int, value_channels: int, frames: int) -> float:
    """Return the millions of operations that a task needs, without those that slices, passes and tiles add."""
    channels_per_pair = {
        "dense": channels + value_channels,
        "query_gradient": 2 * channels + value_channels,
        "key_gradient": 2 * channels + value_channels,
        "value_gradient": channels + value_channels,
    }
    return 2e-6 * QUERIES * QUERIES * frames * channels_per_pair.get(kernel, channels)


def main(arguments: list[str] | None = None) -> None:
    """Print the predictions."""
    parser = argparse.ArgumentParser(prog="benchmarks.read.gpu.model", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpu", choices=GPUS, default="H100 SXM", help="default: %(default)s")
    parser.add_argument("--gap", type=float, default=GAP, help="microseconds from one launch to the next (%(default)s)")
    options = parser.parse_args(arguments)
    print(f"{options.gpu}, microseconds, triton {pinned()}; predicted from counts, nothing here has been measured\n")
    print(table(GPUS[options.gpu], list(READS), options.gap))


if __name__ == "__main__":
    main()
