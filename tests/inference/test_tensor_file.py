"""Tensors written piece by piece, as safetensors reads them."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from stm_fast.inference import tensor_file
from stm_fast.inference.tensor_file import read_metadata, read_tensors, write_tensors


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
    found = read_tensors(tmp_path / "file.safetensors")
    assert read_metadata(tmp_path / "file.safetensors") == {"note": "\u00e4 b"}
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


def test_safetensors_reads_it(tmp_path: Path) -> None:
    tensor = torch.randn(3, 4)
    write_tensors(tmp_path / "file.safetensors", {"one": tensor}, {})
    with safe_open(tmp_path / "file.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("one"), tensor)


def test_a_file_with_any_other_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"numbers": torch.randn(5, 7), "ids": torch.arange(9)}, {"note": "text"})
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"."):
            read_tensors(path)
    path.write_bytes(whole)
    assert torch.equal(read_tensors(path)["ids"], torch.arange(9))


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"numbers": torch.randn(5, 7)}, {"note": "text"})
    path.write_bytes(path.read_bytes()[:cut])
    for read in (read_metadata, read_tensors):
        with pytest.raises(ValueError, match=r"."):
            read(path)
