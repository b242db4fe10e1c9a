"""The benchmark harness: check that several ways to do a thing agree, then time them in turns.

The speed of a machine changes from one second to the next. So all ways take turns, and ratios are taken within a turn:
their median says more than a ratio of medians.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Run = Callable[[], object]
Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Turns:
    """Number of turns to take. Iterating yields the number of each turn.

    Attributes:
        rounds: maximum number of turns.
        min_rounds: minimum number of turns.
        seconds: time after which `min_rounds` turns are enough.
    """

    rounds: int | None = None
    min_rounds: int = 1
    seconds: float = math.inf

    def __iter__(self) -> Iterator[int]:
        begin, turn = time.perf_counter(), 0
        while self.rounds is None or turn < self.rounds:
            yield turn
            turn += 1
            if turn >= self.min_rounds and time.perf_counter() - begin > self.seconds:
                return


def wall_seconds(run: Run) -> float:
    """Return the wall time of a call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def take_turn(runs: Mapping[str, Run], seconds: Seconds, clock: Callable[[Run], float] = wall_seconds) -> None:
    """Call every run once and append its time to `seconds`."""
    for name, run in runs.items():
        seconds.setdefault(name, []).append(clock(run))


def in_turns(runs: Mapping[str, Run], turns: Turns, clock: Callable[[Run], float] = wall_seconds) -> Seconds:
    """Return the seconds of every call, one of each run per turn."""
    seconds: Seconds = {}
    for _ in turns:
        take_turn(runs, seconds, clock)
    return seconds


def rotated(runs: Mapping[str, Run], turn: int) -> dict[str, Run]:
    """Return the runs in an order that starts with a different one each turn."""
    names = list(runs)
    first = turn % len(names)
    return {name: runs[name] for name in names[first:] + names[:first]}


def medians(seconds: Seconds) -> dict[str, float]:
    """Return the median time of every run."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def ratio(others: Iterable[float], ours: Iterable[float]) -> float:
    """Return the median of the ratios of paired numbers, others to ours."""
    return statistics.median(other / own for other, own in zip(others, ours, strict=True))


def spread(values: list[float]) -> float:
    """Return the range of numbers relative to their median."""
    return (max(values) - min(values)) / statistics.median(values)


def relative_error(found: Iterable[Tensor], expected: Iterable[Tensor]) -> float:
    """Return the largest relative L2 distance of any tensor with elements to the expected one; NaN if any is."""
    pairs = [(a.double(), b.double()) for a, b in zip(found, expected, strict=True) if b.numel()]
    return float(torch.stack([(a - b).norm() / b.norm() for a, b in pairs]).max())


def refusal(run: Run, expected: Tensor, allowed: float) -> str:
    """Return why a run cannot be compared: it raises, or its result differs. Return an empty text if it can.

    Args:
        run: returns a result; if it is a tuple, its first tensor is compared.
        expected: what that tensor should be.
        allowed: largest relative error that is not a mistake.
    """
    try:
        answer = run()
        error = relative_error([answer[0]], [expected]) if isinstance(answer, tuple) else 0.0
    except Exception as fault:
        return f"{type(fault).__name__}: {str(fault).strip().partition(chr(10))[0]}"
    return "" if error < allowed else f"its result differs by {error:.1e}"
