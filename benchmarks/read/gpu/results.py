"""Results, written to disk one by one: as lines of JSON, in a log, and in tables that are rewritten each time."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.read.gpu import report
from stm_fast.media.files import write_text

Line = dict[str, Any]
OK, WRONG, FAILED, SKIPPED = "ok", "wrong", "failed", "skipped"
SECONDS_BETWEEN_TABLES = 2.0


class Results:
    """Lines of results.jsonl, the tables of first_light.md, and progress in first_light.log and on stderr."""

    def __init__(self, folder: Path, machine: dict[str, str], total: int) -> None:
        """Start with no results in a folder.

        Args:
            folder: folder for the files; it is created.
            machine: names and versions; see `benchmarks.machine.describe_gpu`.
            total: expected number of results.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.lines: list[Line] = []
        self.log = folder / "first_light.log"
        self._machine, self._total = machine, total
        self._tables = folder / "first_light.md"
        self._file = (folder / "results.jsonl").open("w", encoding="utf-8")
        self._begin = time.monotonic()
        self._written = 0.0
        self.log.write_text("")
        self.say(", ".join(f"{name} {version}" for name, version in machine.items()))
        self._write({"stage": "machine", **machine})

    def add(self, stage: str, engine: str, case: str, status: str, **found: Any) -> None:
        """Keep a result."""
        line = {"stage": stage, "engine": engine, "case": case, "status": status, **found}
        self._write(line)
        self.lines.append(line)
        seconds = time.monotonic() - self._begin
        count = len(self.lines)
        self.say(
            f"[{seconds:4.0f} s, {count} of {self._total}, {60 * count / max(seconds, 1e-3):.0f} a minute] "
            f"{stage}, {engine or 'torch'}: {case}: {report.brief(line)}"
        )
        if time.monotonic() - self._written > SECONDS_BETWEEN_TABLES:
            self.write_tables()

    def say(self, text: str) -> None:
        """Report progress."""
        print(text, file=sys.stderr, flush=True)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def write_tables(self) -> None:
        """Write all results so far as Markdown."""
        write_text(self._tables, report.full(self.lines, self._machine))
        self._written = time.monotonic()

    def close(self) -> None:
        """Write the tables for the last time."""
        self.write_tables()
        self._file.close()

    def _write(self, line: Line) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
