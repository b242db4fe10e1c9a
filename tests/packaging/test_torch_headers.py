"""The copy of torch's headers holds what the bindings include, as torch has it."""

from importlib import metadata
from pathlib import Path

import pytest

from tools import torch_headers


def test_the_copy_is_whole_and_has_nothing_else() -> None:
    held = {path.relative_to(torch_headers.HEADERS) for path in torch_headers.HEADERS.rglob("*.h")}
    assert torch_headers.included(torch_headers.HEADERS) == held
    assert Path("torch/csrc/stable/library.h") in held


def test_the_copy_is_that_of_torch() -> None:
    include = Path(str(metadata.distribution("torch").locate_file("torch/include")))
    copied, installed = (
        torch_headers.version(root / "torch/headeronly/version.h") for root in (torch_headers.HEADERS, include)
    )
    if copied != installed:
        pytest.skip(f"the copy is of torch {copied}, and {installed} is installed")
    for path in torch_headers.HEADERS.rglob("*.h"):
        assert path.read_bytes() == (include / path.relative_to(torch_headers.HEADERS)).read_bytes(), path


def test_the_pinned_torch_is_the_one_that_was_copied() -> None:
    pins = Path(torch_headers.__file__).parents[1] / "requirements.txt"
    assert f"\ntorch=={torch_headers.version(torch_headers.VERSION)}\n" in pins.read_text()
