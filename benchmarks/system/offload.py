"""Compare a memory on disk with one in memory, and read ten million tokens.

    python -m benchmarks.system.offload [FOLDER]

FOLDER (default build/offload) must be on a disk with 13 GB free. First, 2,000 frames of the official network's size
(480 × 854: 30 × 54 locations; 128 + 512 channels; bfloat16) are put on disk and in memory. The 1,620 locations of a
frame read both in turns, after the file has been read once; results are compared, and medians reported. Then ten
million tokens on disk are read and checked at some queries against float64. Anonymous memory is memory that does not
belong to a file. Prints Markdown.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from benchmarks import machine
from benchmarks.harness import Turns, ratio
from benchmarks.process_memory import anonymous_growth
from stm_fast import MemoryPolicy
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.stores import DiskStore

KEY, VALUE, HEIGHT, WIDTH = 128, 512, 30, 54
FRAMES, MANY_TOKENS, ROUNDS, CHECKED = 2_000, 10_000_000, 3, 8
KINDS = 16
GIGABYTE = 1e9
PROGRESS = Console(stderr=True)
POLICY = MemoryPolicy(every=1, keep_previous=False)


def main(folder: str = "build/offload") -> None:
    """Print both tables."""
    print(machine.line(), end="\n\n")
    store = DiskStore(Path(folder))
    query = torch.randn(1, KEY, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)).bfloat16()
    beside_memory(store, query)
    many_tokens(store, query)


def beside_memory(store: DiskStore, query: Tensor) -> None:
    """Compare 2,000 frames on disk with the same frames in memory."""
    with anonymous_growth() as peak:
        stored = filled(MemoryBank(POLICY, store=store), FRAMES)
        first, on_disk = timed_read(stored, query)
    held = filled(MemoryBank(POLICY), FRAMES)
    in_memory = held.read(query)
    difference = (on_disk.double() - in_memory.double()).abs().max() / in_memory.double().abs().max()
    turns = [
        [timed_read(bank, query)[0] for bank in (stored, held)]
        for _ in track(Turns(ROUNDS), "Reading both in turns", total=ROUNDS, console=PROGRESS)
    ]
    columns = list(zip(*turns, strict=True))
    disk, memory = map(statistics.median, columns)
    print(f"| {FRAMES} frames, {held.tokens:,} tokens | on disk | in memory |\n|---|---|---|")
    print(f"| keys and values | {stored.stored_bytes / GIGABYTE:.1f} GB | {held.nbytes / GIGABYTE:.1f} GB reserved |")
    print(f"| peak of anonymous memory while filled and read | {peak[0] / GIGABYTE:.2f} GB | |")
    print(f"| first read | {first:.2f} s | |")
    print(f"| a read | {disk:.2f} s | {memory:.2f} s |")
    print(f"| ratio, median of {ROUNDS} turns | {ratio(*columns):.2f} | 1 |")
    print(f"| largest difference, relative to the largest number | {difference:.1e} | |\n", flush=True)


def many_tokens(store: DiskStore, query: Tensor) -> None:
    """Read ten million tokens on disk."""
    frames = -(-MANY_TOKENS // (HEIGHT * WIDTH))
    with anonymous_growth() as peak:
        begin = time.perf_counter()
        bank = filled(MemoryBank(POLICY, store=store), frames)
        filling = time.perf_counter() - begin
        seconds, readout = timed_read(bank, query)
    chosen = torch.linspace(0, HEIGHT * WIDTH - 1, CHECKED).long()
    truth = exactly(query.flatten(2)[0, :, chosen].double(), frames)
    found = readout.flatten(2)[0, :, chosen].double()
    error = (found - truth).abs().max() / truth.abs().max()
    operations = 2 * HEIGHT * WIDTH * bank.tokens * (KEY + VALUE)
    print(f"| {bank.tokens:,} tokens on disk | |\n|---|---|")
    print(f"| keys and values | {bank.stored_bytes / GIGABYTE:.1f} GB |")
    print(f"| filling | {filling:.0f} s |")
    print(f"| a read by {HEIGHT * WIDTH} queries | {seconds:.1f} s, {operations / seconds / 1e9:.0f} GFLOP/s |")
    print(f"| peak of anonymous memory | {peak[0] / GIGABYTE:.2f} GB |")
    print(f"| error at {CHECKED} queries against float64, relative to the largest number | {error:.1e} |")


def frame(index: int) -> tuple[Tensor, Tensor]:
    """Return keys and values of a frame: one of a few, shifted, so that frames are cheap and no two are equal."""
    kind, shift = index % KINDS, index // KINDS
    if not _kinds:
        generator = torch.Generator().manual_seed(0)
        shape = (KINDS, 1, KEY + VALUE, HEIGHT * WIDTH)
        _kinds.extend(torch.randn(shape, generator=generator).bfloat16())
    both = _kinds[kind].roll(shift, 1).view(1, KEY + VALUE, HEIGHT, WIDTH)
    return both[:, :KEY], both[:, KEY:]


_kinds: list[Tensor] = []


def filled(bank: MemoryBank, frames: int) -> MemoryBank:
    """Fill a bank with that many frames and return it."""
    for index in track(range(frames), "Filling", console=PROGRESS):
        bank.memorise(index, *frame(index))
    return bank


def timed_read(bank: MemoryBank, query: Tensor) -> tuple[float, Tensor]:
    """Return the seconds that a read takes, and its readout."""
    begin = time.perf_counter()
    readout = bank.read(query)
    return time.perf_counter() - begin, readout


def exactly(queries: Tensor, frames: int) -> Tensor:
    """Read with some queries `(KEY, n)` in float64, frame by frame; return `(VALUE, n)`."""
    count = queries.shape[1]
    running_max, running_sum = queries.new_full((count,), -torch.inf), queries.new_zeros(count)
    value = queries.new_zeros(VALUE, count)
    for index in range(frames):
        keys, values = (part.flatten(2)[0].double() for part in frame(index))
        scores = keys.T @ queries / KEY**0.5
        new_max = torch.maximum(running_max, scores.amax(0))
        weights, shrink = (scores - new_max).exp(), (running_max - new_max).exp()
        value, running_sum = value * shrink + values @ weights, running_sum * shrink + weights.sum(0)
        running_max = new_max
    return value / running_sum


if __name__ == "__main__":
    main(*sys.argv[1:])
