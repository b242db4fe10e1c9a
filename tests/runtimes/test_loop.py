"""The loop of examples/onnx_loop.py segments as the segmenter does, and needs no torch."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stm_fast import Segmenter, load_model
from stm_fast.runtimes.onnx_files import export_onnx
from tests.colours import Blocks, ids, model, paint

__all__ = ["ids", "model", "paint"]

EXAMPLES = Path(__file__).parents[2] / "examples"

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import onnx_loop

    yield onnx_loop
    for name in ("onnx_loop", "clip"):
        sys.modules.pop(name, None)


def test_masks_are_those_of_the_segmenter(
    example, model: torch.nn.Module, paint: Blocks, ids: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames that need padding, more frames than are kept, and reads in strips of one row."""
    monkeypatch.setattr(example, "SCORES_AT_ONCE", 1)
    export_onnx(model, tmp_path / "models")
    drawn = [
        paint("....", ".r..", "..g.", "...."),
        paint("....", "..r.", ".g..", "...."),
        paint("....", "..r.", "..g.", "...."),
    ]
    frames = np.stack(drawn * 3)[:, 3:-4, 5:-6]
    mask = ids("0000", "0100", "0020", "0000")[3:-4, 5:-6]
    segmenter = Segmenter(model)
    segmenter.start(frames[0], mask)
    for frame, (found, probabilities) in zip(
        frames[1:], example.segment(tmp_path / "models", frames, mask), strict=True
    ):
        result = segmenter.step(frame)
        np.testing.assert_allclose(probabilities, result.probabilities.numpy(), rtol=0, atol=1e-4)
        np.testing.assert_array_equal(found, result.mask.numpy())
    assert set(np.unique(found)) == {0, 1, 2}


def test_holes_of_a_mask_are_filled_alike(example) -> None:
    from stm_fast.inference.objects import without_holes
    from stm_fast.models.aggregation import other_masks

    masks = (torch.rand(2, 40, 50, generator=torch.Generator().manual_seed(0)) > 0.9).float()
    masks[1] *= 1 - masks[0]
    expected = without_holes(masks[:, None], other_masks(masks[:, None]), 4)[:, 0]
    assert expected.sum() > 1.2 * masks.sum()
    np.testing.assert_array_equal(example.without_holes(masks.numpy(), 4), expected.numpy())


@pytest.mark.slow
def test_the_example_segments_the_clip_without_torch(example, tmp_path: Path) -> None:
    """At most one pixel of 1000 differs: where two tokens are equally good but for rounding, either may be read."""
    models = tmp_path / "models"
    export_onnx(load_model("compact"), models)
    clip = example.render_clip()
    segmenter = Segmenter(load_model("compact"))
    segmenter.start(clip.frames[0], clip.masks[0])
    for frame, (mask, _) in zip(clip.frames[1:], example.segment(models, clip.frames, clip.masks[0]), strict=True):
        assert (mask != segmenter.step(frame).mask.numpy()).mean() < 1e-3
    done = subprocess.run(
        [sys.executable, EXAMPLES / "onnx_loop.py", models], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "torch was not loaded" in done.stdout
    assert float(re.search(r"mean J ([\d.]+)", done.stdout)[1]) > 0.7
