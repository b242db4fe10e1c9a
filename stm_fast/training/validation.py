"""Validation: mean J over synthetic clips that training never sees."""

from collections.abc import Iterator

import numpy as np
import torch

from stm_fast.data.synthetic.pool import ClipPool
from stm_fast.models.stm import STM
from stm_fast.training.batches import Batch, collate
from stm_fast.training.losses import hard_iou
from stm_fast.training.rollout import rollout


class Validation:
    """Fixed batches of a pool's whole clips, at their own size."""

    clips_per_batch = 4

    def __init__(self, pool: ClipPool) -> None:
        self.pool = pool

    def __iter__(self) -> Iterator[Batch]:
        for first in range(0, len(self.pool), self.clips_per_batch):
            examples = [self.pool[index] for index in range(first, min(first + self.clips_per_batch, len(self.pool)))]
            yield collate([(np.asarray(clip.frames), np.asarray(clip.masks)) for clip in examples])


@torch.no_grad()
def validate(model: STM, validation: Validation, dtype: torch.dtype = torch.float32) -> float:
    """Return the mean IoU over objects and frames."""
    scores = []
    batch: Batch
    for batch in validation:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = rollout(model, batch)
        scores.append(hard_iou(logits, batch))
    return float(torch.cat(scores).mean())
