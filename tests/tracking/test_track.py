"""`stm_fast.track`: every kind of video and mask, corrections, and the same masks as the command line's."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

import stm_fast
from stm_fast.errors import ArgumentError, MediaError, StmFastError, WeightsError
from stm_fast.media.encode import video_writer
from stm_fast.media.masks import read_mask, write_mask
from stm_fast.media.notices import MediaNotice
from stm_fast.media.sources import open_frames
from stm_fast.models.card import ModelCard
from stm_fast.tracking.journal import Journal, read_journal
from stm_fast.tracking.overlay import Overlay
from stm_fast.tracking.propagation import Correction, TrackedFrame


def assert_masks(frames, truth):
    assert len(frames) == len(truth)
    for frame, mask in zip(frames, truth, strict=True):
        np.testing.assert_array_equal(frame.mask, mask)


def test_files(clip, track, pictures, truth):
    frames = list(track(clip / "frames", str(clip / "mask.png")))
    assert_masks(frames, truth)
    assert [(frame.index, frame.name, frame.objects) for frame in frames] == [(i, str(i), (1, 2)) for i in range(6)]
    for frame, picture in zip(frames, pictures, strict=True):
        np.testing.assert_array_equal(frame.image, picture)


@pytest.mark.parametrize("kind", ["list", "iterator", "tensors", "floats"])
def test_frames_that_are_not_files(track, pictures, truth, kind):
    made = {
        "list": lambda: pictures,
        "iterator": lambda: iter(pictures),
        "tensors": lambda: [torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures],
        "floats": lambda: [(picture / 255).astype(np.float32) for picture in pictures],
    }
    frames = list(track(made[kind](), truth[0]))
    assert_masks(frames, truth)
    assert frames[5].name == "00005"
    np.testing.assert_array_equal(frames[5].image, pictures[5])


def test_a_live_source_is_followed_as_it_runs(track, pictures, truth):
    given = []

    def camera():
        for picture in pictures:
            given.append(picture)
            yield picture

    tracker = track(camera(), truth[0])
    for count, frame in enumerate(tracker, 1):
        assert len(given) == count
        np.testing.assert_array_equal(frame.mask, truth[frame.index])


@pytest.mark.parametrize("late", [3, "00003"])
def test_masks_of_several_frames(clip, track, pictures, truth, late):
    first, second = (np.where(truth[index] == found, found, 0) for index, found in ((0, 1), (3, 2)))
    frames = list(track(pictures, {0: first, late: second}))
    for frame in frames:
        expected = truth[frame.index] if frame.index >= 3 else np.where(truth[frame.index] == 1, 1, 0)
        np.testing.assert_array_equal(frame.mask, expected)
    assert [frame.objects for frame in frames] == [(1,)] * 3 + [(1, 2)] * 3


def test_a_mapping_may_hold_files(clip, track, pictures, truth):
    assert_masks(list(track(pictures, {0: clip / "mask.png"})), truth)


def test_ids_above_255(track, pictures, truth):
    frames = list(track(pictures, truth[0] * 1000))
    assert frames[4].objects == (1000, 2000)
    np.testing.assert_array_equal(frames[4].mask, truth[4] * 1000)


def test_void_is_no_object(clip, track, pictures, truth):
    marked = np.where(np.roll(truth[0], 16, 0) > 0, 255, truth[0])
    assert_masks(list(track(pictures, marked, void=255)), truth)
    write_mask(clip / "mask.png", marked)
    assert_masks(list(track(clip / "frames", clip / "mask.png", void=255)), truth)
    with pytest.warns(MediaNotice, match="id 255 is followed as an object; void 255 ignores it"):
        frames = list(track(clip / "frames", clip / "mask.png"))
    assert frames[0].objects == (1, 2, 255)


def test_send_corrects_the_frame_and_those_after_it(track, pictures, truth):
    tracker = track(pictures, np.where(truth[0] == 1, 1, 0))
    frames = [next(tracker), next(tracker)]
    corrected = tracker.send(Correction(truth[1], [2]))
    assert (corrected.index, corrected.objects) == (1, (1, 2))
    np.testing.assert_array_equal(corrected.mask, truth[1])
    assert corrected.uncertainty[2] is None
    frames += list(tracker)
    assert [frame.index for frame in frames] == list(range(6))
    assert_masks(frames[2:], truth[2:])
    with pytest.raises(StopIteration):
        next(tracker)


@pytest.mark.parametrize(
    ("correction", "error"),
    [
        (np.ones((3, 3), np.uint8), ValueError),
        (np.zeros((32, 64), np.uint8), ValueError),
        (Correction(np.ones((32, 64), np.uint8), []), ValueError),
        (np.ones((32, 64), np.float32), TypeError),
        ("mask.png", TypeError),
    ],
)
def test_a_correction_that_cannot_be_used_leaves_the_video_where_it_was(track, pictures, truth, correction, error):
    tracker = track(pictures, truth[0])
    frames = [next(tracker)]
    with pytest.raises(error):
        tracker.send(correction)
    assert_masks([*frames, *tracker], truth)


def test_a_correction_before_the_first_frame_is_refused(track, pictures, truth, tmp_path):
    tracker = track(pictures, truth[0])
    with pytest.raises(RuntimeError, match="send must follow the first frame"):
        tracker.send(truth[0])
    assert tracker.save(tmp_path / "out", overlay=None).frames == 6


def test_frames_may_be_named_by_numpy_integers(track, pictures, truth):
    assert_masks(list(track(pictures, {np.int64(0): truth[0]})), truth)


def test_names_may_be_objects_of_pathlib_and_torch(pictures, truth, tmp_path):
    missing = tmp_path / "weights.pth"
    with pytest.raises(WeightsError, match=r"weights\.pth: no such file"):
        stm_fast.track(pictures, truth[0], model=missing, device=torch.device("cpu"), dtype=torch.float32)
    tracker = stm_fast.track(
        pictures, truth[0], device=torch.device("cpu"), dtype=torch.float32, memory_limit=np.int64(10**9)
    )
    assert tracker.save(tmp_path / "out", overlay=None).settings["dtype"] == "float32"


@pytest.mark.parametrize("option", [{"opacity": 2.0}, {"opacity": float("nan")}, {"fps": -1.0}, {"fps": float("nan")}])
def test_an_overlay_that_cannot_be_drawn_is_refused(option):
    with pytest.raises(ArgumentError, match=next(iter(option))):
        Overlay(**option)


def test_without_a_mask_the_first_correction_shows_the_objects(track, pictures, truth):
    tracker = track(pictures)
    assert (not next(tracker).mask.any(), next(tracker).objects) == (True, ())
    tracker.send(truth[1])
    assert_masks(list(tracker), truth[2:])


def test_a_callback_corrects(track, pictures, truth):
    seen = []

    def corrections(frame):
        seen.append(frame.index)
        return truth[2] if frame.index == 2 else None

    frames = list(track(pictures, np.where(truth[0] == 1, 1, 0), corrections=corrections))
    assert seen == list(range(6))
    assert_masks(frames[2:], truth[2:])


def test_an_object_is_removed_on_the_way(track, pictures, truth):
    tracker = track(pictures, truth[0])
    next(tracker)
    tracker.segmenter.remove(2)
    np.testing.assert_array_equal(next(tracker).mask, np.where(truth[1] == 1, 1, 0))


def test_save_writes_what_the_command_line_writes(clip, track, truth):
    summary = track(clip / "frames", clip / "mask.png").save(clip / "out")
    assert (summary.frames, summary.objects, summary.complete) == (6, [1, 2], True)
    written = {"contact_sheet.png", "frames.jsonl", "masks", "overlay.mp4", "summary.json"}
    assert {path.name for path in (clip / "out").iterdir()} == written
    for index, mask in enumerate(truth):
        np.testing.assert_array_equal(read_mask(clip / "out" / "masks" / f"{index}.png"), mask)
    assert len(list(open_frames(clip / "out" / "overlay.mp4"))) == 6


def test_frames_from_memory_are_saved_too(track, pictures, truth, tmp_path):
    track(iter(pictures), truth[0]).save(tmp_path / "out", overlay=None)
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "masks" / "00005.png"), truth[5])


def test_save_comes_before_the_first_frame(clip, track):
    tracker = track(clip / "frames", clip / "mask.png")
    next(tracker)
    with pytest.raises(RuntimeError, match="save must be called before the first frame is read"):
        tracker.save(clip / "out")


def test_results_are_not_replaced_unasked(clip, track):
    track(clip / "frames", clip / "mask.png").save(clip / "out", overlay=None)
    with pytest.raises(StmFastError, match="holds results: resume continues them"):
        track(clip / "frames", clip / "mask.png").save(clip / "out", overlay=None)
    assert track(clip / "frames", clip / "mask.png").save(clip / "out", overlay=None, overwrite=True).complete


def resume(track, clip, frames="frames", mask="mask.png"):
    return track(clip / frames, clip / mask).save(clip / "out", overlay=None, resume=True)


def test_an_interrupted_run_resumes(stopped, track, truth):
    summary = resume(track, stopped)
    assert (summary.complete, summary.frames, summary.resumed_frames) == (True, 6, 4)
    for index, mask in enumerate(truth):
        np.testing.assert_array_equal(read_mask(stopped / "out" / "masks" / f"{index}.png"), mask)
    noted = read_journal(stopped / "out" / "frames.jsonl")
    assert list(noted) == [str(index) for index in range(6)]


def test_a_notice_speaks_of_a_line_of_the_user(tmp_path, track, pictures):
    Image.fromarray(np.eye(16, 32, dtype=np.uint8)).save(tmp_path / "mask.png")
    with pytest.warns(MediaNotice) as told:
        next(track(pictures, tmp_path / "mask.png"))
    assert {warning.filename for warning in told} == {__file__}


def test_a_video_without_objects_is_told(track, pictures):
    with pytest.warns(MediaNotice, match="no mask and no correction showed an object: nothing was segmented"):
        frames = list(track(pictures))
    assert [frame.objects for frame in frames] == [()] * 6


@pytest.mark.parametrize("change", ["removed", "moved"])
def test_another_first_mask_is_not_resumed(stopped, track, truth, change):
    before = {path: path.read_bytes() for path in (stopped / "out" / "masks").iterdir()}
    changed = np.where(truth[0] == 1, 1, 0) if change == "removed" else np.roll(truth[0], 16, 1)
    write_mask(stopped / "mask.png", changed)
    for _ in range(2):  # a run that was refused leaves the note of the one before as it was
        with pytest.raises(StmFastError, match=r"mask\.png is not the mask of frame 0 that the earlier masks were"):
            resume(track, stopped)
    assert {path: path.read_bytes() for path in (stopped / "out" / "masks").iterdir()} == before
    write_mask(stopped / "mask.png", truth[0])
    assert resume(track, stopped).complete


def test_the_same_mask_under_another_name_is_resumed(stopped, track):
    (stopped / "mask.png").rename(stopped / "first.png")
    assert resume(track, stopped, mask="first.png").complete


def test_the_same_input_by_another_path_is_resumed(stopped, track, monkeypatch):
    monkeypatch.chdir(stopped)
    assert track("frames", "mask.png").save("out", overlay=None, resume=True).complete


def test_another_input_is_not_resumed(stopped, track):
    (stopped / "frames").rename(stopped / "others")
    with pytest.raises(StmFastError, match=r"others is not .*frames, which the earlier masks were made of"):
        resume(track, stopped, frames="others")


def test_a_video_may_move_but_not_change(clip, track, pictures, truth):
    def video(frames):
        with video_writer(clip / "video.mp4", 12) as encoder:
            for picture in frames:
                encoder.write(picture)

    video(pictures)
    track(clip / "video.mp4", clip / "mask.png").save(clip / "out", overlay=None)
    (clip / "video.mp4").rename(clip / "moved.mp4")
    assert resume(track, clip, frames="moved.mp4").resumed_frames == 6
    video(pictures[:3])
    (clip / "video.mp4").replace(clip / "moved.mp4")
    with pytest.raises(StmFastError, match=r"moved\.mp4 has changed since the earlier masks were made"):
        resume(track, clip, frames="moved.mp4")


def test_a_source_that_is_read_once_is_not_resumed(track, pictures, truth, tmp_path):
    track(iter(pictures), truth[0]).save(tmp_path / "out", overlay=None)
    with pytest.raises(MediaError, match="the frames can be read only once"):
        track(iter(pictures), truth[0]).save(tmp_path / "out", overlay=None, resume=True)
    assert track(pictures, truth[0]).save(tmp_path / "out", overlay=None, resume=True).resumed_frames == 6


@pytest.mark.parametrize("fps", [None, 10])
@pytest.mark.filterwarnings("ignore:.*pixels that are not square")
def test_the_overlay_runs_beside_its_source(clip, track, pictures, truth, fps):
    times = [Fraction(tenth, 10) for tenth in (0, 1, 2, 9, 10, 11)]
    with video_writer(clip / "video.mp4", 10, Fraction(2)) as encoder:
        for picture, time in zip(pictures, times, strict=True):
            encoder.write(picture, time)
    track(clip / "video.mp4", clip / "mask.png").save(clip / "out", overlay=Overlay(fps=fps))
    overlay = open_frames(clip / "out" / "overlay.mp4")
    expected = times if fps is None else [Fraction(index, 10) for index in range(6)]
    assert [frame.time for frame in overlay] == expected
    assert overlay.pixel_aspect == 2


def test_the_summary_has_the_uncertainty_of_each_object(clip, track):
    track(clip / "frames", clip / "mask.png").save(clip / "out", overlay=None)
    found = json.loads((clip / "out" / "summary.json").read_text())["uncertainty"]
    assert set(found) == {"1", "2"}
    assert set(found["1"]) == {"1", "2", "3", "4", "5"}  # the mask of frame 0 was given
    assert all(0 <= number < 1 for number in found["1"].values())
    noted = read_journal(clip / "out" / "frames.jsonl")
    assert noted["0"]["objects"] == {
        "1": {"area": 256, "uncertainty": None},
        "2": {"area": 256, "uncertainty": None},
    }
    assert noted["3"]["objects"]["2"] == {"area": 256, "uncertainty": found["2"]["3"]}


def test_a_journal_survives_a_kill(tmp_path):
    def frame(name, area, *, resumed=False):
        mask = np.zeros((4, 4), np.uint8)
        mask.flat[:area] = 1
        return TrackedFrame(int(name), name, np.zeros((4, 4, 3), np.uint8), mask, (1,), {1: 0.25}, None, resumed)

    path = tmp_path / "frames.jsonl"
    journal = Journal(path)
    for name in "012":
        journal.note(frame(name, 1))
    path.write_text(path.read_text() + '{"frame": "3", "obj')
    again = Journal(path, resume=True)
    for name in "01":
        again.note(frame(name, 9, resumed=True))
    for name in "234":
        again.note(frame(name, 2))
    areas = {name: line["objects"]["1"]["area"] for name, line in read_journal(path).items()}
    assert areas == {"0": 1, "1": 1, "2": 2, "3": 2, "4": 2}
    again.close(complete=True)
    assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == list("01234")
    assert again.uncertainty() == {"1": dict.fromkeys("01234", 0.25)}


def test_auto_keeps_all_frames_of_a_short_video_and_says_when_it_does_no_longer(track, pictures, truth, recwarn):
    short = list(track(pictures, truth[0], memory_every=1))
    assert not [found for found in recwarn if found.category is MediaNotice]
    assert_masks(short, truth)
    tracker = track(pictures * 10, truth[0], memory_every=1)
    with pytest.warns(MediaNotice, match="the memory is full after frame 00025: from here on old frames become"):
        frames = list(tracker)
    assert_masks(frames, truth * 10)
    assert max(len(group.slots) for group in tracker.segmenter.memory.groups) <= 25


def test_a_size_of_the_models_choice(model, pictures, truth):
    model.card = ModelCard(working_size=16)
    frames = list(stm_fast.track(pictures, truth[0], model=model))
    tracker = stm_fast.Segmenter(model, size="auto")
    tracker.start(pictures[0], truth[0])
    np.testing.assert_array_equal(frames[1].mask, tracker.step(pictures[1]).mask.numpy())
    assert tracker._video.current.geometry.inner == (16, 32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"memory": "best"}, ArgumentError, "memory must be auto, official, window:N"),
        ({"memory_limit": "much"}, ArgumentError, "memory_limit must be a number of bytes such as 4GB"),
        ({"size": "large"}, ArgumentError, "size must be a number of pixels or auto, got large"),
        ({"offload": "tape"}, ArgumentError, "offload must be one of none, host, disk, got tape"),
        ({"offload": "disk"}, ArgumentError, "offload disk needs a folder to write to"),
        ({"model": "compact", "dtype": "int8"}, ArgumentError, "dtype must be one of auto, float32"),
        ({"model": "compact", "device": "abacus"}, ArgumentError, "device 'abacus' cannot be used"),
        ({"masks": np.zeros((32, 64), np.float32)}, TypeError, "mask must hold integers"),
        ({"masks": np.ones((3, 3), np.uint8)}, ValueError, "mask must have the frame's size"),
        ({"masks": {7: np.ones((32, 64), np.uint8)}}, ValueError, "masks must belong to frames such as 00000"),
        ({"masks": {}, "void": 300}, ValueError, "void must be an id from 1 to 255"),
        (
            {"masks": np.zeros((32, 64), np.uint8)},
            ValueError,
            "masks must hold at least one object, got only background",
        ),
        ({"masks": {0: np.ones((32, 64), int), "00000": np.ones((32, 64), int)}}, ValueError, "got two of 00000"),
        ({"size": -1}, ArgumentError, "size must be at least 1 pixel"),
        ({"video": [np.zeros((0, 64, 3), np.uint8)]}, ValueError, r"frame must be \(H, W, 3\)"),
        ({"video": []}, ValueError, "video must hold at least one frame, got none"),
        ({"video": [np.zeros((32, 64), np.uint8)]}, ValueError, r"frame must be \(H, W, 3\)"),
    ],
    ids=lambda found: str(found) if isinstance(found, str) else "",
)
def test_what_cannot_be_used(track, pictures, truth, arguments, error, message):
    given = {"video": pictures, "masks": truth[0]} | arguments
    with pytest.raises(error, match=message):
        track(given.pop("video"), given.pop("masks"), **given)


def test_a_limit_that_is_too_small_is_named_as_it_was_given(track, pictures, truth, tmp_path):
    with pytest.raises(ArgumentError, match="memory_limit must be at least"):
        track(pictures, truth[0], memory_limit=200).save(tmp_path / "out")
