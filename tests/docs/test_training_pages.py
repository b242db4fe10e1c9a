"""The pages on datasets, training and evaluation: tables are those of the code, commands parse, and code runs."""

import re
import shlex
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

pytest.importorskip("omegaconf")

from stm_fast.cli.main import app
from stm_fast.media.masks import write_mask
from stm_fast.training.recipe import Recipe
from stm_fast.training.recipe_files import load_recipe
from tools import reference_tables
from tools.blocks import rewritten

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code(page: Path, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """The words after `stm-fast`, or after what starts it in several processes, of every whole command of a page."""
    lines = [line for block in code(page) for line in block.replace("\\\n", "").splitlines()]
    found = [re.search(r"(?:^stm-fast|-m stm_fast) (.*)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match and "..." not in match[1]]


@pytest.mark.parametrize("page", reference_tables.PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_code(page: Path) -> None:
    """After a change of layouts, protocols or recipes `python -m tools.reference_tables` writes the pages anew."""
    text = page.read_text()
    assert f"<!-- made by {reference_tables.TOOL}: " in text
    assert rewritten(text, reference_tables.TOOL, reference_tables.BLOCKS) == text


def test_every_table_is_in_a_page() -> None:
    text = "".join(page.read_text() for page in reference_tables.PAGES)
    assert set(re.findall(rf"made by {reference_tables.TOOL}: (\w+)", text)) == set(reference_tables.BLOCKS)


def test_every_setting_has_a_meaning() -> None:
    rows = [row.split(" | ") for row in reference_tables.settings().splitlines()[2:]]
    assert len(rows) > 60
    assert not [row for row in rows if len(row) != 3 or len(row[2].strip("| ")) < 5]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page: Path) -> None:
    group = typer.main.get_command(app)
    for words in commands(page):
        if words[0].startswith("-"):
            continue
        command = group.get_command(typer.Context(group), words[0])
        assert command is not None, words
        parsed: dict = {}
        with suppress(typer.Exit):  # of --list
            parsed = command.make_context(words[0], words[1:]).params
        if words[0] == "train" and parsed:
            assert isinstance(load_recipe(parsed["recipe"], parsed["settings"] or ()), Recipe)


def test_the_paper_takes_two_commands() -> None:
    found = commands(ROOT / "docs" / "training.md")
    assert [words[:2] for words in found[:2]] == [["train", "stm-paper-static"], ["train", "stm-paper-video"]]
    assert [words[0] for words in found[2:4]] == ["evaluate", "evaluate"]


def test_the_recipe_of_the_page_is_one(tmp_path: Path) -> None:
    (text,) = code(ROOT / "docs" / "recipes.md", "yaml")
    (tmp_path / "mine.yaml").write_text(text)
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert [entry.layout for entry in recipe.data] == ["folder", "davis2017"]
    assert recipe.optimizer.learning_rate == 1e-5


def test_the_loop_of_the_page_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("cv2")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("frames", "masks"):
        Path("DATA", "mine", folder, "clip").mkdir(parents=True)
    for time in range(4):
        frame, mask = rng.integers(0, 256, (48, 48, 3), np.uint8), np.zeros((48, 48), np.uint8)
        mask[8 + time : 32 + time, 10:36] = 1
        Image.fromarray(frame).save(Path("DATA", "mine", "frames", "clip", f"{time:05d}.jpg"))
        write_mask(Path("DATA", "mine", "masks", "clip", f"{time:05d}.png"), mask)
    stage = "{steps: 2, clips: 1, frames: 3, size: 32}"
    Path("mine.yaml").write_text(
        f"model: compact\nstart: none\ndata: [{{layout: folder, folder: mine}}]\nrounds: [{{stages: [{stage}]}}]\n"
    )
    (loop,) = code(ROOT / "docs" / "training.md", "python")
    exec(compile(loop, "docs/training.md", "exec"), {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]
    assert Path("runs", "mine", "last.safetensors").is_file()
