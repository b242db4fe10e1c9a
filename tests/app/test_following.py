"""Following objects: what the page does is what `stm-fast segment` does, and either continues the other."""

import json
from threading import Event

import numpy as np
import pytest
import torch
from PIL import Image

from stm_fast.app.timeline import Timeline
from stm_fast.errors import StmFastError
from stm_fast.media.frames import FrameSource
from stm_fast.media.masks import read_mask
from stm_fast.models.compact import compact_stm
from stm_fast.tracking.correction import Correction
from stm_fast.tracking.options import TrackOptions
from stm_fast.tracking.route import Route
from stm_fast.tracking.track import Track
from tests.app.conftest import first_masks, noted


@pytest.fixture(scope="module")
def unsteady():
    """A compact model of random weights: what it finds in a frame depends on every bit of what it remembers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return compact_stm().eval()


@pytest.fixture
def noise(tmp_path):
    """Eight frames of noise that moves, as files; and a mask of two objects."""
    still = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    mask = np.zeros((32, 48), np.uint8)
    mask[5:20, 5:25], mask[15:30, 30:45] = 1, 2
    (tmp_path / "noise").mkdir()
    for index in range(8):
        Image.fromarray(np.roll(still, 3 * index, 1)).save(tmp_path / "noise" / f"{index}.png")
    return tmp_path / "noise", mask


@pytest.fixture
def segment(unsteady, tmp_path):
    """(video, first masks, corrections by frame, options) -> the masks of one run, by number."""

    def run(video, masks, corrections, **options):
        route = Route(**options)
        frames = Track.open(video, masks, route=route, network=unsteady, corrections=corrections)
        return {frame.index: frame.mask for frame in frames}

    return run


def masks_in(project):
    return {int(path.stem): read_mask(path) for path in (project / "masks").glob("*.png")}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for number, mask in expected.items():
        np.testing.assert_array_equal(found[number], mask, err_msg=str(number))


def test_objects_are_followed_from_the_first_mask(tab, truth):
    assert tab.look()["frames"] == 6
    assert tab.draw(0, truth[0]).status_code == 200
    assert tab.look()["first_masks"] == [0]
    job = tab.follow()
    assert (job["kind"], job["state"], job["done"], job["total"]) == ("follow", "done", 6, 6)
    assert (job["frame"], job["error"]) == (5, None)
    for frame, mask in enumerate(truth):
        np.testing.assert_array_equal(tab.mask(frame), mask)
    assert tab.look()["done"] == 6


def test_nothing_is_followed_without_a_mask(tab):
    answer = tab.send("POST", "/api/follow", json={"from": 0, "direction": "forward", "count": None})
    assert answer.status_code == 409
    assert answer.json()["error"] == "no mask shows an object yet: draw one first"


@pytest.mark.usefixtures("one_thread")
def test_following_in_steps_with_a_correction_is_one_run_of_segment(opened, noise, project, unsteady, segment):
    video, mask = noise
    moved = np.roll(mask, 6, 1)
    with opened(video, network=unsteady) as tab:
        tab.draw(0, mask)
        job = tab.follow(count=4)
        assert (job["state"], job["done"], job["total"]) == ("done", 4, 4)
        assert sorted(masks_in(project)) == [0, 1, 2, 3]
        tab.draw(3, np.where(moved == 2, 2, 0), 1, 2)
        assert tab.look()["corrections"] == {"3": [1, 2]}
        job = tab.follow(3)
        assert (job["done"], job["total"]) == (5, 5)  # the corrected one, and the four that are left
    expected = segment(video, mask, {3: Correction(np.where(moved == 2, 2, 0), [1, 2])})
    assert_equal(masks_in(project), expected)
    assert noted(project)["complete"]


@pytest.mark.usefixtures("one_thread")
def test_segment_continues_what_the_page_began(opened, noise, project, unsteady, segment):
    video, mask = noise
    with opened(video, network=unsteady) as tab:
        tab.draw(0, mask)
        tab.follow(count=5)
        tab.draw(4, np.roll(mask, 6, 1))
    tracker = Track.open(video, project / "first_masks", network=unsteady, corrections=project / "corrections")
    tracker.save(project, overlay=None)
    assert_equal(masks_in(project), segment(video, mask, {4: np.roll(mask, 6, 1)}))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("still_there", [True, False])
def test_the_page_continues_what_segment_began(opened, noise, project, unsteady, segment, tmp_path, still_there):
    video, mask = noise

    def stop(frame):
        if frame.index == 3:
            raise KeyboardInterrupt

    first = first_masks(tmp_path / "given", n0=mask) / "0.png"
    with pytest.raises(KeyboardInterrupt):
        Track.open(video, first, network=unsteady).save(project, overlay=None, each=stop, settings={"mask": str(first)})
    if not still_there:
        first.unlink()
    with opened(video, network=unsteady) as tab:
        assert tab.look()["first_masks"] == [0]
        assert [each["id"] for each in tab.look()["objects"]] == [1, 2]
        assert tab.follow()["done"] == 4
    assert_equal(masks_in(project), segment(video, mask, None))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("order", [("forward", "backward"), ("backward", "forward")])
def test_each_direction_in_steps_is_one_run_in_both(opened, noise, project, unsteady, segment, order):
    video, mask = noise
    with opened(video, network=unsteady) as tab:
        tab.draw(4, mask)
        for count in (2, None):
            for direction in order:
                job = tab.follow(4, direction, count)
                assert (job["state"], job["error"]) == ("done", None)
    assert_equal(masks_in(project), segment(video, first_masks(project / "same", n4=mask), None, direction="both"))
    assert noted(project)["complete"]
    assert not (project / ".checkpoint").exists()
    assert not list(project.glob(".checkpoint*"))


@pytest.mark.usefixtures("one_thread")
def test_both_directions_count_by_themselves(opened, noise, project, unsteady):
    video, mask = noise
    with opened(video, network=unsteady) as tab:
        tab.draw(4, mask)
        job = tab.follow(4, "both", 2)
        assert (job["done"], job["total"]) == (4, 4)
        assert sorted(masks_in(project)) == [2, 3, 4, 5]
        tab.draw(1, mask)
        assert tab.look()["corrections"] == {"1": [1, 2]}
        assert tab.follow(4, "both")["done"] == 4
    assert sorted(masks_in(project)) == list(range(8))
    np.testing.assert_array_equal(masks_in(project)[1], mask)


def test_results_forward_from_the_beginning_become_results_in_both_directions(opened, clip, project, model, truth):
    """`stm-fast segment` makes empty masks of the frames before the first object, which the page does anew."""
    first = first_masks(project / "first_masks", n3=truth[3])
    Track.open(clip, first, network=model).save(project, overlay=None)
    assert not masks_in(project)[0].any()
    with opened() as tab:
        assert tab.follow(1, "backward")["state"] == "done"
        for frame, mask in enumerate(truth):
            np.testing.assert_array_equal(tab.mask(frame), mask)


def test_a_frame_that_is_not_on_the_way_is_told_of(tab, truth):
    tab.draw(3, truth[3])
    answer = tab.send("POST", "/api/follow", json={"from": 1, "direction": "forward", "count": None})
    assert answer.status_code == 409
    assert "frame 1 is not reached by following forward from frame 3" in answer.json()["error"]
    tab.send("DELETE", "/api/masks/3")
    tab.draw(0, truth[0])
    answer = tab.send("POST", "/api/follow", json={"from": 0, "direction": "backward", "count": None})
    assert "nothing comes before frame 0" in answer.json()["error"]


def test_corrections_that_are_taken_back_are_followed_without(tab, truth, project):
    tab.draw(0, truth[0])
    tab.draw(2, truth[3])
    tab.follow()
    np.testing.assert_array_equal(masks_in(project)[2], truth[3])
    assert tab.send("DELETE", "/api/masks/2").status_code == 200
    assert tab.follow()["done"] == 4
    np.testing.assert_array_equal(masks_in(project)[2], truth[2])


def test_results_that_lost_all_masks_are_made_anew(opened, clip, model, truth, project):
    """As after a correction of the start frame, if the process is killed before the first new mask."""
    with opened() as tab:
        tab.draw(0, truth[0])
    Track.open(clip, project / "first_masks", network=model).save(project)
    for mask in (project / "masks").iterdir():
        mask.unlink()
    with opened() as tab:
        job = tab.follow()
        assert (job["state"], job["error"]) == ("done", None)
        np.testing.assert_array_equal(tab.mask(5), truth[5])
    assert noted(project)["complete"]


def test_files_that_no_run_made_stay(opened, truth, project):
    with opened() as tab:
        tab.draw(0, truth[0])
        (project / "frames.jsonl").write_text("mine")
        assert "no run of stm-fast made it" in tab.follow()["error"]
    assert (project / "frames.jsonl").read_text() == "mine"


def test_a_stroke_stops_following(opened, clip, truth, monkeypatch, project):
    """And waits for the frame at hand, so that going on is exact."""
    begun, go_on = Event(), Event()
    with opened() as tab:
        tab.draw(0, truth[0])
        plain = Timeline.note

        def slow(self, frame):
            begun.set()
            assert go_on.wait(30)
            return plain(self, frame)

        monkeypatch.setattr(Timeline, "note", slow)
        tab.send("POST", "/api/follow", json={"from": 0, "direction": "forward", "count": None})
        assert begun.wait(30)
        busy = tab.send("POST", "/api/export", json={"format": "coco"})
        assert busy.status_code == 409
        assert "another job is running (follow)" in busy.json()["error"]
        assert tab.send("POST", "/api/stop").json()["state"] == "stopping"
        go_on.set()
        assert tab.draw(0, truth[0]).status_code == 200
        job = tab.look()["job"]
        assert (job["state"], job["done"]) == ("stopped", 1)
        assert sorted(masks_in(project)) == [0]
        assert tab.follow()["state"] == "done"
    assert len(masks_in(project)) == 6


def test_a_failed_job_says_why(tab, truth, clip):
    tab.draw(0, truth[0])
    (clip / "4.png").write_bytes(b"no image")
    job = tab.follow()
    assert job["state"] == "failed"
    assert "4.png" in job["error"]
    assert "\n" not in job["error"]
    assert tab.look()["done"] == 4
    assert tab.follow()["state"] == "failed"  # and can be tried again


def test_options_of_the_results_are_kept(opened, truth, project, clip, model):
    with opened(options=TrackOptions(memory_every=3)) as tab:
        tab.draw(0, truth[0])
        tab.follow(count=2)
    with opened() as tab:
        assert tab.follow()["state"] == "done"
    assert noted(project)["settings"]["memory_every"] == 3
    with (
        pytest.raises(StmFastError, match="was made with memory_every 3, not 4: leave the option out"),
        opened(options=TrackOptions(memory_every=4)),
    ):
        pass


@pytest.fixture
def read(monkeypatch):
    """The names of the frames that are read of any clip, the first one left out: it identifies a clip of images."""
    names = []
    plain = FrameSource._checked

    def noting(self, frames):
        for frame in plain(self, frames):
            if frame.name != self.first_name:
                names.append(frame.name)
            yield frame

    monkeypatch.setattr(FrameSource, "_checked", noting)
    return names


@pytest.mark.usefixtures("one_thread")
def test_going_on_reads_no_frame_before_the_last_one(opened, noise, project, unsteady, segment, read):
    video, mask = noise
    moved = np.roll(mask, 6, 1)
    with opened(video, network=unsteady) as tab:
        tab.draw(0, mask)
        tab.follow(count=4)
        assert read == ["1", "2", "3"]
        read.clear()
        assert tab.follow(count=2)["done"] == 2
        assert read == ["3", "4", "5"]
        read.clear()
        tab.draw(5, moved)
    with opened(video, network=unsteady) as tab:  # a later session
        assert tab.follow()["done"] == 3  # the corrected frame, and two new ones
        assert read == ["5", "6", "7"]
        areas = tab.http.get("/api/timeline?from=0&to=8").json()["areas"]["1"]
    expected = segment(video, mask, {5: moved})
    assert_equal(masks_in(project), expected)
    assert areas == [pytest.approx((each == 1).mean(), abs=1e-6) for each in expected.values()]
    summary = noted(project)
    assert (summary["complete"], summary["frames"], summary["resumed_frames"]) == (True, 8, 5)
    assert summary["objects"] == [1, 2]
    assert [json.loads(line)["frame"] for line in (project / "frames.jsonl").read_text().splitlines()] == [*"01234567"]


@pytest.mark.usefixtures("one_thread")
def test_both_directions_are_finished_without_reading_them_again(opened, noise, project, unsteady, segment, read):
    video, mask = noise
    with opened(video, network=unsteady) as tab:
        tab.draw(4, mask)
        tab.follow(4, "forward", 3)
        tab.follow(4, "backward", 2)
        read.clear()
        assert tab.follow(4, "forward")["done"] == 1
        assert read == ["6", "7"]
        read.clear()
        tab.follow(4, "backward")
        assert read == ["2", "1"]  # and frame 0
    assert_equal(masks_in(project), segment(video, first_masks(project / "same", n4=mask), None, direction="both"))
    summary = noted(project)
    assert (summary["complete"], summary["frames"]) == (True, 8)


def test_a_mask_that_is_lost_before_the_last_one_is_told_of(tab, truth, project):
    tab.draw(0, truth[0])
    tab.follow(count=4)
    (project / "masks" / "1.png").unlink()
    assert "the mask of frame 1 is missing though masks after it are there" in tab.follow()["error"]


def test_lines_of_the_journal_that_are_lost_are_made_anew(tab, truth, project):
    tab.draw(0, truth[0])
    tab.follow(count=4)
    (project / "frames.jsonl").unlink()
    assert tab.follow(count=1)["done"] == 1
    lines = [json.loads(line) for line in (project / "frames.jsonl").read_text().splitlines() if line]
    assert [line["frame"] for line in lines] == [*"01234"]
    assert lines[0]["objects"]["1"]["area"] == int((truth[0] == 1).sum())
