"""Pixel formats of PyAV's frames, with alpha.

FFmpeg's conversion on several threads leaves wrong values of alpha where their parts of a picture meet.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


def converted(frame: "VideoFrame", **wanted: Any) -> "VideoFrame":
    """Return `frame.reformat(**wanted)`, computed on one thread."""
    return frame.reformat(**wanted, threads=1)
