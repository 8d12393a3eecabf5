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

    def expectations(
        self, circuit: Circuit, values: Tensor, observables: Sequence[Any], weights: Tensor | None = None
    ) -> Tensor:
        """<psi| O |psi> for every row of values and every observable.

        Args:
            circuit: of P parameters.
            values: of the parameters, float32 or float64, (B, P), or of the first ones where there are weights.
            observables: K sums of Pauli strings: lists of pairs as ("ZI", 0.5), or Qiskit's ``SparsePauliOp``.
            weights: of the last W parameters, the same in all rows, (W,); knowing that they are makes some executors fast.

        Returns:
            (B, K), in the dtype and on the device of ``values``.

        Raises:
            CircuitError: values or observables are not of this circuit.
            ExecutorError: the circuit is too large, gradients are wanted that the executor hasn't, or it failed.
        """
        self._check(circuit, values, weights)
        sums = pauli_sums(observables, circuit.num_qubits)
        self._refuse_gradients(values, weights)
        if not self.capabilities.exact:
            _require_finite(values, weights)
        if len(values) == 0:
            return _joined(values, weights).sum(1, keepdim=True).expand(-1, len(sums))  # nothing, but differentiable
        arguments = (circuit, values, weights, sums)
        return self._asked(self._weighted_expectations, arguments, (len(values), len(sums)), values.dtype)

    def sample(self, circuit: Circuit, values: Tensor, shots: int, weights: Tensor | None = None) -> Tensor:
        """Bits of all qubits, measured ``shots`` times for every row of values.

        Args:
            circuit: of P parameters.
            values: of the parameters, as in :meth:`expectations`.
            shots: 1 or more.
            weights: of the last parameters, as in :meth:`expectations`.

        Returns:
            0 or 1, int8, (B, shots, num_qubits), on the device of ``values``; column q is qubit q.

        Raises:
            CircuitError: values are not of this circuit.
            ExecutorError: the circuit is too large, or the executor failed.
        """
        self._check(circuit, values, weights)
        if not isinstance(shots, int) or shots < 1:
            raise ExecutorError(f"shots is {shots!r}; it must be a whole number, 1 or more.")
        _require_finite(values, weights)
        if len(values) == 0:
            return values.new_zeros(0, shots, circuit.num_qubits, dtype=torch.int8)
        shape = (len(values), shots, circuit.num_qubits)
        return self._asked(self._sample, (circuit, _joined(values, weights).detach(), shots), shape, torch.int8)

    def amplitudes(self, circuit: Circuit, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """Of all basis states, exact: (B, 2**n), complex in the precision of ``values``; entry b is that of the bits of b.

        Args:
            circuit: of P parameters.
            values: of the parameters, as in :meth:`expectations`.
            weights: of the last parameters, as in :meth:`expectations`.

        Raises:
            CircuitError: values are not of this circuit.
            ExecutorError: the executor measures shots and knows no amplitudes, or as :meth:`expectations`.
        """
        self._check(circuit, values, weights)
        if not self.capabilities.exact:
            raise ExecutorError(f"executor {self.label!r} knows no exact probabilities; take one that does, as statevector.")
        self._refuse_gradients(values, weights)
        shape, dtype = (len(values), 2**circuit.num_qubits), values.dtype.to_complex()
        if len(values) == 0:
            return values.new_zeros(shape, dtype=dtype)
        return self._asked(self._amplitudes, (circuit, values, weights), shape, dtype)

    def probabilities(self, circuit: Circuit, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """Of all basis states, exact: (B, 2**n), in the dtype of ``values``; arguments and errors as of :meth:`amplitudes`."""
        return torch.view_as_real(self.amplitudes(circuit, values, weights)).square().sum(2)

    @abstractmethod
    def _sample(self, circuit: Circuit, values: Tensor, shots: int) -> Tensor:
        """What :meth:`sample` returns; ``values`` have one row or more and no gradients."""

    def _weighted_expectations(
        self, circuit: Circuit, values: Tensor, weights: Tensor | None, observables: list[PauliSum]
    ) -> Tensor:
        """What :meth:`expectations` returns; for executors that gain from knowing which parameters all rows share."""
        return self._expectations(circuit, _joined(values, weights), observables)

    def _amplitudes(self, circuit: Circuit, values: Tensor, weights: Tensor | None) -> Tensor:
        """What :meth:`amplitudes` returns, of an exact executor."""
        raise NotImplementedError

    def _expectations(self, circuit: Circuit, values: Tensor, observables: list[PauliSum]) -> Tensor:
        """What :meth:`expectations` returns for all parameters (B, P): here sums of what each Pauli string has as its mean."""
        means = self._string_means(circuit, values, list(dict.fromkeys(label for terms in observables for label, _ in terms)))
        zero = torch.zeros(len(values), dtype=torch.float64, device=values.device)
        found = [sum((weight * means[label] for label, weight in terms), zero) for terms in observables]
        return torch.stack(found, dim=1).to(values.dtype)

    def _string_means(self, circuit: Circuit, values: Tensor, labels: list[str]) -> dict[str, Tensor]:
        """<P> of each of these Pauli strings, (B,), float64: here from ``shots`` samples in each of a few bases."""
        means = {}
        for basis, members in measured_together(labels).items():
            bits = self.sample(circuit.then(basis_change(basis)), values, self.shots)
            means.update({label: string_mean(label, bits) for label in members})
        return means

    def check_size(self, num_qubits: int) -> None:
        """Raise :class:`~qvae.errors.ExecutorError` if a circuit of so many qubits is beyond the capabilities."""
        reason = self.capabilities.excludes(num_qubits)
        if reason is not None:
            remedy = "take fewer, or another executor"
            raise ExecutorError(f"executor {self.label!r} can't run {num_qubits} qubits: {reason}; {remedy}.")

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
            with torch.autocast(arguments[1].device.type, enabled=False):  # circuits keep the precision of their values
                found = method(*arguments)
        except QvaeError:
            raise
        except Exception as error:
            raise ExecutorError(f"executor {self.label!r} failed with {in_a_line(error)}.") from error
        if not isinstance(found, Tensor) or found.shape != shape or found.dtype != dtype:
            form = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise ExecutorError(f"executor {self.label!r} returned {form}; it must be {dtype} of shape {shape}.")
        return found

    def _refuse_gradients(self, values: Tensor, weights: Tensor | None) -> None:
        wanted = values.requires_grad or (weights is not None and weights.requires_grad)
        if wanted and torch.is_grad_enabled() and not self.capabilities.differentiable:
            raise ExecutorError(
                f"executor {self.label!r} gives no gradients in values; call it under torch.no_grad(), "
                "or take a differentiable one, as statevector."
            )

    def _check(self, circuit: Circuit, values: Tensor, weights: Tensor | None) -> None:
        """Refuse what can't be run before anything is spent."""
        if not isinstance(circuit, Circuit):
            raise CircuitError(f"the circuit is a {type(circuit).__name__}; make a Circuit of it, as by Circuit.from_qiskit.")
        self.check_size(circuit.num_qubits)
        for name, given in (("values", values), ("weights", weights)):
            if given is not None and not (isinstance(given, Tensor) and given.dtype in (torch.float32, torch.float64)):
                kind = given.dtype if isinstance(given, Tensor) else type(given).__name__
                remedy = "convert them by .float(), and a layer that holds them, too"
                raise CircuitError(f"{name} must be a tensor of float32 or float64, but are {kind}; {remedy}.")
        if weights is not None and (weights.ndim != 1 or len(weights) > circuit.num_parameters):
            shape = tuple(weights.shape)
            raise CircuitError(f"weights have shape {shape}; they must be ({circuit.num_weights},), the same for all rows.")
        columns = circuit.num_parameters - (0 if weights is None else len(weights))
        if values.ndim != 2 or values.shape[1] != columns:
            shape = tuple(values.shape)
            raise CircuitError(f"values have shape {shape}; they must be (batch, {columns}), a column for each parameter.")


def _joined(values: Tensor, weights: Tensor | None) -> Tensor:
    """All parameters of every row, (B, P)."""
    return values if weights is None else torch.cat([values, weights.to(values).expand(len(values), -1)], dim=1)


def _require_finite(*given: Tensor | None) -> None:
    """Refuse angles of which bits would tell nothing: an exact result would be NaN, and seen to be."""
    if not all(bool(values.isfinite().all()) for values in given if values is not None):
        raise CircuitError("an input or weight of the circuit is infinite or NaN; lower learning rates if training led there.")


class SeededExecutor(Seeded, Executor):
    """An executor with a generator of its own, made from ``seed``; its state is in ``state_dict``."""
