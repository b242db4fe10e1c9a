"""Measure a step of each stage of a recipe, and extrapolate to the time of the whole recipe on this machine.

    python -m benchmarks.system.training_time stm-paper-video [KEY=VALUE ...] [--steps 5] [--epoch 3531]

Steps are those of `stm_fast.training.trainer`, from batch to weights, on clips of noise in memory with as many objects
as a clip may have: reading and augmenting real clips, which other processes do meanwhile, is not measured, nor is
validation. The first step warms up; the time of a step is the median of the others. Prints Markdown. Total times are
extrapolated from these steps, and labelled so: nobody has run them. Settings are those of `stm-fast train`, such as
optimizer.accumulate=4 for a machine with less memory.
"""

import argparse
import statistics
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator

from benchmarks import machine
from stm_fast.training.accelerator import make_accelerator
from stm_fast.training.batch import Example
from stm_fast.training.data import TrainingData
from stm_fast.training.plan import Plan
from stm_fast.training.recipe import Recipe, Round, Schedule, Stage, Validation
from stm_fast.training.recipe_files import load_recipe
from stm_fast.training.sampling import Sampling
from stm_fast.training.trainer import Trainer

EPOCH = 60 + 3471
"""Videos in an epoch of DAVIS 2017 train and YouTube-VOS train."""
HOUR = 3600


class Noise:
    """Clips of noise with squares that stand still, as many as a clip may have objects."""

    def __len__(self) -> int:
        return 1

    def draw(self, index: int, rng: np.random.Generator, sampling: Sampling) -> Example:
        """Draw a clip; see `stm_fast.training.sampling.ClipSource`."""
        shape = (sampling.frames, sampling.size, sampling.size)
        frames, masks = rng.integers(0, 256, (*shape, 3), np.uint8), np.zeros(shape, np.uint8)
        side = sampling.size // (sampling.max_objects + 1)
        for number in range(1, sampling.max_objects + 1):
            masks[:, : 2 * side, number * side : (number + 1) * side] = number
        return frames, masks


class Cost(NamedTuple):
    """What a step of a stage takes."""

    seconds: float
    memory_gb: float


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", help="a recipe of the package, or a YAML file")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="in place of the recipe's")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each stage")
    parser.add_argument("--epoch", type=int, default=EPOCH, help="pictures and videos in an epoch")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, ["start=none", *options.settings])
    accelerator = make_accelerator(recipe.precision, options.device)
    print(f"{_machine(accelerator)}; {options.recipe} {' '.join(options.settings)}".rstrip(), end="\n\n")
    print("| stage | clips × frames, objects, pixels | s per step | memory, GB | steps | extrapolated, hours |")
    print("|---|---|---|---|---|---|")
    costs: dict[Stage, Cost] = {}
    total = 0.0
    for name, stage, steps in stages(recipe, options.epoch):
        batch = replace(stage, steps=1, epochs=None, max_skip=Stage().max_skip)
        if batch not in costs:
            costs[batch] = measure(recipe, batch, options.steps, accelerator)
        cost = costs[batch]
        total += steps * cost.seconds
        print(
            f"| {name} | {stage.clips} × {stage.frames}, {stage.max_objects}, {stage.size} | {cost.seconds:.2f} | "
            f"{cost.memory_gb:.1f} | {steps} | {steps * cost.seconds / HOUR:.1f} |",
            flush=True,
        )
    print(f"\nExtrapolated to all steps, not run: {total / HOUR:.1f} hours")


def stages(recipe: Recipe, epoch: int) -> list[tuple[str, Stage, int]]:
    """Return the name, settings and steps of every stage.

    Args:
        recipe: holds them.
        epoch: pictures and videos in an epoch.
    """
    found = []
    for number, part in enumerate(recipe.rounds, 1):
        for place, stage in enumerate(part.stages, 1):
            alone = replace(recipe, rounds=(Round((stage,)),))
            found.append((f"{number}.{place}", stage, Plan(alone, [epoch]).steps))
    return found


def measure(recipe: Recipe, stage: Stage, steps: int, accelerator: Accelerator) -> Cost:
    """Return the median time of a step, and the peak memory of the process or GPU so far."""
    short = replace(
        recipe,
        rounds=(Round((replace(stage, steps=steps + 2),), schedule=Schedule()),),
        validation=Validation(),
        checkpoint_every=steps + 3,
        picture_every=steps + 3,
        workers=0,
    )
    with TemporaryDirectory() as folder:
        trainer = Trainer(short, TrainingData((Noise(),)), Path(folder), accelerator)
        with closing(trainer.run()) as run:
            done = list(islice(run, 1 + steps))
    return Cost(statistics.median(step.seconds for step in done[1:]), done[-1].memory_gb)


def _machine(accelerator: Accelerator) -> str:
    if accelerator.device.type == "cuda":
        return machine.line(torch.cuda.get_device_name(accelerator.device))
    return machine.line()


if __name__ == "__main__":
    main()
