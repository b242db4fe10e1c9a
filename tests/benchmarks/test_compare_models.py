"""Networks compared on the demo's clip."""

import pytest

from benchmarks.system.compare_models import OBJECTS, SIZE, enlarged, started
from stm_fast.data.demo_clip import CAT, render
from stm_fast.models.stm import STM
from tests.colours import ColourMemory, ColourQuery, Split, Threshold


@pytest.mark.parametrize("objects", OBJECTS)
def test_the_cat_is_whole_or_in_quarters(objects: int) -> None:
    pytest.importorskip("skimage")
    frame = enlarged(next(iter(render())))
    assert frame.image.shape[:2] == SIZE
    model = STM(ColourQuery(), ColourMemory(), Split(0), Split(4), Threshold()).eval()
    segmenter = started(model, [frame], objects)
    assert segmenter.objects == tuple(range(1, objects + 1))
    areas = segmenter._video.current.outer[1:].sum((1, 2))
    assert areas.sum() == (frame.mask == CAT).sum()
    assert areas.min() > 0.4 * areas.max()
