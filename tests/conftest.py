"""Settings that hold for every test, and what several rooms share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stm_fast.ops import cpu_engines, environment

try:
    from hypothesis import settings
except ImportError:  # tests/gpu runs with torch, triton, numpy and pytest alone
    pass
else:
    settings.register_profile("stm_fast", deadline=None, derandomize=True)
    settings.load_profile("stm_fast")


if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # processes share the cores
    torch.set_num_threads(max(1, torch.get_num_threads() // int(workers)))


@pytest.fixture(autouse=True)
def environment_is_read_anew() -> Iterator[None]:
    """A test that sets a variable before its first read is a process of its own."""
    environment.variable.cache_clear()
    yield
    environment.variable.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def engines_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Which CPU engine is the fastest under a test is no choice for the user's cache."""
    folder = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_engines, "cache_folder", lambda: Path(os.environ.get("STM_FAST_CACHE") or folder))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """So that the numbers are the same bits, however many processes share the processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def poisoned() -> Iterator[None]:
    """Memory that nobody has written holds NaN, for the rest of the module."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
