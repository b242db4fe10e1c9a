"""A pool of synthetic clips on disk, made once with all cores and memory-mapped in training."""

import os
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.assets import AssetLibrary
from stm_fast.data.synthetic.clips import SyntheticClip, synthesise
from stm_fast.errors import StmFastError
from stm_fast.processes import Process, end_all, in_parallel

CLIPS_PER_SHARD = 32


@dataclass(frozen=True)
class PoolSpec:
    """The contents of a pool. The same spec and assets give the same clips.

    Attributes:
        clips: number of clips, rounded up to whole shards.
        frames: frames per clip.
        size: side of a frame in pixels.
        seed: seed of the clips.
        solids: share of the bodies that are solids; the others are sprites.
        crowds: share of the clips that show a crowd.
    """

    clips: int
    frames: int = 6
    size: int = 512
    seed: int = 0
    solids: float = 0.0
    crowds: float = 0.0

    @property
    def shards(self) -> int:
        """Number of files that hold the clips."""
        return -(-self.clips // CLIPS_PER_SHARD)


def make_pool(assets: Path, out: Path, spec: PoolSpec, workers: int | None = None) -> Generator[int]:
    """Write missing shards to `out` with `workers` processes (default: all cores); yield the number of shards written.

    Raises:
        StmFastError: a process failed, or was killed, usually because memory ran out.
    """
    missing = [shard for shard in range(spec.shards) if not _shard_folder(out, shard).exists()]
    out.mkdir(parents=True, exist_ok=True)
    done = spec.shards - len(missing)
    yield done
    if not missing:
        return
    processes = [Process() for _ in range(min(len(missing), workers or os.cpu_count() or 1))]
    try:
        for _, outcome in in_parallel(_make_shard, [(assets, out, spec, shard) for shard in missing], processes):
            if outcome.fault:
                raise StmFastError(
                    f"clips cannot be made: {outcome.fault}. If a process was killed, use fewer, which need less memory"
                )
            done += 1
            yield done
    finally:
        end_all(processes)


def _shard_folder(out: Path, shard: int) -> Path:
    return out / f"shard_{shard:05d}"


def _make_shard(assets: Path, out: Path, spec: PoolSpec, shard: int) -> None:
    import cv2

    cv2.setNumThreads(1)
    library = AssetLibrary.open(assets)
    first = shard * CLIPS_PER_SHARD
    clips = [
        synthesise(library, np.random.default_rng([spec.seed, index]), spec.frames, spec.size, spec.solids, spec.crowds)
        for index in range(first, first + CLIPS_PER_SHARD)
    ]
    scratch = out / f".making_{shard:05d}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    np.save(scratch / "frames.npy", np.stack([clip.frames for clip in clips]))
    np.save(scratch / "masks.npy", np.stack([clip.masks for clip in clips]))
    scratch.rename(_shard_folder(out, shard))


class ClipPool:
    """Memory-mapped clips of a pool. Indexing returns a `SyntheticClip`. Sent to another process, it is opened anew."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shards = sorted(root.glob("shard_*"))
        if not shards:
            raise StmFastError(f"pool folder {root} holds no shards; `stm-fast train compact` makes them")
        self._frames = [np.load(shard / "frames.npy", mmap_mode="r") for shard in shards]
        self._masks = [np.load(shard / "masks.npy", mmap_mode="r") for shard in shards]

    def __reduce__(self) -> tuple[type["ClipPool"], tuple[Path]]:
        return type(self), (self.root,)

    def __len__(self) -> int:
        return len(self._frames) * CLIPS_PER_SHARD

    def __getitem__(self, index: int) -> SyntheticClip:
        shard, clip = divmod(index, CLIPS_PER_SHARD)
        masks: NDArray[np.uint8] = self._masks[shard][clip]
        return SyntheticClip(self._frames[shard][clip], masks, int(masks[0].max()))
