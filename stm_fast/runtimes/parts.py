"""The parts that a network is exported in, with examples of their inputs and what is dynamic in them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from stm_fast.models.inference_copy import inference_copy
from stm_fast.models.stm import STM
from stm_fast.runtimes.modules import Decode, EncodeMemory, EncodeMemoryValue, EncodeQuery, Read, Step

_ROWS, _COLUMNS = (Dim(name, min=3, max=1024) for name in ("rows", "columns"))
_OBJECTS = Dim("objects", min=1)
_QUERY_ROWS, _QUERY_COLUMNS, _FRAMES, _MEMORY_ROWS, _MEMORY_COLUMNS = (
    Dim(name, min=1) for name in ("query_rows", "query_columns", "frames", "memory_rows", "memory_columns")
)
# Sizes of the examples. Those that may differ do differ: torch.export would take equal ones for one.
_EXAMPLE_GRID = (4, 5)
_EXAMPLE_OBJECTS = 2
_EXAMPLE_MEMORY = (3, 6, 7)


class Part(NamedTuple):
    """A module, and what an exporter has to know of it.

    Attributes:
        name: of the part, and of its file.
        module: it takes tensors, and tuples of them.
        inputs: an example of each.
        sizes: the dynamic dimensions of each input; nested as `inputs` are.
        input_names: of all tensors in `inputs`, in order.
        output_names: likewise.
    """

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    sizes: tuple[Any, ...]
    input_names: Sequence[str]
    output_names: Sequence[str]

    def program(self) -> ExportedProgram:
        """Trace the module."""
        with torch.no_grad():
            return export(self.module, self.inputs, dynamic_shapes=self.sizes)


class Parts:
    """The parts of a network, in float32 on the CPU.

    Args:
        model: the network; it stays as it is.
    """

    def __init__(self, model: STM) -> None:
        self.model = inference_copy(model).to("cpu", torch.float32)
        stride = self.model.stride
        height, width = (side * stride for side in _EXAMPLE_GRID)
        self._frame = torch.linspace(0, 1, 3 * height * width).view(1, 3, height, width)
        self._masks = torch.full((_EXAMPLE_OBJECTS, 1, height, width), 0.5)
        with torch.no_grad():
            self._query = self.model.encode_query(self._frame)
            key, value = self.model.encode_memory(self._frame, self._masks, self._masks, self._query)
        keys = key[:1] if self.model.shares_keys else key
        self._memory = tuple(torch.zeros(*grid.shape[:2], *_EXAMPLE_MEMORY) for grid in (keys, value))
        self._readout = torch.zeros_like(value)
        self._pixels = {2: stride * _ROWS, 3: stride * _COLUMNS}
        self._grid = {2: _ROWS, 3: _COLUMNS}
        of_memory = {2: _FRAMES, 3: _MEMORY_ROWS, 4: _MEMORY_COLUMNS}
        of_object = {0: _OBJECTS, **of_memory}
        self._memory_sizes = (of_memory if self.model.shares_keys else of_object), of_object

    def for_onnx(self) -> list[Part]:
        """Return the encoders, the read and the decoder, with a guide and without one in guided networks."""
        decoders = self._guided_and_not(self._decoder(), self._grid)
        return [self._query_encoder(), self._memory_encoder(), self._read(), *decoders]

    def for_torch(self) -> list[Part]:
        """Return the encoders, and a step: query encoder, read and decoder in one."""
        # The grid of the frame before is that of the frame, as torch.export finds out. By its name, it would ask for a
        # proof that the rows of the trunk's last stage suffice, which it cannot find.
        grid = {2: Dim.AUTO, 3: Dim.AUTO}
        return [self._query_encoder(), self._memory_encoder(), *self._guided_and_not(self._step(), grid)]

    def _query_encoder(self) -> Part:
        names = ("query_key", "query_value", *self._skip_names())
        return Part("encode_query", EncodeQuery(self.model), (self._frame,), (self._pixels,), ("frame",), names)

    def _memory_encoder(self) -> Part:
        masks = {0: _OBJECTS, **self._pixels}
        if self.model.shares_keys:
            inputs, sizes = (self._query.value, self._masks), (self._grid, masks)
            module = EncodeMemoryValue(self.model)
            return Part("encode_memory", module, inputs, sizes, ("query_value", "masks"), ("memory_value",))
        inputs, sizes = (self._frame, self._masks), (self._pixels, masks)
        names = ("memory_key", "memory_value")
        return Part("encode_memory", EncodeMemory(self.model), inputs, sizes, ("frame", "masks"), names)

    def _read(self) -> Part:
        sizes = ({2: _QUERY_ROWS, 3: _QUERY_COLUMNS}, *self._memory_sizes)
        names = ("query_key", "memory_key", "memory_value")
        return Part("read", Read(self.model), (self._query.key, *self._memory), sizes, names, ("readout",))

    def _decoder(self) -> Part:
        inputs = (self._readout, self._query.value, self._query.skips)
        skips = tuple(
            {2: skip.shape[2] // _EXAMPLE_GRID[0] * _ROWS, 3: skip.shape[3] // _EXAMPLE_GRID[1] * _COLUMNS}
            for skip in self._query.skips
        )
        sizes = ({0: _OBJECTS, **self._grid}, self._grid, skips)
        names = ("readout", "query_value", *self._skip_names())
        return Part("decode", Decode(self.model), inputs, sizes, names, ("probabilities",))

    def _step(self) -> Part:
        inputs, sizes = (self._frame, *self._memory), (self._pixels, *self._memory_sizes)
        names = ("frame", "memory_key", "memory_value")
        outputs = ("probabilities", "query_key", "query_value")
        return Part("step", Step(self.model), inputs, sizes, names, outputs)

    def _guided_and_not(self, part: Part, grid: dict[int, Any]) -> list[Part]:
        """Return a part that takes no guide, after the one that takes it if the network is guided.

        Args:
            part: without a guide.
            grid: the dynamic dimensions of the query value of the frame before.
        """
        if not self.model.guided:
            return [part]
        guided = part._replace(
            # A tensor of its own: torch.export takes one that is given twice for one input.
            inputs=(*part.inputs, self._masks, self._query.value.clone()),
            sizes=(*part.sizes, {0: _OBJECTS, **self._pixels}, grid),
            input_names=(*part.input_names, "previous_masks", "previous_value"),
        )
        return [guided, part._replace(name=f"{part.name}_unguided")]

    def _skip_names(self) -> list[str]:
        return [f"skip_{self._frame.shape[2] // skip.shape[2]}" for skip in self._query.skips]
