"""Several sources as one."""

from collections.abc import Iterable
from itertools import accumulate

import numpy as np

from stm_fast.errors import ArgumentError
from stm_fast.training.batch import Example
from stm_fast.training.sampling import ClipSource, Sampling


class MixedSource:
    """Several sources, each drawn from a number of times per epoch.

    STCN's second stage has YouTube-VOS once and DAVIS five times (github.com/hkchengrex/STCN, `train.py`).

    Args:
        parts: sources and how often each of their pictures or videos is drawn per epoch, at least once.

    Raises:
        ArgumentError: there is no source, or a number is less than one.
    """

    def __init__(self, parts: Iterable[tuple[ClipSource, int]]) -> None:
        self.parts = tuple(parts)
        if not self.parts:
            raise ArgumentError("parts", "must hold at least one source, got none")
        for _, repeat in self.parts:
            if repeat < 1:
                raise ArgumentError("repeat", f"must be at least 1, got {repeat}")
        self._ends = tuple(accumulate(repeat * len(source) for source, repeat in self.parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def draw(self, index: int, rng: np.random.Generator, sampling: Sampling) -> Example | None:
        """Draw a clip from the picture or video that `index` stands for; see `ClipSource`."""
        part = int(np.searchsorted(self._ends, index, side="right"))
        source, _ = self.parts[part]
        return source.draw((index - (self._ends[part - 1] if part else 0)) % len(source), rng, sampling)
