"""The moving picture of README, made from the results of `stm-fast demo`.

    python -m tools.moving_picture stm-fast-demo docs/images/demo.webp

Shows the clip with its masks drawn in. They fade in at the beginning of the clip, so that frames are seen without them
too. The picture begins after that: its first frame is all that a program without animation shows.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from stm_fast.data.demo_clip import FPS
from stm_fast.media.files import atomic_path
from stm_fast.media.masks import read_mask
from stm_fast.media.overlay import blend

PLAIN, FADING = 6, 4
"""Frames without masks, and frames in which the masks appear."""
OPACITY = 0.45
MAX_BYTES = 1_500_000


def pictures(demo: Path) -> Iterator[Image.Image]:
    """Yield the frames of a demo's folder with their masks drawn in."""
    for index, path in enumerate(sorted((demo / "clip" / "frames").glob("*.png"))):
        frame = np.asarray(Image.open(path).convert("RGB"))
        shown = blend(frame, read_mask(demo / "masks" / path.name), OPACITY)
        share = min(max((index - PLAIN) / FADING, 0.0), 1.0)
        yield Image.blend(Image.fromarray(frame), Image.fromarray(shown), share)


def write(demo: Path, out: Path, quality: int) -> int:
    """Write the pictures as an animated WebP that repeats for ever; return its bytes.

    Raises:
        SystemExit: it would be larger than a page should load.
    """
    clip = list(pictures(demo))
    first, *others = clip[PLAIN + FADING :] + clip[: PLAIN + FADING]
    with atomic_path(out) as partial:
        first.save(
            partial,
            format="WEBP",
            save_all=True,
            append_images=others,
            duration=round(1000 / FPS),
            loop=0,
            quality=quality,
            method=4,
        )
        size = partial.stat().st_size
        if size > MAX_BYTES:
            raise SystemExit(f"the picture has {size:,} bytes, and may have {MAX_BYTES:,}: give a lower --quality")
    return size


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(prog="tools.moving_picture", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("demo", type=Path, help="folder that `stm-fast demo` wrote")
    parser.add_argument("out", type=Path, help="file to write, .webp")
    parser.add_argument("--quality", type=int, default=70, help="of the WebP, 0 to 100")
    arguments = parser.parse_args()
    print(f"{arguments.out}: {write(arguments.demo, arguments.out, arguments.quality):,} bytes")


if __name__ == "__main__":
    main()
