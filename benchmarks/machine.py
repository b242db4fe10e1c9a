"""Describe the machine that a benchmark runs on, in the line above every table."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch

from stm_fast.media.summary import versions
from stm_fast.ops.compiled import recipe
from stm_fast.ops.cpu_engines import processor

PACKAGES = ("torch", "triton", "numpy")


def line(*details: str, threads: str | None = None) -> str:
    """Return processor, threads, details and versions.

    Args:
        *details: other facts that matter, such as a dtype.
        threads: number of threads of the benchmark; by default those of this process.
    """
    used = f"{torch.get_num_threads()} threads" if threads is None else threads
    packages = ", ".join(f"{package} {number}" for package, number in versions().items())
    return f"{', '.join((processor(), used, *details))}; {packages}"


def describe_gpu() -> dict[str, str]:
    """Return names and versions of everything that kernels on a GPU depend on, and the commit."""
    found = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    found["cores"] = str(os.cpu_count())
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["GPU"] = f"{properties.name} ({properties.major}.{properties.minor})"
        found["processors"] = str(properties.multi_processor_count)
        found["L2"] = f"{properties.L2_cache_size >> 20} MB"
        found["memory"] = f"{properties.total_memory >> 30} GB"
        found["driver"] = _output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    else:
        found["GPU"] = "none: kernels are interpreted, and times mean nothing"
    try:
        found["nvcc"] = _output_of(recipe.find_nvcc(), "--version").rpartition("release ")[2].partition(",")[0]
    except recipe.BuildError:
        found["nvcc"] = "missing"
    found["commit"] = _output_of("git", "describe", "--always", "--dirty")
    return found


def chip() -> str | None:
    """Return the compute capability of this GPU, as `STM_FAST_CUDA_CHIPS` takes it."""
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _output_of(*command: str) -> str:
    """Return what a command prints, or "unknown"."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return run.stdout.strip()
