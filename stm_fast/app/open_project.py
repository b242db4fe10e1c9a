"""What a server works on: one project, its pictures, and the job that runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stm_fast.app import exports
from stm_fast.app.events import Events
from stm_fast.app.follow import Follower
from stm_fast.app.follow_plan import plan_follow
from stm_fast.app.hinting import Prompting
from stm_fast.app.jobs import Job, Jobs
from stm_fast.app.pictures import Pictures
from stm_fast.app.project import Project
from stm_fast.app.refusal import Refusal
from stm_fast.errors import MediaError
from stm_fast.export.options import ExportOptions
from stm_fast.media.sources import open_frames
from stm_fast.prompters.registry import available_prompters
from stm_fast.tracking import claims
from stm_fast.tracking.options import TrackOptions

if TYPE_CHECKING:
    from stm_fast.models.stm import STM


class OpenProject:
    """A project and all that a server needs to work on it; see `open_project`.

    Attributes:
        project: the project.
        pictures: of its video.
        prompting: makes masks of boxes and points.
        jobs: the job that runs.
    """

    def __init__(self, project: Project, follower: Follower) -> None:
        self.project = project
        self.pictures = Pictures(project.clip, project.out.root / ".thumbnails", project.source)
        self.prompting = Prompting()
        self.jobs = Jobs(
            lambda job: project.publish("job", job=job.described()), lambda text: project.publish("notice", text=text)
        )
        self._follower = follower

    def describe(self) -> dict[str, Any]:
        """Return what the page shows, in types of JSON."""
        job = self.jobs.last
        return self.project.describe() | {
            "job": None if job is None else job.described(),
            "prompters": list(available_prompters()),
            "exports": exports.formats(),
        }

    @contextmanager
    def changing_masks(self, revision: int) -> Iterator[int]:
        """Change what is given; see `Project.changing`. A job that follows objects is stopped first.

        Raises:
            Stale: the project was changed since the revision.
            Refusal: another tab began to follow objects in this moment.
        """
        if (job := self.jobs.running) is not None and job.kind == "follow" and revision == self.project.revision:
            self.jobs.stop(wait=True)
        with self.project.changing(revision) as changed:
            if (job := self.jobs.running) is not None and job.kind == "follow":
                raise Refusal(409, "objects are followed: stop this first")
            yield changed

    def follow(self, revision: int, direction: str, begin: int, count: int | None) -> Job:
        """Begin to follow objects; see `plan_follow`.

        Raises:
            Stale: the project was changed since the revision.
            Refusal: another job is running, or nothing can be followed.
        """
        with self.project.lock:
            self.project.check_revision(revision)
            plan = plan_follow(self.project, direction, begin, count)
            return self.jobs.begin("follow", lambda job: self._follower.run(plan, job))

    def export(self, revision: int, name: str, options: ExportOptions) -> Job:
        """Begin an export.

        Raises:
            Stale: the project was changed since the revision.
            Refusal: another job is running.
        """
        with self.project.lock:
            self.project.check_revision(revision)
            return self.jobs.begin("export", lambda job: exports.export(self.project, name, options, job))


@contextmanager
def open_project(
    video: str | Path,
    root: str | Path,
    options: TrackOptions | None = None,
    *,
    checkpoint_every: float = 120.0,
    network: "STM | None" = None,
) -> Iterator[OpenProject]:
    """Open a project, or begin one, and keep other processes from writing into its folder.

    Args:
        video: what `stm_fast.media.sources.open_frames` takes, and can be read in any order.
        root: folder of the results.
        options: of tracking; None for those of the results, or the defaults.
        checkpoint_every: seconds between two run states on disk.
        network: that segments; None to load that of the options.

    Raises:
        MediaError: the video or a mask cannot be used.
        StmFastError: another process is writing into the folder, or the results were made with other options.
        OSError: a file cannot be written.
    """
    clip = open_frames(video)
    if not clip.seekable:
        raise MediaError(f"{clip.path} can be read only once: save it to a file first")
    root = Path(root)
    with claims.held(root):
        project = Project(clip, root, Events())
        opened = OpenProject(
            project,
            Follower(project, options or TrackOptions(), checkpoint_every=checkpoint_every, network=network),
        )
        try:
            yield opened
        finally:
            opened.jobs.stop(wait=True)
