"""A small STM that follows colours, a clip that it follows without a fault, and a run over it that was interrupted."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import stm_fast
from stm_fast.media.masks import read_mask, write_mask
from stm_fast.models.compact import compact_stm
from tests.colours import ids, model, paint

__all__ = ["ids", "model", "paint"]

ROWS = [("r..g", "...."), (".r.g", "...."), ("..rg", "...."), ("..gr", "...."), (".g.r", "...."), ("g..r", "....")]
TRUE = [("1002", "0000"), ("0102", "0000"), ("0012", "0000"), ("0021", "0000"), ("0201", "0000"), ("2001", "0000")]


@pytest.fixture
def pictures(paint):
    return [paint(*rows) for rows in ROWS]


@pytest.fixture
def truth(ids):
    return [ids(*rows) for rows in TRUE]


@pytest.fixture
def clip(tmp_path, pictures, truth):
    """The same clip as files: `frames/0.png` and so on, `mask.png`."""
    (tmp_path / "frames").mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "frames" / f"{index}.png")
    write_mask(tmp_path / "mask.png", truth[0])
    return tmp_path


@pytest.fixture
def track(model):
    """`stm_fast.track` with the small model."""
    return lambda video, masks=None, **options: stm_fast.track(video, masks, **({"model": model} | options))


@pytest.fixture
def stopped(clip, track):
    """A run that was interrupted after four frames."""

    def interrupt(frame):
        if frame.index == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        track(clip / "frames", clip / "mask.png").save(clip / "out", overlay=None, each=interrupt)
    assert json.loads((clip / "out" / "summary.json").read_text())["complete"] is False
    return clip


@pytest.fixture(scope="session")
def unsteady():
    """A compact model of random weights: what it finds in a frame depends on every bit of what it remembers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return compact_stm().eval()


@pytest.fixture
def noise():
    """Eight frames of noise that moves, and a mask of two objects for any of them."""
    still = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    mask = np.zeros((32, 48), np.uint8)
    mask[5:20, 5:25], mask[15:30, 30:45] = 1, 2
    return [np.roll(still, 3 * index, 1) for index in range(8)], mask


@pytest.fixture
def masks_in():
    """(folder) -> the masks of a run, by the number in their names."""
    return lambda out: {int(path.stem): read_mask(path) for path in sorted((out / "masks").glob("*.png"))}


@pytest.fixture
def assert_equal():
    """(masks, masks) are the same, by name."""

    def check(found, expected):
        assert list(found) == list(expected)
        for name, mask in expected.items():
            np.testing.assert_array_equal(found[name], mask, err_msg=str(name))

    return check
