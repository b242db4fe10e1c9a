"""What a machine is and has, and what of the source is measured."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch

from stm_fast.ops.compiled import recipe

PACKAGES = ("torch", "triton", "numpy")


def describe() -> dict[str, str]:
    """Names and versions."""
    found = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    found["cores"] = str(os.cpu_count())
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["GPU"] = f"{properties.name} ({properties.major}.{properties.minor})"
        found["processors"] = str(properties.multi_processor_count)
        found["L2"] = f"{properties.L2_cache_size >> 20} MB"
        found["memory"] = f"{properties.total_memory >> 30} GB"
        found["driver"] = _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    else:
        found["GPU"] = "none: kernels are interpreted, and times mean nothing"
    try:
        found["nvcc"] = _said(recipe.find_nvcc(), "--version").rpartition("release ")[2].partition(",")[0]
    except recipe.BuildError:
        found["nvcc"] = "missing"
    found["commit"] = _said("git", "describe", "--always", "--dirty")
    return found


def chip() -> str | None:
    """The capability of this GPU, as `STM_FAST_CUDA_CHIPS` takes it."""
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _said(*command: str) -> str:
    """What a command says, or "unknown"."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return run.stdout.strip()
