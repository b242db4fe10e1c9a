"""Continuing results with other corrections: only the frames that they reach are segmented anew."""

from collections.abc import Mapping
from typing import Any

from stm_fast.errors import StmFastError
from stm_fast.media.frames import FrameSource
from stm_fast.tracking import inputs
from stm_fast.tracking.given import Given
from stm_fast.tracking.output import OutputFolder
from stm_fast.tracking.reach import first_changed, masks_from
from stm_fast.tracking.state_file import StateFile


def prepare(before: Mapping[str, Any], now: dict[str, Any], given: Given, clip: FrameSource, out: OutputFolder) -> None:
    """Prepare results of an earlier run to be continued: remove what corrections reach that are not the same.

    The end of each pass is removed, its last frame first, so that what a killed process leaves is always a beginning.

    Args:
        before: inputs of the earlier run, see `inputs.identity`; empty if it noted none.
        now: inputs of this run. The numbers of the passes that stay whole are noted in it, as `passes_done`.
        given: what is given for the clip now.
        clip: the clip.
        out: the results.

    Raises:
        StmFastError: the earlier run was of other inputs, or had corrections and this one has none.
        OSError: a mask cannot be removed.
    """
    inputs.check_unchanged(before, now, given.prompts, out.frames_done())
    corrections = before.get("corrections") or {}
    if corrections and not given.explicit:
        raise StmFastError(
            f"{out.root} was made with corrections, such as that of frame {next(iter(corrections))}: give corrections "
            "again, or start again with overwrite"
        )
    changed = first_changed(given.passes, corrections, now["corrections"], clip)
    states = StateFile(out.run_state)
    for turn, first in sorted(changed.items()):
        # The state of a frame that had no correction is also where its first one is applied.
        begin = first if clip.name_of(given.passes[turn][first]) in corrections else first + 1
        states.forget_from(turn, begin)
        begin = begin if states.has(turn, first) else first
        out.remove_masks(masks_from(given.passes[turn], begin, out.frames_begun(), clip))
    now["passes_done"] = [turn for turn in before.get("passes_done") or () if turn not in changed]
