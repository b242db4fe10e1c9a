"""How many threads compute, and how they wait for work. OpenMP reads both once, when torch is imported.

Idle OpenMP threads spin for some milliseconds before they sleep. If other processes need the cores, spinning takes time
from them and from the thread that is waited for: a frame takes several times as long. Threads that sleep at once must
be woken for each piece of work, which costs a tenth of the time on an idle machine. A short spin has the best of both;
`benchmarks.system.busy_machine` measures all three.
"""

import math
import os
import sys
from pathlib import Path

SPIN_COUNT = "GOMP_SPINCOUNT"
SHORT_WAIT = "30000"
"""Spins of libgomp's loop, less than a millisecond; its default is 300000."""
_WAITING = ("OMP_WAIT_POLICY", SPIN_COUNT, "KMP_BLOCKTIME")
_NUMBERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_CGROUPS = Path("/sys/fs/cgroup")


def wait_briefly() -> None:
    """Let idle threads sleep after a short spin, unless the environment says how they wait."""
    if not any(name in os.environ for name in _WAITING):
        os.environ[SPIN_COUNT] = SHORT_WAIT


def use(threads: int | None) -> int | None:
    """Limit the threads of torch and of the kernels, which are one pool, in this process and those that it starts.

    Args:
        threads: maximum number. None for what the environment says, or else one for each processor that the control
            groups of this process grant.

    Returns:
        The argument.
    """
    bound = threads
    if bound is None and not any(map(os.environ.get, _NUMBERS)):
        bound = granted_processors()
    if bound is not None:
        os.environ.update(dict.fromkeys(_NUMBERS, str(bound)))
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(bound)
    return threads


def processors() -> int:
    """Return the number of processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def granted_processors(groups: Path = Path("/proc/self/cgroup"), mounted: Path = _CGROUPS) -> int | None:
    """Return the processors that the control groups of this process grant, rounded up; None if that is all of them.

    Args:
        groups: the file that lists the groups, of either version.
        mounted: the folder of their settings.
    """
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return None
    granted = float(processors())
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = mounted / ("cpu" if controllers else "") / path.lstrip("/")
        # A container may see the whole path but only the end of the tree; parent groups apply too.
        while folder.is_relative_to(mounted):
            granted = min(granted, _share(folder))
            folder = folder.parent
    return max(1, math.ceil(granted)) if granted < processors() else None


def _share(folder: Path) -> float:
    """Return the processors that one group grants."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    except (OSError, ValueError):
        return math.inf
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else math.inf


def facts() -> dict[str, str]:
    """Return threads and load for `stm-fast doctor`; imports torch."""
    import torch

    granted = granted_processors()
    limit = "" if granted is None else f", {granted} of them granted by a control group"
    waiting = next((f"{name}={os.environ[name]}" for name in _WAITING if name in os.environ), None)
    known = {
        "threads": f"{torch.get_num_threads()}, of {processors()} processors{limit}",
        "idle threads": waiting or f"spin: {SPIN_COUNT} is not set",
    }
    if hasattr(os, "getloadavg"):
        loads = os.getloadavg()
        busy = "; other processes are using the processors too" if loads[0] > processors() else ""
        known["load average"] = ", ".join(f"{load:.1f}" for load in loads) + f" in 1, 5 and 15 minutes{busy}"
    return known
