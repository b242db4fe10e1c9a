"""The run state of a segmenter on disk: everything that its next step depends on."""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stm_fast.errors import RunStateError
from stm_fast.inference.frame_state import FrameState
from stm_fast.inference.frames import Geometry
from stm_fast.inference.tensor_file import read_metadata, read_tensors, write_tensors
from stm_fast.media.files import atomic_path
from stm_fast.media.notices import notice
from stm_fast.ops import cpu_engines

_FORMAT = "stm-fast segmenter 5"
_FRAME, _MEMORY = "frame.", "memory."


class RunState(NamedTuple):
    """What the next step depends on.

    Attributes:
        frame: the current frame.
        tensors: of the memory. Those of a file are mapped: they lie there until they are used.
        memory: the rest of the memory, for `MemoryBank.restore`.
        engines: of the CPU kernels that read the memory, by kind of read; see `stm_fast.ops.cpu_engines`.
        extra: what a user saved beside it; anything that JSON can hold.
    """

    frame: FrameState
    tensors: dict[str, Tensor]
    memory: dict[str, Any]
    engines: dict[str, str]
    extra: Any


def save(path: str | Path, state: RunState, identity: dict[str, str]) -> None:
    """Write a run state.

    Args:
        path: of the .safetensors file.
        state: the run state.
        identity: of the model and settings that it belongs to; `load` asks for the same.

    Raises:
        OSError: the file cannot be written; one that was there before stays.
    """
    frame = state.frame
    tensors = {_MEMORY + name: part for name, part in state.tensors.items()}
    tensors |= {_FRAME + name: getattr(frame, name) for name in ("frame", "inner", "outer")}
    if frame.inner is frame.outer:
        del tensors[_FRAME + "outer"]
    described = {
        "index": frame.index,
        "outer": list(frame.geometry.outer),
        "inner": list(frame.geometry.inner),
        "padding": list(frame.geometry.padding),
        "objects": list(frame.objects),
        "annotated": sorted(frame.annotated),
        "placed": sorted(frame.placed),
        "chosen": frame.chosen,
    }
    metadata = {
        "format": _FORMAT,
        "identity": identity,
        "frame": described,
        "memory": state.memory,
        "engines": state.engines,
        "extra": state.extra,
    }
    with atomic_path(path) as partial:
        try:
            write_tensors(partial, tensors, {name: json.dumps(part) for name, part in metadata.items()})
        except (RuntimeError, MemoryError) as error:
            # A GPU that is full has no room to make the pieces of a memory contiguous.
            reason = next(iter(str(error).splitlines()), os.strerror(errno.ENOMEM))
            raise OSError(errno.ENOMEM, reason, str(path)) from error


def load(path: str | Path, identity: dict[str, str], device: torch.device) -> RunState:
    """Read a run state that `save` wrote.

    Args:
        path: of the file.
        identity: of the model and settings that are to resume.
        device: where the frame goes.

    Raises:
        RunStateError: the file is missing or damaged, or belongs to another version, model or other settings.
    """
    if not Path(path).is_file():
        raise RunStateError(f"{path} does not exist: a file written by Segmenter.save is needed")
    try:
        texts = read_metadata(path)
        if texts.get("format") != json.dumps(_FORMAT):
            raise RunStateError(f"{path} was not written by Segmenter.save of this version")
        tensors = read_tensors(path)
        metadata = {name: json.loads(text) for name, text in texts.items()}
    except (ValueError, OSError) as error:
        raise RunStateError(f"{path} is damaged ({error}) and cannot be resumed") from error
    _check_same(path, metadata["identity"], identity)
    memory = {name.removeprefix(_MEMORY): part for name, part in tensors.items() if name.startswith(_MEMORY)}
    frame = {name: part.to(device) for name, part in tensors.items() if name.startswith(_FRAME)}
    return RunState(
        frame=_frame(frame, metadata["frame"]),
        tensors=memory,
        memory=metadata["memory"],
        engines=metadata["engines"],
        extra=metadata["extra"],
    )


def fingerprint(model: nn.Module) -> str:
    """Return a name for a model's weights and their dtype."""
    digest = hashlib.sha256()
    for name, part in sorted(model.state_dict().items()):
        digest.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
        digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def available_engines(engines: dict[str, str], path: str | Path) -> dict[str, str]:
    """Return those engines of a saved run state that this machine executes; a notice tells of others."""
    missing = cpu_engines.missing(engines)
    if missing:
        notice(
            f"{path} was saved where the memory was read by {', '.join(missing)}, which this machine does not execute: "
            "masks from here on may differ slightly from those of an uninterrupted run"
        )
    return {kind: engine for kind, engine in engines.items() if engine not in missing}


def _check_same(path: str | Path, saved: dict[str, str], identity: dict[str, str]) -> None:
    if saved.get("model") != identity.get("model"):
        raise RunStateError(
            f"{path} was saved with other weights than this segmenter's, or with the same in another dtype: resume "
            "with the model and dtype that it was saved with, or segment the video anew"
        )
    for name in identity | saved:
        if saved.get(name) != identity.get(name):
            raise RunStateError(
                f"{path} was saved with {name} {saved.get(name)}, this segmenter has {identity.get(name)}"
            )


def _frame(tensors: dict[str, Tensor], described: dict[str, Any]) -> FrameState:
    inner = tensors[_FRAME + "inner"]
    sizes = (tuple(described[name]) for name in ("outer", "inner", "padding"))
    return FrameState(
        index=described["index"],
        geometry=Geometry(*sizes),
        frame=tensors[_FRAME + "frame"].contiguous(memory_format=torch.channels_last),
        inner=inner,
        outer=tensors.get(_FRAME + "outer", inner),
        objects=tuple(described["objects"]),
        annotated=frozenset(described["annotated"]),
        placed=frozenset(described["placed"]),
        chosen=described["chosen"],
    )
