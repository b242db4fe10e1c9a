"""The peak of memory since a measurement began."""

import mmap
from pathlib import Path

import pytest
import torch

from stm_fast.evaluation import peak_memory
from stm_fast.evaluation.peak_memory import PeakMemory

CPU = torch.device("cpu")
LARGE, MEGABYTE = 200_000_000, bytes(1_000_000)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux alone")
def test_a_peak_ends_with_its_measurement():
    first = PeakMemory(CPU)
    before = first.bytes()
    # not of the heap, which keeps what earlier tests gave back
    with mmap.mmap(-1, LARGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        for _ in range(LARGE // len(MEGABYTE)):
            held.write(MEGABYTE)
        with_it = first.bytes()
    assert with_it > before + 0.9 * LARGE
    assert PeakMemory(CPU).bytes() < with_it - 0.9 * LARGE


def test_without_proc_it_is_that_of_the_whole_process(monkeypatch, tmp_path):
    monkeypatch.setattr(peak_memory, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(peak_memory, "_RESET", tmp_path / "no" / "folder")
    assert PeakMemory(CPU).bytes() > 10_000_000
