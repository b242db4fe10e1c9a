"""Exported ONNX models find in onnxruntime what the network finds in torch."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stm_fast import memory_read
from stm_fast.errors import OutputError
from stm_fast.models.aggregation import aggregate, other_masks
from stm_fast.models.stm import STM, Guide
from stm_fast.runtimes.onnx_files import export_onnx
from tests.runtimes.conftest import scene

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SIZES = [(4, 5, 1, 1), (3, 7, 4, 3), (9, 6, 2, 2)]
"""Rows and columns of the grid, frames in memory, objects. An odd number of rows or columns is odd at stride 32."""


class Models:
    """The models of a folder."""

    def __init__(self, folder: Path) -> None:
        self.sessions = {path.stem: onnxruntime.InferenceSession(path) for path in folder.glob("*.onnx")}

    def run(self, name: str, **tensors: Tensor) -> dict[str, Tensor]:
        session = self.sessions[name]
        inputs = {each.name: tensors[each.name].contiguous().numpy() for each in session.get_inputs()}
        outputs = [each.name for each in session.get_outputs()]
        return {key: torch.from_numpy(found) for key, found in zip(outputs, session.run(None, inputs), strict=True)}


@pytest.fixture(scope="session")
def folder(network: STM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "onnx"
    export_onnx(network, folder)
    return folder


@pytest.mark.parametrize(("rows", "columns", "frames", "objects"), SIZES)
def test_probabilities_are_equal(
    network: STM, folder: Path, rows: int, columns: int, frames: int, objects: int
) -> None:
    models = Models(folder)
    memory, expected_memory = [], []
    for index in range(frames):
        frame, masks = scene(rows, columns, objects, seed=index)
        query = models.run("encode_query", frame=frame)
        found = models.run("encode_memory", frame=frame, query_value=query["query_value"], masks=masks)
        memory.append((found.get("memory_key", query["query_key"]), found["memory_value"]))
        with torch.no_grad():
            expected_memory.append(network.encode_memory(frame, masks, other_masks(masks)))
    keys, values = (torch.stack(grids, 2) for grids in zip(*memory, strict=True))
    expected_keys, expected_values = (torch.stack(grids, 2) for grids in zip(*expected_memory, strict=True))
    frame, masks = scene(rows, columns, objects, seed=frames)
    query = models.run("encode_query", frame=frame)
    readout = models.run("read", query_key=query["query_key"], memory_key=keys, memory_value=values)
    with torch.no_grad():
        expected_query = network.encode_query(frame)
        queries = expected_query.key.expand(objects, -1, -1, -1)
        expected_readout = memory_read(queries, expected_keys, expected_values, top_k=network.card.top_k)
    torch.testing.assert_close(readout["readout"], expected_readout, rtol=1e-3, atol=1e-4)
    for name in [name for name in models.sessions if name.startswith("decode")]:
        guide = None
        if network.guided and name == "decode":
            with torch.no_grad():
                guide = Guide(masks, other_masks(masks), network.encode_query(frame.flip(3)).value)
        given = {} if guide is None else {"previous_masks": guide.masks, "previous_value": guide.value}
        found = models.run(name, **query, **readout, **given)["probabilities"]
        with torch.no_grad():
            logits = aggregate(network.decode(expected_readout, expected_query, guide))
        expected = torch.softmax(logits, 0)
        assert expected.shape == (objects + 1, 16 * rows, 16 * columns)
        assert expected.amax() - expected.amin() > 0.1
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_queries_can_be_read_some_at_a_time(network: STM, folder: Path) -> None:
    models = Models(folder)
    frame, _ = scene(5, 4, 1)
    key = models.run("encode_query", frame=frame)["query_key"]
    memory = {
        name: torch.randn(shape, generator=torch.Generator().manual_seed(0))
        for name, shape in (
            ("memory_key", (1, key.shape[1], 2, 3, 4)),
            ("memory_value", (1, models.sessions["read"].get_inputs()[2].shape[1], 2, 3, 4)),
        )
    }
    whole = models.run("read", query_key=key, **memory)["readout"]
    rows = [models.run("read", query_key=key[:, :, row : row + 1], **memory)["readout"] for row in range(5)]
    torch.testing.assert_close(torch.cat(rows, 2), whole, rtol=1e-5, atol=1e-5)


def test_models_say_what_they_take(network: STM, folder: Path) -> None:
    for path in folder.iterdir():
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert {node.domain for node in model.graph.node} == {""}
        assert not any(node.metadata_props for node in model.graph.node)
        facts = {each.key: each.value for each in model.metadata_props}
        assert facts["stm_fast.stride"] == "16"
        assert facts["stm_fast.top_k"] == ("all" if network.card.top_k is None else str(network.card.top_k))
        assert (facts["stm_fast.guided"], facts["stm_fast.shares_keys"]) == (
            str(network.guided).lower(),
            str(network.shares_keys).lower(),
        )
        for value in (*model.graph.input, *model.graph.output):
            shape = [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]
            if value.name in ("frame", "masks", "probabilities"):
                assert shape[-2:] == ["16*rows", "16*columns"]
                assert shape[0] == {"frame": 1, "masks": "objects", "probabilities": "objects + 1"}[value.name]


def test_only_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    from stm_fast.runtimes.folders import export_folder

    with export_folder(tmp_path / "out", overwrite=False) as partial:
        (partial / "read.onnx").write_text("1")
    with pytest.raises(OutputError, match="overwrite replaces it"), export_folder(tmp_path / "out", overwrite=False):
        pytest.fail("the folder is not empty")
    with export_folder(tmp_path / "out", overwrite=True) as partial:
        (partial / "step.pt2").write_text("2")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["step.pt2"]
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt"), export_folder(tmp_path / "out", overwrite=True):
        pytest.fail("a file of the user is there")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.onnx").write_text("mine")
    with pytest.raises(OutputError, match=r"mine\.onnx"), export_folder(tmp_path / "models", overwrite=True):
        pytest.fail("a model of the user is there")
    with pytest.raises(OutputError, match="name of a folder"), export_folder(".", overwrite=True):
        pytest.fail("the working folder is no export")
