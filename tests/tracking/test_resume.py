"""Resuming what was interrupted: only on the same inputs, with corrections, and from files that are damaged."""

import json

import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import StmFastError
from stm_fast.media.masks import read_mask
from stm_fast.media.notices import MediaNotice
from stm_fast.tracking.journal import read_journal


def interrupt(tracker, out, after=3, **how):
    """Stop a run after a frame."""

    def stop(frame):
        if frame.index == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tracker.save(out, overlay=None, each=stop, **how)


def masks_in(out):
    return [read_mask(path) for path in sorted((out / "masks").iterdir())]


@pytest.mark.parametrize("state", [True, False], ids=["from the state", "from the masks"])
@pytest.mark.parametrize("first", [True, False], ids=["with a mask", "by the correction alone"])
def test_a_run_with_corrections_resumes(track, pictures, truth, tmp_path, state, first):
    seen = []

    def corrections(frame):
        seen.append(frame.index)
        return truth[1] if frame.index == 1 else None

    def tracker():
        return track(pictures, np.where(truth[0] == 1, 1, 0) if first else None, corrections=corrections)

    interrupt(tracker(), tmp_path / "out", checkpoint_every=120.0 if state else 0)
    seen.clear()
    summary = tracker().save(tmp_path / "out", overlay=None, resume=True)
    assert (summary.complete, summary.resumed_frames) == (True, 4)
    assert seen == ([4, 5] if state else list(range(6)))
    for mask, expected in zip(masks_in(tmp_path / "out")[1:], truth[1:], strict=True):
        np.testing.assert_array_equal(mask, expected)


def test_other_arrays_are_not_resumed(track, pictures, truth, tmp_path):
    interrupt(track(pictures, truth[0]), tmp_path / "out")
    with pytest.raises(StmFastError, match="what is given is not the mask of frame 00000"):
        track(pictures, np.where(truth[0] == 1, 1, 0)).save(tmp_path / "out", resume=True)
    with pytest.raises(StmFastError, match="the frames has changed since the earlier masks were made"):
        track(pictures[::-1], truth[0]).save(tmp_path / "out", resume=True)
    assert track(pictures, truth[0]).save(tmp_path / "out", resume=True, overlay=None).resumed_frames == 4


def test_other_images_in_the_same_folder_are_not_resumed(stopped, track, pictures):
    for index, picture in enumerate(pictures[::-1]):
        Image.fromarray(picture).save(stopped / "frames" / f"{index}.png")
    with pytest.raises(StmFastError, match="frames has changed since the earlier masks were made"):
        track(stopped / "frames", stopped / "mask.png").save(stopped / "out", resume=True)


@pytest.mark.parametrize(
    "tail", [b"\xff\xfe\0", b'{"frame": "9", "objects": {"1": {"area": Infinity, "uncertainty": 1}}}']
)
def test_a_damaged_journal_is_resumed(stopped, track, tail):
    path = stopped / "out" / "frames.jsonl"
    path.write_bytes(path.read_bytes()[:-20] + b"\n" + tail)
    assert track(stopped / "frames", stopped / "mask.png").save(stopped / "out", resume=True, overlay=None).complete
    assert list(read_journal(path)) == [str(index) for index in range(6)]


def test_masks_of_frames_that_the_clip_no_longer_has_are_told_of(stopped, track):
    for name in ("2.png", "3.png", "4.png", "5.png"):
        (stopped / "frames" / name).unlink()
    with pytest.warns(MediaNotice, match="2 masks in .*masks belong to frames that the clip no longer has"):
        track(stopped / "frames", stopped / "mask.png").save(stopped / "out", resume=True, overlay=None)


@pytest.mark.parametrize("inputs", [3, {"source": 3, "masks": {}}, {"source": {"path": "frames"}}])
def test_a_summary_with_damaged_inputs_is_refused(stopped, track, inputs):
    path = stopped / "out" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"inputs": inputs}))
    with pytest.raises(StmFastError, match=r"does not tell what the .* were made from"):
        track(stopped / "frames", stopped / "mask.png").save(stopped / "out", resume=True)


def test_a_run_that_is_refused_does_not_free_the_folder_of_another(clip, track):
    pytest.importorskip("fcntl")

    def others(frame):
        for _ in range(2):
            with pytest.raises(StmFastError, match="another run is writing into"):
                track(clip / "frames", clip / "mask.png").save(clip / "out", overwrite=True, overlay=None)

    assert track(clip / "frames", clip / "mask.png").save(clip / "out", overlay=None, each=others).complete
