"""Whole clips: objects join where their masks are, masks are on disk, and an interrupted run goes on."""

import itertools

import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.inference.prompts import find_prompts
from stm_fast.inference.propagation import propagate
from stm_fast.inference.resumable import ResumableSegmenter
from stm_fast.media.masks import read_mask, write_mask
from stm_fast.media.notices import MediaNotice
from stm_fast.media.video import open_frames
from stm_fast.memory.policies import MemoryPolicy

pytestmark = pytest.mark.filterwarnings("ignore:.*masks add objects but do not correct")

ROWS = [("r..g", "...."), (".r.g", "...."), ("..rg", "...."), ("..gr", "b..."), (".g.r", ".b.."), ("g..r", "..b.")]
TRUE = [("1002", "0000"), ("0102", "0000"), ("0012", "0000"), ("0021", "3000"), ("0201", "0300"), ("2001", "0030")]


@pytest.fixture
def clip(tmp_path, paint, ids):
    """A clip of six frames in three colours, blue arriving in frame 3, and its true masks."""
    for index, (rows, true) in enumerate(zip(ROWS, TRUE, strict=True)):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.fromarray(paint(*rows)).save(tmp_path / "frames" / f"{index}.png")
        write_mask(tmp_path / "true" / f"{index}.png", ids(*true))
    return tmp_path


@pytest.fixture
def segment(clip, model):
    """(out, prompts, **options) -> the frames of a run."""

    def run(out, prompts, stop=None, **options):
        frames = open_frames(clip / "frames")
        segmenter = ResumableSegmenter(model, policy=MemoryPolicy(every=2))
        found = propagate(segmenter, frames, find_prompts(clip / prompts, frames), clip / out, **options)
        return list(itertools.islice(found, stop))

    return run


def masks(folder):
    return {path.name: read_mask(path).tolist() for path in sorted(folder.iterdir())}


def test_later_masks_only_add_objects(clip, segment):
    frames = segment("out", "true")
    assert masks(clip / "out") == masks(clip / "true")
    assert [(frame.index, frame.name, frame.resumed) for frame in frames] == [(i, str(i), False) for i in range(6)]
    for frame in frames:
        np.testing.assert_array_equal(frame.mask, read_mask(clip / "true" / f"{frame.name}.png"))


def test_one_mask_is_that_of_the_first_frame(clip, segment):
    segment("out", "true/0.png")
    for name, mask in masks(clip / "true").items():
        assert masks(clip / "out")[name] == np.where(np.array(mask) == 3, 0, mask).tolist()


def test_frames_before_the_first_object_are_empty(clip, segment):
    for name in ("0.png", "1.png"):
        (clip / "true" / name).unlink()
    segment("out", "true")
    found = masks(clip / "out")
    assert not np.any(found["0.png"])
    assert not np.any(found["1.png"])
    assert found["5.png"] == masks(clip / "true")["5.png"]


@pytest.mark.parametrize("stop", range(1, 7))
def test_resumed_run_equals_one_run(clip, segment, stop):
    segment("whole", "true")
    segment("out", "true", stop=stop)
    assert len(list((clip / "out").iterdir())) == stop
    frames = segment("out", "true", resume=True)
    assert [frame.resumed for frame in frames] == [i < stop for i in range(6)]
    assert masks(clip / "out") == masks(clip / "whole")


def test_resuming_fills_the_memory_as_one_run_does(clip, model):
    prompts = {"0": clip / "true" / "0.png"}
    policy = MemoryPolicy(every=2)
    whole, resumed = ResumableSegmenter(model, policy=policy), ResumableSegmenter(model, policy=policy)
    frames = open_frames(clip / "frames")
    list(propagate(whole, frames, prompts, clip / "out"))
    (clip / "out" / "5.png").unlink()
    list(propagate(resumed, frames, prompts, clip / "out", resume=True))
    assert sorted(resumed.memory.frames) == sorted(whole.memory.frames)
    order = [resumed.memory.frames.index(frame) for frame in whole.memory.frames]
    for kind in ("keys", "values"):
        expected = getattr(whole.memory, kind).numpy()
        np.testing.assert_allclose(getattr(resumed.memory, kind)[:, :, order].numpy(), expected, atol=1e-3)


def test_without_resume_masks_are_made_anew(clip, segment):
    write_mask(clip / "out" / "1.png", np.full((32, 64), 9, np.uint8))
    segment("out", "true")
    assert masks(clip / "out") == masks(clip / "true")


def test_masks_of_another_clip_are_not_resumed(clip, segment):
    write_mask(clip / "out" / "0.png", np.ones((8, 8), np.uint8))
    with pytest.raises(MediaError, match="it is not of this clip"):
        segment("out", "true", resume=True)


def test_empty_first_mask(clip, segment):
    write_mask(clip / "empty.png", np.zeros((32, 64), np.uint8))
    with pytest.raises(MediaError, match=r"empty.png is empty: the first mask must hold at least one object"):
        segment("out", "empty.png")


def test_missing_mask(segment):
    with pytest.raises(MediaError, match=r"mask .*none.png does not exist"):
        segment("out", "none.png")


def test_folder_without_masks(clip, segment):
    (clip / "nothing").mkdir()
    with pytest.raises(MediaError, match="holds no mask image"):
        segment("out", "nothing")


def test_masks_named_like_no_frame(clip, segment):
    write_mask(clip / "odd" / "mask.png", np.ones((32, 64), np.uint8))
    with pytest.raises(MediaError, match=r"no mask in .* is named like a frame: frames are called 0 and so on"):
        segment("out", "odd")


def test_stray_mask_is_noticed(clip, segment):
    write_mask(clip / "true" / "stray.png", np.ones((32, 64), np.uint8))
    with pytest.warns(MediaNotice, match="1 masks in .* are named like no frame .* the first is stray"):
        segment("out", "true")


def test_mask_of_another_size_is_resized(clip, segment, ids):
    write_mask(clip / "small.png", ids(*TRUE[0])[::2, ::2])
    with pytest.warns(MediaNotice, match="was resized to the frames' 64×32"):
        segment("out", "small.png")
    assert masks(clip / "out")["0.png"] == masks(clip / "true")["0.png"]
