"""What functions ask of torch on a CPU, as a list of calls: asked for again without autograd, and without the Python around."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

_log = logging.getLogger(__name__)
MOST_BYTES = 2**28
"""Of all that a recording writes, which stays in memory. What writes more takes its time for that, and not for Python."""

_COPIES = ("aten::_to_copy", "aten::clone")
_UNWRITTEN = ("aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided")
_BY_NUMBERS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Tape:
    """Calls that read and write where they did when they were recorded."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []

    def add(self, function: Callable[..., object], *arguments: Any, **named: Any) -> None:
        """Have a function be called with these after all others."""
        self._calls.append(functools.partial(function, *arguments, **named))

    def replay(self) -> None:
        """Make all calls."""
        for call in self._calls:
            call()


class _Here(threading.local):
    tape: Tape | None = None


_here = _Here()


def run(kernel: Callable[..., object], *arguments: Any) -> None:
    """Call a compiled kernel, of which torch knows nothing; a tape that is being recorded keeps the call."""
    kernel(*arguments)
    if _here.tape is not None:
        _here.tape.add(kernel, *arguments)


def record(works: Sequence[Callable[[], object]], owned: Iterable[Tensor] = ()) -> list[Tape] | None:
    """Tapes of works that follow each other, which are done once; None where they can't be recorded.

    That is where a number is looked at, on which what follows may depend, where a shape depends on numbers, where too much
    is written (:data:`MOST_BYTES`), where tensors are written to that neither the works have made nor are ``owned``, and
    where torch's own generator is drawn from; a work may have been done in part then. Tensors that a work finds must stay
    where they are. Draws go on with every replay.

    What a work does besides, in Python or through numpy, isn't recorded, and while it is watched torch takes other formulas
    for a few gradients, which differ by rounding: whoever can't rule that out compares.
    """
    recording = _Recording(owned)
    tapes: list[Tape] = []
    try:
        for work in works:
            _here.tape = recording.tape = Tape()
            tapes.append(recording.tape)
            with recording:
                work()
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        _log.info("a step can't be recorded (%s); each is made by Python, which takes longer", why)
        return None
    finally:
        _here.tape = None
    return tapes


class _Recording(TorchDispatchMode):
    """Puts on a ``tape`` what torch does."""

    def __init__(self, owned: Iterable[Tensor]) -> None:
        super().__init__()
        self.tape = Tape()
        self._bytes, self._writable = 0, {0, *map(_place, owned)}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, function._schema.name
        if torch.Tag.nondeterministic_seeded in function.tags and not _has_generator(args, kwargs):
            raise ValueError(f"{name} draws from torch's own generator, from which others may draw at the same time")
        if _BY_NUMBERS.intersection(function.tags) and not _takes_places(function, args):
            raise ValueError(f"what {name} is, or its shape, depends on numbers")
        found = function(*args, **kwargs)
        # Not the tensors themselves: autograd takes over gradients that nobody else holds.
        own, named = pytree.tree_map_only(Tensor, torch.detach, (args, kwargs))
        if function._schema.is_mutable:
            if not {_place(x) for x in _written(function, own, named)} <= self._writable:
                raise ValueError(f"{name} changes something from elsewhere")
            self.tape.add(function, *own, **named)
        elif name not in _UNWRITTEN:
            made = [found] if isinstance(found, Tensor) else pytree.tree_leaves(found)
            self._add(function, own, named, pytree.tree_map_only(Tensor, torch.detach, made))
        else:
            self._make([found])
        return found

    def _add(self, function: Any, own: Any, named: Any, outputs: list[Any]) -> None:
        """Keep a call that makes new tensors, unless they are views of those that it was given."""
        given = {0, *map(_place, _tensors((own, named)))}
        made = [x for x in outputs if isinstance(x, Tensor)]
        if all(_place(x) in given for x in made):
            return
        self._make(made)
        variant = _variant_with_outputs(function)
        if function._schema.name in _COPIES:
            self.tape.add(made[0].copy_, own[0])
        elif variant is not None and len(made) == len(variant[1]) == len(outputs):
            self.tape.add(variant[0], *own, **named, **dict(zip(variant[1], made, strict=True)))
        else:
            self.tape.add(_write_again, function, own, named, outputs)

    def _make(self, tensors: Iterable[Tensor]) -> None:
        for x in tensors:
            self._writable.add(_place(x))
            self._bytes += x.untyped_storage().nbytes()
        if self._bytes > MOST_BYTES:
            raise ValueError(f"it writes more than {MOST_BYTES >> 20} MiB")


def _has_generator(args: Any, kwargs: Any) -> bool:
    return any(isinstance(x, torch.Generator) for x in (*args, *kwargs.values()))


def _takes_places(function: Any, args: Any) -> bool:
    """Whether it takes what stands in given places, and not where a mask is true."""
    return function._schema.name == "aten::index" and all(places is None or places.dtype == torch.int64 for places in args[1])


def _place(x: Tensor) -> int:
    """Where its memory begins; 0 of one that has none."""
    return x.untyped_storage().data_ptr()


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (x for x in pytree.tree_leaves(tree) if isinstance(x, Tensor))


def _written(function: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    for number, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from _tensors(args[number] if number < len(args) else kwargs.get(argument.name))


@functools.cache
def _variant_with_outputs(function: Any) -> tuple[Any, list[str]] | None:
    """The variant of an operation that takes the same arguments, and tensors to write to, by these names."""
    packet = function._overloadpacket
    for other in (getattr(packet, name) for name in packet.overloads()):
        outputs = [argument.name for argument in other._schema.arguments if argument.is_out]
        if outputs and _signature(other) == _signature(function):
            return other, outputs
    return None


def _signature(function: Any) -> list[tuple[str, str]]:
    return [(argument.name, str(argument.type)) for argument in function._schema.arguments if not argument.is_out]


def _write_again(function: Callable[..., Any], args: Any, kwargs: Any, outputs: Sequence[Any]) -> None:
    found = function(*args, **kwargs)
    for output, new in zip(outputs, [found] if isinstance(found, Tensor) else found, strict=True):
        if isinstance(output, Tensor):
            output.copy_(new)
