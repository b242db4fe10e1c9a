"""Collect the faults of a dataset on disk and report them together."""

import warnings
from collections.abc import Callable, Iterable, Sequence

from stm_fast.data.clips import Clip, Dataset
from stm_fast.errors import MediaError
from stm_fast.media.masks import VOID, Colour, fit_mask, object_ids, read_mask
from stm_fast.media.notices import MediaNotice, notice

MAX_NAMES = 5


class Faults:
    """Collects the faults of a dataset's clips.

    Args:
        dataset: name of the dataset, for the message.
        remedy: what the user can do, a sentence without a full stop.
        downloads: what to download, if anything; see `VideoLayout.needed`.
    """

    def __init__(self, dataset: str, remedy: str, downloads: str = "") -> None:
        self._dataset = dataset
        self._remedy = remedy
        self._downloads = downloads
        self._clips: dict[str, list[str]] = {}

    def add(self, clip: str, what: str) -> None:
        """Add a fault of a clip. Clips with the same `what` are reported in one line."""
        self._clips.setdefault(what, []).append(clip)

    def collect(self, names: Iterable[str], make: Callable[[str], Clip | str]) -> tuple[Clip, ...]:
        """Make the clips of a set.

        Args:
            names: of the clips.
            make: returns a clip, or what it lacks.

        Raises:
            MediaError: clips lack something; see `check`.
        """
        clips = []
        for name in names:
            made = make(name)
            if isinstance(made, str):
                self.add(name, made)
            else:
                clips.append(made)
        self.check()
        return tuple(clips)

    def check(self) -> None:
        """If there are faults, raise `MediaError` with one line per kind of fault, and the remedy."""
        if self._clips:
            lines = [f"  clips {what}: {name_some(clips)}" for what, clips in self._clips.items()]
            lines += [self._remedy, *([self._downloads] if self._downloads else [])]
            raise MediaError("\n".join([f"{self._dataset} cannot be used as it is:", *lines]))


def check_clips(dataset: Dataset, void: int | None = None) -> None:
    """Check every clip before a long run: open it and compare its masks with its frames.

    If `void` is None, give a notice of id 255 beside other ids: in many datasets it means void.

    Args:
        dataset: the dataset to check.
        void: see `stm_fast.media.masks.read_mask`.

    Raises:
        MediaError: frames or masks cannot be read, prompts show no object or differ from the frames in aspect, or a
            mask or a wanted frame has no frame of its name. The message names all clips.
    """
    faults = Faults(dataset.name, "fix these files, or leave the clips out")
    white = []
    for clip in dataset:
        try:
            frames = clip.open()
            given = _first_objects(clip, frames.size, void)
        except MediaError as error:
            faults.add(clip.name, f"that cannot be used ({error})")
            continue
        if not given:
            faults.add(clip.name, "whose masks show no object" + ("" if void is None else f" besides void {void}"))
        if void is None and len(given) > 1 and VOID in given:
            white.append(clip.name)
        strays = [name for name in clip.truth if not frames.may_hold(name)]
        if strays:
            faults.add(f"{clip.name} ({name_some(strays)})", "with masks that have no frame of their name")
        if lost := sorted(name for name in clip.wanted or () if not frames.may_hold(name)):
            faults.add(
                f"{clip.name} ({name_some(lost)})", f"with frames that are listed but not in {clip.frames.parent}"
            )
    faults.check()
    if white:
        notice(
            f"masks of {name_some(white)} have {VOID} beside other ids, which is followed as an object; void {VOID} "
            "leaves it out"
        )


def _first_objects(clip: Clip, size: tuple[int, int], void: int | None) -> tuple[int, ...]:
    """Return the objects of the first prompt that has any; compare prompts up to that one with the frames."""
    colours: dict[Colour, int] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaNotice)  # they are given when the masks are used
        for path in clip.prompts.values():
            if objects := object_ids(fit_mask(read_mask(path, colours, void=void), size, path)):
                return objects
    return ()


def name_some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
