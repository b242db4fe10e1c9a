"""Segment Anything 2 (Ravi et al., 2024) by transformers, where it and its weights are installed."""

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from stm_fast.errors import ArgumentError, WeightsError, first_line
from stm_fast.prompters.hints import Box, Hints, Point

WEIGHTS = "facebook/sam2.1-hiera-tiny"
VARIABLE = "STM_FAST_SAM2"
"""Environment variable that names other weights, such as a folder."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LOGIT = 10.0
"""Of a pixel in a given mask; minus this outside of it."""


class Sam2Prompter:
    """Segments an object with Segment Anything 2; see `stm_fast.prompters.registry.Prompter`.

    Args:
        weights: a folder that transformers saved, or the name of a model on the Hugging Face Hub; None for the
            environment variable STM_FAST_SAM2, or else facebook/sam2.1-hiera-tiny.
        download: whether weights that are not on this machine may be downloaded.
        device: of the network, such as "cpu" or "cuda".

    Raises:
        ArgumentError: transformers is not installed, or has no SAM 2.
        WeightsError: the weights are not on this machine, or cannot be used.
    """

    def __init__(self, weights: str | None = None, *, download: bool = False, device: str = "cpu") -> None:
        try:
            from transformers import Sam2Model
        except ImportError as error:
            raise ArgumentError("prompter", "sam2 needs transformers with SAM 2: pip install transformers") from error
        name = weights or os.environ.get(VARIABLE) or WEIGHTS
        try:
            self._model: Any = Sam2Model.from_pretrained(name, local_files_only=not download)
        except (OSError, ValueError, RuntimeError) as error:
            raise WeightsError(
                f"weights of sam2, {name}, cannot be used ({first_line(error)}): `hf download {WEIGHTS}` fetches them, "
                f"and {VARIABLE} names a folder that holds others"
            ) from error
        self._model.to(device).eval()
        side = self._model.config.prompt_encoder_config.image_size
        self._side = int(side if isinstance(side, int) else side[0])

    def __call__(
        self, image: NDArray[np.uint8], hints: Hints, mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.bool_]:
        """Segment an object; see `stm_fast.prompters.registry.Prompter`."""
        found = np.zeros(image.shape[:2], bool)
        with torch.inference_mode():
            pixels = self._pixels(image)
            for box in hints.boxes or (None,):
                found |= self._one(pixels, image.shape[:2], box, hints, mask)
        return found

    def _one(
        self,
        pixels: torch.Tensor,
        size: tuple[int, int],
        box: Box | None,
        hints: Hints,
        mask: NDArray[np.bool_] | None,
    ) -> NDArray[np.bool_]:
        """Return what is found with one box, or with points alone."""
        device = pixels.device
        foreground = [p for p in hints.foreground if box is None or (box.x0 <= p.x < box.x1 and box.y0 <= p.y < box.y1)]
        given: dict[str, Any] = {}
        if points := [*foreground, *hints.background]:
            labels = [1] * len(foreground) + [0] * len(hints.background)
            given["input_points"] = self._scaled(points, size).to(device)[None, None]
            given["input_labels"] = torch.tensor(labels, device=device)[None, None]
        if box is not None:
            corners = [Point(box.x0, box.y0), Point(box.x1 - 1, box.y1 - 1)]
            given["input_boxes"] = self._scaled(corners, size).to(device).reshape(1, 1, 4)
        if mask is not None and mask.any():
            known = torch.from_numpy(mask).float().to(device)[None, None]
            given["input_masks"] = _LOGIT * (2 * known - 1)
        output = self._model(pixel_values=pixels, multimask_output=mask is None, **given)
        best = int(output.iou_scores[0, 0].argmax())
        logits = torch.nn.functional.interpolate(
            output.pred_masks[0, 0, best][None, None].float(), size, mode="bilinear", align_corners=False
        )
        return (logits[0, 0] > 0).cpu().numpy()

    def _pixels(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """Return a frame as the network takes it, `(1, 3, side, side)`."""
        square = Image.fromarray(image).resize((self._side, self._side), Image.Resampling.BILINEAR)
        rgb = np.asarray(square, np.float32) / 255
        normalized = (rgb - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)
        weight = next(self._model.parameters())
        return torch.from_numpy(normalized).permute(2, 0, 1)[None].to(weight.device, weight.dtype)

    def _scaled(self, points: list[Point], size: tuple[int, int]) -> torch.Tensor:
        """Return the middles of pixels in the network's square, `(N, 2)`."""
        height, width = size
        middles = [((p.x + 0.5) * self._side / width, (p.y + 0.5) * self._side / height) for p in points]
        return torch.tensor(middles, dtype=torch.float32)
