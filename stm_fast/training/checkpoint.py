"""The state of a run on disk, from which it resumes exactly."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from stm_fast.errors import RunStateError, first_line
from stm_fast.media.files import atomic_path
from stm_fast.ops.failures import is_out_of_memory

NAME = "checkpoint.pt"
_FORMAT = "stm-fast training 1"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint. A process that is killed at any moment leaves this one or the one before.

    Args:
        folder: of the run.
        state: tensors, numbers, strings, and lists and dictionaries of them.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_path(folder / NAME) as partial:
        try:
            torch.save({"format": _FORMAT, **state}, partial)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            # torch says where in its own code a write failed, and not why.
            raise OSError(errno.EIO, "Cannot be written, the disk may be full", str(folder / NAME)) from error


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read a checkpoint; return None if there is none.

    Raises:
        RunStateError: the file is damaged, or no checkpoint of training.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RunStateError(
            f"{path} is damaged and the run cannot resume: delete it to start again ({first_line(error)})"
        ) from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise RunStateError(f"{path} is no checkpoint of this version: delete it to start again")
    return state


@contextmanager
def restoring(folder: Path) -> Iterator[None]:
    """Tell a state that lacks entries, or whose entries have other types or shapes, as what it is.

    Raises:
        RunStateError: the block found one.
    """
    try:
        yield
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise RunStateError(
            f"{folder / NAME} is incomplete and the run cannot resume: delete it to start again "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error


def check_fit(folder: Path, state: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Raise an error if a checkpoint belongs to another run.

    Args:
        folder: of the run.
        state: the checkpoint.
        run: `settings` of the run by name, and `lengths` of its data.

    Raises:
        RunStateError: names the first setting that differs.
    """
    path = folder / NAME
    for name in run["settings"].keys() | state["settings"].keys():
        before, now = state["settings"].get(name), run["settings"].get(name)
        if before != now:
            raise RunStateError(
                f"{path} was trained with {name} {before}, not {now}: resume with the same settings, or start again in "
                "another folder"
            )
    if state["lengths"] != run["lengths"]:
        raise RunStateError(
            f"{path} was trained on {state['lengths']} pictures and videos, and now there are {run['lengths']}: resume "
            "with the same data, or start again in another folder"
        )
