"""The models of an asset library, made from those of the packages."""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import cv2
import numpy as np

from stm_fast.data.synthetic.solids.model import Model, assemble
from stm_fast.data.synthetic.solids.packages import SOLID_SOURCES, SolidSource
from stm_fast.data.synthetic.solids.render import Lamp, View, render
from stm_fast.data.synthetic.solids.store import Store
from stm_fast.errors import StmFastError
from stm_fast.processes import Process, end_all, in_parallel

Rng = np.random.Generator

_TEST_SIZE = 96
_MIN_VISIBLE = 0.012
_MIN_WHOLE = 0.75


def prepare_models(packages: Path, out: Path, seed: int = 0) -> Generator[int]:
    """Convert every usable model of the unpacked packages to one size and format, with all cores.

    Yields how many sources are done.

    Args:
        packages: folder of unpacked packages, from `fetch_packages`.
        out: folder of the models. It appears when all are ready.
        seed: seed of what is drawn: variants, motions and the colours of teams.

    Raises:
        StmFastError: a package is missing, there are no models, or a process failed.
    """
    absent = [source.package for source in SOLID_SOURCES if not (packages / source.package).is_dir()]
    if absent:
        raise StmFastError(f"{packages} lacks the unpacked packages {', '.join(absent)}")
    scratch = out.with_name(f".{out.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    largest_first = sorted(range(len(SOLID_SOURCES)), key=lambda index: -_size(packages / SOLID_SOURCES[index].package))
    processes = [Process() for _ in range(os.cpu_count() or 1)]
    try:
        yield 0
        conversions = in_parallel(_convert, [(index, packages, scratch, seed) for index in largest_first], processes)
        for done, (_, outcome) in enumerate(conversions, 1):
            if outcome.fault:
                raise StmFastError(f"models cannot be prepared: {outcome.fault}")
            if done < len(SOLID_SOURCES):
                yield done
    finally:
        end_all(processes)
    if not any(scratch.iterdir()):
        raise StmFastError(f"{packages} holds no usable models")
    scratch.rename(out)
    yield len(SOLID_SOURCES)


def _convert(index: int, packages: Path, out: Path, seed: int) -> None:
    cv2.setNumThreads(1)
    source = SOLID_SOURCES[index]
    for number, model in enumerate(models(source, packages, np.random.default_rng([seed, index]))):
        model.save(out / f"{source.package}_{number:05d}.npz")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def models(source: SolidSource, packages: Path, rng: Rng) -> Iterator[Model]:
    """Yield the usable models of a source, whose package is unpacked in a folder of its name below `packages`.

    Damaged files are left out, as are models that are too small, too flat or too detailed.
    """
    for root in sorted((packages / source.package).glob(source.root)):
        try:
            store = Store(root)
        except ValueError:
            continue
        for parts in source.read(store, rng):
            try:
                model = assemble(parts())
            except ValueError:
                continue
            if model is not None and holds_together(model):
                yield model


def holds_together(model: Model) -> bool:
    """Tell whether a model is one visible thing, from two sides: not scattered leaves, clouds or splinters."""
    lamp = Lamp(np.array([0, 1, 0], np.float32), 1.0, 0.0)
    scale = 0.47 * _TEST_SIZE
    place = np.array([[scale, 0, _TEST_SIZE / 2], [0, scale, _TEST_SIZE / 2]], np.float32)
    for side in (np.eye(3, dtype=np.float32), np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float32)):
        picture = render(model, model.textures, 0.0, View(side, 4.0, place), lamp, _TEST_SIZE)
        solid = (picture[..., 3] > 0.5).astype(np.uint8)
        _, labels = cv2.connectedComponents(cv2.dilate(solid, np.ones((3, 3), np.uint8)))
        parts = np.bincount(labels[solid > 0])
        if parts.sum() < _MIN_VISIBLE * solid.size or parts.max() < _MIN_WHOLE * parts.sum():
            return False
    return True
