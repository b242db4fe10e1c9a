"""One pass of an STM over a batch."""

from torch import Tensor

from stm_fast.models.stm import STM
from stm_fast.training.batches import Batch
from stm_fast.training.network import Rollout


def rollout(model: STM, batch: Batch) -> Tensor:
    """Segment frames 1..T-1 of every clip, see `Rollout`."""
    logits: Tensor = Rollout(model)(batch.frames, batch.masks, batch.clip, batch.slot)
    return logits
