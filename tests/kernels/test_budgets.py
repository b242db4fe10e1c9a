"""The budgets of the Triton kernels: complete, within the rules, and those of the kernels as they are."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")

from stm_fast.kernels import chips  # noqa: E402
from tools import budget_rules  # noqa: E402
from tools import triton_budgets as budgets  # noqa: E402

ROOT = Path(__file__).parents[2]
COMMITTED = json.loads(budgets.FILE.read_text())
VERSIONS = list(budgets.VERSIONS)


def test_both_versions_of_triton_have_budgets() -> None:
    assert list(COMMITTED) == VERSIONS
    pins = (ROOT / "requirements.txt").read_text()
    assert f"triton=={VERSIONS[-1]}\n" in pins
    assert re.search(r'"triton>=3\.6"', (ROOT / "pyproject.toml").read_text())
    assert f"triton=={VERSIONS[0]}" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_chip_and_read_has_budgets_within_the_rules(version: str) -> None:
    known = budgets.budgets_of(version)
    assert list(known) == list(chips.CHIPS)
    for shapes in known.values():
        assert list(shapes) == [shape.name for shape in budgets.SHAPES]
        kernels = set(budget_rules.FORWARD) | set(budget_rules.MAX_WAITS)
        assert all(kernels <= set(found) for found in shapes.values())
    assert not list(budget_rules.broken_rules(known))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"spilled": 8}, "spilled 8, budget 0"),
        ({"registers": 999}, "registers 999, budget {registers}"),
        ({"matrix": 0}, "0 matrix instructions, budget {matrix}"),
        ({"copy_bytes": 8}, "copies of 8 bytes, budget {copy_bytes}"),
        ({"waits": 3}, "waits 3, budget {waits}"),
        ({"serialized": 1}, "serialized 1, budget 0"),
        ({"instructions": 999}, "instructions 999, budget {instructions}"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_worse_is_named(change: dict[str, int], fault: str) -> None:
    known = budgets.budgets_of(VERSIONS[-1])
    allowed = known["sm_90"]["STM"]["dense_kernel"]
    worse = copy.deepcopy(known)
    worse["sm_90"]["STM"]["dense_kernel"].update(change)
    assert not list(budgets.faults(known, known))
    named, *_ = budgets.faults(worse, known)
    assert named == "dense_kernel for STM on sm_90: " + fault.format(**allowed)
    assert "dense_kernel for STM on sm_90 has no budget" in budgets.faults(known, {})


@pytest.mark.parametrize(
    ("shape", "kernel", "change", "reason"),
    [
        ("STM", "dense_kernel", {"serialized": 1}, "asynchronous products wait for one another"),
        ("STM", "dense_kernel", {"waits": 4}, "4 waits for products, 3 at most"),
        ("STM", "key_gradient_kernel", {"waits": 5}, "5 waits for products, 4 at most"),
        ("STM, T = 20", "dense_kernel", {"copy_bytes": 8}, "copies of 8 bytes, 16 at least"),
        ("XMem", "dense_kernel", {"spilled": 8}, "8 bytes are spilled"),
        ("STCN", "usage_kernel", {"matrix": 0}, "no product runs on matrix units"),
        ("widest", "dense_kernel", {"shared": 2**20}, "shared memory 1048576 of 232448"),
    ],
)
def test_rules_hold_whatever_the_budget(shape: str, kernel: str, change: dict[str, int], reason: str) -> None:
    needs = budgets.budgets_of(VERSIONS[-1])["sm_90"][shape][kernel]
    worse = {"sm_90": {shape: {kernel: needs | change}}}
    assert f"{kernel} for {shape} on sm_90: {reason}" in list(budget_rules.broken_rules(worse))


def test_kernels_compile_within_their_budgets() -> None:
    """Compile for one chip and read. `make budgets` compiles for all of them."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("interpreted kernels are not compiled")
    if triton.__version__ not in COMMITTED:
        pytest.skip(f"there are only budgets of triton {', '.join(COMMITTED)}")
    command = [sys.executable, "-m", "tools.triton_budgets", "--chip", "sm_90", "--shape", "STM"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
