"""The memory read on this GPU: every kernel checked at real shapes, then timed beside other ways to read.

    python -m benchmarks.gpu [OUT]

Errors are the largest relative L2 distances of any result to the reference in float64; nothing is timed that fails.
Contenders run in turn, several times over; medians, and medians of paired ratios. Speed is given beside what the GPU's
own matrix product reaches in the same turns. Prints Markdown, a compact table last; with OUT writes gpu.md and gpu.json
there, and plots where matplotlib is installed. Takes less than eight minutes.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import contenders
from benchmarks.cases import BACKWARD, BEST, CUTIE, DENSE, FRAMES, SHARED, TOP_K, USAGE, Case
from stm_fast.ops import memory_read
from stm_fast.ops.backends import registry
from stm_fast.ops.operands import Operands

ENGINES = ("triton", "cuda")
SECONDS_A_CASE = 8.0
ROUNDS = 25
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
PEAK_SIDE = 8192
DEADLINE = 420.0
"""Seconds after which no further case is begun."""
PLAIN_AFFINITY = 4 << 30
"""Bytes of affinity above which ways that hold it are not asked."""


@dataclass
class Result:
    """Median seconds by contender; speed, fraction of the matrix product's, ratios and extra bytes of an engine."""

    case: str
    engine: str
    error: float
    seconds: dict[str, float] = field(default_factory=dict)
    tflops: float = 0.0
    fraction: float = 0.0
    ratios: dict[str, float] = field(default_factory=dict)
    extra_bytes: dict[str, int] = field(default_factory=dict)
    fault: str = ""


def real_cases() -> list[Case]:
    """The cases of the CPU in float32 and bfloat16, top-k in float16 too, its backward pass, and XMem's dtypes.

    XMem's selection makes 128 channels of float32 of its 64; its values have 16 bits.
    """
    half = [replace(case, dtype=torch.float16) for case in BEST]
    best_backward = [replace(case, operation="top_k_backward") for case in BEST]
    xmem = Case("read", torch.float32, 128, 512, 1, 5, value_dtype=torch.bfloat16)
    return [*DENSE, *SHARED, *CUTIE, xmem, *BEST, *half, *best_backward, *BACKWARD, *USAGE]


def engines() -> list[str]:
    """The engines that run on this machine."""
    reasons = {name: registry.unavailable(name) for name in ENGINES}
    for name in ENGINES:
        if reasons[name]:
            print(f"{name} is off: {reasons[name]}", file=sys.stderr)
    return [name for name in ENGINES if not reasons[name]]


def operands(case: Case, device: torch.device) -> tuple[Operands, Tensor]:
    """The operands of a case as the ops take them."""
    query, key, value = (tensor.to(device) for tensor in case.tensors())
    return Operands(query, key, None, None, None, case.key_channels**-0.5), value


def launches(
    case: Case, parts: Operands, value: Tensor, backend: str, upstream: Tensor | None = None
) -> Callable[[], tuple[Tensor, ...]]:
    """What a backend does in a case, as a call that returns all that it computes.

    Args:
        case: what is done.
        parts: operands of the scores.
        value: `(1, O, Cv, Nk)`.
        backend: whose it is.
        upstream: gradient of the readout, for a backward pass.
    """
    ops = torch.ops.stm_fast
    match case.operation:
        case "read":
            return lambda: ops.read(*parts, value, backend)
        case "top_k":
            return lambda: ops.top_k_read(*parts, value, TOP_K, backend)[:2]
        case "usage":
            lse = ops.read(*parts, value, backend)[1]
            return lambda: (ops.usage(*parts, lse, backend),)
        case "top_k_backward":
            out, lse, *chosen = ops.top_k_read(*parts, value, TOP_K, backend)
            rest = (upstream, torch.ones_like(lse), True, True, True, backend)
            return lambda: ops.top_k_read_backward(*parts, value, out, *chosen, *rest)
        case _:
            out, lse = ops.read(*parts, value, backend)
            rest = (upstream, torch.ones_like(lse), True, True, True, backend)
            return lambda: ops.read_backward(*parts, value, out, lse, *rest)


def largest_error(found: Iterable[Tensor], exact: Iterable[Tensor]) -> float:
    """The largest relative L2 distance of any tensor with elements; NaN if any is."""
    pairs = [(a.double(), b) for a, b in zip(found, exact, strict=True) if b.numel()]
    return float(torch.stack([(a - b).norm() / b.norm() for a, b in pairs]).max())


def upstream_of(out: Tensor) -> Tensor:
    """A seeded gradient of a readout."""
    return torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)


def rivals(case: Case, device: torch.device) -> Iterator[tuple[str, Callable[[], object]]]:
    """Other ways to do the same. Those that can be compared return a tuple that begins with what ours does."""
    query, key, value = (tensor.to(device) for tensor in case.tensors())
    holds_affinity = 4 * case.queries**2 * case.frames > PLAIN_AFFINITY
    ways = {} if holds_affinity else {"plain": contenders.plain}
    if case.operation in ("read", "backward"):
        if device.type == "cuda":
            query, key, value = contenders.tokens_first(query, key, value)
            ways |= contenders.on_gpu()
        for name, function in ways.items():
            if case.operation == "backward":
                yield name, gradients(function, query, key, value)
            else:
                yield name, lambda function=function: (function(query, key, value),)
    elif case.operation == "top_k" and not holds_affinity:
        yield "XMem's top-k", lambda: contenders.top_k(query, key, value, TOP_K)
    elif case.operation == "usage":
        yield "dense read", lambda: memory_read(query, key, value)


def gradients(function: Callable[..., Tensor], *tensors: Tensor) -> Callable[[], Tensor]:
    """The backward pass of a rival, its forward pass done before; not compared, for it has no gradient of lse."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    made: list[Tensor] = []

    def run() -> list[Tensor]:
        if not made:
            made.append(function(*leaves))
            made.append(upstream_of(made[0]))
        return list(torch.autograd.grad(made[0], leaves, made[1], retain_graph=True))

    return run


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Time of one call on the device."""
    if device.type != "cuda":
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin
    from stm_fast.kernels.tuning import seconds_on_gpu

    return seconds_on_gpu(run)


def extra_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Device memory that a call needs beyond what was there, its result included."""
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measure(case: Case, engine: str, device: torch.device) -> Result:
    """Check an engine, then time it in turns with its rivals and with a large matrix product."""
    parts, value = operands(case, device)
    upstream = upstream_of(value.new_empty(*value.shape[:3], case.queries))
    ours = launches(case, parts, value, engine, upstream)
    wide = Operands(*(part.double() if isinstance(part, Tensor) else part for part in parts))
    exact = launches(case, wide, value.double(), "reference", upstream.double())()
    result = Result(str(case), engine, largest_error(ours(), exact))
    if not result.error < tolerance(case):
        return result
    runs: dict[str, Callable[[], object]] = {"stm-fast": ours}
    for name, run in rivals(case, device):
        try:
            answer = run()
            difference = largest_error([answer[0]], [exact[0]]) if isinstance(answer, tuple) else 0.0
            if not difference < 4 * tolerance(case):
                raise ArithmeticError(f"its result differs by {difference:.1e}")
        except Exception as error:
            print(f"{case}: {name} cannot: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        runs[name] = run
    side = PEAK_SIDE if device.type == "cuda" else 256
    factor = torch.randn(side, side, device=device).to(case.dtype)
    result.extra_bytes = {name: extra_bytes(run, device) for name, run in runs.items()}
    times = in_turns({**runs, "matrix product": lambda: factor @ factor}, device)
    peak = [2 * side**3 / second for second in times.pop("matrix product")]
    speed = [case.flops / second for second in times["stm-fast"]]
    result.seconds = {name: statistics.median(values) for name, values in times.items()}
    result.tflops = statistics.median(speed) / 1e12
    result.fraction = statistics.median(a / b for a, b in zip(speed, peak, strict=True))
    result.ratios = {
        name: statistics.median(other / own for other, own in zip(values, times["stm-fast"], strict=True))
        for name, values in times.items()
        if name != "stm-fast"
    }
    return result


def tolerance(case: Case) -> float:
    """Relative error that is no mistake; where scores are nearly equal, two roundings choose other tokens."""
    coarse = case.value_dtype or case.dtype
    return max(TOLERANCE[coarse], 1e-2 if case.operation.startswith("top_k") else 0.0)


def in_turns(runs: dict[str, Callable[[], object]], device: torch.device) -> dict[str, list[float]]:
    """Seconds of every call, one of each a turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    for turn in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(seconds_of(run, device))
        if turn >= 4 and time.perf_counter() - begin > SECONDS_A_CASE:
            break
    return times


def report(results: list[Result], device: torch.device) -> str:
    """Markdown: all figures, then the compact table."""
    from stm_fast.media.summary import versions

    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreted on a CPU: times mean nothing"
    text = [
        f"{chip}; " + ", ".join(f"{name} {version}" for name, version in versions().items()),
        "",
        "| case | engine | relative error | ms, extra MB |",
        "|---|---|---|---|",
    ]
    for result in results:
        figures = ", ".join(
            f"{name} {1e3 * second:.3f} ms {result.extra_bytes[name] / 2**20:.0f} MB"
            for name, second in result.seconds.items()
        )
        text.append(f"| {result.case} | {result.engine} | {result.error:.1e} | {figures or result.fault or 'WRONG'} |")
    text += ["", "| case | engine | TFLOP/s | of matmul | beside |", "|---|---|---|---|---|"]
    for result in results:
        ratios = ", ".join(f"{ratio:.2f}x {name}" for name, ratio in result.ratios.items())
        figures = f"{result.tflops:.1f} | {result.fraction:.0%} | {ratios}" if result.seconds else "WRONG | |"
        text.append(f"| {result.case} | {result.engine} | {figures} |")
    return "\n".join(text) + "\n"


def main(out: str | None = None) -> int:
    """Measure everything; returns how many cases were wrong or could not be done."""
    available = engines()
    if not available:
        return 1
    device = torch.device("cuda")
    results: list[Result] = []
    begin = time.perf_counter()
    text = ""
    for engine in available:
        for case in real_cases():
            if time.perf_counter() - begin > DEADLINE:
                results.append(Result(str(case), engine, float("nan"), fault="no time left"))
                text = report(results, device)
                continue
            torch._dynamo.reset()
            try:
                results.append(measure(case, engine, device))
            except Exception as error:
                results.append(Result(str(case), engine, float("nan"), fault=str(error).splitlines()[0]))
            print(results[-1], file=sys.stderr, flush=True)
            text = report(results, device)
            if out is not None:
                write(results, text, Path(out))
    print(text, end="")
    if out is not None:
        draw(results, Path(out))
    return sum(not result.seconds for result in results)


def write(results: list[Result], text: str, folder: Path) -> None:
    """gpu.md and gpu.json."""
    from stm_fast.media.files import write_text

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "gpu.md", text)
    write_text(folder / "gpu.json", json.dumps([asdict(result) for result in results], indent=1))


def draw(results: list[Result], folder: Path) -> None:
    """A plot of time against T, where matplotlib is installed."""
    try:
        from benchmarks import plots

        plots.draw_gpu([asdict(result) for result in results], FRAMES, folder)
    except ImportError as error:
        print(f"no plots: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
