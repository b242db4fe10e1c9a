"""What the CUDA kernels need on chips that are not here, as `tools/cuda_budgets.py` found it."""

import json

import pytest

from tools import cuda_budgets

COMMITTED = json.loads(cuda_budgets.FILE.read_text())
CHIPS = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]
REGISTERS = 65536
"""Of a multiprocessor of every chip."""
THREADS = 256
"""Of a block."""


def test_every_chip_has_the_same_kernels() -> None:
    assert [*COMMITTED] == [*CHIPS, "nvcc"]
    assert len({tuple(COMMITTED[chip]) for chip in CHIPS}) == 1


@pytest.mark.parametrize("chip", CHIPS)
def test_nothing_spills_and_a_block_fits(chip: str) -> None:
    for kernel, needs in COMMITTED[chip].items():
        assert needs["spilled"] == 0, kernel
        assert needs["registers"] * THREADS <= REGISTERS, kernel


@pytest.mark.parametrize("chip", CHIPS)
def test_products_run_on_tensor_cores_and_tiles_are_copied_asynchronously(chip: str) -> None:
    products = [kernel for kernel in COMMITTED[chip] if kernel.startswith(("dense", "gradient", "candidates"))]
    assert len(products) == 34
    for kernel in products:
        assert COMMITTED[chip][kernel]["matrix"] > 0, kernel
        for width in cuda_budgets.WIDTHS:
            assert COMMITTED[chip][kernel][f"copies_{width}"] > 0, kernel


@pytest.mark.parametrize("chip", CHIPS)
def test_a_copy_of_a_whole_tile_takes_few_instructions(chip: str) -> None:
    for kernel, needs in COMMITTED[chip].items():
        if kernel.startswith(("dense", "gradient", "candidates")):
            assert 1 < needs["per_copy"] <= 12, kernel


@pytest.mark.parametrize("chip", CHIPS)
def test_the_loop_over_tiles_has_the_barriers_of_the_design(chip: str) -> None:
    barriers = {"dense": 3, "candidates": 2, "gradient": 1}
    for kernel, needs in COMMITTED[chip].items():
        assert needs["barriers"] == barriers.get(kernel.partition("<")[0], needs["barriers"]), kernel


def test_what_is_worse_than_its_budget_is_told() -> None:
    dense = "dense<float, float, 256>"
    needs, budgets = COMMITTED["sm_80"][dense], {"sm_80": {dense: COMMITTED["sm_80"][dense]}, "nvcc": "13.0"}
    for worse in (
        {"registers": needs["registers"] + 1},
        {"spilled": 8},
        {"matrix": 0},
        {"copies_16": 0},
        {"per_copy": needs["per_copy"] + 1},
        {"barriers": needs["barriers"] + 1},
        {"divisions": needs["divisions"] + 1},
        {"loop": int(needs["loop"] * 1.05)},
    ):
        (fault,) = cuda_budgets.faults({"sm_80": {dense: needs | worse}}, budgets)
        assert fault.startswith(dense + " on sm_80: ")
        assert next(iter(worse)) in fault
    assert list(cuda_budgets.faults({"sm_80": {dense: needs, "new": needs}}, budgets)) == ["new on sm_80 has no budget"]
    assert list(cuda_budgets.faults({}, budgets)) == [dense + " on sm_80 is missing"]
    assert not list(cuda_budgets.faults({"sm_80": {dense: needs | {"loop": needs["loop"] + 1}}}, budgets))


def test_the_file_is_what_is_written_and_has_a_table() -> None:
    assert cuda_budgets.text_of(COMMITTED) == cuda_budgets.FILE.read_text()
    assert cuda_budgets.table_of(COMMITTED).count("\n") == 1 + sum(len(COMMITTED[chip]) for chip in CHIPS)
