"""Batches that processes of their own prepare."""

import multiprocessing
import os
import signal
from contextlib import closing

import numpy as np
import pytest
import torch

from stm_fast.errors import ArgumentError, MediaError, StmFastError
from stm_fast.training.batch import Example
from stm_fast.training.loader import Loader
from stm_fast.training.plan import Plan
from stm_fast.training.sampler import Clips, Parts
from stm_fast.training.sampling import Sampling
from tests.training.tiny_runs import TINY, MovingSquares, with_stage

RECIPE = with_stage(TINY, clips=5, steps=4)
SOURCE = MovingSquares()
PLAN = Plan(RECIPE, [len(SOURCE)])


def test_workers_yield_the_parts_in_order() -> None:
    own = [batch.frames for batch in Loader(Clips([SOURCE], PLAN, 0), Parts(PLAN, 1), workers=0)]
    with closing(Loader(Clips([SOURCE], PLAN, 0), Parts(PLAN, 1), workers=2)) as loader:
        helped = [batch.frames for batch in loader]
    assert len(own) == len(helped) == 3
    assert all(torch.equal(first, second) for first, second in zip(own, helped, strict=True))


def test_batches_pass_between_processes_as_bytes() -> None:
    """A container has 64 MB of shared memory, which a few batches of floats fill."""
    with closing(Loader(Clips([SOURCE], PLAN, 0), Parts(PLAN, 0), workers=1)) as loader:
        batch = next(loader)
    assert {part.dtype for part in batch} == {torch.uint8}


class Broken(MovingSquares):
    def draw(self, index: int, rng: np.random.Generator, sampling: Sampling) -> Example | None:
        raise ArgumentError("frames", "must be fewer")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_data_is_a_sentence(workers: int) -> None:
    with (
        closing(Loader(Clips([Broken()], PLAN, 0), Parts(PLAN, 0), workers)) as loader,
        pytest.raises(MediaError, match=r"^frames must be fewer$"),
    ):
        next(loader)


def test_data_without_objects_is_told() -> None:
    with pytest.raises(MediaError, match="no clip of 3 frames that begins with an object"):
        next(Loader(Clips([MovingSquares(misses=1)], PLAN, 0), Parts(PLAN, 0), workers=0))


class Killed(MovingSquares):
    """Kills the process that draws from it, unless it is the main one."""

    def draw(self, index: int, rng: np.random.Generator, sampling: Sampling) -> Example | None:
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().draw(index, rng, sampling)


def test_a_killed_worker_is_a_sentence() -> None:
    loader = Loader(Clips([Killed()], PLAN, 0), Parts(PLAN, 0), workers=1)
    with pytest.raises(StmFastError, match=r"ended with exit code -9.* use fewer workers"):
        next(loader)
    loader.close()
    assert not multiprocessing.active_children()


def test_closing_ends_the_workers() -> None:
    loader = Loader(Clips([SOURCE], PLAN, 0), Parts(PLAN, 0), workers=2)
    assert len(multiprocessing.active_children()) == 2
    next(loader)
    loader.close()
    assert not multiprocessing.active_children()
    assert list(loader) == []
