"""The real Cutie, from PyPI, with and without the fused read."""

import warnings

import pytest
import torch

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
    [({}, 30), (LONG_TERM, 30), ({"top_k": None}, 6), ({"flip_aug": True, "chunk_size": 1}, 6)],
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
        again = segment(core(**options), frames, **size)
    masks, expected_masks = result.argmax(1), expected.argmax(1)
    assert all((expected_masks == found).any() for found in range(4))
    assert (masks == expected_masks).float().mean() >= 0.9999
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)
    assert torch.equal(again, expected)


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
