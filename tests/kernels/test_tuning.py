"""Choosing tiles by measurement, with a stopwatch that says what the test wants."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from stm_fast.kernels import tiles, tuning
from stm_fast.kernels.launch import Operands
from stm_fast.kernels.tiles import Tile
from stm_fast.kernels.tuning import Trial

A, B, C = Tile(64, 64, 64, 4, 2), Tile(32, 64, 64, 4, 2), Tile(64, 32, 64, 8, 2)


def test_winners_are_clearly_faster_than_the_table() -> None:
    measured = [
        Trial("read", A, 1.0),
        Trial("read", B, 0.98),
        Trial("usage", A, 1.0),
        Trial("usage", B, 0.5),
        Trial("usage", C, None),
        Trial("top_k", A, 1.0),
        Trial("top_k", C, None),
    ]
    assert tuning.winners(measured) == {"usage": B}


def test_saved_tiles_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TUNED", {})
    file, device = tmp_path / "tiles.json", torch.device("cpu")
    key = torch.empty(1, 64, 9, dtype=torch.bfloat16)
    operands, value = Operands(key, key, None, None, None, 1.0), key[:, None]
    file.write_text(tuning.with_winners(file, {"read": A, "top_k": A}, operands, value))
    file.write_text(tuning.with_winners(file, {"read": B, "usage": C}, operands, value))
    tiles.use_tuned(device, file)
    assert tiles.tile_for("top_k", key, key) != A
    assert tiles.tile_for("read", key, key[:, None]) == B
    assert tiles.tile_for("usage", key, key) == C
    assert tiles.tile_for("read", key.float(), key.float()[:, None]) not in (B, C)
    assert tiles.tile_for("read", key, torch.empty(1, 2, 64, 9, dtype=torch.bfloat16)) != B


@pytest.mark.parametrize("text", ["", "[1]", '{"read": 3}', '{"read": [1]}'])
def test_a_broken_file_of_tiles_is_ignored(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TUNED", {})
    file = tmp_path / "tiles.json"
    file.write_text(text)
    tiles.use_tuned(torch.device("cpu"), file)
    assert tiles.TUNED == {}


@pytest.mark.parametrize("operation", tuning.OPERATIONS)
def test_candidates_are_launchable(operation: str) -> None:
    found = tuning.candidates(operation, Tile(32, 32, 64, 4, 2), 48)
    assert len(found) == len(set(found)) > 10
    assert all(tile.queries >= 16 and tile.tokens >= 16 and tile.value_channels <= 64 for tile in found)


def test_trials_launch_every_operation(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Tile(16, 16, 16, 4, 1)
    monkeypatch.setattr(tiles, "TABLE", [row._replace(tile=small) for row in tiles.TABLE])
    monkeypatch.setattr(tuning, "TOP_K", 3)
    query, key, value = (torch.randn(shape, device=device) for shape in ((1, 16, 20), (1, 16, 40), (1, 1, 16, 40)))
    seconds = itertools.chain([1.0, 0.5], itertools.repeat(2.0))

    def stopwatch(run: Callable[[], object]) -> float:
        run()
        return next(seconds)

    operands = Operands(query, key, None, None, None, 0.25)
    measured = list(tuning.trials(operands, value, stopwatch, most=1))
    assert [trial.operation for trial in measured] == [name for name in tuning.OPERATIONS for _ in range(2)]
    assert all(trial.seconds for trial in measured)
    assert list(tuning.winners(measured)) == ["read"]
