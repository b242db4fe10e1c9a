"""The folder of an export."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stm_fast.errors import OutputError
from stm_fast.media.files import atomic_folder

SUFFIXES = (".onnx", ".pt2")
PARTS = frozenset({"encode_query", "encode_memory", "read", "decode", "decode_unguided", "step", "step_unguided"})
"""Names of the parts of any network; see `stm_fast.runtimes.parts`."""


@contextmanager
def export_folder(folder: str | Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `folder` when the block ends.

    Args:
        folder: where the files of an export go.
        overwrite: whether it may replace those of an earlier export.

    Raises:
        OutputError: the folder is not empty, and `overwrite` is not given or an export did not make what is in it.
        OSError: a folder cannot be made, or the disk is full.
    """
    folder = Path(folder)
    if not folder.name:
        raise OutputError(f"{folder} cannot be replaced as a whole: choose the name of a folder")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: choose the name of a folder")
    there = sorted(folder.iterdir()) if folder.exists() else []
    strangers = [path.name for path in there if not _is_export(path)]
    if strangers:
        raise OutputError(f"{folder} holds {strangers[0]}, which no export made: choose another folder")
    if there and not overwrite:
        raise OutputError(f"{folder} exists: overwrite replaces it")
    with atomic_folder(folder) as partial:
        yield partial


def _is_export(path: Path) -> bool:
    return path.is_file() and path.suffix in SUFFIXES and path.stem in PARTS
