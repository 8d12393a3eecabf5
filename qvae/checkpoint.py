"""A checkpoint: nested state in one safetensors file, written whole or not at all, and checked when it is read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from qvae.errors import RunError
from qvae.files import atomic_write_bytes, read_plain
from qvae.memory import require_memory

_FORMAT = "qvae-checkpoint"
_VERSION = 1


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write nested dicts, lists and tuples of tensors (any device and layout) and plain values to one file.

    Tensors are the body, under dotted names that other readers of safetensors see, too; the rest is JSON in the header,
    with a SHA-256 over everything. A kill at any moment leaves the file that was there before, or the new one.

    Raises:
        RunError: the file can't be written; the one that was there before is intact.
        TypeError: the state holds what is neither a tensor nor a plain value.
    """
    atomic_write_bytes(path, to_bytes(state))


def to_bytes(state: dict[str, Any]) -> bytes:
    """A state as it stands in a file, or is sent to another process."""
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_flatten(state, (), tensors))
    metadata = {"format": _FORMAT, "version": str(_VERSION), "state": skeleton, "sha256": _digest(skeleton, tensors)}
    return save(tensors, metadata)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote; tensors come back on the CPU. No pickle is involved.

    Raises:
        RunError: the file is missing, unreadable, truncated, changed, of a newer version, or no checkpoint.
    """
    return from_bytes(_read(Path(path)), path)


def from_bytes(content: bytes, path: str | Path) -> dict[str, Any]:
    """The state that :func:`to_bytes` has made these of; ``path``, or any other origin, is for messages."""
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, ValueError, KeyError, RuntimeError, RecursionError) as error:
        raise RunError(f"{path} ({len(content):,} bytes) is truncated or no checkpoint ({error}); {_REMEDY}.") from None
    metadata = header.get("__metadata__") or {}
    if metadata.get("format") != _FORMAT:
        raise RunError(f"{path} is a safetensors file, but not a checkpoint of qvae; choose one that qvae wrote.")
    if metadata.get("version") != str(_VERSION):
        version = f"has format version {metadata.get('version')}, but this qvae reads version {_VERSION}"
        raise RunError(f"{path} {version}; update qvae to use it.")
    if metadata.get("sha256") != _digest(metadata.get("state", ""), tensors):
        raise RunError(f"{path} was damaged or changed since it was written: its checksum is wrong; {_REMEDY}.")
    try:
        state = _unflatten(json.loads(metadata["state"]), tensors)
    except (ValueError, KeyError, TypeError, RecursionError):
        state = None
    if not isinstance(state, dict):
        raise RunError(f"{path} is no checkpoint: what it holds isn't put together as qvae does; {_REMEDY}.")
    return state


_REMEDY = "restore it from a copy, or train anew"


def _read(path: Path) -> bytes:
    try:
        require_memory(path.stat().st_size if path.exists() else 0, f"reading {path}", _REMEDY)
        return read_plain(path)
    except FileNotFoundError:
        raise RunError(f"there is no checkpoint {path}; check the path of the run, or train anew.") from None
    except IsADirectoryError:
        raise RunError(f"{path} is a folder, not a checkpoint file; name the file.") from None
    except OSError as error:
        raise RunError(f"the checkpoint {path} can't be read: {error.strerror or error}.") from None


# The skeleton: what JSON lacks, and every dict, stands there as {tag: content} --------------------------------------

_TENSOR, _TUPLE, _DICT = "tensor", "tuple", "dict"


def _flatten(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    """The value as JSON can hold it, with its tensors moved to ``tensors``."""
    if isinstance(value, Tensor):
        name = ".".join(path)
        while name in tensors:
            name += "'"
        # A copy: safetensors refuses tensors that share memory, such as tied weights or views.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(value, dict):
        return {_DICT: [[_key(key, path), _flatten(part, (*path, str(key)), tensors)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        parts = [_flatten(part, (*path, str(index)), tensors) for index, part in enumerate(value)]
        return {_TUPLE: parts} if isinstance(value, tuple) else parts
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{'.'.join(path)} is a {type(value).__name__}; a checkpoint holds tensors and plain values")


def _key(key: Any, path: tuple[str, ...]) -> Any:
    if not isinstance(key, int | str):
        raise TypeError(f"{'.'.join(path)} has the key {key!r}; keys in a checkpoint are texts or whole numbers")
    return key


def _unflatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unflatten(part, tensors) for part in value]
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    if tag == _TENSOR:
        return tensors[content]
    if tag == _TUPLE:
        return tuple(_unflatten(part, tensors) for part in content)
    if tag != _DICT:
        raise ValueError(f"there is no tag {tag!r}")
    return {key: _unflatten(part, tensors) for key, part in content}


def _digest(skeleton: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the skeleton and of the names, types, shapes and bytes of all tensors."""
    described = [[name, str(tensor.dtype), list(tensor.shape)] for name, tensor in sorted(tensors.items())]
    digest = hashlib.sha256(json.dumps([_VERSION, skeleton, described]).encode())
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
