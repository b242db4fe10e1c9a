"""What this process holds of the machine's memory, in bytes, as Linux counts it."""

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
    """Return the peak of the resident memory; unlike `ru_maxrss`, a new process does not inherit its parent's."""
    return held()["VmHWM"]


def reset_peak() -> None:
    """Let the peak begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def anonymous() -> int:
    """Return the resident memory that is not of a file."""
    return held()["RssAnon"]


@contextmanager
def anonymous_growth() -> Iterator[list[float]]:
    """Watch the block; the list's one number becomes the peak of anonymous memory beyond that before the block."""
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
