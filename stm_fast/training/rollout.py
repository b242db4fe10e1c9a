"""One pass of an STM over a batch of clips in training (STM paper, section 3.5)."""

import torch
from torch import Tensor

from stm_fast.models.aggregation import aggregate
from stm_fast.models.stm import STM
from stm_fast.ops import memory_read
from stm_fast.training.batches import Batch


def rollout(model: STM, batch: Batch) -> Tensor:
    """Segment frames 1..T-1 of every clip from the true masks of frame 0.

    Every frame is memorised with the soft probabilities predicted for it, so that training sees how errors propagate.

    Returns:
        Aggregated logits `(B, T-1, 1+K, S, S)` float32 over background and objects. Slots that a clip does not use have
        probability zero.
    """
    clips, frames = batch.frames.shape[:2]
    later = batch.frames[:, 1:].flatten(0, 1).contiguous(memory_format=torch.channels_last)
    queries = model.encode_query(later)
    keys, values, logits = [], [], []
    masks = batch.object_masks(0)
    for time in range(1, frames):
        key, value = _memorise(model, batch, time - 1, masks)
        keys.append(key)
        values.append(value)
        query = queries.select(batch.clip * (frames - 1) + time - 1)
        readout = memory_read(query.key, torch.stack(keys, 2), torch.stack(values, 2))
        probabilities = _by_clip(model.decode(readout, query), batch, clips)
        logits.append(aggregate(probabilities, dim=1))
        masks = torch.softmax(logits[-1], 1)[batch.clip, batch.slot + 1]
    return torch.stack(logits, 1)


def _memorise(model: STM, batch: Batch, time: int, masks: Tensor) -> tuple[Tensor, Tensor]:
    frames = batch.frames[batch.clip, time].contiguous(memory_format=torch.channels_last)
    total = _by_clip(masks, batch, len(batch.frames)).sum(1)
    others = (total[batch.clip] - masks).clamp(0, 1)
    return model.encode_memory(frames, masks[:, None], others[:, None])


def _by_clip(values: Tensor, batch: Batch, clips: int) -> Tensor:
    """Sort objects `(N, S, S)` into clips and slots `(B, K, S, S)`, zero where a clip has no such object."""
    slots = values.new_zeros(clips, batch.slots, *values.shape[1:])
    return slots.index_put((batch.clip, batch.slot), values)
