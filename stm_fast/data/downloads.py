"""What to download for a dataset, and where it goes. Nothing is downloaded by itself."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Download:
    """A file that a dataset's authors offer.

    Attributes:
        file: its official name.
        goes: where what it holds goes, with ROOT for the dataset's folder.
        sets: the sets that need it; empty if all do.
    """

    file: str
    goes: str
    sets: tuple[str, ...] = ()


def what_to_download(
    title: str, page: str, downloads: Sequence[Download], root: str | Path, sets: Collection[str]
) -> str:
    """Return what to download for some sets, a line per file; empty if there is no file.

    Args:
        title: name of the dataset.
        page: where its authors offer the files.
        downloads: its files.
        root: the dataset's folder.
        sets: names of the sets; if no file is of one of them, all files are returned.
    """
    known = any(name in each.sets for each in downloads for name in sets)
    lines = [
        f"  {each.file}: {each.goes.replace('ROOT', str(root))}"
        for each in downloads
        if not (known and each.sets) or any(name in each.sets for name in sets)
    ]
    return "\n".join([f"{title} is at {page}; download", *lines]) if lines else ""
