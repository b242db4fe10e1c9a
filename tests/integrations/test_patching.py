"""Finding the reads of others, replacing them, and leaving no trace."""

import functools
import inspect
import json
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest
import torch

from stm_fast.errors import IntegrationError
from stm_fast.integrations import patch, patched
from stm_fast.integrations.affinity import FusedAffinity, LazySimilarity

Load = Callable[[str], ModuleType]
FUNCTIONS = ("get_similarity", "do_softmax", "get_affinity")


def toy() -> list[torch.Tensor]:
    return [torch.randn(1, 4, 6), 1 + torch.rand(1, 1, 6), torch.randn(1, 4, 5), torch.rand(1, 4, 5)]


def test_functions_are_replaced_wherever_they_were_imported_and_put_back(other: Load) -> None:
    manager, functions = other("xmem_manager"), other("xmem_functions")
    originals = [getattr(functions, name) for name in FUNCTIONS]
    with patched(manager) as patch_of_manager:
        assert {*patch_of_manager.replaced} == {f"{functions.__name__}.{name}" for name in FUNCTIONS}
        for module in (manager, functions):
            assert isinstance(module.get_similarity(*toy()), LazySimilarity)
            assert isinstance(module.get_affinity(*toy()), FusedAffinity)
    for module in (manager, functions):
        assert [getattr(module, name) for name in FUNCTIONS] == originals


def test_a_module_imported_while_patched_is_put_back_too(other: Load) -> None:
    functions = other("xmem_functions")
    with patched(functions):
        manager = other("xmem_manager")
        assert isinstance(manager.get_similarity(*toy()), LazySimilarity)
    assert manager.get_similarity is functions.get_similarity
    assert isinstance(manager.get_similarity(*toy()), torch.Tensor)


def test_the_original_returns_after_an_error(other: Load) -> None:
    stcn = other("stcn")
    original = stcn.MemoryBank._global_matching
    with pytest.raises(ZeroDivisionError), patched(stcn):
        raise ZeroDivisionError
    assert stcn.MemoryBank._global_matching is original


def test_the_last_of_several_patches_brings_the_original_back(other: Load) -> None:
    stcn = other("stcn")
    original = stcn.MemoryBank._global_matching
    first, second = patch(stcn), patch(stcn.MemoryBank)
    assert first.replaced == second.replaced == (f"{stcn.MemoryBank.__module__}.MemoryBank._global_matching",)
    for _ in range(2):
        first.undo()
        assert isinstance(stcn.MemoryBank(1)._global_matching(*toy()[::2]), FusedAffinity)
    second.undo()
    assert stcn.MemoryBank._global_matching is original
    second.undo()
    with patched(stcn):
        first.undo()
        assert stcn.MemoryBank._global_matching is not original
    assert stcn.MemoryBank._global_matching is original


def test_what_one_patch_holds_of_another_stays(other: Load) -> None:
    manager, functions = other("xmem_manager"), other("xmem_functions")
    first, second = patch(functions), patch(manager)
    first.undo()
    for module in (manager, functions):
        assert isinstance(module.get_similarity(*toy()), LazySimilarity)
    second.undo()
    assert isinstance(manager.get_similarity(*toy()), torch.Tensor)


def test_what_was_taken_of_ours_is_the_original_again(other: Load) -> None:
    stm = other("stm")
    with patched(stm):
        memory = stm.Memory()
        memory.forward = functools.partial(memory.forward)
        functions = other("xmem_functions")
        with patched(functions):
            taken = functions.get_similarity
    arguments = [torch.randn(1, 2, *grid) for grid in ((1, 2, 3), (1, 2, 3), (2, 3), (2, 3))]
    assert isinstance(memory(*arguments)[1], torch.Tensor)
    assert isinstance(taken(*toy()), torch.Tensor)


def test_a_wrapper_around_ours_is_patched_anew(other: Load) -> None:
    stm = other("stm")
    arguments = [torch.randn(1, 2, *grid) for grid in ((1, 2, 3), (1, 2, 3), (2, 3), (2, 3))]
    with patched(stm):
        forward = stm.Memory.forward
        wrapper = functools.wraps(forward)(lambda *args: forward(*args))
        stm.Memory.forward = wrapper
    assert isinstance(stm.Memory()(*arguments)[1], torch.Tensor)
    with patched(stm):
        assert isinstance(stm.Memory()(*arguments)[1], FusedAffinity)
    assert stm.Memory.forward is wrapper


def test_targets_may_be_modules_packages_classes_networks_and_what_holds_them(other: Load) -> None:
    aot, stm = other("aot"), other("stm")
    network = torch.nn.Sequential(torch.nn.Identity(), aot.MultiheadAttention(8, 2))
    package = ModuleType("tests.integrations.others")
    for target in (aot, network, SimpleNamespace(network=network, name="x"), aot.MultiheadAttention):
        with patched(target) as patch_of_target:
            assert f"{aot.__name__}.MultiheadAttention.forward" in patch_of_target.replaced
    with patched(package) as patch_of_package:
        assert {f"{stm.__name__}.Memory.forward", f"{aot.__name__}.GatedPropagation.forward"} <= {
            *patch_of_package.replaced
        }


def test_what_is_not_known_is_refused() -> None:
    for target, name in (
        (json, "'json'"),
        (torch.nn.Linear(2, 2), "Linear"),
        (3, "int"),
        (torch.nn.MultiheadAttention(8, 2), "MultiheadAttention"),
    ):
        with pytest.raises(IntegrationError, match=f"target .*{name}.* holds no known read.*XMem"):
            patch(target)


def test_other_parameters_are_another_version(other: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    functions = other("xmem_functions")

    def get_similarity(keys: object, queries: object) -> None: ...

    get_similarity.__module__ = functions.__name__
    monkeypatch.setattr(functions, "get_similarity", get_similarity)
    with pytest.raises(IntegrationError, match=r"get_similarity .*its parameters are keys, queries; known are mk, ms"):
        patch(functions)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_more_option_is_another_version(other: Load, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    functions = other("xmem_functions")
    original = getattr(functions, name)
    namespace = {"original": original}
    known = ", ".join(inspect.signature(original).parameters)
    exec(f"def {name}({known}, mask=None): return original({known})", namespace)
    namespace[name].__module__ = functions.__name__
    monkeypatch.setattr(functions, name, namespace[name])
    with pytest.raises(IntegrationError, match=rf"{name} is of an unknown version.*, mask; known are "):
        patch(functions)


def test_another_formula_is_another_version(other: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    stcn = other("stcn")
    monkeypatch.setattr(stcn, "_similarity", lambda mk, qk: mk.mT @ qk)
    with pytest.raises(
        IntegrationError, match=r"MemoryBank._global_matching .*its result is not that of the fused read"
    ):
        patch(stcn)


def test_a_read_that_fails_is_another_version(other: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    aot = other("aot")
    monkeypatch.setattr(aot, "attention", lambda *_: 1 / 0)
    with pytest.raises(IntegrationError, match=r"MultiheadAttention.forward .*ZeroDivisionError: division by zero"):
        patch(aot)


def test_another_affinity_is_another_version(other: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    functions = other("xmem_functions")

    def get_affinity(mk: object, ms: object, qk: object, qe: object) -> torch.Tensor:
        return functions.do_softmax(2 * functions.get_similarity(mk, ms, qk, qe))

    monkeypatch.setattr(functions, "get_affinity", get_affinity)
    with pytest.raises(IntegrationError, match="its result is not that of the fused read"):
        patch(functions)


def test_looking_does_not_depend_on_the_callers_settings(other: Load) -> None:
    functions = other("xmem_functions")
    with torch.autocast("cpu", torch.bfloat16):
        patch(functions).undo()
    torch.set_default_dtype(torch.bfloat16)
    try:
        patch(functions).undo()
        assert torch.get_default_dtype() == torch.bfloat16
    finally:
        torch.set_default_dtype(torch.float32)
