"""Results that `stm-fast segment` made become a project: the masks that it was given are copied into their folder."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stm_fast.errors import MediaError
from stm_fast.media.files import atomic_path, write_text
from stm_fast.media.frames import FrameSource
from stm_fast.media.images import has_images
from stm_fast.media.masks import object_ids, read_mask, write_mask
from stm_fast.tracking.correction_files import MAX_OBJECT, CorrectionFile
from stm_fast.tracking.inputs import identity, source_problem
from stm_fast.tracking.output import OutputFolder
from stm_fast.tracking.prompts import find_prompts


def check_source(out: OutputFolder, clip: FrameSource) -> None:
    """Raise `MediaError` if the results that are there were made of another video."""
    noted = read_summary(out).get("inputs")
    if isinstance(noted, dict) and noted and (problem := source_problem(noted, identity(clip, {}))):
        raise MediaError(f"{problem}: give the same video, or choose another folder than {out.root}")


def objects_followed(out: OutputFolder) -> set[int]:
    """Return the ids of the objects that a run followed, as far as it noted them."""
    found = read_summary(out).get("objects")
    return {each for each in found or () if isinstance(each, int) and 1 <= each <= MAX_OBJECT}


def adopt(out: OutputFolder, clip: FrameSource) -> None:
    """Give results that have none the folders of first masks and corrections.

    A mask that the run was given is copied, if it is still there. Otherwise the mask of its frame in the results, which
    shows the same, takes its place, and the results note this.

    Raises:
        MediaError: a mask cannot be read.
        OSError: a file cannot be written.
    """
    summary = read_summary(out)
    inputs = summary.get("inputs")
    if not isinstance(inputs, dict):
        return
    changed = False
    if not has_images(out.root / "first_masks"):
        changed = _first_masks(out, clip, inputs.get("masks") or {}, summary.get("settings", {}).get("mask"))
    if not (out.root / "corrections").is_dir():
        changed |= _corrections(out, inputs.get("corrections") or {})
    if not changed:
        return
    first = {path.stem: path for path in (out.root / "first_masks").glob("*.png")}
    corrections = {path.name: CorrectionFile(path) for path in (out.root / "corrections").glob("*")}
    now = identity(clip, first, corrections)
    for kind in ("masks", "corrections"):
        inputs[kind] = {name: now[kind].get(name, digest) for name, digest in (inputs.get(kind) or {}).items()}
    write_summary(out, summary)


def _first_masks(out: OutputFolder, clip: FrameSource, noted: Mapping[str, str], given: object) -> bool:
    """Write the first masks of a run; return whether one of them is not the file that was given."""
    files: Mapping[str, Path] = {}
    if isinstance(given, str) and Path(given).exists():
        try:
            files = find_prompts(given, clip, first=min(noted, default=None))
        except MediaError:
            files = {}
    same = identity(clip, files)["masks"] if files else {}
    seen: set[int] = set()
    replaced = False
    for name in sorted(noted, key=lambda each: clip.number_of(each) or 0):
        path = out.masks / f"{name}.png"
        if same.get(name) == noted[name]:
            with atomic_path(out.root / "first_masks" / f"{name}{files[name].suffix}") as partial:
                shutil.copyfile(files[name], partial)
        elif path.is_file():
            mask = read_mask(path)
            new = np.where(np.isin(mask, list(seen)), 0, mask)
            seen.update(object_ids(new))
            write_mask(out.root / "first_masks" / f"{name}.png", new)
            replaced = True
    return replaced


def _corrections(out: OutputFolder, noted: Mapping[str, str]) -> bool:
    """Write the corrections of a run, as its results show them; return whether there are any."""
    for name in noted:
        if (path := out.masks / f"{name}.png").is_file():
            mask = read_mask(path)
            for object_id in object_ids(mask):
                where = out.root / "corrections" / name / f"{object_id}.png"
                write_mask(where, np.where(mask == object_id, object_id, 0))
    return bool(noted)


def read_summary(out: OutputFolder) -> dict[str, Any]:
    """Return what a run noted; empty if there was none."""
    try:
        found = json.loads(out.summary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_summary(out: OutputFolder, summary: Mapping[str, Any]) -> None:
    """Write what a run noted anew."""
    write_text(out.summary, json.dumps(summary, indent=2) + "\n")
