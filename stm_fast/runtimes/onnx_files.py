"""A network as ONNX models."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from stm_fast.models.stm import STM
from stm_fast.runtimes import packages
from stm_fast.runtimes.facts import facts
from stm_fast.runtimes.folders import export_folder
from stm_fast.runtimes.onnx_read import OPSET, translations
from stm_fast.runtimes.parts import Part, Parts

_SYMBOL = re.compile(r"\b[A-Za-z_]\w*")
"""A size in an expression such as `16*s30`."""


def export_onnx(
    model: STM, folder: str | Path, *, overwrite: bool = False, each: Callable[[], None] = lambda: None
) -> list[Path]:
    """Write a network as ONNX models, float32, opset 18, in standard operators alone.

    The files are `encode_query.onnx`, `encode_memory.onnx`, `read.onnx`, `decode.onnx` and, for a network that is
    guided by the masks of the frame before, `decode_unguided.onnx`. docs/runtimes.md describes them.

    Args:
        model: the network; it stays as it is.
        folder: what to write; it appears once all files are complete.
        overwrite: whether to replace an earlier export.
        each: called after each file.

    Returns:
        The files, in the order in which a loop first needs them.

    Raises:
        StmFastError: onnx or onnxscript is not installed.
        OutputError: the folder is not empty, and `overwrite` is not given or an export did not make what is in it.
        OSError: the files cannot be written.
    """
    onnx, table = packages.onnx(), translations()
    parts = Parts(model)
    files = []
    with export_folder(folder, overwrite=overwrite) as partial:
        for part in parts.for_onnx():
            with _quiet():
                exported = torch.onnx.export(
                    part.program(),
                    input_names=part.input_names,
                    output_names=part.output_names,
                    opset_version=OPSET,
                    custom_translation_table=table,
                    verbose=False,
                )
            assert exported is not None
            proto = exported.model_proto
            _tidy(proto, part)
            onnx.helper.set_model_props(proto, facts(parts.model))
            onnx.save(proto, partial / f"{part.name}.onnx")
            files.append(Path(folder) / f"{part.name}.onnx")
            each()
    return files


def _tidy(proto: Any, part: Part) -> None:
    """Name the dimensions of inputs and outputs, and drop where in Python each node comes from."""
    graph = proto.graph
    del graph.value_info[:]
    for each in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del each.metadata_props[:]
    names = {}
    for value, sizes in zip(graph.input, pytree.tree_leaves(part.sizes, is_leaf=_are_sizes), strict=True):
        for axis, size in sizes.items():
            written = value.type.tensor_type.shape.dim[axis].dim_param
            names.update(dict.fromkeys(_SYMBOL.findall(written), getattr(size, "root", size).__name__))
    for value in (*graph.input, *graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:  # to assign an empty name would delete a fixed size
                dimension.dim_param = _SYMBOL.sub(lambda found: names.get(found[0], found[0]), dimension.dim_param)


def _are_sizes(node: object) -> bool:
    return isinstance(node, dict)


@contextmanager
def _quiet() -> Iterator[None]:
    """Return a context without what torch's exporter says of itself and of packages that are not needed."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec")
            yield
    finally:
        logger.setLevel(level)
