"""What the kernels need on chips that are not here, and that the committed figures are those of these kernels."""

import copy
import json
import os
import subprocess
import sys

import pytest

triton = pytest.importorskip("triton")

from stm_fast.kernels import chips  # noqa: E402
from tools import triton_budgets as budgets  # noqa: E402

COMMITTED = json.loads(budgets.FILE.read_text())
FORWARD = ("dense_kernel", "merge_kernel", "usage_kernel", "candidates_kernel", "choose_kernel", "gather_kernel")
REAL = ("STM", "STCN", "XMem", "float32", "TF32", "best 128")
"""The others are there so that they compile and fit."""
PRODUCTS = (
    "dense_kernel",
    "query_gradient_kernel",
    "key_gradient_kernel",
    "value_gradient_kernel",
    "usage_kernel",
    "candidates_kernel",
)


def test_every_chip_and_read_has_budgets() -> None:
    assert list(budgets.chips_of(COMMITTED)) == list(chips.CHIPS)
    for shapes in budgets.chips_of(COMMITTED).values():
        assert set(shapes) == {shape.name for shape in budgets.SHAPES}
        assert all(set(FORWARD) | set(PRODUCTS) <= set(kernels) for kernels in shapes.values())


@pytest.mark.parametrize("chip", chips.CHIPS)
def test_forward_kernels_do_not_spill(chip: str) -> None:
    for shape in REAL:
        kernels = COMMITTED[chip][shape]
        assert {name: kernels[name]["spilled"] for name in FORWARD} == dict.fromkeys(FORWARD, 0), shape


@pytest.mark.parametrize("chip", chips.CHIPS)
def test_shared_memory_fits(chip: str) -> None:
    for kernels in COMMITTED[chip].values():
        assert all(needs["shared"] <= chips.CHIPS[chip].shared for needs in kernels.values())


@pytest.mark.parametrize("chip", chips.CHIPS)
def test_products_of_16_bits_run_on_matrix_units(chip: str) -> None:
    for shape in ("STM", "STCN"):
        assert all(COMMITTED[chip][shape][kernel]["matrix"] for kernel in PRODUCTS)


@pytest.mark.parametrize("chip", [name for name, chip in chips.CHIPS.items() if chip.backend == "cuda"])
def test_keys_and_values_are_copied_asynchronously(chip: str) -> None:
    for shape in ("STM", "STCN"):
        assert all(COMMITTED[chip][shape][kernel]["copies"] for kernel in PRODUCTS)


def test_what_is_worse_is_named() -> None:
    known = budgets.chips_of(COMMITTED)
    worse = copy.deepcopy(known)
    needs = worse["sm_90"]["STM"]["dense_kernel"]
    needs["spilled"], needs["matrix"] = 8, 0
    allowed = COMMITTED["sm_90"]["STM"]["dense_kernel"]
    assert list(budgets.faults(worse, known)) == [
        "dense_kernel for STM on sm_90: spilled 8, budget 0",
        f"dense_kernel for STM on sm_90: 0 matrix instructions, budget {allowed['matrix']}",
    ]
    assert not list(budgets.faults(known, known))
    assert "dense_kernel for STM on sm_90 has no budget" in budgets.faults(known, {})


@pytest.mark.parametrize("chip", ["sm_90", "gfx942"])
def test_kernels_compile_within_their_budgets(chip: str) -> None:
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("kernels that are interpreted are not compiled")
    if triton.__version__ != COMMITTED["triton"]:
        pytest.skip(f"the budgets are those of triton {COMMITTED['triton']}")
    command = [sys.executable, "-m", "tools.triton_budgets", "--chip", chip, "--shape", "STM"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
