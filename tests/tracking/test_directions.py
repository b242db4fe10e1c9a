"""Forward, backward and both, ranges and strides: each the same as the frames in that order are by themselves."""

import json

import numpy as np
import pytest

from stm_fast.errors import ArgumentError, MediaError, StmFastError
from stm_fast.media.encode import video_writer
from stm_fast.media.masks import read_mask, write_mask
from stm_fast.media.notices import MediaNotice
from stm_fast.media.sources import open_frames
from stm_fast.tracking import state_file
from stm_fast.tracking.journal import read_journal


@pytest.fixture
def run(track, unsteady, noise):
    """(mask, **options) -> masks by number, in the order in which they come."""
    frames, mask = noise

    def follow(masks=mask, video=frames, **options):
        found = track(video, masks, model=unsteady, size=None, memory_every=2, **options)
        return {frame.index: frame.mask for frame in found}

    return follow


def test_backward_is_forward_over_the_reversed_clip(run, noise, assert_equal):
    turned = run(video=noise[0][::-1])
    assert len({mask.tobytes() for mask in turned.values()}) == len(turned)
    assert_equal(run(direction="backward", from_frame=7), {7 - index: mask for index, mask in turned.items()})


def test_both_is_its_two_halves(run, assert_equal):
    ahead, behind = (run(direction=each, from_frame=3) for each in ("forward", "backward"))
    assert list(behind) == [3, 2, 1, 0]
    assert_equal(run(direction="both", from_frame=3), ahead | behind)


@pytest.mark.parametrize(("frames", "numbers"), [("2:7", [2, 3, 4, 5, 6]), ("1:8:3", [1, 4, 7]), ("::2", [0, 2, 4, 6])])
def test_a_range_is_a_clip_of_its_own(run, noise, assert_equal, frames, numbers):
    alone = run(video=[noise[0][number] for number in numbers])
    assert_equal(run(frames=frames), dict(zip(numbers, alone.values(), strict=True)))


def test_a_stride_in_both_directions(run, noise, assert_equal):
    found = run(direction="both", from_frame=4, frames="1:8:3")
    assert list(found) == [4, 7, 1]
    assert_equal({4: found[4], 1: found[1]}, run(direction="backward", from_frame=4, frames="1:8:3"))


def test_a_video_backward(track, unsteady, noise, tmp_path, assert_equal):
    frames, mask = noise
    with video_writer(tmp_path / "clip.mp4", 12) as encoder:
        for frame in frames:
            encoder.write(frame)
    how = {"model": unsteady, "size": None, "direction": "backward", "from_frame": 6}
    decoded = [frame.image for frame in open_frames(tmp_path / "clip.mp4")]
    found, expected = (
        {frame.index: frame.mask for frame in track(video, mask, **how)} for video in (tmp_path / "clip.mp4", decoded)
    )
    assert_equal(found, expected)


def test_objects_join_where_the_pass_first_sees_their_masks(track, pictures, truth):
    """Backward, an object of an earlier frame comes later."""
    masks = {5: np.where(truth[5] == 1, 1, 0), 2: np.where(truth[2] == 2, 2, 0)}
    found = list(track(pictures, masks, direction="backward"))
    assert [(frame.index, frame.objects) for frame in found] == [(5, (1,)), (4, (1,)), (3, (1,))] + [
        (index, (1, 2)) for index in (2, 1, 0)
    ]
    for frame in found:
        expected = truth[frame.index] if frame.index <= 2 else np.where(truth[frame.index] == 1, 1, 0)
        np.testing.assert_array_equal(frame.mask, expected)


def test_a_correction_that_is_sent_for_the_start_frame_counts_in_both_directions(track, pictures, truth):
    tracker = track(pictures, np.where(truth[3] == 1, 1, 0), direction="both", from_frame=3)
    next(tracker)
    found = [tracker.send(truth[3]), *tracker]
    assert [frame.index for frame in found] == [3, 4, 5, 2, 1, 0]
    for frame in found:
        np.testing.assert_array_equal(frame.mask, truth[frame.index])


def test_a_callback_corrects_in_both_directions(track, pictures, truth):
    def correct(frame):
        return truth[3] if frame.index == 3 else None

    found = list(track(pictures, np.where(truth[3] == 1, 1, 0), direction="both", from_frame=3, corrections=correct))
    assert [frame.index for frame in found] == [3, 4, 5, 2, 1, 0]
    for frame in found:
        np.testing.assert_array_equal(frame.mask, truth[frame.index])


def test_a_list_of_one_frame_in_both_directions(track, pictures, truth):
    assert [frame.index for frame in track(pictures[:1], truth[0], direction="both", from_frame=0)] == [0]


class TestSaved:
    """Results in a folder, and how they are resumed."""

    @pytest.fixture
    def save(self, track, unsteady, noise, tmp_path):
        frames, mask = noise

        def saved(out="out", *, masks=mask, stop=None, route=None, **how):
            def stop_at(frame):
                if frame.index == stop:
                    raise KeyboardInterrupt

            route = {"direction": "both", "from_frame": 3} if route is None else route
            tracker = track(frames, masks, model=unsteady, size=None, memory_every=2, **route)
            if stop is None:
                return tracker.save(tmp_path / out, **({"overlay": None} | how))
            with pytest.raises(KeyboardInterrupt):
                tracker.save(tmp_path / out, each=stop_at, **({"overlay": None} | how))
            return None

        return saved

    def test_files_are_in_the_order_of_the_clip(self, save, tmp_path, masks_in):
        summary = save()
        assert (summary.frames, summary.complete, summary.resumed_frames) == (8, True, 0)
        assert list(masks_in(tmp_path / "out")) == list(range(8))
        assert list(read_journal(tmp_path / "out" / "frames.jsonl")) == [f"{index:05d}" for index in range(8)]
        assert not list((tmp_path / "out").rglob("*.safetensors"))

    def test_pictures_are_in_the_order_of_the_clip(self, track, pictures, truth, tmp_path):
        summary = track(pictures, truth[3], direction="both", from_frame=3).save(tmp_path / "out")
        assert [list(frames) for frames in summary.uncertainty.values()] == [[f"0000{i}" for i in (0, 1, 2, 4, 5)]] * 2
        shown = [frame.image.astype(int) for frame in open_frames(tmp_path / "out" / "overlay.mp4")]
        assert len(shown) == len(pictures)
        for index, frame in enumerate(shown):
            distances = [np.abs(frame - picture).mean() for picture in pictures]
            assert np.argmin(distances) == index
        assert (tmp_path / "out" / "contact_sheet.png").exists()

    @pytest.mark.parametrize("stop", [3, 5, 2, 0])
    def test_an_interrupted_run_resumes_to_the_same_masks(self, save, tmp_path, masks_in, assert_equal, stop):
        save("whole")
        save(stop=stop)
        done = {3: 1, 5: 3, 2: 6, 0: 8}[stop]
        assert len(masks_in(tmp_path / "out")) == done
        summary = save(resume=True)
        assert (summary.complete, summary.resumed_frames) == (True, done)
        assert_equal(masks_in(tmp_path / "out"), masks_in(tmp_path / "whole"))

    def test_a_run_that_was_killed_backward_resumes_to_the_same_masks(
        self, save, tmp_path, masks_in, assert_equal, monkeypatch
    ):
        """No state is written when it stops; that of the start frame has been."""
        save("whole")
        with monkeypatch.context() as patch:
            patch.setattr(state_file.StateFile, "save_at_stop", lambda *_: None)
            save(stop=1)
        summary = save(resume=True)
        assert (summary.complete, summary.resumed_frames) == (True, 5)
        assert_equal(masks_in(tmp_path / "out"), masks_in(tmp_path / "whole"))

    def test_a_finished_run_is_not_done_again(self, save, tmp_path, monkeypatch, unsteady):
        save()
        monkeypatch.setattr(type(unsteady), "forward", None)
        monkeypatch.setattr("stm_fast.inference.network.FrameNetwork.encode_memory", None)
        assert save(resume=True).resumed_frames == 8

    def test_another_route_is_not_resumed(self, save):
        save()
        with pytest.raises(StmFastError, match="was made with direction both, not backward: resume with the same"):
            save(route={"direction": "backward", "from_frame": 3}, resume=True)
        with pytest.raises(StmFastError, match="was made with from_frame 3, not 2"):
            save(route={"direction": "both", "from_frame": 2}, resume=True)
        with pytest.raises(StmFastError, match="was made with frames None, not :7"):
            save(route={"direction": "both", "from_frame": 3, "frames": ":7"}, resume=True)

    def test_a_range_begins_its_overlay_at_its_first_frame(self, track, unsteady, noise, tmp_path):
        frames, mask = noise
        with video_writer(tmp_path / "clip.mp4", 10) as encoder:
            for frame in frames:
                encoder.write(frame)
        track(tmp_path / "clip.mp4", mask, model=unsteady, size=None, frames="2:8:2").save(tmp_path / "out")
        times = [float(frame.time) for frame in open_frames(tmp_path / "out" / "overlay.mp4")]
        np.testing.assert_allclose(times, [0, 0.2, 0.4], atol=1e-3)
        noted = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert (noted["frames"], noted["settings"]["frames"]) == (3, "2:8:2")
        assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == [
            "00002.png",
            "00004.png",
            "00006.png",
        ]


class TestWhatCannotBeTracked:
    def test_one_mask_does_not_say_where_to_begin(self, track, pictures, truth):
        with pytest.raises(ArgumentError, match="from_frame must be given to track backward from one mask: its frame"):
            track(pictures, truth[0], direction="backward")

    def test_masks_of_other_frames(self, track, pictures, truth):
        with pytest.raises(MediaError, match="all masks belong to frames that are not tracked, such as 00001: tracked"):
            track(pictures, {1: truth[1]}, from_frame=2)
        with pytest.warns(MediaNotice, match="1 masks belong to frames that are not tracked, such as 00001: not used"):
            track(pictures, {1: truth[1], 2: truth[2]}, from_frame=2)

    def test_a_pass_without_masks_is_told_of(self, track, pictures, truth):
        with pytest.warns(MediaNotice, match="no mask is of these frames, which stay empty: tracked backward from"):
            found = list(track(pictures, {4: truth[4]}, direction="both", from_frame=3))
        assert [frame.index for frame in found if frame.objects] == [4, 5]

    def test_a_live_source_backward(self, track, pictures, truth):
        with pytest.raises(MediaError, match="the frames come from an iterator, from front to end: give a list"):
            next(track(iter(pictures), truth[0], direction="backward", from_frame=2))

    def test_a_frame_beyond_the_end_of_a_stream(self, track, pictures, truth):
        with pytest.raises(MediaError, match="the frames has no frame 9, from which it is to be tracked"):
            next(track(iter(pictures), truth[0], from_frame=9))

    def test_the_mask_of_another_frame_than_the_first(self, clip, track, truth):
        write_mask(clip / "late.png", truth[2])
        found = {frame.index: frame.mask for frame in track(clip / "frames", clip / "late.png", from_frame=2)}
        assert list(found) == [2, 3, 4, 5]
        np.testing.assert_array_equal(found[5], read_mask(clip / "late.png") * 0 + truth[5])
