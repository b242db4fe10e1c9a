"""The benchmark of long videos resumes where it was interrupted."""

import pytest
import torch

pytest.importorskip("skimage")

from benchmarks.clips.long_clip import LongClip
from benchmarks.system import long_video


class Progress:
    """Raises when a frame is reached."""

    def __init__(self, last: int) -> None:
        self.last = last

    def put(self, told: tuple[str, int]) -> None:
        if told[1] > self.last:
            raise KeyboardInterrupt


def test_a_run_that_was_interrupted_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(long_video, "SAVED_EVERY", 6)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    clip = LongClip(24, seed=2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for out in (whole, parts):
        out.mkdir()
    with pytest.raises(KeyboardInterrupt):
        long_video.run("diverse", clip, parts, Progress(10), 64)
    assert (parts / "diverse.safetensors").exists()
    for out in (whole, parts):
        long_video.run("diverse", clip, out, Progress(100), 64)
    made_of = long_video._made_of("diverse", clip, 64)
    one, other = (long_video.Log.load(out / "diverse.npz", made_of) for out in (whole, parts))
    assert one.jaccard == other.jaccard
    assert len(one.seconds) == len(one.fixed_work) == len(other.seconds) == len(other.fixed_work) == 23
    assert not list(parts.glob("*.safetensors"))
    with pytest.raises(SystemExit, match=r"is of log 3, 64 pixels, 1 objects, .*, not of another"):
        long_video.Log.load(parts / "diverse.npz", "another")
    drawn = []
    monkeypatch.setattr(long_video, "draw_long_video", lambda panels, path: drawn.extend(panels))
    long_video.report(clip, parts, 64)
    assert "| diverse | 23 |" in capsys.readouterr().out
    assert [list(panel.lines) for panel in drawn] == [["diverse"]] * 3
