"""Augmentation: affine maps, crops and colours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cv2")

from stm_fast.training.augment.affine import Motion, centre, crop, flip, shrink
from stm_fast.training.augment.augmentation import Augmentation
from stm_fast.training.augment.bends import Bend
from stm_fast.training.augment.colour import Jitter, Tone, recolour
from stm_fast.training.augment.crops import Crop, ResizedCrop, SquareCrop
from stm_fast.training.augment.presets import PRESETS
from stm_fast.training.augment.views import View
from stm_fast.training.sampling import Sampling
from tests.training.clip_sources import COLOURS, scene

SAMPLING = Sampling(clips=1, frames=3, size=48)


def close(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.allclose(first, second, atol=1e-9))


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("kind", ["stills", "videos"])
def test_frame_and_mask_are_moved_alike(name: str, kind: str) -> None:
    """Discs of one colour stay where their ids are, but for their edges."""
    augmentation: Augmentation = getattr(PRESETS[name], kind)
    frame, mask = scene(3, 90, 120, objects=3)
    for seed in range(20):
        for view in augmentation.views(np.random.default_rng(seed), mask, np.array([1, 2, 3]), SAMPLING):
            moved, ids = view.of(frame, mask)
            for number in (1, 2, 3):
                red, green, blue = COLOURS[number - 1]
                distance = np.abs(moved.astype(int) - (red, green, blue)).max(axis=-1)
                pure, inside = distance == 0, ids == number
                assert (inside | (ids == 255))[pure].all()
                assert (inside & ~pure).sum() <= 0.1 * inside.sum() + 8 * np.sqrt(inside.sum())


def test_a_crop_of_everything_is_the_picture() -> None:
    frame, mask = scene(1, 48, 48)
    for bend in (None, np.zeros((48, 48, 2), np.float32)):
        shown, ids = View(crop(0, 0, 48, 48, 48), 48, bend).of(frame, mask)
        np.testing.assert_array_equal(shown, frame)
        np.testing.assert_array_equal(ids, mask)


def test_a_crop_shows_its_rectangle() -> None:
    frame, mask = scene(1, 60, 80, objects=2)
    for bend in (None, np.zeros((32, 32, 2), np.float32)):
        shown, ids = View(crop(10, 20, 32, 32, 32), 32, bend).of(frame, mask)
        np.testing.assert_array_equal(shown, frame[20:52, 10:42])
        np.testing.assert_array_equal(ids, mask[20:52, 10:42])
    assert close(crop(10, 20, 30, 15, 60) @ (10 - 0.5, 20 - 0.5, 1), (-0.5, -0.5, 1))
    assert close(crop(10, 20, 30, 15, 60) @ (40 - 0.5, 35 - 0.5, 1), (59.5, 59.5, 1))


def test_a_flip_mirrors() -> None:
    frame, mask = scene(1, 48, 48)
    shown, ids = View(flip(48), 48).of(frame, mask)
    np.testing.assert_array_equal(shown, frame[:, ::-1])
    np.testing.assert_array_equal(ids, mask[:, ::-1])


def test_a_bend_shows_what_its_displacement_points_at() -> None:
    frame, mask = scene(1, 48, 48)
    bend = np.full((48, 48, 2), (5, -3), np.float32)
    shown, ids = View(np.eye(3), 48, bend).of(frame, mask)
    np.testing.assert_array_equal(shown[3:, :-5], frame[:-3, 5:])
    np.testing.assert_array_equal(ids[3:, :-5], mask[:-3, 5:])


def test_bends_are_drawn_as_often_and_as_far_as_they_say() -> None:
    bends = [Bend(0.33, 0.02).draw(np.random.default_rng(seed), 48) for seed in range(300)]
    drawn = [bend for bend in bends if bend is not None]
    assert 70 < len(drawn) < 130
    spread = np.mean([np.sqrt((bend**2).mean()) for bend in drawn]) / 48
    assert 0.005 < spread < 0.03
    assert Bend().draw(np.random.default_rng(0), 48) is None
    slopes = [np.abs(np.diff(bend, axis=axis)).max() for bend in drawn for axis in (0, 1)]
    assert max(slopes) < 1  # a frame that moves on by less than a pixel per pixel is not folded


def test_motions_turn_about_the_centre_within_their_ranges() -> None:
    motion = Motion(rotation=20, shear=10, zoom=(0.8, 1.2))
    middle = centre((60, 80))
    angles, zooms = [], []
    for seed in range(300):
        matrix = motion.draw(np.random.default_rng(seed), middle, 60)
        assert close(matrix @ (*middle, 1), (*middle, 1))
        along = matrix[:2, 0]  # shear along x leaves the x axis
        angles.append(np.degrees(np.arctan2(along[1], along[0])))
        zooms.append(np.hypot(*along))
        assert np.linalg.det(matrix[:2, :2]) == pytest.approx(zooms[-1] ** 2)
    assert -20 <= min(angles) < -18
    assert 18 < max(angles) <= 20
    assert 0.8 <= min(zooms) < 0.82
    assert 1.18 < max(zooms) <= 1.2
    assert close(Motion().draw(np.random.default_rng(0), middle, 60), np.eye(3))
    shifts = [Motion(shift=0.1).draw(np.random.default_rng(seed), middle, 60)[:2, 2] for seed in range(99)]
    assert 5.5 < np.abs(shifts).max() <= 6


@pytest.mark.parametrize("kind", [SquareCrop(), SquareCrop(1.0), ResizedCrop((0.36, 1.0))])
@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 90), width=st.integers(1, 90), x=st.floats(0, 1), y=st.floats(0, 1), seed=st.integers(0, 9)
)
def test_crops_lie_in_the_picture(kind: Crop, height: int, width: int, x: float, y: float, seed: int) -> None:
    point = (x * (width - 1), y * (height - 1))
    matrix = kind.draw(np.random.default_rng(seed), (height, width), point, SAMPLING)
    inverse = np.linalg.inv(matrix)
    for corner in (-0.5, 47.5):
        found = inverse @ (corner, corner, 1)
        assert -0.5 - 1e-6 <= found[0] <= width - 0.5 + 1e-6
        assert -0.5 - 1e-6 <= found[1] <= height - 0.5 + 1e-6
    if isinstance(kind, SquareCrop):
        assert matrix[0, 0] == pytest.approx(matrix[1, 1])
        shown = matrix @ (*point, 1)
        assert shown[:2].min() >= -0.5 - 1e-6
        assert shown[:2].max() <= 47.5 + 1e-6


def test_resized_crops_have_the_wanted_areas() -> None:
    areas, ratios = [], []
    for seed in range(300):
        matrix = ResizedCrop((0.36, 0.5)).draw(np.random.default_rng(seed), (60, 60), (0, 0), SAMPLING)
        width, height = 48 / matrix[0, 0], 48 / matrix[1, 1]
        areas.append(width * height / 3600)
        ratios.append(width / height)
    assert 0.36 <= min(areas) < 0.37
    assert 0.49 < max(areas) <= 0.5
    assert 0.75 <= min(ratios) < 0.77
    assert 1.3 < max(ratios) <= 1.3334


@pytest.mark.parametrize("bend", [None, np.zeros((40, 40, 2), np.float32)])
def test_what_lies_outside_is_reflected_or_filled(bend: np.ndarray | None) -> None:
    frame, mask = np.full((20, 20, 3), 200, np.uint8), np.ones((20, 20), np.uint8)
    far = crop(-10, -10, 40, 40, 40)
    frame_, mask_ = View(far, 40, bend).of(frame, mask)
    assert (frame_ == 200).all()
    assert (mask_ == 1).sum() == 400
    assert (mask_ == 255).sum() == 1200
    frame_, mask_ = View(far, 40, bend, fill=(1, 2, 3)).of(frame, mask)
    assert (frame_[0, 0] == (1, 2, 3)).all()
    assert mask_.sum() == 400


def test_large_pictures_are_shrunk_by_averaging() -> None:
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[::2] = 200
    mask = np.zeros((64, 96), np.uint8)
    mask[:, 48:], mask[:, 90:] = 3, 255
    small, ids = shrink(frame, mask, 32)
    assert small.shape == (32, 48, 3)
    assert (small == 100).all()
    assert (ids[:, :24] == 0).all()
    assert (ids[:, 24:45] == 3).all()
    assert (ids[:, 45:] == 255).all()
    assert shrink(frame, mask, 64)[0] is frame


def test_all_frames_of_a_video_are_mapped_alike_and_those_of_a_picture_are_not() -> None:
    _, mask = scene(1)
    alike = PRESETS["paper"].videos.views(np.random.default_rng(0), mask, np.array([1]), SAMPLING)
    assert all(close(view.matrix, alike[0].matrix) for view in alike)
    differ = PRESETS["paper"].stills.views(np.random.default_rng(0), mask, np.array([1]), SAMPLING)
    assert not close(differ[0].matrix, differ[1].matrix)


def test_flips_are_of_whole_clips() -> None:
    _, mask = scene(1)
    flipped = []
    for seed in range(60):
        views = PRESETS["stcn"].videos.views(np.random.default_rng(seed), mask, np.array([1]), SAMPLING)
        sides = {bool(np.linalg.det(view.matrix[:2, :2]) < 0) for view in views}
        assert len(sides) == 1
        flipped.append(sides.pop())
    assert 15 < sum(flipped) < 45


def test_tones_at_known_values() -> None:
    frame = np.zeros((4, 4, 3), np.uint8)
    frame[:2], frame[2:] = (100, 50, 20), (40, 90, 120)
    assert recolour(frame, [Tone()]) is frame
    np.testing.assert_allclose(recolour(frame, [Tone(brightness=1.2)]), 1.2 * frame, atol=1)
    grey = recolour(frame, [Tone(saturation=0)])
    luma = frame @ (0.299, 0.587, 0.114)
    np.testing.assert_allclose(grey, luma[..., None].repeat(3, axis=-1), atol=1)
    flat = recolour(frame, [Tone(contrast=0)])
    np.testing.assert_allclose(flat, luma.mean(), atol=1)
    np.testing.assert_allclose(recolour(frame, [Tone(hue=1 / 3)]), frame[..., [2, 0, 1]], atol=1)
    np.testing.assert_allclose(recolour(frame, [Tone(brightness=0.5), Tone(contrast=0)]), 0.5 * luma.mean(), atol=1)
    assert recolour(frame, [Tone(brightness=100)]).max() == 255


def test_jitters_stay_within_their_ranges() -> None:
    tones = [Jitter(0.1, 0.2, 0.3, 0.05).draw(np.random.default_rng(seed)) for seed in range(300)]
    for name, middle, reach in (("brightness", 1, 0.1), ("contrast", 1, 0.2), ("saturation", 1, 0.3), ("hue", 0, 0.05)):
        values = np.array([getattr(tone, name) for tone in tones]) - middle
        assert 0.9 * reach < np.abs(values).max() <= reach
        assert values.min() < 0 < values.max()
    assert Jitter().draw(np.random.default_rng(0)) == Tone()


def test_one_clip_in_twenty_of_stcn_is_grey() -> None:
    frame, _ = scene(1)
    augmentation = PRESETS["stcn"].videos
    grey = 0
    for seed in range(400):
        frames = augmentation.recolour(np.random.default_rng(seed), [frame[:4], frame[4:8]])
        whole = [bool((np.ptp(each.astype(int), axis=-1) <= 1).all()) for each in frames]
        assert whole[0] == whole[1]
        grey += whole[0]
    assert 8 <= grey <= 35
