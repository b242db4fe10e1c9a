"""Claiming a folder for the results of a run, so that no run writes over results that are not its own."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stm_fast.errors import ArgumentError, StmFastError
from stm_fast.media.files import write_text

FREE = ("input", "mask", "memory", "memory_limit", "device", "backend", "offload")
"""Settings that may change when a run resumes: those that help a run which ran out of memory to its end, and the names
of inputs, whose contents are compared instead."""


def claim(
    record: Path,
    results: Sequence[Path],
    settings: dict[str, object],
    *,
    resume: bool,
    overwrite: bool,
    clear: Callable[[], None] = lambda: None,
    inputs: dict[str, object] | None = None,
    check: Callable[[dict[str, object]], None] = lambda before: None,
) -> None:
    """Make sure that a run may write its results, and note its settings for a later one.

    Unless the claim is refused, no other run can claim the folder until this process ends or calls `release`. A run
    notes its settings before its first result, so that results without a note are files of somebody else.

    Args:
        record: JSON file with the settings of the run that made the results.
        results: files of the results, and folders that hold nothing but results.
        settings: options that decide the results of this run.
        resume: continue with what is there, which must have been made with the same settings.
        overwrite: replace what is there.
        clear: removes the results of an earlier run; called unless this run resumes it.
        inputs: what the results are made from, noted beside the settings.
        check: called with the `inputs` that an earlier run noted, before this run resumes it and notes its own; raises
            if they are not the same, or removes the results that this run makes anew. Empty if the earlier run noted
            none.

    Raises:
        ArgumentError: `resume` and `overwrite` are both True.
        StmFastError: there are results and both are False; the results were made with other settings, or by no run;
            another run is writing there; or the folder is a file.
    """
    if resume and overwrite:
        raise ArgumentError("resume", "excludes overwrite: one continues earlier results, the other replaces them")
    if record.parent.exists() and not record.parent.is_dir():
        raise StmFastError(f"{record.parent} is a file: choose a folder for the results")
    _lock(record.parent)
    with ExitStack() as refused:
        refused.callback(release, record.parent)
        foreign = [path for path in results if (any(path.iterdir()) if path.is_dir() else path.exists())]
        if foreign and not record.exists():
            raise StmFastError(f"{foreign[0]} was there before and no run of stm-fast made it: choose another folder")
        if record.exists() and not overwrite:
            if not resume:
                raise StmFastError(
                    f"{record.parent} already holds results: resume continues them, overwrite replaces them"
                )
            check(_inputs_of_same(record, settings))
        if not resume:
            clear()
        note = {"complete": False, "settings": settings, "inputs": inputs or {}}
        write_text(record, json.dumps(note, indent=2) + "\n")
        refused.pop_all()


_locked: dict[Path, int] = {}
_held: set[Path] = set()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep others from writing into a folder while the block runs; runs of this process may claim it, one by one.

    Raises:
        StmFastError: another process is writing there, or this one holds the folder already.
    """
    if folder in _held:
        raise _taken(folder)
    _lock(folder)
    _held.add(folder)
    try:
        yield
    finally:
        _held.discard(folder)
        release(folder)


def _lock(folder: Path) -> None:
    """Lock a folder; the system unlocks it when the process ends, however it ends."""
    if folder in _held:
        return
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
        raise _taken(folder) from None
    except OSError:
        os.close(descriptor)
        return
    _locked[folder] = descriptor


def _taken(folder: Path) -> StmFastError:
    return StmFastError(f"another run is writing into {folder}: wait for it, or choose another folder")


def release(folder: Path | None = None) -> None:
    """Let other runs claim a folder that this process claimed; None releases all of them."""
    for each in [folder] if folder is not None else list(_locked):
        if each in _locked and each not in _held:
            os.close(_locked.pop(each))


def _inputs_of_same(record: Path, settings: dict[str, object]) -> dict[str, object]:
    """Check that an earlier run had the same settings; return the inputs that it noted."""
    try:
        noted = json.loads(record.read_text(encoding="utf-8"))
        before = dict(noted["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StmFastError(f"{record} does not tell how the results were made: overwrite starts again") from error
    for name, value in settings.items():
        if before.get(name) != value and name not in FREE:
            raise StmFastError(
                f"{record.parent} was made with {name} {before.get(name)}, not {value}: resume with the same options, "
                "or start again in another folder"
            )
    inputs = noted.get("inputs") or {}
    if not isinstance(inputs, dict):
        raise StmFastError(f"{record} does not tell what the results were made from: overwrite starts again")
    return dict(inputs)
