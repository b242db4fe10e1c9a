"""Pictures for docs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stm_fast.media.files import atomic_path


@contextmanager
def saved(path: Path, rows: int, columns: int, **options: Any) -> Iterator[tuple[Any, Any]]:
    """Yield a figure and its array of axes `(rows, columns)`; write it as PNG after the block."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(rows, columns, squeeze=False, **options)
    yield figure, axes
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=130, format="png")
    pyplot.close(figure)
