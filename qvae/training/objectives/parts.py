"""The parts of a model, and what else a step's loss is made with: whose they are, who watches them, and whether they change."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_KNOWN = {"qvae", "qvae_backends", "torch", "numpy", *sys.stdlib_module_names}
_WATCHERS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "watchers")
_CONTAINERS = (dict, list, tuple, set, frozenset)
_LEAVES = (
    *(Tensor, torch.Generator, torch.dtype, torch.device, np.ndarray, np.generic, np.dtype),
    *(str, bytes, int, float, complex, type, ModuleType, type(None)),
)


class Parts:
    """Modules, and other objects that they hold, such as relaxations.

    Attributes:
        version: changes when :meth:`look` finds that something was set, swapped or added.
        are_known: whether all are this package's or torch's: what others do in Python in every step, nobody knows.
    """

    def __init__(self) -> None:
        self._roots, self.version = tuple[object, ...](), 0
        self._note()

    def look(self, *roots: object) -> None:
        """See what is reached from roots, and whether anything has changed since the last look."""
        try:
            # Quick, since what is the same object isn't looked into.
            is_as_before = roots == self._roots and self._contents == self._before
        except (RuntimeError, ValueError):  # a tensor or an array is another one
            is_as_before = False
        if not is_as_before:
            self._roots = roots
            self._note()
            self.version += 1

    def _note(self) -> None:
        reached = _reached(self._roots)
        modules = [x for x in reached if isinstance(x, nn.Module)]
        self.are_known = all(_home(x) in _KNOWN for x in reached)
        self._held = [held for module in modules for held in (module._parameters, module._buffers)]
        self._contents: list[Any] = [x for x in reached if isinstance(x, dict | list)]
        self._contents += [vars(x) for x in reached if not isinstance(x, _CONTAINERS) and hasattr(x, "__dict__")]
        self._before = [content.copy() for content in self._contents]
        self._watchers = [getattr(module, name) for module in modules for name in _WATCHERS if hasattr(module, name)]

    @property
    def tensors(self) -> list[Tensor]:
        """Parameters and buffers of the modules, or what stands in for them now."""
        return [x for held in self._held for x in held.values() if x is not None]

    @property
    def is_watched(self) -> bool:
        """Whether someone wants to know when a module is called, or a gradient comes."""
        hooks = (hooks for x in self.tensors for hooks in (x._backward_hooks, x._post_accumulate_grad_hooks))
        return any(self._watchers) or any(hooks) or nn.modules.module._has_any_global_hook()


def _reached(roots: Iterable[object]) -> list[Any]:
    """All that roots, and what they hold, hold."""
    found = list(roots)
    seen = set(map(id, found))
    for x in found:  # which grows
        for value in _held_by(x):
            if id(value) not in seen and not isinstance(value, _LEAVES):
                seen.add(id(value))
                found.append(value)
    return found


def _held_by(x: Any) -> Iterable[object]:
    if isinstance(x, FunctionType):
        return ()
    if isinstance(x, MethodType):
        return (x.__self__, x.__func__)
    if isinstance(x, functools.partial):
        return (x.func, *x.args, *x.keywords.values())
    if isinstance(x, _CONTAINERS):
        return x.values() if isinstance(x, dict) else x
    return vars(x).values() if hasattr(x, "__dict__") else ()


def _home(x: Any) -> str:
    """The package in which it, or its class, is written."""
    name = x.__module__ if isinstance(x, FunctionType) else type(x).__module__
    return name.partition(".")[0]
