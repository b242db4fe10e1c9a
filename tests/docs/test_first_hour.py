"""docs/first-hour.md: its commands run in order, on a shorter and smaller clip, and do what the page says."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from stm_fast.cli.main import app
from stm_fast.data import demo_clip
from stm_fast.media.masks import read_mask
from tests.docs.blocks import commands_of, python_of

PAGE = "docs/first-hour.md"
INSTALLED = ("python3 -m venv", ". .venv", "pip install")
SMALL = {"segment": ["--size", "96"]}
FRAMES = 23


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    for name in ("skimage", "cv2", "vos_benchmark", "pycocotools"):
        pytest.importorskip(name)


def run(command: str) -> str:
    """Run a command of the page in the working folder; its output."""
    program, *words = shlex.split(command)
    if program == "mkdir":
        Path(words[0]).mkdir()
    elif program == "cp":
        shutil.copy(*words)
    else:
        assert program == "stm-fast"
        ran = CliRunner().invoke(app, [*words, *SMALL.get(words[0], [])])
        assert ran.exit_code == 0, ran.output
        return ran.output
    return ""


def masks_of(folder: str) -> list[np.ndarray]:
    return [read_mask(path) for path in sorted(Path(folder, "masks").iterdir())]


@pytest.mark.slow
def test_the_first_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_clip, "FRAMES", FRAMES)
    commands = iter([command for command in commands_of(PAGE) if not command.startswith(INSTALLED)])
    assert "cpu" in run(next(commands))
    assert next(commands) == "stm-fast demo"  # tests/cli runs it; here its clip is enough
    demo_clip.write("stm-fast-demo/clip")
    assert "object" in run(next(commands))
    assert set(np.unique(masks_of("first")[0])) == {0, 2}
    run(next(commands))
    before = masks_of("result")
    run(next(commands))
    for command in commands:
        run(command)
        if "--corrections" in command:
            break
    after, truth = masks_of("result"), masks_of("stm-fast-demo/clip")
    assert all((old == new).all() for old, new in zip(before[:20], after[:20], strict=True))
    np.testing.assert_array_equal(after[20], truth[20])
    assert (before[20] != after[20]).any()
    for command in commands:
        run(command)
    exports = Path("result", "export")
    assert len(json.loads((exports / "instances_default.json").read_text())["images"]) == FRAMES
    assert len(list((exports / "objects").rglob("*.png"))) == 2 * FRAMES
    exec(compile(python_of(PAGE).replace("corrections=", "size=96, corrections="), PAGE, "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == FRAMES
