"""Launches that are kept, where launches of compiled kernels succeed and do nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from benchmarks.read.gpu import launch_time
from stm_fast.kernels import forward, plans, tiles
from stm_fast.kernels.operands import Operands
from stm_fast.ops.backends.triton import interpreting


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """Arguments of the launches of compiled kernels by plans."""
    if interpreting():
        pytest.skip("kernels that are interpreted are not compiled")
    pytest.importorskip("triton.backends.nvidia")
    from triton.backends.nvidia.driver import CudaLauncher

    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(CudaLauncher, "__call__", lambda _, *arguments: found.append(arguments))
    with launch_time.launching_nothing():
        yield found


@pytest.mark.parametrize("operation", launch_time.OPERATIONS)
def test_a_kept_launch_is_what_triton_makes_of_it(launched: list[tuple[Any, ...]], operation: str) -> None:
    """Grid, stream, kernel and every argument, as the first launch has them, which triton has bound."""
    run = launch_time.launcher_of(replace(launch_time.CASE, operation=operation))
    run()
    first = launched.copy()
    launched.clear()
    made = [launch.compiled for plan in plans._plans.values() for launch in plan.launches.values()]
    assert first
    assert None not in made
    run()
    assert len(launched) == len(first)
    for mine, theirs in zip(launched, first, strict=True):
        assert len(mine) == len(theirs)
        for kept, bound in zip(mine, theirs, strict=True):
            assert described(kept) == described(bound)


def described(argument: Any) -> Any:
    """An argument to be compared: workspaces are made for every call."""
    if isinstance(argument, Tensor):
        return argument.shape, argument.stride(), argument.dtype
    if type(argument).__name__ == "TensorDescriptor":
        return tuple(described(field) if isinstance(field, Tensor) else field for field in vars(argument).values())
    return argument.data if type(argument).__name__ == "LazyDict" else argument


def read_of(query: Tensor, key: Tensor, value: Tensor, scale: float = 0.1) -> None:
    out = value.new_empty(*value.shape[:3], query.shape[2])
    forward.read(Operands(query, key, None, None, None, scale), value, out, torch.empty(1, query.shape[2]))


def test_a_plan_is_made_of_all_that_its_launches_depend_on(
    launched: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, key, value = torch.zeros(1, 16, 32), torch.zeros(1, 16, 80)[..., :64], torch.zeros(1, 1, 16, 80)[..., :64]
    read_of(query, key, value)
    for changed in (
        (query, key.clone(), value.clone()),
        (query, key[..., :56], value[..., :56]),
        (query, torch.zeros(1, 16, 81)[..., 1:65], value),
        (query[..., :31], key, value),
        (query.bfloat16(), key.bfloat16(), value),
        (query, key, value, 0.2),
    ):
        known = len(plans._plans)
        read_of(*changed)
        assert len(plans._plans) == known + 1
        read_of(*changed)
        assert len(plans._plans) == known + 1
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32" if before != "tf32" else "ieee"
    try:
        read_of(query, key, value)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert len(plans._plans) == known + 2
    monkeypatch.setattr(tiles, "TUNED", {})
    tiles.use_tuned(torch.device("cpu"), tmp_path / "absent.json")
    assert not plans._plans


def test_plans_hold_no_tensors_and_are_bounded(
    launched: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "MAX_PLANS", 3)
    query, bank = torch.zeros(1, 16, 32), torch.zeros(1, 16, 80)
    for tokens in range(8, 72, 8):
        read_of(query, bank[..., :tokens], bank[:, None, :, :tokens])
        assert 0 < len(plans._plans) <= 3
    kept = [launch for plan in plans._plans.values() for launch in plan.launches.values()]
    assert not [field for each in kept for field in each._fixed if isinstance(field, Tensor)]
    assert all(fields["base"] is None for each in kept for _, _, fields in each._described)
    assert kept[0]._described


def test_what_is_not_launched_is_planned_anew() -> None:
    if not interpreting():
        pytest.skip("kernels are not interpreted; a kept launch is tested beside")
    plans.forget()
    tile, made = tiles.Tile(16, 16, 16, 1, 1), []
    query, memory = torch.zeros(1, 16, 8), torch.zeros(1, 16, 24)
    for _ in range(2):
        plan = plans.plan_of("read", lambda: made.append(1) or planned(query, memory, tile))
        assert all(each.compiled is None for each in plan.launches.values())
    assert len(made) == 2


def planned(query: Tensor, memory: Tensor, tile: tiles.Tile) -> plans.Plan:
    operands = Operands(query, memory, None, None, None, 1.0)
    return forward._plan(operands, memory[:, None], torch.empty(1, 1, 16, 8), tile, 1)
