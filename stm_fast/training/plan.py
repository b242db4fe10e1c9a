"""Where each step of a recipe lies: its round, its stage, its clips."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from stm_fast.training.recipe import MaxSkip, Recipe, Stage
from stm_fast.training.sampling import Sampling


@dataclass(frozen=True)
class Place:
    """The place of a step in a recipe.

    Attributes:
        round: number of its round, from 0.
        step: its number in the round, from 0.
        first_clip: clips drawn in the round before it.
        sampling: how its clips are drawn.
    """

    round: int
    step: int
    first_clip: int
    sampling: Sampling


@dataclass(frozen=True)
class _Span:
    """A stage with its place: first step and number of steps in the run, and first clip in the round."""

    round: int
    stage: Stage
    first_step: int
    steps: int
    first_clip: int


class Plan:
    """The steps of a recipe, once the sizes of its data are known.

    Args:
        recipe: with stages in steps or in epochs.
        lengths: pictures and videos in the data of each round, which are the clips of an epoch.
    """

    def __init__(self, recipe: Recipe, lengths: Sequence[int]) -> None:
        self.recipe = recipe
        self._lengths = lengths
        self._spans: list[_Span] = []
        first_step = 0
        for index, (part, length) in enumerate(zip(recipe.rounds, lengths, strict=True)):
            first_clip = 0
            for stage in part.stages:
                steps = stage.steps or -(-(stage.epochs or 0) * length // stage.clips)
                self._spans.append(_Span(index, stage, first_step, steps, first_clip))
                first_step, first_clip = first_step + steps, first_clip + steps * stage.clips
        self.round_steps = tuple(
            sum(span.steps for span in self._spans if span.round == index) for index in range(len(recipe.rounds))
        )
        self.round_ends = tuple(accumulate(self.round_steps))

    @property
    def steps(self) -> int:
        """Steps of all rounds."""
        return self.round_ends[-1]

    def place(self, step: int) -> Place:
        """Return the place of a step, counted from 0."""
        if not 0 <= step < self.steps:
            raise ValueError(f"step must be from 0 to {self.steps - 1}, got {step}")
        span = self._spans[bisect_right([span.first_step for span in self._spans], step) - 1]
        within = step - span.first_step
        stage = span.stage
        sampling = Sampling(
            clips=stage.clips,
            frames=stage.frames,
            size=stage.size,
            max_objects=stage.max_objects,
            max_skip=max_skip(stage.max_skip, within * stage.clips // self._lengths[span.round]),
            smallest_crop=stage.smallest_crop,
        )
        round_start = self.round_ends[span.round] - self.round_steps[span.round]
        return Place(span.round, step - round_start, span.first_clip + within * stage.clips, sampling)


def max_skip(skip: MaxSkip, epoch: int) -> int:
    """Return how many frames may be left out between two frames of a clip, in an epoch (0-based) of its stage."""
    return min(skip.first + skip.increase * (epoch // skip.every_epochs), max(skip.limit, skip.first))
