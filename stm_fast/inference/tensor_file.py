"""Tensors in a .safetensors file with a checksum, written without another copy of them.

The format's own writer takes only tensors that are contiguous and on the CPU. A memory is seldom either, and may fill
most of the room that there is.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_PIECE_BYTES = 16 * 2**20
_ALIGNMENT = 8
_LENGTH_BYTES = 8
_CHECKSUM = "checksum"
_NO_CHECKSUM = "0" * 8
"""Takes the place of the checksum in the header that the checksum is computed of."""


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file that `read_tensors` and `safetensors.safe_open` read, piece by piece.

    Args:
        path: of the file.
        tensors: by name, on any device and with any strides; of the dtypes that torch and the format share.
        metadata: texts by name, none of which is "checksum".

    Raises:
        OSError: the file cannot be written.
    """
    # The largest elements first: all are aligned then, as readers that map the file want it.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    entries: dict[str, object] = {}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        entries[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    header = _header(entries, metadata, _NO_CHECKSUM)
    checksum = zlib.crc32(header)
    with Path(path).open("wb") as file:
        file.write(len(header).to_bytes(_LENGTH_BYTES, "little") + header)
        for _, tensor in ordered:
            for piece in _pieces(tensor.detach()):
                content = piece.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
                checksum = zlib.crc32(content, checksum)
                file.write(content)
        file.seek(_LENGTH_BYTES)
        file.write(_header(entries, metadata, f"{checksum:08x}"))


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the texts of a file, without the checksum.

    Raises:
        ValueError: the file is not a .safetensors file, or is cut off.
        OSError: it cannot be read.
    """
    with _open(path) as file:
        metadata = dict(file.metadata() or {})
    metadata.pop(_CHECKSUM, None)
    return metadata


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a file that `write_tensors` wrote, once its checksum is found to be right.

    Returns:
        Tensors by name, on the CPU. They are mapped: they lie in the file until they are used.

    Raises:
        ValueError: something in the file is not what was written.
        OSError: it cannot be read.
    """
    with _open(path) as file:
        stated = (file.metadata() or {}).get(_CHECKSUM, "")
        if _checksum(path, stated) != stated:
            raise ValueError("its checksum is not that of its content")
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _open(path: str | Path) -> Iterator[Any]:
    """Return a context with the open file; what safetensors finds wrong with it is a ValueError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _header(entries: Mapping[str, object], metadata: Mapping[str, str], checksum: str) -> bytes:
    """Return the header of a file; its length does not depend on the checksum."""
    encoded = json.dumps({"__metadata__": {_CHECKSUM: checksum, **metadata}, **entries}).encode()
    return encoded + b" " * (-len(encoded) % _ALIGNMENT)


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Yield views of a tensor, one after the other and none of them large."""
    if tensor.nbytes <= _PIECE_BYTES:
        yield tensor
        return
    rows = _PIECE_BYTES // tensor[0].nbytes
    for piece in torch.split(tensor, max(1, rows)):
        yield from [piece] if rows else _pieces(piece[0])


def _checksum(path: str | Path, stated: str) -> str:
    """Return the checksum of a file's content, without the one that it states, which comes first in its header."""
    with Path(path).open("rb") as file:
        header = file.read(int.from_bytes(file.read(_LENGTH_BYTES), "little"))
        checksum = zlib.crc32(header.replace(stated.encode(), _NO_CHECKSUM.encode(), 1))
        while piece := file.read(_PIECE_BYTES):
            checksum = zlib.crc32(piece, checksum)
    return f"{checksum:08x}"
