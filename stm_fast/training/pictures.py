"""A picture of a batch: its frames with the true masks, and below them with the predicted ones."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stm_fast.media.contact_sheet import ContactSheet
from stm_fast.training.batch import VOID, Batch

MAX_CLIPS = 4
_TILE_WIDTH = 240


def write_picture(path: Path, batch: Batch, logits: Tensor) -> NDArray[np.uint8]:
    """Write a contact sheet of a batch: two rows for each clip, the truth above the prediction.

    Args:
        path: a PNG file.
        batch: clips on any device; the first four are shown.
        logits: what was predicted for frames 1..T-1, `(B, T-1, 1+K, S, S)`.

    Returns:
        The picture `(H, W, 3)`.

    Raises:
        OSError: the file cannot be written.
    """
    clips, times = min(len(batch.frames), MAX_CLIPS), batch.frames.shape[1]
    frames = (batch.frames[:clips] * 255).round().to("cpu", torch.uint8).permute(0, 1, 3, 4, 2).numpy()
    truth = batch.masks[:clips].cpu().numpy()
    truth = np.where(truth == VOID, 0, truth).astype(np.uint8)
    predicted = logits[:clips].detach().argmax(2).cpu().numpy().astype(np.uint8)
    sheet = ContactSheet(tiles=2 * clips * times, columns=times, tile_width=_TILE_WIDTH)
    for clip in range(clips):
        for time in range(times):
            sheet.add(f"frame {time}, truth", frames[clip, time], truth[clip, time])
        sheet.add("frame 0, given", frames[clip, 0], truth[clip, 0])
        for time in range(1, times):
            sheet.add(f"frame {time}, prediction", frames[clip, time], predicted[clip, time - 1])
    sheet.save(path)
    return np.asarray(Image.open(path).convert("RGB"))
