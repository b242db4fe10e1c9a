"""Clips whose frames and masks are read at random, and what a dataset says of its objects."""

from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image

from stm_fast.data.clips import Clip, Dataset, SetSummary
from stm_fast.errors import MediaError
from stm_fast.media.masks import read_labels, read_mask, write_mask
from stm_fast.media.notices import MediaNotice
from stm_fast.tracking.prompts import PromptReader


class Stripe:
    """A mask that is no image file: object 3, void, background."""

    def read(self):
        return np.repeat(np.array([[3, 255, 0]], np.uint8), 4, 0).repeat(2, 1)

    def __str__(self):
        return "stripe"


@pytest.fixture
def clip(tmp_path):
    """Frames of one grey each, ids equal to the frame's number, void in the last column."""
    truth = {}
    for index in (1, 2, 10):
        path = tmp_path / "frames" / f"frame_{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 6, 3), index, np.uint8)).save(path)
        mask = np.full((4, 6), index, np.uint8)
        mask[:, 5], mask[:, 0] = 255, 0
        truth[path.stem] = tmp_path / "masks" / path.name
        write_mask(truth[path.stem], mask)
    return Clip("clip", tmp_path / "frames", truth, truth, void=255)


def test_frames_and_masks_are_read_by_name(clip):
    assert clip.frame_names() == ["frame_1", "frame_2", "frame_10"]
    frame, truth = clip.read_frame("frame_10"), clip.read_truth("frame_10")
    assert (frame.shape, frame.dtype, np.unique(frame).tolist()) == ((4, 6, 3), np.uint8, [10])
    assert truth[0].tolist() == [0, 10, 10, 10, 10, 255]
    assert [each.name for each in clip.open()] == clip.frame_names()
    with pytest.raises(KeyError):
        clip.read_truth("frame_3")


def test_frames_in_a_video_are_not_read_by_name(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"not opened here")
    with pytest.raises(MediaError, match=r"clip.mp4 is not a folder of images"):
        Clip("clip", tmp_path / "clip.mp4", {}, {}).frame_names()


@pytest.mark.filterwarnings("ignore::stm_fast.media.notices.MediaNotice")
def test_colours_are_the_same_objects_in_any_order_of_reading(clip):
    names, pink, teal = clip.frame_names(), (250, 20, 160), (20, 160, 160)
    for name, colours in zip(names, ((pink, teal), (teal,), (pink,)), strict=True):
        picture = np.zeros((4, 6, 3), np.uint8)
        for column, colour in enumerate(colours):
            picture[:, column + 1] = colour
        Image.fromarray(picture).save(clip.truth[name])
    one_by_one = [clip.read_truth(name)[0] for name in reversed(names)][::-1]
    known = {}
    for name, found in zip(names, one_by_one, strict=True):
        np.testing.assert_array_equal(found, read_mask(clip.truth[name], known)[0])
    assert sorted({*one_by_one[1]} | {*one_by_one[2]}) == [0, 1, 2]


@pytest.mark.filterwarnings("ignore::stm_fast.media.notices.MediaNotice")
def test_colours_that_the_first_mask_lacks_are_refused(clip):
    names = clip.frame_names()
    for name, colour in zip(names, ((250, 20, 160), (20, 160, 160), (9, 90, 200)), strict=True):
        picture = np.zeros((4, 6, 3), np.uint8)
        picture[:, 1] = colour
        Image.fromarray(picture).save(clip.truth[name])
    with pytest.raises(MediaError, match=r"frame_10.png has colours that the first mask .* \(9, 90, 200\)"):
        clip.read_truth("frame_10")


def test_indices_of_a_palette_are_ids_in_every_mask(clip):
    """YouTube-VOS has a palette of its own; the second mask has an object that the first lacks."""
    for name, ids in zip(clip.frame_names(), ((0, 1), (2, 1), (3, 0)), strict=True):
        picture = Image.fromarray(np.array([(0, *ids, 0, 0, 0)] * 4, np.uint8)).convert("P")
        picture.putpalette([0, 0, 0, 236, 95, 103, 249, 145, 87, 250, 200, 99])
        picture.save(clip.truth[name])
    assert clip.read_truth("frame_10")[0].tolist() == [0, 3, 0, 0, 0, 0]
    assert clip.read_truth("frame_2")[0].tolist() == [0, 2, 1, 0, 0, 0]


def test_a_truth_of_another_size_is_resized_to_the_frames(clip):
    path = clip.truth["frame_2"]
    write_mask(path, np.kron(read_mask(path), np.ones((2, 2), np.uint8)))
    with pytest.warns(MediaNotice, match="was resized to the frames' 6×4"):
        assert clip.read_truth("frame_2").shape == (4, 6)


def test_masks_that_are_no_files(clip):
    clip = Clip("clip", clip.frames, {}, {"frame_1": Stripe()}, void=255)
    assert clip.read_truth("frame_1")[0].tolist() == [3, 3, 255, 255, 0, 0]
    assert read_labels(Stripe())[0].tolist() == [3, 3, 255, 255, 0, 0]
    assert read_mask(Stripe(), void=255)[0].tolist() == [3, 3, 0, 0, 0, 0]
    frame = next(iter(clip.open()))
    reader = PromptReader({frame.name: Stripe()}, (4, 6), void=255)
    assert reader.new_objects(frame)[0].tolist() == [3, 3, 0, 0, 0, 0]
    assert reader.known == {3}


def test_unseen_objects_by_category_and_by_clip(clip):
    known = Clip("a", clip.frames, {}, {}, categories={1: "ape", 2: "zebra"})
    dataset = Dataset("set", (known,), PurePath("masks"), unseen=frozenset({"ape"}))
    assert [dataset.is_unseen(known, each) for each in (1, 2, 3)] == [True, False, None]
    dataset = Dataset("set", (known, clip), PurePath("masks"), unseen_clips=frozenset({"a"}))
    assert [dataset.is_unseen(each, 1) for each in dataset] == [True, False]
    assert Dataset("set", (known,), PurePath("masks")).is_unseen(known, 1) is None


def test_a_summary_says_what_a_set_holds():
    assert str(SetSummary("a", 1, 0, has_truth=True)) == "1 clip; masks to score against"
    assert str(SetSummary("a", 3, 2, has_truth=False)).startswith("3 clips, 2 of them missing; only masks of first")
    assert str(SetSummary("a", 2, 2, has_truth=False)) == "2 clips, all missing"


def test_only_plain_masks_with_the_first_ones_palette_are_read_by_index(clip):
    """A palette with a transparent entry, or of another file, has its own rules."""
    for name, ids in zip(clip.frame_names(), ((1, 2), (2, 1), (0, 0)), strict=True):
        picture = Image.fromarray(np.array([(0, *ids, 0, 0, 0)] * 4, np.uint8)).convert("P")
        picture.putpalette([0, 0, 0, 236, 95, 103, 249, 145, 87, 250, 200, 99])
        picture.save(clip.truth[name])
    assert clip.read_truth("frame_2")[0].tolist() == [0, 2, 1, 0, 0, 0]
    picture = Image.fromarray(np.array([(0, 1, 2, 0, 0, 0)] * 4, np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, 249, 145, 87, 236, 95, 103])  # the colours of 1 and 2 are exchanged
    picture.save(clip.truth["frame_2"])
    with pytest.warns(MediaNotice, match="matched by colour"):
        assert clip.read_truth("frame_2")[0].tolist() == [0, 2, 1, 0, 0, 0]
    picture.putpalette([0, 0, 0, 236, 95, 103, 249, 145, 87, 250, 200, 99])
    picture.save(clip.truth["frame_10"], transparency=bytes([255, 0, 255, 255]))
    assert clip.read_truth("frame_10")[0].tolist() == [0, 0, 2, 0, 0, 0]


def test_a_damaged_mask_is_an_error(clip):
    clip.read_truth("frame_1")
    clip.truth["frame_2"].write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"frame_2.png cannot be read as a mask"):
        clip.read_truth("frame_2")
