"""Which masks are there to score against, and what void is in them."""

from pathlib import Path

import numpy as np
import pytest

from stm_fast.data.clips import Clip, SetSummary
from stm_fast.data.truth import has_truth, summarize, unscored_because
from stm_fast.media.masks import write_mask


@pytest.fixture
def masks(tmp_path):
    """Write masks that show the given objects, and return their files by frame name."""

    def make(*shown, folder="masks"):
        files = {}
        for index, objects in enumerate(shown):
            mask = np.zeros((8, 12), np.uint8)
            for column, each in enumerate(objects):
                mask[:4, column] = each
            files[f"{index:05d}"] = tmp_path / folder / f"{index:05d}.png"
            write_mask(files[f"{index:05d}"], mask)
        return files

    return make


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (([1],), False),
        (([1], [1]), True),
        (([1, 2], [3], [4]), False),
        (([1], [1, 2], [1, 2, 3]), False),
        (([1], [2], [1]), True),
        (([], [1], [], [2], []), False),
        (([], [], [1], [1]), True),
    ],
)
def test_masks_of_first_appearances_are_no_truth(masks, shown, expected):
    assert has_truth(masks(*shown).values()) is expected


def test_void_is_no_object_that_is_shown_again(masks):
    files = list(masks([1, 255], [2, 255]).values())
    assert not has_truth(files, void=255)
    assert has_truth([files[0], files[0]], void=255)


def test_masks_are_read_no_further_than_needed(masks):
    files = list(masks([1], [1]).values())
    assert has_truth([*files, Path("nowhere.png")])


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (([1], [1], [1]), None),
        (([1], [1]), "fewer than 3 annotated frames"),
        (([1], [2], [3]), "only masks of first appearances"),
    ],
)
def test_why_a_clip_is_not_scored(masks, shown, reason):
    files = masks(*shown)
    assert unscored_because(Clip("a", Path(), files, files)) == reason


def test_summary_of_a_set(masks, tmp_path):
    masks([1], folder="masks/first"), masks([1], [1], folder="masks/whole")
    for clip in ("first", "whole"):
        (tmp_path / "frames" / clip).mkdir(parents=True)
    found = summarize("set", ["first", "whole", "lost"], tmp_path / "frames", tmp_path / "masks")
    assert found == SetSummary("set", clips=3, missing=1, has_truth=True)
    assert not summarize("set", ["first"], tmp_path / "frames", tmp_path / "masks").has_truth
