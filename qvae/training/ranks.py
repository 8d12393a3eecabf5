"""The processes of one training, as torchrun starts them: which of them this one is, and what all of them do together.

Longer than 400 lines because all that they say to each other goes through one group, whose state is this module's.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from qvae import errors
from qvae.checkpoint import from_bytes, to_bytes
from qvae.errors import ConfigError, QvaeError, RanksError, in_a_line
from qvae.training import pulse

T = TypeVar("T")

_PATIENCE = timedelta(minutes=30)  # with one that is there and says nothing; one that isn't there is noticed sooner
_LOOK = timedelta(seconds=1)  # how long a message waits until it is looked whether all are there
_GATHERED = 2**18  # bytes that a message of all processes may have to be gathered and summed: above, a ring carries less
_MATRIX = 2**12  # numbers of a matrix that is large enough to be sent in fewer bytes: not a circuit's weights
_ROUNDING = 1e-6  # of the squared size of all weights: in an epoch different processors stay below it
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

# Of the process itself, as its torch.distributed group is: a process that was started alone is the first of one.
_number, _count, _joined, _parent = 0, 1, 0, 0
_store: dist.Store | None = None
_pulse: pulse.Pulse | None = None
_memory: dict[tuple[torch.dtype, torch.device], Tensor] = {}  # for the messages of :func:`average_`


# Who is there ---------------------------------------------------------------------------------------------------------


def number() -> int:
    """Which of the processes this is, from 0; it stays after they have parted."""
    return _number


def count() -> int:
    """How many processes train together now."""
    return _count


def is_first() -> bool:
    """Whether this process writes files and speaks for all."""
    return _number == 0


def is_one_of_several() -> bool:
    """Whether torchrun has started other processes, too, whom this one need not have met yet."""
    return bool(_in_environment())


def local_number() -> int:
    """Which of the processes on this machine this is, from 0, and so which of its GPUs it takes."""
    return int(os.environ.get("LOCAL_RANK", _number))


def is_restartable() -> bool:
    """Whether torchrun starts the processes again where one fails."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


def is_orphan() -> bool:
    """Whether torchrun has gone, so that nobody would end this process where another one fails."""
    return _count > 1 and os.getppid() != _parent


def seed(common: int) -> int:
    """A seed of this process's own, from one that all have in common; the first one's is that one itself.

    That of a spawned child, since those of a run's purposes are made of two numbers, too.
    """
    return common if _number == 0 else int(np.random.SeedSequence(common, spawn_key=(_number,)).generate_state(1)[0])


def join() -> None:
    """Meet the other processes that torchrun has started; nothing where there are none, or they have been met.

    Raises:
        RanksError: the environment is incomplete or contradicts itself, or the others don't come.
    """
    global _number, _count, _joined, _parent, _store, _pulse
    if _count > 1:
        return
    found = _in_environment()
    if not found:
        return
    number, count = int(found["RANK"]), int(found["WORLD_SIZE"])
    has_cuda = torch.cuda.is_available()
    try:
        if not dist.is_initialized():
            shared, _, _ = next(iter(dist.rendezvous("env://", timeout=_PATIENCE)))
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun's own store outlasts those before
            prefix = f"qvae/{attempt}/{_joined}"
            _store = store = dist.PrefixStore(prefix, shared)
            _require_own_place(store, number, count)
            _pulse = pulse.Pulse(found["MASTER_ADDR"], int(found["MASTER_PORT"]), prefix, number, count)
            backend = "cpu:gloo,cuda:nccl" if has_cuda else "gloo"
            atexit.register(_leave_messages)
            dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=_PATIENCE)
    except RuntimeError as error:  # torch's own for connections and stores are such
        place = f"{found['MASTER_ADDR']}:{found['MASTER_PORT']}"
        what = f"the {count} processes of this training didn't meet at {place}"
        raise RanksError(f"{what} ({in_a_line(error)[:200]}); start them all with torchrun.") from error
    if has_cuda:
        torch.cuda.set_device(local_number() % torch.cuda.device_count())
    _number, _count, _joined, _parent = number, count, _joined + 1, os.getppid()


def part() -> None:
    """Leave the others, which all do at the same time; from then on this process is alone, but :func:`is_first` stays."""
    global _count
    if _count > 1:
        _together(lambda: dist.barrier(async_op=True))
        if _pulse is not None:
            _pulse.stop()
        _count = 1
        dist.destroy_process_group()


def says(text: str) -> bool:
    """Whether this process is the one that says a sentence: the first that wants to, of all that would say the same."""
    if _store is None or _missed() is not None:
        return True
    key = hashlib.sha256(text.encode()).hexdigest()
    try:
        return _store.compare_set(key, "", str(_number)).decode() == str(_number)
    except RuntimeError:  # the machine that keeps it is gone
        return True


@contextmanager
def apart() -> Iterator[None]:
    """What happens in the block this process does by itself, whatever the others do: nothing there is shared."""
    global _count
    before, _count = _count, 1
    try:
        yield
    finally:
        _count = before


def _in_environment() -> dict[str, str]:
    """What torchrun has set; empty in a process that was started alone.

    Raises:
        RanksError: a part is missing, or is no such number.
    """
    found = {name: os.environ[name] for name in _NEEDED if name in os.environ}
    if not {"RANK", "WORLD_SIZE"} & found.keys() or found.get("WORLD_SIZE") == "1":
        return {}
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        raise RanksError(
            f"the environment speaks of several processes, but lacks {', '.join(missing)}: start them with "
            "`torchrun --nproc-per-node=NUMBER -m qvae train`, or unset RANK and WORLD_SIZE."
        )
    number, count = found["RANK"], found["WORLD_SIZE"]
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise RanksError(f"RANK is {number!r} and WORLD_SIZE {count!r}: ranks count from 0 up to WORLD_SIZE - 1; use torchrun.")
    return found


def _require_own_place(store: dist.Store, number: int, count: int) -> None:
    """Raise a RanksError where another process has this number, or counts other than this one."""
    said = store.compare_set("count", "", str(count)).decode()
    if said != str(count):
        raise RanksError(f"process {number} is to be one of {count}, others one of {said}; start all with the same torchrun.")
    if store.add(f"process {number}", 1) > 1:
        raise RanksError(f"two processes have the RANK {number}; each needs its own, as torchrun gives it.")


# Numbers --------------------------------------------------------------------------------------------------------------


def all_of(value: Tensor) -> Tensor:
    """A tensor (...) of each process, (processes, ...), in the order of their numbers; without a gradient."""
    found = value.new_empty((_count, *value.shape))
    _together(lambda: dist.all_gather(list(found.unbind()), value.detach().contiguous(), async_op=True))
    return found


def average_(tensors: Iterable[Tensor], halves: bool = False) -> None:
    """Make tensors their averages over all processes, in place: one message for each type and device.

    With ``halves``, matrices in float32 are sent in bfloat16.
    """
    if _count == 1:
        return
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        is_halved = halves and tensor.dtype == torch.float32 and tensor.ndim > 1 and tensor.numel() >= _MATRIX
        dtype = torch.bfloat16 if is_halved else tensor.dtype
        groups.setdefault((dtype, tensor.device), []).append(tensor.detach())
    for (dtype, _), group in groups.items():
        flat = _sum(_joined_in_one(group, dtype)).div_(_count)
        parts = flat.split([tensor.numel() for tensor in group])
        torch._foreach_copy_(group, [values.view_as(tensor) for tensor, values in zip(group, parts, strict=True)])


def _joined_in_one(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Tensors of one type and device, one after the other, (numbers,), in memory that stays for the next ones."""
    numbers, place = sum(tensor.numel() for tensor in tensors), (dtype, tensors[0].device)
    kept = _memory.get(place)
    if kept is None or len(kept) < numbers:
        kept = _memory[place] = tensors[0].new_empty(numbers, dtype=dtype)
    flat = kept[:numbers]
    parts = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(parts, [tensor.reshape(-1) for tensor in tensors])  # quicker than to concatenate, of mixed types
    return flat


def _sum(flat: Tensor) -> Tensor:
    """The sum of a vector over all processes, which may stand in its place.

    gloo's ring goes through several threads for the smallest message, and gathers in a third of the time.
    """
    if _count * flat.nbytes <= _GATHERED:
        return all_of(flat).sum(0)
    _together(lambda: dist.all_reduce(flat, async_op=True))
    return flat


def average_gradients(parameters: Iterable[Tensor], halves: bool = False) -> None:
    """Average the gradients that there are, each process having those of its own part of a batch.

    An objective calls it between backward and clipping. Parts are of one size, so that the average is the gradient of the
    whole batch's mean.

    Args:
        parameters: whose gradients they are.
        halves: send those of matrices in bfloat16, as products gave them: half as many bytes.
    """
    if _count > 1:
        average_((parameter.grad for parameter in parameters if parameter.grad is not None), halves)


def average(value: Tensor) -> Tensor:
    """The average of a value over all processes, without a gradient."""
    value = value.detach().clone()
    average_([value])
    return value


def take_first_(tensors: Iterable[Tensor]) -> None:
    """Make tensors those of the first process, in place."""
    if _count > 1:
        for tensor in tensors:
            _together(lambda tensor=tensor: dist.broadcast(tensor.detach(), 0, async_op=True))  # type: ignore[misc]


def highest(values: Sequence[float]) -> list[float]:
    """The highest of each value over all processes."""
    if _count == 1:
        return list(values)
    found: list[float] = all_of(torch.tensor(values, dtype=torch.float64)).amax(0).tolist()
    return found


def own_part(rows: Tensor) -> Tensor:
    """This process's part of the rows of a batch, whose number the processes divide."""
    size = len(rows) // _count
    return rows if _count == 1 else rows[_number * size : (_number + 1) * size]


def require_equal_parts(rows: int) -> None:
    """Raise a ConfigError unless each process gets as many rows of a batch."""
    if rows % _count:
        raise ConfigError(
            f"a batch of {rows} rows can't be shared out among {_count} processes; take a training.batch_size that "
            "their number divides, and no larger than the training data."
        )


def require_same_weights(weights: Iterable[Tensor], objective: str) -> None:
    """See that all processes have the same weights, and make them the first one's, which differ by rounding at most.

    Args:
        weights: of a model, after an epoch.
        objective: the class that should have averaged their gradients.

    Raises:
        RanksError: it hasn't.
    """
    if _count == 1:
        return
    weights = list(weights)
    size = sum(float(weight.detach().double().square().sum()) for weight in weights)
    largest, minus_smallest = highest([size, -size])
    if largest + minus_smallest > _ROUNDING * largest:
        remedy = f"{objective} must call qvae.training.ranks.average_gradients between backward and an optimizer's step"
        raise RanksError(f"the weights of the processes have drifted apart: {remedy}.")
    take_first_(weights)


# Anything else --------------------------------------------------------------------------------------------------------


def first_does(work: Callable[[], T]) -> T:
    """What the first process finds by work that it does alone; all have it, or all raise what it raised.

    The answer is of tensors, which come back on the CPU, and of plain values.
    """
    if _count == 1:
        return work()
    outcome: dict[str, Any] = {}
    if _number == 0:
        with apart():
            outcome = _outcome(work)
    found = _from_first(outcome)
    if "kind" in found:
        error: QvaeError = getattr(errors, found["kind"], QvaeError)(found["text"])
        error.is_everywhere = True
        raise error
    value: T = outcome["value"] if _number == 0 else found["value"]
    return value


def gathered(value: Any) -> list[Any]:
    """What each process gives, of tensors and plain values, in the order of their numbers; all have it."""
    if _count == 1:
        return [value]
    mine = torch.frombuffer(bytearray(to_bytes({"value": value})), dtype=torch.uint8)
    sizes = all_of(torch.tensor(len(mine))).tolist()
    padded = all_of(torch.cat([mine, mine.new_zeros(max(sizes) - len(mine))]))
    return [
        from_bytes(content[:size].numpy().tobytes(), f"process {place}")["value"]
        for place, (content, size) in enumerate(zip(padded, sizes, strict=True))
    ]


def require_same(text: str, what: str) -> None:
    """Raise a ConfigError, in all processes, where they don't have one text in common.

    Args:
        text: any, such as a checksum.
        what: it is of, for the message.
    """
    others = gathered(text)
    different = next((place for place, other in enumerate(others) if other != others[0]), None)
    if different is not None:
        raise ConfigError(f"process {different} has another {what} than process 0; give all of them the same.")


def _outcome(work: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": work()}
    except QvaeError as error:
        return {"kind": type(error).__name__, "text": str(error)}


def _from_first(outcome: dict[str, Any]) -> dict[str, Any]:
    content = to_bytes(outcome) if _number == 0 else b""
    size = torch.tensor([len(content)])
    take_first_([size])
    message = torch.frombuffer(bytearray(content or bytes(int(size))), dtype=torch.uint8)
    take_first_([message])
    return from_bytes(message.numpy().tobytes(), "process 0")


def _together(begin: Callable[[], dist.Work]) -> None:
    """Send and receive, by a message that ``begin`` has begun; a RanksError where another process isn't there any more."""
    ended = "one of the processes of this training has ended or can't be reached"
    missed = None
    try:
        work = begin()
        while missed is None and not _is_done(work):
            missed = _missed()
    except RuntimeError as error:
        raise RanksError(f"{ended}, so that the others end, too; the last checkpoint stands.") from error
    if missed is not None:
        ended = f"process {missed} of this training has given no sign of life for {pulse.PATIENCE:.0f} seconds"
        raise RanksError(f"{ended}, so that the others end, too; the last checkpoint stands.")


def _missed() -> int | None:
    """The process that isn't there any more, although its connections are; None if all are."""
    return None if _pulse is None else _pulse.missed


def _leave_messages() -> None:
    """End at once where a message still waits for a process that isn't there: gloo would wait for it for half an hour."""
    if _missed() is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def _is_done(work: dist.Work) -> bool:
    """Whether a message has come to its end, which is waited for, if not for long.

    Raises:
        RuntimeError: it failed.
    """
    try:
        work.wait(_LOOK)
    except RuntimeError:
        if work.is_completed():
            raise
        return False
    return True
