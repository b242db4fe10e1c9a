"""The training loop, which can be interrupted and resumed."""

import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import torch
from torch import nn

from stm_fast.data.synthetic.pool import ClipPool
from stm_fast.media.files import atomic_path
from stm_fast.models.stm import STM
from stm_fast.models.weight_files import save_model
from stm_fast.training.average import WeightAverage
from stm_fast.training.batches import Batch, BatchSampler, Example, collate
from stm_fast.training.curriculum import Recipe
from stm_fast.training.log import Progress, RunLog
from stm_fast.training.losses import segmentation_loss
from stm_fast.training.parameters import freeze, make_optimizer, schedule
from stm_fast.training.rollout import rollout
from stm_fast.training.validation import Validation, validate


class Trainer:
    """Trains an STM on a pool of clips. All state is in `folder`, from which a run resumes.

    Files: `checkpoint.pt` (all state), `best.safetensors` (averaged weights with the best validation J),
    `round_1.safetensors` and so on (the weights at the end of a round; the last are the recipe's result),
    `log.jsonl`, and TensorBoard events where tensorboard is installed.

    Args:
        model: its weights are trained in place.
        architecture: written into the saved weights; see `stm_fast.load_model`.
        recipe: stages and rates.
        pool: clips to train on.
        validation_pool: clips that `best.safetensors` is chosen by.
        folder: folder of the run.
        seed: seed of the batches.
        dtype: dtype of activations (autocast); weights and optimiser stay float32.

    Attributes:
        step: steps done.
        best: the best validation J so far, −1 before the first.
        validated: the last step that was validated.
    """

    checkpoint_every = 100
    validate_every = 500

    def __init__(
        self,
        model: STM,
        architecture: str,
        recipe: Recipe,
        pool: ClipPool,
        validation_pool: ClipPool,
        folder: Path,
        seed: int = 0,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        freeze(model)
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.architecture = architecture
        self.recipe = recipe
        self.sampler = BatchSampler(pool, seed)
        self.validation = Validation(validation_pool)
        self.folder = folder
        self.dtype = dtype
        self.step = 0
        self.best = -1.0
        self.validated = 0
        self.optimizer = make_optimizer(model, recipe)
        self.average = WeightAverage(model, recipe.ema)
        self._round_start = self.average.copy()
        folder.mkdir(parents=True, exist_ok=True)
        if self._checkpoint.exists():
            self._restore()

    def run(self) -> Generator[Progress]:
        """Train to the end of the recipe, yielding after every step. Closing the generator saves the state first."""
        log = RunLog(self.folder)
        background = ThreadPoolExecutor(1, "batches")
        upcoming = background.submit(self._draw, self.step)
        try:
            while self.step < self.recipe.steps:
                started = time.perf_counter()
                examples, upcoming = upcoming.result(), background.submit(self._draw, self.step + 1)
                loss = self._train_step(collate(examples))
                seconds = time.perf_counter() - started
                ends_round = self._end_round()
                score = self._validate() if ends_round or self.step % self.validate_every == 0 else None
                if ends_round or self.step % self.checkpoint_every == 0:
                    self._save()
                progress = Progress(self.step, loss, seconds, score)
                log.write(progress)
                yield progress
            if self.validated < self.step:
                self._validate()
        finally:
            background.shutdown(cancel_futures=True)
            self._save()
            log.close()

    def _draw(self, step: int) -> list[Example]:
        return self.sampler.draw(step, self.recipe.sampling(step))

    def _train_step(self, batch: Batch) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(self.step, self.recipe)
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            logits = rollout(self.model, batch)
        loss = segmentation_loss(logits, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.average.update(self.model, self.recipe.round(self.step)[1])
        self.step += 1
        return float(loss.detach())

    def _end_round(self) -> bool:
        """Return whether a round ends here. If so, training continues from the averaged weights."""
        ends = list(accumulate(part.steps for part in self.recipe.rounds))
        if self.step not in ends:
            return False
        number = 1 + ends.index(self.step)
        if number > 1:
            self.average.halve_towards(self._round_start)
        self.average.assign(self.model)
        self._round_start = self.average.copy()
        self.optimizer = make_optimizer(self.model, self.recipe)
        self._save_weights(f"round_{number}", {"step": str(self.step)})
        return True

    def _validate(self) -> float:
        with self.average.applied(self.model):
            score = validate(self.model, self.validation, self.dtype)
            if score > self.best:
                self.best = score
                self._save_weights("best", {"step": str(self.step), "validation_j": f"{score:.4f}"})
        self.validated = self.step
        return score

    def _save_weights(self, name: str, metadata: dict[str, str]) -> None:
        path = self.folder / f"{name}.safetensors"
        save_model(self.model, path, architecture=self.architecture, metadata=metadata)

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _save(self) -> None:
        state = {
            "step": self.step,
            "best": self.best,
            "validated": self.validated,
            "model": self.model.state_dict(),
            "average": self.average.state,
            "rest": self._round_start,
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_path(self._checkpoint) as partial:
            torch.save(state, partial)

    def _restore(self) -> None:
        state = torch.load(self._checkpoint, weights_only=True)
        self.step, self.best, self.validated = state["step"], state["best"], state["validated"]
        self.model.load_state_dict(state["model"])
        self.average.state, self._round_start = state["average"], state["rest"]
        peaks = [group["peak"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, peak in zip(self.optimizer.param_groups, peaks, strict=True):
            group["peak"] = peak
