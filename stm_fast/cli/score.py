"""`stm-fast score`: score finished masks."""

from pathlib import Path
from typing import Annotated

import typer

from stm_fast.cli.console import stdout, with_sentences
from stm_fast.cli.datasets import DatasetVoid, known_layout, void_of
from stm_fast.cli.score_table import print_scores
from stm_fast.data.layouts import VIDEO_LAYOUTS, open_videos
from stm_fast.errors import ArgumentError, MediaError, StmFastError
from stm_fast.media.notices import notice
from stm_fast.tracking.claims import claim


@with_sentences
def score(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="PRED",
            help="Masks to score: a folder with a folder for each clip; the folder of one clip's masks; or, with "
            "--dataset, the OUT of stm-fast evaluate.",
        ),
    ],
    truth: Annotated[
        Path,
        typer.Argument(metavar="TRUTH", help="True masks in the same form; with --dataset, the folder of the dataset."),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            callback=known_layout,
            autocompletion=lambda: list(VIDEO_LAYOUTS),
            metavar="LAYOUT",
            help="Layout of TRUTH as in stm-fast evaluate, whose protocol is followed. Without it, TRUTH holds masks "
            "alone, and the protocol is that of vos-benchmark.",
            show_default=False,
        ),
    ] = None,
    subset: Annotated[
        str | None,
        typer.Option("--set", metavar="SET", help="Set of the dataset, as in stm-fast evaluate.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for scores.csv and scores.json.")] = Path("scores"),
    void: DatasetVoid = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the scores in OUT.")] = False,
) -> None:
    """Score masks that are finished: J and F, as stm-fast evaluate prints and writes them.

    Masks are PNG files with the names of their frames. Clips without results are an error, which names them; results of
    other clips are named and not scored.
    """
    from stm_fast.evaluation.clip_score import check_scoring
    from stm_fast.evaluation.finished import check_frames, results_for, truth_in
    from stm_fast.evaluation.protocol import VOS_BENCHMARK, protocol_of
    from stm_fast.evaluation.report import NAMES, Report, clear_reports, reasons
    from stm_fast.evaluation.score import score_set

    if dataset is None and subset is not None:
        raise ArgumentError("set", "needs --dataset, which says what the sets are")
    record = out / "settings.json"
    if record.exists() and not overwrite:
        raise StmFastError(f"{out} already holds results: --overwrite replaces them, or choose another --out")
    check_scoring()
    clips = truth_in(truth) if dataset is None else open_videos(dataset, truth, subset)
    void_id = void_of(clips, void)
    protocol = VOS_BENCHMARK if dataset is None else protocol_of(dataset)
    folders = results_for(clips, results)
    unscored = protocol.unscored(clips, void_id)
    check_frames([clip for clip in clips if clip.name not in unscored], folders, protocol)
    scores, unscored = score_set(clips, folders, unscored, void_id, protocol)
    if not scores:
        raise MediaError(f"{truth} has nothing to score ({reasons(unscored)})")
    settings: dict[str, object] = {
        "results": str(results),
        "truth": str(truth),
        "dataset": dataset,
        "set": subset,
        "void": void_id,
    }
    files = tuple(out / name for name in NAMES)
    claim(record, files, settings, resume=False, overwrite=overwrite, clear=lambda: clear_reports(out))
    report = Report(clips, scores, (), unscored, protocol, void_id, settings)
    print_scores(clips.name, report)
    report.write(out)
    if unscored:
        notice(f"{len(unscored)} of {len(clips)} clips were not scored: {reasons(unscored)}")
    stdout.print(f"scores are in {files[0]} and {NAMES[1]}", markup=False, soft_wrap=True)
