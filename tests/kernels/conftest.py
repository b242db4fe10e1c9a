"""Where the Triton kernels run: on a GPU if there is one, else interpreted on the CPU, in a process made for that."""

import importlib.util
import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device of the kernels' tensors."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    if os.environ.get("TRITON_INTERPRET") == "1":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    pytest.skip("no GPU, and not interpreting: `make test` runs these once more with TRITON_INTERPRET=1")
