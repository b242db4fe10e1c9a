"""What a model does badly, as the model card shows it: a score and a row of pictures for each hard clip.

    python -m benchmarks.system.weaknesses OUT.png [MODEL]

Prints Markdown and draws frames with the masks that the model found: the given one, and those after a third, two
thirds and all of each clip of `benchmarks.clips.hard_clips`.
"""

import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import machine
from benchmarks.clips.hard_clips import CLIPS, FRAMES, HardFrame
from stm_fast import Segmenter, load_model
from stm_fast.media.contact_sheet import ContactSheet
from stm_fast.memory import presets
from stm_fast.tracking.options import resolve_dtype

COLOURS = 160
"""Of the pictures, whose file is then a third of the size."""
SHOWN = (0, FRAMES // 3, 2 * FRAMES // 3, FRAMES - 1)


def main(out: str, name: str = "compact") -> None:
    """Print a line for every clip, and write the pictures."""
    model = load_model(name, dtype=resolve_dtype("auto", "cpu"))
    sheet = ContactSheet(tiles=len(CLIPS) * len(SHOWN), columns=len(SHOWN), tile_width=300)
    print(machine.line(str(next(model.parameters()).dtype)), end="\n\n")
    print("| clip | objects | mean J | J of the last frame |\n|---|---|---|---|")
    for clip, render in CLIPS.items():
        frames = list(render())
        masks = found(Segmenter(model, policy=presets.auto(), size="auto"), frames)
        scores = [overlap(mask, frame.mask) for mask, frame in zip(masks[1:], frames[1:], strict=True)]
        print(f"| {clip} | {frames[0].mask.max()} | {np.mean(scores):.3f} | {scores[-1]:.3f} |", flush=True)
        for index in SHOWN:
            sheet.add(f"{clip}, frame {index}", frames[index].image, masks[index])
    sheet.save(out)
    with Image.open(out) as picture:
        small = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(out, optimize=True)


def found(segmenter: Segmenter, frames: list[HardFrame]) -> list[NDArray[np.uint8]]:
    """Return the masks of a clip, the given one first."""
    segmenter.start(frames[0].image, frames[0].mask)
    return [frames[0].mask, *(segmenter.step(frame.image).mask.numpy() for frame in frames[1:])]


def overlap(mask: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Return J, the mean over objects of intersection over union."""
    objects = [identity for identity in np.unique(truth) if identity]
    pairs = [(mask == identity, truth == identity) for identity in objects]
    return float(np.mean([(seen & wanted).sum() / (seen | wanted).sum() for seen, wanted in pairs]))


if __name__ == "__main__":
    main(*sys.argv[1:])
