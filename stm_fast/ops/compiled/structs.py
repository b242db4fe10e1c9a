"""The structs of csrc/include/stm_fast/read.h for ctypes, made from calls and their outputs.

Fields have the order and types that they have there: a test reads both, and a library that is loaded must have structs
of the same sizes.
"""

import ctypes
from ctypes import c_float, c_int, c_int64, c_size_t, c_void_p
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from stm_fast.kernels.operands import Gradients, Operands
from stm_fast.ops import calls

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""Values of the enumeration Dtype."""


class Vector(ctypes.Structure):
    """Float32 numbers per batch; absent where `data` is null."""

    _fields_ = (("data", c_void_p), ("batch_stride", c_int64), ("stride", c_int64))


class Matrix(ctypes.Structure):
    """Columns (queries or tokens) of channels, per batch."""

    _fields_ = (
        ("data", c_void_p),
        ("dtype", c_int),
        ("batch_stride", c_int64),
        ("channel_stride", c_int64),
        ("column_stride", c_int64),
    )


class ObjectMatrix(ctypes.Structure):
    """A matrix per batch and object: values, readouts and their gradients."""

    _fields_ = (
        ("data", c_void_p),
        ("dtype", c_int),
        ("batch_stride", c_int64),
        ("object_stride", c_int64),
        ("channel_stride", c_int64),
        ("column_stride", c_int64),
    )


class Sizes(ctypes.Structure):
    """Sizes of a read."""

    _fields_ = tuple(
        (name, c_int64) for name in ("batches", "queries", "tokens", "key_channels", "objects", "value_channels")
    )


class Scores(ctypes.Structure):
    """The operands of the scores."""

    _fields_ = (
        ("query", Matrix),
        ("key", Matrix),
        ("gain", Vector),
        ("offset", Vector),
        ("bias", Vector),
        ("scale", c_float),
    )


class Forward(ctypes.Structure):
    """A read and its outputs."""

    _fields_ = (
        ("sizes", Sizes),
        ("scores", Scores),
        ("value", ObjectMatrix),
        ("out", ObjectMatrix),
        ("lse", Vector),
    )


class Usage(ctypes.Structure):
    """Usage and its output."""

    _fields_ = (("sizes", Sizes), ("scores", Scores), ("lse", Vector), ("usage", Vector))


class TopK(ctypes.Structure):
    """A top-k read and its outputs."""

    _fields_ = (
        ("sizes", Sizes),
        ("scores", Scores),
        ("value", ObjectMatrix),
        ("out", ObjectMatrix),
        ("lse", Vector),
        ("top_k", c_int64),
        ("indices", c_void_p),
        ("weights", c_void_p),
    )


class GradientsStruct(ctypes.Structure):
    """Gradients; those that are absent are not computed."""

    _fields_ = (
        ("query", Matrix),
        ("offset", Vector),
        ("key", Matrix),
        ("gain", Vector),
        ("bias", Vector),
        ("value", ObjectMatrix),
    )


class Backward(ctypes.Structure):
    """The backward pass of a read, and its outputs."""

    _fields_ = (
        ("sizes", Sizes),
        ("scores", Scores),
        ("value", ObjectMatrix),
        ("out", ObjectMatrix),
        ("lse", Vector),
        ("grad_out", ObjectMatrix),
        ("grad_lse", Vector),
        ("gradients", GradientsStruct),
    )


class TopKBackward(ctypes.Structure):
    """The backward pass of a top-k read, and its outputs."""

    _fields_ = (
        ("sizes", Sizes),
        ("scores", Scores),
        ("value", ObjectMatrix),
        ("out", ObjectMatrix),
        ("grad_out", ObjectMatrix),
        ("grad_lse", Vector),
        ("top_k", c_int64),
        ("indices", c_void_p),
        ("weights", c_void_p),
        ("gradients", GradientsStruct),
    )


Struct: TypeAlias = Forward | Backward | Usage | TopK | TopKBackward
STRUCTS: tuple[type[Struct], ...] = (Forward, Backward, Usage, TopK, TopKBackward)
"""Arguments of the operations, in the order in which a library gives their sizes."""


class MachineStruct(ctypes.Structure):
    """What a launch needs to know of a GPU, and where it is queued."""

    _fields_ = (("processors", c_int), ("shared_bytes", c_size_t), ("stream", c_void_p))


class ChoicesStruct(ctypes.Structure):
    """Choices of all queries, sorted by token."""

    _fields_ = (("order", c_void_p), ("starts", c_void_p))


class Machine(NamedTuple):
    """Where kernels are launched.

    Attributes:
        processors: multiprocessors of the GPU.
        shared_bytes: of shared memory that a block may have.
        stream: a cudaStream_t; None for the default one.
    """

    processors: int
    shared_bytes: int
    stream: int | None = None


class Choices(NamedTuple):
    """The choices of a top-k read, sorted by token.

    Attributes:
        order: places in (queries, top_k), `(B, Nq · k)` int64.
        starts: where the choices of each token begin in `order`, `(B, Nk + 1)` int64.
    """

    order: Tensor
    starts: Tensor


def struct_of(call: calls.Call, outputs: calls.Outputs) -> Struct:
    """Return the struct of a call and the outputs that it fills; both must outlive it."""
    scores = _scores(call.operands)
    match call, outputs:
        case calls.Read(), calls.ReadOutputs():
            return Forward(
                _sizes(call.operands, call.value),
                scores,
                _object_matrix(call.value),
                _object_matrix(outputs.out),
                _vector(outputs.lse),
            )
        case calls.Usage(), calls.UsageOutputs():
            return Usage(_sizes(call.operands), scores, _vector(call.lse), _vector(outputs.usage))
        case calls.TopKRead(), calls.TopKOutputs():
            return TopK(
                _sizes(call.operands, call.value),
                scores,
                _object_matrix(call.value),
                _object_matrix(outputs.out),
                _vector(outputs.lse),
                outputs.indices.shape[2],
                outputs.indices.data_ptr(),
                outputs.weights.data_ptr(),
            )
        case calls.ReadBackward(), Gradients():
            return Backward(
                _sizes(call.operands, call.value),
                scores,
                _object_matrix(call.value),
                _object_matrix(call.out),
                _vector(call.lse),
                _object_matrix(call.grad_out),
                _vector(call.grad_lse),
                _gradients(outputs),
            )
        case calls.TopKReadBackward(), Gradients():
            return TopKBackward(
                _sizes(call.operands, call.value),
                scores,
                _object_matrix(call.value),
                _object_matrix(call.out),
                _object_matrix(call.grad_out),
                _vector(call.grad_lse),
                call.indices.shape[2],
                call.indices.data_ptr(),
                call.weights.data_ptr(),
                _gradients(outputs),
            )
    raise TypeError(f"outputs are {type(outputs).__name__}, which are not those of {type(call).__name__}")


def machine_struct(machine: Machine) -> MachineStruct:
    """Return the struct of a machine."""
    return MachineStruct(*machine)


def choices_struct(choices: Choices | None) -> ChoicesStruct:
    """Return the struct of choices, which must outlive it; null pointers for None."""
    return ChoicesStruct() if choices is None else ChoicesStruct(*(part.data_ptr() for part in choices))


def _sizes(operands: Operands, value: Tensor | None = None) -> Sizes:
    batches, channels, queries = operands.query.shape
    objects, value_channels = (0, 0) if value is None else value.shape[1:3]
    return Sizes(batches, queries, operands.key.shape[2], channels, objects, value_channels)


def _scores(operands: Operands) -> Scores:
    query, key, gain, offset, bias, scale = operands
    return Scores(_matrix(query), _matrix(key), _vector(gain), _vector(offset), _vector(bias), scale)


def _gradients(gradients: Gradients) -> GradientsStruct:
    query, key, gain, offset, bias, value = gradients
    return GradientsStruct(
        _matrix(query), _vector(offset), _matrix(key), _vector(gain), _vector(bias), _object_matrix(value)
    )


def _vector(tensor: Tensor | None) -> Vector:
    if tensor is None:
        return Vector()
    if tensor.dtype != torch.float32:
        raise TypeError(f"a vector of the read is {tensor.dtype}; allowed is torch.float32")
    return Vector(tensor.data_ptr(), *tensor.stride())


def _matrix(tensor: Tensor | None) -> Matrix:
    return Matrix() if tensor is None else Matrix(*_numbers(tensor))


def _object_matrix(tensor: Tensor | None) -> ObjectMatrix:
    return ObjectMatrix() if tensor is None else ObjectMatrix(*_numbers(tensor))


def _numbers(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), DTYPES[tensor.dtype], *tensor.stride()
