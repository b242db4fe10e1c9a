"""What the Triton kernels have of their own."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stm_fast.errors import BackendUnavailableError
from stm_fast.kernels.operands import Operands
from stm_fast.ops import memory_read
from stm_fast.ops.backend_timing import every_call
from stm_fast.ops.calls import Read, ReadBackward, Usage
from stm_fast.ops.dispatch import run_op
from tests.kernels.operands import doubled, random_read

pytestmark = pytest.mark.usefixtures("small_tiles")

SIZES = 2, 20, 17, 39, 1, 17


def everything(operands: Operands, value: Tensor) -> list[Tensor]:
    """The outputs of all ops, gradients of all operands among them."""
    run = partial(run_op, backend="triton")
    calls = every_call(operands, value, 3, run)
    grad = torch.randn(value.shape[:3] + operands.query.shape[2:], generator=torch.Generator().manual_seed(3)).to(value)
    upstream = {"grad_out": grad, "grad_lse": grad[:, 0, 0].cos()}
    calls = [replace(call, **upstream) if hasattr(call, "grad_out") else call for call in calls]
    return [output for call in calls for output in run(call) if output is not None]


def test_wide_distances_are_the_same(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    from stm_fast.kernels import launch, plans

    sizes = 1, 20, 17, 39, 2, 9
    operands, value = random_read(sizes, device, True)
    narrow = everything(operands, value)
    monkeypatch.setattr(launch, "MAX_32_BIT", 0)
    plans.forget()
    for wide, close in zip(everything(operands, value), narrow, strict=True):
        assert torch.equal(wide, close)


def as_bank(tensor: Tensor) -> Tensor:
    """The same tensor with rows that begin at multiples of 16 bytes."""
    return functional.pad(tensor, (0, -tensor.shape[-1] % 8))[..., : tensor.shape[-1]]


def channels_last(tensor: Tensor) -> Tensor:
    """The same tensor with the channels of all objects side by side."""
    rows = tensor.flatten(1, -2)
    return as_bank(rows.mT.contiguous()).mT.unflatten(1, tensor.shape[1:-1])


@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
@pytest.mark.parametrize(
    ("layout", "sizes"),
    [
        (as_bank, (1, 20, 17, 39, 2, 9)),
        (as_bank, (2, 32, 17, 39, 2, 8)),
        (as_bank, (1, 70, 20, 33, 1, 8)),
        (channels_last, (1, 20, 17, 39, 2, 9)),
        (channels_last, (2, 32, 16, 48, 2, 8)),
    ],
)
def test_the_read_by_descriptors(
    layout: Callable[[Tensor], Tensor], sizes: tuple[int, ...], affine: bool, splits: int, device: torch.device
) -> None:
    from stm_fast.kernels import chips, layouts

    operands, value = random_read(sizes, device, affine)
    operands, value = operands._replace(key=layout(operands.key)), layout(value)
    assert layouts.layout_of(operands.key).by_item == layouts.layout_of(value).by_item == (layout is channels_last)
    with chips.pretending(chips.CHIPS["sm_90"]):
        out, lse = run_op(Read(operands, value), "triton")
        (usage,) = run_op(Usage(operands, lse), "triton")
        upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(3)).to(out), lse.cos()
        gradients = run_op(ReadBackward(operands, value, out, lse, *upstream), "triton")
    exact = run_op(Read(doubled(operands), value.double()), "reference")
    torch.testing.assert_close(out.double(), exact[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(lse.double(), exact[1], rtol=1e-5, atol=1e-5)
    (exact_usage,) = run_op(Usage(doubled(operands), exact.lse), "reference")
    torch.testing.assert_close(usage.double(), exact_usage, rtol=1e-4, atol=1e-5)
    expected = run_op(
        ReadBackward(doubled(operands), value.double(), *exact, *(part.double() for part in upstream)), "reference"
    )
    for fast, slow in zip(gradients, expected, strict=True):
        if slow is None:
            assert fast is None
        else:
            torch.testing.assert_close(fast.double(), slow, rtol=1e-4, atol=1e-4)


def test_too_many_channels_are_refused(device: torch.device) -> None:
    wide, value = torch.zeros(1, 600, 3, device=device), torch.zeros(1, 2, 3, device=device)
    with pytest.raises(BackendUnavailableError, match=r"at most 512 key channels .*, not 600"):
        memory_read(wide, wide, value, backend="triton")
