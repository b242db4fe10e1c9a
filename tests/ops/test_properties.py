"""What must hold for any memory, read by the backends for CPUs; `tests/kernels` has those for GPUs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import PROPERTIES, Way

WAYS = [
    *(Way("reference", dtype) for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)),
    *(Way("cpu", dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)),
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
@settings(max_examples=8)
@given(data=st.data())
def test_property(holds, way: Way, data: st.DataObject) -> None:
    holds(way, data)
