"""`import stm_fast` must stay light, and must not need what only a part of the package uses."""

import subprocess
import sys

import pytest

import stm_fast

ABSENT = (
    "triton",
    "av",
    "cv2",
    "typer",
    "rich",
    "skimage",
    "scipy",
    "tensorboard",
    "onnx",
    "onnxscript",
    "huggingface_hub",
    "vos_benchmark",
)


def run_without(modules: tuple[str, ...], code: str) -> None:
    """Runs `code` in a new interpreter in which importing any of `modules` raises ImportError."""
    block = f"import sys; sys.modules.update(dict.fromkeys({modules!r}))"
    done = subprocess.run([sys.executable, "-c", f"{block}\n{code}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_import_loads_nothing_heavy() -> None:
    heavy = {*ABSENT, "torch", "numpy", "PIL", "safetensors"}
    run_without((), f"import stm_fast; loaded = {heavy!r} & sys.modules.keys(); assert not loaded, loaded")


def test_every_export_works_without_triton_and_optional_packages() -> None:
    run_without(ABSENT, "import stm_fast; assert all(getattr(stm_fast, name) for name in stm_fast.__all__)")


def test_read_works_without_triton_and_optional_packages() -> None:
    run_without(
        ABSENT,
        "import torch, stm_fast\n"
        "read = stm_fast.memory_read(torch.zeros(1, 4, 6), torch.zeros(1, 4, 5), torch.ones(1, 3, 5))\n"
        "assert torch.equal(read, torch.ones(1, 3, 6)), read",
    )


def test_dir_lists_the_exports() -> None:
    assert set(stm_fast.__all__) <= set(dir(stm_fast))


def test_unknown_attribute_is_named() -> None:
    with pytest.raises(AttributeError, match="no attribute 'memory_reed'"):
        stm_fast.memory_reed  # noqa: B018
