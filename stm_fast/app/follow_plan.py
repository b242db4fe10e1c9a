"""Which passes a request to follow objects needs, and how results of other directions become part of them."""

from dataclasses import dataclass
from typing import Any

from stm_fast.app.adoption import read_summary, write_summary
from stm_fast.app.project import Project
from stm_fast.app.refusal import Refusal
from stm_fast.media.frames import FrameSource
from stm_fast.tracking.route import Route
from stm_fast.tracking.state_file import StateFile


@dataclass(frozen=True)
class FollowPlan:
    """What is to be tracked.

    Attributes:
        route: of the results.
        passes: numbers of the frames of each pass.
        turns: numbers of the passes that are wanted now.
        count: number of new frames after which each of them stops; None for all.
        before: route of the results that are there; None if there are none.
    """

    route: Route
    passes: tuple[range, ...]
    turns: tuple[int, ...]
    count: int | None
    before: Route | None

    @property
    def start(self) -> int:
        """Number of the start frame."""
        return self.passes[0].start


def plan_follow(project: Project, direction: str, begin: int, count: int | None) -> FollowPlan:
    """Plan how objects are followed.

    The route begins at the first mask. Results that are there are continued; if they are of the other direction only,
    the route becomes one in both directions, whose passes do not depend on one another.

    Args:
        project: the project.
        direction: "forward", "backward" or "both".
        begin: number of the frame that the user looks at, which must be on the way.
        count: number of new frames after which each pass stops; None for all.

    Raises:
        Refusal: no mask shows an object, or the frame is not on the way.
    """
    first = project.given.first
    if not first:
        raise Refusal(409, "no mask shows an object yet: draw one first")
    clip, before = project.clip, noted_route(project) if project.timeline.done else None
    start = first[0] if before is None else _start(before, project)
    wanted = {"forward", "backward"} if direction == "both" else {direction}
    has = set() if before is None else {"forward", "backward"} if before.direction == "both" else {before.direction}
    if "backward" in wanted - has and before is not None and start < first[0]:
        start = first[0]  # nothing is shown in the frames before it
    if start == 0:
        wanted.discard("backward")
        has.discard("backward")
        if not wanted:
            raise Refusal(409, "nothing comes before frame 0, where the objects are shown first: follow them forward")
    if before is not None and wanted <= has:
        route = before
    else:
        route = Route(_joined(wanted | has), _from(start, clip), None if before is None else before.frames)
    passes = route.passes(clip, start)
    turns = tuple(turn for turn, numbers in enumerate(passes) if _direction(numbers) in wanted)
    if all(begin not in passes[turn] for turn in turns):
        raise Refusal(
            409,
            f"frame {begin} is not reached by following {direction} from frame {start}, where the objects are shown "
            f"first: follow them {'backward' if begin < start else 'forward'}, or in both directions",
        )
    return FollowPlan(route, passes, turns, count, before)


def widen(plan: FollowPlan, project: Project) -> None:
    """Make the results that are there part of those of a plan: what they hold of its passes stays.

    Raises:
        OSError: a file cannot be written.
    """
    if plan.before is None or plan.before == plan.route:
        return
    out, states = project.out, StateFile(project.out.run_state)
    summary = read_summary(out)
    done = summary["inputs"].get("passes_done") or []
    if plan.before.direction == "backward":
        states.move(0, 1)
        done = [turn + 1 for turn in done]
    elif _start(plan.before, project) != plan.start:
        states.forget_from(0, 0)
        early = [project.clip.name_of(number) for number in sorted(project.timeline.done) if number < plan.start]
        out.remove_masks(reversed([name for name in early if name is not None]))
    summary["settings"] |= plan.route.settings()
    summary["inputs"]["passes_done"] = done
    write_summary(out, summary | {"complete": False})


def noted_route(project: Project) -> Route | None:
    """Return the route of the results that are there; None if there are none."""
    settings: Any = read_summary(project.out).get("settings")
    if not isinstance(settings, dict) or "direction" not in settings:
        return None
    return Route(settings["direction"], settings.get("from_frame"), settings.get("frames"))


def _start(route: Route, project: Project) -> int:
    """Return the number of the start frame of a route."""
    start = route.start(project.clip)
    if start is not None:
        return start
    names = [project.clip.name_of(number) or "" for number in project.given.first]
    return route.start_at_masks(project.clip, names)


def _joined(directions: set[str]) -> str:
    return "both" if len(directions) == 2 else next(iter(directions))


def _direction(numbers: range) -> str:
    return "forward" if numbers.step > 0 else "backward"


def _from(start: int, clip: FrameSource) -> str | None:
    """Return how a route names its start frame; the first one need not be named."""
    return None if start == 0 else clip.name_of(start)
