"""A video with an alpha channel."""

from contextlib import closing
from fractions import Fraction
from pathlib import Path

from stm_fast.export.cutouts import cutouts
from stm_fast.export.options import ExportOptions
from stm_fast.export.result import Each, Result
from stm_fast.media.encode import Coding, VideoEncoder
from stm_fast.tracking.overlay import IMAGES_FPS


def write_alpha_video(result: Result, target: Path, options: ExportOptions, each: Each, coding: Coding) -> None:
    """Write the frames cut out, with straight alpha; see `cutouts`.

    They have the times of the video, or the rate that is asked for.
    """
    source = result.source
    rate = Fraction(options.fps).limit_denominator(1001) if options.fps else source.fps or IMAGES_FPS
    with closing(VideoEncoder(target, rate, source.pixel_aspect, coding)) as encoder:
        for frame, picture in cutouts(result, options):
            encoder.write(picture, None if options.fps else frame.time)
            each(frame)
        encoder.finish()
