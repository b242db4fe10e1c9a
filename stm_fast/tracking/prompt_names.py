"""Which frame a mask in a folder belongs to: by its name, or by the number in it."""

import re
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

from stm_fast.errors import MediaError
from stm_fast.media.frames import FrameSource, numbered
from stm_fast.media.notices import notice

Given = TypeVar("Given")


def by_name(given: Mapping[Any, Given], clip: FrameSource, what: str) -> dict[str, Given]:
    """Return what is given for frames, by numbers or names, with names as keys.

    Args:
        given: by frame.
        clip: the clip.
        what: is given, for messages.

    Raises:
        ValueError: the clip cannot have such a frame, or two belong to one frame.
    """
    found: dict[str, Given] = {}
    for frame, each in given.items():
        name = numbered(int(frame)) if isinstance(frame, Integral) else str(frame)
        if not clip.may_hold(name) and not clip.may_hold(name := str(frame)):
            raise ValueError(f"{what} must belong to frames such as {clip.first_name}, got one of {frame!r}")
        if name in found:
            raise ValueError(f"{what} must hold one per frame, got two of {name}")
        found[name] = each
    return found


def frames_of(masks: Mapping[str, Path], folder: Path, frames: FrameSource, *, every: bool = False) -> dict[str, Path]:
    """Match the masks of a folder to frames.

    Args:
        masks: files by stem, at least one.
        folder: of the masks, for messages.
        frames: the clip.
        every: refuse a mask that is not named like a frame, instead of a notice.

    Returns:
        Masks by frame name, in the order of the frames.

    Raises:
        MediaError: no mask is named like a frame, or two belong to the same frame; or with `every`, one is not.
    """
    if frames.first_name == "00000" and not Path(frames.path).is_dir():
        named = _by_count(masks, folder, frames)
    else:
        named = {name: path for name, path in masks.items() if frames.may_hold(name)} or _by_number(masks, frames)
        if named and not set(named) & set(masks):
            name, path = next(iter(named.items()))
            notice(f"no mask in {folder} has the name of a frame: they are matched by number, {path.name} to {name}")
    _notice_strays(masks, named, folder, frames, every=every)
    return named


def numbers_in(stems: Iterable[str]) -> dict[str, int]:
    """Find the one number that changes from name to name, or the longest if there is only one name.

    Returns:
        Numbers by name, ascending; empty if names differ in anything else, or in more than one number.
    """
    parts = {stem: re.split(r"([0-9]+)", stem) for stem in stems}
    words = {tuple(split[::2]) for split in parts.values()}
    if len(words) != 1 or len(next(iter(words))) < 2:
        return {}
    places = range(1, len(next(iter(parts.values()))), 2)
    changing = [place for place in places if len({int(split[place]) for split in parts.values()}) > 1]
    if len(parts) == 1:
        only = next(iter(parts.values()))
        changing = [max(places, key=lambda place: (len(only[place]), place))]
    if len(changing) != 1:
        return {}
    numbers = {stem: int(split[changing[0]]) for stem, split in parts.items()}
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def _by_count(masks: Mapping[str, Path], folder: Path, frames: FrameSource) -> dict[str, Path]:
    """Match the masks of a video, whose frames are counted from 0, by numbers of any number of digits."""
    numbers = {stem: int(stem) for stem in masks if re.fullmatch("[0-9]+", stem)}
    if not numbers and (numbers := numbers_in(masks)):
        stem, number = next(iter(numbers.items()))
        notice(f"masks in {folder} are matched to frames by the number in their names: {stem} is number {number}")
    shift = _counted_from_1(numbers, folder, frames)
    named: dict[str, Path] = {}
    for stem, number in sorted(numbers.items(), key=lambda item: item[1]):
        name = f"{number - shift:05d}"
        if not frames.may_hold(name):
            continue
        if name in named:
            raise MediaError(
                f"{named[name].name} and {masks[stem].name} in {folder} belong to the same frame: keep one of them"
            )
        named[name] = masks[stem]
    first = next(iter(named), frames.first_name)
    if int(first) > 0:
        notice(f"the first mask in {folder} belongs to frame {int(first)}, counted from 0; FFmpeg counts from 1")
    return named


def _counted_from_1(numbers: Mapping[str, int], folder: Path, frames: FrameSource) -> int:
    """Return 1 if the last mask is numbered one past the last frame and none is numbered 0; else 0."""
    last = max(numbers.values(), default=0)
    if last < 2 or min(numbers.values()) < 1:
        return 0
    if frames.may_hold(f"{last:05d}") or not frames.may_hold(f"{last - 1:05d}"):
        return 0
    notice(f"masks in {folder} seem to be counted from 1, as by FFmpeg: the last is {last}, of {last} frames")
    return 1


def _by_number(masks: Mapping[str, Path], frames: FrameSource) -> dict[str, Path]:
    """Match masks to images by the number in both their names, if there is an image for each."""
    numbers = numbers_in(masks)
    parts = re.split(r"([0-9]+)", frames.first_name)
    for place in reversed(range(1, len(parts), 2)):
        named = {}
        for stem, number in numbers.items():
            for text in (f"{number:0{len(parts[place])}d}", str(number)):
                name = "".join([*parts[:place], text, *parts[place + 1 :]])
                if frames.may_hold(name):
                    named[name] = masks[stem]
                    break
        if len(named) == len(masks):
            return named
    return {}


def _notice_strays(
    masks: Mapping[str, Path], named: Mapping[str, Path], folder: Path, frames: FrameSource, *, every: bool
) -> None:
    used = set(named.values())
    strays = [stem for stem, path in masks.items() if path not in used]
    if not used:
        raise MediaError(
            f"no mask in {folder} is named like a frame: frames are called {frames.first_name} and so on, "
            f"masks {strays[0]} and so on"
        )
    if strays and every:
        raise MediaError(
            f"{masks[strays[0]]} is not named like a frame: frames are called {frames.first_name} and so on"
            + ("" if frames.count is None else f", {frames.count} in all")
        )
    if strays:
        notice(f"{len(strays)} masks in {folder} are not named like a frame and were skipped; the first is {strays[0]}")
