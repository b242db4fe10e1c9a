"""Targets that would be left as they are: what they read with is found, or they are refused with the reason."""

import functools
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from stm_fast.errors import IntegrationError
from stm_fast.integrations import patch, patched
from stm_fast.integrations.affinity import FusedAffinity, LazySimilarity

Load = Callable[[str], ModuleType]


def stm_arguments() -> list[Tensor]:
    return [torch.randn(1, 2, *grid) for grid in ((1, 2, 3), (1, 2, 3), (2, 3), (2, 3))]


def is_fused(memory: nn.Module) -> bool:
    return isinstance(memory(*stm_arguments())[1], FusedAffinity)


class TestSTCN:
    def test_the_network_for_evaluation_reads_with_the_bank(self, other: Load) -> None:
        bank, training = other("stcn"), other("stcn_network")
        evaluation = other("stcn_evaluation")
        reader = training.MemoryReader.get_affinity
        expected = (f"{bank.__name__}.MemoryBank._global_matching",)
        for target in (evaluation.STCN(), evaluation.STCN, SimpleNamespace(prop_net=evaluation.STCN())):
            with patched(target) as patch_of_network:
                assert patch_of_network.replaced == expected
                memory = bank.MemoryBank(1, top_k=3)
                memory.mem_k, memory.mem_v = torch.randn(1, 4, 6), torch.randn(1, 2, 6)
                assert isinstance(memory._global_matching(memory.mem_k, torch.randn(1, 4, 5)), FusedAffinity)
                assert training.MemoryReader.get_affinity is reader

    def test_it_is_refused_while_no_bank_is_loaded(self, other: Load) -> None:
        evaluation = other("stcn_evaluation")
        assert "tests.integrations.others.stcn" not in sys.modules
        for target in (evaluation.STCN(), evaluation):
            with pytest.raises(IntegrationError, match=r"STCN's network for evaluation.*import inference_memory_bank"):
                patch(target)

    def test_the_network_for_training_reads_with_its_reader(self, other: Load) -> None:
        other("stcn")
        training = other("stcn_network")
        with patched(training.STCN()) as patch_of_network:
            assert patch_of_network.replaced == (f"{training.__name__}.MemoryReader.get_affinity",)

    def test_a_package_is_patched_for_both(self, other: Load) -> None:
        names = [other(name).__name__ for name in ("stcn", "stcn_network", "stcn_evaluation")]
        with patched(ModuleType("tests.integrations.others")) as patch_of_package:
            assert {f"{names[0]}.MemoryBank._global_matching", f"{names[1]}.MemoryReader.get_affinity"} <= {
                *patch_of_package.replaced
            }

    def test_a_bank_of_other_code_is_not_taken_for_its_own(
        self, other: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: object
    ) -> None:
        evaluation, elsewhere = other("stcn_evaluation"), ModuleType("elsewhere")
        elsewhere.__file__ = f"{tmp_path}/elsewhere.py"
        elsewhere.MemoryBank = type("MemoryBank", (), {"_global_matching": lambda self, mk, qk: None})
        monkeypatch.setitem(sys.modules, "elsewhere", elsewhere)
        with pytest.raises(IntegrationError, match="no module of its code with one is loaded"):
            patch(evaluation.STCN())

    def test_scripts_that_import_one_another_by_bare_names_are_one_code(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: object
    ) -> None:
        """As STCN's own are: `model.eval_network` beside `inference_memory_bank`."""
        for name, lines in {
            "toy_model/__init__": "",
            "toy_model/network": "class Network:\n    def segment_with_query(self, mem_bank): ...\n",
            "toy_bank": "import torch\nclass MemoryBank:\n"
            "    def __init__(self, k, top_k=20): self.top_k = top_k\n"
            "    def _global_matching(self, mk, qk):\n"
            "        s = (2 * mk.mT @ qk - mk.square().sum(1)[..., None]) / mk.shape[1] ** 0.5\n"
            "        best, tokens = s.topk(self.top_k, dim=1)\n"
            "        return torch.zeros_like(s).scatter_(1, tokens, best.softmax(1))\n",
        }.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(lines)
        monkeypatch.syspath_prepend(tmp_path)
        for name in ("toy_model", "toy_model.network", "toy_bank"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        network = __import__("toy_model.network").network.Network
        bank = __import__("toy_bank")
        with patched(network()) as patch_of_network:
            assert patch_of_network.replaced == ("toy_bank.MemoryBank._global_matching",)
        assert bank.MemoryBank(1, 2)._global_matching(torch.randn(1, 2, 3), torch.randn(1, 2, 3)).shape == (1, 3, 3)
        for name in ("toy_model", "toy_model.network", "toy_bank"):
            sys.modules.pop(name)

    def test_a_bank_that_matches_otherwise_is_refused(self, other: Load) -> None:
        stcn = other("stcn")

        class Plain(stcn.MemoryBank):
            def match_memory(self, qk: Tensor) -> Tensor:
                return self.mem_v @ (self.mem_k.mT @ qk.flatten(2)).softmax(1)

        class Counting(stcn.MemoryBank):
            def match_memory(self, qk: Tensor) -> Tensor:
                return self.counted(qk)

            def counted(self, qk: Tensor) -> Tensor:
                return super().match_memory(qk)

        with pytest.raises(
            IntegrationError, match=r"Plain.match_memory, which overrides that of MemoryBank and uses none"
        ):
            patch(SimpleNamespace(bank=Plain(1)))
        with patched(SimpleNamespace(banks={1: [Counting(1)]})) as patch_of_bank:
            assert patch_of_bank.replaced == (f"{stcn.__name__}.MemoryBank._global_matching",)


class TestSubclasses:
    def test_those_that_inherit_or_call_the_read_have_it(self, other: Load) -> None:
        stm = other("stm")

        class Heir(stm.Memory):
            pass

        class Caller(stm.Memory):
            def forward(self, *args: Tensor) -> tuple[Tensor, Tensor]:
                return super().forward(*args)

        class CallsByName(stm.Memory):
            def forward(self, *args: Tensor) -> tuple[Tensor, Tensor]:
                return stm.Memory.forward(self, *args)

        for kind in (Heir, Caller, CallsByName):
            for target in (kind(), kind, nn.Sequential(kind())):
                with patched(target):
                    assert is_fused(kind())
                assert not is_fused(kind())

    def test_one_that_reads_the_same_itself_is_patched(self, other: Load) -> None:
        stm = other("stm")

        class Own(stm.Memory):
            def forward(self, m_in: Tensor, m_out: Tensor, q_in: Tensor, q_out: Tensor) -> tuple[Tensor, Tensor]:
                affinity = (m_in.flatten(2).mT @ q_in.flatten(2) / m_in.shape[1] ** 0.5).softmax(1)
                return torch.cat([(m_out.flatten(2) @ affinity).view_as(m_out[:, :, 0]), q_out], 1), affinity

        with patched(Own()):
            assert is_fused(Own())
        assert not is_fused(Own())

    def test_one_that_reads_otherwise_is_refused(self, other: Load) -> None:
        stm = other("stm")

        class Sharper(stm.Memory):
            def forward(self, m_in: Tensor, m_out: Tensor, q_in: Tensor, q_out: Tensor) -> tuple[Tensor, Tensor]:
                affinity = (2 * m_in.flatten(2).mT @ q_in.flatten(2)).softmax(1)
                return torch.cat([(m_out.flatten(2) @ affinity).view_as(m_out[:, :, 0]), q_out], 1), affinity

        with pytest.raises(IntegrationError, match=r"Sharper.forward .*its result is not that of the fused read"):
            patch(nn.Sequential(Sharper()))
        assert not is_fused(stm.Memory())

    def test_a_manager_of_its_own_that_does_not_use_the_functions_is_refused(self, other: Load) -> None:
        module, functions = other("xmem_manager"), other("xmem_functions")

        class Base(module.MemoryManager):
            def match_memory(self, query: Tensor) -> Tensor:
                return functions.get_similarity(self.key, None, query, None)

        class Plain(Base):
            def match_memory(self, query: Tensor) -> Tensor:
                return (self.key.mT @ query).softmax(1)

        for kind, refused in ((Base, False), (Plain, True)):
            core = SimpleNamespace(memory=kind(torch.randn(1, 8, 20), None, long=8, top_k=None))
            if refused:
                with pytest.raises(IntegrationError, match=r"Plain.match_memory, which overrides that of Base"):
                    patch(core)
            else:
                with patched(core):
                    assert isinstance(core.memory.match_memory(torch.randn(1, 8, 5)), LazySimilarity)

    def test_a_network_that_segments_without_its_memory_is_refused(self, other: Load) -> None:
        stm = other("stm")

        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.Memory = stm.Memory()

            def segment(self, *args: Tensor) -> Tensor:
                return self.Memory(*args)[0]

        class Other(Network):
            def segment(self, *args: Tensor) -> Tensor:
                return args[-1]

        with patched(Network()) as patch_of_network:
            assert patch_of_network.replaced == (f"{stm.__name__}.Memory.forward",)
        with pytest.raises(
            IntegrationError, match=r"Other.segment, which overrides that of Network and uses none of Memory"
        ):
            patch(Other())


class TestWrappers:
    @pytest.mark.parametrize("wrap", ["DataParallel", "compile", "compiled in place", "in what is held"])
    def test_wrapped_networks_are_patched(self, other: Load, wrap: str) -> None:
        stm = other("stm")
        network = nn.Sequential(stm.Memory())
        wrapped = {
            "DataParallel": lambda: nn.DataParallel(network),
            "compile": lambda: torch.compile(network, backend="eager"),
            "compiled in place": lambda: network.compile(backend="eager") or network,
            "in what is held": lambda: SimpleNamespace(models=[{"a": SimpleNamespace(net=network)}]),
        }[wrap]()
        memory = network[0]
        with patched(wrapped) as patch_of_network:
            assert patch_of_network.replaced == (f"{stm.__name__}.Memory.forward",)
            assert is_fused(memory)
        assert not is_fused(memory)

    def test_code_compiled_before_reads_fused_while_it_is_patched(self, other: Load) -> None:
        stm = other("stm")
        compiled, arguments = torch.compile(stm.Memory(), backend="eager"), stm_arguments()
        expected, matrix = compiled(*arguments)
        assert isinstance(matrix, Tensor)
        with patched(compiled):
            result, affinity = compiled(*arguments)
        assert isinstance(affinity, FusedAffinity)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
        assert isinstance(compiled(*arguments)[1], Tensor)

    def test_a_forward_of_the_objects_own_is_refused(self, other: Load) -> None:
        stm = other("stm")
        network = nn.Sequential(stm.Memory())
        plain = network[0].forward
        network[0].forward = functools.wraps(plain)(lambda *args: plain(*args))
        with pytest.raises(
            IntegrationError, match=r"holds a Memory with a forward of its own, which hides .*Memory.forward"
        ):
            patch(network)
        del network[0].forward
        with patched(network):
            assert is_fused(network[0])

    @pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
    def test_a_scripted_or_traced_network_is_refused(self, other: Load) -> None:
        memory = other("stm").Memory()
        for fixed, name in (
            (torch.jit.trace(memory, stm_arguments()), "ScriptModule"),
            (torch.fx.symbolic_trace(memory), "GraphModule"),
        ):
            with pytest.raises(IntegrationError, match=f"the code of its {name} is fixed already"):
                patch(SimpleNamespace(network=fixed))

    def test_a_function_that_cannot_be_replaced_is_named(self, other: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        functions = other("xmem_functions")
        monkeypatch.setattr(functions, "get_similarity", functools.partial(functions.get_similarity))
        with pytest.raises(
            IntegrationError, match="its get_similarity is a partial, and only a function can be replaced"
        ):
            patch(functions)

    def test_a_network_without_the_module_is_refused(self, other: Load) -> None:
        training = other("stcn_network")
        with pytest.raises(IntegrationError, match=r"none of its networks holds a .*stcn_network.MemoryReader"):
            patch(training.Decoder())

    def test_one_more_parameter_is_another_version(self, other: Load) -> None:
        aot = other("aot")

        class Masked(aot.MultiheadAttention):
            def forward(self, Q: Tensor, K: Tensor, V: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
                return super().forward(Q, K, V * mask)

        Masked.__name__ = Masked.__qualname__ = "MultiheadAttention"
        Masked.__module__ = aot.__name__
        with pytest.raises(
            IntegrationError, match=r"MultiheadAttention.forward is of an unknown version.*Q, K, V, mask; known are Q"
        ):
            patch(SimpleNamespace(attention=Masked(8, 2)))

    def test_methods_stand_for_their_objects(self, other: Load) -> None:
        stm = other("stm")
        memory = stm.Memory()
        with patched(memory.forward):
            assert is_fused(memory)
