"""Fusion: a circuit's gates become few passes over its states, each on a run of neighbouring bits.

A state's index has n bits, and ``place[q]`` is the bit of qubit q. The plan of a circuit is a product state, then steps of
three kinds: a matrix on bits low, ..., low + k - 1; phases on all amplitudes; and a permutation of all amplitudes. Gates that
follow inputs are phases between fixed changes of basis.

The steps are chosen one by one: of all that could come next, the one that takes in most gates for its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from qvae.circuits.circuit import Circuit, Gate
from qvae.circuits.gates import gate_matrix
from qvae.errors import ExecutorError
from qvae.memory import require_memory
from qvae_backends.statevector_items import Item, Term, Waiting, has_form, is_permutation, items_of, terms_of

# A third of the milliseconds of a step, forward and backward, on 2^16 amplitudes in complex64 and one thread, by the number of
# a matrix's bits; they need to be right relative to each other only.
_MATRIX = (0.0, 0.05, 0.05, 0.07, 0.11, 0.19, 0.35)
_ITEM = (0.0, 0.001, 0.001, 0.001, 0.004, 0.02, 0.05)  # of taking an item into a matrix, whatever the states' size
_GATHER, _PHASES = 0.017, 0.03
_CALL, _LIGHT_CALL = 0.04, 0.02  # of torch in a step, with a product and without, whatever the states' size
_AMPLITUDES, _ROWS = 2**16, 64
INDEX_BYTES = 16
"""Of an amplitude in a permutation: a number, and the one in its inverse."""


@dataclass(frozen=True)
class Stage:
    """Of the product state: a run of gates on every qubit, (), where there is none, then phases."""

    gates: tuple[tuple[Gate, ...], ...]
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class MatrixStep:
    """Gates on bits low, ..., low + size - 1; the qubits of the items are counted from ``low``."""

    low: int
    size: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class PhaseStep:
    """Phases on all amplitudes; the qubits of the terms are bits. ``by_row`` where they follow inputs."""

    terms: tuple[Term, ...]
    by_row: bool


@dataclass(frozen=True)
class GatherStep:
    """New amplitude b is old amplitude index[b]."""

    index: Tensor


Step = MatrixStep | PhaseStep | GatherStep


@dataclass
class Plan:
    """How a circuit is run.

    Attributes:
        num_qubits: n.
        stages: of the product state, whose qubit q is bit q.
        steps: in their order.
        place: the bit of each qubit at the end.
    """

    num_qubits: int
    stages: list[Stage]
    steps: list[Step] = field(default_factory=list)
    place: list[int] = field(default_factory=list)


def plan(circuit: Circuit, num_by_row: int) -> Plan:
    """The steps of a circuit whose first ``num_by_row`` parameters differ from row to row."""
    stages, items = _product_state(circuit.num_qubits, list(items_of(circuit, num_by_row)))
    return _Planner(Plan(circuit.num_qubits, stages, place=list(range(circuit.num_qubits)))).planned(items)


def _product_state(num_qubits: int, items: list[Item]) -> tuple[list[Stage], list[Item]]:
    """What happens to each qubit before it meets another one, in stages; and all later items."""
    first: list[list[Item]] = [[] for _ in range(num_qubits)]
    met: set[int] = set()
    later = []
    for item in items:
        if len(item.qubits) == 1 and item.qubits[0] not in met:
            first[item.qubits[0]].append(item)
        else:
            met.update(item.qubits)
            later.append(item)
    stages = []
    while any(first):
        gates = tuple(own.pop(0).gates if own and own[0].term is None else () for own in first)
        terms: list[Term] = []
        for own in first:
            while own and own[0].term is not None:
                terms.extend(terms_of(own.pop(0)))
        stages.append(Stage(gates, tuple(terms)))
    return stages, later


# Steps ----------------------------------------------------------------------------------------------------------------


class _Choice(NamedTuple):
    """A step that could come next: how much it takes in for its cost, the numbers of the items, and what makes it."""

    score: float
    taken: list[int]
    emit: Callable[[list[Item]], None]


class _Planner:
    """Chooses steps until no item is left."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.unit = _AMPLITUDES / (_ROWS * 2**plan.num_qubits)  # what doesn't grow with the states weighs more in small ones
        self.call = _CALL * self.unit
        self.gather, self.phases = _GATHER + _LIGHT_CALL * self.unit, _PHASES + _LIGHT_CALL * self.unit

    def planned(self, items: list[Item]) -> Plan:
        while items:
            best = max(self._choices(items), key=lambda choice: choice.score)
            best.emit([items[number] for number in best.taken])
            taken = set(best.taken)
            items = [item for number, item in enumerate(items) if number not in taken]
        self.plan.steps = self._merged(self.plan.steps)
        return self.plan

    def _choices(self, items: list[Item]) -> Iterator[_Choice]:
        yield from self._matrices(items)
        everywhere = set(range(self.plan.num_qubits))
        taken = closure(items, is_permutation, everywhere)
        if taken:
            yield _Choice(len(taken) / self.gather, taken, self._gather)
        taken = closure(items, partial(has_form, form="diagonal"), everywhere)
        if taken:
            yield _Choice(len(taken) / self.phases, taken, self._phases)

    def _matrices(self, items: list[Item]) -> Iterator[_Choice]:
        """A matrix on any run of neighbouring bits, or on any other qubits after a permutation of bits."""
        number = self.plan.num_qubits
        for size in range(1, min(number, len(_MATRIX) - 1) + 1):
            for low in range(number - size + 1):
                window = {qubit for qubit, bit in enumerate(self.plan.place) if low <= bit < low + size}
                taken = closure(items, partial(_fits, window), window)
                if taken:
                    yield _Choice(self._score(len(taken), size, 0.0), taken, partial(self._matrix, low))
        starts = _starts(items)
        for size in range(2, min(number, len(_MATRIX) - 1)):
            for qubits in {_grown(items, size, start) for start in starts}:
                bits = sorted(self.plan.place[qubit] for qubit in qubits)
                if bits[-1] - bits[0] == len(bits) - 1:
                    continue
                taken = closure(items, partial(_fits, qubits), qubits)
                if taken:
                    score = self._score(len(taken), len(bits), self.gather)
                    yield _Choice(score, taken, partial(self._far_matrix, qubits))

    def _score(self, taken: int, size: int, more: float) -> float:
        return taken / (self._cost(size, taken) + more)

    def _cost(self, size: int, items: int) -> float:
        """Of a matrix on so many bits, made of so many items."""
        return _MATRIX[size] + self.call + items * _ITEM[size] * self.unit

    # What each choice does --------------------------------------------------------------------------------------------

    def _matrix(self, low: int, items: list[Item]) -> None:
        moved = tuple(self._on_bits(item, low) for item in items)
        bits = [bit for item in moved for bit in item.qubits]
        first, last = min(bits), max(bits)
        shrunk = tuple(_shifted(item, first) for item in moved)
        self.plan.steps.append(MatrixStep(low + first, last - first + 1, shrunk))

    def _far_matrix(self, qubits: Set[int], items: list[Item]) -> None:
        place, number = self.plan.place, self.plan.num_qubits
        order = sorted(range(number), key=lambda qubit: (qubit in qubits, place[qubit]))
        self._add_gather(linear_index([1 << place[qubit] for qubit in order]))
        for bit, qubit in enumerate(order):
            place[qubit] = bit
        self._matrix(number - len(qubits), items)

    def _gather(self, items: list[Item]) -> None:
        self._add_gather(permutation([gate for item in items for gate in item.gates], self.plan.place))

    def _add_gather(self, source: Tensor) -> None:
        steps, num_qubits = self.plan.steps, self.plan.num_qubits
        if steps and isinstance(steps[-1], GatherStep):
            source = steps.pop().index[source]  # type: ignore[union-attr]
        needed = INDEX_BYTES * (1 + sum(isinstance(step, GatherStep) for step in steps)) << num_qubits
        require_memory(needed, f"a circuit of {num_qubits} qubits", "take fewer, or fewer layers", ExecutorError)
        steps.append(GatherStep(source))

    def _phases(self, items: list[Item]) -> None:
        for by_row in (False, True):
            chosen = [self._on_bits(item, 0) for item in items if (item.term is not None) == by_row]
            terms = tuple(term for item in chosen for term in terms_of(item))
            if terms:
                self.plan.steps.append(PhaseStep(terms, by_row))

    def _on_bits(self, item: Item, low: int) -> Item:
        """With bits, counted from ``low``, in place of qubits."""
        return _renumbered(item, lambda qubit: self.plan.place[qubit] - low)

    def _merged(self, steps: Sequence[Step]) -> list[Step]:
        """Neighbouring matrices on neighbouring bits made one where that costs less."""
        done: list[Step] = []
        for step in steps:
            while done and isinstance(step, MatrixStep) and isinstance(last := done[-1], MatrixStep):
                low, high = min(last.low, step.low), max(last.low + last.size, step.low + step.size)
                touch = last.low <= step.low + step.size and step.low <= last.low + last.size
                apart = self._cost(last.size, len(last.items)) + self._cost(step.size, len(step.items))
                together = len(last.items) + len(step.items)
                if not touch or high - low >= len(_MATRIX) or self._cost(high - low, together) > apart:
                    break
                parts = ((done.pop(), last.low - low), (step, step.low - low))
                items = tuple(_shifted(item, -shift) for part, shift in parts for item in part.items)  # type: ignore[union-attr]
                step = MatrixStep(low, high - low, items)
            done.append(step)
        return done


def permutation(gates: Iterable[Gate], place: Sequence[int]) -> Tensor:
    """Of gates that permute basis states, where qubit q is bit place[q]: amplitude b afterwards was amplitude index[b].

    CNOTs and swaps are linear maps of bits, which are known by what becomes of each bit, so that a row of them costs no pass
    over all states; gates with two controls aren't.
    """
    source, images = None, [1 << bit for bit in range(len(place))]
    for gate in gates:
        came_from = gate_matrix(gate.name, [], like=torch.zeros(())).real.argmax(1)  # of each local basis state
        bits = [place[qubit] for qubit in gate.qubits]
        local = [int(came_from[1 << number]) for number in range(len(bits))]
        if torch.equal(came_from, linear_index(local)):
            own = [images[bit] for bit in bits]
            for bit, image in zip(bits, [_image(state, own) for state in local], strict=True):
                images[bit] = image
            continue
        source = linear_index(images) if source is None else source[linear_index(images)]
        images = [1 << bit for bit in range(len(place))]
        indices = torch.arange(2 ** len(place))
        others = indices & ~sum(1 << bit for bit in bits)
        source = source[others | linear_index([1 << bit for bit in bits])[came_from[read_bits(indices, bits)]]]
    return linear_index(images) if source is None else source[linear_index(images)]


def linear_index(images: Sequence[int]) -> Tensor:
    """The linear map of bits that takes 1 << j to images[j], of all numbers, (2**n,)."""
    index = torch.zeros(1, dtype=torch.int64)
    for image in images:
        index = torch.cat([index, index ^ image])
    return index


def read_bits(indices: Tensor, bits: Sequence[int]) -> Tensor:
    """The number that these bits of each index make, the first of them its lowest."""
    return sum(((indices >> bit & 1) << number for number, bit in enumerate(bits)), torch.zeros_like(indices))


def inverse_of(index: Tensor) -> Tensor:
    """The permutation that undoes another one, (2**n,)."""
    return torch.empty_like(index).scatter_(0, index, torch.arange(len(index), device=index.device))


def _image(state: int, images: Sequence[int]) -> int:
    """What becomes of one state under the linear map."""
    found = 0
    for bit, image in enumerate(images):
        found ^= image if state >> bit & 1 else 0
    return found


def _fits(qubits: set[int] | frozenset[int], item: Item) -> bool:
    return item.term is None and qubits.issuperset(item.qubits)


def closure(items: list[Item], wanted: Callable[[Item], bool], qubits: Set[int]) -> list[int]:
    """Numbers of the wanted items, all on these qubits, that commute with every unwanted one before them."""
    waiting = Waiting()
    taken = []
    for number, item in enumerate(items):
        if wanted(item) and waiting.lets_pass(item):
            taken.append(number)
            continue
        waiting.add(item)
        if qubits <= waiting.closed:
            break
    return taken


def _grown(items: list[Item], size: int, start: frozenset[int]) -> frozenset[int]:
    """Up to ``size`` qubits that the next gates of several qubits bring together with those of ``start``."""
    qubits, waiting = start, Waiting()
    for item in items:
        together = qubits.union(item.qubits)
        joins = item.term is None and len(together) <= size and (len(item.qubits) == 1 or not qubits.isdisjoint(item.qubits))
        if not joins or not waiting.lets_pass(item):
            waiting.add(item)
            if qubits <= waiting.closed:
                break
        elif len(item.qubits) > 1:
            qubits = together
    return qubits


def _starts(items: list[Item]) -> set[frozenset[int]]:
    """Qubits of the first gates of several qubits."""
    first: dict[int, frozenset[int]] = {}
    for item in items:
        if item.term is None and len(item.qubits) > 1:
            for qubit in item.qubits:
                first.setdefault(qubit, frozenset(item.qubits))
    return set(first.values())


def _renumbered(item: Item, number: Callable[[int], int]) -> Item:
    def new(qubits: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(number(qubit) for qubit in qubits)

    gates = tuple(gate._replace(qubits=new(gate.qubits)) for gate in item.gates)
    term = None if item.term is None else item.term._replace(qubits=new(item.term.qubits))
    return Item(new(item.qubits), item.axes, gates, term)


def _shifted(item: Item, by: int) -> Item:
    return _renumbered(item, lambda qubit: qubit - by)
