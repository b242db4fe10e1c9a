"""Several views of a clip: their probabilities are averaged before the mask is taken."""

import numpy as np
import pytest
import torch

from stm_fast.errors import ArgumentError
from stm_fast.evaluation.test_time import MultiViewSegmenter, View, Views
from stm_fast.inference.segmenter import Segmenter
from stm_fast.models.compact import compact_stm
from stm_fast.tracking.options import TrackOptions

SIZE = (48, 80)
OPTIONS = TrackOptions(dtype="float32", device="cpu", size=None)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return compact_stm().eval()


@pytest.fixture(scope="module")
def frames():
    """A frame that moves by a pixel, and the mask of its first."""
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    return [np.roll(noise, index, 1) for index in range(4)]


def first_mask():
    mask = np.zeros(SIZE, np.uint8)
    mask[8:24, 8:32] = 1
    return mask


def probabilities(segmenter, frames, mask, late=None):
    """Of each frame; an object of `late` joins in the third one."""
    found = [segmenter.start(frames[0], mask)]
    for index, frame in enumerate(frames[1:], 1):
        found.append(segmenter.step(frame))
        if late is not None and index == 2:
            found[-1] = segmenter.annotate(late)
    return found


def test_no_view_is_a_plain_segmenter(network):
    assert isinstance(Views().segmenter(OPTIONS, network, SIZE), Segmenter)


def test_views_are_sizes_by_mirrored(network):
    segmenter = Views((32, 96), flip=True).segmenter(OPTIONS, network, SIZE)
    assert [(view.segmenter.size, view.mirrored) for view in segmenter.views] == [
        (32, False),
        (32, True),
        (96, False),
        (96, True),
    ]


def test_the_result_is_the_mean_of_the_views(network, frames):
    """At the frames' own size, turned back, where each remembers its own probabilities."""
    together = probabilities(Views((32, 48), flip=True).segmenter(OPTIONS, network, SIZE), frames, first_mask())
    apart = []
    for size in (32, 48):
        for mirrored in (False, True):
            turn = (lambda picture: picture[:, ::-1]) if mirrored else (lambda picture: picture)
            segmenter = Segmenter(network, size=size)
            found = probabilities(segmenter, [turn(frame) for frame in frames], turn(first_mask()))
            apart.append([each.probabilities.flip(-1) if mirrored else each.probabilities for each in found])
    for result, *views in zip(together, *apart, strict=True):
        mean = torch.stack(views).mean(0)
        assert mean.shape[1:] == SIZE
        torch.testing.assert_close(result.probabilities, mean, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(result.logits.softmax(0), mean, rtol=1e-4, atol=1e-6)
        assert torch.equal(result.mask, mean.argmax(0).to(torch.uint8))
    assert any(
        not torch.equal(views[0].argmax(0), result.mask) for result, *views in zip(together, *apart, strict=True)
    )


def test_a_mirrored_clip_gives_mirrored_probabilities(network, frames):
    """With both directions, left and right are alike."""
    mask = first_mask()
    turned = [frame[:, ::-1] for frame in frames]
    views = Views(flip=True)
    there = probabilities(views.segmenter(OPTIONS, network, SIZE), frames, mask)
    back = probabilities(views.segmenter(OPTIONS, network, SIZE), turned, mask[:, ::-1])
    for one, other in zip(there, back, strict=True):
        torch.testing.assert_close(one.probabilities, other.probabilities.flip(-1), rtol=1e-6, atol=1e-7)


def test_results_are_the_same_bits_again(network, frames):
    views = Views((32, 48), flip=True)
    runs = [probabilities(views.segmenter(OPTIONS, network, SIZE), frames, first_mask()) for _ in range(2)]
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one.probabilities, other.probabilities)


def test_objects_join_late_in_every_view(network, frames):
    late = np.zeros(SIZE, np.uint8)
    late[30:44, 50:70] = 5
    segmenter = Views((32, 48), flip=True).segmenter(OPTIONS, network, SIZE)
    found = probabilities(segmenter, frames, first_mask(), late)
    assert [each.objects for each in found] == [(1,), (1,), (1, 5), (1, 5)]
    np.testing.assert_array_equal(found[2].mask.numpy() == 5, late > 0)  # kept as it was given
    segmenter.clear()
    assert not segmenter.started


def test_a_colour_is_followed_in_both_directions(model, ids, paint):
    segmenter = MultiViewSegmenter([View(Segmenter(model)), View(Segmenter(model), mirrored=True)])
    segmenter.start(paint("r..g", "...."), ids("1002", "0000"))
    result = segmenter.step(paint(".r.g", "...."))
    np.testing.assert_array_equal(result.mask.numpy(), ids("0102", "0000"))
    assert segmenter.objects == (1, 2)


def test_sizes_below_the_stride_are_refused(network):
    with pytest.raises(ArgumentError, match="sizes must be at least 16 pixels, got 8"):
        Views((32, 8)).segmenter(OPTIONS, network, SIZE)
