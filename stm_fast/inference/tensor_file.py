"""Tensors to a .safetensors file without another copy of them.

The format's own writer wants each tensor in one piece and on the CPU. A memory is seldom either, and may fill most of
what there is to hold it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

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


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file that `safetensors.safe_open` reads, piece by piece.

    Args:
        path: of the file.
        tensors: by name, on any device and with any strides; of the dtypes that torch and the format share.
        metadata: texts by name.

    Raises:
        OSError: the file cannot be written.
    """
    # The largest elements first: all are aligned then, as readers that map the file want it.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    with Path(path).open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for _, tensor in ordered:
            for piece in _pieces(tensor.detach()):
                file.write(piece.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Views of a tensor, one after the other and none of them large."""
    if tensor.nbytes <= _PIECE_BYTES:
        yield tensor
        return
    few = _PIECE_BYTES // tensor[0].nbytes
    for piece in torch.split(tensor, max(1, few)):
        yield from [piece] if few else _pieces(piece[0])
