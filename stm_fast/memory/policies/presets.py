"""Policies by name. `PRESETS` has the names of the command line; a new policy is entered there.

The help of `--memory`, in `stm_fast/cli/options.py`, describes them.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

from stm_fast.memory.policies.admission import Certain, WhenFull
from stm_fast.memory.policies.eviction import LeastUsed, MostAlike
from stm_fast.memory.policies.long_term import LongTerm
from stm_fast.memory.policies.policy import MemoryPolicy

AUTO_FRAMES = 25
"""Frames that `auto` keeps before it consolidates. Clips of DAVIS, which have at most 104 frames, do not reach it and
are read as in the paper."""
LONG_TERM_FRAMES = 20
DIVERSE_FRAMES = 20


def auto(frames: int = AUTO_FRAMES, every: int = 5, max_bytes: int | None = None) -> MemoryPolicy:
    """Return a policy that acts as `official` on a short video and as `long_term` on the rest of a longer one.

    Nothing is evicted until an object has `frames` frames in memory. From then on, the older half of the working frames
    becomes prototypes whenever the memory is full, and frames that the network is unsure of are not kept. So memory and
    time per frame are bounded.
    """
    policy = long_term(frames, every, max_bytes)
    return replace(policy, admission=WhenFull(Certain(), frames))


def official(every: int = 5, max_bytes: int | None = None) -> MemoryPolicy:
    """Return the policy of the paper (STM, section 3.6): the first frame, every n-th and the previous one stay."""
    return MemoryPolicy(every=every, max_bytes=max_bytes)


def window(frames: int, every: int = 5, max_bytes: int | None = None) -> MemoryPolicy:
    """Return a policy of at most `frames` frames that evicts the oldest one without annotations."""
    return MemoryPolicy(every=every, max_frames=frames, max_bytes=max_bytes)


def least_used(frames: int, every: int = 5, max_bytes: int | None = None) -> MemoryPolicy:
    """Return a policy of at most `frames` frames that evicts the least read one."""
    return MemoryPolicy(every=every, max_frames=frames, max_bytes=max_bytes, eviction=LeastUsed())


def long_term(frames: int = LONG_TERM_FRAMES, every: int = 5, max_bytes: int | None = None) -> MemoryPolicy:
    """Return a policy that, like XMem, turns the older half of `frames` frames into prototypes when the memory is full.

    Frames that the network is unsure of are not kept and do not become prototypes.
    """
    eviction = LongTerm(recent=max(frames, 0) // 2)
    return MemoryPolicy(every=every, max_frames=frames, max_bytes=max_bytes, admission=Certain(), eviction=eviction)


def diverse(frames: int = DIVERSE_FRAMES, every: int = 5, max_bytes: int | None = None) -> MemoryPolicy:
    """Return a policy of at most `frames` frames that evicts the one most like another.

    The most recent quarter, at most five frames, stays. Frames that the network is unsure of are not kept.
    """
    eviction = MostAlike(recent=min(MostAlike.recent, max(frames, 0) // 4))
    return MemoryPolicy(every=every, max_frames=frames, max_bytes=max_bytes, admission=Certain(), eviction=eviction)


class Preset(NamedTuple):
    """A policy that has a name.

    Attributes:
        make: makes it; `every` and `max_bytes` are keywords, and `frames` is one unless it is "never" given.
        frames: whether a number of frames follows the name, after a colon.
    """

    make: Callable[..., MemoryPolicy]
    frames: Literal["never", "always", "maybe"]


PRESETS = {
    "auto": Preset(auto, "never"),
    "official": Preset(official, "never"),
    "window": Preset(window, "always"),
    "least-used": Preset(least_used, "always"),
    "long-term": Preset(long_term, "maybe"),
    "diverse": Preset(diverse, "maybe"),
}
"""By name; those that a number "maybe" follows are last."""
