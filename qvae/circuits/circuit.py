"""The description of a parametrised circuit that every executor takes, and its way from and to Qiskit."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from qvae.circuits.drawing import Symbol, affine_text, angle_text, gate_symbol, in_columns, text_drawing
from qvae.circuits.gates import GATES, gate_matrix
from qvae.errors import CircuitError, in_a_line, install_line, nearest

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.circuit import Parameter


@dataclass(frozen=True)
class Affine:
    """An angle that follows a parameter: ``scale * parameter + offset``.

    Attributes:
        index: of the parameter, from 0.
        scale: without unit.
        offset: radians.
    """

    index: int
    scale: float = 1.0
    offset: float = 0.0


class Gate(NamedTuple):
    """A gate of :data:`~qvae.circuits.gates.GATES` on qubits, in the sequence of Qiskit: ``Gate("cx", (control, target))``.

    Attributes:
        name: Qiskit's, such as ``rzz``.
        qubits: from 0.
        angles: radians, as numbers or following a parameter.
    """

    name: str
    qubits: tuple[int, ...]
    angles: tuple[float | Affine, ...] = ()

    def matrix(self, values: Tensor) -> Tensor:
        """Of the parameters' values (B, P), differentiable in them: (B, 2**k, 2**k), or (2**k, 2**k) where none is followed.

        Complex in the precision of ``values``; the gate's first qubit is the lowest bit of an index.
        """
        angles = [
            values[:, angle.index] * angle.scale + angle.offset if isinstance(angle, Affine) else values.new_tensor(angle)
            for angle in self.angles
        ]
        return gate_matrix(self.name, angles, like=values)


@dataclass(frozen=True, repr=False)
class Circuit:
    """Gates on qubits in |0>, the first acts first; qubit q is bit q of a basis state (little-endian, as in Qiskit).

    Equal circuits have equal hashes. Global phases are left out, since no measurement sees them.

    Args:
        num_qubits: n, 1 or more.
        gates: in their order.
        num_parameters: P; gates need not follow all of them.
        num_inputs: I; the first I parameters are data, which differ from row to row, and the others weights.

    Raises:
        CircuitError: a gate is unknown, or its qubits, angles or parameters are not those it needs.

    >>> bell = Circuit(2, [Gate("h", (0,)), Gate("cx", (0, 1))])
    >>> bell.then([Gate("rz", (1,), (0.5,))]).gates[-1]
    Gate(name='rz', qubits=(1,), angles=(0.5,))
    """

    num_qubits: int
    gates: Sequence[Gate]
    num_parameters: int = 0
    num_inputs: int = 0
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        for name in ("num_qubits", "num_parameters", "num_inputs"):
            object.__setattr__(self, name, _whole(getattr(self, name), name))
        if self.num_qubits < 1:
            raise CircuitError(f"the circuit has {self.num_qubits} qubits; it needs 1 or more.")
        if not 0 <= self.num_inputs <= self.num_parameters:
            raise CircuitError(f"num_inputs is {self.num_inputs}; it must be in 0..{self.num_parameters}, the parameters.")
        if not isinstance(self.gates, Iterable):
            raise CircuitError(f"gates is {self.gates!r}; it must be a list of gates, as [Gate('h', (0,))].")
        gates = []
        for gate in self.gates:
            gates.append(_plain(gate))
            self._check(gates[-1])
        object.__setattr__(self, "gates", tuple(gates))
        # Plans are looked up by circuit in every call, and gates are many.
        object.__setattr__(self, "_hash", hash((self.num_qubits, self.gates, self.num_parameters, self.num_inputs)))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        """Made anew: hashes of text differ from process to process."""
        return Circuit, (self.num_qubits, self.gates, self.num_parameters, self.num_inputs)

    def _check(self, gate: Gate) -> None:
        if gate.name not in GATES:
            raise CircuitError(f"no gate is called {gate.name!r}: {nearest(gate.name, GATES)}.")
        kind = GATES[gate.name]
        if (len(gate.qubits), len(gate.angles)) != (kind.num_qubits, kind.num_angles):
            given = f"was given {len(gate.qubits)} qubits and {len(gate.angles)} angles"
            raise CircuitError(f"gate {gate.name!r} {given}; it needs {kind.num_qubits} and {kind.num_angles}.")
        if len(set(gate.qubits)) < len(gate.qubits) or any(not 0 <= qubit < self.num_qubits for qubit in gate.qubits):
            raise CircuitError(
                f"gate {gate.name!r} acts on qubits {gate.qubits}; they must differ and be in 0..{self.num_qubits - 1}."
            )
        for angle in gate.angles:
            if isinstance(angle, Affine) and not 0 <= angle.index < self.num_parameters:
                raise CircuitError(
                    f"gate {gate.name!r} follows parameter {angle.index}, but the circuit has {self.num_parameters}, "
                    "counted from 0; set num_parameters."
                )

    @property
    def num_weights(self) -> int:
        """Parameters that are no inputs."""
        return self.num_parameters - self.num_inputs

    def then(self, gates: Iterable[Gate]) -> Circuit:
        """This circuit with more gates at its end."""
        return replace(self, gates=(*self.gates, *gates))

    def draw(self, width: int = 100) -> str:
        """The circuit as text in lines of so many letters; x0, x1, ... are inputs, and w0, w1, ... weights.

        >>> layer = [Gate("ry", (0,), (Affine(0),)), Gate("h", (1,)), Gate("crz", (1, 0), (Affine(1),))]
        >>> print(Circuit(2, layer, num_parameters=2, num_inputs=1).draw())
        q0: ──RY(x0)───RZ(w0)──
                          │
        q1: ─────H────────●────
        """
        return text_drawing(self.num_qubits, self.columns(), width)

    def columns(self) -> list[list[Symbol]]:
        """The gates as they are drawn, those that stand below each other together."""
        return in_columns(
            gate_symbol(gate.name, gate.qubits, [self._angle_text(angle) for angle in gate.angles]) for gate in self.gates
        )

    def _angle_text(self, angle: float | Affine) -> str:
        if not isinstance(angle, Affine):
            return angle_text(angle)
        is_input = angle.index < self.num_inputs
        name = f"x{angle.index}" if is_input else f"w{angle.index - self.num_inputs}"
        return affine_text(name, angle.scale, angle.offset)

    def __repr__(self) -> str:
        """Sizes; :meth:`draw` shows the gates."""
        sizes = f"{self.num_qubits} qubits, {len(self.gates)} gates, {self.num_inputs} inputs, {self.num_weights} weights"
        return f"<Circuit: {sizes}>"

    def to_qiskit(self) -> QuantumCircuit:
        """The same circuit for Qiskit, without measurements; parameter i is element i of a ``ParameterVector``, theta.

        Raises:
            CircuitError: Qiskit isn't installed.
        """
        try:
            from qiskit import QuantumCircuit
        except ImportError:
            raise CircuitError(f"Qiskit isn't installed, of which a circuit is wanted: {install_line('qiskit')}.") from None
        from qiskit.circuit import ParameterVector
        from qiskit.circuit.library import get_standard_gate_name_mapping

        standard = get_standard_gate_name_mapping()
        theta = ParameterVector("theta", self.num_parameters)
        circuit = QuantumCircuit(self.num_qubits)
        for gate in self.gates:
            angles = [_expression(angle, theta) for angle in gate.angles]
            circuit.append(standard[gate.name].base_class(*angles), gate.qubits)
        return circuit

    @classmethod
    def from_qiskit(
        cls,
        circuit: QuantumCircuit,
        inputs: Iterable[Parameter] | None = None,
        weights: Iterable[Parameter] | None = None,
    ) -> Circuit:
        """A Qiskit circuit; barriers and global phases are dropped, and gates outside the table replaced by their definitions.

        Args:
            circuit: of unitary gates.
            inputs: parameters that are data, in the order of the columns; a ``ParameterVector`` is such a sequence.
            weights: the others, in their order; without both, all parameters, as in ``circuit.parameters``.

        Raises:
            CircuitError: it is no Qiskit circuit; an operation is no unitary gate, as a measurement; an angle is not linear
                in one parameter; a parameter of the circuit is neither input nor weight, or named twice; or these are no lists.
        """
        if not hasattr(circuit, "find_bit"):
            raise CircuitError(f"from_qiskit was given a {type(circuit).__name__}; it takes a QuantumCircuit of Qiskit.")
        for name, given in (("inputs", inputs), ("weights", weights)):
            _check_parameters(name, given)
        data = list(inputs or ())
        rest = [parameter for parameter in circuit.parameters if parameter not in data] if weights is None else list(weights)
        numbers = {parameter: index for index, parameter in enumerate([*data, *rest])}
        if len(numbers) < len(data) + len(rest):
            raise CircuitError("a parameter is named twice among inputs and weights; name each once.")
        unbound = [parameter.name for parameter in circuit.parameters if parameter not in numbers]
        if unbound:
            raise CircuitError(
                f"the circuit's parameter {unbound[0]} is neither among inputs nor weights; add it, or assign it a number."
            )
        gates = tuple(_gates(circuit, range(circuit.num_qubits), numbers))
        return cls(circuit.num_qubits, gates, len(numbers), len(data))


def _check_parameters(name: str, given: Any) -> None:
    """Refuse what is no list of Qiskit's parameters."""
    if given is not None and (isinstance(given, str) or not isinstance(given, Iterable)):
        raise CircuitError(f"{name} is {given!r}; it must be a list of the circuit's parameters.")
    if isinstance(given, set | frozenset):
        raise CircuitError(f"{name} is a set, whose order changes from process to process; give a list.")
    odd = [each for each in given or () if not hasattr(each, "uuid")]
    if odd:
        raise CircuitError(f"{name} holds {odd[0]!r}, which is no Parameter; give the objects, as circuit.parameters has them.")


def _whole(number: Any, name: str) -> int:
    try:
        return operator.index(number)
    except TypeError:
        raise CircuitError(f"{name} is {number!r}; it must be a whole number.") from None


def _plain(gate: Any) -> Gate:
    """With numbers of Python's own, whatever kind they are given as.

    Raises:
        CircuitError: it is no gate, or an angle is no finite number.
    """
    try:
        name, qubits, angles = gate
        on = tuple(operator.index(qubit) for qubit in qubits)
        turns = tuple(angle if isinstance(angle, Affine) else float(angle) for angle in angles)
    except (TypeError, ValueError):
        raise CircuitError(
            f"{gate!r} is no gate; it must be as Gate('rx', (0,), (0.5,)): a name, whole numbers in a tuple, and angles in "
            "another, each a number or Affine."
        ) from None
    for angle in turns:
        if not all(map(isfinite, (angle.scale, angle.offset) if isinstance(angle, Affine) else (angle,))):
            raise CircuitError(f"an angle of gate {name!r} is {angle}; it must be finite.")
    return Gate(str(name), on, turns)


def _expression(angle: float | Affine, theta: Any) -> Any:
    """An angle as Qiskit has it."""
    if not isinstance(angle, Affine):
        return angle
    scaled = theta[angle.index] if angle.scale == 1 else angle.scale * theta[angle.index]
    return scaled + angle.offset if angle.offset else scaled


def _gates(circuit: QuantumCircuit, qubits: Sequence[int], numbers: dict[Parameter, int]) -> Iterator[Gate]:
    """The gates of a circuit whose qubits are these of the whole one."""
    from qiskit.circuit.library import get_standard_gate_name_mapping

    standard = get_standard_gate_name_mapping()
    for place, instruction in enumerate(circuit.data):
        operation = instruction.operation
        on = tuple(qubits[circuit.find_bit(qubit).index] for qubit in instruction.qubits)
        name = operation.name
        if name in ("barrier", "global_phase"):
            continue
        if name in GATES and operation.base_class is standard[name].base_class:
            yield Gate(name, on, tuple(_angle(name, parameter, numbers) for parameter in operation.params))
        elif name != "initialize" and not instruction.clbits and (definition := _definition(operation)) is not None:
            yield from _gates(definition, on, numbers)
        else:
            # At higher levels Qiskit leaves permutations out, and only notes which qubit is which then.
            remedy = "leave it out, or transpile to standard gates at optimization_level=0"
            if name == "initialize":
                remedy = "it begins with a reset: take prepare_state, which doesn't"
            elif name == "measure":
                follows = any(instruction.qubits[0] in later.qubits for later in circuit.data[place + 1 :])
                remedy = "gates follow it: leave it out" if follows else "call remove_final_measurements() first"
            raise CircuitError(f"the circuit has the operation {name!r}, which is not made of unitary gates; {remedy}.")


def _definition(operation: Any) -> QuantumCircuit | None:
    """The circuit that an operation stands for, where it tells."""
    if operation.name == "permutation":
        from qiskit.synthesis import synth_permutation_basic

        return synth_permutation_basic(operation.pattern)
    from qiskit.exceptions import QiskitError

    try:
        found: QuantumCircuit | None = getattr(operation, "definition", None)
    except QiskitError as error:  # as of an rv gate, which is made of gates only at numbers
        raise CircuitError(
            f"Qiskit doesn't say of which gates {operation.name!r} is made ({in_a_line(error)}); put gates as rx in its place."
        ) from error
    return found


def _angle(gate: str, expression: Any, numbers: dict[Parameter, int]) -> float | Affine:
    """What Qiskit has as an angle: a number, a parameter, or an expression of parameters.

    Raises:
        CircuitError: it is not linear in one parameter.
    """
    parameters = list(getattr(expression, "parameters", []))
    if not parameters:
        return float(expression)
    slope = expression.gradient(parameters[0])
    if len(parameters) > 1 or not isinstance(slope, int | float):
        raise CircuitError(
            f"an angle of gate {gate!r} is {expression}; it must be a number or linear in one parameter, as 2*x + 1. Put a new "
            "parameter in its place, and give the layer its value as an input."
        )
    try:
        offset = expression.bind({parameters[0]: 0.0})
    except ZeroDivisionError:  # as of x*x/x
        offset = float(expression.bind({parameters[0]: 1.0})) - slope
    return Affine(numbers[parameters[0]], float(slope), float(offset))
