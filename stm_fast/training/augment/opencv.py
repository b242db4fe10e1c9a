"""OpenCV, an optional dependency."""

from functools import lru_cache
from types import ModuleType

from stm_fast.errors import StmFastError


@lru_cache(maxsize=1)
def opencv() -> ModuleType:
    """Return `cv2`, whose own threads are switched off: clips are drawn by several processes at once.

    Raises:
        StmFastError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise StmFastError(f"drawing clips needs OpenCV: pip install 'stm-fast[train]' ({error})") from error
    cv2.setNumThreads(1)
    return cv2
