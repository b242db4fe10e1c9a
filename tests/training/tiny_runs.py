"""A training run of seconds: coloured squares that move over noise, and the compact network on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stm_fast.training.accelerator import make_accelerator
from stm_fast.training.batch import Example
from stm_fast.training.data import TrainingData
from stm_fast.training.recipe import DataEntry, Optimizer, Recipe, Round, Stage, Validation
from stm_fast.training.sampling import Sampling
from stm_fast.training.trainer import Trainer

ENTRY = DataEntry("squares")
STAGE = Stage(steps=2, clips=2, frames=3, size=32, max_objects=2)
TINY = Recipe(
    model="compact",
    start="none",
    data=(ENTRY,),
    rounds=(Round((STAGE,)),),
    optimizer=Optimizer("adamw", 1e-3),
    freeze=("batch-norm", "depthwise", "early"),
    validation=Validation(every=1000, data=(ENTRY,), clips=2, size=32),
    workers=0,
)


class MovingSquares:
    """Clips of one or two squares, each in a colour of its own; every third draw has none."""

    def __init__(self, length: int = 5, misses: int = 3) -> None:
        self.length, self.misses = length, misses

    def __len__(self) -> int:
        return self.length

    def draw(self, index: int, rng: np.random.Generator, sampling: Sampling) -> Example | None:
        if self.misses and rng.integers(self.misses) == 0:
            return None
        size, side = sampling.size, sampling.size // 3
        frames = rng.integers(0, 60, (sampling.frames, size, size, 3), np.uint8)
        masks = np.zeros((sampling.frames, size, size), np.uint8)
        for number in range(1, 1 + int(rng.integers(1, sampling.max_objects + 1))):
            row, column = rng.integers(0, size - side, 2)
            for time in range(sampling.frames):
                top, left = min(row + time, size - side), min(column + 2 * time, size - side)
                masks[time, top : top + side, left : left + side] = number
            frames[masks == number, (index + number) % 3] += 180
        present = 1 + np.flatnonzero(np.bincount(masks[0].ravel(), minlength=8)[1:])
        table = np.zeros(256, np.uint8)
        table[present] = np.arange(1, len(present) + 1)
        return frames, table[masks]


def squares(rounds: int = 1) -> TrainingData:
    return TrainingData((MovingSquares(),) * rounds, MovingSquares(3))


def trainer(recipe: Recipe, folder: Path, data: TrainingData | None = None) -> Trainer:
    """Make a trainer on the CPU."""
    opened = data or squares(len(recipe.rounds))
    return Trainer(recipe, opened, folder, make_accelerator(recipe.precision, "cpu"))


def train(recipe: Recipe, folder: Path, data: TrainingData | None = None) -> Trainer:
    """Train to the end."""
    made = trainer(recipe, folder, data)
    for _ in made.run():
        pass
    return made


def with_stage(recipe: Recipe, **changes: object) -> Recipe:
    """Change every stage of a recipe."""
    rounds = tuple(
        replace(part, stages=tuple(replace(stage, **changes) for stage in part.stages)) for part in recipe.rounds
    )
    return replace(recipe, rounds=rounds)


def weights(made: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in made.model.state_dict().items()}


def difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The largest difference of two sets of weights."""
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)
