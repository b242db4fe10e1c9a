"""Add, correct and remove objects while a video is being segmented.

Run: python examples/edit_objects.py
"""

import numpy as np
from clip import intersection_over_union, render_clip

from stm_fast import Segmenter, load_model

BALL, CARD = 1, 2


def main() -> None:
    """Start with the ball, add the card at frame 3, correct the ball at frame 10, remove the card at frame 13."""
    clip = render_clip()
    segmenter = Segmenter(load_model("compact"))
    segmenter.start(clip.frames[0], np.where(clip.masks[0] == BALL, BALL, 0))
    for index in range(1, len(clip.frames)):
        result = segmenter.step(clip.frames[index])
        truth = clip.masks[index]
        if index == 3:
            result = segmenter.annotate(np.where(truth == CARD, CARD, 0), objects=[CARD])
        if index == 10:
            result = segmenter.annotate(np.where(truth == BALL, BALL, 0), objects=[BALL])
        if index == 13:
            segmenter.remove(CARD)
        js = (
            f"J({object_id}) {intersection_over_union(result.mask.numpy(), truth, object_id):.2f}"
            for object_id in result.objects
        )
        print(f"frame {index:2d}  objects {segmenter.objects}  " + "  ".join(js))


if __name__ == "__main__":
    main()
