"""GrabCut on discs: from a box, from points, corrected; and on a photograph of the annotated clips."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stm_fast.prompters import Box, Hints, make_prompter
from tests.prompters.scenes import BLUE, Disc, overlap, scene

pytest.importorskip("cv2")
DISC = Disc(80, 60, 30)


@pytest.fixture(scope="module")
def grabcut():
    return make_prompter("grabcut")


@pytest.mark.parametrize(
    "hints",
    [
        Hints(boxes=(DISC.box,)),
        Hints(boxes=((44, 26, 120, 98),)),
        Hints(boxes=(DISC.box,), foreground=(DISC.centre,), background=((51, 31),)),
        Hints(foreground=((80, 36), (60, 72), (100, 72))),
        Hints(foreground=((80, 60),)),
        Hints(foreground=((80, 42), (80, 78)), background=((130, 60),)),
        Hints(boxes=((50, 30, 80, 91), (80, 30, 111, 91))),
    ],
)
def test_a_disc_is_found_to_its_edge(grabcut, hints):
    found = grabcut(scene(DISC), hints)
    assert (found.shape, found.dtype) == ((120, 200), bool)
    assert overlap(found, DISC.mask) > 0.95


def test_nothing_is_found_outside_of_a_box(grabcut):
    found = grabcut(scene(DISC, Disc(150, 60, 20)), Hints(boxes=(DISC.box,)))
    assert overlap(found, DISC.mask) > 0.95


def test_points_say_which_of_two_things_in_a_box_is_meant(grabcut):
    right = Disc(150, 60, 20, BLUE)
    box = Box(45, 25, 175, 95)
    picture = scene(DISC, right)
    both = grabcut(picture, Hints(boxes=(box,)))
    assert overlap(both, DISC.mask | right.mask) > 0.9
    left = grabcut(picture, Hints(boxes=(box,), foreground=(DISC.centre,), background=(right.centre,)))
    assert overlap(left, DISC.mask) > 0.95


@pytest.mark.parametrize("add", [True, False])
def test_a_point_corrects_a_mask_near_itself_alone(grabcut, add):
    right = Disc(150, 60, 20, BLUE)
    picture = scene(DISC, right)
    before = DISC.mask if add else DISC.mask | right.mask
    wanted = DISC.mask | right.mask if add else DISC.mask
    point = (right.centre,)
    hints = Hints(foreground=point) if add else Hints(background=point)
    found = grabcut(picture, hints, before)
    assert overlap(found, wanted) > 0.95
    assert overlap(found[:, :100], before[:, :100]) == 1


def test_points_that_agree_with_a_mask_leave_it_as_it_is(grabcut):
    found = grabcut(scene(DISC), Hints(foreground=(DISC.centre,), background=((5, 5),)), DISC.mask)
    np.testing.assert_array_equal(found, DISC.mask)


def test_the_result_is_the_same_whatever_opencv_drew_before(grabcut):
    import cv2

    noisy = (scene(DISC) // 2 + np.random.default_rng(1).integers(0, 128, (120, 200, 3))).astype(np.uint8)
    hints = Hints(boxes=((30, 20, 130, 110),))
    first = grabcut(noisy, hints)
    cv2.setRNGSeed(77)
    np.testing.assert_array_equal(grabcut(noisy, hints), first)


@pytest.mark.parametrize("colour", [0, 128])
def test_a_picture_of_one_colour_gives_something_in_the_box(grabcut, colour):
    flat = np.full((60, 80, 3), colour, np.uint8)
    found = grabcut(flat, Hints(boxes=((20, 20, 50, 40),)))
    assert not found[:20].any()
    assert not found[:, 50:].any()


@pytest.mark.parametrize(
    "hints", [Hints(boxes=((0, 0, 200, 120),)), Hints(boxes=((7, 9, 8, 10),)), Hints(((3, 3, 6, 5),))]
)
def test_boxes_of_any_size_are_taken(grabcut, hints):
    assert grabcut(scene(DISC), hints).shape == (120, 200)


@pytest.mark.skipif("STM_FAST_DATA" not in os.environ, reason="STM_FAST_DATA is not set")
@pytest.mark.parametrize("kind", ["box", "points"])
def test_the_dog_of_davis_is_found(grabcut, kind):
    from benchmarks.system.prompters import inner_points, tight_box

    root = Path(os.environ["STM_FAST_DATA"]) / "davis2016"
    image = np.array(Image.open(root / "JPEGImages/480p/dog/00000.jpg").convert("RGB"))
    truth = np.array(Image.open(root / "Annotations/480p/dog/00000.png").convert("L")) > 127
    hints = Hints(boxes=(tight_box(truth),)) if kind == "box" else Hints(foreground=inner_points(truth, 3))
    assert overlap(grabcut(image, hints), truth) > 0.8
