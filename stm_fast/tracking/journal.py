"""frames.jsonl: what was found in each frame of a run, one line per frame."""

import json
import math
from pathlib import Path
from typing import IO, Any

import numpy as np

from stm_fast.media.files import write_text
from stm_fast.tracking.propagation import TrackedFrame

Line = dict[str, Any]


class Journal:
    """Appends what was found in each frame to a file at once, so that a killed run keeps it.

    A line is `{"frame": name, "objects": {id: {"area": pixels, "uncertainty": number or null}}}`. If a frame has
    two lines, the later one counts.

    Args:
        path: of the file.
        resume: keep the lines of an earlier run.
    """

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        self.path = Path(path)
        self._lines = read_journal(path) if resume else {}
        self._order: dict[str, int] = {}
        self._file: IO[str] | None = None
        if not resume:
            self.path.unlink(missing_ok=True)

    def note(self, frame: TrackedFrame) -> None:
        """Append a frame; a resumed frame keeps its earlier line.

        Raises:
            OSError: the file cannot be written.
        """
        self._order[frame.name] = frame.index
        if frame.resumed and frame.name in self._lines:
            return
        areas = np.bincount(frame.mask.ravel()) if frame.objects and max(frame.objects) < 1 << 16 else None
        objects = {
            str(found): {"area": _area(frame, areas, found), "uncertainty": _rounded(frame.uncertainty.get(found))}
            for found in frame.objects
        }
        self._lines[frame.name] = {"frame": frame.name, "objects": objects}
        if self._file is None:
            self._file = self.path.open("a", encoding="utf-8")
            if self._file.tell():
                self._file.write("\n")
        self._file.write(json.dumps(self._lines[frame.name]) + "\n")
        self._file.flush()

    def keep(self, name: str, index: int) -> list[int] | None:
        """Keep the line that an earlier run wrote of a frame.

        Args:
            name: of the frame.
            index: its number in the clip.

        Returns:
            The ids of its objects; None if there is no line.
        """
        if (line := self._lines.get(name)) is None:
            return None
        self._order[name] = index
        return [int(found) for found in line["objects"]]

    def uncertainty(self) -> dict[str, dict[str, float]]:
        """Return the uncertainty of each object by frame, if it is known, in the order of the clip."""
        found: dict[str, dict[str, float]] = {}
        for name in self._in_order():
            for object_id, numbers in self._lines[name]["objects"].items():
                if numbers["uncertainty"] is not None:
                    found.setdefault(object_id, {})[name] = numbers["uncertainty"]
        return found

    def close(self, *, complete: bool = False) -> None:
        """Close the file; for a complete run, rewrite it with one line per frame, in the order of the clip."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if complete:
            write_text(self.path, "".join(json.dumps(self._lines[name]) + "\n" for name in self._in_order()))

    def _in_order(self) -> list[str]:
        """Return the frames in the order of the clip."""
        return sorted(self._order, key=lambda name: self._order[name])


def read_journal(path: str | Path) -> dict[str, Line]:
    """Read the lines of a journal by frame, without a last line that a killed run left incomplete.

    Args:
        path: of the file; a missing one is empty.
    """
    lines: dict[str, Line] = {}
    if not Path(path).is_file():
        return lines
    for text in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        line = _parsed(text)
        if line is not None:
            lines[line["frame"]] = line
    return lines


def _parsed(text: str) -> Line | None:
    """Parse a line of a journal; return None if it is incomplete."""
    try:
        line = json.loads(text)
        objects = {str(int(found)): _numbers(numbers) for found, numbers in line["objects"].items()}
        return {"frame": str(line["frame"]), "objects": objects}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _numbers(numbers: Line) -> Line:
    uncertainty = numbers["uncertainty"]
    known = uncertainty is not None and math.isfinite(uncertainty)
    return {"area": int(numbers["area"]), "uncertainty": float(uncertainty) if known else None}


def _area(frame: TrackedFrame, areas: "np.typing.NDArray[np.int64] | None", found: int) -> int:
    if areas is None:
        return int((frame.mask == found).sum())
    return int(areas[found]) if found < len(areas) else 0


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)
