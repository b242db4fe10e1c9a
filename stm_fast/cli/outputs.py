"""The folder a clip's results go to, and when a run may write into it."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stm_fast.errors import StmFastError
from stm_fast.media.files import discard, write_text


@dataclass(frozen=True)
class OutputFolder:
    """`masks/`, `overlay.mp4`, `contact_sheet.png` and `summary.json` below one folder."""

    root: Path

    @property
    def masks(self) -> Path:
        """Folder of the palette PNGs."""
        return self.root / "masks"

    @property
    def overlay(self) -> Path:
        """The video of frames with their masks."""
        return self.root / "overlay.mp4"

    @property
    def contact_sheet(self) -> Path:
        """The picture of the clip at a glance."""
        return self.root / "contact_sheet.png"

    @property
    def summary(self) -> Path:
        """What the run did."""
        return self.root / "summary.json"

    @property
    def checkpoint(self) -> Path:
        """The state of a run that is under way."""
        return self.root / ".checkpoint.safetensors"

    def clear(self) -> None:
        """Remove the results of an earlier run, which may have had more frames or other pictures."""
        for result in (*self.masks.glob("*.png"), self.overlay, self.contact_sheet, self.checkpoint):
            discard(result)


def claim(
    record: Path,
    results: Sequence[Path],
    settings: dict[str, object],
    *,
    resume: bool,
    overwrite: bool,
    clear: Callable[[], None] = lambda: None,
) -> None:
    """Make sure that a run may write its results, and note its settings for a later one.

    No other run can claim the record's folder until this process ends or calls `release`. A run notes its settings
    before its first result, so that results without a note are somebody else's files.

    Args:
        record: JSON file with the settings of the run that made the results.
        results: files of the results, and folders that hold nothing but results.
        settings: options that decide the results of this run.
        resume: go on with what is there, which must have been made with the same settings.
        overwrite: write over what is there.
        clear: removes the results of an earlier run; called unless this one goes on with them.

    Raises:
        ValueError: both flags are given.
        StmFastError: results are there and neither flag is given, other settings or somebody else made them, or
            another run is writing there.
    """
    if resume and overwrite:
        raise ValueError("--resume and --overwrite exclude each other: one goes on with results, one starts again")
    _lock(record.parent)
    foreign = [path for path in results if (any(path.iterdir()) if path.is_dir() else path.exists())]
    if foreign and not record.exists():
        raise StmFastError(f"{foreign[0]} was there before and no run of stm-fast made it: choose another --out")
    if record.exists() and not overwrite:
        if not resume:
            raise StmFastError(f"{record.parent} holds results: --resume goes on with them, --overwrite starts again")
        _check_same(record, settings)
    if not resume:
        clear()
    write_text(record, json.dumps({"complete": False, "settings": settings}, indent=2) + "\n")


_locked: list[int] = []


def _lock(folder: Path) -> None:
    """Keep other runs out of a folder; the system frees it when the process ends, however it does."""
    try:
        import fcntl
    except ImportError:
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StmFastError(f"another run is writing into {folder}: wait for it, or choose another --out") from None
    except OSError:
        os.close(descriptor)
        return
    _locked.append(descriptor)


def release() -> None:
    """Let other runs claim what this one claimed."""
    while _locked:
        os.close(_locked.pop())


_FREE = ("memory", "memory_limit", "device", "backend", "offload")
"""Settings that may change when a run is resumed: what it takes to finish one that ran out of memory."""


def _check_same(record: Path, settings: dict[str, object]) -> None:
    try:
        before = json.loads(record.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StmFastError(f"{record} does not tell how the results were made: --overwrite starts again") from error
    for name, value in settings.items():
        if before.get(name) != value and name not in _FREE:
            raise StmFastError(
                f"{record.parent} was made with {name} {before.get(name)}, not {value}: go on with the same options, "
                "or start again in another folder"
            )
