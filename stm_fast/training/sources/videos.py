"""Clips of annotated videos, for the second stage of training."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.clips import Clip
from stm_fast.errors import ArgumentError, MediaError
from stm_fast.media.notices import notice
from stm_fast.training.augment.affine import Picture, shrink
from stm_fast.training.augment.presets import Preset
from stm_fast.training.batch import Example
from stm_fast.training.sampling import Sampling
from stm_fast.training.sources.objects import choose_objects, object_ids


class VideoSource:
    """Clips of T frames of a video, in order of time, with random gaps (STM paper, section 3.5).

    Only annotated frames are drawn. The gaps between them are independent and uniform, from none to `max_skip` frames
    left out; less where the video is too short for T frames that far apart. Objects on the first frame are kept, at
    most `max_objects`, chosen at random. Other objects, also those that appear later, become background.

    Args:
        videos: annotated videos, for instance a `Dataset`; those with one annotated frame or none are left out.
        preset: how frames are made.
        interval: frames from one annotated frame to the next. `max_skip` is divided by it, as in STCN's code, where it
            is 5 for YouTube-VOS; 1 counts annotated frames.

    Raises:
        MediaError: no video has two annotated frames, or the first one's frames cannot be read one by one.
    """

    def __init__(self, videos: Iterable[Clip], preset: Preset, interval: int = 1) -> None:
        if interval < 1:
            raise ArgumentError("interval", f"must be at least 1, got {interval}")
        self.preset = preset
        self.interval = interval
        self._videos = [(video, tuple(video.truth)) for video in videos if len(video.truth) > 1]
        if not self._videos:
            raise MediaError("no video has two annotated frames to train on")
        _tell_of_gaps(self._videos[0][0], interval)
        self._longest = max(len(names) for _, names in self._videos)

    def __len__(self) -> int:
        return len(self._videos)

    def draw(self, index: int, rng: np.random.Generator, sampling: Sampling) -> Example | None:
        """Draw a clip from video `index`; see `ClipSource`. A video with fewer annotated frames than a clip has none.

        Raises:
            ArgumentError: no video has as many annotated frames as a clip.
            MediaError: a file cannot be read, or a frame and its mask do not have the size of the first frame.
        """
        if sampling.frames > self._longest:
            raise ArgumentError(
                "frames",
                f"must be at most {self._longest}, the annotated frames of the longest video; got {sampling.frames}",
            )
        video, names = self._videos[index]
        if len(names) < sampling.frames:
            return None
        times = draw_times(len(names), sampling.frames, sampling.max_skip // self.interval, rng)
        if rng.random() < self.preset.reverse:
            times = times[::-1]
        drawn = [names[time] for time in times]
        masks = [video.read_truth(drawn[0])]
        if not masks[0].any():
            return None
        masks += (video.read_truth(name) for name in drawn[1:])
        pictures = [(_read_frame(video, name), mask) for name, mask in zip(drawn, masks, strict=True)]
        _check_sizes(video.name, drawn, pictures)
        pictures = [shrink(frame, mask, 2 * sampling.size) for frame, mask in pictures]
        first = pictures[0][1]
        ids = object_ids(first)
        if not len(ids):
            return None
        augmentation = self.preset.videos
        views = augmentation.views(rng, first, ids, sampling)
        warped = [view.of(*picture) for view, picture in zip(views, pictures, strict=True)]
        frames = augmentation.recolour(rng, [frame for frame, _ in warped])
        return choose_objects(frames, [mask for _, mask in warped], sampling.max_objects, rng)


def draw_times(length: int, frames: int, max_skip: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `frames` ascending times of `length`, with at most `max_skip` times left out between two of them."""
    skip = min(max_skip, (length - frames) // max(frames - 1, 1))
    gaps = rng.integers(1, skip + 2, frames - 1)
    times = np.concatenate([[0], np.cumsum(gaps)])
    return times + int(rng.integers(length - times[-1]))


def _tell_of_gaps(video: Clip, interval: int) -> None:
    """Give a notice if not all frames of a video are annotated."""
    frames, annotated = len(video.frame_names()), len(video.truth)
    if annotated < frames:
        counted = "max_skip counts annotated frames" if interval == 1 else f"max_skip is divided by {interval}"
        notice(
            f"{annotated} of the {frames} frames of {video.name} are annotated: clips are drawn from annotated frames, "
            f"and {counted}"
        )


def _read_frame(video: Clip, name: str) -> Picture:
    try:
        return video.read_frame(name)
    except KeyError as error:
        raise MediaError(f"{video.name} has a mask of frame {name} but no such frame") from error


def _check_sizes(video: str, names: list[str], pictures: list[tuple[Picture, Picture]]) -> None:
    size = pictures[0][0].shape[:2]
    for name, (frame, mask) in zip(names, pictures, strict=True):
        for what, seen in (("frame", frame.shape[:2]), ("mask", mask.shape)):
            if seen != size:
                raise MediaError(
                    f"{what} {name} of {video} is {seen[1]}x{seen[0]} pixels, and frame {names[0]} {size[1]}x{size[0]}"
                )
