"""The GPUs that the kernels support, and the class of each."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")

from stm_fast.kernels import chips, tiles

DTYPES = {16: torch.float16, 32: torch.float32}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device that does not exist. Tests decide what it is."""
    chips.refused.cache_clear()
    chips._chip_of_gpu.cache_clear()
    return torch.device("cuda", 0)


def is_a(monkeypatch: pytest.MonkeyPatch, major: int = 0, minor: int = 0, amd: str | None = None) -> None:
    properties = SimpleNamespace(major=major, minor=minor, gcnArchName=f"{amd}:sramecc+:xnack-")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.version, "hip", amd and "6.4")


@pytest.mark.parametrize(("capability", "name"), chips.CAPABILITIES.items())
def test_every_known_capability_has_a_class(
    capability: tuple[int, int], name: str, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_a(monkeypatch, *capability)
    assert chips.refused(gpu) is None
    assert chips.chip_of(gpu).name == name


@pytest.mark.parametrize("capability", [(7, 5), (13, 0)])
def test_others_are_refused_by_name(
    capability: tuple[int, int], gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_a(monkeypatch, *capability)
    assert f"not on {capability[0]}.{capability[1]}" in str(chips.refused(gpu))


def test_amd_chips_are_told_by_their_names(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    is_a(monkeypatch, amd="gfx942")
    assert chips.refused(gpu) is None
    assert chips.chip_of(gpu).name == "gfx942"
    chips.refused.cache_clear()
    is_a(monkeypatch, amd="gfx1100")
    assert chips.refused(gpu) == "it runs on AMD's gfx90a, gfx942, not on gfx1100"


@pytest.mark.parametrize("chip", chips.CHIPS)
@pytest.mark.parametrize("operation", sorted({entry.operation for entry in tiles.TABLE}))
@pytest.mark.parametrize("bits", [(16, 16), (32, 16), (16, 32), (32, 32)])
def test_every_chip_has_a_tile_for_everything(chip: str, operation: str, bits: tuple[int, int]) -> None:
    key, value = (torch.empty(1, 64, 9, dtype=DTYPES[size], device="meta") for size in bits)
    with chips.pretending(chips.CHIPS[chip]):
        assert chip in tiles.entry_for(operation, key, value[:, None]).chips
