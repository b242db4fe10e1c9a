"""The largest memory that work took: of a GPU, or of this process."""

import sys
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures the peak of memory from its creation on.

    On a CUDA device, it is what torch had allocated there. On others, it is the resident memory of the process,
    including what it held before; where the system cannot reset this peak, as outside Linux, it is that of the whole
    process so far.

    Args:
        device: on which the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            _reset()

    def bytes(self) -> int | None:
        """Return the peak so far; None if the system does not tell it."""
        return int(torch.cuda.max_memory_allocated(self._device)) if self._device.type == "cuda" else _resident()


def _reset() -> None:
    try:
        _RESET.write_text("5")
    except OSError:  # no /proc, or it may not be written
        return


def _resident() -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return _of_whole_process()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def _of_whole_process() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
