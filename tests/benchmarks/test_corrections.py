"""Which frame the benchmark of corrections corrects."""

import numpy as np
import pytest

from benchmarks.system.corrections import frame_to_correct, overlap


@pytest.mark.parametrize(
    ("overlaps", "frame"),
    [
        ([1.0] * 10 + [0.6] * 20, 10),  # the first in which an object is seen to be lost
        ([0.1, 0.1, 0.1] + [0.9] * 27, 3),  # not one before a tenth of the clip: then the worst, the first of equals
        ([0.9] * 15 + [0.8] + [0.9] * 13 + [0.1], 15),  # nor one after two thirds of it
        ([np.nan] * 10 + [0.9, 0.7] + [np.nan] * 18, 11),  # nor one in which the object is not
    ],
)
def test_the_frame_is_one_that_a_user_would_correct(overlaps: list[float], frame: int) -> None:
    assert frame_to_correct(np.array(overlaps)) == frame


def test_overlap_is_unknown_where_the_object_is_not() -> None:
    found, wanted = np.eye(2, dtype=bool), np.ones((2, 2), bool)
    assert overlap(found, wanted) == 0.5
    assert np.isnan(overlap(found, np.zeros((2, 2), bool)))
