"""Run a segmenter over the clips of a dataset."""

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from stm_fast.data.clips import Clip, Dataset
from stm_fast.evaluation.peak_memory import PeakMemory
from stm_fast.evaluation.test_time import MultiViewSegmenter
from stm_fast.inference.segmenter import Segmenter
from stm_fast.media.files import write_text
from stm_fast.media.masks import write_mask
from stm_fast.media.notices import MediaNotice
from stm_fast.tracking.prompts import REPEATED, VOID_FOLLOWED, PromptReader
from stm_fast.tracking.propagation import propagate

RUNS = "runs"
"""Folder of the records of clips that were segmented, in that of the results."""


@dataclass(frozen=True)
class ClipRun:
    """Figures of a clip that was segmented.

    Attributes:
        clip: its name.
        frames: frames segmented.
        seconds: wall time of decoding, segmenting and writing them.
        memory_tokens: locations held by the memory at the end, for one object.
        peak_bytes: see `stm_fast.evaluation.peak_memory.PeakMemory`; None if unknown.
    """

    clip: str
    frames: int
    seconds: float
    memory_tokens: int
    peak_bytes: int | None = None

    @property
    def frames_per_second(self) -> float:
        """Frames per second of wall time."""
        return self.frames / self.seconds if self.seconds else 0.0


def run_clip(
    segmenter: Segmenter | MultiViewSegmenter,
    clip: Clip,
    dataset: Dataset,
    out: str | Path,
    each: Callable[[], None],
    void: int | None = None,
) -> ClipRun:
    """Segment one clip into the dataset's layout below `out`.

    All frames are segmented, and the masks of those that the clip wants are written. Then a record goes to
    `out/runs/<clip>.json`. A clip that has one is not run again, so an interrupted evaluation resumes with the clip
    that it was in.

    Args:
        segmenter: started here.
        clip: one of the dataset's.
        dataset: says where masks lie.
        out: root of the results.
        each: called after each frame.
        void: id in masks that is no object, or None.

    Raises:
        MediaError: the clip cannot be read.
        OSError: a file cannot be written.
    """
    before = recorded(clip, out)
    if before is not None:
        return before
    memory = PeakMemory(next(segmenter.model.parameters()).device)
    begin = time.perf_counter()
    done = 0
    masks = Path(out) / dataset.masks_folder / clip.name
    with warnings.catch_warnings():
        # A dataset's prompts are its truth at the first frame of each object.
        warnings.filterwarnings("ignore", f".*({REPEATED}|{VOID_FOLLOWED})", MediaNotice)  # check_clips reports void
        frames = clip.open()
        for frame in propagate(segmenter, frames, PromptReader(clip.prompts, frames.size, void=void)):
            if clip.wanted is None or frame.name in clip.wanted:
                write_mask(masks / f"{frame.name}.png", frame.mask)
            each()
            done += 1
    run = ClipRun(clip.name, done, time.perf_counter() - begin, segmenter.memory.tokens, memory.bytes())
    write_text(_record(clip, out), json.dumps(asdict(run), indent=2) + "\n")
    return run


def recorded(clip: Clip, out: str | Path) -> ClipRun | None:
    """Return the record of an earlier run of a clip; None if there is none or it is of other frames."""
    record = _record(clip, out)
    if not record.exists():
        return None
    try:
        run = ClipRun(**json.loads(record.read_text(encoding="utf-8")))
        run.frames_per_second  # noqa: B018 - fails if the figures are no numbers
    except (ValueError, TypeError):
        return None
    changed = clip.frames.is_dir() and len(clip.frame_names()) != run.frames
    return None if changed else run


def _record(clip: Clip, out: str | Path) -> Path:
    return Path(out) / RUNS / f"{clip.name}.json"
