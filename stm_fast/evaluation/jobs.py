"""Segment the clips of a set, one after another or several at once in processes of their own."""

import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from stm_fast.data.clips import Clip, Dataset
from stm_fast.errors import ArgumentError, MediaError, StmFastError
from stm_fast.evaluation.run import RUNS, ClipRun, recorded, run_clip
from stm_fast.evaluation.test_time import Views
from stm_fast.media.files import discard_partial
from stm_fast.media.notices import MediaNotice, notice
from stm_fast.models.stm import STM
from stm_fast.processes import Process, end_all, wait_for
from stm_fast.tracking.options import TrackOptions, memory_limit_by_its_name

_LOOK_EVERY = 0.2
"""Seconds between two looks at what the processes have done."""

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[], None]]]
"""Shows progress: takes what is under way and its number of frames, gives a function to call after each frame."""


@dataclass(frozen=True)
class Work:
    """How to segment a clip of a set, in this process or in another.

    Attributes:
        dataset: says where masks lie below `out`; its clips do not travel to other processes.
        out: root of the results.
        tracking: options; their `void` is no object in masks.
        views: of test-time augmentation.
    """

    dataset: Dataset
    out: Path
    tracking: TrackOptions
    views: Views = field(default_factory=Views)

    def run(self, network: STM, clip: Clip, advance: Callable[[], None]) -> ClipRun:
        """Segment a clip; see `run_clip`.

        Raises:
            MediaError: the clip cannot be read.
            ArgumentError: an option is out of range.
            OSError: a file cannot be written.
        """
        if (before := recorded(clip, self.out)) is not None:
            return before
        segmenter = self.views.segmenter(self.tracking, network, clip.open().size)
        with memory_limit_by_its_name():
            return run_clip(segmenter, clip, self.dataset, self.out, advance, self.tracking.void)


@dataclass
class Outcomes:
    """What became of the clips.

    Attributes:
        runs: of the clips that were segmented, now or before.
        failed: why the others were not, by their names.
    """

    runs: list[ClipRun] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def run_in_turn(work: Work, clips: Sequence[Clip], network: STM, progress: Progress) -> Outcomes:
    """Segment clips one after another. A clip that cannot be read does not keep the others from being segmented.

    Raises:
        ArgumentError: an option is out of range.
        OSError: a file cannot be written.
    """
    outcomes = Outcomes()
    for number, clip in enumerate(clips, 1):
        title = f"{clip.name} ({number}/{len(clips)})"
        _take(_answer_here(work, clip, network, progress, title), clip, outcomes)
    return outcomes


def run_in_processes(work: Work, clips: Sequence[Clip], jobs: int, progress: Progress) -> Outcomes:
    """Segment clips in `jobs` processes, which share this process's number of threads.

    A clip that fails, or whose process is killed, does not keep the others from being segmented. If this raises, as on
    Ctrl-C, the processes are ended; what they finished is on disk.

    Raises:
        ArgumentError: an option is out of range.
    """
    outcomes = Outcomes()
    threads = max(1, torch.get_num_threads() // jobs)
    alone = replace(work, dataset=replace(work.dataset, clips=()))
    todo = [clip for clip in clips if recorded(clip, work.out) is None]
    counts = [_frames_of(clip) for clip in todo]
    total = None if None in counts else sum(count or 0 for count in counts)
    waiting, busy = deque(todo), dict[int, Clip]()
    processes = [Process() for _ in range(min(jobs, len(todo)))]
    try:
        with _Counter(len(processes)) as counter, progress(f"{len(todo)} clips", total) as advance:
            while waiting or busy:
                for slot, process in enumerate(processes):
                    if slot not in busy and waiting:
                        busy[slot] = waiting.popleft()
                        process.begin(_answer, alone, busy[slot], threads, counter.path, slot)
                wait_for([processes[slot] for slot in busy], _LOOK_EVERY)
                for _ in range(counter.more()):
                    advance()
                for slot in list(busy):
                    if (outcome := processes[slot].outcome()) is not None:
                        clip = busy.pop(slot)
                        _take(outcome.value or _Answer(problem=outcome.fault), clip, outcomes)
    finally:
        end_all(processes)
        for clip in busy.values():
            discard_partial(work.out / work.dataset.masks_folder / clip.name)
        discard_partial(work.out / RUNS)
    done = {run.clip: run for run in outcomes.runs}
    outcomes.runs = [run for clip in clips if (run := done.get(clip.name) or recorded(clip, work.out)) is not None]
    return outcomes


@dataclass(frozen=True)
class _Answer:
    """What a process has to say of a clip: its run or a problem, and notices.

    Attributes:
        run: if it was segmented.
        problem: if it was not.
        argument: the option that is out of range, if that is the problem.
        notices: what was assumed.
    """

    run: ClipRun | None = None
    problem: str = ""
    argument: str = ""
    notices: tuple[str, ...] = ()


def _take(answer: _Answer, clip: Clip, outcomes: Outcomes) -> None:
    if answer.argument:
        raise ArgumentError(answer.argument, answer.problem)
    for message in answer.notices:
        notice(message)
    if answer.run is not None:
        outcomes.runs.append(answer.run)
    else:
        outcomes.failed[clip.name] = answer.problem
        notice(f"clip {clip.name} cannot be segmented: {answer.problem}")


def _frames_of(clip: Clip) -> int | None:
    """Return the number of frames; None if it is not known, or the clip cannot be opened, as its process will say."""
    try:
        return clip.open().count
    except MediaError:
        return None


def _answer_here(work: Work, clip: Clip, network: STM, progress: Progress, title: str) -> _Answer:
    """Segment a clip in this process, where notices are given as they arise."""
    try:
        with progress(title, clip.open().count) as advance:
            return _Answer(work.run(network, clip, advance))
    except MediaError as error:
        return _Answer(problem=str(error))


def _answer(work: Work, clip: Clip, threads: int, counter: Path, slot: int) -> _Answer:
    """Segment a clip in a process of its own."""
    torch.set_num_threads(threads)
    frames = np.memmap(counter, np.int64, "r+")

    def advance() -> None:
        frames[slot] += 1

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MediaNotice)
        try:
            answer = _Answer(work.run(_network(work.tracking), clip, advance))
        except ArgumentError as error:
            return _Answer(problem=error.problem, argument=error.argument)
        except StmFastError as error:
            answer = _Answer(problem=str(error))
    given = dict.fromkeys(str(each.message) for each in caught if issubclass(each.category, MediaNotice))
    return _Answer(answer.run, answer.problem, notices=tuple(given))


@lru_cache(1)
def _network(tracking: TrackOptions) -> STM:
    return tracking.load()


class _Counter:
    """Counts frames of several processes in a file that they share, each in its own slot."""

    def __init__(self, slots: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="stm-fast-")
        self.path = Path(self._folder.name) / "frames"
        self._frames = np.memmap(self.path, np.int64, "w+", shape=(max(1, slots),))
        self._seen = 0

    def more(self) -> int:
        """Return how many frames were counted since the last call."""
        seen, self._seen = self._seen, int(self._frames.sum())
        return self._seen - seen

    def __enter__(self) -> "_Counter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._folder.cleanup()
