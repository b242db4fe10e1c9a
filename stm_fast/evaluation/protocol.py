"""Protocols: which masks of a dataset are scored, as its own evaluation does.

What a number means depends on them: whether the given mask counts, whether the last frame does, and what void is.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from stm_fast.data.clips import Clip
from stm_fast.data.truth import unscored_because


class ScoredFrames(str, Enum):
    """Which annotated frames of a clip are scored."""

    inner = "all but the first and the last annotated frame of a clip"
    inner_from_appearance = (
        "all but the first and the last annotated frame of a clip; of each object, from the first of them that shows "
        "it in truth or result"
    )
    inner_of_object = "of each object, all but its first and its last annotated frame"
    after_first = "of each object, those after the one in which it first appears"
    inner_of_range = "of each object, those between the first and the last one that show it"

    @property
    def min_annotated(self) -> int:
        """Number of annotated frames that a clip needs for one of them to be scored."""
        return 2 if self is ScoredFrames.after_first else 3

    def of_clip(self, annotated: Sequence[str]) -> Sequence[str]:
        """Return the frames of a clip in which an object may be scored, of its annotated frames."""
        return annotated[1:] if self is ScoredFrames.after_first else annotated[1:-1]

    def of_objects(
        self, annotated: Mapping[str, Collection[int]], given: Iterable[int] = ()
    ) -> dict[int, frozenset[str]]:
        """Return the scored frames of each object; not for `inner_from_appearance`, which depends on the results.

        Args:
            annotated: the objects that have a true mask in a frame, by its name, in order.
            given: the objects that prompts show; `inner` scores these alone.
        """
        names = list(annotated)
        if self is ScoredFrames.inner:
            return dict.fromkeys(sorted(given), frozenset(self.of_clip(names)))
        shown: dict[int, list[int]] = {}
        for index, objects in enumerate(annotated.values()):
            for each in objects:
                shown.setdefault(each, []).append(index)
        return {
            each: frozenset(names[index] for index in self._among(own, len(names)))
            for each, own in sorted(shown.items())
        }

    def _among(self, shown: Sequence[int], count: int) -> Sequence[int]:
        """Return which of `count` annotated frames are scored for an object that is shown in these."""
        if self is ScoredFrames.after_first:
            return range(shown[0] + 1, count)
        if self is ScoredFrames.inner_of_range:
            return range(shown[0] + 1, shown[-1])
        return shown[1:-1]


@dataclass(frozen=True)
class Protocol:
    """How the results of a dataset are scored.

    Attributes:
        name: for reports.
        scored: which frames.
        void_is_background: whether void pixels of the truth count as background, so that results in them are errors;
            otherwise they are not scored.
        last_quarter: whether J is also reported over the last quarter of the scored frames, J_tr.
        source: where the rule comes from.
    """

    name: str
    scored: ScoredFrames
    void_is_background: bool = False
    last_quarter: bool = False
    source: str = ""

    def unscored_because(self, clip: Clip, void: int | None = None) -> str | None:
        """Return in a few words why a clip cannot be scored, or None if it can be.

        Args:
            clip: any clip.
            void: id of pixels that belong to no object, or None.

        Raises:
            MediaError: a mask cannot be read.
        """
        return unscored_because(clip, void, self.scored.min_annotated)

    def unscored(self, clips: Iterable[Clip], void: int | None = None) -> dict[str, str]:
        """Return why clips cannot be scored, by their names; see `unscored_because`."""
        return {clip.name: why for clip in clips if (why := self.unscored_because(clip, void))}


VOS_BENCHMARK = Protocol(
    "vos-benchmark",
    ScoredFrames.inner_from_appearance,
    source="vos-benchmark, benchmark.py and evaluator.py: the first and the last frame are dropped; an object counts "
    "from its first appearance",
)
DAVIS = Protocol(
    "DAVIS semi-supervised",
    ScoredFrames.inner,
    void_is_background=True,
    source="davis2017-evaluation, davis2017/evaluation.py and davis.py: objects of the first mask; the first and the "
    "last frame are dropped; void is set to 0 in the truth and is not left out",
)

PROTOCOLS: Mapping[str, Protocol] = {
    "davis": DAVIS,
    "youtube-vos": Protocol(
        "YouTube-VOS",
        ScoredFrames.after_first,
        source="youtube-vos.org/dataset/vos: J and F averaged over the objects of seen and of unseen categories. The "
        "server's code is not public: frames after an object's given mask are scored",
    ),
    "lvos": Protocol(
        "LVOS",
        ScoredFrames.inner_of_range,
        void_is_background=True,
        source="lvos-evaluation, lvos/evaluation.py: of an object's frame range, all but the first and the last frame",
    ),
    "vost": Protocol(
        "VOST",
        ScoredFrames.inner,
        void_is_background=True,
        last_quarter=True,
        source="VOST, evaluation/source/evaluation.py: objects of the first mask; the first and the last frame are "
        "dropped; J_last is over the last quarter; void is set to 0 in the truth and is not left out",
    ),
    "mose": Protocol(
        "MOSE",
        ScoredFrames.inner,
        void_is_background=True,
        source="MOSE-api, MOSEv2/sam2_rcms/tools/score.py: the first and the last frame are dropped; F is that of "
        "DAVIS, which MOSEv2 reports beside its own",
    ),
    "sa-v": Protocol(
        "SA-V",
        ScoredFrames.inner_of_object,
        source="sam2, sav_dataset/utils/sav_benchmark.py: each object by itself, without the first and the last frame "
        "that has a mask of it",
    ),
    "burst": Protocol(
        "BURST, J and F",
        ScoredFrames.after_first,
        source="BURST-benchmark has HOTA, which vos-benchmark has not: J and F of the frames after an object's given "
        "mask",
    ),
    "long-video": Protocol(
        "DAVIS semi-supervised",
        ScoredFrames.inner,
        void_is_background=True,
        source="AFB-URR and XMem score it by davis2017-evaluation",
    ),
}
"""Protocols of layouts by the start of their names, which a version may follow; `VOS_BENCHMARK` for all others."""


def protocol_of(layout: str) -> Protocol:
    """Return the protocol of a layout, such as "youtube-vos2019"."""
    return next((each for name, each in PROTOCOLS.items() if layout.startswith(name)), VOS_BENCHMARK)
