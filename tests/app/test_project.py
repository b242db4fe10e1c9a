"""What is drawn: where it goes, who may change it, and that it is there when the server is not."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from stm_fast.app import given
from stm_fast.errors import MediaError, StmFastError
from stm_fast.media.masks import read_mask, write_mask
from stm_fast.tracking.options import TrackOptions
from tests.app.conftest import Tab, first_masks, long_video, pixels, png

NONE = np.zeros((32, 64), np.uint8)


class TestWhatIsDrawn:
    def test_the_first_thing_drawn_is_the_first_mask(self, tab, truth, project):
        assert tab.draw(2, truth[2]).status_code == 200
        found = tab.look()
        assert (found["first_masks"], found["corrections"], found["done"]) == ([2], {}, 0)
        np.testing.assert_array_equal(read_mask(project / "first_masks" / "2.png"), truth[2])
        np.testing.assert_array_equal(tab.mask(2), truth[2])
        assert tab.mask(1) is None

    def test_it_can_be_drawn_anew(self, tab, truth, project):
        tab.draw(0, truth[0])
        tab.draw(0, np.where(truth[1] == 1, 1, 2), 1)
        expected = np.where(truth[1] == 1, 1, np.where(truth[0] == 2, 2, 0))
        np.testing.assert_array_equal(read_mask(project / "first_masks" / "0.png"), expected)
        tab.draw(0, NONE, 1, 2)
        assert tab.look()["first_masks"] == []
        assert not list((project / "first_masks").iterdir())

    def test_other_frames_have_corrections(self, tab, truth, project):
        tab.draw(0, truth[0])
        tab.draw(3, np.where(truth[3] == 2, 2, 0), 1, 2)
        assert tab.look()["corrections"] == {"3": [1, 2]}
        assert not read_mask(project / "corrections" / "3" / "1.png").any()
        np.testing.assert_array_equal(read_mask(project / "corrections" / "3" / "2.png") > 0, truth[3] == 2)

    def test_a_correction_does_not_speak_of_other_objects(self, tab, truth):
        tab.draw(0, truth[0])
        tab.follow()
        tab.draw(2, np.where(truth[3] == 1, 1, 0), 1)
        expected = np.where(truth[3] == 1, 1, np.where(truth[2] == 2, 2, 0))
        np.testing.assert_array_equal(tab.mask(2), expected)
        np.testing.assert_array_equal(tab.mask(3), truth[3])

    def test_objects_of_a_correction_do_not_overlap(self, tab, truth, ids, project):
        tab.draw(0, truth[0])
        tab.draw(3, ids("2200", "0000"), 2)
        tab.draw(3, ids("0110", "0000"), 1)
        np.testing.assert_array_equal(tab.mask(3), ids("2110", "0000"))
        np.testing.assert_array_equal(read_mask(project / "corrections" / "3" / "2.png"), ids("2000", "0000"))

    def test_an_earlier_frame_becomes_the_first_one(self, tab, truth):
        tab.draw(3, truth[3])
        tab.draw(1, truth[1])
        found = tab.look()
        assert (found["first_masks"], found["corrections"]) == ([1], {"3": [1, 2]})
        assert tab.send("DELETE", "/api/masks/1").status_code == 200
        found = tab.look()
        assert (found["first_masks"], found["corrections"]) == ([3], {})

    def test_what_masks_were_found_from_stays(self, tab, truth, project):
        tab.draw(2, truth[2])
        tab.follow(2, count=2)
        assert tab.send("DELETE", "/api/masks/2").status_code == 409
        tab.draw(2, truth[3])
        assert tab.look()["corrections"] == {"2": [1, 2]}
        np.testing.assert_array_equal(read_mask(project / "first_masks" / "2.png"), truth[2])
        np.testing.assert_array_equal(tab.mask(2), truth[3])
        tab.draw(1, truth[1])
        assert tab.look()["first_masks"] == [2]
        assert tab.send("DELETE", "/api/masks/2").status_code == 200
        np.testing.assert_array_equal(tab.mask(2), truth[2])

    @pytest.mark.parametrize("drawn", [3, None])
    def test_it_is_there_where_a_correction_said_that_it_is_not(self, tab, truth, drawn):
        tab.draw(3, truth[3])
        tab.draw(1, NONE, 1, 2)
        if drawn is None:
            tab.send("DELETE", "/api/masks/3")
        assert tab.draw(1, truth[1], 1).status_code == 200
        found = tab.look()
        assert found["first_masks"] == [1]
        assert found["corrections"]["1"] == [2]
        np.testing.assert_array_equal(tab.mask(1), np.where(truth[1] == 1, 1, 0))

    def test_it_is_there_where_results_with_a_correction_were(self, opened, truth, project):
        with opened() as tab:
            tab.draw(0, truth[0])
            tab.follow()
            tab.draw(0, truth[1])
        for mask in (project / "masks").iterdir():
            mask.unlink()
        with opened() as tab:
            tab.draw(0, truth[2], 1)
            np.testing.assert_array_equal(tab.mask(0) == 1, truth[2] == 1)

    def test_a_deletion_is_not_taken_back_with_what_was_drawn(self, tab, truth):
        tab.draw(0, truth[0])
        tab.follow()
        tab.send("DELETE", "/api/objects/2")
        assert tab.send("DELETE", "/api/masks/0").status_code == 409
        tab.draw(0, np.where(truth[1] == 1, 1, 0))
        assert tab.look()["corrections"] == {"0": [1, 2]}
        assert tab.send("DELETE", "/api/masks/0").status_code == 200
        assert tab.look()["corrections"] == {"0": [2]}

    def test_nothing_is_taken_back_where_nothing_was_drawn(self, tab, truth):
        assert tab.send("DELETE", "/api/masks/2").status_code == 404
        assert tab.draw(1, NONE, 1).status_code == 400
        tab.draw(0, truth[0])
        assert tab.send("DELETE", "/api/masks/2").status_code == 404


class TestObjects:
    def test_they_have_names_and_colours(self, tab, truth, opened):
        tab.draw(0, truth[0])
        first, second = tab.look()["objects"]
        assert first == {"id": 1, "name": "Object 1", "colour": "#800000", "visible": True}
        assert second["id"] == 2
        answer = tab.send("PUT", "/api/objects/1", json={"name": "dög", "colour": "#00ff7f", "visible": False})
        assert answer.json() == {"id": 1, "name": "dög", "colour": "#00ff7f", "visible": False}
        assert tab.look()["objects"][0]["name"] == "dög"
        assert tab.send("PUT", "/api/objects/7", json={}).json()["name"] == "Object 7"

    def test_a_deleted_object_is_gone_from_all_masks(self, opened, truth, project):
        with opened() as tab:
            tab.draw(0, truth[0])
            tab.draw(2, truth[2])
            tab.follow()
            tab.draw(4, np.where(truth[4] == 2, 2, 0), 2)
            assert tab.send("DELETE", "/api/objects/2").status_code == 200
            assert [each["id"] for each in tab.look()["objects"]] == [1]
            assert tab.look()["deleted"] == [2]
            assert tab.look()["corrections"] == {"0": [2], "2": [1]}
            for frame, mask in enumerate(truth):
                np.testing.assert_array_equal(tab.mask(frame), np.where(mask == 1, 1, 0))
        with opened() as tab:
            assert [each["id"] for each in tab.look()["objects"]] == [1]
            tab.follow()
            assert not (tab.mask(5) == 2).any()
            assert not any((read_mask(path) == 2).any() for path in (project / "masks").glob("*.png"))
            tab.draw(5, truth[5], 2)
            assert [each["id"] for each in tab.look()["objects"]] == [1, 2]

    def test_void_of_a_mask_is_no_object(self, opened, truth, project):
        first_masks(project / "first_masks", n0=np.where(truth[0] == 2, 255, truth[0]))
        with opened(options=TrackOptions(void=255)) as tab:
            assert [each["id"] for each in tab.look()["objects"]] == [1]
            assert tab.follow()["state"] == "done"
            assert tab.send("DELETE", "/api/objects/255").status_code == 400
            assert tab.send("DELETE", "/api/objects/1").status_code == 200
        with opened(options=TrackOptions(void=255)) as tab:
            assert tab.look()["corrections"] == {"0": [1]}

    def test_before_anything_was_followed_it_leaves_nothing(self, tab, truth, project):
        tab.draw(0, np.where(truth[0] == 2, 2, 0))
        tab.draw(1, np.where(truth[1] == 1, 1, 0))
        assert tab.send("DELETE", "/api/objects/2").status_code == 200
        assert tab.look()["first_masks"] == [1]
        assert not list((project / "corrections").iterdir())


class TestSeveralTabs:
    def test_only_who_has_seen_the_last_change_makes_the_next(self, tab, truth):
        other = Tab(tab.workspace, tab.http.app)
        before = other.revision
        assert tab.draw(0, truth[0]).status_code == 200
        assert tab.revision == before + 1
        requests = [
            ("PUT", "/api/masks/1?objects=1", {"content": png(truth[1])}),
            ("DELETE", "/api/masks/0", {}),
            ("PUT", "/api/objects/1", {"json": {"name": "dog"}}),
            ("DELETE", "/api/objects/1", {}),
            ("POST", "/api/follow", {"json": {"from": 0, "direction": "forward", "count": None}}),
            ("POST", "/api/export", {"json": {"format": "coco"}}),
        ]
        for method, path, how in requests:
            answer = other.send(method, path, **how)
            assert answer.status_code == 412, path
            assert "X-Revision" not in answer.headers
            assert "another tab changed the project" in answer.json()["error"]
            assert other.http.request(method, path, **how).status_code == 428
        found = other.look()
        assert (found["first_masks"], found["corrections"], found["job"]) == ([0], {}, None)
        assert found["objects"][0]["name"] == "Object 1"
        assert other.draw(1, truth[1]).status_code == 200

    @pytest.mark.parametrize(
        ("method", "path", "how"),
        [
            ("PUT", "/api/masks/1?objects=1", {"content": png(np.ones((32, 64)))}),
            ("DELETE", "/api/masks/1", {}),
            ("PUT", "/api/objects/1", {"json": {"name": "dog"}}),
            ("DELETE", "/api/objects/2", {}),
        ],
    )
    def test_an_answer_tells_of_its_own_change_alone(self, tab, truth, monkeypatch, method, path, how):
        """Even if another tab deletes an object between the change and its answer."""
        tab.draw(0, truth[0])
        tab.draw(1, truth[1])
        project = tab.workspace.project
        changing, left = project.changing, {}

        @contextmanager
        def overtaken(revision):
            with changing(revision) as changed:
                yield changed
                left["ETag"] = f'"{project.mask_version(1)}"'
            left["revision"] = project.revision
            with changing(project.revision):
                project.delete_object(1)

        monkeypatch.setattr(project, "changing", overtaken)
        answer = tab.send(method, path, **how)
        assert answer.status_code == 200
        assert answer.headers.get("ETag", left["ETag"]) == left["ETag"] != f'"{project.mask_version(1)}"'
        assert tab.revision == left["revision"] == project.revision - 1

    def test_what_changes_nothing_tells_no_revision(self, tab, truth):
        tab.draw(0, truth[0])
        hints = {"frame": 0, "object": 1, "correct": True, "points": [[1, 1, "x"]]}
        asked = [("hints", hints), ("stop", {}), ("follow", {"from": 0, "count": 1}), ("export", {"format": "coco"})]
        for path, body in asked:  # "stop" has nothing to stop
            answer = tab.send("POST", f"/api/{path}", json=body)
            assert answer.status_code == (400 if path == "hints" else 200)
            assert "X-Revision" not in answer.headers
            if tab.look()["job"]:
                tab.wait()

    def test_a_refused_change_changes_nothing(self, tab):
        before = tab.look()["revision"]
        assert tab.draw(0, NONE, 1).status_code == 400
        assert tab.look()["revision"] == before


class TestMasks:
    def test_their_etag_changes_when_they_do(self, tab, truth):
        def etag(frame):
            return tab.http.get(f"/api/masks/{frame}.png").headers["ETag"]

        empty = etag(0)
        drawn = tab.draw(0, truth[0]).headers["ETag"]
        assert drawn == etag(0) != empty
        found = tab.http.get("/api/masks/0.png", headers={"If-None-Match": drawn})
        assert (found.status_code, found.content) == (304, b"")
        tab.follow()
        followed = [etag(frame) for frame in range(6)]
        assert len({*followed, drawn}) == 7
        corrected = tab.draw(3, truth[2]).headers["ETag"]
        assert corrected == etag(3) != followed[3]
        assert tab.send("DELETE", "/api/masks/3").headers["ETag"] == followed[3]
        tab.send("DELETE", "/api/objects/2")
        assert etag(3) != followed[3]
        assert pixels(tab.http.get("/api/masks/3.png")).max() == 1

    def test_timeline(self, tab, truth):
        tab.draw(0, truth[0])
        tab.draw(2, truth[2])
        part = tab.http.get("/api/timeline?from=0&to=4").json()
        block = 16 * 16 / (32 * 64)
        assert (part["from"], part["to"], part["masked"]) == (0, 4, [1, 0, 1, 0])
        assert part["areas"] == {"1": [block, None, block, None], "2": [block, None, block, None]}
        tab.follow(count=4)
        part = tab.http.get("/api/timeline?from=1&to=99").json()
        assert (part["to"], part["masked"]) == (6, [1, 1, 1, 0, 0])
        assert part["areas"]["1"] == [block, block, block, None, None]
        assert part["uncertainty"]["1"][0] is not None
        assert part["uncertainty"]["1"][1] is None  # it was given
        assert part["uncertainty"]["1"][3:] == [None, None]

    @pytest.mark.parametrize("part", ["from=3&to=1", "from=0&to=x", "from=0", "", "from=-1&to=2", "from=8&to=9"])
    def test_parts_that_there_are_not(self, tab, part):
        assert tab.http.get(f"/api/timeline?{part}").status_code == 400


class TestOpening:
    def test_all_is_there_again(self, opened, truth):
        with opened() as tab:
            tab.draw(0, truth[0])
            tab.follow()
            tab.draw(3, truth[2])
            tab.send("PUT", "/api/objects/1", json={"name": "dog"})
            before, part = tab.look(), tab.http.get("/api/timeline?from=0&to=6").json()
        with opened() as tab:
            after = tab.look()
            assert after["revision"] > before["revision"]
            same = ("objects", "first_masks", "corrections", "done", "frames", "video")
            assert {name: after[name] for name in same} == {name: before[name] for name in same}
            assert tab.http.get("/api/timeline?from=0&to=6").json() == part
            np.testing.assert_array_equal(tab.mask(3), truth[2])

    def test_corrections_that_a_user_made_by_hand(self, opened, truth, project):
        first_masks(project / "first_masks", n0=truth[0])
        write_mask(project / "corrections" / "2.png", truth[3])
        with opened() as tab:
            assert tab.look()["corrections"] == {"2": [1, 2]}
            np.testing.assert_array_equal(tab.mask(2), truth[3])
            tab.draw(2, truth[2], 1)
            assert sorted(path.name for path in (project / "corrections").rglob("*")) == ["1.png", "2", "2.png"]
            np.testing.assert_array_equal(tab.mask(2) == 1, truth[2] == 1)

    def test_files_of_others_stay(self, opened, project):
        hidden, other = project / "corrections" / ".git" / "HEAD", project / "corrections" / "0" / "notes" / "a.png"
        hidden.parent.mkdir(parents=True)
        hidden.write_text("ref")
        with opened() as tab:
            assert tab.look()["corrections"] == {}
        other.parent.mkdir(parents=True)
        other.write_text("mine")
        with pytest.raises(MediaError, match="holds no image"), opened():
            pass
        assert (hidden.read_text(), other.read_text()) == ("ref", "mine")

    @pytest.mark.parametrize(("folder", "frame"), [("first_masks", 3), ("first_masks", 1), ("3", 1)])
    def test_a_mask_that_cannot_be_written_leaves_those_before(
        self, opened, project, truth, monkeypatch, folder, frame
    ):
        (project / "first_masks").mkdir(parents=True)
        Image.fromarray(truth[3]).save(project / "first_masks" / "3.bmp")
        plain = given.write_mask

        def full(path, mask):
            if path.parent.name == folder:
                raise OSError("no space left")
            plain(path, mask)

        monkeypatch.setattr(given, "write_mask", full)
        with opened() as tab:
            assert tab.draw(frame, truth[1]).status_code == 500
        with opened() as tab:
            assert tab.look()["first_masks"] == [3]
            np.testing.assert_array_equal(tab.mask(3), truth[3])

    def test_a_mask_that_is_drawn_anew_is_a_png(self, opened, project, truth):
        (project / "first_masks").mkdir(parents=True)
        Image.fromarray(truth[3]).save(project / "first_masks" / "3.bmp")
        with opened() as tab:
            assert tab.draw(3, truth[2]).status_code == 200
        assert [path.name for path in (project / "first_masks").iterdir()] == ["3.png"]

    def test_results_of_another_video(self, opened, project, clip, truth, tmp_path):
        with opened() as tab:
            tab.draw(0, truth[0])
            tab.follow()
        before = (project / "project.json").read_bytes()
        shutil.copytree(clip, tmp_path / "other")
        refused = pytest.raises(MediaError, match=r"other is not .*frames, which .* choose another folder")
        with refused, opened(tmp_path / "other"):
            pass
        assert (project / "project.json").read_bytes() == before

    def test_results_of_another_size(self, opened, project, truth):
        with opened() as tab:
            tab.draw(0, truth[0])
            tab.follow()
        write_mask(project / "masks" / "0.png", truth[0][:16, :32])
        with pytest.raises(MediaError, match=r"0\.png is 32×16 but the frames are 64×32"), opened():
            pass

    def test_two_servers_do_not_share_a_project(self, tab, project, clip, model):
        code = (
            "import sys; from stm_fast.app.workspace import open_workspace\n"
            "with open_workspace(sys.argv[1], sys.argv[2]): pass"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(clip), str(project)], capture_output=True, text=True, check=False
        )
        assert "StmFastError: another run is writing into" in done.stderr

    def test_what_cannot_be_opened(self, opened, project, clip):
        (project / "first_masks").mkdir(parents=True)
        Image.new("L", (10, 99), 1).save(project / "first_masks" / "0.png")
        with pytest.raises(MediaError, match="first_masks"), opened():
            pass
        (project / "first_masks" / "0.png").unlink()
        (project / "project.json").write_text("{")
        with pytest.raises(StmFastError, match=r"project\.json is damaged"), opened():
            pass

    def test_a_killed_server_loses_nothing(self, opened, clip, project, truth, tmp_path):
        """And what a killed process may have left behind is no obstacle."""
        np.savez(tmp_path / "truth.npz", first=truth[0], second=truth[2])
        code = (
            "import sys, numpy, time\n"
            "from stm_fast.app.workspace import open_workspace\n"
            "masks = numpy.load(sys.argv[3])\n"
            "with open_workspace(sys.argv[1], sys.argv[2]) as workspace:\n"
            "    for frame, name in ((0, 'first'), (2, 'second')):\n"
            "        with workspace.changing_masks(workspace.project.revision):\n"
            "            workspace.project.give(frame, [1, 2], masks[name])\n"
            "    print('drawn', flush=True)\n"
            "    time.sleep(600)\n"
        )
        arguments = [sys.executable, "-c", code, str(clip), str(project), str(tmp_path / "truth.npz")]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout.readline() == "drawn\n"
            os.kill(server.pid, signal.SIGKILL)
        (project / "corrections" / "4").mkdir()
        (project / "corrections" / "4" / ".1.part.png").write_bytes(b"half")
        with opened() as tab:
            found = tab.look()
            assert (found["first_masks"], found["corrections"]) == ([0], {"2": [1, 2]})
            np.testing.assert_array_equal(tab.mask(2), truth[2])
            assert tab.follow()["state"] == "done"


def test_a_long_project_opens_and_scrubs_quickly(opened, tmp_path, project):
    """In time of the processor, as the machine may be shared; limits are twice what people should wait."""
    path = tmp_path / "long.mp4"
    long_video(path, 10_000)
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 10:30] = 1
    write_mask(project / "masks" / "00000.png", mask)
    content = (project / "masks" / "00000.png").read_bytes()
    for number in range(10_000):
        (project / "masks" / f"{number:05d}.png").write_bytes(content)
    line = '{{"frame": "{:05d}", "objects": {{"1": {{"area": 200, "uncertainty": 0.1}}}}}}\n'
    (project / "frames.jsonl").write_text("".join(line.format(number) for number in range(10_000)))
    first_masks(project / "first_masks", n00000=mask)
    begin = time.process_time()
    with opened(path) as tab:
        found = tab.look()
        assert time.process_time() - begin < 4
        assert (found["frames"], found["done"]) == (10_000, 10_000)
        assert tab.http.get("/api/timeline?from=0&to=10000").json()["areas"]["1"] == [round(200 / 3072, 6)] * 10_000
        seconds = []
        for number in (9_999, 0, 5_003, 5_002, 7_777, 1_234):
            begin = time.process_time()
            frame = tab.http.get(f"/api/frames/{number}.jpg")
            shown = tab.mask(number)
            seconds.append(time.process_time() - begin)
            grey = np.array(Image.open(io.BytesIO(frame.content)))
            assert abs(float(grey.mean()) - (16 + 2 * (number % 100))) < 4
            np.testing.assert_array_equal(shown, mask)
        assert sorted(seconds)[len(seconds) // 2] < 0.2
