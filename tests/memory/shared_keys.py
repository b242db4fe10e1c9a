"""Frames of objects that share their keys, and policies for them."""

from dataclasses import replace

import torch
from torch import Tensor

from stm_fast.memory import presets
from stm_fast.memory.policies import LongTerm
from tests.memory.banks import HEIGHT, WIDTH, frame_of

TOKENS = HEIGHT * WIDTH
POLICIES = {
    "official": presets.official(2),
    "window": presets.window(4, 1),
    "least-used": presets.least_used(5, 1),
    "long-term": replace(presets.long_term(6, 1), eviction=LongTerm(recent=3, prototypes=8 / TOKENS)),
    "diverse": presets.diverse(8, 1),
    "auto": presets.auto(30, 1),
}


def shared_frame_of(objects: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return random keys `(1, Ck, h, w)` and values `(O, Cv, h, w)` of a frame."""
    keys, values = frame_of(objects, seed)
    return keys[:1], values


def presence_of(objects: int, seed: int) -> Tensor:
    """Return the share of each location that each object covers `(O, h, w)`."""
    return torch.rand(objects, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1000 + seed))


def query_of(seed: int) -> Tensor:
    """Return keys of a frame to read with `(1, Ck, h, w)`."""
    return frame_of(1, 5000 + seed)[0]
