"""Where the GPU kernels run: on a GPU, or interpreted or emulated on the CPU, in a process made for that."""

import importlib.util
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch

from stm_fast.ops import compiled
from stm_fast.ops.backends import cuda, registry
from stm_fast.ops.compiled import recipe


def _device(imitation: str) -> torch.device:
    if os.environ.get(imitation) == "1":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    pytest.skip(f"no GPU; `make test` runs these once more with {imitation}=1")


@pytest.fixture(scope="session", autouse=True)
def fast_interpreter() -> None:
    """Interpret kernels in half the time."""
    if os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton") is not None:
        from tests.kernels import interpreter

        interpreter.speed_up()


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device of the Triton kernels' tensors."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    return _device("TRITON_INTERPRET")


def cuda_can_be_built() -> bool:
    """Whether this machine has what the CUDA kernels need: then they must serve."""
    try:
        recipe.find_nvcc()
    except recipe.BuildError:
        return False
    return torch.version.hip is None


class Engine(NamedTuple):
    """A kind of kernels.

    Attributes:
        name: of the backend.
        ops: the backend.
        device: of tensors.
    """

    name: str
    ops: Any
    device: torch.device


@pytest.fixture(params=["triton", "cuda"], scope="session")
def engine(request: pytest.FixtureRequest) -> Engine:
    """One kind of kernels after the other."""
    name = str(request.param)
    device = request.getfixturevalue("device") if name == "triton" else _device("STM_FAST_EMULATE_CUDA")
    backend = registry.load(name)
    if name == "cuda" and device.type == "cuda" and not cuda_can_be_built():
        pytest.skip("no NVIDIA GPU, or no nvcc to build the CUDA kernels with")
    assert backend.unavailable() is None
    return Engine(name, backend, device)


@pytest.fixture(autouse=True)
def no_plans() -> None:
    """No launches are kept of tests before, which may have had other tiles and splits."""
    if importlib.util.find_spec("triton") is not None:
        from stm_fast.kernels import plans

        plans.forget()


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of the Triton kernels so small that even a tiny read crosses them."""
    from stm_fast.kernels import tiles

    small = tiles.Tile(queries=16, tokens=16, value_channels=16, warps=1, stages=1)
    monkeypatch.setattr(tiles, "TABLE", [entry._replace(tile=small, copy_bytes=0) for entry in tiles.TABLE])
    for module in ("by_token", "top_k", "top_k_backward"):
        monkeypatch.setattr(f"stm_fast.kernels.{module}.GATHER_TILE", small)


@pytest.fixture(params=[1, 2, 7])
def splits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The number of splits of the memory; some of 7 are empty. CUDA kernels follow it where they are emulated."""
    if importlib.util.find_spec("triton") is not None:
        for module in ("forward", "query_gradient", "candidates"):
            monkeypatch.setattr(f"stm_fast.kernels.{module}.split_count", lambda *_: request.param)
    emulated = cuda.emulating()
    if emulated:
        compiled.library("cuda_emulated").stm_fast_force_splits(request.param)
    yield int(request.param)
    if emulated:
        compiled.library("cuda_emulated").stm_fast_force_splits(0)
