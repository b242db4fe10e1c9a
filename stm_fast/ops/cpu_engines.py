"""Which engine, the kernels of one instruction set, does a read on this processor: the fastest one.

That need not be the one with the most instructions. Engines are measured with their own kernels when a large call of a
kind is first made, and each counts by its bad moments: what is always fast beats what is fast at times, as matrix units
that are shared with neighbours are. The choice is kept in the cache folder for this processor, library and number of
threads. In one process it does not change, whatever the number of threads becomes. Small calls do not pay for a
measurement: they take the first engine.

`STM_FAST_CPU_ISA` forces one engine for all calls.

How engines are measured: `stm_fast.ops.engine_timing`.
"""

import json
import os
import platform
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import torch

from stm_fast.errors import BackendUnavailableError
from stm_fast.ops import compiled, engine_timing
from stm_fast.ops.cache import cache_folder
from stm_fast.ops.calls import Call, Read, ReadBackward, TopKReadBackward, Usage
from stm_fast.ops.engine_timing import Choice, Kind, candidates
from stm_fast.ops.environment import variable

VARIABLE = "STM_FAST_CPU_ISA"
"""Names the engine that is forced."""
SMALL = "small"
"""Stands for every kind of small calls."""
SMALL_WORK = 5e8
"""Floating-point operations of the largest small call: some two milliseconds of two cores."""
_SECONDS_TO_WAIT = 10.0

_chosen: dict[str, str] = {}
"""Engines of this process, by kind."""
_choosing = threading.Lock()
_video: ContextVar[dict[str, str] | None] = ContextVar("_video", default=None)


def engine_of(call: Call) -> int:
    """Return the index of the engine that serves a call.

    Raises:
        BackendUnavailableError: STM_FAST_CPU_ISA names an engine that this machine does not execute.
    """
    kind = None
    if _work(call) > SMALL_WORK:
        key = call.operands.key
        values = () if isinstance(call, Usage) else (call.value.dtype, call.value.shape[1] * call.value.shape[2])
        kind = Kind.of(call.operation, key.dtype, key.shape[1], *values)
    name = SMALL if kind is None else str(kind)
    held = _video.get()
    engine = forced() or (held or {}).get(name) or _chosen.get(name) or _choose(kind)
    if held is not None:
        held[name] = engine
    return compiled.instruction_sets().index(engine)


def forced() -> str | None:
    """Return the engine that STM_FAST_CPU_ISA names; None without it. The variable is read once per process.

    Raises:
        BackendUnavailableError: this machine does not execute it.
    """
    name = variable(VARIABLE)
    if not name:
        return None
    known = compiled.instruction_sets()
    if name not in known:
        raise BackendUnavailableError(f"{VARIABLE} is {name!r}; this machine executes {', '.join(known)}")
    return name


@contextmanager
def held(engines: dict[str, str]) -> Iterator[None]:
    """Keep to the engines of one video inside, whatever others of this process take.

    Args:
        engines: by kind; those that are chosen inside are added.
    """
    token = _video.set(engines)
    try:
        yield
    finally:
        _video.reset(token)


def missing(engines: dict[str, str]) -> list[str]:
    """Those of a video's engines that this machine does not execute."""
    return sorted(set(engines.values()) - set(compiled.instruction_sets())) if engines else []


def measure_again(kind: Kind, looks: int) -> Choice:
    """Measure the engines of a kind and keep the choice, for processes that begin later.

    Raises:
        OSError: the cache folder cannot be written.
    """
    with _alone():
        choice = engine_timing.measure(kind, looks)
        _keep(str(kind), choice)
    return choice


def kept() -> dict[str, Choice]:
    """What the cache folder holds for this processor, library and number of threads, by kind."""
    try:
        entries = json.loads(kept_file().read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    found = {name: _choice(name, entry) for name, entry in entries.items()} if isinstance(entries, dict) else {}
    return {name: choice for name, choice in found.items() if choice is not None}


def kept_file() -> Path:
    """Where choices are kept.

    Raises:
        OSError: this machine has no home, and STM_FAST_CACHE is not set.
    """
    try:
        folder = cache_folder()
    except RuntimeError as error:
        raise OSError(f"there is no cache folder: {error}") from error
    return folder / "engines" / f"{_machine()}-{torch.get_num_threads()}-threads.json"


@cache
def _machine() -> str:
    """The processor, the engines that it executes, and the library, as part of a file's name."""
    names = re.sub(r"[^A-Za-z0-9]+", "-", processor()).strip("-"), *compiled.instruction_sets(), compiled.source_key()
    return "-".join(names)


def processor() -> str:
    """The processor's name, where the system tells it; else its family."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _choice(name: str, entry: object) -> Choice | None:
    """A kept choice; None if it is broken or of an engine that is not there."""
    kind = Kind.parse(name)
    if kind is None or not isinstance(entry, dict) or entry.get("engine") not in candidates(kind):
        return None
    seconds = entry.get("seconds")
    numbers = seconds.items() if isinstance(seconds, dict) else ()
    return Choice(entry["engine"], {name: number for name, number in numbers if isinstance(number, float)})


def _keep(name: str, choice: Choice) -> None:
    """Add a choice to those in the cache folder; under a name of this process's own, until it is whole."""
    file = kept_file()
    text = json.dumps({name: each._asdict() for name, each in (kept() | {name: choice}).items()}, indent=1)
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_text(text + "\n", "utf-8")
        partial.replace(file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _choose(kind: Kind | None) -> str:
    """The engine of a kind for the rest of this process: the one that is kept, or the fastest; None for small calls."""
    if kind is None:
        return _chosen.setdefault(SMALL, compiled.instruction_sets()[0])
    name = str(kind)
    with _choosing:
        if name not in _chosen:
            _chosen[name] = _kept_or_measured(kind)
        return _chosen[name]


def _kept_or_measured(kind: Kind) -> str:
    engines, name = candidates(kind), str(kind)
    if len(engines) == 1:
        return engines[0]
    if choice := kept().get(name):
        return choice.engine
    with _alone():
        if choice := kept().get(name):  # by the process that this one waited for
            return choice.engine
        choice = engine_timing.measure(kind)
        with suppress(OSError):  # then it is measured once a process
            _keep(name, choice)
        return choice.engine


@contextmanager
def _alone() -> Iterator[None]:
    """Wait, not forever, for other processes that measure: they would disturb, and what they keep serves as well."""
    try:
        import fcntl

        file = kept_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = (file.parent / "lock").open("w")
    except (ImportError, OSError):
        yield
        return
    with lock:
        until = time.monotonic() + _SECONDS_TO_WAIT
        while time.monotonic() < until:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:  # a file system without locks
                break
        yield


def _work(call: Call) -> float:
    """Return the floating-point operations of a call."""
    batch, channels, queries = call.operands.query.shape
    value_channels = 0 if isinstance(call, Usage) else call.value.shape[1] * call.value.shape[2]
    match call:
        case TopKReadBackward():
            # Fetches numbers one by one, which takes many times as long as to multiply them.
            return 32.0 * batch * queries * call.indices.shape[2] * (channels + value_channels)
        case Read():
            products = channels + value_channels
        case ReadBackward():
            products = 3 * channels + 2 * value_channels
        case _:
            products = channels
    return 2.0 * batch * queries * call.operands.key.shape[2] * products
