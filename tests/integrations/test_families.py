"""Each family reads the same with and without us: stand-ins in its shape, and the numbers of the originals."""

import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from stm_fast.errors import IntegrationError
from stm_fast.integrations import patch, patched
from tests.golden.seeded import seeded_tensor

Load = Callable[[str], ModuleType]
RELATIVE = 1e-5


def assert_equal(result: Tensor, golden: Tensor) -> None:
    assert result.shape == golden.shape
    assert (result - golden).abs().max() <= RELATIVE * golden.abs().max()


class TestXMem:
    @pytest.mark.parametrize(("top_k", "name"), [(None, "xmem_dense"), (30, "xmem_topk30")])
    def test_golden(self, other: Load, reads: dict[str, Tensor], top_k: int | None, name: str) -> None:
        functions = other("xmem_functions")
        with patched(functions):
            similarity = functions.get_similarity(
                reads["memory_key"], reads["xmem_shrinkage"], reads["query_key"], reads["xmem_selection"]
            )
            affinity, usage = functions.do_softmax(similarity, top_k=top_k, inplace=True, return_usage=True)
            assert_equal(reads["memory_value"][:1] @ affinity, reads[f"{name}_readout"])
        assert_equal(usage, reads[f"{name}_usage"])

    @pytest.mark.parametrize("top_k", [None, 4])
    @pytest.mark.parametrize("groups", [1, 3])
    def test_groups_long_term_and_usage(self, other: Load, top_k: int | None, groups: int) -> None:
        module = other("xmem_manager")
        manager = module.MemoryManager(torch.randn(1, 8, 20), 1 + torch.rand(1, 1, 20), long=8, top_k=top_k)
        query, selection = torch.randn(1, 8, 3, 5), torch.rand(1, 8, 3, 5)
        values = [torch.randn(2, 6, 20), torch.randn(1, 6, 12), torch.randn(1, 6, 8)][:groups]
        expected, expected_usage = manager.match(query, selection, values)
        with patched(module):
            result, usage = manager.match(query, selection, values)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(usage, expected_usage, rtol=1e-4, atol=1e-5)

    def test_consolidation(self, other: Load) -> None:
        module = other("xmem_manager")
        manager = module.MemoryManager(torch.randn(1, 8, 20), 1 + torch.rand(1, 1, 20), long=8, top_k=4)
        arguments = torch.rand(1, 8, 12), torch.tensor([0, 3, 4, 6, 10]), torch.randn(2, 6, 9)
        expected = manager.consolidate(*arguments)
        with patched(module):
            results = manager.consolidate(*arguments)
        for result, wanted in zip(results, expected, strict=True):
            torch.testing.assert_close(result, wanted, rtol=1e-4, atol=1e-5)

    def test_training_reads_and_gradients(self, other: Load) -> None:
        functions = other("xmem_functions")

        def train() -> list[Tensor]:
            torch.manual_seed(1)
            grids = [(2, 8, 2, 3, 4), (2, 1, 2, 3, 4), (2, 8, 3, 4), (2, 8, 3, 4), (2, 6, 2, 3, 4)]
            leaves = [torch.rand(grid, requires_grad=True) for grid in grids]
            read = functions.readout(functions.get_affinity(*leaves[:4]), leaves[4])
            (read * torch.linspace(-1, 1, read.numel()).view_as(read)).sum().backward()
            return [read, *(leaf.grad for leaf in leaves)]

        expected = train()
        with patched(functions):
            results = train()
        for result, wanted in zip(results, expected, strict=True):
            torch.testing.assert_close(result, wanted, rtol=1e-3, atol=1e-5)

    @pytest.mark.parametrize("with_selection", [False, True])
    @pytest.mark.parametrize("with_shrinkage", [False, True])
    def test_shrinkage_and_selection_may_be_left_out(
        self, other: Load, with_shrinkage: bool, with_selection: bool
    ) -> None:
        functions = other("xmem_functions")
        shrinkage = 1 + torch.rand(1, 1, 12) if with_shrinkage else None
        selection = torch.rand(1, 6, 7) if with_selection else None
        arguments, values = (torch.randn(1, 6, 12), shrinkage, torch.randn(1, 6, 7), selection), torch.randn(1, 4, 12)
        expected = values @ functions.get_affinity(*arguments)
        with patched(functions):
            whole = values @ functions.get_affinity(*arguments)
            apart = values @ functions.do_softmax(functions.get_similarity(*arguments))
        torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(apart, expected, rtol=1e-4, atol=1e-5)

    def test_tensors_of_the_callers_own_are_left_to_the_original(self, other: Load) -> None:
        functions = other("xmem_functions")
        with patched(functions):
            affinity = functions.do_softmax(torch.randn(1, 6, 4))
        torch.testing.assert_close(affinity.sum(1), torch.ones(1, 4))

    def test_large_scores_and_small_memories_do_no_harm(self, other: Load) -> None:
        functions = other("xmem_functions")
        key, query, ones = torch.randn(1, 8, 12), torch.randn(1, 8, 5), torch.ones(1, 8, 5)
        values = torch.randn(1, 4, 12)

        def read(shrinkage: float, top_k: int) -> Tensor:
            similarity = functions.get_similarity(-key, torch.full((1, 1, 12), shrinkage), query, ones)
            return values @ functions.do_softmax(similarity, top_k=top_k)

        assert read(1e4, 3).isnan().any()
        with pytest.raises(RuntimeError, match="k out of range"):
            read(1.0, 30)
        with patched(functions):
            assert read(1e4, 3).isfinite().all()
            assert read(1.0, 30).isfinite().all()


class TestSTCN:
    def test_golden(self, other: Load, reads: dict[str, Tensor]) -> None:
        stcn = other("stcn")
        bank = stcn.MemoryBank(3, top_k=20)
        bank.mem_k, bank.mem_v = reads["memory_key"], reads["memory_value"]
        with patched(stcn):
            result = bank.match_memory(reads["query_key"])
        assert_equal(result, reads["stcn_topk20"])

    def test_training_read(self, other: Load) -> None:
        reader = other("stcn_network").MemoryReader()
        key, query = torch.randn(2, 8, 3, 4, 5), torch.randn(2, 8, 4, 5)
        value, query_value = torch.randn(2, 6, 3, 4, 5), torch.randn(2, 6, 4, 5)
        expected = reader.readout(reader.get_affinity(key, query), value, query_value)
        with patched(reader):
            result = reader.readout(reader.get_affinity(key, query), value, query_value)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


class TestSTM:
    def test_memory_module(self, other: Load) -> None:
        memory = other("stm").Memory()
        arguments = [torch.randn(2, c, *grid) for c, grid in ((8, (3, 4, 5)), (6, (3, 4, 5)), (8, (4, 5)), (6, (4, 5)))]
        expected, _ = memory(*arguments)
        with patched(memory):
            result, affinity = memory(*arguments)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
        assert affinity.shape == (2, 60, 20)


class TestAOT:
    def test_golden(self, other: Load, reads: dict[str, Tensor]) -> None:
        attention = other("aot").MultiheadAttention(256, 8, use_linear=False).eval()
        attention.load_state_dict(
            {
                name: torch.from_numpy(seeded_tensor(f"aot.{name}", tuple(old.shape)))
                for name, old in attention.state_dict().items()
            }
        )
        with torch.no_grad(), patched(attention):
            result, _ = attention(reads["aot_q"], reads["aot_k"], reads["aot_v"])
        assert_equal(result, reads["aot_out"])

    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"max_mem_len_ratio": 2}, {"use_dis": True, "top_k": 70}])
    def test_multihead_attention(self, other: Load, options: dict[str, object], training: bool) -> None:
        attention = other("aot").MultiheadAttention(32, 4, **options).train(training)
        arguments = [torch.randn(length, 3, 32) for length in (20, 60, 60)]
        expected, _ = attention(*arguments)
        with patched(attention):
            result, affinity = attention(*arguments)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
        assert affinity is None

    @pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"max_mem_len_ratio": 2}, {"use_dis": True, "num_head": 2}])
    @pytest.mark.parametrize("frames", [1, 3])
    def test_gated_propagation(self, other: Load, options: dict[str, object], frames: int) -> None:
        itself = frames == 1
        options = {"num_head": 1, "use_linear": itself, **options}
        gated = other("aot").GatedPropagation(16, 24, **options).eval()
        channels = 24 if itself else 48
        arguments = [
            torch.randn(n, 2, c) for n, c in ((12, 16), (12 * frames, 16), (12 * frames, channels), (12, channels))
        ]
        expected, _ = gated(*arguments, (3, 4))
        with patched(gated):
            result, _ = gated(*arguments, (3, 4))
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("top_k", [0.1, -0.5, 0])
    def test_shares_of_the_tokens_are_left_to_the_original(
        self, other: Load, top_k: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        aot = other("aot")
        plain = aot.attention

        def with_shares(module: torch.nn.Module, Q: Tensor, K: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
            share, module.top_k = module.top_k, {0.1: 6, -0.5: 10}.get(module.top_k, module.top_k)
            result = plain(module, Q, K, V)
            module.top_k = share
            return result

        monkeypatch.setattr(aot, "attention", with_shares)
        attention = aot.MultiheadAttention(32, 4, top_k=top_k).eval()
        arguments = [torch.randn(length, 3, 32) for length in (20, 60, 60)]
        expected, _ = attention(*arguments)
        with patched(aot):
            result, _ = attention(*arguments)
        assert torch.equal(result, expected)
        with pytest.raises(
            IntegrationError, match=rf"holds a MultiheadAttention with top_k {top_k}, which may be a share"
        ):
            patch(attention)

    def test_a_first_release_knows_fewer_options(self, other: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        aot = other("aot")

        class First(aot.MultiheadAttention):
            def __init__(self, d_model: int, num_head: int = 8, dropout: float = 0.0, use_linear: bool = True) -> None:
                super().__init__(d_model, num_head, dropout, use_linear)
                del self.use_dis, self.max_mem_len_ratio, self.top_k

            def forward(self, Q: Tensor, K: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
                options = torch.nn.Module()
                vars(options).update(vars(self), use_dis=False, max_mem_len_ratio=-1, top_k=-1)
                if self.use_linear:
                    Q, K, V = self.linear_Q(Q), self.linear_K(K), self.linear_V(V)
                values, affinity = aot.attention(options, Q, K, V)
                return self.projection(values), affinity

        First.__module__ = aot.__name__
        monkeypatch.setattr(aot, "MultiheadAttention", First)
        attention = First(32, 4).eval()
        arguments = [torch.randn(length, 3, 32) for length in (20, 60, 60)]
        expected, _ = attention(*arguments)
        with patched(attention):
            result, affinity = attention(*arguments)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
        assert affinity is None

    def test_dropout_in_training_is_left_to_the_original(self, other: Load) -> None:
        attention = other("aot").MultiheadAttention(32, 4, dropout=0.5)
        arguments = [torch.randn(length, 3, 32) for length in (20, 60, 60)]
        torch.manual_seed(3)
        expected, _ = attention(*arguments)
        with pytest.warns(RuntimeWarning, match=r"1 of the 1 .*MultiheadAttention.forward .* train with dropout"):
            patch_of_attention = patch(attention)
        with patched(attention.eval()):
            attention.train()
            patch_of_attention.undo()
            torch.manual_seed(3)
            result, affinity = attention(*arguments)
        assert torch.equal(result, expected)
        assert affinity.shape == (3, 4, 20, 60)
        assert math.isclose(float((affinity == 0).float().mean()), 0.5, abs_tol=0.05)
