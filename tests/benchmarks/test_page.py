"""The benchmark of the page: its project is one that the package opens, and a short one is measured."""

import importlib.util

import av
import pytest

pytest.importorskip("skimage")

from benchmarks.clips.long_project import make_project
from benchmarks.system import page
from stm_fast.app.open_project import open_project
from stm_fast.media.sources import open_frames


def test_a_project_is_made_once_and_can_be_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.clips.long_project._RENDERED", 4)
    made = make_project(tmp_path, 10, key_frame_every=2)
    with av.open(str(made.video)) as container:
        assert [frame.key_frame for frame in container.decode(video=0)] == [True, False] * 5
    frames = [frame.image for frame in open_frames(made.video)]
    assert (frames[1] == frames[5]).all()
    assert (frames[1] != frames[2]).any()
    with open_project(made.video, made.folder) as opened:
        found = opened.describe()
        assert (found["frames"], found["done"], found["first_masks"]) == (10, 10, [0])
        assert {each["id"] for each in found["objects"]} == {1, 2, 3}
        assert opened.project.timeline.part(0, 10, [1])["uncertainty"]["1"][1:] != [None] * 9
    before = made.video.stat().st_mtime_ns
    assert make_project(tmp_path, 10, key_frame_every=2) == made
    assert made.video.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="multiple of key_frame_every, got 9 and 2"):
        make_project(tmp_path, 9, key_frame_every=2)


@pytest.mark.page
@pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="the page's tests need playwright")
def test_a_short_video_is_measured(tmp_path, capsys):
    assert page.main([str(tmp_path), "--frames", "50", "--places", "2", "--openings", "1"]) == 0
    printed = capsys.readouterr().out
    for what in ("first opening: first frame with its masks", "places far apart", "sweep of 4 s", "→, one frame"):
        assert f"| {what}" in printed
    assert ": 0 were wrong." in printed


def test_arguments_are_checked(tmp_path, capsys):
    for arguments in (["--frames", "30"], ["--places", "1"]):
        with pytest.raises(SystemExit):
            page.main([str(tmp_path), *arguments])
        assert f"{arguments[0]} must be" in capsys.readouterr().err
