"""`stm-fast demo`: a clip that is rendered, segmented and scored."""

from pathlib import Path
from typing import Annotated

import typer

from stm_fast.cli import options
from stm_fast.cli.console import say, stdout, with_sentences
from stm_fast.cli.score_table import print_scores
from stm_fast.cli.segment import save
from stm_fast.tracking.options import TrackOptions

AGAIN = "The same command starts over."


@with_sentences
@options.takes_track_options(*options.MODEL)
def demo(
    tracking: TrackOptions,
    out: Annotated[Path, typer.Option(help="Folder for the clip and its results; replaces earlier ones.")] = Path(
        "stm-fast-demo"
    ),
    threads: options.Threads = None,
) -> None:
    """Render a clip with known masks, segment it from the first mask, and score the result.

    A cup of coffee orbits a cat: it passes in front of her, then behind. Renders the clip from scikit-image's
    photographs into OUT/clip, and writes masks, overlay.mp4, contact_sheet.png and scores to OUT.
    """
    from stm_fast.data import demo_clip
    from stm_fast.data.layouts import open_videos
    from stm_fast.evaluation.clip_score import check_scoring, score_clip
    from stm_fast.evaluation.peak_memory import PeakMemory
    from stm_fast.evaluation.report import Report
    from stm_fast.evaluation.run import ClipRun
    from stm_fast.tracking.output import OutputFolder
    from stm_fast.tracking.overlay import Overlay
    from stm_fast.tracking.track import Track

    check_scoring()
    say(f"Rendering {demo_clip.FRAMES} frames into {out / 'clip'}")
    demo_clip.write(out / "clip")
    dataset = open_videos("folder", out / "clip")
    clip = dataset.clips[0]
    frames = clip.open()
    tracker = Track.open(frames, {frames.first_name: clip.prompts[frames.first_name]}, tracking)
    memory = PeakMemory(next(tracker.segmenter.model.parameters()).device)
    summary = save(tracker, out, overwrite=True, overlay=Overlay(fps=float(demo_clip.FPS)), remedy=AGAIN)
    results = OutputFolder(out)
    scores = score_clip(clip, results.masks)
    run = ClipRun(clip.name, summary.frames, summary.seconds["total"], summary.memory_tokens, memory.bytes())
    report = Report(dataset, scores, [run], settings=tracking.settings())
    report.write(out)
    print_scores("stm-fast demo", report)
    for path in (results.overlay, results.contact_sheet, results.masks):
        stdout.print(str(path), markup=False, soft_wrap=True)
