"""The log of a training run: JSON lines, TensorBoard, and Weights & Biases."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.files import write_text
from stm_fast.training.interrupts import uninterrupted

_WANDB_RUN = "wandb.txt"


class RunLog:
    """Writes steps to `log.jsonl`, to TensorBoard where it is installed, and to W&B where it is set up.

    W&B is used if it is installed and either logged in or told by the environment variable `WANDB_MODE`; it never asks.
    A run that resumes replaces what it logged after its last checkpoint.

    Args:
        folder: of the run.
        step: steps done before.
        settings: of the run, for W&B.
    """

    def __init__(self, folder: Path, step: int = 0, settings: dict[str, object] | None = None) -> None:
        path = folder / "log.jsonl"
        write_text(path, "".join(f"{line}\n" for line in _lines_until(path, step)))
        self._lines = path.open("a", encoding="utf-8")
        self._board = _tensorboard(folder, step)
        self._wandb = _wandb(folder, settings or {})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append a line: values measured in or after a step, by name."""
        record = {name: float(f"{value:.6g}") for name, value in values.items()}
        # Cut off, TensorBoard may forget to wake its thread, and close minutes later.
        with uninterrupted():
            self._lines.write(json.dumps({"step": step, **record}) + "\n")
            self._lines.flush()
            if self._board is not None:
                for name, value in record.items():
                    self._board.add_scalar(name, value, step)
            if self._wandb is not None:
                self._wandb.log(record, step=step)

    def picture(self, step: int, image: NDArray[np.uint8]) -> None:
        """Show a picture `(H, W, 3)` in TensorBoard and W&B."""
        with uninterrupted():
            if self._board is not None:
                self._board.add_image("predictions", image, step, dataformats="HWC")
            if self._wandb is not None:
                self._wandb.log({"predictions": sys.modules["wandb"].Image(image)}, step=step)

    def close(self) -> None:
        """Flush and close."""
        self._lines.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def _lines_until(path: Path, step: int) -> list[str]:
    """Return the lines of a log up to a step; a line that a killed process left unfinished ends them."""
    kept: list[str] = []
    if step and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] > step:
                    break
            except (ValueError, KeyError, TypeError):
                break
            kept.append(line)
    return kept


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _wandb(folder: Path, settings: dict[str, object]) -> Any:
    try:
        import wandb
    except ImportError:
        return None
    if not os.environ.get("WANDB_MODE") and not wandb.api.api_key:
        return None
    note = folder / _WANDB_RUN
    before = note.read_text(encoding="utf-8").strip() if note.exists() else None
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "stm-fast"),
        name=folder.name,
        dir=str(folder),
        id=before,
        resume="allow",
        config=settings,
    )
    write_text(note, f"{run.id}\n")
    return run
