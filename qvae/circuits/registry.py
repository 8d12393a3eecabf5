"""Executors by name: the entry-point group ``qvae.executors``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qvae.errors import ExecutorError
from qvae.plugins import PluginInfo, Registry

if TYPE_CHECKING:
    from qvae.circuits.executor import Executor

EXECUTORS: Registry[Executor] = Registry("qvae.executors", "executor", "qvae.circuits.executor.Executor", ExecutorError)


def list_executors() -> list[str]:
    """Names of all registered executors, whether or not their packages can be imported.

    >>> "statevector" in list_executors()
    True
    """
    return EXECUTORS.names()


def load_executor(name: str, /, **options: Any) -> Executor:
    """The executor registered as ``name``, or that of an import path such as ``my_module:MyExecutor``, made with ``options``.

    Raises:
        ExecutorError: no executor has this name or two packages claim it, a module that it needs isn't installed, or an
            option is unknown, missing or has a value that the executor refuses.

    >>> load_executor("statevector", seed=0).capabilities.exact
    True
    """
    return EXECUTORS.load(name, options)


def executor_options(name: str) -> dict[str, Any]:
    """The options of an executor and their defaults; ``inspect.Parameter.empty`` stands for one that must be given.

    Raises:
        ExecutorError: as :func:`load_executor`.

    >>> sorted(executor_options("statevector"))
    ['seed']
    """
    return EXECUTORS.options(name)


def executor_infos() -> list[PluginInfo]:
    """All registered executors with what they can do, or why they can't be loaded; imports every backend."""
    return EXECUTORS.infos()
