"""A circuit as a layer of a network: inputs to expectations, with one parameter that holds all weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import Executor
from qvae.circuits.gradients import GradientEstimator, estimated_expectations, gradient_estimator
from qvae.circuits.paulis import pauli_sums
from qvae.circuits.registry import load_executor
from qvae.errors import CircuitError

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.circuit import Parameter


class CircuitLayer(nn.Module):
    """y_k = <psi(x, w)| O_k |psi(x, w)>, differentiable in the inputs x and the weights w.

    Args:
        circuit: whose first ``num_inputs`` parameters are x, and the others w.
        observables: K sums of Pauli strings; None is <Z> of each qubit, from qubit 0.
        executor: what runs it; None is ``statevector``.
        gradient: a name of :data:`~qvae.circuits.gradients.GRADIENTS`, as ``parameter-shift``, or an estimator made with
            options; None is the executor's own gradient, and the parameter-shift rule where it has none.

    Attributes:
        weight: (W,), radians, uniform in 0..2 pi at the start (torch's global generator).
        watchers: told of this layer and its inputs (B, I) at each run that gives expectations or probabilities.

    Raises:
        CircuitError: an observable isn't of this circuit, no gradient has this name, or it can't take such a circuit.
        ExecutorError: the executor takes fewer qubits.

    >>> from qvae.circuits.circuit import Affine, Circuit, Gate
    >>> circuit = Circuit(1, [Gate("ry", (0,), (Affine(0),)), Gate("ry", (0,), (Affine(1),))], num_parameters=2, num_inputs=1)
    >>> layer = CircuitLayer(circuit)
    >>> layer(torch.zeros(5, 1)).shape
    torch.Size([5, 1])
    """

    def __init__(
        self,
        circuit: Circuit,
        observables: Sequence[Any] | None = None,
        executor: Executor | None = None,
        gradient: str | GradientEstimator | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(circuit, Circuit):
            kind = type(circuit).__name__
            raise CircuitError(f"the circuit is a {kind}; make a Circuit of it, or a layer by CircuitLayer.from_qiskit.")
        self.circuit = circuit
        self.observables = pauli_sums(_each_z(circuit.num_qubits) if observables is None else observables, circuit.num_qubits)
        if not isinstance(executor, Executor | None):
            raise CircuitError(f"the executor is {executor!r}; make one, as qvae.load_executor('statevector').")
        self.executor = load_executor("statevector") if executor is None else executor
        if gradient is None and not self.executor.capabilities.differentiable:
            gradient = "parameter-shift"
        self.gradient = None if gradient is None else gradient_estimator(gradient)
        if self.gradient is not None:
            self.gradient.check(circuit)
        self.weight = nn.Parameter(2 * torch.pi * torch.rand(circuit.num_weights))
        self.watchers: list[Callable[[CircuitLayer, Tensor], object]] = []

    @classmethod
    def from_qiskit(
        cls,
        circuit: QuantumCircuit,
        inputs: Iterable[Parameter],
        weights: Iterable[Parameter],
        observables: Sequence[Any] | None = None,
        executor: Executor | None = None,
        gradient: str | GradientEstimator | None = None,
    ) -> CircuitLayer:
        """The layer of a Qiskit circuit.

        Args:
            circuit: of unitary gates.
            inputs: its parameters that are data, in the order of x's columns.
            weights: the others, in the order of ``weight``.
            observables: K, as ``SparsePauliOp``; None is <Z> of each qubit.
            executor: what runs it; None is ``statevector``.
            gradient: as of the class.

        Raises:
            CircuitError: as :meth:`Circuit.from_qiskit`, or an observable isn't of this circuit.
        """
        return cls(Circuit.from_qiskit(circuit, inputs, weights), observables, executor, gradient)

    def forward(self, x: Tensor) -> Tensor:
        """Expectations (B, K) at inputs x (B, I), in the dtype of the weights.

        Raises:
            CircuitError: x isn't of this circuit.
            ExecutorError: the executor failed.
        """
        run = self._expectations
        if torch.compiler.is_compiling():
            run = torch.compiler.disable(run)  # a compiler would take the planning of the circuit for a part of the network
        return run(self._inputs(x))

    def _expectations(self, values: Tensor) -> Tensor:
        self._tell(values)
        if self.gradient is None:
            return self.executor.expectations(self.circuit, values, self.observables, self.weight)
        return estimated_expectations(self.executor, self.gradient, self.circuit, values, self.observables, self.weight)

    @torch.no_grad()
    def sample(self, x: Tensor, shots: int) -> Tensor:
        """Measured bits of all qubits, int8, (B, shots, n); column q is qubit q.

        Raises:
            CircuitError: x isn't of this circuit.
            ExecutorError: the executor failed.
        """
        return self.executor.sample(self.circuit, self._inputs(x), shots, self.weight)

    def probabilities(self, x: Tensor) -> Tensor:
        """Of all basis states, exact and differentiable, (B, 2**n); entry b is that of the bits of b, little-endian.

        Raises:
            CircuitError: x isn't of this circuit.
            ExecutorError: the executor knows no exact probabilities.
        """
        values = self._inputs(x)
        self._tell(values)
        return self.executor.probabilities(self.circuit, values, self.weight)

    def _tell(self, values: Tensor) -> None:
        for watcher in self.watchers:
            watcher(self, values.detach())

    def _inputs(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != self.circuit.num_inputs or x.is_complex():
            form = f"of shape {tuple(x.shape)} and {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
            raise CircuitError(f"the layer's input is {form}; it must be a tensor (batch, {self.circuit.num_inputs}), real.")
        return x.to(self.weight.dtype)

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        circuit = self.circuit
        sizes = f"{circuit.num_qubits} qubits, {len(circuit.gates)} gates, {circuit.num_inputs} inputs"
        return f"{sizes}, {circuit.num_weights} weights, {len(self.observables)} observables, {self.executor.label}"


def _each_z(num_qubits: int) -> list[list[tuple[str, float]]]:
    return [[("I" * (num_qubits - 1 - qubit) + "Z" + "I" * qubit, 1.0)] for qubit in range(num_qubits)]
