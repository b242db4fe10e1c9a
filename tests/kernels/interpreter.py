"""Speedups of Triton's interpreter that do not change its results."""

import inspect
from dataclasses import replace
from typing import Any

import numpy
import triton.language as tl
from triton.runtime import interpreter


def speed_up() -> None:
    """Reduce by xor with numpy, look up the builtins of a module once, and skip the checks for overflow."""
    interpreter.ReduceOps.generic_reduce = _reduce
    interpreter._patch_builtin = _patch_builtin
    options = interpreter.interpreter_builder.options
    if not options.debug:  # without debug, overflows are computed but never checked
        interpreter.interpreter_builder.options = replace(options, sanitize_overflow=False)


_generic_reduce = interpreter.ReduceOps.generic_reduce


def _reduce(self: Any, parts: tuple[Any, ...]) -> list[Any]:
    """Reduce as the interpreter does, but by xor all at once: each step of a sort is such a reduction."""
    if self.combine_fn != tl.standard._xor_combine or self.axis is None:
        return _generic_reduce(self, parts)
    (part,) = parts
    reduced = numpy.bitwise_xor.reduce(part.handle.data, axis=self.axis, keepdims=self.keep_dims)
    return [self.to_tensor(reduced, part.dtype)]


_builtins: dict[Any, list[str]] = {}


def _patch_builtin(package: Any, builder: Any, scope: Any) -> None:
    """Patch the builtins of a module or class as the interpreter does, but list them only once."""
    if package not in _builtins:
        _builtins[package] = [name for name, member in inspect.getmembers(package) if tl.core.is_builtin(member)]
    for name in _builtins[package]:
        member = getattr(package, name)
        if tl.core.is_builtin(member):
            interpreter._patch_attr(package, name, member, builder, scope)
