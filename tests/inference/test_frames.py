import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stm_fast.inference.frames import Geometry, to_rgb

CPU = torch.device("cpu")
sides = st.integers(1, 70)


@given(sides, sides, st.sampled_from([8, 16]))
def test_padding_is_centred_and_invertible(height: int, width: int, multiple: int) -> None:
    geometry = Geometry.of((height, width), None, multiple)
    x = torch.rand(1, 2, height, width) + 1
    padded = geometry.pad(x)
    left, right, top, bottom = geometry.padding
    assert padded.shape[2] % multiple == padded.shape[3] % multiple == 0
    assert 0 <= right - left <= 1
    assert 0 <= bottom - top <= 1
    assert left + right < multiple
    assert top + bottom < multiple
    assert torch.equal(geometry.unpad(padded), x)
    assert padded.count_nonzero() == x.numel()


@pytest.mark.parametrize(
    ("outer", "short", "inner"),
    [((1080, 1920), 480, (480, 853)), ((1920, 1080), 480, (853, 480)), ((50, 100), 100, (100, 200))],
)
def test_internal_size_keeps_the_aspect(outer: tuple[int, int], short: int, inner: tuple[int, int]) -> None:
    geometry = Geometry.of(outer, short, 16)
    assert geometry.inner == inner
    assert geometry.to_inner(torch.zeros(1, 1, *outer)).shape[2:] == inner
    assert geometry.to_outer(torch.zeros(1, 1, *inner)).shape[2:] == outer


def test_every_form_of_a_frame_is_the_same() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    expected = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    read_only = pixels.copy()
    read_only.flags.writeable = False
    forms = [
        pixels,
        np.asfortranarray(pixels),
        pixels[::-1][::-1],
        read_only,
        pixels.repeat(2, 1)[:, ::2],
        (pixels / 255).astype(np.float32),
        pixels / 255,
        tensor,
        tensor[None],
        tensor.contiguous(),
        tensor.double() / 255,
    ]
    for form in forms:
        torch.testing.assert_close(to_rgb(form, CPU), expected, rtol=0, atol=1e-6)
    mirrored = pixels[:, ::-1]
    torch.testing.assert_close(to_rgb(mirrored, CPU), expected.flip(3), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (np.zeros((4, 4), np.uint8), ValueError, r"\(H, W, 3\) as a numpy array, got \(4, 4\)"),
        (np.zeros((3, 4, 4), np.uint8), ValueError, r"\(H, W, 3\) as a numpy array, got \(3, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"got \(0, 4, 3\)"),
        (torch.zeros(4, 4, 3), ValueError, r"\(3, H, W\) or \(1, 3, H, W\) as a tensor, got \(4, 4, 3\)"),
        (torch.zeros(2, 3, 4, 4), ValueError, r"got \(2, 3, 4, 4\)"),
        (np.zeros((4, 4, 3), np.int32), TypeError, "frame must be uint8 or floating, got int32"),
        (torch.zeros(3, 4, 4, dtype=torch.int16), TypeError, r"frame must be uint8 or floating, got torch\.int16"),
        ([[1]], TypeError, "frame must be a numpy array or a tensor, got list"),
        (np.full((4, 4, 3), 255.0), ValueError, r"frame must be in \[0, 1\] .* got values from 255 to 255"),
        (torch.full((3, 4, 4), -0.5), ValueError, "got values from -0.5 to -0.5"),
        (torch.full((3, 4, 4), torch.nan), ValueError, "got values from nan to nan"),
        (torch.full((3, 4, 4), torch.inf), ValueError, "got values from inf to inf"),
    ],
)
def test_bad_frames(frame: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        to_rgb(frame, CPU)
