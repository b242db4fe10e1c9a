"""Merging reads of parts of a memory."""

import math

import pytest
import torch

from stm_fast.ops import memory_read, merge_reads
from tests.ops.cases import make_case


def halves(kind: str, dtype: torch.dtype = torch.float64) -> tuple[list, object, object]:
    case = make_case(kind, dtype).requires_grad()
    key, value = case.memory_key, case.memory_value
    parts = [
        memory_read(case.query_key, key[:, :, [t]], value[..., [t], :, :], return_lse=True, similarity="l2")
        for t in range(2)
    ]
    whole = memory_read(case.query_key, key, value, return_lse=True, similarity="l2")
    return [(part.value, part.lse) for part in parts], (whole.value, whole.lse), case


@pytest.mark.parametrize("kind", ["l2", "shared"])
def test_merge_equals_the_whole_with_its_gradients(kind: str) -> None:
    parts, whole, case = halves(kind)
    merged = merge_reads(parts)
    torch.testing.assert_close(merged, whole)
    gradients = [torch.autograd.grad(v.square().sum() + lse.sin().sum(), case.tensors) for v, lse in (merged, whole)]
    torch.testing.assert_close(*gradients)


def test_merge_is_associative_and_takes_any_iterable() -> None:
    parts, whole, _ = halves("l2")
    extra = (torch.randn_like(whole[0]), torch.randn_like(whole[1]))
    torch.testing.assert_close(merge_reads([merge_reads(parts), extra]), merge_reads(iter([*parts, extra])))


def test_part_without_tokens_adds_nothing() -> None:
    parts, _, _ = halves("l2")
    value, lse = parts[0]
    nothing = (torch.zeros_like(value), torch.full_like(lse, -math.inf))
    torch.testing.assert_close(merge_reads([parts[0], nothing]), parts[0])
    merged = merge_reads([nothing, nothing])
    assert (merged[0] == 0).all()
    assert (merged[1] == -math.inf).all()


def test_merge_keeps_the_dtypes_and_survives_large_scores() -> None:
    value, lse = torch.ones(1, 2, 3, dtype=torch.bfloat16), torch.full((1, 3), 1e30)
    merged = merge_reads([(value, lse), (3 * value, lse)])
    assert [tensor.dtype for tensor in merged] == [torch.bfloat16, torch.float32]
    torch.testing.assert_close(merged[0], 2 * value)
    torch.testing.assert_close(merged[1], lse)


@pytest.mark.parametrize(
    ("reads", "error", "message"),
    [
        ([], ValueError, "reads is empty"),
        ([torch.ones(1, 2, 3)], TypeError, r"reads\[0\] is not a pair"),
        ([(torch.ones(1, 2, 3), None)], TypeError, r"reads\[0\] is not a pair"),
        ([(torch.ones(1, 2, 3), torch.ones(1, 4))], ValueError, r"reads\[0\] has a lse of shape \(1, 4\)"),
        (
            [(torch.ones(1, 2, 3), torch.ones(1, 3)), (torch.ones(1, 2, 4), torch.ones(1, 4))],
            ValueError,
            r"reads\[1\] has shapes \(1, 2, 4\) and \(1, 4\); those of reads\[0\] are \(1, 2, 3\) and \(1, 3\)",
        ),
    ],
)
def test_bad_reads(reads: list, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        merge_reads(reads)
