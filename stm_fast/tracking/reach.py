"""Which frames of a route the masks and corrections of a user reach."""

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import Any

from stm_fast.errors import MediaError
from stm_fast.media.frames import FrameSource
from stm_fast.media.notices import notice
from stm_fast.tracking.prompts import BEFORE_MASKS


def position(numbers: range, name: str, clip: FrameSource) -> int | None:
    """Return how many frames of a pass come before a frame; None if it is not in the pass."""
    number = clip.number_of(name)
    return None if number is None or number not in numbers else numbers.index(number)


def check_reach(
    passes: Sequence[range], prompts: Collection[str], corrections: Collection[str], clip: FrameSource
) -> None:
    """Make sure that what a user gives reaches frames that are tracked; a notice tells of what does not.

    Args:
        passes: numbers of the frames of each pass.
        prompts: names of the frames that have masks.
        corrections: names of the frames that are corrected.
        clip: the clip.

    Raises:
        MediaError: nothing that is given is of a frame that is tracked, or a correction comes before the first mask.
    """
    for names, what in ((prompts, "masks"), (corrections, "corrections")):
        outside = [name for name in names if all(position(numbers, name, clip) is None for numbers in passes)]
        if outside and len(outside) == len(names):
            raise MediaError(
                f"all {what} belong to frames that are not tracked, such as {outside[0]}: {_described(passes[0], clip)}"
            )
        if outside:
            notice(f"{len(outside)} {what} belong to frames that are not tracked, such as {outside[0]}: not used")
    for numbers in passes:
        shown = _positions(numbers, prompts, clip)
        if prompts and not shown:
            notice(f"no mask is of these frames, which stay empty: {_described(numbers, clip)}")
        for at, name in sorted((at, name) for name, at in _positions(numbers, corrections, clip).items()):
            if prompts and at < min(shown.values(), default=at + 1):
                raise MediaError(f"the correction of frame {name} {BEFORE_MASKS}")


def first_changed(
    passes: Sequence[range], before: Mapping[str, Any], now: Mapping[str, Any], clip: FrameSource
) -> dict[int, int]:
    """Return where corrections differ from those of an earlier run: the first position, by number of pass.

    Args:
        passes: numbers of the frames of each pass.
        before: digests of the corrections of the earlier run, by frame name.
        now: digests of those of this run.
        clip: the clip.
    """
    names = [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
    changed = {number: _positions(numbers, names, clip).values() for number, numbers in enumerate(passes)}
    return {number: min(positions) for number, positions in changed.items() if positions}


def masks_from(numbers: range, first: int, names: Set[str], clip: FrameSource) -> list[str]:
    """Return the frames of a pass from a position on, the last one first.

    Args:
        numbers: of the frames of the pass.
        first: the position.
        names: of the frames to choose from.
        clip: the clip.
    """
    positions = _positions(numbers, names, clip)
    return sorted((name for name, at in positions.items() if at >= first), key=lambda name: -positions[name])


def _positions(numbers: range, names: Iterable[str], clip: FrameSource) -> dict[str, int]:
    return {name: at for name in names if (at := position(numbers, name, clip)) is not None}


def _described(numbers: range, clip: FrameSource) -> str:
    """Say which frames a pass has."""
    start = clip.name_of(numbers.start) or numbers.start
    step = "" if abs(numbers.step) == 1 else f", every {abs(numbers.step)}"
    return f"tracked {'forward' if numbers.step > 0 else 'backward'} from frame {start}{step}"
