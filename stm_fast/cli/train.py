"""`stm-fast train`: train a network by a recipe."""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_fast.cli.console import SYSTEM_ERROR, Interrupted, say, stdout, with_sentences
from stm_fast.cli.logs import log_to
from stm_fast.cli.options import Threads
from stm_fast.cli.synthetic_clips import make_clips
from stm_fast.errors import ArgumentError, StmFastError
from stm_fast.progress import progress_bar
from stm_fast.tracking.claims import claim
from stm_fast.training.recipe_files import recipe_names

if TYPE_CHECKING:
    from accelerate import Accelerator

    from stm_fast.training.recipe import Recipe
    from stm_fast.training.trainer import Trainer

EPILOG = "\n\n".join(["Recipes:", *(f"{name}: {title}" for name, title in recipe_names().items())])
"""The recipes of the package, below the help."""
RESULTS = ("checkpoint.pt", "last.safetensors", "best.safetensors")


class OutOfMemory(StmFastError):
    """Training needs more memory than there is; the message says what needs less."""

    exit_code = SYSTEM_ERROR


def _list(asked: bool) -> None:
    if asked:
        width = max(map(len, recipe_names()))
        for name, title in recipe_names().items():
            stdout.print(f"{name:{width}}  {title}", markup=False, soft_wrap=True)
        raise typer.Exit


@with_sentences
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe of those below, or a YAML file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the run, for weights, logs and pictures.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings in place of the recipe's, such as optimizer.learning_rate=1e-4, workers=8 or "
            "rounds.0.stages.*.clips=2. OUT/recipe.yaml has all of them.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder that holds the datasets, each in the folder that the recipe names.", show_default=False
        ),
    ] = None,
    export_official: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the last weights in the layout of the original's STM_weights.pth too.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    threads: Threads = None,
    _: Annotated[
        bool, typer.Option("--list", help="List the recipes of the package and exit.", callback=_list, is_eager=True)
    ] = False,
) -> None:
    """Train a network by a recipe.

    Writes to OUT the weights at the end (last.safetensors) and those of the best validation (best.safetensors), logs
    (log.jsonl, and TensorBoard where it is installed) and pictures of predictions. The same command resumes an
    interrupted run. For several GPUs: accelerate launch -m stm_fast train RECIPE OUT.
    """
    from stm_fast.tracking.options import resolve_device
    from stm_fast.training.accelerator import make_accelerator
    from stm_fast.training.recipe_files import load_recipe

    chosen = load_recipe(recipe, settings or ())
    if export_official is not None and chosen.model != "resnet50":
        raise ArgumentError("export_official", f"needs the model resnet50; the recipe's is {chosen.model}")
    accelerator = make_accelerator(chosen.precision, device if device == "auto" else resolve_device(device))
    trainer = _prepare(chosen, out, data, accelerator)
    try:
        with _subnormals_flushed():
            _run(trainer)
        if accelerator.is_main_process:
            _report(trainer, out, export_official)
    except BaseException:
        trainer.close(failed=True)
        raise
    trainer.close()


def _prepare(recipe: "Recipe", out: Path, data: Path | None, accelerator: "Accelerator") -> "Trainer":
    """Claim the folder, make clips, open the data, and return a trainer; the first process begins."""
    from stm_fast.training.data import open_data
    from stm_fast.training.recipe import settings_of
    from stm_fast.training.recipe_files import save_recipe
    from stm_fast.training.trainer import Trainer

    with accelerator.main_process_first():
        if accelerator.is_main_process:
            results = tuple(out / name for name in RESULTS)
            # Settings may change until there is a checkpoint; but clips that were made with others would be used again.
            begun = recipe.is_synthetic or (out / RESULTS[0]).exists()
            claim(out / "settings.json", results, settings_of(recipe), resume=begun, overwrite=not begun)
            log_to(out, append=begun)
            save_recipe(recipe, out / "recipe.yaml")
        pools = make_clips(recipe, out) if recipe.is_synthetic else {}
        opened = open_data(recipe, data, pools)
    return Trainer(recipe, opened, out, accelerator)


@contextmanager
def _subnormals_flushed() -> Iterator[None]:
    """Take subnormal numbers for zero: softmaxes and gradients have many, with which a CPU is tens of times slower."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _run(trainer: "Trainer") -> None:
    """Train to the end, with a bar in the first process."""
    from stm_fast.ops.failures import is_out_of_memory

    if not trainer.accelerator.is_main_process:
        with closing(trainer.run()) as steps:
            for _ in steps:
                pass
        return
    if trainer.step:
        complete = trainer.step == trainer.plan.steps
        say(f"{'The run is complete' if complete else 'Resuming'} at step {trainer.step} of {trainer.plan.steps}")
    with progress_bar("Training", trainer.plan.steps, "steps", done=trainer.step) as advance:
        try:
            with closing(trainer.run()) as steps:
                for step in steps:
                    advance(f"loss {step.loss:.3f}, {step.memory_gb:.1f} GB")
                    measured = step.scores.measured()
                    if measured:
                        scores = ", ".join(f"{name} {value:.3f}" for name, value in measured.items())
                        say(f"step {step.step}: loss {step.loss:.3f}; validation {scores}")
        except KeyboardInterrupt as error:
            raise Interrupted(f"Stopped at step {trainer.step}; the same command resumes there.") from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"out of memory at step {trainer.step}: try optimizer.accumulate=2 or more, precision=bf16, fewer "
                "workers or a smaller rounds.*.stages.*.size"
            ) from error


def _report(trainer: "Trainer", out: Path, export_official: Path | None) -> None:
    """Print what was written, and export the last weights."""
    stdout.print(f"{out / 'last.safetensors'}: the weights at the end", markup=False, soft_wrap=True)
    if not math.isinf(trainer.best):
        best_by = trainer.recipe.validation.best_by
        stdout.print(
            f"{out / 'best.safetensors'}: validation {best_by} {abs(trainer.best):.3f}", markup=False, soft_wrap=True
        )
    if export_official is not None:
        from stm_fast.models.official_file import save_official
        from stm_fast.models.weight_files import load_model

        save_official(load_model(out / "last.safetensors"), export_official)
        stdout.print(f"{export_official}: the same in the original's layout", markup=False, soft_wrap=True)
