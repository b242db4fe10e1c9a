"""Clips of the layout `synthetic`, from unpacked packages to a pool on disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("skimage")

from stm_fast.cli.synthetic_clips import make_clips
from stm_fast.data.synthetic.assets import AssetLibrary
from stm_fast.data.synthetic.clips import synthesise
from stm_fast.data.synthetic.pool import ClipPool
from stm_fast.data.synthetic.solids.packages import SOLID_SOURCES
from stm_fast.errors import StmFastError
from stm_fast.training.recipe import Recipe, Synthetic
from stm_fast.training.recipe_files import load_recipe
from tests.data import models as made
from tests.data.pictures import asset_library


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Return a recipe that wants clips of solids alone, with packages that hold a cube."""
    packages = tmp_path / "packages"
    for source in SOLID_SOURCES:
        (packages / source.package).mkdir(parents=True)
    files = {"cube.obj": made.obj().encode(), "cube.mtl": made.OBJ_MATERIALS.encode()}
    archive = packages / "sweethome3d-furniture" / "usr/share/sweethome3d/furniture/A.sh3f"
    made.zipped(archive, {**files, "skin.png": made.png(made.texture())})
    settings = Synthetic(str(packages), 1.0, clips=1, frames=2, size=32, validation_clips=1, validation_frames=2)
    return replace(load_recipe("smoke"), synthetic=settings)


def test_clips_of_solids_are_made_from_packages(recipe: Recipe, tmp_path: Path) -> None:
    asset_library(tmp_path / "out" / "assets")
    folders = make_clips(recipe, tmp_path / "out")
    library = AssetLibrary.open(tmp_path / "out" / "assets")
    assert len(library.models) == 1
    again = synthesise(library, np.random.default_rng([recipe.seed, 0]), 2, 32, solids=1.0)
    assert np.array_equal(ClipPool(folders["train"])[0].frames, again.frames)


def test_packages_of_models_that_are_missing_are_named(recipe: Recipe, tmp_path: Path) -> None:
    asset_library(tmp_path / "out" / "assets")
    (tmp_path / "packages" / "torcs-data").rmdir()
    with pytest.raises(StmFastError, match="lacks the unpacked packages torcs-data"):
        make_clips(recipe, tmp_path / "out")
    assert not (tmp_path / "out" / "assets" / "model").exists()
