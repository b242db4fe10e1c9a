"""Videos through the compact network, whose keys all objects share and whose decoder sees the masks before."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stm_fast import Segmenter
from stm_fast.memory import presets
from stm_fast.models.compact import QUERY_PARTS, compact_stm
from stm_fast.models.stm import STM

SIZE = (48, 64)


@pytest.fixture(scope="module")
def model() -> STM:
    torch.manual_seed(0)
    return compact_stm().eval()


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (14, *SIZE, 3), np.uint8)


def mask(objects: int) -> NDArray[np.uint8]:
    ids = np.zeros(SIZE, np.uint8)
    for number in range(objects):
        ids[8:40, 4 + 16 * number : 18 + 16 * number] = number + 1
    return ids


def test_a_frame_passes_the_trunk_once(model: STM, frames: NDArray[np.uint8]) -> None:
    segmenter = Segmenter(model)
    seen = []
    encode = segmenter.model.query_encoder.forward
    segmenter.model.query_encoder.forward = lambda frame: seen.append(segmenter.frame_index) or encode(frame)
    segmenter.start(frames[0], mask(2))
    for frame in frames[1:5]:
        segmenter.step(frame)
    # Frame 0 was given, and is encoded when it is memorised.
    assert len(seen) == 5


def test_all_objects_share_one_affinity(model: STM, frames: NDArray[np.uint8]) -> None:
    segmenter = Segmenter(model, policy=presets.auto())
    segmenter.start(frames[0], mask(3))
    segmenter.step(frames[1])
    segmenter.annotate(np.where(mask(4) == 4, 4, 0).astype(np.uint8))
    segmenter.step(frames[2])
    assert [group.objects for group in segmenter.memory.groups] == [3, 1]
    assert [group.keys.shape[0] for group in segmenter.memory.groups] == [1, 1]


def test_other_objects_matter_by_their_masks_alone(model: STM, frames: NDArray[np.uint8]) -> None:
    """An object that joined later has a group of its own, and is found as if it had been there alone from then on."""
    late = Segmenter(model, top_k=None)
    late.start(frames[0], mask(1))
    late.annotate(np.where(mask(2) == 2, 2, 0).astype(np.uint8))
    both = Segmenter(model, top_k=None)
    both.start(frames[0], mask(2))
    for frame in frames[1:4]:
        torch.testing.assert_close(late.step(frame).probabilities, both.step(frame).probabilities, rtol=0, atol=1e-4)


@pytest.mark.parametrize("policy", ["official", "long_term"])
def test_resuming_gives_the_same_bits(model: STM, frames: NDArray[np.uint8], tmp_path: Path, policy: str) -> None:
    def begun() -> Segmenter:
        few = {"frames": 4} if policy == "long_term" else {}
        return Segmenter(model, policy=getattr(presets, policy)(every=1, **few))

    segmenter = begun()
    segmenter.start(frames[0], mask(2))
    for frame in frames[1:7]:
        segmenter.step(frame)
    segmenter.save(tmp_path / "state.safetensors")
    resumed = begun()
    resumed.restore(tmp_path / "state.safetensors")
    for frame in frames[7:]:
        assert torch.equal(segmenter.step(frame).logits, resumed.step(frame).logits)


def test_masks_of_the_frame_before_guide_only_where_the_network_found_them(
    model: STM, frames: NDArray[np.uint8]
) -> None:
    segmenter = Segmenter(model)
    guides = []
    decide = segmenter.model.decoder.forward
    segmenter.model.decoder.forward = lambda *inputs: guides.append(inputs[-1]) or decide(*inputs)
    segmenter.start(frames[0], mask(2))
    segmenter.step(frames[1])
    assert guides[-1] is None
    segmenter.step(frames[2])
    assert guides[-1] is not None
    segmenter.annotate(mask(1), objects=[1])
    segmenter.step(frames[3])
    own, others, value = guides[-1]
    assert own.shape == (2, 1, *SIZE)
    assert value.shape == (1, sum(QUERY_PARTS), SIZE[0] // 16, SIZE[1] // 16)
    assert torch.equal(own[0, 0], torch.from_numpy(mask(1)).float())
    assert torch.equal(others[1, 0], own[0, 0])
    segmenter.annotate(mask(2))
    segmenter.step(frames[4])
    assert guides[-1] is None
    referring = Segmenter(model)
    guides.clear()
    decide = referring.model.decoder.forward
    referring.model.decoder.forward = lambda *inputs: guides.append(inputs[-1]) or decide(*inputs)
    referring.start(frames[0], references=[(frames[1], mask(1))])
    assert guides == [None]
    referring.step(frames[2])
    assert guides[-1] is not None


def test_top_k_is_the_models_where_the_memory_is_read_whole(model: STM) -> None:
    assert model.card.top_k is not None
    assert Segmenter(model).top_k == model.card.top_k
    assert Segmenter(model, value_dtype=torch.int8).top_k is None
    assert Segmenter(model, top_k=None).top_k is None
    assert Segmenter(model, top_k=7).top_k == 7
