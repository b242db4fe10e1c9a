"""Clips in processes of their own: the same results, and nothing is lost where one fails."""

import os
import signal
from contextlib import contextmanager, nullcontext
from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image

from stm_fast.data.clips import Clip, Dataset
from stm_fast.errors import ArgumentError
from stm_fast.evaluation import jobs
from stm_fast.evaluation.jobs import Work, run_in_processes, run_in_turn
from stm_fast.evaluation.run import recorded
from stm_fast.evaluation.test_time import Views
from stm_fast.media.masks import read_mask, write_mask
from stm_fast.media.notices import MediaNotice
from stm_fast.tracking.options import TrackOptions

TRACKING = TrackOptions(size=None, dtype="float32", device="cpu")
FRAMES, NAMES = 3, ("a", "b", "c")


@pytest.fixture
def dataset(tmp_path):
    """Three clips of a square that moves."""
    clips = []
    for number, name in enumerate(NAMES):
        mask = np.zeros((32, 48), np.uint8)
        mask[8:24, 4 : 20 + number] = 1
        write_mask(tmp_path / "masks" / f"{name}.png", mask)
        (tmp_path / "frames" / name).mkdir(parents=True)
        for index in range(FRAMES):
            picture = np.where(np.roll(mask, 3 * index, 1)[..., None] > 0, (220, 60, 30), (20, 90, 60))
            Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "frames" / name / f"{index}.png")
        first = {"0": tmp_path / "masks" / f"{name}.png"}
        clips.append(Clip(name, tmp_path / "frames" / name, first, first))
    return Dataset("set", tuple(clips), PurePath("masks"))


class Bars:
    """Progress that notes its titles and counts frames."""

    def __init__(self):
        self.titles, self.frames = [], 0

    @contextmanager
    def __call__(self, title, total):
        self.titles.append((title, total))
        yield self.advance

    def advance(self, note=""):
        self.frames += 1


def quiet(title, total):
    return nullcontext(lambda: None)


def masks(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_two_processes_give_the_masks_of_one(dataset, tmp_path, one_thread):
    views = Views((32, 48), flip=True)
    one, two = tmp_path / "one", tmp_path / "two"
    alone = run_in_turn(Work(dataset, one, TRACKING, views), dataset.clips, TRACKING.load(), quiet)
    bars = Bars()
    shared = run_in_processes(Work(dataset, two, TRACKING, views), dataset.clips, 2, bars)
    assert bars.titles == [("3 clips", 3 * FRAMES)]
    assert bars.frames == 3 * FRAMES
    assert masks(one) == masks(two)
    assert len(masks(one)) == 3 * FRAMES
    assert [run.clip for run in shared.runs] == [run.clip for run in alone.runs] == list(NAMES)
    assert not shared.failed
    assert all(run.peak_bytes > 10_000_000 and run.frames == FRAMES for run in shared.runs + alone.runs)


@pytest.mark.parametrize("frame", ["0.png", "1.png"])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_clip_that_cannot_be_read_does_not_lose_the_others(dataset, tmp_path, processes, frame):
    damaged = tmp_path / "frames" / "b" / frame
    whole = damaged.read_bytes()
    damaged.write_bytes(b"no picture")
    work = Work(dataset, tmp_path / "out", TRACKING)

    def run():
        if processes == 1:
            return run_in_turn(work, dataset.clips, TRACKING.load(), quiet)
        return run_in_processes(work, dataset.clips, 2, quiet)

    with pytest.warns(MediaNotice, match="clip b cannot be segmented"):
        outcomes = run()
    assert [run.clip for run in outcomes.runs] == ["a", "c"]
    assert list(outcomes.failed) == ["b"]
    damaged.write_bytes(whole)
    before = (tmp_path / "out" / "runs" / "a.json").stat().st_mtime_ns
    assert [run.clip for run in run().runs] == list(NAMES)
    assert (tmp_path / "out" / "runs" / "a.json").stat().st_mtime_ns == before


def _killed_with_b(work, clip, threads, counter, slot):
    if clip.name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return ANSWER(work, clip, threads, counter, slot)


ANSWER = jobs._answer


def test_a_killed_process_is_named_and_replaced(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_answer", _killed_with_b)
    with pytest.warns(MediaNotice, match="clip b cannot be segmented: its process died by SIGKILL"):
        outcomes = run_in_processes(Work(dataset, tmp_path / "out", TRACKING), dataset.clips, 1, quiet)
    assert [run.clip for run in outcomes.runs] == ["a", "c"]
    assert outcomes.failed == {"b": "its process died by SIGKILL"}


def test_an_interruption_ends_the_processes_and_keeps_what_is_done(dataset, tmp_path):
    ended = []

    @contextmanager
    def interrupt(title, total):
        def advance():
            if all(recorded(clip, tmp_path / "out") for clip in dataset.clips[:1]):
                ended.append(True)
                raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        run_in_processes(Work(dataset, tmp_path / "out", TRACKING), dataset.clips, 1, interrupt)
    assert ended
    assert recorded(dataset.clips[0], tmp_path / "out")
    assert read_mask(tmp_path / "out" / "masks" / "a" / "2.png").shape == (32, 48)


def test_an_option_out_of_range_stops_all(dataset, tmp_path):
    with pytest.raises(ArgumentError, match="sizes must be at least 16 pixels"):
        run_in_processes(Work(dataset, tmp_path / "out", TRACKING, Views((8,))), dataset.clips, 2, quiet)


def test_notices_of_the_processes_are_given_here(dataset, tmp_path):
    large = np.kron(read_mask(tmp_path / "masks" / "a.png"), np.ones((2, 2), np.uint8))
    write_mask(tmp_path / "masks" / "a.png", large)
    with pytest.warns(MediaNotice, match="was resized to the frames'"):
        run_in_processes(Work(dataset, tmp_path / "out", TRACKING), dataset.clips[:1], 1, quiet)
