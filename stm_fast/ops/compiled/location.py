"""Where a compiled library is: in the package, or in a cache folder, where it is built when it is first needed."""

import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

from stm_fast.ops.cache import cache_folder
from stm_fast.ops.compiled import recipe

PACKAGE = Path(__file__).parents[2]
SPOKEN = {
    "cpu": ("the CPU kernels", "half a minute"),
    "cuda": ("the CUDA kernels", "three minutes"),
    "cuda_emulated": ("the emulated CUDA kernels", "half a minute"),
}
"""What to call the kernels of a library, and how long they take to compile."""


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
    """The C++ sources: inside an installed package, beside the package in a checkout."""
    return next((path for path in (PACKAGE / "csrc", PACKAGE.parent / "csrc") if (path / "bindings").is_dir()), None)


def _build_once(csrc: Path, name: str, target: Path) -> None:
    """Build a library; of several processes that need it one builds and the others wait for it."""
    try:
        import fcntl
    except ImportError as error:
        raise recipe.BuildError("on this platform the library is not built when it is needed") from error
    if name == "cuda":
        recipe.find_nvcc()
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return
        kernels, minutes = SPOKEN[name]
        print(f"stm-fast: compiling {kernels}, once, in about {minutes} ...", file=sys.stderr, flush=True)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            built = recipe.build(csrc, Path(scratch), name)
            shutil.move(built, target.with_suffix(".partial"))
            target.with_suffix(".partial").replace(target)
        print(f"stm-fast: done in {time.perf_counter() - started:.0f} s: {target}", file=sys.stderr, flush=True)
