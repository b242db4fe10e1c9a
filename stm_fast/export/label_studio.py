"""Label Studio: a task for each frame, with brush masks as predictions."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import stm_fast
from stm_fast.export.json_stream import json_array
from stm_fast.export.options import ExportOptions
from stm_fast.export.result import Each, MaskedFrame, Result

IMAGE, BRUSH = "image", "tag"
"""Names of the Image and BrushLabels tags in the labelling interface."""
_LENGTH_BITS = (3, 4, 8, 16)
_CHANNELS = 4


def write(result: Result, target: Path, options: ExportOptions, each: Each) -> None:
    """Write the tasks as they come. The image of a task is its name after the image root."""
    with target.open("w", encoding="utf-8") as file, json_array(file) as append:
        for frame in result:
            regions = [_region(frame, object_id, result.size, options) for object_id in frame.objects]
            prediction = {"model_version": f"stm-fast {stm_fast.__version__}", "result": regions}
            image = options.image_root + result.image_name(frame.name)
            append({"data": {IMAGE: image, "frame": frame.name}, "predictions": [prediction]})
            each(frame)


def _region(frame: MaskedFrame, object_id: int, size: tuple[int, int], options: ExportOptions) -> dict[str, object]:
    return {
        "id": f"{frame.index}-{object_id}",
        "type": "brushlabels",
        "from_name": BRUSH,
        "to_name": IMAGE,
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
        "meta": {"text": [f"object {object_id}"]},
        "value": {
            "format": "rle",
            "rle": list(brush_runs(frame.mask == object_id)),
            "brushlabels": [options.category(object_id)],
        },
    }


def brush_runs(mask: NDArray[np.bool_]) -> bytes:
    """Return a mask `(H, W)` as the run lengths of Label Studio's brush.

    The mask is a picture of four channels, 255 in all of them where the object is, read along its rows. The code is a
    row of bits: the number of values (32 bits), the bits of a value less one (5), four sizes of lengths, each less one
    (4 bits each); and for each run 1, the place of the size that its length has (2), its length less one and its value.
    """
    pixels = mask.ravel()
    starts = np.concatenate([[0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1])
    lengths = np.diff(starts, append=pixels.size) * _CHANNELS
    bits = [f"{pixels.size * _CHANNELS:032b}{8 - 1:05b}", *(f"{size - 1:04b}" for size in _LENGTH_BITS)]
    for length, value in zip(lengths.tolist(), pixels[starts].tolist(), strict=True):
        while length:
            place = next((p for p, size in enumerate(_LENGTH_BITS) if length <= 1 << size), len(_LENGTH_BITS) - 1)
            part = min(length, 1 << _LENGTH_BITS[place])
            bits.append(f"1{place:02b}{part - 1:0{_LENGTH_BITS[place]}b}{'1' * 8 if value else '0' * 8}")
            length -= part
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")
