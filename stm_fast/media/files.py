"""Write files and folders so that they appear on disk complete or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block ends, delete it if the block fails.

    The temporary name keeps the suffix, from which writers choose their format. It is the same in every run, so that a
    killed process leaves at most one such file, which the next run replaces. Missing parent folders are made.

    Args:
        path: path of the file; an existing file is replaced only by a complete one.

    Yields:
        The path to write to.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder with a temporary name beside `path`; rename it to `path` when the block ends.

    If the block fails, the folder is deleted. A folder that is at `path` is deleted once the new one is complete; until
    then it has a hidden name beside it for a moment. What a killed process leaves, the next run puts right.

    Args:
        path: path of the folder.

    Yields:
        The folder to write into.

    Raises:
        OSError: a folder cannot be made, or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = _partial(path), path.with_name(f".{path.name}.old")
    if old.exists() and not path.exists():
        old.rename(path)
    for left in (partial, old):
        if left.exists():
            shutil.rmtree(left)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            path.rename(old)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def discard(path: str | Path) -> None:
    """Delete a file if it exists, and the temporary file that a killed process may have left beside it."""
    for each in (Path(path), _partial(Path(path))):
        each.unlink(missing_ok=True)


def discard_partial(folder: str | Path) -> None:
    """Delete the temporary files that killed processes left in a folder."""
    for each in Path(folder).glob(".*.part*"):
        if each.is_file():
            each.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.stem}.part{path.suffix}")


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")
