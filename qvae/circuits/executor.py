"""The contract of an executor, which runs circuits: one abstract method, the rest derived."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qvae.circuits.circuit import Circuit
from qvae.circuits.paulis import PauliSum, basis_change, measured_together, pauli_sums, string_mean
from qvae.errors import CircuitError, ExecutorError, QvaeError, in_a_line
from qvae.seeding import Seeded


@dataclass(frozen=True)
class ExecutorCapabilities:
    """What an executor can do; every field has the default of a plain one that measures shots.

    Attributes:
        max_qubits: the largest circuit; None for no limit, or one that isn't known.
        exact: expectations carry no shot noise.
        differentiable: expectations are differentiable in ``values``.
        noisy: gates or readout may go wrong, as on hardware.
        remote: a call waits for a machine elsewhere, which doesn't repeat itself for a seed.
    """

    max_qubits: int | None = None
    exact: bool = False
    differentiable: bool = False
    noisy: bool = False
    remote: bool = False

    def excludes(self, num_qubits: int) -> str | None:
        """Why such a circuit can't be run, as a clause; None if it can.

        >>> ExecutorCapabilities(max_qubits=20).excludes(30)
        'it takes at most 20 qubits'
        """
        if self.max_qubits is not None and num_qubits > self.max_qubits:
            return f"it takes at most {self.max_qubits} qubits"
        return None


class Executor(ABC):
    """Runs circuits at many values of their parameters in one call, and measures observables or bits.

    A backend is one subclass: it says what it can do in ``capabilities``, takes its options as keyword arguments of
    ``__init__`` (``seed`` among them if it uses random numbers; see :class:`SeededExecutor`), and writes :meth:`_sample`;
    :meth:`_expectations`, too, where it knows better than from shots. Both are called with what has been checked.
    """

    name: str = ""
    """The name under which the registry found it; set by :func:`qvae.circuits.registry.load_executor`."""
    capabilities: ExecutorCapabilities = ExecutorCapabilities()
    shots: int = 1024
    """Measurements in each basis that expectations need."""

    def expectations(self, circuit: Circuit, values: Tensor, observables: Sequence[Any]) -> Tensor:
        """<psi(values)| O |psi(values)> for every row of values and every observable.

        Args:
            circuit: of P parameters.
            values: of the parameters, float32 or float64, (B, P).
            observables: K sums of Pauli strings: lists of pairs as ("ZI", 0.5), or Qiskit's ``SparsePauliOp``.

        Returns:
            (B, K), in the dtype and on the device of ``values``.

        Raises:
            CircuitError: values or observables are not of this circuit.
            ExecutorError: the circuit is too large, gradients are wanted that the executor hasn't, or it failed.
        """
        self._check(circuit, values)
        sums = pauli_sums(observables, circuit.num_qubits)
        if values.requires_grad and torch.is_grad_enabled() and not self.capabilities.differentiable:
            raise ExecutorError(
                f"executor {self.label!r} gives no gradients in values; call it under torch.no_grad(), "
                "or take a differentiable one, as statevector."
            )
        if len(values) == 0:
            return values.new_zeros(0, len(sums))
        return self._asked(self._expectations, (circuit, values, sums), (len(values), len(sums)), values.dtype)

    def sample(self, circuit: Circuit, values: Tensor, shots: int) -> Tensor:
        """Bits of all qubits, measured ``shots`` times for every row of values.

        Args:
            circuit: of P parameters.
            values: of the parameters, float32 or float64, (B, P).
            shots: 1 or more.

        Returns:
            0 or 1, int8, (B, shots, num_qubits), on the device of ``values``; column q is qubit q.

        Raises:
            CircuitError: values are not of this circuit.
            ExecutorError: the circuit is too large, or the executor failed.
        """
        self._check(circuit, values)
        if shots < 1:
            raise ExecutorError(f"shots is {shots}; it must be 1 or more.")
        if len(values) == 0:
            return values.new_zeros(0, shots, circuit.num_qubits, dtype=torch.int8)
        shape = (len(values), shots, circuit.num_qubits)
        return self._asked(self._sample, (circuit, values.detach(), shots), shape, torch.int8)

    @abstractmethod
    def _sample(self, circuit: Circuit, values: Tensor, shots: int) -> Tensor:
        """What :meth:`sample` returns; ``values`` have one row or more and no gradients."""

    def _expectations(self, circuit: Circuit, values: Tensor, observables: list[PauliSum]) -> Tensor:
        """What :meth:`expectations` returns: here from ``shots`` samples in each of a few bases."""
        groups = measured_together(label for terms in observables for label, _ in terms)
        means = {}
        for basis, labels in groups.items():
            bits = self.sample(circuit.then(basis_change(basis)), values, self.shots)
            means.update({label: string_mean(label, bits) for label in labels})
        zero = torch.zeros(len(values), dtype=torch.float64, device=values.device)
        found = [sum((weight * means[label] for label, weight in terms), zero) for terms in observables]
        return torch.stack(found, dim=1).to(values.dtype)

    def state_dict(self) -> dict[str, Any]:
        """Random number generators and the like, as tensors and plain values that JSON can hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where :meth:`state_dict` was taken.

        Raises:
            ExecutorError: the state is of another executor.
        """
        if state:
            raise ExecutorError(f"executor {self.label!r} keeps no state, but was given {sorted(state)}.")

    def close(self) -> None:  # noqa: B027
        """Release connections; the executor isn't used afterwards."""

    @property
    def label(self) -> str:
        """Its name, or that of the class, for messages."""
        return self.name or type(self).__name__

    def _asked(
        self, method: Callable[..., Tensor], arguments: tuple[Any, ...], shape: tuple[int, ...], dtype: torch.dtype
    ) -> Tensor:
        """What an author's method returns, if it has this form; errors that aren't ours become one that names the executor."""
        try:
            found = method(*arguments)
        except QvaeError:
            raise
        except Exception as error:
            raise ExecutorError(f"executor {self.label!r} failed with {in_a_line(error)}.") from error
        if not isinstance(found, Tensor) or found.shape != shape or found.dtype != dtype:
            form = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise ExecutorError(f"executor {self.label!r} returned {form}; it must be {dtype} of shape {shape}.")
        return found

    def _check(self, circuit: Circuit, values: Tensor) -> None:
        """Refuse what can't be run before anything is spent."""
        if not isinstance(circuit, Circuit):
            raise CircuitError(f"the circuit is a {type(circuit).__name__}; make a Circuit of it, as by Circuit.from_qiskit.")
        reason = self.capabilities.excludes(circuit.num_qubits)
        if reason is not None:
            remedy = "take fewer, or another executor"
            raise ExecutorError(f"executor {self.label!r} can't run {circuit.num_qubits} qubits: {reason}; {remedy}.")
        if not isinstance(values, Tensor) or values.dtype not in (torch.float32, torch.float64):
            kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
            raise CircuitError(f"values must be a tensor of float32 or float64, but are {kind}.")
        if values.ndim != 2 or values.shape[1] != circuit.num_parameters:
            shape = tuple(values.shape)
            raise CircuitError(
                f"values have shape {shape}; they must be (batch, {circuit.num_parameters}), a column for each parameter."
            )


class SeededExecutor(Seeded, Executor):
    """An executor with a generator of its own, made from ``seed``; its state is in ``state_dict``."""
