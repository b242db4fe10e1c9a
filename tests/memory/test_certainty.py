"""Frames of which the network is unsure do not stay."""

import math

import pytest
import torch

from stm_fast import MemoryPolicy
from stm_fast.memory import presets
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.frames import Role
from stm_fast.memory.groups import ObjectGroup
from stm_fast.memory.policies import Certain, uncertainty

KEY, VALUE, HEIGHT, WIDTH = 8, 6, 3, 4


def memorise(bank: MemoryBank, index: int, uncertainties: list[float], annotated: bool | list[bool] = False) -> None:
    generator = torch.Generator().manual_seed(index)
    keys, values = (torch.randn(len(uncertainties), C, HEIGHT, WIDTH, generator=generator) for C in (KEY, VALUE))
    bank.memorise(index, keys, values, annotated=annotated, uncertainty=torch.tensor(uncertainties))


def kept(bank: MemoryBank, row: int = 0) -> list[int]:
    """Return the frames of an object that stay."""
    return [slot.frame for slot in bank.groups[row].slots if slot.role in (Role.permanent, Role.working)]


def followed(policy: MemoryPolicy, *uncertainties: float | list[float]) -> MemoryBank:
    """Return a bank that saw an annotated frame, one frame of each uncertainty, and one more."""
    rows = [each if isinstance(each, list) else [each] for each in uncertainties]
    bank = MemoryBank(policy)
    memorise(bank, 0, [math.nan] * len(rows[0]), annotated=True)
    for index, row in enumerate([*rows, rows[-1]], start=1):
        memorise(bank, index, row)
    return bank


def soft_disc(radius: float, inside: float = 1.0) -> torch.Tensor:
    """Return probabilities of a disc with an outline of some pixels, `(1, 200, 200)`."""
    y, x = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
    return inside * torch.sigmoid(radius - torch.hypot(y - 100, x - 100))[None]


def test_uncertainty_is_that_of_an_outline_whatever_the_size() -> None:
    near, far = uncertainty(soft_disc(80)), uncertainty(soft_disc(20))
    assert near == pytest.approx(float(far), rel=0.02)
    assert uncertainty(soft_disc(40, inside=0.9)) > 2 * near


def test_uncertainty_is_a_variance_beside_the_root_of_an_area() -> None:
    probabilities = torch.tensor([[[1.0, 1.0, 0.75, 0.25], [0.0, 0.0, 0.0, 1.0]]])
    assert float(uncertainty(probabilities)) == pytest.approx(2 * 0.75 * 0.25 / 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_uncertainty_of_probabilities_of_another_dtype(dtype: torch.dtype) -> None:
    """An area may be more than the largest number of float16."""
    disc = soft_disc(90)
    big = torch.nn.functional.interpolate(disc[None], scale_factor=3)[0]
    assert float(big.sum()) > 2 * torch.finfo(torch.float16).max
    assert uncertainty(big.to(dtype)) == pytest.approx(float(uncertainty(big)), rel=0.01)


def test_uncertainty_of_what_is_nowhere_is_unknown() -> None:
    """However much a trace of it everywhere adds up to."""
    probabilities = torch.stack([torch.zeros(60, 60), torch.full((60, 60), 0.3)])
    assert uncertainty(probabilities).isnan().all()


def test_uncertain_frames_do_not_stay() -> None:
    """They are in memory as the previous frame."""
    bank = followed(MemoryPolicy(every=1, admission=Certain()), 1.0, 1.7, 0.9, 4.0, 1.1, 4.0)
    assert kept(bank) == [0, 1, 2, 3, 5]
    assert bank.frames == (0, 1, 2, 3, 5, 7)


def test_the_usual_uncertainty_is_a_mean_of_frames_that_were_kept() -> None:
    """Of logarithms: 1.5 and 1 / 1.5 make 1; and a frame that is far off does not count for much."""
    most = Certain().most
    clear = [1.0, 1.5, 1 / 1.5, 1.5, 1 / 1.5]
    bank = followed(MemoryPolicy(every=1, admission=Certain()), *clear, 100.0, 0.98 * most, 100.0, 1.4 * most)
    assert kept(bank) == [0, 1, 2, 3, 4, 5, 7]


def test_the_first_frame_is_not_the_standard_alone() -> None:
    """A first frame may be clearer than all that come."""
    bank = followed(MemoryPolicy(every=1, admission=Certain()), 1.0, 2.5, 2.5, 2.5)
    assert kept(bank) == [0, 1, 3, 4]


def test_what_stays_uncertain_is_the_usual_in_the_end() -> None:
    """No memory refuses frames forever: here after 40 clear frames and 300 of three times the uncertainty."""
    bank = followed(MemoryPolicy(every=1, admission=Certain()), *[1.0] * 40, *[3.0] * 300)
    assert not any(40 < frame <= 140 for frame in kept(bank))
    assert all(frame in kept(bank) for frame in range(300, 341))


def test_what_is_much_clearer_is_not_the_usual() -> None:
    """Such as specks, which stay: the object that comes after them is as it was before."""
    bank = followed(MemoryPolicy(every=1, admission=Certain()), *[3.5] * 40, *[0.3] * 40, *[3.5] * 10)
    assert kept(bank) == list(range(91))


def test_infinite_uncertainty_is_none() -> None:
    bank = followed(MemoryPolicy(every=1, admission=Certain()), math.inf, 1.0, math.inf, 1.0, 9.0)
    assert kept(bank) == [0, 1, 2, 3, 4]


def test_a_frame_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if evicting it fails and the next frame is memorised a second time."""
    bank = MemoryBank(MemoryPolicy(every=1, admission=Certain()))
    for index, found in enumerate([math.nan, 1.0, 1.0, 1.0, 1.0, 1.0, 9.0]):
        memorise(bank, index, [found], annotated=index == 0)
    (group,) = bank.groups
    drop = ObjectGroup.drop

    def without_memory(self: ObjectGroup, slot: int) -> None:
        monkeypatch.setattr(ObjectGroup, "drop", drop)
        raise MemoryError

    monkeypatch.setattr(ObjectGroup, "drop", without_memory)
    with pytest.raises(MemoryError):
        memorise(bank, 7, [1.0])
    judged = dict(group.notes)
    memorise(bank, 7, [1.0])
    assert group.notes == judged
    assert bank.frames == (0, 1, 2, 3, 4, 5, 7)


def test_frames_of_unknown_uncertainty_stay() -> None:
    """Without the object, or with a mask that was given; and set no standard."""
    bank = followed(MemoryPolicy(every=1, admission=Certain()), math.nan, 1.0, math.nan, 1.0, 0.0, 1.0, 9.0)
    assert kept(bank) == [0, 1, 2, 3, 4, 5, 6]
    unknown = MemoryBank(MemoryPolicy(every=1, admission=Certain()))
    for index in range(5):
        unknown.memorise(index, torch.randn(1, KEY, HEIGHT, WIDTH), torch.randn(1, VALUE, HEIGHT, WIDTH))
    assert unknown.frames == (0, 1, 2, 3, 4)


def test_an_uncertain_object_does_not_decide_what_others_remember() -> None:
    bank = followed(MemoryPolicy(every=1, admission=Certain()), [1.0, 1.0], [1.0, 9.0], [9.0, 1.0])
    assert (kept(bank, 0), kept(bank, 1)) == ([0, 1, 2], [0, 1, 3])
    assert [row.objects for row in bank.table(["cat", "dog"]).rows if row.frame == 2] == [("cat",)]
    assert len(followed(MemoryPolicy(every=1), [1.0, 1.0], [1.0, 9.0]).groups) == 1


def test_a_frame_annotated_for_some_objects_stays_for_those() -> None:
    policy = MemoryPolicy(every=1, max_frames=4, admission=Certain())
    bank = MemoryBank(policy)
    memorise(bank, 0, [math.nan, math.nan], annotated=True)
    for index in range(1, 4):
        memorise(bank, index, [1.0, 1.0])
    memorise(bank, 4, [9.0, math.nan, math.nan], annotated=[False, True, True])
    for index in range(5, 12):
        memorise(bank, index, [1.0, 1.0, 1.0])
    assert [4 in group.frames for group in bank.groups] == [False, True, True]


def test_a_frame_annotated_for_some_objects_stays_for_all_that_share_or_go_by_numbers() -> None:
    bank = MemoryBank(MemoryPolicy(every=None))
    memorise(bank, 0, [1.0, 1.0], annotated=[False, True])
    memorise(bank, 1, [1.0, 1.0, 1.0], annotated=[False, False, True])
    memorise(bank, 2, [1.0, 1.0, 1.0], annotated=[False, False, True])
    memorise(bank, 3, [1.0, 1.0, 1.0])
    assert [group.frames for group in bank.groups] == [(0, 1, 2, 3), (1, 2, 3)]


@pytest.mark.parametrize("policy", [MemoryPolicy(every=1, max_bytes=6000), presets.diverse(100, 1, max_bytes=6000)])
@pytest.mark.parametrize("repeated", [False, True])
def test_a_bound_in_bytes_holds_when_an_object_joins_a_memory_that_takes_no_frame(policy, repeated: bool) -> None:
    """Because it is frozen, or has the frame already."""
    bank = MemoryBank(policy)
    for index in range(20):
        memorise(bank, index, [1.0], annotated=index == 0)
    held = len(bank.frames)
    assert bank.nbytes <= 6000
    bank.frozen = not repeated
    memorise(bank, 19 if repeated else 20, [1.0, math.nan], annotated=[False, True])
    assert bank.nbytes <= 6000
    assert 2 <= len(bank.groups[0].frames) <= held // 2
    assert bank.read(torch.randn(1, KEY, HEIGHT, WIDTH)).isfinite().all()


@pytest.mark.parametrize("preset", [presets.long_term, presets.diverse])
@pytest.mark.parametrize("frames", [2, 4, 10])
def test_named_policies_that_remember_for_long_are_certain(preset, frames: int) -> None:
    """However few frames there are."""
    bank = followed(preset(10, every=1), 1.0, 9.0, 1.0)
    assert kept(bank) == [0, 1, 3]
    bank = MemoryBank(preset(frames, every=1))
    uncertain = range(20, 40)
    for index in range(60):
        keys = torch.full((1, KEY, HEIGHT, WIDTH), float(index in uncertain))
        bank.memorise(
            index,
            keys,
            keys[:, :VALUE],
            annotated=index == 0,
            uncertainty=torch.tensor([9.0 if index in uncertain else 1.0]),
        )
        bank.read(torch.ones(1, KEY, HEIGHT, WIDTH))
    assert bank.groups[0].values.abs().max() == 0


@pytest.mark.parametrize("preset", [presets.long_term, presets.diverse])
def test_a_bound_in_bytes_holds_for_all_objects_together(preset) -> None:
    bank = MemoryBank(preset(100, every=1, max_bytes=30_000))
    for index in range(60):
        objects = 1 if index < 20 else 3
        memorise(bank, index, [1.0] * objects, annotated=index in (0, 20))
        bank.read(torch.randn(1, KEY, HEIGHT, WIDTH))
        assert bank.nbytes <= 30_000
    assert len(bank.frames) > 3


def test_bad_calls() -> None:
    with pytest.raises(ValueError, match=r"most must be at least 1, got 0\.5"):
        Certain(0.5)
    keys, values = torch.randn(2, KEY, HEIGHT, WIDTH), torch.randn(2, VALUE, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match=r"presence must be \(2, 3, 4\) beside these values, got \(1, 3, 4\)"):
        MemoryBank().memorise(0, keys, values, presence=torch.ones(1, HEIGHT, WIDTH))
    with pytest.raises(ValueError, match=r"uncertainty must be \(2,\) beside these values, got \(1,\)"):
        MemoryBank().memorise(0, keys, values, uncertainty=torch.ones(1))
    with pytest.raises(ValueError, match=r"annotated must be one or 2 truth values, got \(3,\)"):
        MemoryBank().memorise(0, keys, values, annotated=[True] * 3)
