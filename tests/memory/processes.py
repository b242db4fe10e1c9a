"""Processes of one gloo group that run functions together, each started fresh: gloo has hung in one that ran tests."""

import contextlib
import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


@contextlib.contextmanager
def group_of(size: int, folder: Path) -> Iterator[Callable[..., list[Any]]]:
    """So many processes.

    Args:
        size: their number.
        folder: for the file by which they find one another.

    Yields:
        A function that calls another one, which can be imported, with arguments on every rank, and returns the results
        in the order of ranks. What one of them raises fails the test and ends them all.
    """
    context = multiprocessing.get_context("spawn")
    ends, processes = [], []
    for rank in range(size):
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, rank, size, folder / "rendezvous"), daemon=True)
        process.start()
        there.close()
        ends.append(here)
        processes.append(process)

    def kill() -> None:
        for process in processes:
            process.kill()

    def call(function: Callable[..., Any], *arguments: object) -> list[Any]:
        for end in ends:
            end.send((function, arguments))
        results: dict[int, Any] = {}
        while len(results) < size:
            waiting = {ends[rank]: rank for rank in range(size) if rank not in results}
            for end in wait(list(waiting)):
                assert isinstance(end, Connection)
                raised, result = end.recv()
                if raised:
                    # The others may wait for it for ever.
                    kill()
                    raise AssertionError(f"rank {waiting[end]} raised\n{result}")
                results[waiting[end]] = result
        return [results[rank] for rank in range(size)]

    try:
        yield call
        for end in ends:
            end.send(None)
        for process in processes:
            process.join()
    finally:
        kill()


def _serve(end: Connection, rank: int, size: int, rendezvous: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)
    while (job := end.recv()) is not None:
        function, arguments = job
        try:
            end.send((False, function(*arguments)))
        except Exception:
            end.send((True, traceback.format_exc()))
    dist.destroy_process_group()
