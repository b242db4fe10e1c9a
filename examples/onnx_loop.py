"""Segment frames with numpy and onnxruntime, without torch.

Run: stm-fast export-model models && python examples/onnx_loop.py models
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from clip import intersection_over_union, render_clip
from numpy.typing import NDArray

Array = NDArray[np.float32]
EVERY = 5
"""Every n-th frame stays in memory, besides the first and the previous."""
PROVIDERS = ["CPUExecutionProvider"]
SCORES_AT_ONCE = 2**24
"""Bound on pairs of query and memory token that a read looks at together: 64 MB of scores."""


class Loop:
    """Follow objects from the mask of the first frame, as `stm_fast.Segmenter` does at the frames' own size.

    Args:
        folder: what `stm-fast export-model` wrote.
        frame: the first frame, RGB `(H, W, 3)` uint8.
        mask: its objects, ids `(H, W)`.
    """

    def __init__(self, folder: Path, frame: NDArray[np.uint8], mask: NDArray[np.integer]) -> None:
        self._sessions = {
            path.stem: onnxruntime.InferenceSession(path, providers=PROVIDERS) for path in folder.glob("*.onnx")
        }
        about = self._sessions["read"].get_modelmeta().custom_metadata_map
        self._stride, hole_size = int(about["stm_fast.stride"]), int(about["stm_fast.hole_size"])
        self._shares_keys, self._guided = (about[f"stm_fast.{name}"] == "true" for name in ("shares_keys", "guided"))
        self.objects = np.unique(mask[mask > 0])
        given = (mask == self.objects[:, None, None]).astype(np.float32)
        self._kept: list[tuple[Array, Array]] = []
        self._previous: tuple[Array, Array] | None = None
        self._index = 0
        self._guide: dict[str, Array] = {}
        padded = self._padded(frame)
        self._memorise(padded, self._query(padded), self._pad(without_holes(given, hole_size)))

    def step(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.integer], Array]:
        """Return ids `(H, W)` of the next frame, and probabilities of background and objects `(O + 1, H, W)`."""
        padded = self._padded(frame)
        query = self._query(padded)
        memory = self._kept if self._previous is None else [*self._kept, self._previous]
        readout = self._read(query["query_key"], memory)
        name = "decode_unguided" if self._guided and not self._guide else "decode"
        (probabilities,) = self._run(name, **query, readout=readout, **self._guide)
        probabilities = self._unpad(probabilities, frame.shape[:2])
        self._index += 1
        # As the padding of a frame, that of its masks is zero.
        masks = self._pad(probabilities[1:])
        self._guide = {"previous_masks": masks, "previous_value": query["query_value"]}
        self._memorise(padded, query, masks)
        return np.append(0, self.objects)[probabilities.argmax(0)], probabilities

    def _query(self, padded: Array) -> dict[str, Array]:
        names = [output.name for output in self._sessions["encode_query"].get_outputs()]
        return dict(zip(names, self._run("encode_query", frame=padded), strict=True))

    def _memorise(self, padded: Array, query: dict[str, Array], masks: Array) -> None:
        found = self._run("encode_memory", frame=padded, query_value=query["query_value"], masks=masks)
        key, value = (query["query_key"], *found) if self._shares_keys else found
        self._previous = key, value
        if self._index % EVERY == 0:
            self._kept.append(self._previous)
            self._previous = None

    def _read(self, key: Array, memory: list[tuple[Array, Array]]) -> Array:
        """Read the memory some rows of the frame at a time, so that the scores stay small however long it is."""
        keys, values = (np.stack(frames, axis=2) for frames in zip(*memory, strict=True))
        pairs_per_row = key.shape[3] * np.prod(keys.shape[2:]) * len(keys)
        rows = max(1, int(SCORES_AT_ONCE // pairs_per_row))
        strips = [
            self._run("read", query_key=key[:, :, first : first + rows], memory_key=keys, memory_value=values)[0]
            for first in range(0, key.shape[2], rows)
        ]
        return np.concatenate(strips, axis=2)

    def _run(self, name: str, **values: Array) -> list[Array]:
        """Run a model on those of the values that it takes."""
        session = self._sessions[name]
        taken = {each.name: np.ascontiguousarray(values[each.name]) for each in session.get_inputs()}
        found: list[Array] = session.run(None, taken)
        return found

    def _padded(self, frame: NDArray[np.uint8]) -> Array:
        return self._pad(frame.transpose(2, 0, 1).astype(np.float32) / 255)[:, 0][None]

    def _pad(self, planes: Array) -> Array:
        """`(N, H, W)` -> `(N, 1, H, W)` with zeros around to multiples of the stride."""
        above, below, left, right = self._margins(*planes.shape[1:])
        return np.pad(planes, ((0, 0), (above, below), (left, right)))[:, None]

    def _unpad(self, planes: Array, size: tuple[int, ...]) -> Array:
        above, _, left, _ = self._margins(*size)
        return planes[:, above : above + size[0], left : left + size[1]]

    def _margins(self, height: int, width: int) -> tuple[int, int, int, int]:
        rows, columns = -height % self._stride, -width % self._stride
        return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2


def without_holes(masks: Array, size: int) -> Array:
    """Fill holes and gaps of masks `(O, H, W)` up to `size` pixels wide, where no other object is."""
    if not size:
        return masks
    around = np.pad(masks, ((0, 0), (size, size), (size, size)))
    closed = -largest(-largest(around, size + 1), size + 1)
    others = (masks.sum(0) - masks).clip(0, 1)
    return np.maximum(masks, np.minimum(closed, 1 - others))


def largest(planes: Array, side: int) -> Array:
    """Return the maximum over each window of `side`² pixels, `(N, H, W)` -> `(N, H - side + 1, W - side + 1)`."""
    for axis in (1, 2):
        planes = np.lib.stride_tricks.sliding_window_view(planes, side, axis).max(-1)
    return planes


def segment(
    folder: Path, frames: NDArray[np.uint8], mask: NDArray[np.integer]
) -> Iterator[tuple[NDArray[np.integer], Array]]:
    """Yield ids and probabilities of the second and all later frames of a video."""
    loop = Loop(folder, frames[0], mask)
    for frame in frames[1:]:
        yield loop.step(frame)


def main() -> None:
    """Follow both objects of the clip and print their J against the true masks."""
    clip = render_clip()
    scores = []
    for index, (mask, _) in enumerate(segment(Path(sys.argv[1]), clip.frames, clip.masks[0]), 1):
        js = [intersection_over_union(mask, clip.masks[index], object_id) for object_id in (1, 2)]
        print(f"frame {index:2d}  J(1) {js[0]:.2f}  J(2) {js[1]:.2f}")
        scores += js
    print(f"mean J {np.mean(scores):.3f}; torch was {'' if 'torch' in sys.modules else 'not '}loaded")


if __name__ == "__main__":
    main()
