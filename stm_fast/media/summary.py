"""summary.json: what a run did and with which inputs, settings and versions."""

import json
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import stm_fast
from stm_fast.media.files import write_text


@dataclass
class RunSummary:
    """What a run did.

    Attributes:
        frames: frames with a mask on disk.
        objects: ids of all objects that were followed.
        complete: whether the run reached the end of the input.
        resumed_frames: number of frames kept from an earlier run.
        seconds: wall time of each stage of this run, and `total`.
        frames_per_second: frames segmented by this run per second of wall time, decoding and writing included.
        memory_tokens: tokens in memory at the end, for one object.
        backend: backend that read the memory; for "auto", the one that was chosen.
        settings: options that determine the result.
        inputs: inputs of the run; a resumed run must have the same.
        uncertainty: uncertainty of each object by frame name, if known; see `stm_fast.memory.policies.uncertainty`.
        versions: versions of this package, the libraries that matter and Python.
    """

    frames: int
    objects: list[int]
    complete: bool
    resumed_frames: int
    seconds: dict[str, float]
    frames_per_second: float
    memory_tokens: int
    backend: str
    settings: dict[str, object]
    inputs: dict[str, object] = field(default_factory=dict)
    uncertainty: dict[str, dict[str, float]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: versions())

    def write(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")


def versions() -> dict[str, str]:
    """Return the versions of stm-fast, the libraries that matter and Python; "missing" if not installed."""
    found = {"stm-fast": stm_fast.__version__, "python": platform.python_version()}
    packages = ("torch", "triton", "numpy", "av", "pillow", "safetensors", "vos_benchmark", "scikit-image")
    return found | {package: _version(package) for package in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
