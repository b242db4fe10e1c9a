import pytest
import torch
from torch import nn

from stm_fast.models.batch_norm import fold_batch_norm
from stm_fast.models.encoders import MaskedStem
from stm_fast.models.inference_copy import inference_copy
from stm_fast.models.resnet import ResNet50Stages
from stm_fast.models.resnet50 import resnet50_stm
from stm_fast.models.stm import STM

TORCHVISION_RESNET50 = 25_557_032
TORCHVISION_STEM = 64 * 3 * 49 + 2 * 64
TORCHVISION_LAYER4_AND_FC = 14_964_736 + 2_049_000


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return torch.rand(3, 3, 48, 64, generator=torch.Generator().manual_seed(1))


def test_stages_have_the_parameters_of_a_resnet50() -> None:
    parameters = sum(parameter.numel() for parameter in ResNet50Stages().parameters())
    assert parameters == TORCHVISION_RESNET50 - TORCHVISION_STEM - TORCHVISION_LAYER4_AND_FC


def test_stride_is_on_the_spatial_convolution() -> None:
    first = ResNet50Stages().res3[0]
    assert first.reduce[0].stride == (1, 1)
    assert first.spatial[0].stride == (2, 2)
    assert first.shortcut[0].stride == (2, 2)


@torch.no_grad()
def test_shapes_and_shared_frames(official_model: STM, frames: torch.Tensor) -> None:
    """One frame with N objects gives what N copies of the frame give."""
    masks, others = torch.rand(2, 3, 1, 48, 64, generator=torch.Generator().manual_seed(2))
    shared = official_model.encode_memory(frames[:1], masks, others)
    copied = official_model.encode_memory(frames[:1].expand(3, -1, -1, -1), masks, others)
    assert shared[0].shape == (3, 128, 3, 4)
    assert shared[1].shape == (3, 512, 3, 4)
    torch.testing.assert_close(shared, copied, rtol=1e-4, atol=1e-5)

    query = official_model.encode_query(frames)
    one = query.select(slice(1, 2))
    assert [skip.shape for skip in one.skips] == [(1, 512, 6, 8), (1, 256, 12, 16)]
    probabilities = official_model.decode(shared[1], one)
    assert probabilities.shape == (3, 48, 64)
    repeated = query.select(torch.tensor([1, 1, 1]))
    torch.testing.assert_close(probabilities, official_model.decode(shared[1], repeated), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_inference_copy_computes_the_same(official_model: STM, frames: torch.Tensor) -> None:
    names = list(official_model.state_dict())
    folded = inference_copy(official_model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    masks = frames[:, :1]
    for original, faster in (
        (official_model.encode_query(frames), folded.encode_query(frames)),
        (official_model.encode_memory(frames, masks, 1 - masks), folded.encode_memory(frames, masks, 1 - masks)),
    ):
        torch.testing.assert_close(original[:2], faster[:2], rtol=1e-4, atol=1e-5)
    assert list(official_model.state_dict()) == names
    assert all(parameter.requires_grad for parameter in official_model.parameters())


@torch.no_grad()
@pytest.mark.parametrize("affine", [True, False])
def test_fold_sums_biases_once(affine: bool) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4, affine=affine).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    if affine:
        norm.weight.normal_()
        norm.bias.normal_()
    first, second, third = nn.Conv2d(2, 4, 3), nn.Conv2d(2, 4, 3, bias=False), nn.Conv2d(2, 4, 3)
    x = torch.randn(1, 2, 6, 6)
    expected = norm(first(x) + second(x) + third(x))
    fold_batch_norm(norm, first, second, third)
    torch.testing.assert_close(first(x) + second(x) + third(x), expected, rtol=1e-4, atol=1e-5)


def test_stem_gradients_reach_all_three_convolutions(frames: torch.Tensor) -> None:
    stem = MaskedStem(8)
    stem(frames[:1], frames[:, :1], frames[:, 1:2]).square().sum().backward()
    assert all(conv.weight.grad.abs().sum() > 0 for conv in (stem.rgb, stem.mask, stem.others))


def test_network_trains(official_model: STM, frames: torch.Tensor) -> None:
    """In-place arithmetic of the forward leaves what the backward needs."""
    official_model.zero_grad()
    masks = frames[:, :1]
    _, value = official_model.encode_memory(frames, masks, 1 - masks)
    official_model.decode(value, official_model.encode_query(frames)).mean().backward()
    missing = [name for name, parameter in official_model.named_parameters() if parameter.grad is None]
    official_model.zero_grad(set_to_none=True)
    assert set(missing) == {
        "query_head.key.weight",
        "query_head.key.bias",
        "memory_head.key.weight",
        "memory_head.key.bias",
    }


def test_frames_are_never_enlarged() -> None:
    model = resnet50_stm()
    assert [model.card.best_size(shorter_side) for shorter_side in (1080, 480, 360)] == [480, 480, 360]
