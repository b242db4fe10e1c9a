"""A network as exported torch programs."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from stm_fast.models.stm import STM
from stm_fast.runtimes.facts import facts
from stm_fast.runtimes.folders import export_folder
from stm_fast.runtimes.parts import Parts

FACTS = "stm_fast.json"
"""Name of the file of facts inside a program's archive."""


def export_programs(
    model: STM, folder: str | Path, *, overwrite: bool = False, each: Callable[[], None] = lambda: None
) -> list[Path]:
    """Write a network as programs of `torch.export`, float32.

    The files are `encode_query.pt2`, `encode_memory.pt2`, `step.pt2` and, for a network that is guided by the masks of
    the frame before, `step_unguided.pt2`. `torch.export.load` loads them after `import stm_fast.ops`, which has the
    memory read; the code of the network is not needed.

    Args:
        model: the network; it stays as it is.
        folder: what to write; it appears once all files are complete.
        overwrite: whether to replace an earlier export.
        each: called after each file.

    Returns:
        The files, in the order in which a loop first needs them.

    Raises:
        OutputError: the folder is not empty, and `overwrite` is not given or an export did not make what is in it.
        OSError: the files cannot be written.
    """
    parts = Parts(model)
    files = []
    with export_folder(folder, overwrite=overwrite) as partial:
        for part in parts.for_torch():
            name = f"{part.name}.pt2"
            torch.export.save(part.program(), partial / name, extra_files={FACTS: json.dumps(facts(parts.model))})
            files.append(Path(folder) / name)
            each()
    return files
