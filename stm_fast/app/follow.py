"""Following objects through the video of a project, as `stm-fast segment` does it."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from stm_fast.app.adoption import read_summary
from stm_fast.app.follow_plan import FollowPlan, widen
from stm_fast.app.jobs import Job
from stm_fast.app.project import Project
from stm_fast.app.timeline import described
from stm_fast.errors import StmFastError
from stm_fast.tracking import claims
from stm_fast.tracking.options import TrackOptions
from stm_fast.tracking.propagation import TrackedFrame
from stm_fast.tracking.track import Track

if TYPE_CHECKING:
    from stm_fast.models.stm import STM


class Enough(KeyboardInterrupt):
    """As many frames were followed as were asked for; results take it for an interruption, from which they resume."""


class Follower:
    """Follows objects; keeps the network from one job to the next.

    Args:
        project: the project.
        options: of tracking, as the user gave them.
        checkpoint_every: seconds between two run states on disk.
        network: that segments; None to load that of the options when it is first needed.

    Raises:
        StmFastError: the results that are there were made with other options.
    """

    def __init__(
        self, project: Project, options: TrackOptions, *, checkpoint_every: float = 120.0, network: "STM | None" = None
    ) -> None:
        self._project = project
        self._options = _with_noted(options, read_summary(project.out).get("settings"), project)
        self._checkpoint_every = checkpoint_every
        self._network = network
        self._loading = Lock()

    def run(self, plan: FollowPlan, job: Job) -> None:
        """Follow objects as planned; what is found is on disk and told to all tabs at once.

        Raises:
            KeyboardInterrupt: the job was stopped; a later one resumes to the same masks.
            StmFastError: the results cannot be continued, or a frame or mask cannot be read.
            OSError: a file cannot be written.
        """
        widen(plan, self._project)
        try:
            for turn in plan.turns:
                self._save(plan, job, turn)
            if len(plan.passes) > 1 and read_summary(self._project.out)["inputs"]["passes_done"] == [0, 1]:
                self._save(plan, job, None)
        finally:
            self._tell_lost()

    def _save(self, plan: FollowPlan, job: Job, turn: int | None) -> None:
        """Track one of the passes; None for all of them, so that complete results are marked as such."""
        project = self._project
        tracker = Track.open(
            project.clip,
            project.given.first_folder,
            self._options,
            route=plan.route,
            network=self._loaded(),
            offload_to=project.out.root,
            corrections=_corrections(plan, project),
        )
        before, begun = job.pace.done, False
        has_masks = bool(project.out.frames_done())

        def each(frame: TrackedFrame) -> None:
            nonlocal begun
            if not begun:
                begun = True
                self._tell_lost()
                job.pace.total = self._total(plan, job, turn, new=not frame.resumed)
            if not frame.resumed:
                project.publish("frame", frame=frame.index, **described(project.timeline.note(frame)))
                job.advance(frame.index)
            if job.is_stopping:
                raise KeyboardInterrupt
            if plan.count is not None and job.pace.done - before >= plan.count:
                raise Enough

        try:
            tracker.save(
                project.out.root,
                resume=has_masks,
                overwrite=not has_masks,  # a run may have ended before its first mask
                overlay=None,
                sheet=False,  # so that frames before the state are not read again
                checkpoint_every=self._checkpoint_every,
                settings={"input": str(project.clip.path), "mask": str(project.given.first_folder)},
                each=each,
                turns=None if turn is None or len(plan.passes) == 1 else (turn,),
            )
        except Enough:
            return

    def _total(self, plan: FollowPlan, job: Job, turn: int | None, *, new: bool) -> int | None:
        """Return the number of frames of the job, as far as the video says."""
        if (frames := self._project.frames) is None:
            return None
        left = 0
        for each in [] if turn is None else plan.turns[plan.turns.index(turn) :]:
            numbers = plan.passes[each]
            numbers = range(numbers.start, min(numbers.stop, frames), numbers.step)
            missing = len(numbers) - len(self._project.timeline.done.intersection(numbers))
            missing += new and each == turn
            left += missing if plan.count is None else min(missing, plan.count)
        return job.pace.done + left

    def _tell_lost(self) -> None:
        """Tell all tabs which masks were removed because a correction reaches them."""
        if lost := self._project.timeline.refresh():
            self._project.publish("masks", **{"from": lost[0], "to": lost[-1] + 1})

    def _loaded(self) -> "STM":
        with self._loading:
            if self._network is None:
                self._network = self._options.load()
            return self._network


def _corrections(plan: FollowPlan, project: Project) -> Mapping[str, Any]:
    """Return the corrections; none if all are of frames that are not tracked, which would be an error."""
    if any(number in numbers for number in project.given.corrected for numbers in plan.passes):
        return project.given.correction_paths()
    return {}


def _with_noted(options: TrackOptions, noted: Any, project: Project) -> TrackOptions:
    """Return options with those that results were made with, where the user gave none.

    Raises:
        StmFastError: the user gave another one.
    """
    if not isinstance(noted, dict):
        return options
    given = {name: value for name, value in asdict(options).items() if value != getattr(TrackOptions(), name)}
    before = {field.name: noted[field.name] for field in fields(options) if field.name in noted}
    for name, value in given.items():
        if name not in claims.FREE and name in before and before[name] != value:
            raise StmFastError(
                f"{project.out.root} was made with {name} {before[name]}, not {value}: leave the option out, or choose "
                "another folder"
            )
    return replace(options, **{**before, **given})
