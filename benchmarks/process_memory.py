"""Memory of this process in bytes, as Linux counts it."""

import ctypes
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTE = 2**20


def held() -> dict[str, int]:
    """Return Linux's counters of this process, such as VmRSS (resident), VmHWM (its peak), RssAnon and RssFile."""
    found = re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {name: 1024 * int(size) for name, size in found}


def resident() -> int:
    """Return the resident memory."""
    return held()["VmRSS"]


def peak() -> int:
    """Return the peak of the resident memory. Unlike `ru_maxrss`, it is not inherited from the parent process."""
    return held()["VmHWM"]


def reset_peak() -> None:
    """Reset the peak."""
    Path("/proc/self/clear_refs").write_text("5")


def trim() -> None:
    """Return free memory of the heap to the system, so that the next peak is not hidden in it."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def anonymous() -> int:
    """Return the resident memory that does not belong to a file."""
    return held()["RssAnon"]


@contextmanager
def anonymous_growth() -> Iterator[list[float]]:
    """Yield a list whose one number becomes the block's peak of anonymous memory, less that before the block."""
    before, growth, done = anonymous(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            growth[0] = max(growth[0], anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield growth
    finally:
        done.set()
        watcher.join()
