"""What a training run consists of. `stm_fast.training.recipe_files` reads recipes from YAML."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

SYNTHETIC = "synthetic"
"""The layout of clips that are synthesised from still pictures, in the sets `train` and `validation`."""

SHAPES = "shapes"
"""The layout of clips of coloured shapes, which need no files, in the sets `train` and `validation`."""


@dataclass(frozen=True)
class DataEntry:
    """A dataset to draw clips from.

    Attributes:
        layout: name of a layout of videos or stills; `synthetic`, clips made of pictures once, before training; or
            `shapes`, simple clips drawn in training, which need no files.
        folder: folder of the dataset, below that of all data.
        set: name of a set, in the layout's words; None for the layout's default.
        repeat: how often each picture or video is drawn in an epoch, at most 1000 times.
        interval: frames from one annotated frame of a video to the next, by which `max_skip` is divided: 5 in
            YouTube-VOS, 1 where every frame has a mask.
        root: folder of the dataset, in place of `folder` and that of all data.
    """

    layout: str = ""
    folder: str = ""
    set: str | None = None
    repeat: int = 1
    interval: int = 1
    root: str | None = None


@dataclass(frozen=True)
class MaxSkip:
    """How many frames may be left out between two frames of a clip: more and more in the course of a stage.

    Attributes:
        first: at the beginning of the stage.
        increase: how many more after every `every_epochs` epochs.
        every_epochs: epochs between two increases.
        limit: maximum.
    """

    first: int = 0
    increase: int = 0
    every_epochs: int = 1
    limit: int = 25


@dataclass(frozen=True)
class Stage:
    """Some steps with one kind of batch. Either `steps` or `epochs` says how many.

    Attributes:
        steps: number of steps.
        epochs: how often each picture or video of the round's data is drawn, on average.
        clips: clips per step, over all processes and micro-batches.
        frames: frames per clip.
        size: side of a frame in pixels, a multiple of 16.
        max_objects: objects kept per clip; the others become background.
        max_skip: frames that may be left out, in sources with a time.
        smallest_crop: side of the smallest crop as a fraction of the shorter side of a frame, with the augmentation
            "paper" and in synthetic clips; "stcn" has crops of its own.
    """

    steps: int | None = None
    epochs: int | None = None
    clips: int = 4
    frames: int = 3
    size: int = 384
    max_objects: int = 3
    max_skip: MaxSkip = field(default_factory=MaxSkip)
    smallest_crop: float = 0.6


@dataclass(frozen=True)
class Schedule:
    """The learning rate in the course of a round, as a fraction of the optimizer's.

    Attributes:
        name: "constant"; "poly", which falls to zero as `(1 - progress) ** power`; "step", which is multiplied by
            `factor` at each step of `at`; or "trapezoid", which rests and then falls to zero over `decay` steps.
        rate: the fraction before it falls.
        warmup: steps over which it rises from zero at the beginning.
        power: of "poly".
        at: 0-based steps of the round, of "step".
        factor: of "step".
        decay: of "trapezoid".
    """

    name: str = "constant"
    rate: float = 1.0
    warmup: int = 0
    power: float = 0.9
    at: tuple[int, ...] = ()
    factor: float = 0.1
    decay: int = 0


@dataclass(frozen=True)
class Round:
    """Stages with one set of data and one course of the learning rate. The optimizer starts anew in every round.

    Attributes:
        stages: in order.
        data: datasets of this round; empty for those of the recipe.
        schedule: the learning rate.
        halfway: whether the round ends with the mean of its first and its last weights, which segments better than
            either where a network is fine-tuned (Wortsman et al., CVPR 2022).
    """

    stages: tuple[Stage, ...] = ()
    data: tuple[DataEntry, ...] = ()
    schedule: Schedule = field(default_factory=Schedule)
    halfway: bool = False


@dataclass(frozen=True)
class Loss:
    """Cross-entropy of each frame over background and objects, and what is added to it.

    The cross-entropy may be bootstrapped, as in STCN (Cheng et al., NeurIPS 2021): only the pixels of highest loss
    count. Their share falls from 1 at step `warm_start` of a round to `hardest` at step `warm_end`.

    Attributes:
        hardest: share of pixels that count in the end; 1 for all of them, which is plain cross-entropy.
        warm_start: step of a round at which the share begins to fall.
        warm_end: step of a round at which it is `hardest`.
        soft_iou: weight of the mean over objects of 1 − soft intersection over union.
    """

    hardest: float = 1.0
    warm_start: int = 0
    warm_end: int = 0
    soft_iou: float = 0.0


@dataclass(frozen=True)
class Optimizer:
    """How gradients change the weights.

    Attributes:
        name: "adam" or "adamw".
        learning_rate: of all weights, before the schedule scales it.
        trunk_learning_rate: of weights that start from an ImageNet classifier, likewise; None for `learning_rate`.
        weight_decay: of Adam or AdamW.
        clip_norm: norm to which gradients are clipped; None leaves them.
        accumulate: micro-batches that make a step, which need less memory than one batch.
    """

    name: str = "adam"
    learning_rate: float = 1e-5
    trunk_learning_rate: float | None = None
    weight_decay: float = 0.0
    clip_norm: float | None = None
    accumulate: int = 1


@dataclass(frozen=True)
class Validation:
    """How weights are compared, besides at the end of every round.

    Attributes:
        every: steps between two validations on clips.
        data: datasets of clips that are segmented as in training, for a loss and J.
        clips: how many of them; always the same ones.
        frames: frames per clip.
        size: side of a frame in pixels, a multiple of 16.
        max_objects: objects kept per clip.
        max_skip: frames that may be left out.
        videos: a dataset of videos that are segmented from beginning to end, for J&F; None for no such score.
        videos_every: steps between two of these.
        best_by: which score chooses `best.safetensors`: "loss", "j" or "jf".
    """

    every: int = 1000
    data: tuple[DataEntry, ...] = ()
    clips: int = 32
    frames: int = 3
    size: int = 384
    max_objects: int = 3
    max_skip: int = 5
    videos: DataEntry | None = None
    videos_every: int = 10000
    best_by: str = "j"


@dataclass(frozen=True)
class Synthetic:
    """Clips to synthesise from still pictures and models, once, before training.

    Attributes:
        pictures: folder of unpacked packages with pictures and models; None to download them into the run's folder.
        solids: share of the moving bodies that are models in three dimensions; the others are pictures. Any above 0
            need 2.6 GB of packages with models.
        crowds: share of the clips in which several small bodies look alike.
        clips: clips to train on.
        frames: frames of each.
        size: side of a frame in pixels.
        validation_clips: clips to validate on.
        validation_frames: frames of each.
    """

    pictures: str | None = None
    solids: float = 0.0
    crowds: float = 0.0
    clips: int = 3008
    frames: int = 6
    size: int = 512
    validation_clips: int = 32
    validation_frames: int = 8


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        model: name of the network: "resnet50" or "compact".
        start: weights to start from: "none" (random), "imagenet" (an ImageNet classifier in the trunks), or a file.
        data: datasets, in the proportions of their sizes times `repeat`.
        augmentation: how clips are varied: "paper" or "stcn", the presets of `stm_fast.training.augment.presets`.
        rounds: in order.
        erased: share of the objects of which a part is erased from predicted masks before they are memorised, so that
            the network learns to win back what it lost.
        spilled: share of the objects to which parts of their surroundings are added likewise, so that it learns to give
            back what it took.
        loss: what is minimised.
        optimizer: how.
        ema: decay of averaged weights, which are validated and kept in place of the last ones; 0 for none.
        freeze: weights that keep their values: "batch-norm" (scale and shift), "depthwise" (kernels of depthwise
            convolutions), "early" (a compact trunk up to stride 4), "trunk" (all of it). Statistics of batch norm never
            change.
        precision: of activations: "fp32", "bf16" or "fp16". Weights and optimizer are always float32.
        validation: how weights are compared.
        synthetic: clips of the layout `synthetic`.
        checkpoint_every: steps between two checkpoints.
        picture_every: steps between two pictures of a batch and its predictions.
        workers: processes that prepare batches, on each machine and for each of its devices; 0 for none.
        seed: of weights, clips and batches.
    """

    model: str = "resnet50"
    start: str = "imagenet"
    data: tuple[DataEntry, ...] = ()
    augmentation: str = "paper"
    rounds: tuple[Round, ...] = ()
    erased: float = 0.0
    spilled: float = 0.0
    loss: Loss = field(default_factory=Loss)
    optimizer: Optimizer = field(default_factory=Optimizer)
    ema: float = 0.0
    freeze: tuple[str, ...] = ()
    precision: str = "fp32"
    validation: Validation = field(default_factory=Validation)
    synthetic: Synthetic = field(default_factory=Synthetic)
    checkpoint_every: int = 1000
    picture_every: int = 1000
    workers: int = 2
    seed: int = 0

    def data_of(self, part: Round) -> tuple[DataEntry, ...]:
        """Return the datasets of a round."""
        return part.data or self.data

    @property
    def is_synthetic(self) -> bool:
        """Whether any clips are synthesised."""
        entries = [*self.validation.data, *(entry for part in self.rounds for entry in self.data_of(part))]
        return any(entry.layout == SYNTHETIC for entry in entries)


_FREE = ("validation", "checkpoint_every", "picture_every", "workers", "synthetic.pictures")
"""Beginnings of the settings that decide nothing about the trained weights, and may change when a run resumes."""


def settings_of(recipe: Recipe) -> dict[str, object]:
    """Return the settings that decide the trained weights, by their dotted names, such as `rounds.0.stages.0.size`."""
    return {name: value for name, value in _leaves(recipe) if not name.startswith(_FREE)}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, object]]:
    if is_dataclass(value):
        for each in fields(value):
            yield from _leaves(getattr(value, each.name), f"{path}.{each.name}".lstrip("."))
    elif isinstance(value, tuple) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}.{index}")
    else:
        yield path, None if value == () else value
