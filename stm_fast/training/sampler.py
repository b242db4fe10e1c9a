"""The clips of each step, by the seed and the step alone, so that any number of processes draws the same."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from stm_fast.errors import MediaError, StmFastError
from stm_fast.training.batch import Example, Packed, pack
from stm_fast.training.plan import Plan
from stm_fast.training.sampling import ClipSource, Sampling

MAX_ATTEMPTS = 1000
"""Draws of one clip after which the data is taken to hold no usable one."""


class Part(NamedTuple):
    """One micro-batch of one process: clips `first` to `last - 1` of a step."""

    step: int
    first: int
    last: int


class Clips(Dataset[Packed | MediaError]):
    """The clips of a run. Indexing by a `Part` draws its clips, or returns the error that prevents it.

    An epoch takes every picture and video of a round's data once, in an order of its own.

    Args:
        sources: the data of each round.
        plan: says how each step's clips are drawn.
        seed: of the draws.
    """

    def __init__(self, sources: Sequence[ClipSource], plan: Plan, seed: int) -> None:
        self._sources = sources
        self._plan = plan
        self._seed = seed

    def __getitem__(self, part: Part) -> Packed | MediaError:
        try:
            return self._draw(part)
        except StmFastError as error:
            return MediaError(str(error))  # raised in a worker, it would come with a traceback in its message

    def _draw(self, part: Part) -> Packed:
        place = self._plan.place(part.step)
        source = self._sources[place.round]
        examples = []
        for number in range(part.first, part.last):
            epoch, position = divmod(place.first_clip + number, len(source))
            index = int(_order(len(source), self._seed, place.round, epoch)[position])
            examples.append(draw(source, index, (self._seed, part.step, number), place.sampling))
        return pack(examples)


def draw(source: ClipSource, index: int, seed: Sequence[int], sampling: Sampling) -> Example:
    """Draw a clip from a picture or video, or from another one if it has none.

    Raises:
        StmFastError: no clip was found in many draws.
    """
    for attempt in range(MAX_ATTEMPTS):
        rng = np.random.default_rng([*seed, attempt])
        example = source.draw(index, rng, sampling)
        if example is not None:
            return example
        index = int(rng.integers(len(source)))
    raise StmFastError(
        f"the data has no clip of {sampling.frames} frames that begins with an object: {MAX_ATTEMPTS} draws found none"
    )


@lru_cache(maxsize=2)
def _order(length: int, seed: int, part: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, part, epoch]).permutation(length)


class Parts(Sampler[Part]):
    """The parts of a run that fall to one process, in order.

    Args:
        plan: the run.
        first_step: step to begin with.
        process: number of this process.
        processes: number of processes.
        accumulate: micro-batches per step.
    """

    def __init__(self, plan: Plan, first_step: int, process: int = 0, processes: int = 1, accumulate: int = 1) -> None:
        self._plan = plan
        self._first_step = first_step
        self._process, self._processes, self._accumulate = process, processes, accumulate

    def __iter__(self) -> Iterator[Part]:
        parts = self._processes * self._accumulate
        for step in range(self._first_step, self._plan.steps):
            clips = self._plan.place(step).sampling.clips
            for own in range(self._process * self._accumulate, (self._process + 1) * self._accumulate):
                yield Part(step, clips * own // parts, clips * (own + 1) // parts)

    def __len__(self) -> int:
        return (self._plan.steps - self._first_step) * self._accumulate
