"""The compact model and its trunk."""

import pytest
import torch
from torch.nn import functional as F

from stm_fast.models.compact import compact_stm, start_from_classifier
from stm_fast.models.decoder import Decoder, FineDecoder, upsample
from stm_fast.models.depthwise import DepthwiseConv2d
from stm_fast.models.efficientnet_lite import LITE0, EfficientNetLite


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


def test_strides_and_channels() -> None:
    model = compact_stm().eval()
    query = model.encode_query(torch.rand(2, 3, 64, 96))
    assert query.key.shape == (2, 64, 4, 6)
    assert query.value.shape == (2, 256, 4, 6)
    assert [tuple(skip.shape[2:]) for skip in query.skips] == [(8, 12), (16, 24), (32, 48)]
    assert model.decode(torch.rand(2, 256, 4, 6), query).shape == (2, 64, 96)


def test_one_frame_serves_all_its_objects() -> None:
    model = compact_stm().eval()
    frame, masks = torch.rand(1, 3, 48, 32), torch.rand(3, 1, 48, 32)
    together = model.encode_memory(frame, masks, 1 - masks)
    apart = model.encode_memory(frame.expand(3, -1, -1, -1), masks, 1 - masks)
    for seen, wanted in zip(together, apart, strict=True):
        assert torch.allclose(seen, wanted, atol=1e-5)


def test_values_tell_where_in_a_location_a_thin_part_is() -> None:
    model = compact_stm().eval()
    with torch.no_grad():
        model.memory_encoder.mask_stem.weight.zero_()
    frame, empty = torch.rand(1, 3, 48, 48), torch.zeros(1, 1, 48, 48)
    lines = []
    for column in (17, 29):
        mask = empty.clone()
        mask[..., 16:32, column : column + 2] = 1
        lines.append(model.encode_memory(frame, mask, empty)[1])
    difference = (lines[0] - lines[1]).norm() / lines[0].norm()
    assert difference > 0.01


def test_the_fine_decoder_corrects_what_the_coarse_one_says() -> None:
    decoder = FineDecoder(8, (6, 5, 4), channels=16, fine_channels=8).eval()
    coarse = Decoder(8, (6, 5), channels=16).eval()
    coarse.load_state_dict(decoder.state_dict(), strict=False)
    readout, value = torch.rand(2, 8, 2, 3), torch.rand(1, 8, 2, 3)
    skips = torch.rand(1, 6, 4, 6), torch.rand(1, 5, 8, 12), torch.rand(1, 4, 16, 24)
    corrected = decoder(readout, value, skips)
    assert corrected.shape == (2, 2, 32, 48)
    with torch.no_grad():
        decoder.correct.weight.zero_()
        decoder.correct.bias.zero_()
    plain = decoder(readout, value, skips)
    assert not torch.allclose(corrected, plain, atol=1e-3)
    stride4 = coarse.predict(coarse.refine(readout, value, *skips[:2]))
    assert torch.allclose(plain, upsample(upsample(stride4, 2), 2), atol=1e-5)


def test_training_starts_from_keys_that_match_and_ignore_the_masks() -> None:
    model = compact_stm().eval()
    start_from_classifier(model, _classifier())
    with torch.no_grad():
        model.memory_encoder.mask_stem.weight.zero_()
    frame, empty = torch.rand(1, 3, 48, 48), torch.zeros(1, 1, 48, 48)
    mask = empty.clone()
    mask[..., :24] = 1
    key, value = model.encode_memory(frame, mask, empty)
    assert torch.allclose(key, model.encode_query(frame).key, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(value, model.encode_memory(frame, empty, empty)[1], rtol=1e-2)


def test_folded_batch_norm_is_batch_norm() -> None:
    """The first block against convolution, batch norm and ReLU6 in a row."""
    classifier = _classifier()
    model = compact_stm()
    start_from_classifier(model, classifier)
    encoder = model.query_encoder.trunk
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


def _classifier() -> dict[str, torch.Tensor]:
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
    for index, spec in enumerate(LITE0.specs):
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


@pytest.mark.parametrize(("shorter_side", "best"), [(1080, 608), (608, 608), (480, 608), (270, 360)])
def test_small_frames_are_enlarged_by_a_third_at_most(shorter_side: int, best: int) -> None:
    assert compact_stm().card.best_size(shorter_side) == best
