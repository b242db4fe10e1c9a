"""Training and inference are two programs over one network, and must agree."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stm_fast import MemoryPolicy, Segmenter
from stm_fast.models.card import ModelCard
from stm_fast.models.compact import compact_stm
from stm_fast.models.compact_two_trunks import two_trunk_stm
from stm_fast.models.stm import STM
from stm_fast.training.batch import Batch, Example, collate
from stm_fast.training.losses import clip_losses
from stm_fast.training.network import Rollout
from stm_fast.training.optimizer import freeze
from stm_fast.training.recipe import Loss
from stm_fast.training.sampling import Sampling
from tests.training.tiny_runs import MovingSquares


def example(objects: int, seed: int = 0, frames: int = 3, size: int = 48) -> Example:
    """A clip with so many squares."""
    source, sampling = MovingSquares(misses=0), Sampling(clips=1, frames=frames, size=size, max_objects=objects)
    rngs = (np.random.default_rng([seed, attempt]) for attempt in range(100))
    found = (source.draw(0, rng, sampling) for rng in rngs)
    return next(drawn for drawn in found if drawn is not None and int(drawn[1][0].max()) == objects)


def rollout(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    logits: torch.Tensor = Rollout(model)(batch.frames, batch.masks, batch.clip, batch.slot)
    return logits


@pytest.mark.parametrize("build", [compact_stm, two_trunk_stm])
def test_rollout_is_what_the_segmenter_does(build: Callable[[], STM]) -> None:
    torch.manual_seed(0)
    model = build().eval()
    model.card = ModelCard()  # holes are filled where masks are drawn by hand
    frames, masks = example(objects=2, frames=4)
    with torch.no_grad():
        logits = rollout(model, collate([(frames, masks)]))[0]
    segmenter = Segmenter(model, policy=MemoryPolicy(every=1))
    segmenter.start(frames[0], masks[0])
    for time in range(1, len(frames)):
        result = segmenter.step(frames[time])
        expected = torch.softmax(logits[time - 1], 0)
        assert torch.allclose(result.probabilities, expected, atol=2e-4)


@pytest.mark.parametrize("build", [compact_stm, two_trunk_stm])
def test_clips_of_a_batch_do_not_mix(build: Callable[[], STM]) -> None:
    torch.manual_seed(0)
    model = build().eval()
    examples = [example(objects=2), example(objects=1, seed=1)]
    with torch.no_grad():
        together = torch.softmax(rollout(model, collate(examples)), 2)
        for clip, each in enumerate(examples):
            alone = torch.softmax(rollout(model, collate([each])), 2)[0]
            assert torch.allclose(together[clip, :, : alone.shape[1]], alone, atol=1e-4)


def test_training_learns_a_clip_by_heart() -> None:
    torch.manual_seed(0)
    model = compact_stm()
    freeze(model, ("batch-norm", "depthwise", "early"))
    batch = collate([example(objects=1, frames=2, size=32)])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 2e-3)
    losses = []
    for step in range(40):
        loss = clip_losses(rollout(model, batch), batch, Loss(hardest=0.2, soft_iou=1.0), step).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
