"""Triton's interpreter, made fast where it need not be slow. What it computes stays the same."""

import inspect
from dataclasses import replace
from typing import Any

import numpy
import triton.language as tl
from triton.runtime import interpreter


def speed_up() -> None:
    """Reduce by xor with numpy, look up the builtins of a module once, and compute no sums that nobody looks at."""
    interpreter.ReduceOps.generic_reduce = _reduce
    interpreter._patch_builtin = _patch_builtin
    options = interpreter.interpreter_builder.options
    if not options.debug:  # then overflows of int32 are computed, and not checked
        interpreter.interpreter_builder.options = replace(options, sanitize_overflow=False)


_number_by_number = interpreter.ReduceOps.generic_reduce


def _reduce(self: Any, parts: tuple[Any, ...]) -> list[Any]:
    """Reduce as the interpreter does: every step of a sort is a reduction by xor, which it makes number by number."""
    if self.combine_fn != tl.standard._xor_combine or self.axis is None:
        return _number_by_number(self, parts)
    (part,) = parts
    reduced = numpy.bitwise_xor.reduce(part.handle.data, axis=self.axis, keepdims=self.keep_dims)
    return [self.to_tensor(reduced, part.dtype)]


_builtins: dict[Any, list[str]] = {}


def _patch_builtin(package: Any, builder: Any, scope: Any) -> None:
    """Patch the builtins of a module or class as the interpreter does, which lists them at every call of a function."""
    if package not in _builtins:
        _builtins[package] = [name for name, member in inspect.getmembers(package) if tl.core.is_builtin(member)]
    for name in _builtins[package]:
        member = getattr(package, name)
        if tl.core.is_builtin(member):
            interpreter._patch_attr(package, name, member, builder, scope)
