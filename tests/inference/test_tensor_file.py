"""Tensors written piece by piece, as safetensors reads them."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from stm_fast.inference import tensor_file
from stm_fast.inference.tensor_file import write_tensors


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize("piece_bytes", [40, 1000, tensor_file._PIECE_BYTES])
def test_what_is_read_is_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int) -> None:
    """Of any layout and dtype, odd sizes of small elements before large ones included."""
    monkeypatch.setattr(tensor_file, "_PIECE_BYTES", piece_bytes)
    block = torch.randn(3, 5, 40)
    tensors = {
        "odd": torch.arange(-3, 4, dtype=torch.int8),
        "within a block": block[..., 7:31],
        "turned": block.permute(2, 0, 1)[::2],
        "expanded": torch.randn(4, 1).expand(4, 9),
        "one number": torch.tensor(2.5, dtype=torch.float64),
        "none": torch.empty(2, 0),
        "flags": torch.tensor([True, False, True]),
        "short": torch.randn(4, 30).bfloat16().mT,
        "ids": torch.arange(100),
    }
    write_tensors(tmp_path / "file.safetensors", tensors, {"note": "\u00e4 b"})
    found, metadata = read(tmp_path / "file.safetensors")
    assert metadata == {"note": "\u00e4 b"}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_pieces_are_small_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_file, "_PIECE_BYTES", 64)
    block = torch.randn(3, 5, 40)[..., 1:38]
    pieces = list(tensor_file._pieces(block))
    assert max(piece.nbytes for piece in pieces) <= 64
    assert all(piece.untyped_storage().data_ptr() == block.untyped_storage().data_ptr() for piece in pieces)
    assert torch.equal(torch.cat([piece.flatten() for piece in pieces]), block.flatten())
