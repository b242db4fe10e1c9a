"""The model of a GPU's time, against figures worked out by hand and against what the compiler made."""

import pytest

pytest.importorskip("triton")

from benchmarks.read.gpu import model
from stm_fast.kernels.tiles import Tile
from tools import triton_budgets

CHIP = model.GPU("sm_90", processors=10, gigahertz=1.0, products=1000, exponentials=10, l2=1.0, dram=1.0)
NEEDS = {"instructions": 462, "warps": 8}


def test_dense_read_worked_out_by_hand() -> None:
    """10 tiles of queries × 2 slices are 20 programs, 2 a processor, of 20 tiles each."""
    found = model.predict(CHIP, "dense", Tile(128, 64, 256, 8, 3), NEEDS, 128, 512, frames=1, queries=1280)
    assert found.splits == 1
    assert found.tensor == pytest.approx(40 * 128 * 64 * (128 + 256) / 1000 / 1000)
    assert found.issue == pytest.approx(36.96)  # 40 tiles · 462 · 8 warps / 4
    assert found.exp == pytest.approx(33.28)  # 40 · (128 · 64 + 128) / 10
    assert found.shared == pytest.approx(40.96)  # 40 · (64 KB for scores + 64 KB for the readout) / 128
    assert found.l2 == pytest.approx(20.31616)  # 10 processors · 2 · (20 tiles · 48 KB + 32 KB of queries)
    assert found.dram == pytest.approx(3.2768)  # 1280 · (128 + 512) · 2 · 2
    assert (found.merge, found.launch) == (0, 5)
    assert found.optimistic == pytest.approx(found.tensor)
    assert found.total == pytest.approx(265.622, abs=1e-3)
    assert found.longest == "tensor"


def test_splits_are_merged_and_launched() -> None:
    """2 tiles of queries take 5 splits of 40 tiles to fill 10 processors."""
    tile = Tile(128, 32, 512, 8, 2)
    found = model.predict(CHIP, "query_gradient", tile, NEEDS, 128, 512, frames=5, gap=100.0, queries=256)
    assert found.splits == 5
    assert found.issue == pytest.approx(8 * 924 / 1000)
    assert found.merge == pytest.approx((4 * 5 * 128 * 256 + 2 * 128 * 256) / 1e6)
    assert found.launch == 400
    assert found.optimistic == 400
    assert found.longest == "launch"


def test_more_of_a_chip_is_never_slower() -> None:
    better = {"gigahertz": 2.0, "products": 2000, "exponentials": 20, "l2": 2.0, "dram": 2.0}
    for name, value in better.items():
        for kernel in model.OPERATIONS:
            tile = model.tile_of(kernel, "sm_90", model.READS["STCN"])
            slow, fast = (
                model.predict(chip, kernel, tile, NEEDS, 64, 512, frames=20)
                for chip in (CHIP, CHIP._replace(**{name: value}))
            )
            assert fast.total <= slow.total, (name, kernel)
            assert fast.optimistic <= slow.optimistic, (name, kernel)


@pytest.mark.parametrize("read", model.READS)
@pytest.mark.parametrize("kernel", model.OPERATIONS)
def test_products_are_those_that_the_compiler_made(read: str, kernel: str) -> None:
    """wgmma takes 64 rows, 16 of what is summed over and up to 256 columns; a group of four warps issues it."""
    needs = triton_budgets.budgets_of(model.pinned())["sm_90"][read][f"{kernel}_kernel"]
    shape = model.READS[read]
    tile = model.tile_of(kernel, "sm_90", shape)
    turn = model.turn_of(kernel, tile, shape.channels, shape.value_channels)
    counted = sum(product.m // 64 * product.k // 16 * -(-product.n // 256) for product in turn.products)
    assert tile.warps == needs["warps"]
    assert counted == needs["matrix"] * needs["warps"] // 4 * model.PASSES.get(kernel, 1)


def test_both_gpus_and_all_reads_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    model.main(["--gpu", "H200 SXM", "--gap", "3"])
    said = capsys.readouterr().out
    assert "nothing here has been measured" in said
    assert said.count("\n| ST") == len(model.READS) * len(model.OPERATIONS) * len(model.FRAMES)
