"""Settings that hold for every test, and what several rooms share."""

from collections.abc import Iterator

import pytest
import torch

try:
    from hypothesis import settings
except ImportError:  # tests/gpu runs with torch, triton, numpy and pytest alone
    pass
else:
    settings.register_profile("stm_fast", deadline=None, derandomize=True)
    settings.load_profile("stm_fast")


@pytest.fixture(scope="module")
def poisoned() -> Iterator[None]:
    """Memory that nobody has written holds NaN, for the rest of the module."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
