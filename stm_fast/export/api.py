"""`export_result`: the results of a run in another format."""

import json
from collections.abc import Callable, Collection
from pathlib import Path

import stm_fast
from stm_fast.errors import ArgumentError, OutputError
from stm_fast.export.formats import FORMATS, Format
from stm_fast.export.options import ExportOptions
from stm_fast.export.result import MaskedFrame, Result
from stm_fast.media.files import atomic_folder, atomic_path

FOLDER = "export"
"""Folder of exports in that of the results."""
RECORD = ".stm-fast-export.json"
"""File in a folder that an export wrote, without which it is not replaced."""


def export_result(
    result: "str | Path | Result",
    format: str,  # noqa: A002 - the word of the command line
    out: str | Path | None = None,
    *,
    frames: str | Path | None = None,
    objects: Collection[int] = (),
    void: int | None = None,
    options: ExportOptions | None = None,
    overwrite: bool = False,
    each: Callable[[MaskedFrame], None] = lambda frame: None,
) -> Path:
    """Write the masks of a result in another format.

    Frames and masks are read one at a time, so that a result may be of any length. What is written appears under its
    name once it is complete.

    Args:
        result: folder of the results of `stm-fast segment`, or of masks alone; or one that is open, and then has its
            own frames, objects and void.
        format: a name in `stm_fast.export.formats.FORMATS`.
        out: the file or folder; None for its usual name in `export/` in the folder of the results.
        frames: the video of the masks; None for the one that the run noted.
        objects: ids to export; empty for all.
        void: pixels of this id are background.
        options: what the format takes.
        overwrite: replace what an earlier export wrote.
        each: called with each frame once it is written.

    Returns:
        The file or folder.

    Raises:
        ArgumentError: there is no such format, or an option is not for it.
        OutputError: the target exists and `overwrite` is False, no export wrote it, or it holds the inputs.
        MediaError: a mask or frame cannot be read, or the format needs what is not there.
        StmFastError: a package that the format needs is missing.
        OSError: a file cannot be written.
    """
    options = options or ExportOptions()
    chosen = _format(format, options)
    opened = result if isinstance(result, Result) else Result(result, frames=frames, objects=objects, void=void)
    target = opened.folder.root / FOLDER / chosen.default_target(options) if out is None else Path(out)
    is_folder = chosen.is_folder(options)
    _check_target(target, opened, is_folder=is_folder, overwrite=overwrite)
    if not is_folder:
        with atomic_path(target) as partial:
            chosen.write(opened, partial, options, each)
        return target
    with atomic_folder(target) as partial:
        chosen.write(opened, partial, options, each)
        record = {"format": chosen.name, "result": str(opened.folder.root), "stm-fast": stm_fast.__version__}
        (partial / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
    return target


def _format(name: str, options: ExportOptions) -> Format:
    """Return a format.

    Raises:
        ArgumentError: there is none of this name, or it does not take the options.
    """
    if name not in FORMATS:
        raise ArgumentError("format", f"must be one of {', '.join(FORMATS)}, got {name}")
    chosen = FORMATS[name]
    for given in options.given():
        if given not in chosen.takes:
            takers = ", ".join(each.name for each in FORMATS.values() if given in each.takes)
            raise ArgumentError("category" if given == "categories" else given, f"is for {takers}, not for {name}")
    return chosen


def _check_target(target: Path, result: Result, *, is_folder: bool, overwrite: bool) -> None:
    place = target.resolve()
    for path in result.kept:
        kept = path.resolve()
        inside = place.parent == kept != result.folder.root.resolve()
        if place == kept or place in kept.parents or inside:
            raise OutputError(f"{target} would replace {path}, or add to it: choose another place")
    if not target.exists():
        return
    if target.is_dir() != is_folder:
        raise OutputError(
            f"{target} is a {'folder' if target.is_dir() else 'file'}, and the export a "
            f"{'folder' if is_folder else 'file'}: choose another name"
        )
    if is_folder and any(target.iterdir()) and not (target / RECORD).is_file():
        raise OutputError(f"{target} was there before and no export made it: choose another folder")
    if not overwrite and (not is_folder or any(target.iterdir())):
        raise OutputError(f"{target} exists: overwrite replaces it")
