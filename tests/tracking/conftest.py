"""A small STM that follows colours, a clip that it follows without a fault, and a run over it that was interrupted."""

import json

import pytest
from PIL import Image

import stm_fast
from stm_fast.media.masks import write_mask
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
