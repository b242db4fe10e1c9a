"""The code of README runs as it stands, and tracks as the command line does."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import stm_fast
from stm_fast.media.encode import video_writer
from stm_fast.media.masks import read_mask, write_mask
from tests.docs.blocks import python_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clip(tmp_path, monkeypatch):
    """A folder with video.mp4 and mask.png, the working folder of the test."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    from clip import render_clip

    frames, masks = render_clip(8, 96, 160)
    with video_writer(tmp_path / "video.mp4", 12) as encoder:
        for frame in frames:
            encoder.write(frame)
    write_mask(tmp_path / "mask.png", masks[0])
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("clip")
    return tmp_path


def test_tracking_in_python_is_the_command_line(clip, capsys):
    from typer.testing import CliRunner

    from stm_fast.cli.main import app

    section = (ROOT / "README.md").read_text().partition("## In Python\n")[2]
    code = re.search(r"^```python\n(.*?)^```", section, flags=re.M | re.S)[1]
    assert len(code.strip().splitlines()) <= 6
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[7] == "00007 (1, 2) (96, 160)"
    ran = CliRunner().invoke(app, ["segment", "video.mp4", "--mask", "mask.png", "--out", "cli"])
    assert ran.exit_code == 0, ran.output
    for path in sorted((clip / "cli" / "masks").iterdir()):
        np.testing.assert_array_equal(read_mask(clip / "result" / "masks" / path.name), read_mask(path))
    assert len(list((clip / "result" / "masks").iterdir())) == 8


def test_code_of_the_exports_page_runs(clip):
    pytest.importorskip("supervision")
    pytest.importorskip("pycocotools")
    stm_fast.track("video.mp4", "mask.png").save("result", overlay=None)
    names = {}
    exec(compile(python_of("docs/export.md"), "docs/export.md", "exec"), names)
    assert (clip / "result" / "export" / "instances_default.json").is_file()
    assert (names["picture"] != names["frame"].image).any()
