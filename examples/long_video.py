"""Follow objects through a long video with a small memory, in a run that can be killed and resumed at any time.

Run: python examples/long_video.py [STATE]; a second run resumes from the STATE that the first one left.
"""

import sys
import tempfile
from pathlib import Path

from clip import intersection_over_union, render_clip

from stm_fast import Segmenter, load_model
from stm_fast.memory import presets

SAVED_EVERY = 10


def main(state: Path, stop: int | None = None) -> None:
    """Segment a clip; end the run before frame `stop`. The card hides the ball at frame 20."""
    clip = render_clip(length=32)
    segmenter = Segmenter(load_model("compact"), policy=presets.long_term(frames=6, every=2))
    if state.exists():
        segmenter.restore(state)
    else:
        segmenter.start(clip.frames[0], clip.masks[0])
    first = segmenter.frame_index + 1
    print(f"from frame {first}")
    for index in range(first, len(clip.frames)):
        if index == stop:
            return
        result = segmenter.step(clip.frames[index])
        if index % SAVED_EVERY == 0:
            segmenter.save(state)
            ball = intersection_over_union(result.mask.numpy(), clip.masks[index], 1)
            print(f"frame {index:2d}  J of the ball {ball:.2f}  memory {segmenter.memory.nbytes / 1e6:.1f} MB")
    print(segmenter.memory.table(segmenter.objects))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder) / "state.safetensors", stop=25)
            main(Path(folder) / "state.safetensors")
