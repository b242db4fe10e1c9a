"""Tile sizes of the reference backend."""

import pytest

from stm_fast.ops.backends import reference


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles so small that even a tiny read loops over batch, queries and memory."""
    monkeypatch.setattr(reference, "CPU_TILE_SCORES", 1)
    monkeypatch.setattr(reference, "TILE_QUERIES", 4)
    monkeypatch.setattr(reference, "TOP_K_TILE_QUERIES", 2)
    monkeypatch.setattr(reference, "TILE_TOKENS", 7)
    monkeypatch.setattr(reference, "GATHERED_VALUES", 1)


@pytest.fixture(params=["whole", "tiled"])
def tiling(request: pytest.FixtureRequest) -> None:
    """Every test that asks for it runs with one tile and with many."""
    if request.param == "tiled":
        request.getfixturevalue("small_tiles")
