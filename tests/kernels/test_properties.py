"""What must hold for any memory, read by the GPU kernels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.conftest import Engine
from tests.properties import PROPERTIES, Way


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
@settings(max_examples=3)
@given(data=st.data())
def test_property(holds, dtype: torch.dtype, engine: Engine, data: st.DataObject) -> None:
    if dtype == torch.bfloat16 and engine.name == "triton" and engine.ops.interpreting():
        pytest.skip("triton's interpreter multiplies bfloat16 wrongly")
    holds(Way(engine.name, dtype, engine.device), data)
