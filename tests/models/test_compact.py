"""The compact model."""

from collections.abc import Callable

import pytest
import torch

from stm_fast.models.compact import LAST_SCALE, CompactEncoder, SelfRead, compact_stm
from stm_fast.models.compact_two_trunks import MemoryEncoder, two_trunk_stm
from stm_fast.models.efficientnet_lite import LITE2, EfficientNetLite
from stm_fast.models.stm import STM, Guide


def test_frames_may_have_any_multiple_of_sixteen() -> None:
    encoder = CompactEncoder().eval()
    for height, width in ((16, 16), (48, 80), (32, 64)):
        features, (stride8, stride4) = encoder(torch.rand(1, 3, height, width))
        assert features.shape == (1, 328, height // 16, width // 16)
        assert stride8.shape == (1, 64, height // 8, width // 8)
        assert stride4.shape == (1, 32, height // 4, width // 4)


def test_features_of_the_last_stage_lie_where_they_were_computed() -> None:
    encoder, dilated = CompactEncoder().eval(), EfficientNetLite(LITE2, dilated=True).eval()
    dilated.load_state_dict(encoder.trunk.state_dict())
    frame = torch.rand(1, 3, 144, 112)
    with torch.no_grad():
        features, _ = encoder(frame)
        last = dilated.late(dilated.early(frame)[0])[0]
    torch.testing.assert_close(features[:, 120:, ::2, ::2], LAST_SCALE * last[:, :, ::2, ::2], rtol=1e-4, atol=1e-4)


def test_strides_and_channels() -> None:
    model = compact_stm().eval()
    query = model.encode_query(torch.rand(2, 3, 64, 96))
    assert query.key.shape == (2, 64, 4, 6)
    assert query.value.shape == (2, 288, 4, 6)
    assert [tuple(skip.shape[2:]) for skip in query.skips] == [(8, 12), (16, 24)]
    assert model.decode(torch.rand(2, 96, 4, 6), query).shape == (2, 64, 96)


def test_keys_of_memory_are_those_of_the_query() -> None:
    model = compact_stm().eval()
    frame, masks = torch.rand(1, 3, 48, 32), torch.rand(3, 1, 48, 32)
    query = model.encode_query(frame)
    for given in (None, query):
        keys, values = model.encode_memory(frame, masks, 1 - masks, given)
        assert torch.equal(keys, query.key.expand(3, -1, -1, -1))
        assert values.shape == (3, 96, 3, 2)


def test_one_frame_serves_all_its_objects() -> None:
    model = compact_stm().eval()
    frame, masks = torch.rand(1, 3, 48, 32), torch.rand(3, 1, 48, 32)
    each = frame.expand(3, -1, -1, -1)
    one, copies = model.encode_query(frame), model.encode_query(each)
    _, together = model.encode_memory(frame, masks, 1 - masks)
    _, apart = model.encode_memory(each, masks, 1 - masks)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    readout = torch.rand(3, 96, 3, 2)
    for guided in (False, True):
        found = [
            model.decode(readout, query, Guide(masks, 1 - masks, query.value.flip(3)) if guided else None)
            for query in (one, copies)
        ]
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [compact_stm, two_trunk_stm])
def test_values_tell_where_in_a_location_a_thin_part_is(build: Callable[[], STM]) -> None:
    torch.manual_seed(0)
    model = build().eval()
    if isinstance(model.memory_encoder, MemoryEncoder):
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


def test_the_decoder_sees_where_the_object_was() -> None:
    model = compact_stm().eval()
    query, readout = model.encode_query(torch.rand(1, 3, 48, 48)), torch.rand(1, 96, 3, 3)
    left, right = torch.zeros(1, 1, 48, 48), torch.zeros(1, 1, 48, 48)
    left[..., :16], right[..., 32:] = 1, 1
    guides = (None, Guide(left, right, query.value), Guide(right, left, query.value))
    seen = [model.decode(readout, query, guide) for guide in guides]
    for one, other in ((0, 1), (1, 2)):
        assert (seen[one] - seen[other]).abs().max() > 1e-3


def test_what_one_part_reads_reaches_parts_that_look_the_same() -> None:
    self_read = SelfRead(8).eval()
    key = torch.zeros(1, 32, 4, 4)
    key[:, 0, :, :2], key[:, 1, :, 2:] = 8, 8
    with torch.no_grad():
        x = torch.zeros(2, 8, 4, 4)
        before = self_read(x, key)
        x[1, :, 0, 0] = 1
        moved = (self_read(x, key) - before).abs().amax(1)
    assert not moved[0].any()
    assert moved[1, :, :2].min() > 100 * moved[1, :, 2:].max()
