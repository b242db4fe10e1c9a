"""Whole clips: objects join where their masks are, masks are on disk, and an interrupted run resumes."""

import errno
import os
import time

import numpy as np
import pytest
import torch
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.inference.segmenter import Segmenter
from stm_fast.media.masks import read_mask, write_mask
from stm_fast.media.notices import MediaNotice
from stm_fast.media.sources import open_frames
from stm_fast.memory import presets
from stm_fast.memory.policies import MemoryPolicy
from stm_fast.tracking import state_file
from stm_fast.tracking.output import OutputFolder
from stm_fast.tracking.prompts import PromptReader, find_prompts
from stm_fast.tracking.propagation import propagate
from stm_fast.tracking.results import Results
from stm_fast.tracking.state_file import Place, StateFile

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


def track_into(out, segmenter, frames, prompts, stop=None, *, resume=False, seconds=0.0):
    """The frames of a run whose results go to a folder; a run that stops is killed, as far as files can tell."""
    results = Results(
        OutputFolder(out), segmenter, frames, settings={}, inputs={}, resume=resume, checkpoint_every=seconds
    )
    found = []
    results.__enter__()
    for frame in propagate(segmenter, frames, PromptReader(prompts, frames.size), earlier=results):
        results.write(frame)
        found.append(frame)
        if len(found) == stop:
            return found
    results.__exit__(None, None, None)
    return found


@pytest.fixture
def segment(clip, model):
    """(out, prompts, **options) -> the frames of a run."""

    def run(out, prompts, stop=None, **options):
        frames = open_frames(clip / "frames")
        segmenter = Segmenter(model, policy=MemoryPolicy(every=2))
        return track_into(clip / out, segmenter, frames, find_prompts(clip / prompts, frames), stop, **options)

    return run


def masks(folder):
    inside = folder / "masks" if (folder / "masks").exists() else folder
    return {path.name: read_mask(path).tolist() for path in sorted(inside.glob("*.png"))}


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
    assert len(masks(clip / "out")) == stop
    frames = segment("out", "true", resume=True)
    assert [frame.resumed for frame in frames] == [i < stop for i in range(6)]
    assert masks(clip / "out") == masks(clip / "whole")


def test_resuming_fills_the_memory_as_one_run_does(clip, model):
    prompts = {"0": clip / "true" / "0.png"}
    policy = MemoryPolicy(every=2)
    whole, resumed = Segmenter(model, policy=policy), Segmenter(model, policy=policy)
    frames = open_frames(clip / "frames")
    track_into(clip / "out", whole, frames, prompts)
    (clip / "out" / "masks" / "5.png").unlink()
    track_into(clip / "out", resumed, frames, prompts, resume=True)
    assert sorted(resumed.memory.frames) == sorted(whole.memory.frames)
    for ours, theirs in zip(resumed.memory.groups, whole.memory.groups, strict=True):
        for slot, frame in enumerate(theirs.frames):
            tokens, expected = ours.tokens_of(ours.frames.index(frame)), theirs.tokens_of(slot)
            for kind in ("keys", "values"):
                found, wanted = (getattr(part, kind).numpy() for part in (tokens, expected))
                np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.fixture
def at_every_frame(monkeypatch):
    """Run states are written however long it takes."""
    monkeypatch.setattr(state_file, "_MAX_SHARE", 1e9)


@pytest.mark.usefixtures("at_every_frame")
@pytest.mark.parametrize("preset", [presets.official, presets.least_used, presets.long_term, presets.diverse])
@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_run_state_resumes_to_the_same_masks(clip, model, preset, stop):
    """Without one, memory is filled with hard masks: the probabilities are others."""

    def segmenter():
        few = {} if preset is presets.official else {"frames": 3}
        return Segmenter(model, policy=preset(every=1, **few))

    def run(segmenter, out, stop=None, **options):
        return track_into(clip / out, segmenter, frames, find_prompts(clip / "true", frames), stop, **options)

    frames = open_frames(clip / "frames")
    whole, killed, resumed = segmenter(), segmenter(), segmenter()
    run(whole, "whole")
    path = clip / "out" / ".checkpoint.safetensors"
    run(killed, "out", stop, seconds=1e-9)
    assert path.exists()
    path.with_name("..checkpoint.part.safetensors").write_bytes(b"killed while it wrote")
    found = run(resumed, "out", resume=True, seconds=1e-9)
    assert [frame.resumed for frame in found] == [index < stop for index in range(6)]
    assert masks(clip / "out") == masks(clip / "whole")
    assert resumed.memory.table() == whole.memory.table()
    for ours, theirs in zip(resumed.memory.groups, whole.memory.groups, strict=True):
        assert torch.equal(ours.values, theirs.values)
    assert not list(clip.rglob("*.safetensors"))


@pytest.mark.usefixtures("at_every_frame")
def test_masks_after_the_run_state_are_made_again(clip, segment):
    segment("whole", "true")
    segment("out", "true", stop=3, seconds=1e-9)
    segment("out", "true", stop=2, resume=True, seconds=0)
    write_mask(clip / "out" / "masks" / "4.png", np.full((32, 64), 9, np.uint8))
    frames = segment("out", "true", resume=True, seconds=120.0)
    assert [frame.resumed for frame in frames] == [True, True, True, False, False, False]
    assert masks(clip / "out") == masks(clip / "whole")


@pytest.mark.usefixtures("at_every_frame")
@pytest.mark.parametrize("damage", ["cut", "other", "ahead", "changed"])
def test_a_notice_tells_of_a_run_state_that_cannot_be_used(clip, segment, damage):
    path = clip / "out" / ".checkpoint.safetensors"
    segment("whole", "true")
    segment("out", "true", stop=4, seconds=1e-9)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "other":
        path.write_bytes(b"not a run state at all")
    elif damage == "changed":
        path.write_bytes(content.replace(b"every=2", b"every=3"))
    else:
        (clip / "out" / "masks" / "3.png").unlink()
    with pytest.warns(MediaNotice, match="memory is filled anew"):
        segment("out", "true", resume=True, seconds=0)
    assert masks(clip / "out") == masks(clip / "whole")


@pytest.mark.usefixtures("at_every_frame")
def test_a_mask_missing_before_the_run_state(clip, segment):
    segment("out", "true", stop=3, seconds=1e-9)
    (clip / "out" / "masks" / "1.png").unlink()
    write_mask(clip / "out" / "masks" / "5.png", np.zeros((32, 64), np.uint8))
    with pytest.raises(MediaError, match="mask of frame 1 is missing though masks after it are there"):
        segment("out", "true", resume=True, seconds=120.0)


@pytest.mark.usefixtures("at_every_frame")
def test_a_run_continues_where_no_run_state_can_be_written(clip, segment, monkeypatch):
    segment("whole", "true")
    path = clip / "out" / ".checkpoint.safetensors"
    segment("out", "true", stop=2, seconds=1e-9)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "save", full)
        with pytest.warns(MediaNotice, match=r"cannot be written \(.*No space left"):
            segment("out", "true", stop=5, resume=True, seconds=1e-9)
    assert path.read_bytes() == before
    segment("out", "true", resume=True, seconds=120.0)
    assert masks(clip / "out") == masks(clip / "whole")


@pytest.mark.parametrize("extra", [None, {"turn": 0}, [1], {"turn": 0, "position": "1", "frame": "1"}], ids=str)
def test_a_state_that_is_not_of_a_run_is_told_of(clip, segment, model, extra):
    segment("whole", "true")
    path = clip / "out" / ".checkpoint.safetensors"
    segment("out", "true", stop=2, seconds=1e-9)
    segmenter = Segmenter(model, policy=MemoryPolicy(every=2))
    segmenter.restore(path)
    segmenter.save(path, extra)
    with pytest.warns(MediaNotice, match="is not of a run over a clip"):
        segment("out", "true", resume=True, seconds=120.0)
    assert len(masks(clip / "out")) == len(masks(clip / "whole"))


@pytest.mark.usefixtures("at_every_frame")
def test_an_object_that_a_mask_adds_to_what_is_done_is_told_of(clip, segment):
    segment("out", "true", stop=4, seconds=1e-9)
    before = masks(clip / "out")
    added = np.zeros((32, 64), np.uint8)
    added[:8, :8] = 200
    write_mask(clip / "true" / "1.png", added)
    with pytest.raises(MediaError, match="given for frame 1 shows objects 200, which the run before did not follow"):
        segment("out", "true", resume=True, seconds=120.0)
    assert masks(clip / "out") == before


def test_a_large_state_is_saved_less_often(clip, model, monkeypatch):
    now, saved = [0.0], []

    class Slow(Segmenter):
        started = True

        def save(self, path, extra=None):
            saved.append(extra["position"])
            now[0] += 1.0

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    file, segmenter = StateFile(clip / "state", 5.0), Slow(model)
    for index in range(100):
        now[0] += 1.0
        file.save_if_due(segmenter, Place(0, index, str(index)))
    assert saved == [4, 24, 44, 64, 84]


def test_without_resume_masks_are_made_anew(clip, segment):
    write_mask(clip / "out" / "masks" / "1.png", np.full((32, 64), 9, np.uint8))
    segment("out", "true")
    assert masks(clip / "out") == masks(clip / "true")


def test_masks_of_another_clip_are_not_resumed(clip, segment):
    write_mask(clip / "out" / "masks" / "0.png", np.ones((8, 8), np.uint8))
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
    with pytest.raises(MediaError, match="holds no image"):
        segment("out", "nothing")


def test_masks_named_like_no_frame(clip, segment):
    write_mask(clip / "odd" / "mask.png", np.ones((32, 64), np.uint8))
    with pytest.raises(MediaError, match=r"no mask in .* is named like a frame: frames are called 0 and so on"):
        segment("out", "odd")


def test_stray_mask_is_noticed(clip, segment):
    write_mask(clip / "true" / "stray.png", np.ones((32, 64), np.uint8))
    with pytest.warns(MediaNotice, match="1 masks in .* are not named like a frame .* the first is stray"):
        segment("out", "true")


def test_mask_of_another_size_is_resized(clip, segment, ids):
    write_mask(clip / "small.png", ids(*TRUE[0])[::2, ::2])
    with pytest.warns(MediaNotice, match="was resized to the frames' 64×32"):
        segment("out", "small.png")
    assert masks(clip / "out")["0.png"] == masks(clip / "true")["0.png"]
