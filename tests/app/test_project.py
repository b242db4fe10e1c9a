"""What is drawn: where it goes, who may change it, and that it is there when the server is not."""

import json
from contextlib import contextmanager

import numpy as np
import pytest

from stm_fast.media.masks import read_mask
from stm_fast.tracking.options import TrackOptions
from tests.app.conftest import Tab, first_masks, pixels, png

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

    def test_ids_that_no_object_can_have_are_left_out(self, opened, truth, project):
        with opened() as tab:
            tab.draw(0, truth[0])
        noted = json.loads((project / "project.json").read_text())
        noted["objects"] |= {each: {"name": "void", "colour": "#ffffff", "visible": True} for each in ("255", "300")}
        (project / "project.json").write_text(json.dumps(noted | {"deleted": [0, 255]}))
        with opened() as tab:
            found = tab.look()
            assert [each["id"] for each in found["objects"]] == [1, 2]
            assert found["deleted"] == []
            np.testing.assert_array_equal(tab.mask(0), truth[0])

    def test_before_anything_was_followed_it_leaves_nothing(self, tab, truth, project):
        tab.draw(0, np.where(truth[0] == 2, 2, 0))
        tab.draw(1, np.where(truth[1] == 1, 1, 0))
        assert tab.send("DELETE", "/api/objects/2").status_code == 200
        assert tab.look()["first_masks"] == [1]
        assert not list((project / "corrections").iterdir())


class TestSeveralTabs:
    def test_only_who_has_seen_the_last_change_makes_the_next(self, tab, truth):
        other = Tab(tab.opened, tab.http.app)
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
        project = tab.opened.project
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
