"""Clips of coloured shapes."""

import numpy as np

from stm_fast.training.sampler import draw
from stm_fast.training.sampling import Sampling
from stm_fast.training.sources.shapes import SETS, ShapeSource


def test_shapes_have_one_colour_each_and_move() -> None:
    counts = set()
    for index in range(20):
        frames, masks = draw(ShapeSource("train"), index, (0, index), Sampling(clips=1, frames=3, size=48))
        assert (frames.shape, masks.shape) == ((3, 48, 48, 3), (3, 48, 48))
        count = int(masks[0].max())
        assert set(np.unique(masks[0])) == {0, *range(1, count + 1)}
        assert not np.array_equal(masks[0], masks[2])
        for number in range(1, count + 1):
            assert len(np.unique(frames[masks == number], axis=0)) == 1
        counts.add(count)
    assert counts == {1, 2, 3}


def test_sets_and_clips_differ_and_draws_repeat() -> None:
    sampling = Sampling(clips=1, frames=2, size=32)
    drawn = [draw(ShapeSource(name), index, (0, 0), sampling)[0] for name in SETS for index in (0, 1)]
    assert len({frames.tobytes() for frames in drawn}) == 4
    assert np.array_equal(draw(ShapeSource("train"), 0, (0, 0), sampling)[0], drawn[0])
