"""The read equals what STCN, XMem and AOT themselves compute."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stm_fast.ops import memory_read

GOLDEN = Path(__file__).parents[1] / "golden"
RELATIVE = 1e-5


@pytest.fixture(scope="module")
def reads() -> dict[str, Tensor]:
    with np.load(GOLDEN / "reads.npz") as file:
        return {name: torch.from_numpy(array) for name, array in file.items()}


def seeded(name: str, *shape: int) -> Tensor:
    spec = importlib.util.spec_from_file_location("seeded", GOLDEN / "seeded.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return torch.from_numpy(module.seeded_tensor(f"aot.{name}", shape))


def assert_equal(result: Tensor, golden: Tensor) -> None:
    assert (result - golden).abs().max() <= RELATIVE * golden.abs().max()


@pytest.mark.usefixtures("engine")
def test_stcn_top_k_read_shares_one_affinity_among_objects(reads: dict[str, Tensor]) -> None:
    result = memory_read(
        reads["query_key"], reads["memory_key"], reads["memory_value"][None], similarity="l2", top_k=20
    )
    assert_equal(result[0], reads["stcn_topk20"])


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("top_k", "name"), [(None, "xmem_dense"), (30, "xmem_topk30")])
def test_xmem_readout_and_usage(reads: dict[str, Tensor], top_k: int | None, name: str) -> None:
    result = memory_read(
        reads["query_key"],
        reads["memory_key"],
        reads["memory_value"][:1],
        similarity="l2",
        shrinkage=reads["xmem_shrinkage"],
        selection=reads["xmem_selection"],
        top_k=top_k,
        return_usage=True,
    )
    assert_equal(result.value, reads[f"{name}_readout"])
    assert_equal(result.usage, reads[f"{name}_usage"])


def test_xmem_similarity(reads: dict[str, Tensor]) -> None:
    """A memory of one token has the score as its lse."""
    similarity = torch.cat(
        [
            memory_read(
                reads["query_key"],
                reads["memory_key"][..., [token]],
                reads["memory_value"][:1, :, [token]],
                similarity="l2",
                shrinkage=reads["xmem_shrinkage"][..., [token]],
                selection=reads["xmem_selection"],
                return_lse=True,
            ).lse
            for token in range(0, 210, 19)
        ]
    )
    assert_equal(similarity, reads["xmem_similarity"][0, ::19])


def test_aot_reads_with_heads_as_a_batch(reads: dict[str, Tensor]) -> None:
    query, key, value = (reads[f"aot_{name}"].view(-1, 2 * 8, 32).permute(1, 2, 0) for name in "qkv")
    out = memory_read(query, key, value).permute(2, 0, 1).reshape(42, 2, 256)
    weight, bias = seeded("projection.weight", 256, 256), seeded("projection.bias", 256)
    assert_equal(torch.nn.functional.linear(out, weight, bias), reads["aot_out"])
