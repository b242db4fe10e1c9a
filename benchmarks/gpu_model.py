"""What GPUs should reach, on paper: counted work over public peak rates, and occupancy from the compiled kernels.

    python -m benchmarks.gpu_model

A prediction, not a measurement: docs/gpu.md says so wherever it shows a figure of it. For the dense read:

- matrix time: products of queries with keys, once for every slice of the value's channels, and of weights with values,
  each at the rate of its dtype;
- exp time: one exponential a score and slice;
- memory time: keys, values, queries and readout, once each, and the partial readouts written and merged;
- the limit is the longest of the three, reached if they overlap perfectly; their sum is what is left without overlap.

Programs come in waves: time grows by what the last wave leaves idle.
"""

import json
from typing import NamedTuple

from stm_fast.kernels import chips, launch, tiles
from tools import triton_budgets as budgets

QUERIES = 1620


class Peak(NamedTuple):
    """Public figures of a product: TFLOP/s of dense bfloat16 and of float32 (on AMD those of matrix units), TB/s,
    processors, GHz; of a processor: exponentials a clock, 32-bit registers, KB of shared memory."""

    product: str
    tflops: float
    float32: float
    bandwidth: float
    processors: int
    clock: float
    exponentials: int
    registers: int
    shared: int


PEAKS = {
    "sm_80": Peak("A100 80 GB", 312, 19.5, 2.04, 108, 1.41, 16, 65536, 164),
    "sm_86": Peak("RTX 3090", 71, 35.6, 0.936, 82, 1.70, 16, 65536, 100),
    "sm_90": Peak("H100 SXM", 989, 67, 3.35, 132, 1.83, 16, 65536, 228),
    "sm_100": Peak("B200", 2250, 80, 8.0, 148, 1.85, 16, 65536, 228),
    "gfx90a": Peak("MI250X, one die", 191, 47.9, 1.64, 110, 1.70, 16, 131072, 64),
    "gfx942": Peak("MI300X", 1307, 163.4, 5.3, 304, 2.10, 16, 131072, 64),
}
SHAPES = {"STM": (128, 512, 16), "STCN": (64, 512, 16), "Small": (64, 256, 16), "XMem": (128, 512, 32)}
"""Channels of keys and values, and bits of the keys. XMem's 64 channels are 128 of float32 with its selection."""


class Prediction(NamedTuple):
    """Microseconds of a dense read, and how it is cut."""

    matrix: float
    exponentials: float
    memory: float
    parts: int
    waves: float

    @property
    def limit(self) -> float:
        """With perfect overlap."""
        return max(self.matrix, self.exponentials, self.memory)

    @property
    def total(self) -> float:
        """Without overlap."""
        return self.matrix + self.exponentials + self.memory


def predict(chip: str, channels: int, rows: int, key_bits: int, frames: int) -> Prediction:
    """The dense read of `frames` memory frames at 480p, with the table's tile."""
    peak = PEAKS[chip]
    tile = tiles.narrowed(tiles.row_for("read", chip, key_bits, 16).tile, rows)
    tokens = QUERIES * frames
    slices = launch.blocks(rows, tile.rows)
    programs = launch.blocks(QUERIES, tile.queries) * slices
    parts = launch.split(programs, launch.blocks(tokens, tile.tokens), peak.processors)
    waves = launch.blocks(programs * parts, peak.processors) / (programs * parts / peak.processors)
    pairs = launch.blocks(QUERIES, tile.queries) * tile.queries * tokens
    merged = 2 * 4 * parts * rows * QUERIES if parts > 1 else 0
    moved = (tokens + QUERIES) * (channels * key_bits // 8 + 2 * rows) + merged
    keys_at = peak.tflops if key_bits == 16 else peak.float32
    return Prediction(
        matrix=1e-6 * waves * 2 * pairs * (slices * channels / keys_at + rows / peak.tflops),
        exponentials=1e-3 * waves * slices * pairs / (peak.processors * peak.clock * peak.exponentials),
        memory=1e-6 * moved / peak.bandwidth,
        parts=parts,
        waves=waves,
    )


def programs_a_processor(chip: str, needs: dict[str, int]) -> int:
    """How many programs of a kernel fit on one processor, by registers and shared memory."""
    peak = PEAKS[chip]
    by_registers = peak.registers // (max(needs["registers"], 1) * needs["warps"] * chips.CHIPS[chip].warp)
    reserved = 1024 if chips.CHIPS[chip].backend == "cuda" else 0
    by_shared = peak.shared * 1024 // (needs["shared"] + reserved or 1)
    return max(1, min(by_registers, by_shared))


def main() -> None:
    """Print both tables."""
    measured = json.loads(budgets.FILE.read_text())
    heads = "chip", "read", "T", "parts", "matrix", "exp", "memory", "limit", "no overlap", "TFLOP/s"
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for chip, peak in PEAKS.items():
        for name, (channels, rows, key_bits) in SHAPES.items():
            for frames in (5, 20, 100):
                p = predict(chip, channels, rows, key_bits, frames)
                work = 2e-6 * QUERIES * QUERIES * frames * (channels + rows)
                print(
                    f"| {chip} ({peak.product}) | {name} ({channels}, {rows}) | {frames} | {p.parts} | {p.matrix:.1f} "
                    f"| {p.exponentials:.1f} | {p.memory:.1f} | {p.limit:.1f} | {p.total:.1f} "
                    f"| {work / p.total:.0f} - {work / p.limit:.0f} |"
                )
    print("\n| chip | kernel | registers a thread | shared KB | programs a processor |\n|---|---|---|---|---|")
    for chip in PEAKS:
        for kernel, needs in measured[chip]["STM"].items():
            print(
                f"| {chip} | {kernel.removesuffix('_kernel')} | {needs['registers']} | {needs['shared'] / 1024:.0f} "
                f"| {programs_a_processor(chip, needs)} |"
            )


if __name__ == "__main__":
    main()
