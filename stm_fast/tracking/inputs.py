"""The inputs of a run, noted so that a run on other inputs does not resume it."""

import hashlib
import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import StmFastError
from stm_fast.media.frames import FrameSource
from stm_fast.media.video import VideoFile
from stm_fast.tracking.correction_files import CorrectionFile, GivenCorrection
from stm_fast.tracking.prompts import Prompt


def identity(
    frames: FrameSource, masks: Mapping[str, Prompt], corrections: Mapping[str, GivenCorrection] | None = None
) -> dict[str, Any]:
    """Describe the inputs of a run.

    Args:
        frames: the clip.
        masks: the masks that are given, by frame name.
        corrections: by frame name; None for none.

    Returns:
        The path of the source, for a file also its size and time of change, for images and arrays a digest of the
        first; and digests of the masks and of the corrections by frame.
    """
    source = frames.path
    found: dict[str, object] = {"path": str(source.resolve() if isinstance(source, Path) else source)}
    if isinstance(source, Path) and source.is_file():
        status = source.stat()
        found |= {"bytes": status.st_size, "modified": status.st_mtime_ns}
    elif frames.seekable and not isinstance(frames, VideoFile) and (first := next(iter(frames), None)):
        found["first_frame"] = _of_pixels(first.image)
    return {
        "source": found,
        "masks": {name: _of_mask(mask) for name, mask in masks.items()},
        "corrections": {name: _of_correction(given) for name, given in (corrections or {}).items()},
    }


def source_digest(frames: FrameSource) -> str:
    """Return a digest of where frames come from, which tells clips of the same name and shape apart."""
    return _digest(json.dumps(identity(frames, {})["source"], sort_keys=True).encode())


def _of_correction(given: GivenCorrection) -> str:
    if isinstance(given, CorrectionFile):
        return _digest(b"".join(f"{path.stem} {_of_mask(path)} ".encode() for path in given.files()))
    objects = None if given.objects is None else sorted(map(int, given.objects))
    return _digest(f"{objects} {_of_pixels(np.asarray(given.mask))}".encode())


def _of_mask(mask: Prompt) -> str:
    if isinstance(mask, Path):
        return _digest(mask.read_bytes())
    return _of_pixels(mask if isinstance(mask, np.ndarray) else mask.read())


def _of_pixels(pixels: NDArray[Any]) -> str:
    return _digest(f"{pixels.dtype} {pixels.shape} ".encode() + pixels.tobytes())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def check_unchanged(
    before: Mapping[str, Any], now: Mapping[str, Any], masks: Mapping[str, Prompt], done: Set[str]
) -> None:
    """Make sure that a run resumes on the inputs that its results were made from.

    A file may have moved, and masks of frames that are not done may have changed.

    Args:
        before: `identity` of the earlier run; empty if it noted none.
        now: `identity` of this run.
        masks: those that are given, for messages.
        done: names of the frames whose masks are on disk.

    Raises:
        StmFastError: the video is another one, or a mask of a frame that is done has changed.
    """
    if not before:
        return
    if problem := source_problem(before, now):
        raise StmFastError(f"{problem}: resume with the same input, or start again with overwrite")
    given = before["masks"]
    for name in sorted(done & (given.keys() | now["masks"].keys())):
        if given.get(name) != now["masks"].get(name):
            what = "what is given is not"
            if isinstance(path := masks.get(name), Path):
                what = f"{path} is not"
            elif path is None:
                what = f"nothing is given for frame {name} in place of"
            raise StmFastError(
                f"{what} the mask of frame {name} that the earlier masks were made from: put it back, or start again "
                "with overwrite"
            )


def source_problem(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return how the video differs from that of an earlier run; None if it is the same, which may have moved.

    Args:
        before: `identity` of the earlier run.
        now: `identity` of this run.

    Raises:
        StmFastError: the earlier run did not note its inputs as `identity` describes them.
    """
    source, other = before.get("source"), now["source"]
    if not (isinstance(source, dict) and isinstance(before.get("masks"), dict) and "path" in source):
        raise StmFastError(
            "the summary does not tell what the earlier masks were made from: start again with overwrite"
        )
    same_file = "bytes" in source and [source.get(name) for name in ("bytes", "modified")] == [
        other.get(name) for name in ("bytes", "modified")
    ]
    moved = source["path"] != other["path"]
    first = source.get("first_frame"), other.get("first_frame")
    replaced = None not in first and first[0] != first[1]
    if same_file or not (moved or replaced or "bytes" in source):
        return None
    if moved:
        return f"{other['path']} is not {source['path']}, which the earlier masks were made of"
    return f"{other['path']} has changed since the earlier masks were made"
