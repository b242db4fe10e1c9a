"""A cache of launches: what is decided and compiled for one call serves all later calls of the same form.

A plan holds everything that a call's launches need except tensors: tiles, splits, grids, numbers and compiled kernels.
Its key holds everything that the plan depends on; see `stm_fast.kernels.launch.key_of`. If anything else changes that a
plan depends on, all plans are dropped by `forget`, as `stm_fast.kernels.tiles.use_tuned` does. Kernels that are not
launched on a GPU, because they are interpreted or only compiled, are planned again for every call.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

MAX_PLANS = 512
"""Maximum number of plans, after which all are dropped. A growing memory needs one for each of its sizes."""
_DESCRIPTOR = "_descriptor"


class Launch:
    """A launch of a kernel that can be repeated with other tensors of the same form."""

    def __init__(self, kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any]) -> None:
        """Prepare a launch.

        Args:
            kernel: function made by `triton.jit`.
            grid: one to three sizes.
            arguments: arguments of the kernel and options of the launch. Arguments that are tensors or absent are
                given to every launch instead of being kept.
        """
        self.compiled: Any = None
        self._kernel, self._grid = kernel, (*grid, 1, 1)[:3]
        self._fixed: list[Any] = []
        self._given: list[tuple[int, str]] = []
        self._described: list[tuple[int, str, dict[str, Any]]] = []
        self._options = arguments.copy()
        for place, name in enumerate(kernel.arg_names):
            argument = self._options.pop(name, None)
            if name not in arguments or isinstance(argument, Tensor):
                self._given.append((place, name))
                argument = None
            elif isinstance(argument, TensorDescriptor):
                self._described.append((place, name.removesuffix(_DESCRIPTOR), vars(argument) | {"base": None}))
                argument = None
            self._fixed.append(argument)

    def __call__(self, tensors: dict[str, Any]) -> None:
        """Launch the kernel on the current stream.

        Looking up the compiled kernel takes triton longer than everything else, and happens only once.

        Args:
            tensors: tensors by the names of the kernel's arguments. Other names are ignored.
        """
        arguments = self._fixed.copy()
        for place, name in self._given:
            arguments[place] = tensors[name]
        for place, name, fields in self._described:
            # Triton's constructor would repeat checks that tensors of this form have passed.
            arguments[place] = descriptor = object.__new__(TensorDescriptor)
            descriptor.__dict__.update(fields, base=tensors[name])
        if self.compiled is not None:
            self.compiled[self._grid](*arguments)
            return
        compiled = self._kernel[self._grid](*arguments, **self._options)
        if getattr(compiled, "function", None) is not None:
            self.compiled = compiled


class Plan(NamedTuple):
    """The launches of a call.

    Attributes:
        launches: launches by name.
        splits: number of splits of the memory.
        room: length of a list of candidates, for top-k reads.
        copied: names of tensors to copy first, by `stm_fast.kernels.launch.aligned`.
    """

    launches: dict[str, Launch]
    splits: int = 1
    room: int = 0
    copied: tuple[str, ...] = ()


_plans: dict[Hashable, Plan] = {}


def plan_of(key: Hashable, make: Callable[[], Plan]) -> Plan:
    """Return the plan of a key, or make and keep a new one."""
    plan = _plans.get(key)
    if plan is None or any(launch.compiled is None for launch in plan.launches.values()):
        if len(_plans) >= MAX_PLANS:
            forget()
        plan = _plans[key] = make()
    return plan


def forget() -> None:
    """Drop all plans, after a change of something that their keys do not hold."""
    _plans.clear()
