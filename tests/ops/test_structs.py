"""The structs that Python hands to the compiled libraries are those of the C++ headers."""

import ctypes
import re
from pathlib import Path

import pytest

from stm_fast.ops import compiled
from stm_fast.ops.compiled import structs

CSRC = Path(__file__).parents[2] / "csrc"
MIRRORS = {
    "Vector": structs.Vector,
    "Matrix": structs.Matrix,
    "ObjectMatrix": structs.ObjectMatrix,
    "Sizes": structs.Sizes,
    "Scores": structs.Scores,
    "Forward": structs.Forward,
    "Usage": structs.Usage,
    "TopK": structs.TopK,
    "Gradients": structs.GradientsStruct,
    "Backward": structs.Backward,
    "TopKBackward": structs.TopKBackward,
    "Machine": structs.MachineStruct,
    "SortedChoices": structs.ChoicesStruct,
}
TYPES = {"int64_t": ctypes.c_int64, "int": ctypes.c_int, "Dtype": ctypes.c_int, "float": ctypes.c_float}
TYPES |= {"std::size_t": ctypes.c_size_t}


def fields(name: str) -> list[tuple[str, type]]:
    """Names and types of a struct's fields, read from the headers."""
    text = (CSRC / "include/stm_fast/read.h").read_text() + (CSRC / "cuda/ops.h").read_text()
    (body,) = re.findall(rf"^struct {name} {{\n(.*?)^}};", text, re.DOTALL | re.MULTILINE)
    found = re.findall(r"^  (?:const )?([\w:]+)(\*?) (\w+)(?: = [^;(]+)?;", body, re.MULTILINE)
    return [(field, ctypes.c_void_p if star else TYPES.get(kind) or MIRRORS[kind]) for kind, star, field in found]


@pytest.mark.parametrize("name", MIRRORS)
def test_fields_stand_in_the_same_order(name: str) -> None:
    found = fields(name)
    assert found
    assert found == list(MIRRORS[name]._fields_)


def test_dtypes_have_the_same_numbers() -> None:
    (names,) = re.findall(r"enum class Dtype : int {([^}]*)}", (CSRC / "include/stm_fast/read.h").read_text())
    order = [f"torch.{name.strip().removeprefix('k').lower()}" for name in names.split(",")]
    assert {str(dtype): number for dtype, number in structs.DTYPES.items()} == {
        name: number for number, name in enumerate(order)
    }


def test_a_library_with_other_structs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Longer(ctypes.Structure):
        _fields_ = (*structs.Forward._fields_, ("more", ctypes.c_int64))

    monkeypatch.setattr(structs, "STRUCTS", (Longer, *structs.STRUCTS[1:]))
    with pytest.raises(compiled.BuildError, match="built for another version"):
        compiled._declare(compiled.library("cpu"), "cpu")
