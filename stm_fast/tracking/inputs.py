"""What a run is made from, noted so that one on other inputs does not resume it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stm_fast.errors import StmFastError


def identity(source: Path | str, masks: Mapping[str, Path]) -> dict[str, object]:
    """Describe the inputs of a run.

    Args:
        source: a video, or a folder of images; a string for what is no file, such as a URL.
        masks: the mask files that are given, by frame name.

    Returns:
        For a file its size and time of change, for a folder its path, and digests of the masks by frame.
    """
    found: dict[str, object] = {"path": str(source.resolve() if isinstance(source, Path) else source)}
    if isinstance(source, Path) and source.is_file():
        status = source.stat()
        found |= {"bytes": status.st_size, "modified": status.st_mtime_ns}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for name, path in masks.items()}
    return {"source": found, "masks": digests}


def check_unchanged(
    before: Mapping[str, Any], now: Mapping[str, Any], masks: Mapping[str, Path], done: "frozenset[str] | set[str]"
) -> None:
    """Make sure that a run resumes on the inputs that its results were made from.

    A file may have moved. Masks of frames that are not done yet may have changed.

    Args:
        before: `identity` of the earlier run; empty if it noted none.
        now: that of this one.
        masks: the mask files, for messages.
        done: names of the frames whose masks are on disk.

    Raises:
        StmFastError: the video is another one, or a mask of a frame that is done has changed.
    """
    if not before:
        return
    source, other = before["source"], now["source"]
    same_file = "bytes" in source and [source.get(name) for name in ("bytes", "modified")] == [
        other.get(name) for name in ("bytes", "modified")
    ]
    if not same_file and (source["path"] != other["path"] or "bytes" in source):
        moved = source["path"] != other["path"]
        problem = f"is not {source['path']}, which" if moved else "has changed since"
        raise StmFastError(
            f"{other['path']} {problem} the earlier masks were made{' of' if moved else ''}: resume with the same "
            "input, or start again with overwrite"
        )
    for name in sorted(done & (before["masks"].keys() | now["masks"].keys())):
        if before["masks"].get(name) != now["masks"].get(name):
            what = f"{masks[name]} is not" if name in masks else f"nothing is given for frame {name} in place of"
            raise StmFastError(
                f"{what} the mask of frame {name} that the earlier masks were made from: put it back, or start again "
                "with overwrite"
            )
