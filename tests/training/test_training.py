"""Training: batches, rollout, loss, and a loop that resumes exactly and learns."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("cv2")

from stm_fast import MemoryPolicy, Segmenter, load_model
from stm_fast.data.synthetic.pool import ClipPool, PoolSpec, make_pool
from stm_fast.models.card import ModelCard
from stm_fast.models.compact import compact_stm
from stm_fast.training.average import WeightAverage
from stm_fast.training.batches import BatchSampler, Sampling, collate
from stm_fast.training.curriculum import Recipe, Round, Stage
from stm_fast.training.loop import Trainer
from stm_fast.training.losses import hard_iou, segmentation_loss, soft_iou_loss
from stm_fast.training.parameters import freeze, schedule
from stm_fast.training.rollout import rollout
from tests.data.pictures import asset_library

TINY = Sampling(clips=2, frames=3, size=48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("training")
    asset_library(root / "assets")
    list(make_pool(root / "assets", root / "pool", PoolSpec(clips=1, frames=4, size=64), workers=1))
    return root / "pool"


@pytest.fixture(scope="module")
def pool(folder: Path) -> ClipPool:
    return ClipPool(folder)


class FewClips(ClipPool):
    """The first clips of a pool: a batch of validation and one that is not full."""

    def __len__(self) -> int:
        return 5


@pytest.fixture(scope="module")
def few(folder: Path) -> ClipPool:
    return FewClips(folder)


def test_batches_depend_on_seed_and_step_alone(pool: ClipPool) -> None:
    first, again, other = (collate(BatchSampler(pool, 3).draw(step, TINY)) for step in (5, 5, 6))
    assert torch.equal(first.frames, again.frames)
    assert torch.equal(first.masks, again.masks)
    assert first.frames.shape != other.frames.shape or not torch.equal(first.frames, other.frames)


def test_every_object_of_a_batch_is_on_its_first_frame(pool: ClipPool) -> None:
    for step in range(10):
        batch = collate(BatchSampler(pool, 0).draw(step, TINY))
        assert batch.frames.shape == (2, 3, 3, 48, 48)
        assert (batch.object_masks(0).sum((1, 2)) > 0).all()
        assert int(batch.masks.max()) <= batch.slots <= TINY.max_objects


def test_rollout_is_what_the_segmenter_does(pool: ClipPool) -> None:
    """Training and inference are two programs over one network: on a clip of one batch they must agree."""
    torch.manual_seed(0)
    model = compact_stm().eval()
    model.card = ModelCard()  # holes are filled where masks are drawn by hand
    clip = next(pool[index] for index in range(len(pool)) if pool[index].objects >= 2)
    batch = collate([(np.asarray(clip.frames), np.asarray(clip.masks))])
    with torch.no_grad():
        logits = rollout(model, batch)[0]
    segmenter = Segmenter(model, policy=MemoryPolicy(every=1))
    segmenter.start(clip.frames[0], clip.masks[0])
    for time in range(1, len(clip.frames)):
        result = segmenter.step(clip.frames[time])
        expected = torch.softmax(logits[time - 1], 0)
        assert torch.allclose(result.probabilities, expected, atol=2e-4)


def test_clips_of_a_batch_do_not_mix(pool: ClipPool) -> None:
    torch.manual_seed(0)
    model = compact_stm().eval()
    batch = collate(BatchSampler(pool, 1).draw(0, TINY))
    examples = []
    for clip in range(2):
        frames = (batch.frames[clip].permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
        examples.append((frames, batch.masks[clip].to(torch.uint8).numpy()))
    with torch.no_grad():
        together = torch.softmax(rollout(model, collate(examples)), 2)
        for clip, example in enumerate(examples):
            alone = torch.softmax(rollout(model, collate([example])), 2)[0]
            assert torch.allclose(together[clip, :, : alone.shape[1]], alone, atol=1e-4)


def test_losses_at_known_values(pool: ClipPool) -> None:
    truth = torch.zeros(2, 8, 8)
    truth[:, :4] = 1
    assert soft_iou_loss(truth, truth).max() < 1e-6
    assert soft_iou_loss(1 - truth, truth).min() > 0.98
    batch = collate(BatchSampler(pool, 0).draw(0, TINY))
    right = torch.nn.functional.one_hot(batch.masks[:, 1:], batch.slots + 1).permute(0, 1, 4, 2, 3).float()
    assert segmentation_loss(40 * right - 20, batch) < 1e-3
    assert segmentation_loss(20 - 40 * right, batch) > 5
    assert torch.equal(hard_iou(right, batch), torch.ones(len(batch.clip)))


def test_schedule_rises_rests_and_falls_to_zero() -> None:
    recipe = Recipe((Round((Stage(50, TINY), Stage(50, TINY)), decay=19),), warmup=10)
    rates = [schedule(step, recipe) for step in range(recipe.steps)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert rates[80:] == sorted(rates[80:], reverse=True)
    assert rates[-1] == pytest.approx(1 / 20)


def test_every_round_has_a_rise_and_a_fall_of_its_own() -> None:
    rounds = Round((Stage(20, TINY),), decay=4), Round((Stage(10, TINY),), decay=1, rate=0.5)
    recipe = Recipe(rounds, warmup=2)
    rates = [schedule(step, recipe) for step in range(recipe.steps)]
    assert rates[:20] == pytest.approx([0.5, *[1.0] * 15, 0.8, 0.6, 0.4, 0.2])
    assert rates[20:] == pytest.approx([0.25, *[0.5] * 8, 0.25])


def test_a_round_ends_halfway_between_where_it_began_and_what_it_came_to(
    pool: ClipPool, few: ClipPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came_to = []
    halve_towards = WeightAverage.halve_towards

    def watched(self: WeightAverage, other: dict[str, torch.Tensor]) -> None:
        came_to.append(self.copy())
        halve_towards(self, other)

    monkeypatch.setattr(WeightAverage, "halve_towards", watched)
    recipe = Recipe(tuple(Round((Stage(2, TINY),), decay=0) for _ in range(3)), warmup=1)
    trainer = Trainer(compact_stm(), "compact", recipe, pool, few, tmp_path, dtype=torch.float32)
    for _ in trainer.run():
        pass
    ends = [load_model(tmp_path / f"round_{number}.safetensors").state_dict() for number in (1, 2, 3)]
    name = "decoder.predict.bias"
    assert len(came_to) == 2
    for before, after, seen in zip(ends[:-1], ends[1:], came_to, strict=True):
        torch.testing.assert_close(after[name], (before[name] + seen[name]) / 2)
        assert not torch.equal(after[name], before[name])
    torch.testing.assert_close(dict(trainer.model.named_parameters())[name], ends[-1][name])


def test_recipe_gives_each_step_its_stage() -> None:
    large = Sampling(clips=1, frames=3, size=64)
    recipe = Recipe((Round((Stage(3, TINY), Stage(2, large))), Round((Stage(1, TINY),))))
    assert [recipe.sampling(step) for step in range(recipe.steps)] == [TINY] * 3 + [large] * 2 + [TINY]


def test_frozen_weights_do_not_move_and_others_do(pool: ClipPool, few: ClipPool, tmp_path: Path) -> None:
    model = compact_stm()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    recipe = Recipe((Round((Stage(2, TINY),), decay=0),), warmup=1, weight_decay=0.1)
    for _ in Trainer(model, "compact", recipe, pool, few, tmp_path, dtype=torch.float32).run():
        pass
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert not [name for name in moved if ".early" in name or "depthwise.weight" in name or ".stem." in name]
    assert "query_encoder.trunk.blocks.1.project.weight" not in moved
    assert {"decoder.predict.weight", "query_head.key.weight", "memory_encoder.mask_stem.weight"} <= moved
    assert "query_encoder.trunk.blocks.9.expand.weight" in moved


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(pool: ClipPool, few: ClipPool, tmp_path: Path) -> None:
    recipe = Recipe((Round((Stage(2, TINY),), decay=1), Round((Stage(2, TINY),), decay=1)), warmup=1)

    def trainer(folder: Path) -> Trainer:
        torch.manual_seed(0)
        return Trainer(compact_stm(), "compact", recipe, pool, few, folder, dtype=torch.float32)

    whole = trainer(tmp_path / "whole")
    for _ in whole.run():
        pass
    steps = trainer(tmp_path / "parts").run()
    next(steps), next(steps), next(steps)
    steps.close()
    resumed = trainer(tmp_path / "parts")
    assert resumed.step == 3
    for _ in resumed.run():
        pass
    for (name, expected), (_, seen) in zip(
        whole.model.named_parameters(), resumed.model.named_parameters(), strict=True
    ):
        assert torch.allclose(expected, seen, atol=1e-6), name
    lines = (tmp_path / "parts" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    assert "validation_j" in json.loads(lines[-1])
    load_model(tmp_path / "parts" / "best.safetensors")


def test_a_validation_that_was_interrupted_is_made_up_for(
    pool: ClipPool, few: ClipPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe((Round((Stage(1, TINY),), decay=0),), warmup=1)
    interrupted = Trainer(compact_stm(), "compact", recipe, pool, few, tmp_path, dtype=torch.float32)

    def interrupt(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr("stm_fast.training.loop.validate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(interrupted.run())
    monkeypatch.undo()
    assert not (tmp_path / "best.safetensors").exists()
    resumed = Trainer(compact_stm(), "compact", recipe, pool, few, tmp_path, dtype=torch.float32)
    assert list(resumed.run()) == []
    assert resumed.best >= 0
    load_model(tmp_path / "best.safetensors")


def test_weight_average_swaps_in_and_out() -> None:
    model = torch.nn.Linear(2, 2)
    average = WeightAverage(model, decay=0.9)
    original = model.weight.clone()
    with torch.no_grad():
        model.weight += 1
    average.update(model, step=0)
    trained = model.weight.clone()
    with average.applied(model):
        assert (model.weight > original).all()
        assert (model.weight < trained).all()
    assert torch.equal(model.weight, trained)


def test_training_learns_a_clip_by_heart(pool: ClipPool) -> None:
    torch.manual_seed(0)
    model = compact_stm()
    freeze(model)
    batch = collate(BatchSampler(pool, 2).draw(0, Sampling(clips=1, frames=2, size=32)))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 2e-3)
    losses = []
    for _ in range(40):
        loss = segmentation_loss(rollout(model, batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
