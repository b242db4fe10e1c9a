"""Every kind of read in ONNX is the read of this package."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from stm_fast.ops import memory_read
from stm_fast.runtimes.onnx_read import OPSET, translations
from tests.ops.cases import make_case

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class Reader(torch.nn.Module):
    def __init__(self, options: dict[str, object]) -> None:
        super().__init__()
        self.options = options

    def forward(self, query_key: Tensor, memory_key: Tensor, memory_value: Tensor) -> tuple[Tensor, Tensor]:
        read = memory_read(query_key, memory_key, memory_value, return_lse=True, **self.options)
        return read.value, read.lse


@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("kind", ["dot", "shared", "xmem", "masked"])
def test_onnxruntime_reads_as_torch_does(kind: str, top_k: int | None, tmp_path: Path) -> None:
    case = make_case(kind)
    options = {**case.options, "top_k": top_k}
    if kind == "masked":
        # A memory that is masked away as a whole has no softmax in ONNX.
        options["memory_mask"] = options["memory_mask"] | (torch.arange(30) < 2).view(1, 2, 3, 5)
    reader = Reader(options).eval()
    program = torch.onnx.export(
        reader,
        tuple(case.tensors[:3]),
        opset_version=OPSET,
        custom_translation_table=translations(),
        verbose=False,
    )
    program.save(tmp_path / "read.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "read.onnx")
    assert {node.domain for node in program.model_proto.graph.node} == {""}
    inputs = [tensor.numpy() for tensor in case.tensors[:3]]
    found = session.run(None, dict(zip([each.name for each in session.get_inputs()], inputs, strict=True)))
    for got, expected in zip(found, reader(*case.tensors[:3]), strict=True):
        torch.testing.assert_close(torch.from_numpy(got), expected, rtol=1e-5, atol=1e-5)


def test_a_memory_shorter_than_top_k_is_read_whole(tmp_path: Path) -> None:
    tokens = Dim("tokens", min=1, max=1 << 20)
    reader = Reader({"top_k": 8}).eval()
    query, key, value = torch.randn(1, 4, 5), torch.randn(1, 4, 12), torch.randn(1, 3, 12)
    program = torch.onnx.export(
        reader,
        (query, key, value),
        dynamic_shapes=(None, {2: tokens}, {2: tokens}),
        opset_version=OPSET,
        custom_translation_table=translations(),
        verbose=False,
    )
    program.save(tmp_path / "read.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "read.onnx")
    names = [each.name for each in session.get_inputs()]
    for length in (1, 7, 8, 40):
        part = (query, torch.randn(1, 4, length), torch.randn(1, 3, length))
        found = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, part, strict=True)})
        torch.testing.assert_close(torch.from_numpy(found[0]), reader(*part)[0], rtol=1e-5, atol=1e-5)
