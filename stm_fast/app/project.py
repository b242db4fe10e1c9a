"""A project: the folder of results, what the user gave for it, and how its objects are shown."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_fast.app.adoption import adopt, check_source, objects_followed
from stm_fast.app.events import Events
from stm_fast.app.given import GivenMasks, Ids
from stm_fast.app.objects import ProjectObject, check_id
from stm_fast.app.project_file import Noted, read_project, write_project
from stm_fast.app.refusal import Refusal
from stm_fast.app.timeline import Timeline
from stm_fast.errors import MediaError
from stm_fast.media.frames import FrameSource
from stm_fast.media.masks import object_ids, read_mask
from stm_fast.tracking.inputs import source_digest
from stm_fast.tracking.output import OutputFolder


class Stale(Refusal):
    """A change was made for an earlier revision of the project."""

    def __init__(self) -> None:
        super().__init__(412, "another tab changed the project: look at it, and try again")


class Project:
    """A video and its results, as all tabs see them. Changes are made one at a time, and are on disk when they return.

    Args:
        clip: the video.
        root: folder of the results, which this process holds.
        events: that hear of changes.

    Attributes:
        source: digest of the video, by which pictures of another one are told apart.
        revision: number of changes so far.
        objects: by id.

    Raises:
        MediaError: what is there cannot be used.
    """

    def __init__(self, clip: FrameSource, root: Path, events: Events) -> None:
        self.clip, self.out, self.events = clip, OutputFolder(root), events
        self.frames = clip.exact_count()
        self.source = source_digest(clip)
        self.lock = RLock()
        check_source(self.out, clip)
        adopt(self.out, clip)
        self.given = GivenMasks(root, clip)
        self.timeline = Timeline(self.out, clip)
        self._file = root / "project.json"
        noted = read_project(self._file)
        self.revision, self.objects, self._deleted = noted.revision + 1, noted.objects, noted.deleted
        seen = self.given.objects() | objects_followed(self.out)
        for object_id in sorted(seen - self.objects.keys() - self._deleted):
            self.objects[object_id] = ProjectObject.new(object_id)
        for number in {*self.given.first, *self.given.corrected}:
            self._note_given(number)
        self._save()

    def describe(self) -> dict[str, Any]:
        """Return what the page shows of the project, in types of JSON."""
        with self.lock:
            height, width = self.clip.size
            return {
                "video": Path(self.clip.path).name,
                "source": self.source,
                "frames": self.frames,
                "height": height,
                "width": width,
                "fps": None if self.clip.fps is None else round(float(self.clip.fps), 3),
                "revision": self.revision,
                "objects": [{"id": each, **found.described()} for each, found in sorted(self.objects.items())],
                "deleted": sorted(self._deleted),
                "first_masks": self.given.first,
                "corrections": {str(each): self.given.corrected_objects(each) for each in self.given.corrected},
                "done": len(self.timeline.done),
            }

    def publish(self, event: str, **details: Any) -> None:
        """Tell all tabs of something."""
        self.events.publish({"event": event, **details, "revision": self.revision})

    def check_frame(self, number: int) -> int:
        """Return the number of a frame; raise `Refusal` if the video has none."""
        if self.clip.name_of(number) is None or (self.frames is not None and number >= self.frames):
            last = "" if self.frames is None else f": the video has frames 0 to {self.frames - 1}"
            raise Refusal(404, f"there is no frame {number}{last}")
        return number

    def check_revision(self, revision: int) -> None:
        """Raise `Stale` unless a revision is that of now; called under `lock`."""
        if revision != self.revision:
            raise Stale

    @contextmanager
    def changing(self, revision: int) -> Iterator[int]:
        """Make a change based on a revision; yield the revision that it leads to.

        Raises:
            Stale: the project was changed since.
        """
        with self.lock:
            self.check_revision(revision)
            yield revision + 1
            self.revision += 1
            self._save()
            self.publish("project")

    def mask(self, number: int) -> Ids | None:
        """Return the mask of a frame: what was given over what was found, without deleted objects; None for none."""
        with self.lock:
            mask = self.given.paint(number, self._result(number))
            if mask is None:
                return None
            shown = np.zeros(256, np.uint8)
            shown[list(self.objects)] = list(self.objects)
            return shown[mask]

    def mask_version(self, number: int) -> str:
        """Return a text that changes when the mask of a frame does, and that no other video has."""
        with self.lock:
            paths = [self.out.masks / f"{self.clip.name_of(number)}.png", *self.given.files(number)]
        stats = [f"{each.stat().st_mtime_ns:x}.{each.stat().st_size:x}" for each in paths if each.is_file()]
        kind = "-".join(stats) or "none"
        return f"{self.source}-{number}-{kind}-{hash(tuple(sorted(self.objects))) & 0xFFFFFFFF:x}"

    def not_followed(self) -> list[int]:
        """Return the numbers of the frames that were corrected since objects were followed there, ascending."""
        with self.lock:
            return [number for number in self.given.corrected if self._is_newer(number)]

    def give(self, number: int, objects: Collection[int], mask: Ids) -> None:
        """Take where a user says that objects are in a frame; called while changing.

        Before anything was found, the earliest frame with masks has the first mask. All that is given later, and in
        other frames, is a correction.

        Args:
            number: of the frame.
            objects: ids that are spoken of; one without pixels in the mask is not in the frame.
            mask: ids `(H, W)`; other ids are not looked at.

        Raises:
            Refusal: an id is out of range, or nothing shows an object yet and the mask does not either.
        """
        masks = {check_id(each): mask == each for each in sorted(objects)}
        shown = {each: found for each, found in masks.items() if found.any()}
        first = self.given.first
        if not first and not shown:
            raise Refusal(400, f"frame {number} shows no object: draw one before saying that one is not there")
        for object_id in masks:
            self.add_object(object_id)
        begun = bool(self.timeline.done)
        if not first or (not begun and number < first[0] and shown):
            self._show_first(number, masks)
        elif not begun and number in first and number not in self.given.corrected:
            before = self.given.first_mask(number)
            assert before is not None
            before[np.isin(before, list(masks)) | np.any(list(masks.values()), axis=0)] = 0
            self.given.add_first(number, before + _label_map(shown, self.clip.size))
            self._promote()
        else:
            self.given.correct(number, masks)
        for each in {number, *first, *self.given.first}:
            self._note_given(each)

    def take_back(self, number: int) -> None:
        """Take back what was given for a frame; called while changing.

        Raises:
            Refusal: nothing was, or masks were found from it.
        """
        if drawn := set(self.given.corrected_objects(number)) - self._deleted:
            self.given.forget_correction(number, drawn)
        elif number not in self.given.first:
            raise Refusal(404, f"nothing was drawn in frame {number}")
        elif self.timeline.done:
            raise Refusal(
                409, f"the masks of other frames were found from that of frame {number}: draw it anew instead"
            )
        else:
            self.given.add_first(number, np.zeros(self.clip.size, np.uint8))
            self._promote()
        for each in {number, *self.given.first}:
            self._note_given(each)

    def delete_object(self, object_id: int) -> None:
        """Delete an object, and what was given of it; called while changing.

        Where masks were found from a first mask that shows it, a correction says that it is not there.

        Raises:
            Refusal: there is no such object.
        """
        if check_id(object_id) not in self.objects:
            raise Refusal(404, f"there is no object {object_id}")
        for number in self.given.corrected:
            if object_id in self.given.corrected_objects(number):
                self.given.forget_correction(number, [object_id])
        for number in self.given.first:
            mask = self.given.first_mask(number)
            if mask is None or not (mask == object_id).any():
                continue
            if self.timeline.done:
                self.given.correct(number, {object_id: np.zeros(self.clip.size, bool)})
            else:
                self.given.add_first(number, np.where(mask == object_id, 0, mask).astype(np.uint8))
        self._promote()
        del self.objects[object_id]
        if self.timeline.done:
            self._deleted.add(object_id)
        for number in {*self.given.first, *self.given.corrected}:
            self._note_given(number)

    def add_object(self, object_id: int) -> None:
        """Add an object, unless there is one of this id; called while changing."""
        self._deleted.discard(check_id(object_id))
        self.objects.setdefault(object_id, ProjectObject.new(object_id))

    def _is_newer(self, number: int) -> bool:
        """Return whether the correction of a frame is newer than the mask that was found."""
        result = self.out.masks / f"{self.clip.name_of(number)}.png"
        drawn = max(path.stat().st_mtime_ns for path in self.given.files(number))
        return not result.is_file() or result.stat().st_mtime_ns < drawn

    def _result(self, number: int) -> Ids | None:
        """Return what was found in a frame; None for nothing."""
        if number not in self.timeline.done:
            return None
        path = self.out.masks / f"{self.clip.name_of(number)}.png"
        try:
            mask = read_mask(path)
        except MediaError:
            if number in {self.clip.number_of(name) for name in self.out.frames_done()}:
                raise
            return None  # it is being made anew
        if mask.shape != (size := self.clip.size):
            raise MediaError(
                f"{path} is {mask.shape[1]}×{mask.shape[0]} but the frames are {size[1]}×{size[0]}: it is not of this "
                "clip"
            )
        return mask

    def _promote(self) -> None:
        """Make the earliest correction that shows an object the first mask, if there is no first mask."""
        for number in [] if self.given.first else self.given.corrected:
            correction = self.given.correction(number)
            if correction is not None and object_ids(np.asarray(correction.mask)):
                self.given.add_first(number, np.asarray(correction.mask, np.uint8))
                self.given.forget_correction(number)
                return

    def _show_first(self, number: int, masks: Mapping[int, NDArray[np.bool_]]) -> None:
        """Make masks by id the first mask, and the first masks of other frames corrections.

        Whenever the process is killed, what is on disk shows each object where it was shown.
        """
        later = self.given.first
        for each in later:
            mask = self.given.paint(each, None)
            assert mask is not None
            self.given.correct(each, {found: mask == found for found in object_ids(mask)})
        if number in self.given.corrected:
            self.given.forget_correction(number, masks)
        self.given.add_first(number, _label_map(masks, self.clip.size))
        for each in later:
            self.given.add_first(each, np.zeros(self.clip.size, np.uint8))

    def _note_given(self, number: int) -> None:
        mask = self.mask(number) if {number} & {*self.given.first, *self.given.corrected} else None
        objects = self.given.corrected_objects(number)
        if mask is not None and number in self.given.first and number not in self.timeline.done:
            objects = [*object_ids(mask)]
        self.timeline.give(number, mask, objects)

    def _save(self) -> None:
        noted = Noted(self.revision, self.objects, self._deleted)
        write_project(self._file, str(self.clip.path), noted)


def _label_map(masks: Mapping[int, NDArray[np.bool_]], size: tuple[int, int]) -> Ids:
    labels = np.zeros(size, np.uint8)
    for object_id, mask in masks.items():
        labels[mask] = object_id
    return labels
