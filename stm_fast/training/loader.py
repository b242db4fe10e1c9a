"""Batches that processes of their own prepare ahead of training."""

import multiprocessing
import signal
import sys
from collections.abc import Iterator

from torch.utils.data import DataLoader

from stm_fast.errors import MediaError, StmFastError
from stm_fast.training.batch import Packed
from stm_fast.training.sampler import Clips, Parts


class Loader:
    """Iterates over the batch of each part. Processes that prepare batches run from the beginning until it is closed.

    Make it before anything that starts threads: a forked process has none of them, and waits for ever for a lock that
    one of them held.

    Args:
        clips: what batches are drawn from.
        parts: which of them, in order.
        workers: number of processes; 0 to draw in this one.
    """

    def __init__(self, clips: Clips, parts: Parts, workers: int) -> None:
        before = multiprocessing.active_children()
        loader = DataLoader(
            clips,
            batch_size=None,
            sampler=parts,
            num_workers=workers,
            worker_init_fn=_begin_worker,
            # Forked processes begin in milliseconds, and share the lists of files that large datasets have.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        )
        self._batches: Iterator[Packed | MediaError] | None = iter(loader)
        self._workers = [each for each in multiprocessing.active_children() if each not in before]

    def __iter__(self) -> Iterator[Packed]:
        return self

    def __next__(self) -> Packed:
        """Return the next batch.

        Raises:
            MediaError: a clip cannot be drawn.
            StmFastError: a process that prepares batches was killed.
        """
        if self._batches is None:
            raise StopIteration
        try:
            batch = next(self._batches)
        except RuntimeError as error:
            self.check_workers(error)
            raise
        if isinstance(batch, MediaError):
            raise batch
        return batch

    def check_workers(self, error: BaseException) -> None:
        """Raise an error that says so if `error` came of the death of a process that prepares batches.

        Torch raises a `RuntimeError` when it learns of the death, which can be at any place in the main thread.

        Raises:
            StmFastError: such a process was killed.
        """
        dead = [each.exitcode for each in self._workers if each.exitcode]
        if self._batches is not None and dead:
            raise StmFastError(
                f"a process that prepares batches ended with exit code {dead[0]}, usually because memory, or the "
                "shared memory in /dev/shm, ran out: use fewer workers, or workers=0"
            ) from error

    def close(self) -> None:
        """End the processes."""
        self._batches = None


def _begin_worker(worker: int) -> None:
    """Leave Ctrl-C to the main process, which ends its workers, and decode on one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(0)
