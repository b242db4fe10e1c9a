"""Segment frames one by one, as they come from a camera or a decoder, given the mask of the first.

Run: python examples/segment_frames.py
"""

from clip import intersection_over_union, render_clip

from stm_fast import Segmenter, load_model


def main() -> None:
    """Follow both objects of the clip and print their J against the true masks."""
    clip = render_clip()
    segmenter = Segmenter(load_model("compact"))
    segmenter.start(clip.frames[0], clip.masks[0])
    scores = []
    for frame, truth in zip(clip.frames[1:], clip.masks[1:], strict=True):
        result = segmenter.step(frame)
        js = {object_id: intersection_over_union(result.mask.numpy(), truth, object_id) for object_id in result.objects}
        print(f"frame {result.index:2d}  " + "  ".join(f"J({object_id}) {j:.2f}" for object_id, j in js.items()))
        scores += js.values()
    print(f"mean J {sum(scores) / len(scores):.3f}")


if __name__ == "__main__":
    main()
