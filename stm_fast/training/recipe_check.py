"""Checks of a recipe's values, so that a mistake is told before hours of training."""

import math
from collections.abc import Collection, Iterator

from stm_fast.errors import StmFastError
from stm_fast.training.recipe import DataEntry, Recipe, Round, Stage

MODELS = ("resnet50", "compact")
GUIDED = ("compact",)
"""Networks whose decoder sees the masks of the frame before from frame 2 of a clip on."""
PRECISIONS = ("fp32", "bf16", "fp16")
FREEZABLE = ("batch-norm", "depthwise", "early", "trunk")
SCHEDULES = ("constant", "poly", "step", "trapezoid")
OPTIMIZERS = ("adam", "adamw")
SCORES = ("loss", "j", "jf")
MAX_SEED = 2**32 - 1
MAX_REPEAT = 1000
"""An epoch's order is kept in memory: a thousand times COCO takes a gigabyte."""


def check_recipe(recipe: Recipe) -> None:
    """Raise an error if a value of a recipe is impossible.

    Raises:
        StmFastError: names the setting, its value and what is allowed.
    """
    for name, value, problem in _problems(recipe):
        raise StmFastError(f"{name} {problem}, got {value!r}")


_Problem = tuple[str, object, str]


def _problems(recipe: Recipe) -> Iterator[_Problem]:
    yield from _one_of("model", recipe.model, MODELS)
    if not recipe.start:
        yield (
            "start",
            recipe.start,
            "must be a file of weights, such as the last.safetensors of an earlier stage, imagenet or none",
        )
    yield from _one_of("precision", recipe.precision, PRECISIONS)
    for name in recipe.freeze:
        yield from _one_of("freeze", name, FREEZABLE)
    yield from _between("erased", recipe.erased, 0, 1)
    yield from _between("spilled", recipe.spilled, 0, 1)
    yield from _between("ema", recipe.ema, 0, 1, open_end=True)
    for key in ("checkpoint_every", "picture_every"):
        yield from _at_least(key, getattr(recipe, key), 1)
    yield from _at_least("workers", recipe.workers, 0)
    yield from _between("seed", recipe.seed, 0, MAX_SEED)
    if not recipe.rounds:
        yield "rounds", (), "must have at least one round"
    for index, part in enumerate(recipe.rounds):
        yield from _round_problems(f"rounds.{index}", part)
        if recipe.model in GUIDED:
            yield from _unguided_stages(f"rounds.{index}", part)
        if not recipe.data_of(part):
            yield f"rounds.{index}.data", (), "must name a dataset, or `data` must"
    for index, entry in enumerate(recipe.data):
        yield from _entry_problems(f"data.{index}", entry)
    yield from _loss_problems(recipe)
    yield from _optimizer_problems(recipe)
    yield from _validation_problems(recipe)
    for key in ("clips", "frames", "size", "validation_clips", "validation_frames"):
        yield from _at_least(f"synthetic.{key}", getattr(recipe.synthetic, key), 1)
    for key in ("solids", "crowds"):
        yield from _between(f"synthetic.{key}", getattr(recipe.synthetic, key), 0, 1)


def _round_problems(name: str, part: Round) -> Iterator[_Problem]:
    if not part.stages:
        yield f"{name}.stages", (), "must have at least one stage"
    for index, stage in enumerate(part.stages):
        yield from _stage_problems(f"{name}.stages.{index}", stage)
    for index, entry in enumerate(part.data):
        yield from _entry_problems(f"{name}.data.{index}", entry)
    schedule = part.schedule
    yield from _one_of(f"{name}.schedule.name", schedule.name, SCHEDULES)
    for key in ("rate", "warmup", "power", "factor", "decay"):
        yield from _at_least(f"{name}.schedule.{key}", getattr(schedule, key), 0)


def _unguided_stages(name: str, part: Round) -> Iterator[_Problem]:
    """Yield stages that leave weights without a gradient, with which processes that train together cannot go on."""
    for index, stage in enumerate(part.stages):
        yield from _at_least(f"{name}.stages.{index}.frames", stage.frames, 3)


def _stage_problems(name: str, stage: Stage) -> Iterator[_Problem]:
    if (stage.steps is None) == (stage.epochs is None):
        yield (
            name,
            {"steps": stage.steps, "epochs": stage.epochs},
            "must have either steps or epochs, and null for the other",
        )
    for key, least in (("steps", 1), ("epochs", 1), ("clips", 1), ("frames", 2), ("max_objects", 1)):
        value = getattr(stage, key)
        if value is not None:
            yield from _at_least(f"{name}.{key}", value, least)
    yield from _size_problem(f"{name}.size", stage.size)
    yield from _between(f"{name}.smallest_crop", stage.smallest_crop, 0, 1, open_start=True)
    for key, least in (("first", 0), ("increase", 0), ("every_epochs", 1), ("limit", 0)):
        yield from _at_least(f"{name}.max_skip.{key}", getattr(stage.max_skip, key), least)


def _entry_problems(name: str, entry: DataEntry) -> Iterator[_Problem]:
    if not entry.layout:
        yield f"{name}.layout", entry.layout, "must name a layout"
    yield from _between(f"{name}.repeat", entry.repeat, 1, MAX_REPEAT)
    yield from _at_least(f"{name}.interval", entry.interval, 1)


def _loss_problems(recipe: Recipe) -> Iterator[_Problem]:
    loss = recipe.loss
    yield from _between("loss.hardest", loss.hardest, 0, 1, open_start=True)
    yield from _at_least("loss.soft_iou", loss.soft_iou, 0)
    yield from _at_least("loss.warm_start", loss.warm_start, 0)
    yield from _at_least("loss.warm_end", loss.warm_end, loss.warm_start)


def _optimizer_problems(recipe: Recipe) -> Iterator[_Problem]:
    optimizer = recipe.optimizer
    yield from _one_of("optimizer.name", optimizer.name, OPTIMIZERS)
    yield from _at_least("optimizer.weight_decay", optimizer.weight_decay, 0)
    for key in ("learning_rate", "trunk_learning_rate", "clip_norm"):
        value = getattr(optimizer, key)
        if value is not None and not 0 < value < math.inf:
            yield f"optimizer.{key}", value, "must be above 0 and finite"
    fewest = min((stage.clips for part in recipe.rounds for stage in part.stages), default=1)
    yield from _at_least("optimizer.accumulate", optimizer.accumulate, 1)
    if optimizer.accumulate > fewest:
        yield "optimizer.accumulate", optimizer.accumulate, f"must be at most the clips of a step, which are {fewest}"


def _validation_problems(recipe: Recipe) -> Iterator[_Problem]:
    validation = recipe.validation
    for key, least in (("every", 1), ("videos_every", 1), ("clips", 1), ("frames", 2), ("max_objects", 1)):
        yield from _at_least(f"validation.{key}", getattr(validation, key), least)
    yield from _at_least("validation.max_skip", validation.max_skip, 0)
    yield from _size_problem("validation.size", validation.size)
    for index, entry in enumerate(validation.data):
        yield from _entry_problems(f"validation.data.{index}", entry)
    if validation.videos is not None:
        yield from _entry_problems("validation.videos", validation.videos)
    yield from _one_of("validation.best_by", validation.best_by, SCORES)
    if validation.best_by == "jf" and validation.videos is None:
        yield "validation.best_by", "jf", "must be loss or j unless validation.videos names a dataset"
    if validation.best_by != "jf" and validation.videos is not None and not validation.data:
        yield "validation.best_by", validation.best_by, "must be jf unless validation.data names a dataset"


def _size_problem(name: str, size: int) -> Iterator[_Problem]:
    if size < 16 or size % 16:
        yield name, size, "must be a multiple of 16"


def _one_of(name: str, value: str, allowed: Collection[str]) -> Iterator[_Problem]:
    if value not in allowed:
        yield name, value, f"must be one of {', '.join(allowed)}"


def _at_least(name: str, value: float, least: float) -> Iterator[_Problem]:
    if not least <= value < math.inf:
        yield name, value, f"must be at least {least}" + (" and finite" if value == math.inf else "")


def _between(
    name: str, value: float, low: float, high: float, *, open_start: bool = False, open_end: bool = False
) -> Iterator[_Problem]:
    above = value > low if open_start else value >= low
    below = value < high if open_end else value <= high
    if not (above and below):
        start, end = ("above" if open_start else "at least"), ("below" if open_end else "at most")
        yield name, value, f"must be {start} {low} and {end} {high}"
