"""The real Cutie, from PyPI, with and without the fused read."""

import warnings
from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

pytest.importorskip("cutie", reason="rf-cutie is not installed")

from stm_fast.integrations import patched
from stm_fast.integrations.affinity import FusedAffinity
from tests.integrations.cutie_clip import core, segment

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.cuda.amp.autocast:FutureWarning")

LONG_TERM = {
    "use_long_term": True,
    "long_term": {
        "count_usage": True,
        "max_mem_frames": 4,
        "min_mem_frames": 2,
        "num_prototypes": 16,
        "max_num_tokens": 120,
        "buffer_tokens": 20,
    },
}


@pytest.mark.parametrize(
    ("options", "frames"),
    [({}, 20), (LONG_TERM, 30), ({"top_k": None}, 6), ({"flip_aug": True, "chunk_size": 1}, 6)],
    ids=["top-k", "long-term", "dense", "flipped, in chunks"],
)
def test_masks_are_equal(options: dict[str, object], frames: int) -> None:
    size = {"height": 64, "width": 96}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = segment(core(**options), frames, **size)
        processor = core(**options)
        with patched(processor):
            result = segment(processor, frames, **size)
        again = segment(core(**options), 3, **size)
    masks, expected_masks = result.argmax(1), expected.argmax(1)
    assert all((expected_masks == found).any() for found in range(4))
    assert (masks == expected_masks).float().mean() >= 0.9999
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)
    assert torch.equal(again, expected[:3])


def test_more_best_tokens_than_there_are_read_all_of_them() -> None:
    size = {"height": 64, "width": 96}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = segment(core(top_k=None), 4, **size)
        processor = core(top_k=1000)
        with patched(processor):
            result = segment(processor, 4, **size)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)


class Sizes(TorchDispatchMode):
    """The numbers of elements of all tensors that are made."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.seen |= {leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        return result


def test_no_tensor_has_the_size_of_the_matrix() -> None:
    """In all that Cutie computes; without us there is one for each frame."""
    tokens = (80 // 16) * (112 // 16)  # a frame's, 35: no other size of the network is a multiple of 35²
    matrices = {tokens * tokens * frames for frames in range(1, 4)}
    for fused in (False, True):
        processor = core(mem_every=1)
        with warnings.catch_warnings(), patched(processor) if fused else nullcontext(), Sizes() as sizes:
            warnings.simplefilter("ignore")
            segment(processor, 4, height=80, width=112)
        assert bool(sizes.seen & matrices) != fused


def test_what_the_memory_reads_with_is_never_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    processor, seen = core(), []
    monkeypatch.setattr(
        type(processor.memory),
        "_readout",
        lambda self, affinity, values: seen.append(affinity) or _read(affinity, values),
    )
    with warnings.catch_warnings(), patched(processor):
        warnings.simplefilter("ignore")
        segment(processor, 3, height=64, width=96)
    assert seen
    assert all(isinstance(affinity, FusedAffinity) for affinity in seen)


def _read(affinity: FusedAffinity, values: torch.Tensor) -> torch.Tensor:
    return (values.flatten(1, 2) @ affinity).view(*values.shape[:3], -1)
