"""`stm-fast train synthetic`: from pictures to weights, and what it refuses."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("cv2")
pytest.importorskip("skimage")

from stm_fast import load_model
from stm_fast.cli.main import app
from stm_fast.data.synthetic.pool import ClipPool, PoolSpec, make_pool
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
def train(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the command on prepared pictures and five small clips, with a trunk that starts at random."""
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    monkeypatch.setattr(ClipPool, "__len__", lambda pool: 5)
    monkeypatch.setattr("stm_fast.training.pretrained.lite0_classifier", dict)
    monkeypatch.setattr("stm_fast.models.compact.start_from_classifier", lambda model, classifier: None)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["train", "synthetic", str(out), *arguments])

    return run


def test_from_pictures_to_weights_and_on(train, tmp_path: Path) -> None:
    result = train("--recipe", "smoke", "--clips", "1")
    assert result.exit_code == 0, result.output
    weights = tmp_path / "out" / "run" / "best.safetensors"
    assert f"{weights.name}: validation J 0." in result.output.replace("\n", "")
    load_model(weights)
    again = train("--recipe", "smoke", "--clips", "1")
    assert again.exit_code == 0, again.output
    longer = train("--recipe", "smoke", "--clips", "1", "--start", str(weights))
    assert "was made with start None" in longer.output
    other = train("--recipe", "smoke", "--clips", "1", "--seed", "1")
    assert other.exit_code == 1
    assert "was made with seed 0, not 1" in other.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--recipe", "soup"), "--recipe must be compact or smoke, got soup"),
        (("--clips", "0"), "--clips"),
        (("--dtype", "int8"), "int8"),
    ],
)
def test_options_out_of_range(train, tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    result = train(*arguments)
    assert result.exit_code in (1, 2)
    assert sentence in result.output
    assert not (tmp_path / "out" / "settings.json").exists()


def test_missing_extra_is_named(train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stm_fast.cli.train.find_spec", lambda name: None if name == "cv2" else True)
    result = train()
    assert result.exit_code == 1
    assert "training needs cv2: pip install 'stm-fast[train]'" in result.output


def test_pictures_that_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    arguments = ["train", "synthetic", str(tmp_path / "out"), "--sources", str(tmp_path / "sources")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "lacks the unpacked packages" in result.output
