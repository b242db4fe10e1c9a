"""Passes that are tracked one at a time, and folders that a process holds for longer than a run."""

import contextlib
import json
import multiprocessing

import numpy as np
import pytest

from stm_fast.errors import StmFastError
from stm_fast.media.notices import heard_by, notice
from stm_fast.tracking import claims

BOTH = {"direction": "both", "from_frame": 3}


@pytest.fixture
def save(track, unsteady, noise, tmp_path):
    """(turns, corrections) -> the summary of a run over some passes, which may be stopped after some frames."""

    def run(turns=None, corrections=None, stop_after=99):
        pictures, mask = noise
        left = stop_after

        def each(frame):
            nonlocal left
            left -= not frame.resumed
            if not left:
                raise KeyboardInterrupt

        tracker = track(pictures, {3: mask}, model=unsteady, corrections=corrections, **BOTH)
        out = tmp_path / "out"
        with contextlib.suppress(KeyboardInterrupt):
            tracker.save(out, resume=(out / "summary.json").exists(), overlay=None, turns=turns, each=each)
        return json.loads((out / "summary.json").read_text())

    return run


@pytest.fixture
def whole(track, unsteady, noise):
    """(corrections) -> the masks of one run, by number."""

    def run(corrections=None):
        pictures, mask = noise
        found = track(pictures, {3: mask}, model=unsteady, corrections=corrections, **BOTH)
        return {frame.index: frame.mask for frame in found}

    return run


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("turns", [(0, 1), (1, 0)])
def test_passes_in_any_order_and_in_steps_are_one_run(save, whole, masks_in, assert_equal, tmp_path, turns):
    for stop_after in (2, 99):
        for turn in turns:
            assert not save((turn,), stop_after=stop_after)["complete"]
    summary = save()
    assert summary["complete"]
    assert summary["inputs"]["passes_done"] == [0, 1]
    assert (summary["frames"], summary["resumed_frames"]) == (8, 8)
    assert_equal(masks_in(tmp_path / "out"), dict(sorted(whole().items())))
    assert not list((tmp_path / "out").glob(".checkpoint*"))


@pytest.mark.usefixtures("one_thread")
def test_a_correction_of_one_pass_leaves_the_state_of_the_other(save, whole, masks_in, assert_equal, noise, tmp_path):
    save((0,), stop_after=3)
    save((1,), stop_after=2)
    moved = {5: np.roll(noise[1], 6, 1)}
    save((1,), moved)
    summary = save(None, moved)
    assert summary["complete"]
    assert_equal(masks_in(tmp_path / "out"), dict(sorted(whole(moved).items())))


def test_a_run_that_is_killed_in_its_second_pass_does_not_repeat_the_first(save, tmp_path):
    """Its summary does not know that the first pass is done, but the state of its last frame does."""
    out = tmp_path / "out"
    summary = save(stop_after=7)
    assert summary["inputs"].pop("passes_done") == [0]
    (out / "summary.json").write_text(json.dumps(summary))
    (out / ".checkpoint-1.safetensors").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in (out / "masks").iterdir()}
    assert sorted(before) == [f"{number:05d}.png" for number in range(1, 8)]
    assert save()["resumed_frames"] == 7
    assert {path.name: path.stat().st_mtime_ns for path in (out / "masks").iterdir() if path.name in before} == before


def test_corrections_that_are_none_on_purpose(save, noise):
    save(None, {5: np.roll(noise[1], 6, 1)})
    with pytest.raises(StmFastError, match="was made with corrections, such as that of frame 00005"):
        save()
    assert save(None, {})["inputs"]["corrections"] == {}


def test_a_folder_that_is_held(tmp_path):
    def claim(folder, refused):
        claims._held.clear()  # another process knows nothing of it
        try:
            claims.claim(folder / "summary.json", [], {}, resume=False, overwrite=True)
        except StmFastError as error:
            refused.put(str(error))
        else:
            refused.put("")

    def elsewhere(folder):
        refused = context.SimpleQueue()
        process = context.Process(target=claim, args=(folder, refused))
        process.start()
        found = refused.get()
        process.join()
        return found

    context = multiprocessing.get_context("fork")
    folder = tmp_path / "held"
    with claims.held(folder):
        for _ in range(2):  # runs of this process claim it one by one
            claims.claim(folder / "summary.json", [], {}, resume=False, overwrite=True)
            claims.release(folder)
            claims.release()
            assert "another run is writing into" in elsewhere(folder)
    assert elsewhere(folder) == ""


def test_a_folder_is_held_once(tmp_path):
    with claims.held(tmp_path):
        with pytest.raises(StmFastError, match="another run is writing into"), claims.held(tmp_path):
            pass
        assert tmp_path in claims._held
    with claims.held(tmp_path):
        assert tmp_path in claims._held


def test_notices_are_heard_in_place_of_warnings():
    told = []
    with heard_by(told.append):
        notice("this was assumed")
    assert told == ["this was assumed"]
    with pytest.warns(UserWarning, match="that too"):
        notice("that too")
