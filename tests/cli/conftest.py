"""A clip of a red square on black, an STM that follows colours, and a runner of commands."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

import stm_fast
from stm_fast.cli.main import app
from stm_fast.media.masks import write_mask
from stm_fast.models.stm import STM

FRAMES = 6
SIZE = (32, 64)


class Colours(nn.Module):
    """Mean colour of each 16×16 block; with masks, how much of it they cover as well."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, frames, masks=None, others=None):
        colours = F.avg_pool2d(frames, 16)
        if masks is None:
            return colours, ()
        return torch.cat([colours.expand(len(masks), -1, -1, -1), F.avg_pool2d(masks, 16)], 1)


class Head(nn.Module):
    """Key: colour and darkness; value: the last channel."""

    def forward(self, features):
        colours = features[:, :3]
        return 10 * torch.cat([colours, 1 - colours.amax(1, keepdim=True)], 1), features[:, -1:]


class Decoder(nn.Module):
    """An object is where its memory covered more than half."""

    def forward(self, readout, value, skips):
        logit = F.interpolate(20 * (readout - 0.5), scale_factor=16)
        return torch.cat([-logit, logit], 1)


@pytest.fixture
def colour_model(monkeypatch):
    """Every model that a command loads is one that follows colours; returns the arguments it was asked with."""
    asked = []

    def load(name, **options):
        asked.append((name, options))
        return STM(Colours(), Colours(), Head(), Head(), Decoder()).eval().to(options["dtype"])

    monkeypatch.setattr(stm_fast, "load_model", load, raising=False)
    return asked


@pytest.fixture
def clip(tmp_path) -> Path:
    """A folder with `frames`, `masks` for all of them and `first.png`."""
    for index in range(FRAMES):
        mask = np.zeros(SIZE, np.uint8)
        mask[:16, 16 * (index % 4) : 16 * (index % 4) + 16] = 1
        write_mask(tmp_path / "clip" / "masks" / f"{index}.png", mask)
        (tmp_path / "clip" / "frames").mkdir(exist_ok=True)
        picture = np.where(mask[..., None] > 0, (255, 0, 0), 0).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "clip" / "frames" / f"{index}.png")
    (tmp_path / "clip" / "masks" / "0.png").rename(tmp_path / "clip" / "first.png")
    write_mask(tmp_path / "clip" / "masks" / "0.png", np.array(Image.open(tmp_path / "clip" / "first.png")))
    return tmp_path / "clip"


@pytest.fixture
def stm(tmp_path, monkeypatch):
    """Run `stm-fast` with arguments in an empty folder; a traceback fails the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STM_FAST_DEBUG", raising=False)

    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        return result

    return run
