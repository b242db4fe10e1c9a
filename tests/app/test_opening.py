"""Projects that are opened: again, after a kill, from results of the command line, and long ones."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from stm_fast.app import given
from stm_fast.errors import MediaError, StmFastError
from stm_fast.media.masks import write_mask
from tests.app.conftest import first_masks, long_video


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
            "import sys; from stm_fast.app.open_project import open_project\n"
            "with open_project(sys.argv[1], sys.argv[2]): pass"
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
            "from stm_fast.app.open_project import open_project\n"
            "masks = numpy.load(sys.argv[3])\n"
            "with open_project(sys.argv[1], sys.argv[2]) as opened:\n"
            "    for frame, name in ((0, 'first'), (2, 'second')):\n"
            "        with opened.changing_masks(opened.project.revision):\n"
            "            opened.project.give(frame, [1, 2], masks[name])\n"
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
