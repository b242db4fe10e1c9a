"""Several objects in one frame, and prompters by name."""

import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from stm_fast.errors import ArgumentError
from stm_fast.prompters import Hints, available_prompters, label_map, make_prompter, registry
from tests.prompters.scenes import Disc, scene

LARGE, SMALL = Disc(80, 60, 30), Disc(90, 60, 10)


class Boxes:
    """A prompter that fills boxes, and notes what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, image, hints, mask=None):
        self.asked.append((hints, mask))
        found = np.zeros(image.shape[:2], bool)
        for x0, y0, x1, y1 in hints.boxes:
            found[y0:y1, x0:x1] = True
        return found


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_pixel_of_two_objects_goes_to_the_smaller(order):
    hints = {1: Hints(boxes=(LARGE.box,)), 2: Hints(boxes=(SMALL.box,))}
    labels = label_map(Boxes(), scene(LARGE), {each: hints[each] for each in order})
    assert labels.dtype == np.uint8
    assert (labels == 2).sum() == 21 * 21
    assert (labels == 1).sum() == 61 * 61 - 21 * 21


def test_points_of_an_object_are_background_of_the_others():
    prompter = Boxes()
    one = Hints(boxes=(LARGE.box,), foreground=(LARGE.centre,))
    two = Hints(boxes=(SMALL.box,), foreground=(SMALL.centre,), background=(LARGE.centre,))
    label_map(prompter, scene(LARGE), {1: one, 2: two})
    assert [asked.background for asked, _ in prompter.asked] == [(SMALL.centre,), (LARGE.centre,)]


def test_masks_that_are_known_reach_the_prompter():
    prompter = Boxes()
    label_map(prompter, scene(LARGE), {1: Hints(boxes=(LARGE.box,)), 2: Hints(boxes=(SMALL.box,))}, {2: SMALL.mask})
    assert [mask is not None for _, mask in prompter.asked] == [False, True]


@pytest.mark.parametrize(
    ("hints", "problem"),
    [
        ({0: Hints(boxes=(LARGE.box,))}, "from 1 to 255"),
        ({3: Hints(boxes=((0, 0, 900, 9),))}, "object 3"),
        ({1: Hints(foreground=((9, 9),)), 2: Hints(foreground=((9, 9),))}, "one object"),
        ({4: Hints(foreground=((9, 9),))}, "object 4 show nothing"),
    ],
)
def test_what_cannot_be_segmented_is_an_error(hints, problem):
    with pytest.raises(ArgumentError, match=problem):
        label_map(Boxes(), scene(LARGE), hints)


def test_a_package_registers_a_prompter(monkeypatch):
    point = EntryPoint("boxes", f"{__name__}:Boxes", registry.GROUP)
    broken = EntryPoint("broken", "nowhere.at.all:Thing", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point, broken] if group == registry.GROUP else [])
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    assert available_prompters() == ("grabcut", "sam2", "boxes", "broken")
    assert type(make_prompter("boxes")).__name__ == "Boxes"
    with pytest.raises(ArgumentError, match=r"broken \(nowhere.at.all:Thing\) cannot be used"):
        make_prompter("broken")
    with pytest.raises(ArgumentError, match="must be one of grabcut, sam2, boxes, broken, got none"):
        make_prompter("none")


@pytest.mark.parametrize(
    ("name", "module", "remedy"),
    [("grabcut", "cv2", r"stm-fast\[prompters\]"), ("sam2", "transformers", "pip install transformers")],
)
def test_what_is_missing_is_named(monkeypatch, name, module, remedy):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ArgumentError, match=remedy):
        make_prompter(name)
