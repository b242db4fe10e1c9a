"""Choosing tiles by measurement, with a stopwatch that says what the test wants."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from stm_fast.cli import tune
from stm_fast.cli.console import Interrupted
from stm_fast.kernels import chips, tiles
from stm_fast.kernels.operands import Operands
from stm_fast.kernels.tiles import Tile
from stm_fast.ops import gpu_timing, tile_tuning
from stm_fast.ops.tile_tuning import Trial

A, B, C = Tile(64, 64, 64, 4, 2), Tile(32, 64, 64, 4, 2), Tile(64, 32, 64, 8, 2)


def test_the_winner_is_clearly_faster_than_the_table() -> None:
    assert tile_tuning.winner([Trial("read", A, 1.0), Trial("read", B, 0.98)]) is None
    assert tile_tuning.winner([Trial("usage", A, 1.0), Trial("usage", C, None), Trial("usage", B, 0.5)]) == B
    assert tile_tuning.winner([Trial("top_k", A, 1.0), Trial("top_k", C, None)]) is None
    assert tile_tuning.winner([Trial("top_k", A, 1.0)]) is None


def test_saved_tiles_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TUNED", {})
    file, device = tmp_path / "tiles.json", torch.device("cpu")
    key = torch.empty(1, 64, 9, dtype=torch.bfloat16)
    operands, value = Operands(key, key, None, None, None, 1.0), key[:, None]
    for operation, tile in (("read", A), ("top_k", A), ("read", B), ("usage", C), ("top_k", None)):
        file.write_text(tile_tuning.with_winner(file, operation, tile, operands, value))
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


@pytest.mark.parametrize("operation", tile_tuning.OPERATIONS)
def test_candidates_are_launchable(operation: str) -> None:
    found = tile_tuning.candidates(operation, Tile(32, 32, 64, 4, 2), 48)
    assert len(found) == len(set(found)) > 10
    assert all(tile.queries >= 16 and tile.tokens >= 16 and tile.value_channels <= 64 for tile in found)


@pytest.mark.parametrize("operation", tile_tuning.OPERATIONS)
def test_reads_use_every_tile_that_can_win(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query, key = (torch.empty(1, 128, items, dtype=torch.bfloat16, device="meta") for items in (20, 96))
    operands, value = Operands(query, key, None, None, None, 1.0), key.new_empty(1, 1, 512, 96)
    tensors = key, key if operation in ("usage", "top_k") else value
    with chips.pretending(chips.CHIPS["sm_90"]):
        found = tile_tuning.neighbours(operation, operands, value)
        assert len(found) > 5
        for tile in found:
            monkeypatch.setattr(tiles, "TUNED", {key.device: {tiles.tuning_key(operation, *tensors): tile}})
            assert tiles.tile_for(operation, *tensors) == tile


@pytest.mark.parametrize("operation", tile_tuning.OPERATIONS)
def test_trials_launch_an_operation(operation: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Tile(16, 16, 16, 4, 1)
    monkeypatch.setattr(tiles, "TABLE", [entry._replace(tile=small) for entry in tiles.TABLE])
    monkeypatch.setattr(tile_tuning, "TOP_K", 3)
    query, key, value = (torch.randn(shape, device=device) for shape in ((1, 16, 20), (1, 16, 40), (1, 1, 16, 40)))
    seconds = iter([1.0, 0.5])

    def stopwatch(run: Callable[[], object]) -> float:
        run()
        return next(seconds)

    operands, other = Operands(query, key, None, None, None, 0.25), Tile(16, 32, 16, 4, 1)
    measured = list(tile_tuning.trials(operation, operands, value, stopwatch, [other]))
    assert measured == [Trial(operation, small, 1.0), Trial(operation, other, 0.5)]
    assert tile_tuning.winner(measured) == other


@pytest.fixture
def problem(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> tile_tuning.Problem:
    """A toy read, tiles for it, and no other processes."""
    small = Tile(16, 16, 16, 4, 1)
    monkeypatch.setattr(tiles, "TABLE", [entry._replace(tile=small) for entry in tiles.TABLE])
    monkeypatch.setattr(tile_tuning, "QUERIES", 20)
    monkeypatch.setattr(tile_tuning, "Compilers", FakeCompilers)
    return tile_tuning.Problem(16, 16, 40, torch.float32, device)


class FakeCompilers:
    """Reports the first tile as too large for the chip and the second as compiled."""

    def __init__(self, _: tile_tuning.Problem) -> None:
        pass

    def compile(self, operation: str, tiles: list[Tile], until: float) -> Iterator[tuple[Tile, bool]]:
        for tile in tiles[:2]:
            yield tile, tile != tiles[0]

    def end(self) -> None:
        pass


def test_tune_writes_after_each_operation_and_keeps_what_it_has_on_ctrl_c(
    problem: tile_tuning.Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([1.0, 0.5, 2.0, 0.1])

    def stopwatch(_: object) -> float:
        try:
            return next(measured)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(gpu_timing, "median_seconds_on_gpu", stopwatch)
    file = tmp_path / "tiles" / "gpu.json"
    with pytest.raises(Interrupted, match="2 of 6 operations"):
        tune._tune_tiles(problem, file, math.inf)
    assert [key.split(",")[0] for key in json.loads(file.read_text())] == ["read", "query_gradient"]


def test_tiles_are_launched_by_other_processes(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_tuning, "_process_count", lambda _: 2)
    compilers = tile_tuning.Compilers(tile_tuning.Problem(16, 16, 40, torch.float32, device))
    good, bad = Tile(16, 16, 16, 4, 1), Tile(16, 15, 16, 4, 1)
    try:
        found = dict(compilers.compile("usage", [good, bad], math.inf))
    finally:
        compilers.end()
    assert found == {good: True, bad: False}


def test_tune_stops_when_the_time_is_over(problem: tile_tuning.Problem, tmp_path: Path) -> None:
    tune._tune_tiles(problem, tmp_path / "tiles.json", 0.0)
    assert not (tmp_path / "tiles.json").exists()
