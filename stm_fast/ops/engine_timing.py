"""How long the engines of the CPU kernels take: each is one instruction set's kernels, measured as they are used."""

import re
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from stm_fast.kernels.operands import Operands
from stm_fast.ops import compiled
from stm_fast.ops.calls import Call, Read, ReadBackward, TopKRead, TopKReadBackward, Usage

LOOKS = 5
RUNS = 2
"""Calls that a look takes, unless its time is over."""
SECONDS_PER_LOOK = 0.02
HOPELESS = 2.0
"""An engine that takes so many times as long as the best is looked at no more."""
TILES_PENALTY = 1.05
"""AMX has to be faster by so much: its units are the ones that neighbours on a virtual machine may take away later."""

OPERATIONS = ("read", "read_backward", "usage", "top_k_read", "top_k_read_backward")
_QUERIES = 1620
_TOKENS_PER_THREAD = 1056
"""Reads of fewer queries or tokens spend their time on packing, and rank engines otherwise than long memories do."""
_MAX_TOKENS = 1 << 15
_TOP_K = 30


class Kind(NamedTuple):
    """Calls that one choice is for.

    Attributes:
        operation: name of the op.
        key: "bfloat16", or "float32" for all dtypes that bfloat16 units read in parts.
        key_channels: rounded up to a power of two, from 16 to 256.
        value: as `key`; "" for usage, which has no values.
        value_channels: value channels of all objects, rounded up to a power of two, from 64 to 1024; 0 for usage.
    """

    operation: str
    key: str
    key_channels: int
    value: str
    value_channels: int

    @classmethod
    def of(
        cls,
        operation: str,
        key: torch.dtype,
        key_channels: int,
        value: torch.dtype | None = None,
        value_channels: int = 0,
    ) -> "Kind":
        """The kind of calls with keys and values of these dtypes and channels; usage has no values."""
        channels = _rounded(key_channels, 16, 256)
        if operation == "usage" or value is None:
            return cls(operation, _parts(key), channels, "", 0)
        return cls(operation, _parts(key), channels, _parts(value), _rounded(value_channels, 64, 1024))

    @classmethod
    def parse(cls, text: str) -> "Kind | None":
        """The kind of a text, or None if it is of none."""
        dtype = "(float32|bfloat16)"
        found = re.fullmatch(rf"(\w+) {dtype} (\d{{1,4}})(?: {dtype} (\d{{1,4}}))?", text)
        if found is None or found[1] not in OPERATIONS or (found[1] == "usage") is not (found[4] is None):
            return None
        return cls(found[1], found[2], int(found[3]), found[4] or "", int(found[5] or 0))

    def __str__(self) -> str:
        values = f" {self.value} {self.value_channels}" if self.value else ""
        return f"{self.operation} {self.key} {self.key_channels}{values}"


class Choice(NamedTuple):
    """An engine, and seconds of each that was measured, at its bad moments."""

    engine: str
    seconds: dict[str, float]

    def __str__(self) -> str:
        times = ", ".join(f"{name} {1e3 * time:.2f} ms" for name, time in self.seconds.items())
        return f"{self.engine} ({times})" if times else self.engine


def candidates(kind: Kind) -> list[str]:
    """Engines that differ in the kernels of a kind, those with the most instructions first."""
    known = compiled.instruction_sets()
    same = {"baseline"}  # not the same, but the slowest of all
    if kind.operation == "top_k_read_backward":
        same |= {"amx", "avx512bf16"}  # made of float32 alone
    elif kind.key != "bfloat16":
        same.add("avx512bf16")  # without tiles, numbers in parts are not worth it
    return [name for name in known if name not in same] or known[-1:]


def measure(kind: Kind, looks: int = LOOKS) -> Choice:
    """Measure the engines of a kind in turns, some 100 ms each, with the threads in use; less often on a busy machine.

    Args:
        kind: of the calls.
        looks: at each engine, at least two.
    """
    known = compiled.instruction_sets()
    seen: dict[str, list[float]] = {engine: [] for engine in candidates(kind)}
    if len(seen) > 1:
        run = _problem(kind)
        for engine in seen:
            run(known.index(engine))  # the first one brings into caches what the others find there
        racing, until = list(seen), time.perf_counter() + looks * SECONDS_PER_LOOK * len(seen)
        for done in range(looks):
            for engine in racing:
                seen[engine].append(look(run, known.index(engine)))
            best = min(map(_steady, seen.values()))
            racing = [engine for engine in racing if _steady(seen[engine]) < HOPELESS * best]
            if done > 0 and time.perf_counter() > until:
                break
    seconds = {engine: _steady(times) for engine, times in seen.items()}
    return Choice(min(seconds, key=lambda name: seconds[name] * (TILES_PENALTY if name == "amx" else 1.0)), seconds)


def look(run: Callable[[int], None], engine: int) -> float:
    """Seconds of a call with an engine, at most its wall time: where other processes hold the cores, what it computed.

    An interruption is no fault of the engine, so the fastest of a few calls counts, and the time that a core is taken
    away does not. A unit that is shared with neighbours makes the core slower, which does.
    """
    threads, left = torch.get_num_threads(), SECONDS_PER_LOOK
    seconds: list[float] = []
    while left > 0 and len(seconds) < RUNS:
        wall, computed = time.perf_counter(), time.process_time()
        run(engine)
        wall, computed = time.perf_counter() - wall, time.process_time() - computed
        seconds.append(min(wall, computed / threads))
        left -= wall
    return min(seconds)


def _steady(looks: list[float]) -> float:
    """The worst of several looks; of many the worst but one in five, for that one may be an accident."""
    return sorted(looks, reverse=True)[len(looks) // 5] if looks else 0.0


def _problem(kind: Kind) -> Callable[[int], None]:
    """A call of a kind, made of numbers of its own, large enough for the threads in use."""
    tokens = _TOKENS_PER_THREAD * max(2, torch.get_num_threads())
    if kind.operation in ("usage", "top_k_read"):
        tokens *= 4  # the values do not take part, or few of them
    tokens = min(tokens, _MAX_TOKENS)
    key = getattr(torch, kind.key)
    query = _numbers(1, kind.key_channels, _QUERIES).to(key)
    operands = Operands(query, _numbers(1, kind.key_channels, tokens).to(key), None, None, None, query.shape[1] ** -0.5)
    call = _call(kind.operation, operands, kind, tokens)
    outputs = call.allocate()
    return lambda engine: compiled.run_on_cpu(call, outputs, engine)


def _call(operation: str, operands: Operands, kind: Kind, tokens: int) -> Call:
    """Return a call of a kind; what a backward pass has saved is computed by the engine that every machine has."""
    if operation == Usage.operation:
        return Usage(operands, _numbers(1, _QUERIES))
    value = _numbers(1, 1, kind.value_channels, tokens).to(getattr(torch, kind.value))
    read, best = Read(operands, value), TopKRead(operands, value, min(_TOP_K, tokens))
    if operation == Read.operation:
        return read
    if operation == TopKRead.operation:
        return best
    last = len(compiled.instruction_sets()) - 1
    upstream = _numbers(1, 1, kind.value_channels, _QUERIES).to(value.dtype), _numbers(1, _QUERIES).zero_()
    if operation == ReadBackward.operation:
        saved = read.allocate()
        compiled.run_on_cpu(read, saved, last)
        return ReadBackward(operands, value, *saved, *upstream)
    chosen = best.allocate()
    compiled.run_on_cpu(best, chosen, last)
    return TopKReadBackward(operands, value, chosen.out, chosen.indices, chosen.weights, *upstream)


def _numbers(*shape: int) -> Tensor:
    """Normal numbers; drawn once, as many as no row is a multiple of, and repeated."""
    drawn = torch.randn(65521, generator=torch.Generator("cpu").manual_seed(0), device="cpu", dtype=torch.float32)
    count = torch.Size(shape).numel()
    return drawn.repeat(-(-count // drawn.numel()))[:count].view(shape)


def _parts(dtype: torch.dtype) -> str:
    return "bfloat16" if dtype == torch.bfloat16 else "float32"


def _rounded(count: int, low: int, high: int) -> int:
    return min(max(1 << (count - 1).bit_length(), low), high)
