"""Read a memory that is not in one place, part by part, and merge the reads exactly.

The parts may be on disk, on other devices, or of different kinds (working and long-term memory). Only one part is
needed at a time. What is kept between parts has the size of one readout.

Run: python examples/merge_parts.py
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from stm_fast import memory_read, merge_reads


def stored_parts(parts: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield keys `(1, 64, T, H, W)` and values `(1, 256, T, H, W)` part by part, as if loaded from a store."""
    for seed in range(parts):
        generator = torch.Generator().manual_seed(seed)
        yield (
            torch.randn(1, 64, 2, 10, 18, generator=generator),
            torch.randn(1, 256, 2, 10, 18, generator=generator),
        )


def main() -> None:
    """Compare reading part by part with reading everything at once."""
    query_key = torch.randn(1, 64, 10, 18, generator=torch.Generator().manual_seed(99))
    merged = None
    for memory_key, memory_value in stored_parts(parts=5):
        part = memory_read(query_key, memory_key, memory_value, return_lse=True)
        reads = [(part.value, part.lse)]
        merged = merge_reads(reads if merged is None else [merged, *reads])

    keys, values = zip(*stored_parts(parts=5), strict=True)
    whole = memory_read(query_key, torch.cat(keys, 2), torch.cat(values, 2))
    torch.testing.assert_close(merged[0], whole, rtol=1e-5, atol=1e-5)
    print(f"5 parts merged: readout {tuple(whole.shape)} equal to the read of the whole memory")


if __name__ == "__main__":
    main()
