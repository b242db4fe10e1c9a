"""The packages that only an export needs, imported when it begins."""

from importlib import import_module
from typing import Any

from stm_fast.errors import StmFastError


def onnx() -> Any:
    """Return the package onnx.

    Raises:
        StmFastError: it is not installed.
    """
    return _imported("onnx")


def onnxscript() -> Any:
    """Return the package onnxscript, with which torch writes ONNX.

    Raises:
        StmFastError: it is not installed.
    """
    return _imported("onnxscript")


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise StmFastError(
            f"an export to ONNX needs the package {name}, which is not installed: "
            f"pip install 'stm-fast[onnx]' ({error})"
        ) from error
