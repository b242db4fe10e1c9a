"""The run state of a segmenter on disk."""

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
from stm_fast.inference.tensor_file import write_tensors
from stm_fast.media.files import atomic_path
from stm_fast.media.notices import notice
from stm_fast.memory.bank import MemoryBank
from stm_fast.ops import cpu_engines

_FORMAT = "stm-fast segmenter 4"
_FRAME, _MEMORY, _DIGEST = "frame.", "memory.", "digest"


class RunState(NamedTuple):
    """What `save` wrote.

    Attributes:
        state: the current frame.
        tensors: of the memory, which lie in the file until they are read.
        memory: the rest of it, for `MemoryBank.restore`.
        engines: of the CPU kernels, that read the memory; see `stm_fast.ops.cpu_engines`.
        extra: what else was saved.
    """

    state: FrameState
    tensors: dict[str, Tensor]
    memory: dict[str, Any]
    engines: dict[str, str]
    extra: Any


def save(
    path: str | Path,
    state: FrameState,
    memory: MemoryBank,
    identity: dict[str, str],
    engines: dict[str, str],
    extra: object,
) -> None:
    """Writes a frame and a memory.

    Args:
        path: of the .safetensors file.
        state: the current frame.
        memory: what is remembered.
        identity: what they belong to; `load` asks for the same.
        engines: of the CPU kernels, by kind of read, which the video is to keep.
        extra: anything that JSON can hold.

    Raises:
        OSError: the file cannot be written; one that was there before stays.
    """
    remembered, rest = memory.state()
    tensors = {_MEMORY + name: part for name, part in remembered.items()}
    tensors |= {_FRAME + name: getattr(state, name) for name in ("frame", "inner", "outer")}
    if state.inner is state.outer:
        del tensors[_FRAME + "outer"]
    frame = {
        "index": state.index,
        "outer": list(state.geometry.outer),
        "inner": list(state.geometry.inner),
        "padding": list(state.geometry.padding),
        "objects": list(state.objects),
        "annotated": sorted(state.annotated),
        "placed": sorted(state.placed),
        "chosen": state.chosen,
    }
    metadata = {"format": _FORMAT, "identity": identity, "frame": frame, "memory": rest, "extra": extra}
    texts = {name: json.dumps(part) for name, part in (metadata | {"engines": engines}).items()}
    with atomic_path(path) as partial:
        try:
            write_tensors(partial, tensors, texts | {_DIGEST: _digest(texts, tensors)})
        except (RuntimeError, MemoryError) as error:
            # Pieces of a memory on a GPU that is full have no room to be brought into order.
            reason = next(iter(str(error).splitlines()), os.strerror(errno.ENOMEM))
            raise OSError(errno.ENOMEM, reason, str(path)) from error


def load(path: str | Path, identity: dict[str, str], device: torch.device) -> RunState:
    """Reads what `save` wrote.

    Args:
        path: of the file.
        identity: what the state must belong to.
        device: where the frame goes.

    Raises:
        RunStateError: the file is missing or damaged, or belongs to something else.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise RunStateError(f"{path} does not exist: a file written by Segmenter.save is needed")
    try:
        with safe_open(path, "pt") as file:
            texts = file.metadata() or {}
            digest = texts.pop(_DIGEST, "")
            if texts.get("format") != json.dumps(_FORMAT):
                raise RunStateError(f"{path} was not written by Segmenter.save of this version")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if digest != _digest(texts, tensors):
                raise ValueError("its parts are not those that were saved")
            metadata = {name: json.loads(text) for name, text in texts.items()}
            _check_same(path, metadata["identity"], identity)
    except (SafetensorError, ValueError, OSError) as error:
        raise RunStateError(f"{path} is damaged ({error}) and cannot be resumed") from error
    memory = {name.removeprefix(_MEMORY): part for name, part in tensors.items() if name.startswith(_MEMORY)}
    frame = {name: part.to(device) for name, part in tensors.items() if name.startswith(_FRAME)}
    state = _frame(frame, metadata["frame"])
    return RunState(state, memory, metadata["memory"], metadata.get("engines", {}), metadata["extra"])


def _digest(texts: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """Of everything but the numbers in the tensors."""
    listed = [f"{name} {part.dtype} {tuple(part.shape)}" for name, part in sorted(tensors.items())]
    digest = hashlib.sha256("\n".join([*(f"{name} {text}" for name, text in sorted(texts.items())), *listed]).encode())
    return digest.hexdigest()[:16]


def _check_same(path: str | Path, saved: dict[str, str], identity: dict[str, str]) -> None:
    for name in identity | saved:
        if saved.get(name) != identity.get(name):
            raise RunStateError(
                f"{path} was saved with {name} {saved.get(name)}, this segmenter has {identity.get(name)}"
            )


def executed(engines: dict[str, str], path: str | Path) -> dict[str, str]:
    """Those of the engines saved in a file that this machine executes; a notice tells of others."""
    missing = cpu_engines.missing(engines)
    if missing:
        notice(
            f"{path} was saved where the memory was read by {', '.join(missing)}, which this machine does not execute: "
            "masks from here on may differ slightly from those of an uninterrupted run"
        )
    return {kind: engine for kind, engine in engines.items() if engine not in missing}


def fingerprint(model: nn.Module) -> str:
    """A name for a model's weights and their dtype."""
    digest = hashlib.sha256()
    for name, part in sorted(model.state_dict().items()):
        digest.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
        digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _frame(tensors: dict[str, Tensor], rest: dict[str, Any]) -> FrameState:
    inner = tensors[_FRAME + "inner"]
    sizes = (tuple(rest[name]) for name in ("outer", "inner", "padding"))
    return FrameState(
        index=rest["index"],
        geometry=Geometry(*sizes),
        frame=tensors[_FRAME + "frame"].contiguous(memory_format=torch.channels_last),
        inner=inner,
        outer=tensors.get(_FRAME + "outer", inner),
        objects=tuple(rest["objects"]),
        annotated=frozenset(rest["annotated"]),
        placed=frozenset(rest["placed"]),
        chosen=rest["chosen"],
    )
