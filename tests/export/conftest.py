"""A folder of results that has all that is awkward: odd names, holes, parts, single pixels, late and lost objects."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stm_fast.export.api import export_result
from stm_fast.export.options import ExportOptions
from stm_fast.media.masks import write_mask

SIZE = (41, 67)
NAMES = ("bild 1 ü", "bild 2 ü", "bild 10 ü", "bild 11 ü", "bild 12 ü", "bild 13 ü")
GONE, EMPTY = 4, 5
"""The frame in which object 2 is no longer, and the one without objects."""


def disc(row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def masks() -> list[np.ndarray]:
    """Object 1 is a ring with a part beside it, object 2 appears in frame 2, object 255 is one pixel in frame 3."""
    found = []
    for index in range(len(NAMES)):
        mask = np.zeros(SIZE, np.uint8)
        if index != EMPTY:
            mask[disc(15, 15 + 3 * index, 12)] = 1
            mask[disc(15, 15 + 3 * index, 4)] = 0
            mask[36:40, 2:6] = 1
        if 2 <= index < GONE:
            mask[disc(26, 55, 9)] = 2
        if index == 3:
            mask[0, -1] = 255
        found.append(mask)
    return found


def picture(index: int) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([40 + 2 * columns, 60 + 3 * rows, np.full(SIZE, 100 + 20 * index)], 2).astype(np.uint8)


@pytest.fixture
def results(tmp_path) -> Path:
    """The folder; its frames are in `frames` beside it."""
    frames, out = tmp_path / "frames", tmp_path / "out"
    frames.mkdir()
    lines = []
    for index, (name, mask) in enumerate(zip(NAMES, masks(), strict=True)):
        Image.fromarray(picture(index)).save(frames / f"{name}.png")
        write_mask(out / "masks" / f"{name}.png", mask)
        objects = {str(i): {"area": int((mask == i).sum()), "uncertainty": None} for i in np.unique(mask) if i}
        lines.append(json.dumps({"frame": name, "objects": objects}))
    (out / "frames.jsonl").write_text("\n".join(lines) + "\n")
    summary = {
        "complete": True,
        "objects": [1, 2, 255],
        "inputs": {"source": {"path": str(frames)}, "masks": {}},
        "settings": {},
    }
    (out / "summary.json").write_text(json.dumps(summary))
    return out


@pytest.fixture
def export(results):
    """Export the results; options by name."""

    def run(format_, out=None, **given):
        names = ExportOptions.__dataclass_fields__
        options = ExportOptions(**{name: given.pop(name) for name in list(given) if name in names})
        return export_result(given.pop("result", results), format_, out, options=options, **given)

    return run
