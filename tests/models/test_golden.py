"""Our STM is the original STM: equal to its outputs on seeded weights, through the public streaming interface.

tests/golden/README.md says what the files are.
"""

import copy

import pytest
import torch
from torch import Tensor

from stm_fast import MemoryPolicy, Segmenter
from stm_fast.models.stm import STM


@pytest.fixture(scope="module")
def run(official_model: STM, golden: dict[str, Tensor]) -> dict[str, Tensor]:
    segmenter = Segmenter(official_model, policy=MemoryPolicy(every=int(golden["memory_every"])))
    results = [segmenter.start(golden["frames"][0], golden["first_mask"])]
    for frame in golden["frames"][1:]:
        results.append(segmenter.step(frame))
        if len(results) == 2:
            (group,) = segmenter.memory.groups
            first = group.tokens_of(group.frames.index(0))
            first_key, first_value = (part.unflatten(2, group.grid).clone() for part in (first.keys, first.values))
    return {
        "memory_key_0": first_key,
        "memory_value_0": first_value,
        "logits": torch.stack([result.logits for result in results[1:]]),
        "probabilities": torch.stack([result.probabilities for result in results]),
    }


@pytest.mark.parametrize("name", ["memory_key_0", "memory_value_0", "logits", "probabilities"])
def test_streaming_equals_the_original(run: dict[str, Tensor], golden: dict[str, Tensor], name: str) -> None:
    torch.testing.assert_close(run[name], golden[name], rtol=0, atol=1e-4)


def test_query_equals_the_original(official_model: STM, golden: dict[str, Tensor]) -> None:
    padded = torch.nn.functional.pad(golden["frames"][1:2], (4, 4, 4, 4))
    with torch.no_grad():
        query = official_model.encode_query(padded)
    torch.testing.assert_close(query.key[0], golden["query_key_1"], rtol=0, atol=1e-4)
    torch.testing.assert_close(query.value[0], golden["query_value_1"], rtol=0, atol=1e-4)


def test_bfloat16_stays_close(official_model: STM, golden: dict[str, Tensor], run: dict[str, Tensor]) -> None:
    segmenter = Segmenter(copy.deepcopy(official_model).to(torch.bfloat16))
    segmenter.start(golden["frames"][0], golden["first_mask"])
    result = segmenter.step(golden["frames"][1])
    assert segmenter.memory.groups[0].keys.dtype == torch.bfloat16
    assert result.probabilities.dtype == torch.float32
    torch.testing.assert_close(result.probabilities, run["probabilities"][1], rtol=0, atol=0.05)
