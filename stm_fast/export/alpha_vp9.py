"""VP9 in WebM, with an alpha channel."""

from pathlib import Path

from stm_fast.export.alpha_video import write_alpha_video
from stm_fast.export.options import ExportOptions
from stm_fast.export.result import Each, Result
from stm_fast.media.encode import VP9


def write(result: Result, target: Path, options: ExportOptions, each: Each) -> None:
    """Write the video; see `write_alpha_video`."""
    write_alpha_video(result, target, options, each, VP9)
