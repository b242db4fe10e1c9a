"""Exported torch programs find what the network finds."""

from pathlib import Path

import pytest
import torch

from stm_fast import memory_read
from stm_fast.models.aggregation import aggregate, other_masks
from stm_fast.models.stm import STM, Guide
from stm_fast.runtimes.programs import FACTS, export_programs
from tests.runtimes.conftest import scene


@pytest.fixture(scope="session")
def folder(network: STM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs") / "torch"
    export_programs(network, folder)
    return folder


@pytest.mark.parametrize(("rows", "columns", "frames", "objects"), [(3, 7, 1, 1), (6, 4, 4, 3)])
def test_a_saved_step_is_that_of_the_network(
    network: STM, folder: Path, rows: int, columns: int, frames: int, objects: int
) -> None:
    programs = {path.stem: torch.export.load(path).module() for path in folder.glob("*.pt2")}
    memory, expected_memory = [], []
    for index in range(frames):
        frame, masks = scene(rows, columns, objects, seed=index)
        with torch.no_grad():
            key, value, *_ = programs["encode_query"](frame)
            if network.shares_keys:
                memory.append((key, programs["encode_memory"](value, masks)))
            else:
                memory.append(programs["encode_memory"](frame, masks))
            expected_memory.append(network.encode_memory(frame, masks, other_masks(masks)))
    keys, values = (torch.stack(grids, 2) for grids in zip(*memory, strict=True))
    expected_keys, expected_values = (torch.stack(grids, 2) for grids in zip(*expected_memory, strict=True))
    frame, masks = scene(rows, columns, objects, seed=frames)
    for name in [name for name in programs if name.startswith("step")]:
        guide = None
        with torch.no_grad():
            if network.guided and name == "step":
                guide = Guide(masks, other_masks(masks), network.encode_query(frame.flip(3)).value)
            given = () if guide is None else (guide.masks, guide.value)
            found, key, value = programs[name](frame, keys, values, *given)
            query = network.encode_query(frame)
            queries = query.key.expand(objects, -1, -1, -1)
            readout = memory_read(queries, expected_keys, expected_values, top_k=network.card.top_k)
            logits = aggregate(network.decode(readout, query, guide))
        torch.testing.assert_close(found, torch.softmax(logits, 0), rtol=0, atol=1e-4)
        torch.testing.assert_close((key, value), (query.key, query.value), rtol=1e-3, atol=1e-4)


def test_the_read_stays_fused(folder: Path) -> None:
    step = torch.export.load(folder / "step.pt2")
    assert any(str(node.target).startswith("stm_fast.") for node in step.graph.nodes)


def test_programs_carry_the_facts(network: STM, folder: Path) -> None:
    extra = {FACTS: ""}
    torch.export.load(folder / "step.pt2", extra_files=extra)
    assert f'"stm_fast.guided": "{str(network.guided).lower()}"' in extra[FACTS]
