"""The original's network learns a clip of photographs by heart."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("accelerate")
pytest.importorskip("skimage")

from stm_fast.data.demo_clip import render
from stm_fast.training.batch import Example
from stm_fast.training.data import TrainingData
from stm_fast.training.recipe import Optimizer
from stm_fast.training.sampling import Sampling
from tests.training.tiny_runs import TINY, train, with_stage

STEPS, SIZE = 90, 80


class OneClip:
    """Three frames of the demo's clip: a cat and a cup in front of a launch pad."""

    def __init__(self) -> None:
        frames = list(islice(render(), 0, 12, 4))
        side = slice(100, 370)
        self.example = (
            np.stack([_small(frame.image[:, side], Image.Resampling.BOX) for frame in frames]),
            np.stack([_small(frame.mask[:, side], Image.Resampling.NEAREST) for frame in frames]),
        )

    def __len__(self) -> int:
        return 1

    def draw(self, index: int, rng: np.random.Generator, sampling: Sampling) -> Example | None:
        return self.example


def _small(pixels: np.ndarray, method: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((SIZE, SIZE), method))


@pytest.mark.slow
def test_resnet50_learns_a_clip_by_heart(tmp_path: Path) -> None:
    source = OneClip()
    recipe = replace(
        with_stage(TINY, steps=STEPS, clips=1, size=SIZE),
        model="resnet50",
        optimizer=Optimizer("adam", 1e-4),
        freeze=("batch-norm",),
        validation=replace(TINY.validation, clips=1, every=STEPS // 2),
    )
    made = train(recipe, tmp_path, TrainingData((source,), source))
    assert made.best > 0.9
