"""Lazy stand-ins for the matrices of other people's reads.

A family's code first computes the similarity of all memory tokens to all queries and takes slices of it. It turns these
into an affinity by softmax, and multiplies values by that. With `LazySimilarity` and `FusedAffinity` in place of
similarity and affinity, the product is the fused read.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from stm_fast.ops import Reading, read_memory
from stm_fast.ops.api import Similarity

MAX_VALUE_CHANNELS = 1024


class LazySimilarity:
    """Holds the inputs of `(B, N, Q)` similarities. Slices and concatenations of it are lazy too.

    If its matrix may be built after all, it supports everything else that a matrix does.

    Args:
        memory_key: `(B, Ck, N)`.
        shrinkage: `(B, 1, N)` or None for ones.
        query_key: `(B, Ck, Q)`.
        selection: `(B, Ck, Q)` or None for ones.
        parts: ranges of memory tokens that take part, in order; None for all.
        matrix_of: a function of the first four arguments that builds the matrix, or returns None as long as it must not
            be built.
    """

    def __init__(
        self,
        memory_key: Tensor,
        shrinkage: Tensor | None,
        query_key: Tensor,
        selection: Tensor | None,
        parts: Sequence[range] | None = None,
        matrix_of: Callable[..., Tensor | None] | None = None,
    ) -> None:
        self.memory_key, self.shrinkage = memory_key, shrinkage
        self.query_key, self.selection = query_key, selection
        self.parts = _joined([range(memory_key.shape[2])] if parts is None else parts)
        self._matrix_of = matrix_of
        self._matrix: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """`(B, N, Q)`."""
        return torch.Size((self.memory_key.shape[0], sum(map(len, self.parts)), self.query_key.shape[2]))

    def affinity(self, top_k: int | None = None) -> "FusedAffinity":
        """Return the softmax over the memory, or over the `top_k` best tokens of each query."""
        key = self._of_parts(self.memory_key)
        shrinkage = None if self.shrinkage is None else self._of_parts(self.shrinkage)
        return FusedAffinity(
            key, self.query_key, similarity="l2", shrinkage=shrinkage, selection=self.selection, top_k=top_k
        )

    def __getitem__(self, index: Any) -> "LazySimilarity | Tensor":
        """Return `similarity[:, a:b]` or `similarity[:, a:b, queries]`."""
        batch, tokens, *rest = index if isinstance(index, tuple) else (index, slice(None))
        queries = rest[0] if rest else slice(None)
        if batch != slice(None) or not isinstance(tokens, slice) or tokens.step not in (None, 1) or len(rest) > 1:
            if (matrix := self.matrix()) is not None:
                return matrix[index]
            _refuse(f"the index {index!r}", "[:, a:b] and [:, a:b, queries]")
        start, stop, _ = tokens.indices(self.shape[1])
        selection = None if self.selection is None else self.selection[:, :, queries]
        return LazySimilarity(
            self.memory_key,
            self.shrinkage,
            self.query_key[:, :, queries],
            selection,
            _sliced(self.parts, start, stop),
            self._matrix_of,
        )

    def is_slice_of_the_same(self, other: "LazySimilarity") -> bool:
        """Return whether both have the same inputs; their memory tokens may differ."""
        own = (self.memory_key, self.shrinkage, self.query_key, self.selection)
        theirs = (other.memory_key, other.shrinkage, other.query_key, other.selection)
        return all(_same(one, two) for one, two in zip(own, theirs, strict=True))

    def matrix(self) -> Tensor | None:
        """Return the similarities as a matrix, built once, or None as long as it must not be built."""
        if self._matrix is None and self._matrix_of is not None:
            shrinkage = None if self.shrinkage is None else self._of_parts(self.shrinkage)
            key = self._of_parts(self.memory_key)
            self._matrix = self._matrix_of(key, shrinkage, self.query_key, self.selection)
        return self._matrix

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(Tensor, name) and (matrix := self.matrix()) is not None:
            return getattr(matrix, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __add__(self, other: Any) -> Any:
        return _operate(torch.add, self, other)

    def __sub__(self, other: Any) -> Any:
        return _operate(torch.sub, self, other)

    def __mul__(self, other: Any) -> Any:
        return _operate(torch.mul, self, other)

    def __truediv__(self, other: Any) -> Any:
        return _operate(torch.div, self, other)

    def _of_parts(self, tensor: Tensor) -> Tensor:
        views = [tensor[:, :, part.start : part.stop] for part in self.parts]
        return views[0] if len(views) == 1 else torch.cat(views, 2)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        args, options = tuple(args), dict(kwargs or {})
        lazy = [leaf for leaf in tree_leaves((args, options)) if isinstance(leaf, LazySimilarity)]
        matrices = {id(leaf): leaf.matrix() for leaf in lazy}
        if all(matrix is not None for matrix in matrices.values()):
            args, options = tree_map_only(LazySimilarity, lambda leaf: matrices[id(leaf)], (args, options))
            return function(*args, **options)
        if function is not torch.cat:
            _refuse(f"{function.__name__} of a similarity", "slices along the memory and torch.cat of them")
        return _concatenated(*args, **options)


class FusedAffinity:
    """A softmax affinity `(B, N, Q)` that is never built. Values multiplied by it are read by `memory_read`.

    `values @ affinity`, `torch.matmul` and `torch.bmm` take values `(B, C, N)`, or `(O, C, N)` of O objects
    that share an affinity with B = 1. The read is as differentiable as `memory_read` is.

    Args:
        memory_key: `(B, Ck, N)`.
        query_key: `(B, Ck, Q)`.
        similarity: see `stm_fast.memory_read`, also for the options below.
        scale: see there.
        shrinkage: `(B, 1, N)`.
        selection: `(B, Ck, Q)`.
        top_k: see there.
    """

    def __init__(
        self,
        memory_key: Tensor,
        query_key: Tensor,
        *,
        similarity: Similarity,
        scale: float | None = None,
        shrinkage: Tensor | None = None,
        selection: Tensor | None = None,
        top_k: int | None = None,
    ) -> None:
        self.memory_key, self.query_key = memory_key, query_key
        self.similarity, self.scale, self.top_k = similarity, scale, top_k
        self.shrinkage, self.selection = shrinkage, selection
        self.objects = memory_key.shape[0]

    @property
    def shape(self) -> torch.Size:
        """`(B, N, Q)`."""
        return torch.Size((self.objects, self.memory_key.shape[2], self.query_key.shape[2]))

    def expand(self, objects: int, *others: int) -> "FusedAffinity":
        """Return the same affinity for `objects` objects, as `Tensor.expand(objects, -1, -1)`."""
        if others != (-1, -1) or self.memory_key.shape[0] != 1:
            _refuse(
                f"expand{(objects, *others)} of an affinity {tuple(self.shape)}", "expand(objects, -1, -1) with B = 1"
            )
        expanded = object.__new__(FusedAffinity)
        expanded.__dict__.update(self.__dict__, objects=objects)
        return expanded

    def usage(self) -> Tensor:
        """Return the weight of each memory token, summed over queries, `(B, N)`; without gradients."""
        with torch.no_grad():
            nothing = self.memory_key.new_zeros(1).expand(self.memory_key.shape[0], 1, self.memory_key.shape[2])
            return self._read(nothing).usage().expand(self.objects, -1)

    def sum(self, dim: int) -> Tensor:
        """Return the usage, for `dim=2`."""
        if dim not in (2, -1):
            _refuse(f"the sum of an affinity over dimension {dim}", "2, the queries")
        return self.usage()

    def read(self, values: Tensor) -> Tensor:
        """Multiply values `(O or B, C, N)` or `(C, N)` by the affinity; return `(O or B, C, Q)`."""
        product = f"values {tuple(values.shape)} times an affinity {tuple(self.shape)}"
        if values.ndim not in (2, 3) or values.shape[-1] != self.shape[1]:
            _refuse(product, "(objects, C, N) or (B, C, N)")
        values = values.expand(self.objects, -1, -1) if values.ndim == 2 or values.shape[0] == 1 else values
        batch, objects = self.memory_key.shape[0], values.shape[0]
        if batch != 1 and objects != batch:
            _refuse(product, f"({batch}, C, N)")
        shared = values.unsqueeze(0) if batch == 1 else values.unsqueeze(1)
        return self._read(_in_groups(shared)).value.reshape(objects, values.shape[1], -1)

    def __rmatmul__(self, values: Tensor) -> Tensor:
        """Return `values @ affinity`. A tensor calls this again if the product is refused, and so raises the reason."""
        return self.read(values)

    def _read(self, values: Tensor) -> Reading:
        return read_memory(
            self.query_key,
            self.memory_key,
            values,
            similarity=self.similarity,
            scale=self.scale,
            shrinkage=self.shrinkage,
            selection=self.selection,
            top_k=self.top_k,
        )

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Tensor:
        products = ("matmul", "__matmul__", "bmm")
        if function.__name__ not in products or kwargs or not isinstance(args[1], FusedAffinity):
            _refuse(f"{function.__name__} of an affinity", "values @ affinity, torch.matmul, torch.bmm and sum(dim=2)")
        values, affinity = args
        readout: Tensor = affinity.read(values)
        return readout


def _operate(function: Callable[..., Any], similarity: LazySimilarity, other: Any) -> Any:
    return function(similarity, other)


def _in_groups(values: Tensor) -> Tensor:
    """Reshape values `(B, O, C, N)` to `(B, O·g, C/g, N)`, with no more channels than one read takes."""
    channels = values.shape[2]
    groups = -(-channels // MAX_VALUE_CHANNELS)
    while channels % groups:
        groups += 1
    batch, objects, _, tokens = values.shape
    if groups == 1:
        return values
    return values.reshape(batch, objects * groups, channels // groups, tokens)


def _concatenated(tensors: Sequence[LazySimilarity], dim: int = 0) -> LazySimilarity:
    first = tensors[0]
    if dim != 1 or not all(
        isinstance(other, LazySimilarity) and other.is_slice_of_the_same(first) for other in tensors
    ):
        _refuse(f"torch.cat along dimension {dim}", "1, of slices of one similarity with the same queries")
    parts = [part for similarity in tensors for part in similarity.parts]
    return LazySimilarity(first.memory_key, first.shrinkage, first.query_key, first.selection, parts, first._matrix_of)


def _same(one: Tensor | None, two: Tensor | None) -> bool:
    if one is None or two is None:
        return one is two
    return (one.data_ptr(), one.shape, one.stride()) == (two.data_ptr(), two.shape, two.stride())


def _sliced(parts: Sequence[range], start: int, stop: int) -> list[range]:
    """Return the tokens `start:stop` of those in `parts`."""
    chosen, offset = [], 0
    for part in parts:
        chosen.append(part[max(0, start - offset) : max(0, stop - offset)])
        offset += len(part)
    return chosen


def _joined(parts: Sequence[range]) -> list[range]:
    """Return the same tokens without empty ranges and with adjacent ranges joined."""
    joined: list[range] = []
    for part in parts:
        if joined and len(part) and joined[-1].stop == part.start:
            joined[-1] = range(joined[-1].start, part.stop)
        elif len(part):
            joined.append(part)
    return joined or [range(0)]


def _refuse(seen: str, allowed: str) -> NoReturn:
    raise TypeError(f"{seen} needs the matrix that stm-fast does not build; allowed are {allowed}")
