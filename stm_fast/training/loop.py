"""The training loop: resumable, logged, interruptible."""

import json
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stm_fast.data.synthetic.pool import ClipPool
from stm_fast.models.checkpoints import save_model
from stm_fast.models.depthwise import DepthwiseConv2d
from stm_fast.models.efficientnet_lite import EARLY_BLOCKS, EfficientNetLite0
from stm_fast.models.stm import STM
from stm_fast.training.batches import BatchSampler
from stm_fast.training.curriculum import Recipe
from stm_fast.training.losses import segmentation_loss
from stm_fast.training.rollout import rollout
from stm_fast.training.validation import Validation, validate


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step.

    Attributes:
        step: steps done.
        loss: of the last step.
        seconds: the last step took.
        validation: mean J on the validation clips, on the steps that measured it.
    """

    step: int
    loss: float
    seconds: float
    validation: float | None = None


class Trainer:
    """Trains an STM on a pool of clips; everything it knows is in `folder` and a run continues from there.

    Files: `checkpoint.pt` (all state), `best.safetensors` (averaged weights with the best validation J), `log.jsonl`,
    and TensorBoard events where tensorboard is installed.

    Args:
        model: its weights are trained in place.
        architecture: written into the saved weights; see `stm_fast.load_model`.
        recipe: what to do.
        pool, validation_pool: clips to train on and to choose weights by.
        folder: of the run.
        seed: of batches.
        dtype: of activations (autocast); weights and optimiser stay float32.
    """

    checkpoint_every = 100
    validate_every = 250

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
        self.model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.architecture = architecture
        self.recipe = recipe
        self.sampler = BatchSampler(pool, seed)
        self.validation = Validation(validation_pool)
        self.folder = folder
        self.dtype = dtype
        self.step = 0
        self.best = -1.0
        self.optimizer = _optimizer(model, recipe)
        self.average = WeightAverage(model, recipe.ema)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "checkpoint.pt").exists():
            self._restore()

    def run(self) -> Generator[Progress]:
        """Train to the end of the recipe, yielding after every step. Closing the iterator saves the state first."""
        log = _Log(self.folder)
        try:
            while self.step < self.recipe.steps:
                started = time.perf_counter()
                loss = self._train_step()
                self.step += 1
                seconds = time.perf_counter() - started
                last = self.step == self.recipe.steps
                score = self._validate() if self.step % self.validate_every == 0 or last else None
                if self.step % self.checkpoint_every == 0:
                    self._save()
                log.write(Progress(self.step, loss, seconds, score))
                yield Progress(self.step, loss, seconds, score)
        finally:
            self._save()
            log.close()

    def _train_step(self) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(self.step, self.recipe)
        batch = self.sampler.draw(self.step, self.recipe.sampling(self.step))
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            logits = rollout(self.model, batch)
        loss = segmentation_loss(logits, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.average.update(self.model)
        return float(loss.detach())

    def _validate(self) -> float:
        with self.average.applied(self.model):
            score = validate(self.model, self.validation, self.dtype)
            if score > self.best:
                self.best = score
                metadata = {"step": str(self.step), "validation_j": f"{score:.4f}"}
                save_model(
                    self.model, self.folder / "best.safetensors", architecture=self.architecture, metadata=metadata
                )
        return score

    def _save(self) -> None:
        state = {
            "step": self.step,
            "best": self.best,
            "model": self.model.state_dict(),
            "average": self.average.state,
            "optimizer": self.optimizer.state_dict(),
        }
        scratch = self.folder / "checkpoint.pt.partial"
        torch.save(state, scratch)
        scratch.replace(self.folder / "checkpoint.pt")

    def _restore(self) -> None:
        state = torch.load(self.folder / "checkpoint.pt", weights_only=True)
        self.step, self.best = state["step"], state["best"]
        self.model.load_state_dict(state["model"])
        self.average.state = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, (_, peak) in zip(self.optimizer.param_groups, _groups(self.model, self.recipe), strict=True):
            group["peak"] = peak


def schedule(step: int, recipe: Recipe) -> float:
    """The learning rate of a 0-based step as a fraction of its peak: a linear rise, a plateau, a linear fall to zero."""
    rise = (step + 1) / max(1, recipe.warmup)
    fall = (recipe.steps - step) / (recipe.decay + 1)
    return min(1.0, rise, fall)


def freeze(model: STM) -> None:
    """Keep what pretraining knows best, and what is dear to train on a CPU.

    Batch norm is frozen (the paper's recipe) by never leaving evaluation mode. Depthwise kernels (few, generic, slow
    backward) and the layers of a compact trunk up to stride 4 stay as they are.
    """
    for module in model.modules():
        if isinstance(module, DepthwiseConv2d):
            module.weight.requires_grad_(False)
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
        if isinstance(module, EfficientNetLite0):
            module.stem.requires_grad_(False)
            module.blocks[:EARLY_BLOCKS].requires_grad_(False)


def _groups(model: STM, recipe: Recipe) -> list[tuple[list[Tensor], float]]:
    trunk: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (trunk if ".trunk." in name or ".stages." in name or ".stem." in name else rest).append(parameter)
    return [(trunk, recipe.trunk_learning_rate), (rest, recipe.learning_rate)]


def _optimizer(model: STM, recipe: Recipe) -> torch.optim.Optimizer:
    groups = [{"params": parameters, "lr": peak, "peak": peak} for parameters, peak in _groups(model, recipe)]
    return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=True)


class WeightAverage:
    """An exponential moving average of the trained weights."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state: dict[str, Any] = {name: p.detach().clone() for name, p in _trained(model)}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Count in the weights after a step. The first updates count more, so that the start is soon forgotten."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in _trained(model):
            self.state[name].lerp_(parameter, 1 - decay)

    def applied(self, model: nn.Module) -> "_Swapped":
        """A context in which the model has the averaged weights."""
        return _Swapped(model, self.state)


class _Swapped:
    def __init__(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        self.model, self.state = model, state

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in _trained(self.model):
            kept = parameter.clone()
            parameter.copy_(self.state[name])
            self.state[name].copy_(kept)


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


class _Log:
    """Steps as JSON lines, and to TensorBoard where it is installed."""

    def __init__(self, folder: Path) -> None:
        self.lines = (folder / "log.jsonl").open("a")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(str(folder))

    def write(self, progress: Progress) -> None:
        record = {"step": progress.step, "loss": round(progress.loss, 5), "seconds": round(progress.seconds, 3)}
        if progress.validation is not None:
            record["validation_j"] = round(progress.validation, 5)
        self.lines.write(json.dumps(record) + "\n")
        self.lines.flush()
        if self.board is not None:
            for name, value in record.items():
                self.board.add_scalar(name, value, progress.step)

    def close(self) -> None:
        self.lines.close()
        if self.board is not None:
            self.board.close()
