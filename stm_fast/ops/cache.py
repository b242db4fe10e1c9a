"""Where this machine keeps what was built or measured for it."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`STM_FAST_CACHE`, or stm-fast in the user's cache folder; it need not exist."""
    folder = os.environ.get("STM_FAST_CACHE")
    if folder:
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stm-fast"
