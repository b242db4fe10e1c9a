"""Objects are followed frame by frame."""

import numpy as np
import pytest
import torch

from stm_fast import MemoryPolicy, Segmenter
from stm_fast.inference import network
from stm_fast.memory.stores import HostStore
from stm_fast.models.stm import STM
from tests.colours import Blocks, blocks_of


def frames_of(segmenter: Segmenter) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values `(O, C, T, h, w)` of the objects of the first frame."""
    group = segmenter.memory.groups[0]
    return group.keys.unflatten(2, (-1, *group.grid)), group.values.unflatten(2, (-1, *group.grid))


def test_objects_are_followed(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    first = segmenter.start(paint("r..", "g.b"), ids("100", "200"))
    assert blocks_of(first.mask) == ["100", "200"]
    result = segmenter.step(paint(".gb", ".r."))
    assert blocks_of(result.mask) == ["020", "010"]
    assert (first.index, result.index, segmenter.frame_index) == (0, 1, 1)
    assert first.objects == result.objects == segmenter.objects == (1, 2)


def test_a_result_is_consistent(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    results = [segmenter.start(paint("r.", "g."), ids("10", "20")), segmenter.step(paint(".r", "g."))]
    results.append(segmenter.annotate(ids("01", "00")))
    for result in results:
        assert result.logits.shape == result.probabilities.shape == (3, 32, 32)
        assert result.logits.dtype == result.probabilities.dtype == torch.float32
        assert result.mask.dtype == torch.uint8
        assert result.logits.isfinite().all()
        torch.testing.assert_close(torch.softmax(result.logits, 0), result.probabilities, rtol=0, atol=1e-6)
        assert torch.equal(torch.tensor((0, 1, 2))[result.probabilities.argmax(0)], result.mask.long())


def test_ids_are_free(model: STM, paint: Blocks, ids: Blocks) -> None:
    mask = ids("10", "20") * 1000
    segmenter = Segmenter(model)
    segmenter.start(paint("r.", "g."), mask)
    result = segmenter.step(paint("r.", ".g"))
    assert segmenter.objects == (1000, 2000)
    assert result.mask.dtype == torch.int32
    assert sorted(result.mask.unique().tolist()) == [0, 1000, 2000]


def test_objects_apart_are_what_they_are_together(model: STM, paint: Blocks, ids: Blocks) -> None:
    frames = [paint("r..", "gb."), paint("..r", "g.b"), paint(".r.", ".gb")]
    mask = ids("100", "200")

    def masks(of: np.ndarray) -> list[torch.Tensor]:
        segmenter = Segmenter(model)
        segmenter.start(frames[0], of)
        return [segmenter.step(frame).mask for frame in frames[1:]]

    alone = zip(masks(mask * (mask == 1)), masks(mask * (mask == 2)), strict=True)
    for together, (first, second) in zip(masks(mask), alone, strict=True):
        assert torch.equal(together, first + second)


def test_the_memory_encoder_sees_the_others(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    segmenter.start(paint("r.", "g."), ids("10", "20"))
    segmenter.step(paint("r.", "g."))
    own_and_others = frames_of(segmenter)[1][:, :, 0]
    torch.testing.assert_close(own_and_others[0], own_and_others[1].flip(0))
    assert own_and_others[0].tolist() == [[[1, 0], [0, 0]], [[0, 0], [1, 0]]]


def test_an_object_joins_later(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    segmenter.start(paint("r..", "..."), ids("100", "000"))
    segmenter.step(paint("r.b", "..."))
    result = segmenter.annotate(ids("007", "000"))
    assert result.objects == (1, 7)
    assert result.index == 1
    assert blocks_of(result.mask) == ["107", "000"]
    assert blocks_of(segmenter.step(paint(".r.", "b..")).mask) == ["010", "700"]
    assert [group.frames for group in segmenter.memory.groups] == [(0, 1), (1,)]


def test_a_known_object_is_corrected(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model, policy=MemoryPolicy(every=None, keep_first=False))
    segmenter.start(paint("r.", "g."), ids("10", "20"))
    segmenter.step(paint("r.", "gb"))
    result = segmenter.annotate(ids("00", "01"))
    assert result.objects == (1, 2)
    assert blocks_of(result.mask) == ["00", "21"]
    assert blocks_of(segmenter.step(paint("b.", "rg")).mask) == ["10", "02"]


def test_a_listed_object_without_pixels_is_nowhere(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    segmenter.start(paint("r.", "g."), ids("10", "20"))
    result = segmenter.annotate(ids("02", "00"), objects=[1])
    assert blocks_of(result.mask) == ["00", "20"]
    assert result.probabilities[1].max() == 0


@pytest.mark.parametrize("steps", [0, 2])
def test_an_object_is_removed(model: STM, paint: Blocks, ids: Blocks, steps: int) -> None:
    segmenter = Segmenter(model)
    segmenter.start(paint("r.", "g."), ids("50", "20"))
    for _ in range(steps):
        segmenter.step(paint("r.", "g."))
    segmenter.remove(2)
    assert segmenter.objects == (5,)
    result = segmenter.step(paint("g.", "r."))
    assert result.objects == (5,)
    assert blocks_of(result.mask) == ["00", "50"]
    assert segmenter.memory.objects == 1


def test_an_object_is_removed_before_it_was_memorised(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    segmenter.start(paint("r.", "g."), ids("10", "00"))
    segmenter.step(paint("r.", "g."))
    segmenter.annotate(ids("00", "20"))
    segmenter.remove(2)
    assert blocks_of(segmenter.step(paint(".r", "g.")).mask) == ["01", "00"]
    assert segmenter.memory.objects == 1


def test_all_objects_are_removed_and_one_joins(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    segmenter.start(paint("r.", "g."), ids("10", "00"))
    segmenter.step(paint("r.", "g."))
    segmenter.remove(1)
    for _ in range(2):
        result = segmenter.step(paint("r.", "g."))
        assert result.objects == ()
        assert result.probabilities.shape == result.logits.shape == (1, 32, 32)
        assert not result.mask.any()
    segmenter.annotate(ids("00", "30"))
    assert blocks_of(segmenter.step(paint("rg", "..")).mask) == ["03", "00"]


def test_an_object_removed_again_does_not_keep_its_frame(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model, policy=MemoryPolicy(every=None))
    frame = paint("r.", "g.")
    segmenter.start(frame, ids("10", "00"))
    segmenter.step(frame)
    segmenter.annotate(ids("00", "70"))
    segmenter.remove(7)
    for _ in range(3):
        segmenter.step(frame)
    assert sorted(segmenter.memory.frames) == [0, 3]


def test_a_buffer_can_be_used_for_every_frame(model: STM, paint: Blocks, ids: Blocks) -> None:
    frames = [torch.from_numpy(paint(*rows)).permute(2, 0, 1)[None] / 255 for rows in (("r.", "g."), (".g", ".r"))]
    buffer = torch.empty_like(frames[0], memory_format=torch.channels_last)
    segmenter = Segmenter(model)
    segmenter.start(buffer.copy_(frames[0]), ids("10", "20"))
    assert blocks_of(segmenter.step(buffer.copy_(frames[1])).mask) == ["02", "01"]


def test_start_forgets_the_last_video(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    segmenter.start(paint("r.", "g."), ids("10", "20"))
    segmenter.step(paint("r.", "g."))
    segmenter.start(paint("b.."), ids("900"))
    assert segmenter.objects == (9,)
    assert segmenter.frame_index == 0
    assert segmenter.memory.frames == ()
    assert set(segmenter.timings.values()) == {0.0}
    assert blocks_of(segmenter.step(paint(".b.")).mask) == ["090"]


def test_a_video_is_cleared(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model, policy=MemoryPolicy(every=2))
    segmenter.start(paint("r.", "g."), ids("10", "20"))
    segmenter.step(paint("r.", "g."))
    segmenter.clear()
    assert not segmenter.started
    assert not segmenter.objects
    assert not segmenter.memory.frames
    assert segmenter.memory.policy == MemoryPolicy(every=2)
    with pytest.raises(RuntimeError, match="call start"):
        segmenter.step(paint("r.", "g."))


def test_timings_count_every_stage(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    segmenter.start(paint("r."), ids("10"))
    segmenter.step(paint("r."))
    assert list(segmenter.timings) == ["encode_query", "read", "decode", "encode_memory"]
    assert all(seconds > 0 for seconds in segmenter.timings.values())


@pytest.mark.parametrize(("height", "width"), [(48, 80), (47, 79), (41, 90), (1, 1)])
def test_odd_sizes(model: STM, height: int, width: int) -> None:
    """A red rectangle on black, followed at the input's own size."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 2 + 1, :, 0] = 255
    mask = (frame[..., 0] > 0).astype(np.uint8)
    segmenter = Segmenter(model)
    segmenter.start(frame, mask)
    result = segmenter.step(frame)
    assert result.mask.shape == mask.shape
    assert result.probabilities.shape == (2, height, width)
    if min(height, width) > 16:
        assert (result.mask.numpy() != mask).mean() < 0.25


@pytest.mark.parametrize("size", [32, 64, 128])
def test_internal_size(model: STM, paint: Blocks, ids: Blocks, size: int) -> None:
    frame = paint("rr..", "rr..", "..gg", "..gg")
    segmenter = Segmenter(model, size=size)
    first = segmenter.start(frame, ids("1100", "1100", "0022", "0022"))
    assert blocks_of(first.mask) == ["1100", "1100", "0022", "0022"]
    result = segmenter.step(frame[:, ::-1])
    assert segmenter.memory.groups[0].grid == (size // 16, size // 16)
    assert result.probabilities.shape == (3, 64, 64)
    expected = torch.from_numpy(ids("0011", "0011", "2200", "2200"))
    assert (result.mask == expected).float().mean() > 0.9
    corrected = segmenter.annotate(ids("0000", "0000", "2200", "2211"), objects=[1])
    assert blocks_of(corrected.mask) == ["0000", "0000", "2200", "2211"]


@pytest.mark.parametrize("at_once", [1, 2 * 48 * 48, 10**9])
def test_groups_of_objects_change_nothing(
    model: STM, paint: Blocks, ids: Blocks, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_PIXELS_AT_ONCE", at_once)
    segmenter = Segmenter(model)
    segmenter.start(paint("r.b", "...", "g.."), ids("103", "000", "200"))
    segmenter.step(paint("r.b", "...", "g.."))
    assert blocks_of(segmenter.step(paint("b..", ".g.", "..r")).mask) == ["300", "020", "001"]


def test_many_objects(model: STM, paint: Blocks) -> None:
    mask = np.arange(1, 301, dtype=np.int32).reshape(15, 20).repeat(2, 0).repeat(2, 1)
    frame = np.zeros((30, 40, 3), np.uint8)
    segmenter = Segmenter(model)
    result = segmenter.start(frame, mask)
    assert result.mask.numpy().tolist() == mask.tolist()
    assert segmenter.step(frame).probabilities.shape == (301, 30, 40)


def test_bfloat16(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model.to(torch.bfloat16))
    segmenter.start(paint("r.", "g."), ids("10", "20"))
    result = segmenter.step(paint("g.", "r."))
    assert {part.dtype for part in frames_of(segmenter)} == {torch.bfloat16}
    assert result.probabilities.dtype == torch.float32
    assert blocks_of(result.mask) == ["20", "10"]


def test_top_k_and_backend_reach_the_read(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model, top_k=1, backend="reference")
    segmenter.start(paint("r.", "g."), ids("10", "20"))
    assert blocks_of(segmenter.step(paint("g.", "r.")).mask) == ["20", "10"]
    segmenter.backend = "unheard"
    with pytest.raises(ValueError, match="unheard"):
        segmenter.step(paint("g.", "r."))


def test_the_model_given_is_left_alone(model: STM, paint: Blocks, ids: Blocks) -> None:
    model.train()
    segmenter = Segmenter(model)
    segmenter.start(paint("r."), ids("10"))
    segmenter.step(paint("r."))
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not segmenter.model.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 8}, 'size must be at least 16 pixels, "auto" or None, got 8'),
        ({"top_k": 0}, 'top_k must be at least 1, "auto" or None'),
        ({"top_k": 3, "store": HostStore()}, "top_k must be None with a store.*got 3"),
        ({"policy": MemoryPolicy(max_frames=3), "store": HostStore()}, "policy must have no bound.*max_frames=3"),
        ({"top_k": 3, "value_dtype": torch.int8}, "top_k must be None with values in int8.*got 3"),
    ],
)
def test_bad_options(model: STM, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Segmenter(model, **arguments)


def test_bad_calls(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    for call in (
        lambda: segmenter.step(paint("r.")),
        lambda: segmenter.annotate(ids("10")),
        lambda: segmenter.remove(1),
    ):
        with pytest.raises(RuntimeError, match="call start"):
            call()
    segmenter.start(paint("r."), ids("10"))
    with pytest.raises(ValueError, match=r"object_id must be one of \(1,\), got 2"):
        segmenter.remove(2)
    with pytest.raises(ValueError, match="objects must be ids from 1 to"):
        segmenter.annotate(ids("10"), objects=[0])
    with pytest.raises(ValueError, match="objects must name at least one id or be None, got none"):
        segmenter.annotate(ids("10"), objects=[])
    with pytest.raises(ValueError, match="mask must hold an object"):
        segmenter.annotate(ids("00"))
    with pytest.raises(ValueError, match="mask must have the frame's size"):
        segmenter.annotate(ids("100"))
