"""Exports of a project: made as jobs, listed, and downloaded."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stm_fast.app.jobs import Job
from stm_fast.app.project import Project
from stm_fast.app.refusal import Refusal
from stm_fast.errors import StmFastError
from stm_fast.export.api import FOLDER, export_result
from stm_fast.export.formats import FORMATS
from stm_fast.export.options import ExportOptions
from stm_fast.export.result import MaskedFrame, Result
from stm_fast.media.notices import notice

_TYPES: dict[str, tuple[type, ...]] = {
    "images": (bool,),
    "soft": (bool,),
    "image_root": (str,),
    "tolerance": (int, float),
    "fps": (int, float),
    "bits": (int,),
}
_CHUNK = 1 << 20


def formats() -> list[dict[str, Any]]:
    """Return what formats there are, in types of JSON."""
    return [{"name": each.name, "about": each.about, "takes": sorted(each.takes)} for each in FORMATS.values()]


def export_options(name: object, given: Mapping[str, Any], project: Project) -> ExportOptions:
    """Return the options of an export; objects are of the categories that they are named after, if none are given.

    Raises:
        Refusal: there is no such format or option, or a value has the wrong type.
        ArgumentError: a value is out of range.
    """
    if not isinstance(name, str) or name not in FORMATS:
        raise Refusal(400, f"format must be one of {', '.join(FORMATS)}, got {name!r}"[:300])
    categories = given.get("categories")
    if categories is None:
        categories = {str(each): found.name for each, found in project.objects.items()}
        categories = categories if "categories" in FORMATS[name].takes else {}
    if not isinstance(categories, dict) or not all(
        each.isascii() and each.isdecimal() and isinstance(text, str) for each, text in categories.items()
    ):
        raise Refusal(400, 'categories must be names by id, such as {"1": "dog"}')
    options: dict[str, Any] = {"categories": {int(each): text for each, text in categories.items()}}
    for option, value in given.items():
        if option == "categories" or value is None:
            continue
        if option not in _TYPES:
            raise Refusal(400, f"an export has no option {option}"[:100])
        if not isinstance(value, _TYPES[option]) or (isinstance(value, bool) and bool not in _TYPES[option]):
            raise Refusal(400, f"{option} must be of type {_TYPES[option][-1].__name__}, got {value!r}"[:200])
        options[option] = value
    return ExportOptions(**options)


def export(project: Project, name: str, options: ExportOptions, job: Job) -> None:
    """Export the masks that were found, without objects that were deleted.

    Raises:
        KeyboardInterrupt: the job was stopped; nothing was written.
        StmFastError: there are no masks or no objects, or the format needs what is not there.
        OSError: a file cannot be written.
    """
    objects = tuple(project.objects)
    if not project.out.frames_done():  # what is drawn and not followed is no result yet
        raise StmFastError("there are no masks to export yet: follow an object first")
    result = Result(project.out.root, frames=str(project.clip.path), objects=objects)
    job.pace.total = len(result)
    if not objects:  # which a result takes for all
        raise StmFastError("there is no object to export: all were deleted")
    if drawn := project.not_followed():
        notice(
            f"frame {drawn[0]} was corrected after objects were followed there, and the export has the mask that was "
            "found: follow them again first"
        )

    def each(frame: MaskedFrame) -> None:
        job.advance()
        if job.is_stopping:
            raise KeyboardInterrupt

    export_result(result, name, options=options, overwrite=True, each=each)


def listed(project: Project) -> list[dict[str, Any]]:
    """Return the exports that there are, the newest first, in types of JSON; folders as their zips are called."""
    found = sorted(_exports(project).items(), key=lambda each: each[1].stat().st_mtime, reverse=True)
    return [{"name": name, "bytes": sum(file.stat().st_size for file in _files(path))} for name, path in found]


def download(project: Project, name: str) -> Path:
    """Return the file or folder of an export; raise `Refusal` if there is none of this name."""
    found = _exports(project)
    if name not in found:
        raise Refusal(404, "there is no such export")
    return found[name]


def zipped(folder: Path) -> Iterator[bytes]:
    """Yield a zip of a folder as it is made; nothing is held but a part of it."""
    stream = _Parts()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for path in _files(folder):
            with path.open("rb") as file, archive.open(str(path.relative_to(folder)), "w", force_zip64=True) as entry:
                while part := file.read(_CHUNK):
                    entry.write(part)
                    yield stream.taken()
    yield stream.taken()


class _Parts(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        self._kept += part
        return len(part)

    def taken(self) -> bytes:
        kept = bytes(self._kept)
        self._kept.clear()
        return kept


def _exports(project: Project) -> dict[str, Path]:
    folder = project.out.root / FOLDER
    paths = folder.iterdir() if folder.is_dir() else ()
    return {f"{path.name}.zip" if path.is_dir() else path.name: path for path in paths if not path.name.startswith(".")}


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
