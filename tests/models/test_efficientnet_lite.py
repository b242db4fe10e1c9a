"""EfficientNet-Lite, the trunk of the compact models."""

import pytest
import torch
from torch.nn import functional as F

from stm_fast.models.depthwise import DepthwiseConv2d
from stm_fast.models.efficientnet_lite import LITE0, LITE2, EfficientNetLite, Variant, folded_weights


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "size"), [(3, 1, 1, 9), (5, 2, 1, 12), (3, 2, 1, 11), (5, 1, 2, 9)]
)
def test_depthwise_gradients_are_those_of_a_convolution(kernel: int, stride: int, dilation: int, size: int) -> None:
    layer = DepthwiseConv2d(6, kernel, stride, dilation).double()
    x = torch.randn(2, 6, size, size, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(x, layer.weight, layer.bias, stride, dilation * (kernel // 2), dilation, groups=6)
    gradient = torch.randn_like(expected)
    inputs = [x, layer.weight, layer.bias]
    ours = torch.autograd.grad(layer(x), inputs, gradient)
    theirs = torch.autograd.grad(expected, inputs, gradient)
    for seen, wanted in zip(ours, theirs, strict=True):
        assert torch.allclose(seen, wanted, rtol=1e-4, atol=1e-4)


def test_the_last_stage_is_the_dilated_one_at_every_second_point() -> None:
    strided, dilated = (EfficientNetLite(LITE2, dilated=dilated).eval() for dilated in (False, True))
    dilated.load_state_dict(strided.state_dict())
    with torch.no_grad():
        early, _ = strided.early(torch.rand(1, 3, 144, 112))
        coarse, stride16, _ = strided.late(early)
        fine, same, _ = dilated.late(early)
    torch.testing.assert_close(stride16, same)
    torch.testing.assert_close(coarse, fine[:, :, ::2, ::2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", [LITE0, LITE2])
def test_folded_batch_norm_is_batch_norm(variant: Variant) -> None:
    """The first block against convolution, batch norm and ReLU6 in a row."""
    classifier = _classifier(variant)
    encoder = EfficientNetLite(variant, dilated=True)
    encoder.load_state_dict(folded_weights(classifier, variant))
    x = torch.rand(1, 3, 32, 32)

    def norm(y: torch.Tensor, name: str) -> torch.Tensor:
        mean, var = classifier[f"{name}.running_mean"], classifier[f"{name}.running_var"]
        return F.batch_norm(y, mean, var, classifier[f"{name}.weight"], classifier[f"{name}.bias"], eps=1e-3)

    y = F.relu6(norm(F.conv2d(2 * x - 1, classifier["_conv_stem.weight"], stride=2, padding=1), "_bn0"))
    y = F.relu6(
        norm(F.conv2d(y, classifier["_blocks.0._depthwise_conv.weight"], padding=1, groups=32), "_blocks.0._bn1")
    )
    y = norm(F.conv2d(y, classifier["_blocks.0._project_conv.weight"]), "_blocks.0._bn2")
    seen = encoder.blocks[0](F.relu6(encoder.stem(2 * x - 1)))
    assert torch.allclose(seen, y, rtol=1e-4, atol=1e-4)


def _classifier(variant: Variant) -> dict[str, torch.Tensor]:
    """A random classifier in the public port's spelling."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def convolution(name: str, norm: str, shape: tuple[int, ...]) -> None:
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / (shape[1] * shape[2] * shape[3]) ** 0.5
        state[f"{norm}.weight"] = 0.5 + torch.rand(shape[0], generator=generator)
        state[f"{norm}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
        state[f"{norm}.running_mean"] = 0.1 * torch.randn(shape[0], generator=generator)
        state[f"{norm}.running_var"] = 0.5 + torch.rand(shape[0], generator=generator)

    convolution("_conv_stem", "_bn0", (32, 3, 3, 3))
    for index, spec in enumerate(variant.specs):
        block, inner = f"_blocks.{index}", spec.channels_in * spec.expansion
        if spec.expansion > 1:
            convolution(f"{block}._expand_conv", f"{block}._bn0", (inner, spec.channels_in, 1, 1))
        convolution(f"{block}._depthwise_conv", f"{block}._bn1", (inner, 1, spec.kernel, spec.kernel))
        convolution(f"{block}._project_conv", f"{block}._bn2", (spec.channels_out, inner, 1, 1))
    return state


def test_trunk_takes_any_multiple_of_sixteen() -> None:
    trunk = EfficientNetLite(LITE0, dilated=True).eval()
    for height, width in ((16, 16), (48, 80)):
        features, _, stride8 = trunk.late(trunk.early(torch.rand(1, 3, height, width))[0])
        assert features.shape[2:] == (height // 16, width // 16)
        assert stride8.shape[2:] == (height // 8, width // 8)
