"""Where a compiled library is: in the package, or in a cache folder, where it is built when it is first needed."""

import logging
import platform
import shutil
import time
from contextlib import suppress
from pathlib import Path

from stm_fast.ops.cache import cache_folder
from stm_fast.ops.compiled import recipe

PACKAGE = Path(__file__).parents[2]
SPOKEN = {
    "cpu": ("the CPU kernels", "half a minute"),
    "cuda": ("the CUDA kernels", "three minutes"),
    "cuda_emulated": ("the emulated CUDA kernels", "half a minute"),
}
"""What to call the kernels of a library, and how long two cores take to compile them."""
SECONDS_BETWEEN_LINES = 5.0
"""Of progress; in a log they are not many, and in a terminal something moves."""
_logger = logging.getLogger(__name__)


def find_library(name: str) -> Path:
    """The path of a library that was built from the sources at hand; its name is one of `recipe.LIBRARIES`.

    Raises:
        BuildError: there is none and it cannot be built.
    """
    packaged = PACKAGE / recipe.LIBRARIES[name]
    csrc = _sources()
    if csrc is None:
        if packaged.exists():
            return packaged
        raise recipe.BuildError("the package holds neither the library nor its sources; install it again")
    key = recipe.source_key(csrc, name.partition("_")[0])
    if packaged.exists() and key.encode() in packaged.read_bytes():
        return packaged
    cached = cache_folder() / platform.machine() / key / packaged.name
    if not cached.exists():
        _build_once(csrc, name, cached)
    return cached


def _sources() -> Path | None:
    """The C++ sources; None where a distribution left them out."""
    csrc = PACKAGE / "csrc"
    return csrc if (csrc / "bindings").is_dir() else None


def _build_once(csrc: Path, name: str, target: Path) -> None:
    """Build a library; of several processes that need it one builds and the others wait for it.

    The compilers hold the lock as well. Where a build was killed, the next one waits for those that outlived it, and
    then resumes in the same folder: ninja compiles again what was not finished.
    """
    try:
        import fcntl
    except ImportError as error:
        raise recipe.BuildError("on this platform the library is not built when it is needed") from error
    if name == "cuda":
        recipe.find_nvcc()
    recipe.find_toolchain()  # what is missing is told before a build is announced
    target.parent.mkdir(parents=True, exist_ok=True)
    kernels, minutes = SPOKEN[name]
    free = False
    with (target.parent / "lock").open("w") as lock:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        if not free:
            _say(f"waiting for another process that compiles {kernels} ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return
        _say(f"compiling {kernels}, once, in about {minutes} on two cores ...")
        started = time.perf_counter()
        scratch = target.parent / f"build-{name}"
        built = recipe.build(csrc, scratch, name, progress=_Progress(started), inherited=(lock.fileno(),))
        shutil.move(built, target.with_suffix(".partial"))
        target.with_suffix(".partial").replace(target)
        shutil.rmtree(scratch)
        _say(f"done in {time.perf_counter() - started:.0f} s: {target}")


class _Progress:
    """Tells from time to time how far a build is, in whole lines: they read the same in a terminal and in a log."""

    def __init__(self, started: float) -> None:
        self._started = self._told = started

    def __call__(self, built: int, files: int) -> None:
        """Tell that so many files of all are built."""
        now = time.perf_counter()
        if now - self._told >= SECONDS_BETWEEN_LINES and built < files:
            self._told = now
            _say(f"{built} of {files} files are built after {now - self._started:.0f} s")


def _say(message: str) -> None:
    _logger.warning("stm-fast: %s", message, extra={"event": "build"})
