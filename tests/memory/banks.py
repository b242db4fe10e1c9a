"""A plain model of a memory bank, and the frames that tests put into banks."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stm_fast import MemoryPolicy
from stm_fast.memory.groups import ObjectGroup

KEY, VALUE, HEIGHT, WIDTH = 4, 3, 2, 3
BYTES_PER_TOKEN = 4 * (KEY + VALUE + 3)
"""Key, value, and what is known of a token: usage, birth and presence."""
FRAME_BYTES = BYTES_PER_TOKEN * HEIGHT * WIDTH


def frame_of(objects: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return random keys and values of a frame `(O, C, h, w)`."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(objects, KEY, HEIGHT, WIDTH, generator=generator)
    return keys.to(dtype), torch.randn(objects, VALUE, HEIGHT, WIDTH, generator=generator).to(dtype)


def frames_of(group: ObjectGroup) -> tuple[Tensor, Tensor]:
    """Return keys and values of a group's slots `(O, C, T, h, w)`."""
    keys, values = (part.unflatten(2, (-1, HEIGHT, WIDTH)) for part in (group.keys, group.values))
    return keys, values


@dataclass
class Remembered:
    index: int
    pinned: bool
    kept: bool
    tokens: dict[int, tuple[Tensor, Tensor]]


@dataclass
class NaiveCohort:
    """What objects that joined together remember: a list of frames, each a dictionary by object."""

    policy: MemoryPolicy
    objects: list[int]
    frames: list[Remembered] = field(default_factory=list)

    def memorise(self, index: int, tokens: dict[int, tuple[Tensor, Tensor]], pinned: bool, kept: bool) -> None:
        self.frames = [frame for frame in self.frames if frame.kept]
        bound = self.policy.max_frames
        while bound is not None and len(self.frames) >= bound:
            going = next((frame for frame in self.frames if not frame.pinned), None)
            if going is None:
                if len(self.frames) == 1 and not pinned:
                    return
                going = self.frames[min(1, len(self.frames) - 1)]
            self.frames = [frame for frame in self.frames if frame is not going]
        self.frames.append(Remembered(index, pinned, kept, {key: tokens[key] for key in self.objects}))


@dataclass
class NaiveBank:
    """What `MemoryBank` promises, without a block."""

    policy: MemoryPolicy
    cohorts: list[NaiveCohort] = field(default_factory=list)

    @property
    def indices(self) -> list[int]:
        return sorted({frame.index for cohort in self.cohorts for frame in cohort.frames})

    def memorise(self, index: int, tokens: dict[int, tuple[Tensor, Tensor]], annotated: bool) -> None:
        pinned = self.policy.keep_first and annotated
        periodic = self.policy.every is not None and index % self.policy.every == 0
        if not (pinned or periodic or self.policy.keep_previous):
            return
        known = {key for cohort in self.cohorts for key in cohort.objects}
        joining = [key for key in tokens if key not in known]
        if joining:
            self.cohorts.append(NaiveCohort(self.policy, joining))
        for cohort in self.cohorts:
            cohort.memorise(index, tokens, pinned, pinned or periodic)

    def remove(self, key: int) -> None:
        for cohort in self.cohorts:
            cohort.objects = [other for other in cohort.objects if other != key]
        self.cohorts = [cohort for cohort in self.cohorts if cohort.objects]

    def remembered(self, key: int) -> dict[int, tuple[Tensor, Tensor]]:
        """Return keys and values by frame."""
        cohort = next(cohort for cohort in self.cohorts if key in cohort.objects)
        return {frame.index: frame.tokens[key] for frame in cohort.frames}

    def read(self, key: int, query: Tensor) -> Tensor:
        keys, values = zip(*self.remembered(key).values(), strict=True)
        keys, values = (torch.cat([part.flatten(1) for part in parts], 1).double() for parts in (keys, values))
        weights = torch.softmax(keys.T @ query.flatten(1).double() / KEY**0.5, 0)
        return (values @ weights).view(VALUE, HEIGHT, WIDTH).float()
