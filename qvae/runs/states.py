"""What the checkpoints of a run hold, looked at before it is used: whoever wrote them may have meant harm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qvae.data.alphabet import Alphabet
from qvae.data.dataset import Kind
from qvae.errors import RunError


def shape_of(state: Mapping[str, Any], file: Path) -> tuple[tuple[int, ...], int | None, Tensor | None]:
    """Of a model's file: the shape of a row of data, the number of categories or grey levels, and a native graph's edges.

    Raises:
        RunError: they are missing or none.
    """
    shape, levels, edges = state.get("image_shape"), state.get("levels"), state.get("edges")
    is_shape = isinstance(shape, list | tuple) and 1 <= len(shape) <= 3 and all(map(_is_count, shape))
    if not is_shape or not (levels is None or _is_count(levels)) or not (edges is None or is_edges(edges)):
        raise RunError(f"{file} doesn't say what data its model is of; restore it from a copy, or train anew.")
    assert shape is not None
    return tuple(shape), levels, edges


def alphabet_of(state: Mapping[str, Any], kind: Kind, levels: int | None, file: Path) -> Alphabet | None:
    """Of a model's file: what the ``levels`` symbols of strings stand for; None of another kind of data.

    Raises:
        RunError: it is missing, none, or of another number of symbols.
    """
    if kind != "strings":
        return None
    characters = state.get("alphabet")
    if not isinstance(characters, str) or "\0" in characters or not len(set(characters)) + 1 == len(characters) + 1 == levels:
        raise RunError(f"{file} doesn't say what characters its model knows; restore it from a copy, or train anew.")
    return Alphabet(characters)


def class_names_of(state: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    """Of a model's file: what the labels were called that are numbered from 0; empty if they had no names, or nobody kept them.

    Raises:
        RunError: they are none.
    """
    names = state.get("class_names", [])
    if not _are(names, str) or len(set(names)) < len(names):
        raise RunError(f"{file} doesn't say what classes its model knows; restore it from a copy, or train anew.")
    return tuple(names)


def require_told(state: Mapping[str, Any], file: Path) -> None:
    """Raise a RunError unless what reports read of a training is there: its warnings, and the film of its latents."""
    monitor, film = state.get("monitor", {}), state.get("observer", {})
    good = isinstance(monitor, dict) and isinstance(film, dict) and _are(monitor.get("warnings", []), str)
    if good and film.get("epochs"):
        maps, seconds = film.get("maps"), film.get("seconds")
        good = _are(film["epochs"], int) and _are(film.get("losses"), str) and isinstance(seconds, int | float)
        good = good and isinstance(maps, Tensor) and maps.ndim == 3 and maps.shape[2] == 2 and maps.is_floating_point()
        good = good and len(maps) == len(film["epochs"]) == len(film["losses"]) and bool(maps.isfinite().all())
    if not good:
        raise RunError(f"{file} doesn't hold what qvae keeps of a training; remove it, or restore it from a copy.")


def require_resumable(state: Mapping[str, Any], file: Path) -> None:
    """Raise a RunError unless what a training goes on with are numbers where it counts, and tensors where it looks at them."""
    require_told(state, file)
    monitor, watch = state.get("monitor", {}), state.get("watch", {})
    if not isinstance(watch, dict):
        watch = {"calls": None}
    figures, calls, spins = monitor.get("figures", {}), watch.get("calls", {}), watch.get("previous_spins")
    best = watch.get("best_held_out")
    numbers: tuple[Any, ...] = (state.get("seconds"), 0.0 if best is None else best, watch.get("qpu_seconds", 0.0))
    counts = state.get("step"), state.get("began", 0), monitor.get("steps", 0)
    good = all(type(number) is int and 0 <= number < 2**53 for number in counts)
    good = good and type(watch.get("stuck", 0)) is int and all(_is_number(value) and math.isfinite(value) for value in numbers)
    good = good and isinstance(figures, dict) and all(value is None or _is_number(value) for value in figures.values())
    good = good and isinstance(calls, dict) and all(isinstance(values, list | tuple) for values in calls.values())
    good = good and all(_is_number(value) for values in calls.values() for value in values)
    good = good and (spins is None or (isinstance(spins, Tensor) and spins.ndim == 2 and spins.dtype == torch.int8))
    if not good:
        raise RunError(f"{file} doesn't hold what a training goes on with; restore it from a copy, or train anew.")


def is_samples(saved: Mapping[str, Any], coefficients: Mapping[str, Tensor]) -> bool:
    """Whether these are samples of a prior with so many coefficients: +1 and -1, and a warning or none."""
    spins, warning = saved.get("spins"), saved.get("warning")
    if not isinstance(spins, Tensor) or not isinstance(warning, str | None):
        return False
    if spins.shape[1:] != coefficients["h"].shape or spins.dtype != torch.int8 or not bool((spins.abs() == 1).all()):
        return False
    return all(isinstance(saved.get(name), Tensor) for name in coefficients)


def is_edges(value: Any) -> bool:
    """Whether this may be the edges of a graph, int64, (m, 2)."""
    return isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] == 2 and value.dtype == torch.int64


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def _are(values: Any, kind: type) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, kind) for value in values)
