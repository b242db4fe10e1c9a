"""The log of a training run, for people."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """Progress of a run after a step.

    Attributes:
        step: steps done.
        loss: of the last step.
        seconds: that the last step took.
        validation_j: mean J on the validation clips, if this step measured it.
    """

    step: int
    loss: float
    seconds: float
    validation_j: float | None = None


class RunLog:
    """Steps as JSON lines in `log.jsonl`, and to TensorBoard where it is installed."""

    def __init__(self, folder: Path) -> None:
        self._lines = (folder / "log.jsonl").open("a")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(str(folder))

    def write(self, progress: Progress) -> None:
        """Append one step."""
        record = {name: round(value, 5) for name, value in vars(progress).items() if value is not None}
        self._lines.write(json.dumps(record) + "\n")
        self._lines.flush()
        if self._board is not None:
            for name, value in record.items():
                self._board.add_scalar(name, value, progress.step)

    def close(self) -> None:
        """Flush and close."""
        self._lines.close()
        if self._board is not None:
            self._board.close()
