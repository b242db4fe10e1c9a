"""The training loop. It can be killed at any moment and resumes exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stm_fast.errors import StmFastError
from stm_fast.evaluation.peak_memory import PeakMemory
from stm_fast.models.weight_files import ARCHITECTURES, save_model
from stm_fast.training.accelerator import check_accelerator, make_accelerator
from stm_fast.training.average import WeightAverage
from stm_fast.training.batch import Packed
from stm_fast.training.checkpoint import check_fit, load_checkpoint, restoring, save_checkpoint
from stm_fast.training.data import TrainingData
from stm_fast.training.interrupts import uninterrupted
from stm_fast.training.loader import Loader
from stm_fast.training.log import RunLog
from stm_fast.training.losses import clip_losses
from stm_fast.training.network import Rollout
from stm_fast.training.optimizer import freeze, make_optimizer, set_rate
from stm_fast.training.pictures import write_picture
from stm_fast.training.plan import Place, Plan
from stm_fast.training.recipe import Recipe, settings_of
from stm_fast.training.sampler import Clips, Parts
from stm_fast.training.schedule import rate
from stm_fast.training.start import give_start
from stm_fast.training.validation import HeldOut, Scores, check_videos, score_clips, score_videos

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Progress:
    """Progress of a run after a step.

    Attributes:
        step: steps done.
        loss: mean over the clips of the step.
        rate: learning rate of the step, as a fraction of the optimizer's.
        seconds: that the step took.
        memory_gb: peak memory so far in 10⁹ bytes, see `PeakMemory`; 0 where the system does not tell.
        scores: of the validation that followed.
    """

    step: int
    loss: float
    rate: float
    seconds: float
    memory_gb: float
    scores: Scores


_MAX_SKIPPED = 100
"""Steps in a row without finite gradients after which a run ends."""


class Trainer:
    """Trains an STM by a recipe. All state is in a folder, from which a run resumes.

    The folder holds `checkpoint.pt` (all state), `last.safetensors` and `best.safetensors` (weights, averaged if the
    recipe says so), `log.jsonl`, TensorBoard's events, and `pictures/`.

    Several processes that share the folder train one model, each on its share of every step's clips. The first of them
    writes and validates.

    Args:
        recipe: what to train.
        data: its datasets.
        folder: folder of the run.
        accelerator: device and processes, of `make_accelerator`; by default those that accelerate finds.

    Attributes:
        model: the network.
        plan: rounds, stages and steps.
        step: steps done.
        best: merit of the best weights so far, −∞ before the first validation; see `Scores.merit`.

    Raises:
        ArgumentError: the accelerator does not have the recipe's precision, or does more than it should.
        StmFastError: the weights to start from are missing, a step has fewer clips than processes, or a checkpoint in
            the folder cannot be used.
    """

    def __init__(
        self, recipe: Recipe, data: TrainingData, folder: Path, accelerator: Accelerator | None = None
    ) -> None:
        self.accelerator = accelerator or make_accelerator(recipe.precision)
        check_accelerator(self.accelerator, recipe.precision)
        if self._leads and data.videos is not None:
            check_videos(data.videos, data.protocol)
        self.recipe, self.data, self.folder = recipe, data, folder
        self.plan = Plan(recipe, [len(source) for source in data.rounds])
        self._check_processes()
        torch.manual_seed(recipe.seed)
        self.model = ARCHITECTURES[recipe.model]()
        saved = load_checkpoint(folder)
        if saved is None:
            give_start(self.model, recipe.model, recipe.start)
        torch.manual_seed(recipe.seed + self.accelerator.process_index)
        freeze(self.model, recipe.freeze)
        self.model.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(self.model, recipe.optimizer)
        self.average = WeightAverage(self.model, recipe.ema)
        self._round_start = self._mark()
        self._clips = None if data.validation is None else HeldOut(data.validation, recipe.validation, recipe.seed)
        self.step, self.best, self._validated, self._skipped = 0, -math.inf, 0, 0
        self._saved = (0, 0)
        folder.mkdir(parents=True, exist_ok=True)
        self._memory = PeakMemory(self.accelerator.device)
        self._rollout = Rollout(self.model, erased=recipe.erased, spilled=recipe.spilled)
        self._network, self._stepper = self.accelerator.prepare(self._rollout, self.optimizer)
        if saved is not None:
            self._restore(saved)

    def run(self) -> Generator[Progress]:
        """Train to the end of the recipe, yielding after every step. Closing the generator saves the state first."""
        clips = Clips(self.data.rounds, self.plan, self.recipe.seed)
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        parts = Parts(self.plan, self.step, process, processes, self.recipe.optimizer.accumulate)
        with closing(Loader(clips, parts, self.recipe.workers)) as loader:
            log = RunLog(self.folder, self.step, settings_of(self.recipe)) if self._leads else None
            try:
                if self._validated < self.step:  # the run was interrupted before it could
                    self._validate_if_due(log)
                while self.step < self.plan.steps:
                    yield self._advance(loader, log)
            except RuntimeError as error:
                loader.check_workers(error)
                raise
            finally:
                self._save()
                if log is not None:
                    log.close()

    def close(self, *, failed: bool = False) -> None:
        """Let go of the other processes. Call it at the end, after which the trainer is of no further use.

        Args:
            failed: whether this process ends before the others, who may be waiting for it and are not waited for.
        """
        # A distributed module that outlives its process group waits for threads that wait for it.
        self._network = self._stepper = None
        self.accelerator.free_memory()
        world = torch.distributed.group.WORLD
        if failed and world is not None and torch.distributed.get_backend() == "nccl":
            world.abort()  # NCCL's orderly end waits for all processes
        else:
            self.accelerator.end_training()

    @property
    def _leads(self) -> bool:
        """Whether this process writes and validates."""
        return bool(self.accelerator.is_main_process)

    def _check_processes(self) -> None:
        parts = self.accelerator.num_processes * self.recipe.optimizer.accumulate
        fewest = min(stage.clips for part in self.recipe.rounds for stage in part.stages)
        if fewest < parts:
            raise StmFastError(
                f"clips of a step must be at least one for each process and micro-batch, which are {parts}, "
                f"got {fewest}"
            )

    def _advance(self, loader: Iterator[Packed], log: RunLog | None) -> Progress:
        """Make a step, with all that follows it."""
        started = time.perf_counter()
        place = self.plan.place(self.step)
        batches = [next(loader) for _ in range(self.recipe.optimizer.accumulate)]
        fraction = rate(self.recipe.rounds[place.round].schedule, place.step, self.plan.round_steps[place.round])
        set_rate(self.optimizer, fraction)
        loss, logits = self._gradients(batches, place)
        self._update(place)
        seconds = time.perf_counter() - started
        memory = (self._memory.bytes() or 0) / 1e9
        if log is not None:
            log.write(self.step, {"loss": loss, "rate": fraction, "seconds": seconds, "memory_gb": memory})
            if self.step % self.recipe.picture_every == 0:
                path = self.folder / "pictures" / f"step_{self.step:07d}.png"
                picture = write_picture(path, batches[-1].unpacked(), logits)
                log.picture(self.step, picture)
        if self.step in self.plan.round_ends or self.step % self.recipe.checkpoint_every == 0:
            self._save()
        return Progress(self.step, loss, fraction, seconds, memory, self._validate_if_due(log))

    def _gradients(self, batches: list[Packed], place: Place) -> tuple[float, Tensor]:
        """Compute the gradients of a step; return its loss, and the logits of the last micro-batch.

        Every clip of the step has the same weight, however many of them a process and a micro-batch have.
        """
        self.optimizer.zero_grad(set_to_none=True)
        processes = self.accelerator.num_processes
        total = torch.zeros((), device=self.accelerator.device)
        for number, each in enumerate(batches):
            batch = each.unpacked(self.accelerator.device)
            waits = number + 1 < len(batches)
            with self.accelerator.no_sync(self._network) if waits else nullcontext():
                seed = self._seed(number)
                logits = self._network(batch.frames, batch.masks, batch.clip, batch.slot, seed)
                losses = clip_losses(logits, batch, self.recipe.loss, place.step)
                loss = losses.sum() / place.sampling.clips
                # Gradients are averaged over processes.
                self.accelerator.backward(loss * processes)
            total += loss.detach()
        return float(self.accelerator.reduce(total)), logits.detach()

    def _seed(self, micro_batch: int) -> int:
        """Return a seed of the random numbers of a micro-batch of this step and process."""
        place = [self.recipe.seed, self.step, self.accelerator.process_index, micro_batch]
        return int(np.random.SeedSequence(place).generate_state(1)[0])

    def _update(self, place: Place) -> None:
        """Change the weights by their gradients, unless those are not finite, and end the round where it ends."""
        bound = self.recipe.optimizer.clip_norm or math.inf
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), bound)
        finite = bool(torch.isfinite(norm))
        self._skipped = 0 if finite else self._skipped + 1
        if self._skipped > _MAX_SKIPPED:
            raise StmFastError(
                f"the gradients of the last {_MAX_SKIPPED} steps to step {self.step} were not finite: try a lower "
                "optimizer.learning_rate, optimizer.clip_norm, or precision=fp32"
            )
        with uninterrupted():
            if finite or self.accelerator.scaler is not None:  # a scaler skips the step itself, and lowers its scale
                self._stepper.step()
            if finite:
                self.average.update(self.model, place.step)
            self.step += 1
            if self.step in self.plan.round_ends:
                self._end_round(place.round)

    def _end_round(self, number: int) -> None:
        """Go on from the averaged weights, with a new optimizer."""
        if self.recipe.rounds[number].halfway:
            self.average.halve_towards(self._round_start)
        self.average.assign(self.model)
        self._round_start = self._mark()
        self.optimizer.state.clear()

    def _mark(self) -> dict[str, Tensor]:
        """Return the averaged weights, if a round will go back halfway to them."""
        return self.average.copy() if any(part.halfway for part in self.recipe.rounds) else {}

    def _validate_if_due(self, log: RunLog | None) -> Scores:
        """Score the averaged weights if it is time to, and keep them if they are the best."""
        settings, ends_round = self.recipe.validation, self.step in self.plan.round_ends
        clips = self._clips if ends_round or self.step % settings.every == 0 else None
        videos = self.data.videos if ends_round or self.step % settings.videos_every == 0 else None
        if log is None or (clips is None and videos is None):
            return Scores()
        scores = Scores()
        with self.average.applied(self.model):
            if clips is not None:
                scores = score_clips(self._rollout, clips, self.accelerator.device)
            if videos is not None:
                scores = scores.joined(score_videos(self.model, videos, self.data.protocol, self.folder))
            merit = scores.merit(settings.best_by)
            if merit is not None and merit > self.best:
                self.best = merit
                self._save_weights("best", scores)
        self._validated = self.step
        log.write(self.step, {f"validation_{name}": value for name, value in scores.measured().items()})
        self._save()
        return scores

    def _save_weights(self, name: str, scores: Scores) -> None:
        """Write the weights that the model has now."""
        metadata = {"step": str(self.step), **{key: f"{value:.4f}" for key, value in scores.measured().items()}}
        path = self.folder / f"{name}.safetensors"
        save_model(self.model, path, architecture=self.recipe.model, metadata=metadata, dtype=torch.float32)

    def _save(self) -> None:
        if not self._leads or self._saved == (self.step, self._validated):
            return
        with self.average.applied(self.model):
            self._save_weights("last", Scores())
        scaler = self.accelerator.scaler
        state = {
            **self._identity(),
            "step": self.step,
            "best": self.best,
            "validated": self._validated,
            "model": self.model.state_dict(),
            "average": self.average.state,
            "round_start": self._round_start,
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        save_checkpoint(self.folder, state)
        self._saved = self.step, self._validated

    def _identity(self) -> dict[str, Any]:
        """Return what a checkpoint must have in common with the run that resumes from it."""
        return {"settings": settings_of(self.recipe), "lengths": [len(source) for source in self.data.rounds]}

    def _restore(self, state: dict[str, Any]) -> None:
        """Take the state of a checkpoint.

        Raises:
            RunStateError: it belongs to another run, or lacks something.
        """
        with restoring(self.folder):
            check_fit(self.folder, state, self._identity())
            self._take(state)

    def _take(self, state: dict[str, Any]) -> None:
        self.step, self.best, self._validated = state["step"], state["best"], state["validated"]
        self.model.load_state_dict(state["model"])
        self.average.load(state["average"])
        self._round_start = {name: value.to(self.accelerator.device) for name, value in state["round_start"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self._saved = self.step, self._validated
