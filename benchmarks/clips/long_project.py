"""A long video and the finished results of it, as `stm-fast segment` leaves them, without the hours that it takes.

The video is H.264 as cameras write it: a key frame every second, and grain. Some seconds of it are rendered, and are
repeated up to its end, packet by packet. The masks are the true ones of the rendered clip. All is written by what
writes videos and results in the package; only the network does not run.

    project = make_project(OUT, 10_000)
"""

from contextlib import closing
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track as with_bar

from benchmarks.clips.long_clip import LongClip
from stm_fast import load_model
from stm_fast.errors import StmFastError
from stm_fast.media.encode import H264, VideoEncoder
from stm_fast.media.files import atomic_path
from stm_fast.media.masks import object_ids, write_mask
from stm_fast.media.sources import open_frames
from stm_fast.tracking.inputs import identity
from stm_fast.tracking.options import TrackOptions
from stm_fast.tracking.output import OutputFolder
from stm_fast.tracking.propagation import TrackedFrame
from stm_fast.tracking.results import Results

SIZE = (360, 640)
"""Height and width of the video."""
FPS = 25
OBJECTS = 3
_RENDERED = 600
"""Frames that are rendered, about."""
_GRAIN = 2.0
"""Standard deviation of the noise of a pixel, in levels of grey."""

Ids = NDArray[np.uint8]


@dataclass(frozen=True)
class LongProject:
    """A video and the folder of its results.

    Attributes:
        video: the mp4.
        folder: of the results.
        first_mask: the mask that was given, of frame 0.
        frames: number of frames.
    """

    video: Path
    folder: Path
    first_mask: Path
    frames: int


def make_project(out: Path, frames: int, key_frame_every: int = FPS) -> LongProject:
    """Return a project in a folder, which is made if it is not there.

    Args:
        out: the folder; one project per number of frames and distance of key frames goes there.
        frames: number of frames, a multiple of `key_frame_every`.
        key_frame_every: number of frames from one key frame to the next.

    Raises:
        ValueError: `frames` is not such a multiple.
        StmFastError: scikit-image is not installed, or the folder holds results of another video.
    """
    if frames < 1 or frames % key_frame_every:
        raise ValueError(f"frames must be a multiple of key_frame_every, got {frames} and {key_frame_every}")
    name = f"{frames}-{key_frame_every}"
    project = LongProject(out / f"{name}.mp4", out / name, out / f"{name}.png", frames)
    done = OutputFolder(project.folder)
    if done.summary.exists():
        if not project.video.exists():
            raise StmFastError(f"{project.folder} is there without {project.video}: delete it to make both anew")
        return project
    out.mkdir(parents=True, exist_ok=True)
    rendered = min(frames, key_frame_every * max(1, _RENDERED // key_frame_every))
    with atomic_path(project.video) as partial:
        short = partial.with_suffix(".short.mp4")
        masks = _write_video(short, rendered, key_frame_every)
        _repeat(short, rendered, partial, frames)
        short.unlink()
    write_mask(project.first_mask, _enlarged(masks[0]))
    _write_results(project, done, masks)
    return project


def _write_video(path: Path, rendered: int, key_frame_every: int) -> list[Ids]:
    """Write a video, and return the masks of its frames, `(H, W)` of a smaller size."""
    masks, rng = [], np.random.default_rng(0)
    coding = replace(H264, options={**H264.options, "g": str(key_frame_every), "sc_threshold": "0"})
    clip = LongClip(rendered, objects=OBJECTS)
    with closing(VideoEncoder(path, FPS, coding=coding)) as encoder:
        for image, mask in with_bar(clip, "video", rendered, console=Console(stderr=True)):
            large = Image.fromarray(image).resize(SIZE[::-1], Image.Resampling.BICUBIC)
            grain = rng.normal(0, _GRAIN, (*SIZE, 1)).astype(np.float32)
            encoder.write((np.asarray(large) + grain).round().clip(0, 255).astype(np.uint8))
            masks.append(mask)
        encoder.finish()
    return masks


def _repeat(path: Path, rendered: int, to: Path, frames: int) -> None:
    """Write a video of a number of frames from the packets of a shorter one."""
    import av

    with av.open(str(path)) as given, av.open(str(to), "w", format="mp4") as written:
        source = given.streams.video[0]
        packets = [packet for packet in given.demux(source) if packet.size]
        stream = written.add_stream_from_template(source)
        base, tick = source.time_base, packets[0].duration
        contents = [(bytes(each), each.pts, each.dts, each.is_keyframe) for each in packets]
        for turn in range(-(-frames // rendered)):
            shift = turn * rendered * tick
            for content, pts, dts, is_key_frame in contents:
                if pts + shift >= frames * tick:
                    break
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.duration = stream, base, tick
                packet.pts, packet.dts, packet.is_keyframe = pts + shift, dts + shift, is_key_frame
                written.mux(packet)


def _write_results(project: LongProject, out: OutputFolder, masks: list[Ids]) -> None:
    """Write results as a run of the defaults does whose network finds the true masks."""
    options, clip = TrackOptions(), open_frames(project.video)
    objects, rng = tuple(range(1, OBJECTS + 1)), np.random.default_rng(1)
    doubts = rng.gamma(4, 0.01, (project.frames, OBJECTS))
    results = Results(
        out,
        options.segmenter(load_model("compact"), clip.size),
        clip,
        settings={"mask": str(project.first_mask), **options.settings()},
        inputs=identity(clip, {clip.first_name: project.first_mask}),
    )
    frames = enumerate(zip(clip, cycle(masks), strict=False))
    with results:
        for number, (frame, small) in with_bar(frames, "results", project.frames, console=Console(stderr=True)):
            mask = _enlarged(small)
            seen = object_ids(mask)
            unsure = {each: doubts[number, each - 1] if each in seen and number else None for each in objects}
            results.write(TrackedFrame(number, frame.name, frame.image, mask, objects, unsure, frame.time))
        results.end_pass(0)
        results.finish()


def _enlarged(mask: Ids) -> Ids:
    return np.asarray(Image.fromarray(mask).resize(SIZE[::-1], Image.Resampling.NEAREST))
