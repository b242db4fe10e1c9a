"""Threads that patch, undo and read at once, and what of the process they must not touch."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
import torch
from torch import Tensor

from stm_fast.integrations import patch, patched
from stm_fast.integrations.affinity import FusedAffinity

Load = Callable[[str], ModuleType]
THREADS = 8


@pytest.fixture
def often() -> Iterator[None]:
    """Threads change places as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def during_the_check(module: ModuleType, monkeypatch: pytest.MonkeyPatch, watch: Callable[[], None]) -> None:
    """Patch AOT's stand-in; `watch` is called in the middle of each of its reads."""
    plain = module.attention

    def attention(*args: object) -> object:
        watch()
        return plain(*args)

    monkeypatch.setattr(module, "attention", attention)
    patch(module).undo()


def in_a_thread(function: Callable[[], object]) -> object:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_random_numbers_of_another_thread_go_on(other: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(7)
    expected = torch.rand(300)
    torch.manual_seed(7)
    drawn: list[Tensor] = []
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("this seeds GPUs as well"))
    during_the_check(other("aot"), monkeypatch, lambda: drawn.append(in_a_thread(lambda: torch.rand(1))))
    assert len(drawn) > 5
    assert torch.equal(torch.cat([*drawn, torch.rand(300 - len(drawn))]), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_another_thread_sees_no_setting_changed(
    other: Load, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    def seen() -> tuple[object, ...]:
        settings = torch.utils._device.CURRENT_DEVICE, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        return torch.get_default_dtype(), torch.ones(1).dtype, torch.get_num_threads(), *settings

    aot, during = other("aot"), []
    torch.set_default_dtype(dtype)
    try:
        before = seen()
        during_the_check(aot, monkeypatch, lambda: during.append(in_a_thread(seen)))
        assert before[0] == dtype
        assert set(during) == {before}
        assert seen() == before
    finally:
        torch.set_default_dtype(torch.float32)


def test_many_threads_patch_the_same_and_different_modules(other: Load, often: None) -> None:
    """Each finds what it patched in place as long as it holds it; at last all is as it was."""
    names = ("stcn", "stm", "xmem_functions", "aot")
    modules = {name: other(name) for name in names}
    functions, bank, memory = modules["xmem_functions"], modules["stcn"].MemoryBank, modules["stm"].Memory
    before = [{**vars(holder)} for holder in (*modules.values(), bank, memory, modules["aot"].MultiheadAttention)]
    start = threading.Barrier(THREADS)
    keys = torch.randn(1, 4, 6), torch.randn(1, 4, 5)
    grids = [torch.randn(1, 2, *grid) for grid in ((1, 2, 3), (1, 2, 3), (2, 3), (2, 3))]

    def fused(name: str) -> bool:
        if name == "stcn":
            return isinstance(bank(1, 3)._global_matching(*keys), FusedAffinity)
        if name == "stm":
            return isinstance(memory()(*grids)[1], FusedAffinity)
        if name == "aot":
            tokens = [torch.randn(length, 1, 8) for length in (4, 6, 6)]
            return modules["aot"].MultiheadAttention(8, 2).eval()(*tokens)[1] is None
        affinity = functions.do_softmax(functions.get_similarity(keys[0], None, keys[1], None))
        return isinstance(affinity, FusedAffinity)

    def work(thread: int) -> list[bool]:
        torch.set_num_threads(1)
        start.wait()
        found = []
        for turn in range(4):
            name = names[(thread // 2 + turn) % len(names)]
            with patched(modules[name]), torch.no_grad():
                found += [fused(name) for _ in range(3)]
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(work, range(THREADS)))
    assert all(all(found) for found in results)
    after = [{**vars(holder)} for holder in (*modules.values(), bank, memory, modules["aot"].MultiheadAttention)]
    for once, now in zip(before, after, strict=True):
        assert [name for name in once if once[name] is not now[name] and callable(once[name])] == []


@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("groups", [1, 3])
def test_undo_in_the_middle_of_a_read(
    other: Load, monkeypatch: pytest.MonkeyPatch, top_k: int | None, groups: int
) -> None:
    """From another thread, at each of the places where the read calls a function that is replaced."""
    module, functions = other("xmem_manager"), other("xmem_functions")
    manager = module.MemoryManager(torch.randn(1, 8, 20), 1 + torch.rand(1, 1, 20), long=8, top_k=top_k)
    query, selection = torch.randn(1, 8, 3, 5), torch.rand(1, 8, 3, 5)
    values = [torch.randn(2, 6, 20), torch.randn(1, 6, 12), torch.randn(1, 6, 8)][:groups]
    expected, expected_usage = manager.match(query, selection, values)
    calls = 1 + groups
    for stop in range(calls):
        handle = patch(functions)
        left = [stop]

        def counted(name: str, left: list[int] = left, undo: Callable[[], None] = handle.undo) -> Callable[..., object]:
            def function(*args: object, **kwargs: object) -> object:
                result = getattr(functions, name)(*args, **kwargs)
                if left[0] == 0:
                    in_a_thread(undo)
                left[0] -= 1
                return result

            return function

        with monkeypatch.context() as during:
            for name in ("get_similarity", "do_softmax"):
                during.setattr(module, name, counted(name))
            result, usage = manager.match(query, selection, values)
        assert left[0] < 0
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(usage, expected_usage, rtol=1e-4, atol=1e-5)


def test_reads_beside_a_thread_that_patches_and_undoes(other: Load, often: None) -> None:
    module = other("xmem_manager")
    manager = module.MemoryManager(torch.randn(1, 8, 20), 1 + torch.rand(1, 1, 20), long=8, top_k=4)
    arguments = torch.randn(1, 8, 3, 5), torch.rand(1, 8, 3, 5), [torch.randn(2, 6, 20), torch.randn(1, 6, 12)]
    expected, expected_usage = manager.match(*arguments)

    def turn() -> None:
        for _ in range(10):
            patch(module).undo()

    with ThreadPoolExecutor(1) as pool:
        turning, reads = pool.submit(turn), 0
        while not turning.done():
            result, usage = manager.match(*arguments)
            torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(usage, expected_usage, rtol=1e-4, atol=1e-5)
            reads += 1
        turning.result()
    assert reads > 10
