"""Tables of the results, as Markdown."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

Line = dict[str, Any]


def brief(line: Line) -> str:
    """Sum up a line in a few words."""
    if line["status"] in ("failed", "skipped"):
        return f"{line['status']}: {line['fault']}"
    words = ["WRONG"] if line["status"] == "wrong" else []
    if "error" in line:
        words.append(f"error {line['error']:.1e}")
    if "seconds" in line and isinstance(line["seconds"], dict):
        words.append(f"{_microseconds(line)}, {line['tflops']:.1f} TFLOP/s")
    elif "microseconds" in line and "ratio" in line:
        words.append(f"{line['microseconds']:.1f} us, {line['ratio']:.2f}x the table's")
    elif "op" in line:
        words.append(f"host {line['op']:.1f} us")
    elif "tbytes" in line:
        words.append(f"{line['tbytes']:.2f} TB/s")
    elif "tflops" in line:
        words.append(f"{line['tflops']:.1f} TFLOP/s")
    elif "different" in line:
        words.append(f"{line['different']} of {line['calls']} calls differ")
    elif "too_large" in line:
        words.append(line["too_large"])
    elif "took" in line and not words:
        words.append(f"{line['took']:.1f} s")
    return ", ".join(words)


def full(lines: list[Line], machine: dict[str, str]) -> str:
    """Return everything: the machine, the number of results per status, faults, and a table per stage."""
    parts = [
        ", ".join(f"{name} {version}" for name, version in machine.items()),
        _counts(lines),
        *_faults(lines),
        *(_table(name, lines) for name in TABLES),
        _absent(lines),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def short(lines: list[Line]) -> str:
    """Return what is printed last: faults, times, and the number of results per status."""
    return "\n\n".join(filter(None, [*_faults(lines, max_faults=12), _table("time", lines), _counts(lines)])) + "\n"


def _counts(lines: list[Line]) -> str:
    counts = Counter(line["status"] for line in lines)
    return f"{len(lines)} results: " + ", ".join(f"{count} {status}" for status, count in counts.items())


def _faults(lines: list[Line], max_faults: int | None = None) -> Iterator[str]:
    """Yield each result that is wrong or failed, and the number of skipped ones per reason."""
    bad = [line for line in lines if line["status"] in ("wrong", "failed")]
    yield "\n".join(
        f"- {line['stage']}, {line['engine'] or 'torch'}: {line['case']}: {brief(line)}" for line in bad[:max_faults]
    )
    if max_faults is not None and len(bad) > max_faults:
        yield f"and {len(bad) - max_faults} more faults"
    skipped = Counter((line["stage"], line["engine"], line["fault"]) for line in lines if line["status"] == "skipped")
    yield "\n".join(
        f"- {stage}, {engine or 'torch'}: {count} skipped: {reason}"
        for (stage, engine, reason), count in skipped.items()
    )


def _absent(lines: list[Line]) -> str:
    """Return why others are not compared: each reason once, with its number of cases."""
    reasons = Counter(
        f"{name} ({line['case'].partition(',')[0]}): {why}"
        for line in lines
        for name, why in line.get("refused", {}).items()
    )
    return "\n".join(f"- not compared, {count} times: {reason}" for reason, count in reasons.items())


def _table(stage: str, lines: list[Line]) -> str:
    """Return a table of a stage's results that have figures."""
    head, row = TABLES[stage]
    found = [line for line in lines if line["stage"] == stage and line["status"] in ("ok", "wrong")]
    return f"**{stage}**\n\n" + _markdown(head, map(row, found)) if found else ""


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


def _prepared(line: Line) -> tuple[str, ...]:
    return line["case"], f"{line['took']:.1f}"


def _checked(line: Line) -> tuple[str, ...]:
    verdict = "WRONG" if line["status"] == "wrong" else "right"
    return line["case"], line["engine"], f"{line['error']:.1e}", verdict


def _peak(line: Line) -> tuple[str, ...]:
    speed = f"{line['tbytes']:.2f} TB/s" if "tbytes" in line else f"{line['tflops']:.1f} TFLOP/s"
    return line["case"], speed, f"{line['microseconds']:.1f}" if "microseconds" in line else ""


def _timed(line: Line) -> tuple[str, ...]:
    if line["status"] == "wrong":
        return line["case"], line["engine"], f"{line['error']:.1e}", "WRONG", "", "", "", ""
    compared = ", ".join(f"{ratio:.2f}x {name}" for name, ratio in line["ratios"].items())
    return (
        line["case"],
        line["engine"],
        f"{line['error']:.1e}",
        f"{1e6 * line['seconds']['stm-fast']:.1f}",
        f"{line['tflops']:.1f}",
        f"{line['fraction']:.0%}",
        f"{line['extra_bytes']['stm-fast'] / 2**20:.0f}",
        compared,
    )


def _varied(line: Line) -> tuple[str, ...]:
    if "too_large" in line:
        return line["case"], "", "too large", "", ""
    if line["status"] == "wrong":
        return line["case"], f"{line['error']:.1e}", "WRONG", "", ""
    figures = (f"{line[name]:.1f}" for name in ("microseconds", "table"))
    return line["case"], f"{line['error']:.1e}", *figures, f"{line['ratio']:.2f}x"


def _hosted(line: Line) -> tuple[str, ...]:
    names = ("op", "memory_read", "back_to_back", "kernels")
    return line["case"], line["engine"], *(f"{line[name]:.1f}" if name in line else "" for name in names)


def _repeated(line: Line) -> tuple[str, ...]:
    return line["case"], line["engine"], f"{line['different']} of {line['calls']}"


def _microseconds(line: Line) -> str:
    return f"{1e6 * line['seconds']['stm-fast']:.1f} us"


TIME = ("case", "engine", "relative error", "us", "TFLOP/s", "of matmul", "extra MB", "compared with")
TABLES = {
    "prepare": (("engine", "seconds until it was ready"), _prepared),
    "check": (("case", "engine", "relative error", ""), _checked),
    "peaks": (("what", "speed", "us"), _peak),
    "time": (TIME, _timed),
    "variants": (("variant", "error", "us", "us of the table's", "faster"), _varied),
    "host": (("case", "engine", "us to queue the op", "memory_read", "back to back", "kernels alone"), _hosted),
    "repeat": (("case", "engine", "calls with other bits"), _repeated),
    "others": (TIME, _timed),
}
"""Head and row of each stage's table."""
