"""Masks carried from the frame before: by what things look like and by where they are."""

import pytest
import torch
from torch import Tensor

from stm_fast.models.carry import Carry, places

HEIGHT, WIDTH = 6, 9


def keys(seed: int, count: int = 1) -> Tensor:
    """Distinct keys, of length 16."""
    random = torch.randn(count, 64, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))
    return 16 * torch.nn.functional.normalize(random, dim=1)


def test_inner_products_of_places_are_negative_half_squares_of_distances() -> None:
    query, memory = places(torch.empty(1, 2, 3, 5))
    products = torch.einsum("chw,cij->hwij", query, memory)
    assert products[0, 0, 2, 4] == pytest.approx(-(2**2 + 4**2) / 2)
    assert products[1, 3, 1, 3] == pytest.approx(0)
    torch.testing.assert_close(products, products.permute(2, 3, 0, 1))


def test_masks_follow_what_moves() -> None:
    carry, before = Carry().eval(), keys(0)
    masks = torch.zeros(2, 1, HEIGHT, WIDTH)
    masks[0, 0, 1:4, 1:4], masks[1, 0, 4:, 5:] = 1, 1
    with torch.no_grad():
        carried = carry(before.roll((1, 2), (2, 3)), before, masks)
    torch.testing.assert_close(carried, masks.roll((1, 2), (2, 3)), rtol=0, atol=1e-3)


def test_of_things_that_look_alike_the_one_near_counts() -> None:
    carry, alike = Carry().eval(), keys(1)[:, :, :1, :1].expand(-1, -1, 6, 60)
    masks = torch.zeros(2, 1, 6, 60)
    masks[0, 0, :, :5], masks[1, 0, :, 55:] = 1, 1
    with torch.no_grad():
        left, right = carry(alike, alike, masks)[:, 0, 3]
    assert left[2] > 1000 * right[2]
    assert right[57] > 1000 * left[57]
    # The share of a normal distribution of deviation `reach`, cut off at the border of the frame.
    offsets = torch.arange(60.0) - 2
    weights = torch.exp(-offsets.square() / (2 * float(carry.reach.detach()) ** 2))
    assert float(left[2]) == pytest.approx(float(weights[:5].sum() / weights.sum()), abs=1e-5)


def test_one_frame_serves_all_its_objects() -> None:
    carry, now, before = Carry().eval(), keys(2), keys(3)
    values = torch.rand(3, 4, HEIGHT, WIDTH)
    with torch.no_grad():
        together = carry(now, before, values)
        apart = carry(now.expand(3, -1, -1, -1), before.expand(3, -1, -1, -1), values)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_both_factors_are_learned() -> None:
    carry = Carry()
    carry(keys(4), keys(5), torch.rand(2, 4, HEIGHT, WIDTH)).square().sum().backward()
    assert carry.reach.grad is not None
    assert carry.gain.grad is not None
    assert carry.reach.grad != 0
    assert carry.gain.grad != 0
