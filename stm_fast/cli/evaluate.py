"""`stm-fast evaluate`: masks and scores of a dataset."""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_fast.cli import options
from stm_fast.cli.console import Interrupted, stdout, with_sentences
from stm_fast.cli.logs import log_to
from stm_fast.cli.outputs import claim
from stm_fast.progress import progress_bar

if TYPE_CHECKING:
    from stm_fast.data.clips import Dataset
    from stm_fast.evaluation.run import ClipRun
    from stm_fast.evaluation.score import ObjectScore
    from stm_fast.models.stm import STM


class Layout(str, Enum):
    """Layouts of datasets on disk."""

    davis2016 = "davis2016"
    davis2017 = "davis2017"
    folder = "folder"


@with_sentences
def evaluate(
    root: Annotated[Path, typer.Argument(help="Folder of the dataset.")],
    subset: Annotated[
        str | None,
        typer.Option("--set", help="DAVIS: a list in ImageSets, such as val. Folder: one clip.", show_default=False),
    ] = None,
    dataset: Annotated[Layout, typer.Option(help="Layout of ROOT.")] = Layout.davis2016,
    out: Annotated[Path, typer.Option(help="Folder for masks and scores.")] = Path("evaluation"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the clips that are done in OUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over the results in OUT.")] = False,
    model: options.Model = "compact",
    weights: options.Weights = None,
    size: options.Size = None,
    memory_every: options.MemoryEvery = 5,
    memory: options.MemoryName = "official",
    memory_limit: options.MemoryLimit = None,
    top_k: options.TopK = None,
    device: options.Device = "auto",
    dtype: options.DtypeOption = options.Dtype.auto,
    backend: options.Backend = "auto",
) -> None:
    """Segment the clips of a dataset and score J and F as DAVIS does.

    Writes masks to OUT in the dataset's layout, OUT/scores.csv and OUT/scores.json. The first and the last frame of a
    clip are not scored. Frames a second are wall time of decoding, segmenting and writing masks.
    """
    from stm_fast.evaluation.report import write_report
    from stm_fast.evaluation.score import check_clip, check_scoring, score_dataset

    check_scoring()
    clips = open_dataset(root, subset, dataset)
    chosen = options.SegmenterOptions(
        model, weights, size, memory_every, memory, memory_limit, top_k, device, dtype, backend
    )
    settings = {"root": str(root), "set": subset, "dataset": dataset.value} | chosen.settings()
    if out.resolve() == root.resolve():
        raise ValueError(f"{out} is the dataset itself: choose another --out")
    for clip in clips:
        check_clip(clip)
    network = chosen.load()
    claim(
        out / "settings.json",
        (out / clips.masks_folder,),
        settings,
        resume=resume,
        overwrite=overwrite,
        clear=lambda: _remove_records(out / "runs", clips),
    )
    log_to(out, append=resume)
    runs = _run(chosen, network, clips, out)
    scores = score_dataset(clips, out / clips.masks_folder)
    write_report(out, clips, scores, runs, settings)
    print_scores(clips.name, scores, runs)
    stdout.print(f"masks are in {out / clips.masks_folder}, scores in {out}/scores.csv and scores.json", soft_wrap=True)


def open_dataset(root: Path, subset: str | None, layout: Layout) -> "Dataset":
    """The clips of a dataset in one of the layouts.

    Raises:
        ValueError: a set is needed and not named.
        MediaError: the dataset is not as its layout says.
    """
    from stm_fast.data.davis import davis
    from stm_fast.data.folder import folder

    if layout is Layout.folder:
        return folder(root, subset)
    if subset is None:
        raise ValueError(f"--set is missing: name a list in {root / 'ImageSets'}, such as val")
    return davis(root, subset, 2016 if layout is Layout.davis2016 else 2017)


def print_scores(title: str, scores: "Sequence[ObjectScore]", runs: "Sequence[ClipRun]") -> None:
    """A table of mean scores a clip and over all objects, with speed."""
    from rich.table import Table

    from stm_fast.evaluation.score import MeanScore

    table = Table(title=title)
    table.add_column("clip")
    for column in ("objects", "frames", "J&F", "J", "F", "frames/s"):
        table.add_column(column, justify="right")
    for run in runs:
        own = [score for score in scores if score.clip == run.clip]
        mean = MeanScore.of(own)
        numbers = (f"{value:.3f}" for value in (mean.jf, mean.j, mean.f))
        table.add_row(run.clip, str(len(own)), str(run.frames), *numbers, f"{run.frames_per_second:.1f}")
    if len(runs) > 1:
        mean = MeanScore.of(scores)
        frames, seconds = sum(run.frames for run in runs), sum(run.seconds for run in runs)
        table.add_section()
        numbers = (f"{value:.3f}" for value in (mean.jf, mean.j, mean.f))
        table.add_row("mean", str(len(scores)), str(frames), *numbers, f"{frames / seconds:.1f}", style="bold")
    stdout.print(table)


def _run(chosen: options.SegmenterOptions, network: "STM", clips: "Dataset", out: Path) -> "list[ClipRun]":
    from stm_fast.evaluation.run import run_clip

    runs: list[ClipRun] = []
    try:
        for number, clip in enumerate(clips, 1):
            frames = clip.open()
            segmenter = chosen.segmenter(network, frames.size)
            with progress_bar(f"{clip.name} ({number}/{len(clips)})", frames.count) as advance:
                runs.append(run_clip(segmenter, clip, clips, out, advance))
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"Interrupted after {len(runs)} of {len(clips)} clips; the same command with --resume goes on."
        ) from error
    return runs


def _remove_records(folder: Path, clips: "Dataset") -> None:
    for clip in clips:
        (folder / f"{clip.name}.json").unlink(missing_ok=True)
