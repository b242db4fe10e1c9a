"""Usage of a memory's tokens, counted by reads that are committed or rolled back."""

import torch
from torch import Tensor

from stm_fast.memory.storage import TokenStorage
from stm_fast.memory.tokens import Tokens


class UsageCounters:
    """Counts reads and the usage of each token.

    `add` counts a read. `roll_back` undoes that exactly, up to `commit` or the next `add`.

    Args:
        storage: the tokens, with their usage and the number of reads before each came.
        reads: number of reads so far.
    """

    def __init__(self, storage: TokenStorage, reads: int = 0) -> None:
        self.reads = reads
        self._storage = storage
        self._uncommitted: tuple[int, Tensor | None] | None = None

    def add(self, usage: Tensor | None) -> None:
        """Count a read.

        Args:
            usage: usage of each token `(K, N)`; None if not measured.
        """
        counted = self._storage.usage
        self._uncommitted = self.reads, None if usage is None else counted.clone()
        self.reads += 1
        if usage is not None:
            counted += usage

    def commit(self) -> None:
        """Keep the last read: `roll_back` no longer undoes it."""
        self._uncommitted = None

    def roll_back(self) -> None:
        """Undo the last `add` since `commit`; call it before the memory changes otherwise."""
        if self._uncommitted is None:
            return
        self.reads, usage = self._uncommitted
        self._uncommitted = None
        if usage is not None:
            with torch.inference_mode(self._storage.block.keys.is_inference()):
                self._storage.usage.copy_(usage)

    def rates(self, tokens: Tokens) -> Tensor:
        """Return how much each token was used per read since it came, `(K, n)`."""
        return self._rates(tokens.usage, tokens.born)

    def share(self, tokens: slice) -> float:
        """Return the share of what a location reads that comes from a range of tokens.

        It is averaged over objects, and over the reads since the tokens came.
        """
        block = self._storage.block
        rates = self._rates(block.usage[:, tokens], block.born[:, tokens])
        return float(rates.sum(1).mean()) / self._storage.tokens_per_frame

    def _rates(self, usage: Tensor, born: Tensor) -> Tensor:
        return usage / (self.reads - born).clamp(min=1)
