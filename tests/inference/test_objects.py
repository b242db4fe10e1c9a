import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stm_fast.inference.objects import MAX_ID, corrected, ids_in, one_hot, to_ids, to_mask, without_holes

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.int64, np.uint64, bool])
def test_masks_of_every_integer_type(dtype: type) -> None:
    mask = np.array([[0, 1, 1], [1, 0, 0]], dtype)
    expected = torch.tensor([[0, 1, 1], [1, 0, 0]])
    assert torch.equal(to_ids(mask, (2, 3), CPU), expected)
    assert torch.equal(to_ids(mask[::-1], (2, 3), CPU), expected.flip(0))
    assert torch.equal(to_ids(torch.from_numpy(mask), (2, 3), CPU), expected)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.zeros((2, 3)), TypeError, "mask must hold integers, got float64"),
        (torch.zeros(2, 3), TypeError, r"mask must hold integers, got torch\.float32"),
        ([[0]], TypeError, "mask must be a numpy array or a tensor, got list"),
        (np.zeros((3, 2), int), ValueError, r"mask must have the frame's size \(2, 3\), got \(3, 2\)"),
        (np.zeros((2, 3, 3), int), ValueError, r"got \(2, 3, 3\)"),
        (np.full((2, 3), -1), ValueError, f"mask must hold ids from 0 to {MAX_ID}, got -1 to -1"),
        (np.full((2, 3), MAX_ID + 1), ValueError, f"got {MAX_ID + 1} to {MAX_ID + 1}"),
    ],
)
def test_bad_masks(mask: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        to_ids(mask, (2, 3), CPU)


@pytest.mark.parametrize(("ids", "dtype"), [((3, 255), torch.uint8), ((7, 256), torch.int32), ((MAX_ID,), torch.int32)])
def test_labels_become_ids_and_back(ids: tuple[int, ...], dtype: torch.dtype) -> None:
    labels = torch.arange(len(ids) + 1).view(1, -1)
    mask = to_mask(labels, ids)
    assert mask.dtype == dtype
    assert mask.tolist() == [[0, *ids]]
    assert ids_in(mask) == ids
    assert torch.equal(one_hot(mask.long(), ids)[:, 0, 1:], torch.eye(len(ids)))


@given(st.integers(0, 2**32), st.sampled_from([[1], [2], [1, 3], [1, 2, 3]]))
def test_a_correction_keeps_probabilities_and_untouched_pixels(seed: int, rows: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    before = torch.softmax(20 * torch.randn(4, 3, 5, generator=generator), 0)
    before[:, 0, 0] = torch.tensor([0.25, 0, 0, 0.75]) if 3 not in rows else torch.tensor([1.0, 0, 0, 0])
    masks = torch.zeros(len(rows), 3, 5)
    masks[0, 2] = 1
    after = corrected(before, rows, masks)
    torch.testing.assert_close(after.sum(0), torch.ones(3, 5))
    assert torch.equal(after[rows], masks)
    assert (after >= 0).all()
    torch.testing.assert_close(after[:, 0, 0], before[:, 0, 0])


def test_what_a_correction_frees_goes_to_who_is_there() -> None:
    before = torch.tensor([[0.1, 0.0], [0.6, 1.0], [0.3, 0.0]])[:, None]
    after = corrected(before, [1], torch.zeros(1, 1, 2))
    torch.testing.assert_close(after[:, 0], torch.tensor([[0.25, 1.0], [0.0, 0.0], [0.75, 0.0]]), rtol=0, atol=2e-3)


def drawn(*rows: str) -> torch.Tensor:
    """A mask `(1, 1, H, W)`, one where there is a letter."""
    return torch.tensor([[float(cell != ".") for cell in row] for row in rows])[None, None]


def test_small_holes_and_gaps_are_filled_and_large_ones_stay() -> None:
    mask = drawn("xxxxxx....x", "x.xxxx....x", "xxxxxx....x", "xx.xxx....x", "xxxxxx....x")
    filled = drawn("xxxxxx....x", "xxxxxx....x", "xxxxxx....x", "xxxxxx....x", "xxxxxx....x")
    assert torch.equal(without_holes(mask, torch.zeros_like(mask), 2), filled)
    assert torch.equal(without_holes(mask, torch.zeros_like(mask), 0), mask)
    assert torch.equal(without_holes(mask, torch.zeros_like(mask), 1), filled)
    assert torch.equal(without_holes(mask, torch.zeros_like(mask), 3), filled)
    assert without_holes(mask, torch.zeros_like(mask), 4).all()


def test_nothing_grows_outwards() -> None:
    mask = drawn(".......", "..xxx..", "..x.x..", "..xxx..", ".......")
    assert torch.equal(without_holes(mask, torch.zeros_like(mask), 3), drawn(".......", *["..xxx.."] * 3, "......."))


def test_holes_that_others_fill_are_theirs() -> None:
    masks = torch.cat([drawn("xxx", "x.x", "xxx"), drawn("...", ".x.", "...")])
    assert torch.equal(without_holes(masks, masks.flip(0), 3), masks)
    soft = masks * torch.tensor([1, 0.25]).view(2, 1, 1, 1)
    assert without_holes(soft, soft.flip(0), 3)[:, 0, 1, 1].tolist() == [0.75, 0.25]
