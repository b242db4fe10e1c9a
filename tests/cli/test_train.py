"""`stm-fast train`: from pictures to weights, and what it refuses."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("accelerate")
pytest.importorskip("cv2")
pytest.importorskip("skimage")

from stm_fast import load_model
from stm_fast.cli.main import app
from stm_fast.data.synthetic.pool import PoolSpec, make_pool
from stm_fast.training.recipe_files import load_recipe, recipe_names
from tests.data.miniature_stills import make_pairs
from tests.data.pictures import asset_library


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures and small clips."""
    root = tmp_path_factory.mktemp("prepared")
    asset_library(root / "assets")
    list(make_pool(root / "assets", root / "clips", PoolSpec(clips=1, frames=3, size=48), workers=1))
    shutil.copytree(root / "clips", root / "validation")
    return root


@pytest.fixture
def out(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "out"))


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    assert "Traceback" not in result.output
    return result


SYNTHETIC = (
    "data=[{layout: synthetic, set: train}]",
    "validation.data=[{layout: synthetic, set: validation}]",
    "synthetic.clips=1",
    "synthetic.validation_clips=1",
    "rounds.0.stages.0.size=48",
)
"""Settings of the recipe `smoke` that train it on the clips of `prepared`."""


def test_the_recipe_smoke_needs_no_files(tmp_path: Path) -> None:
    result = run("smoke", tmp_path / "out", "rounds.0.stages.0.size=32", "validation.size=32")
    assert result.exit_code == 0, result.output
    load_model(tmp_path / "out" / "best.safetensors")
    assert not (tmp_path / "out" / "clips").exists()
    assert np.float32(1e-40) / 2 > 0, "subnormal numbers are flushed to zero in training alone"


def test_from_pictures_to_weights_and_on(out: Path) -> None:
    smoke = ("smoke", out, *SYNTHETIC)
    result = run(*smoke)
    assert result.exit_code == 0, result.output
    said = result.output.replace("\n", "")
    assert "best.safetensors: validation j 0." in said
    assert "step 4: loss" in said
    load_model(out / "best.safetensors")
    load_model(out / "last.safetensors")
    assert load_recipe(str(out / "recipe.yaml")).rounds[0].stages[0].size == 48
    assert len(list((out / "pictures").iterdir())) == 2
    again = run(*smoke)
    assert again.exit_code == 0, again.output
    other = run(*smoke, "seed=1")
    assert other.exit_code == 1
    assert "was made with seed 0, not 1" in other.output
    assert load_recipe(str(out / "recipe.yaml")).seed == 0
    lost = run(*smoke, f"start={out / 'none.safetensors'}")
    assert lost.exit_code == 1


def test_recipes_are_listed() -> None:
    result = run("--list")
    assert result.exit_code == 0
    for name, title in recipe_names().items():
        assert name in result.output
        assert title in result.output
    shown = " ".join(run("--help").output.split())
    assert "stm-paper-static: stage 1 of the paper" in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("soup",), "recipe 'soup' is neither a YAML file nor one of the package's"),
        (("smoke", "precision=int8"), "precision must be one of fp32, bf16, fp16, got 'int8'"),
        (
            ("smoke", "--export-official", "w.pth"),
            "--export-official needs the model resnet50; the recipe's is compact",
        ),
        (("smoke", "--device", "toaster"), "--device 'toaster' cannot be used"),
        (("stm-paper-static",), "no folder for the dataset msra10k: give --data DIR, which holds MSRA10K/"),
        (("smoke", "precision=fp16", "--device", "cpu"), "precision fp16 needs a GPU"),
    ],
)
def test_what_cannot_be_trained_is_told(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    recipe, *rest = arguments
    result = run(recipe, tmp_path / "out", *rest)
    assert result.exit_code in (1, 2)
    assert sentence in " ".join(result.output.split())
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_settings_may_change_until_there_is_a_checkpoint(tmp_path: Path) -> None:
    make_pairs(tmp_path / "data" / "pairs")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "model: compact\nworkers: 0\ndata: [{layout: pairs, folder: pairs}]\n"
        "rounds: [{stages: [{steps: 1, clips: 1, size: 32}]}]\n"
    )
    command = (recipe, tmp_path / "out", "--data", tmp_path / "data", "--device", "cpu")
    assert "no such file" in run(*command, "start=lost.safetensors").output
    assert run(*command, "start=none").exit_code == 0
    again = " ".join(run(*command, "start=none", "seed=1").output.split())
    assert "was made with seed 0, not 1: resume with the same options" in again
    complete = run(*command, "start=none", "workers=1")
    assert complete.exit_code == 0
    assert "The run is complete at step 1 of 1" in complete.output


def test_all_missing_datasets_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    result = run("stcn-like", tmp_path / "out", "--data", tmp_path / "data", "start=none", "precision=fp32")
    assert result.exit_code == 2
    for official in ("fewshot_data.zip", "DUTS-TR.zip", "images.zip", "DAVIS-2017-trainval-480p.zip"):
        assert official in result.output


def test_a_missing_package_is_named(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stm_fast.cli.synthetic_clips.find_spec", lambda name: None if name == "cv2" else True)
    result = run("smoke", out, *SYNTHETIC)
    assert result.exit_code == 1
    assert "synthetic clips need cv2: pip install 'stm-fast[train]'" in result.output


def test_pictures_that_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    result = run("smoke", tmp_path / "out", *SYNTHETIC, f"synthetic.pictures={tmp_path / 'pictures'}")
    assert result.exit_code == 1
    assert "lacks the unpacked packages" in result.output


def test_memory_that_runs_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("stm_fast.training.trainer.clip_losses", fail)
    result = run("smoke", tmp_path / "out")
    assert result.exit_code == 3
    assert "out of memory at step 0" in " ".join(result.output.split())
    assert "optimizer.accumulate=2" in result.output
