"""The folder that a tracked video goes to."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stm_fast.errors import OutputError
from stm_fast.media.files import discard


@dataclass(frozen=True)
class OutputFolder:
    """`masks/`, `soft/`, `overlay.mp4`, `contact_sheet.png`, `summary.json` and `frames.jsonl` below one folder."""

    root: Path

    @property
    def masks(self) -> Path:
        """Folder of the palette PNGs."""
        return self.root / "masks"

    @property
    def soft(self) -> Path:
        """Folder of the soft masks, with a folder for each object."""
        return self.root / "soft"

    def soft_mask(self, object_id: int, name: str) -> Path:
        """The probability of an object in a frame, as a grey PNG."""
        return self.soft / str(object_id) / f"{name}.png"

    @property
    def overlay(self) -> Path:
        """The video of frames with their masks."""
        return self.root / "overlay.mp4"

    @property
    def contact_sheet(self) -> Path:
        """The picture of the clip at a glance."""
        return self.root / "contact_sheet.png"

    @property
    def summary(self) -> Path:
        """What the run did."""
        return self.root / "summary.json"

    @property
    def journal(self) -> Path:
        """What was found in each frame, one line per frame."""
        return self.root / "frames.jsonl"

    @property
    def run_state(self) -> Path:
        """What a run under way resumes from."""
        return self.root / ".checkpoint.safetensors"

    @property
    def pictures(self) -> tuple[Path, ...]:
        """Results that must not be inputs."""
        return self.masks, self.soft, self.overlay, self.contact_sheet

    def check_inputs(self, video: str | Path, masks: Iterable[Path]) -> None:
        """Make sure that no result replaces an input.

        Raises:
            OutputError: one does.
        """
        source = Path(video).resolve()
        used = {source, *(path.resolve().parent for path in masks)}
        for result in self.pictures:
            if result.resolve() in used:
                raise OutputError(f"{result} is or holds the video or a mask: choose another folder")
        if self.root.resolve() == source:
            raise OutputError(f"{self.root} is the folder of the frames: choose another folder")

    def frames_done(self) -> set[str]:
        """Return the names of the frames whose masks are on disk."""
        return {path.stem for path in self.masks.glob("*.png") if not path.name.startswith(".")}

    def frames_begun(self) -> set[str]:
        """Return the names of the frames with masks or soft masks on disk: a killed run may have left only these."""
        soft = {path.stem for path in self.soft.glob("*/*.png") if not path.name.startswith(".")}
        return soft | self.frames_done()

    def remove_masks(self, names: Iterable[str]) -> None:
        """Remove the masks and soft masks of frames, in their order; the mask first, as it says that both are there.

        Raises:
            OSError: one cannot be removed.
        """
        objects = list(self.soft.glob("*"))
        for name in names:
            discard(self.masks / f"{name}.png")
            for folder in objects:
                discard(folder / f"{name}.png")
        self._remove_emptied()

    def clear(self) -> None:
        """Remove the results of an earlier run, which may have had more frames or different pictures."""
        masks = (*self.masks.glob("*.png"), *self.soft.glob("*/*.png"))
        states = self.root.glob(f"{self.run_state.stem}*{self.run_state.suffix}")
        for result in (*masks, *states, self.overlay, self.contact_sheet, self.journal):
            discard(result)
        self._remove_emptied()
        shutil.rmtree(self.run_state.with_suffix(""), ignore_errors=True)

    def _remove_emptied(self) -> None:
        """Remove the folders of soft masks that hold none."""
        for emptied in (*self.soft.glob("*"), self.soft):
            if emptied.is_dir() and not any(emptied.iterdir()):
                emptied.rmdir()
