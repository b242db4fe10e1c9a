"""Memory policies on a long video: accuracy, speed and size of each, as docs/long-video.md reports.

    python -m benchmarks.system.long_video OUT [--frames 10000] [--objects 1] [--size 240]
        [--policies window,diverse,...] [--report]

The compact model segments a rendered video of 240 pixels (`benchmarks.clips.long_clip`), enlarged if `--size` says
so. Objects turn, leave for hundreds of frames, and come back with a side that they showed before. Each policy runs in
its own process on one thread, as many at a time as there are processors, and writes OUT/<policy>.npz while it runs.
An interrupted one resumes, and a complete one is not run again. The official memory grows, and the time per frame
with it, so its time is limited. Prints Markdown and writes plots to OUT; `--report` does only that, from existing
logs.

The speed of a machine, above all of a shared one, changes within an hour. So at every tenth frame a fixed piece of work
is timed too: the query encoder on one picture. Times are reported as measured, and scaled as if that work had always
taken its median time. Still, run it on an idle machine.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from threading import Thread

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import machine, process_memory
from benchmarks.clips.long_clip import LongClip, Return
from benchmarks.harness import wall_seconds
from benchmarks.system.plots import Panel, draw_long_video
from stm_fast import MemoryPolicy, Segmenter, load_model
from stm_fast.media.files import atomic_path
from stm_fast.memory import presets
from stm_fast.models.stm import STM
from stm_fast.tracking.options import resolve_dtype

SIZE = 240
FRAMES = 10_000
WINDOW = 20
POLICIES: dict[str, MemoryPolicy] = {
    "window": presets.window(WINDOW),
    "diverse": presets.diverse(WINDOW),
    "long-term": presets.long_term(),
    "least-used": presets.least_used(WINDOW),
    "official": presets.official(),
}
OFFICIAL_SECONDS = 400.0
SAVED_EVERY = 500
CALIBRATED_EVERY = 10
BIN = 250
_FIRST_CALLS = 3
_SOON = 10


@dataclass
class Log:
    """Measurements, one row per frame.

    Attributes:
        seconds: time of the step, without rendering.
        fixed_work: seconds that the fixed piece of work took when it was last timed.
        jaccard: J of each object, NaN if it is not in the true mask.
        false: number of pixels assigned to objects that are not there.
        nbytes: bytes of the memory.
        anonymous: bytes of the process's anonymous memory.
        made_of: the video and the policy; a log of others is refused.
    """

    made_of: str
    seconds: list[float] = field(default_factory=list)
    fixed_work: list[float] = field(default_factory=list)
    jaccard: list[list[float]] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    nbytes: list[int] = field(default_factory=list)
    anonymous: list[int] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write as .npz, atomically."""
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, **{name: np.array(column) for name, column in vars(self).items()})

    @classmethod
    def load(cls, path: Path, made_of: str, rows: int | None = None) -> "Log":
        """Read what `save` wrote, or only its first rows."""
        with np.load(path) as file:
            columns = {name: file[name] for name in file.files}
        found = str(columns.pop("made_of", ""))
        if found != made_of:
            raise SystemExit(f"{path} is of {found or 'an earlier version'}, not of {made_of}: choose another folder")
        return cls(made_of, **{name: column[:rows].tolist() for name, column in columns.items()})

    def complete(self, policy: str, frames: int) -> bool:
        """Return whether a policy's run over this number of frames has ended."""
        late = policy == "official" and sum(self.seconds) > OFFICIAL_SECONDS
        return late or len(self.seconds) >= frames - 1

    def array(self, name: str) -> NDArray[np.float64]:
        """Return a column as an array."""
        return np.array(getattr(self, name), np.float64)


def run(name: str, clip: LongClip, out: Path, progress: "Queue[tuple[str, int] | None]", size: int) -> None:
    """Segment the video with a policy; resume where an earlier run stopped."""
    path, state, made_of = out / f"{name}.npz", out / f"{name}.safetensors", _made_of(name, clip, size)
    if path.exists() and Log.load(path, made_of).complete(name, len(clip)):
        return
    torch.set_num_threads(1)
    dtype = resolve_dtype("auto", "cpu")
    segmenter = Segmenter(load_model("compact", dtype=dtype), policy=POLICIES[name], size=size)
    log = Log(made_of)
    if state.exists():
        segmenter.restore(state)
        log = Log.load(path, made_of, segmenter.frame_index)
    else:
        first = clip.frame(0)
        segmenter.start(first.image, first.mask)
    fixed_work = _fixed_work(segmenter.model, dtype)
    measured = min(wall_seconds(fixed_work) for _ in range(_FIRST_CALLS))
    for index in range(segmenter.frame_index + 1, len(clip)):
        frame = clip.frame(index)
        if index % CALIBRATED_EVERY == 0:
            measured = wall_seconds(fixed_work)
        log.fixed_work.append(measured)
        begin = time.perf_counter()
        mask = segmenter.step(frame.image).mask.numpy()
        log.seconds.append(time.perf_counter() - begin)
        _score(log, clip.objects, frame.mask, mask)
        log.nbytes.append(segmenter.memory.nbytes)
        log.anonymous.append(process_memory.anonymous())
        progress.put((name, index + 1))
        if index % SAVED_EVERY == 0:
            log.save(path)
            segmenter.save(state)
            if log.complete(name, len(clip)):
                break
    log.save(path)
    state.unlink(missing_ok=True)


def _fixed_work(model: STM, dtype: torch.dtype) -> Callable[[], object]:
    """Return a call that encodes one picture as a query."""
    picture = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    laid_out = picture.to(dtype, memory_format=torch.channels_last)
    return torch.inference_mode()(lambda: model.encode_query(laid_out))


def _made_of(name: str, clip: LongClip, size: int) -> str:
    return f"log 3, {size} pixels, {len(clip.objects)} objects, {POLICIES[name]}"


def run_all(names: list[str], clip: LongClip, out: Path, size: int) -> None:
    """Segment the video with several policies, as many at a time as there are processors."""
    context = multiprocessing.get_context("spawn")
    columns = TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with context.Manager() as manager, Progress(*columns, console=Console(stderr=True)) as bars:
        progress: Queue[tuple[str, int] | None] = manager.Queue()
        tasks = {name: bars.add_task(name, total=len(clip)) for name in names}

        def show() -> None:
            while told := progress.get():
                bars.update(tasks[told[0]], completed=told[1])

        shown = Thread(target=show)
        shown.start()
        try:
            # Each has its own process, so that its memory is that of one policy.
            with context.Pool(multiprocessing.cpu_count(), maxtasksperchild=1) as pool:
                for done in [pool.apply_async(run, (name, clip, out, progress, size)) for name in names]:
                    done.get()
        finally:
            progress.put(None)
            shown.join()


def _score(log: Log, objects: tuple[int, ...], truth: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    row, false = [], 0
    for number in objects:
        there, found = truth == number, mask == number
        row.append(float((there & found).sum() / (there | found).sum()) if there.any() else float("nan"))
        false += 0 if there.any() else int(found.sum())
    log.jaccard.append(row)
    log.false.append(false)


def report(clip: LongClip, out: Path, size: int) -> None:
    """Print tables and write plots of existing logs."""
    there = [name for name in POLICIES if (out / f"{name}.npz").exists()]
    if not there:
        raise SystemExit(f"{out} holds no log: leave out --report to make some")
    logs = {name: Log.load(out / f"{name}.npz", _made_of(name, clip, size), len(clip) - 1) for name in there}
    details = f"{size} pixels", f"{len(clip.objects)} objects"
    print(machine.line(*details, threads="one thread per policy") + "\n")
    _report_returns(clip.returns, len(clip), logs)
    _report_each_return(clip.returns, logs)
    usual = float(np.median(np.concatenate([log.array("fixed_work") for log in logs.values()])))
    steady = {name: log.array("seconds") * usual / log.array("fixed_work") for name, log in logs.items()}
    print(f"\nFrames/s as if {1e3 * usual:.0f} ms of fixed work had always taken that; in brackets as they were.\n")
    print("| policy | frames/s, second tenth | last | ratio | memory, MB, second tenth | last | process, peak |")
    print("|---|---|---|---|---|---|---|")
    for name, log in logs.items():
        second, last = (_rate(steady[name], tenth) for tenth in (1, 9))
        measured = [_rate(log.array("seconds"), tenth) for tenth in (1, 9)]
        held = [_tenth(log.array("nbytes"), tenth).max() / 1e6 for tenth in (1, 9)]
        memory = f"{held[0]:.1f} | {held[1]:.1f} | {max(log.anonymous) / 1e6:.0f}"
        rates = f"{second:.2f} ({measured[0]:.2f}) | {last:.2f} ({measured[1]:.2f})"
        print(f"| {name} | {rates} | {last / second:.2f} ({measured[1] / measured[0]:.2f}) | {memory} |")
    panels = [
        Panel("J after each return", {}, begin=None, points=True),
        Panel("frames/s", {}),
        Panel("memory, MB", {}),
    ]
    for name, log in logs.items():
        after = zip(clip.returns, _after(clip.returns, log), strict=True)
        panels[0].lines[name] = [(back.first, jaccard) for back, jaccard in after if np.isfinite(jaccard)]
        panels[1].lines[name] = _binned(lambda x: 1 / np.median(x), steady[name])
        panels[2].lines[name] = _binned(np.max, log.array("nbytes") / 1e6)
    draw_long_video(panels, out / "long_video.png")


def _report_returns(returns: list[Return], frames: int, logs: dict[str, Log]) -> None:
    """Print J of the objects that came back, by policy: the mean over returns, with equal weights."""
    other = np.array([back.view == "other" for back in returns], bool)
    absent = [back.absent for back in returns] or [0]
    print(f"{frames} frames; {len(returns)} returns after {min(absent)} to {max(absent)} frames, ", end="")
    print(f"{other.sum()} of them with another side than at first.")
    print(f"After a return: the next {_SOON} frames, and all that show the same side.\n")
    titles = "J where visible", f"J after a return, {_SOON} frames", "all", "another side", "first side", "false pixels"
    print(f"| policy | frames | {' | '.join(titles)} | above the window |\n|---|---|---|---|---|---|---|---|---|")
    all_of_window = _after(returns, logs["window"]) if "window" in logs else np.full(len(returns), np.nan)
    for name, log in logs.items():
        soon, whole = _after(returns, log, _SOON), _after(returns, log)
        of = log.array("jaccard"), soon, whole, whole[other], whole[~other]
        columns = " | ".join(f"{_mean(column):.3f}" for column in of)
        both = np.isfinite(whole) & np.isfinite(all_of_window)
        above = f"{(whole > all_of_window)[both].sum()} of {both.sum()}"
        print(f"| {name} | {len(log.seconds)} | {columns} | {np.mean(log.false):.0f} | {above} |")


def _report_each_return(returns: list[Return], logs: dict[str, Log]) -> None:
    """Print J of all frames after each return."""
    print(f"\n| back at frame | away for | side | {' | '.join(logs)} |\n|---|---|---|{'---|' * len(logs)}")
    after = [_after(returns, log) for log in logs.values()]
    for back, means in zip(returns, zip(*after, strict=True), strict=True):
        columns = " | ".join(f"{jaccard:.3f}" if np.isfinite(jaccard) else "" for jaccard in means)
        print(f"| {back.first} | {back.absent} | {back.view} | {columns} |")


def _after(returns: list[Return], log: Log, max_frames: int | None = None) -> NDArray[np.float64]:
    """Return the mean J of each object that came back, over at most `max_frames` frames; NaN if the log ends before.

    Row i of the log is frame i + 1.
    """
    jaccard, means = log.array("jaccard"), []
    for back in returns:
        last = back.last if max_frames is None else min(back.last, back.first + max_frames)
        reached = last <= len(jaccard) + 1
        means.append(_mean(jaccard[back.first - 1 : last - 1, back.object_id - 1]) if reached else np.nan)
    return np.array(means, np.float64)


def _tenth(column: NDArray[np.float64], tenth: int) -> NDArray[np.float64]:
    edges = np.linspace(0, len(column), 11).astype(int)
    return column[edges[tenth] : edges[tenth + 1]]


def _rate(seconds: NDArray[np.float64], tenth: int) -> float:
    return 1 / float(np.median(_tenth(seconds, tenth)))


def _binned(function: Callable[..., object], column: NDArray[np.float64]) -> list[tuple[int, float]]:
    bins = range(0, len(column) - BIN + 1, BIN)
    return [(first + BIN // 2, float(function(column[first : first + BIN]))) for first in bins]


def _mean(column: NDArray[np.float64]) -> float:
    """Return the mean of what is not NaN, or NaN."""
    found = column[np.isfinite(column)]
    return float(found.mean()) if len(found) else float("nan")


def main() -> None:
    """Run the chosen policies, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--size", type=int, default=SIZE, help="shorter side that the network works at")
    parser.add_argument("--report", action="store_true", help="of what is there")
    options = parser.parse_args()
    names = options.policies.split(",")
    if unknown := set(names) - set(POLICIES):
        parser.error(f"--policies must be of {', '.join(POLICIES)}, got {', '.join(sorted(unknown))}")
    if options.frames < 2 * _SOON:
        parser.error(f"--frames must be at least {2 * _SOON}, got {options.frames}")
    if options.objects < 1:
        parser.error(f"--objects must be at least 1, got {options.objects}")
    clip = LongClip(options.frames, objects=options.objects)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.report:
        run_all(names, clip, options.out, options.size)
    report(clip, options.out, options.size)


if __name__ == "__main__":
    main()
