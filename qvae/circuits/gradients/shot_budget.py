"""Parameter shifts within a fixed number of shots, of which noisy derivatives get more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import Executor
from qvae.circuits.gradients.estimator import GradientEstimator
from qvae.circuits.gradients.parameter_shift import FreedCircuit, Term, free_angles
from qvae.circuits.paulis import PauliSum, basis_change, measured_together, pauli_sums, support
from qvae.errors import CircuitError
from qvae.options import checked_options

_FEWEST = 2  # shots of a circuit, of which a variance can be told
_PORTIONS = 16  # into which the shots of a circuit are divided, on average


class ShotBudget(GradientEstimator):
    """The parameter-shift rule, with n_t shots of each shifted circuit in proportion to its standard deviation.

    sum_t sigma_t^2 / n_t at a fixed sum of n_t is least for n_t ~ sigma_t (Neyman 1934), with sigma_t that of what one shot
    adds to a derivative, its coefficient in the rule and in the loss included. The deviations are those that earlier calls
    saw, so that shots don't depend on what they are to measure, and the gradient is unbiased; the first call spends them
    evenly. Kubler et al. 2020 (arXiv:1909.09083) and Gu et al. 2021 (arXiv:2108.10434) also let the sum grow.

    Args:
        shots: of a row in all its shifted circuits and bases together, never exceeded.
        memory: 0 to 1, the weight of earlier calls in the running mean of the variances, which are in ``state_dict``.

    Attributes:
        spent: shots so far.

    Raises:
        ValueError: an option is out of its range.
    """

    @checked_options
    def __init__(
        self, shots: Annotated[int, Field(ge=1)] = 10_000, memory: Annotated[float, Field(ge=0, lt=1)] = 0.9
    ) -> None:
        self.shots, self.memory = shots, memory
        self.spent = 0
        self._variances: Tensor | None = None

    def gradients(
        self,
        executor: Executor,
        circuit: Circuit,
        values: Tensor,
        observables: Sequence[Any],
        dual: Tensor,
        wanted: range,
    ) -> Tensor:
        """See :meth:`GradientEstimator.gradients`; one call of the executor for each basis of the observables.

        Raises:
            CircuitError: the shots don't suffice for two of each circuit.
        """
        freed = free_angles(circuit)
        terms, bases = _terms(freed, wanted), _bases(pauli_sums(observables, circuit.num_qubits))
        found = values.new_zeros(len(values), circuit.num_parameters)
        if not (terms and bases and len(values)):
            return found[:, wanted.start : wanted.stop]
        counts, size = self._portions(len(terms), len(bases))
        angles = freed.values(values)
        coefficients = values.new_tensor([term.coefficient for term in terms])
        parameters = torch.tensor([term.parameter for term in terms], device=values.device)
        variances = torch.zeros(counts.shape, dtype=torch.float64)
        for place, (basis, strings) in enumerate(bases.items()):
            of_term = torch.repeat_interleave(torch.arange(len(terms)), counts[:, place])
            rows = angles.repeat(len(of_term), 1, 1)
            columns, shifts = (torch.tensor([each[part] for each in terms])[of_term] for part in range(2))
            rows[torch.arange(len(of_term)), :, columns] += shifts.to(values).unsqueeze(1)
            bits = executor.sample(freed.circuit.then(basis_change(basis)), rows.flatten(0, 1), size)
            seen = _readings(bits.unflatten(0, rows.shape[:2]), strings, dual)  # (portions, B, size)
            means = values.new_zeros(len(terms), len(values)).index_add_(0, of_term.to(values.device), seen.mean(2))
            means /= counts[:, place].to(values).unsqueeze(1)
            found.index_add_(1, parameters, means.T * coefficients)
            spread = torch.zeros(len(terms), dtype=torch.float64)
            spread.index_add_(0, of_term, seen.double().var(2).mean(1).cpu())
            variances[:, place] = spread / counts[:, place] * coefficients.double().cpu().square()
        self._remember(variances)
        self.spent += int(counts.sum()) * size * len(values)
        return found[:, wanted.start : wanted.stop]

    def _portions(self, terms: int, bases: int) -> tuple[Tensor, int]:
        """How many portions of shots each circuit gets, (T, bases), 1 or more, and the shots of one."""
        cells = terms * bases
        if self.shots < _FEWEST * cells:
            raise CircuitError(
                f"shots is {self.shots}, but the gradient takes {cells} circuits, each at least {_FEWEST}; raise it to "
                f"{_FEWEST * cells} or more."
            )
        size = max(_FEWEST, self.shots // (_PORTIONS * cells))
        free = self.shots // size - cells
        known = self._variances
        weights = torch.ones(terms, bases, dtype=torch.float64)
        if known is not None and known.shape == weights.shape and known.sum() > 0:
            weights = known.sqrt()
        # One each, and the rest so that all together have their shares as nearly as can be.
        ideal = (weights / weights.sum() * (free + cells) - 1).clamp_min(0)
        ideal = ideal * free / ideal.sum().clamp_min(1e-300)
        counts = ideal.floor().long()
        order = (ideal - counts).flatten().argsort(descending=True, stable=True)
        counts.view(-1)[order[: free - int(counts.sum())]] += 1
        return counts + 1, size

    def _remember(self, variances: Tensor) -> None:
        known = self._variances
        is_first = known is None or known.shape != variances.shape
        self._variances = variances if known is None or is_first else known.lerp(variances, 1 - self.memory)

    def executions(self, circuit: Circuit, wanted: range) -> int:
        """See :meth:`GradientEstimator.executions`; their shots together are ``shots``."""
        return len(_terms(free_angles(circuit), wanted))

    def shots_in_words(self, executor: Executor) -> str:
        """See :meth:`GradientEstimator.shots_in_words`."""
        return f"of {self.shots:,} shots together for each row"

    def state_dict(self) -> dict[str, Any]:
        """Variances as they were seen, and shots so far."""
        return {"spent": self.spent} | ({} if self._variances is None else {"variances": self._variances})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: it is no such state.
        """
        variances, spent = state.get("variances"), state.get("spent")
        is_sound = variances is None or (isinstance(variances, Tensor) and variances.ndim == 2 and bool((variances >= 0).all()))
        if not is_sound or type(spent) is not int:
            raise ValueError("the state of the shot budget is none")
        self._variances, self.spent = variances, spent


def _terms(freed: FreedCircuit, wanted: range) -> list[Term]:
    return [term for term in freed.terms(wanted) if term.coefficient]


def _bases(sums: list[PauliSum]) -> dict[str, list[tuple[int, str, float]]]:
    """What each basis tells: numbers of observables with their strings and weights; those of I alone have no derivative."""
    labels = [label for terms in sums for label, _ in terms if set(label) != {"I"}]
    groups = measured_together(labels)
    basis_of = {label: basis for basis, members in groups.items() for label in members}
    found: dict[str, list[tuple[int, str, float]]] = {basis: [] for basis in groups}
    for number, terms in enumerate(sums):
        for label, weight in terms:
            if label in basis_of:
                found[basis_of[label]].append((number, label, weight))
    return found


def _readings(bits: Tensor, strings: list[tuple[int, str, float]], dual: Tensor) -> Tensor:
    """sum_k dual_k O_k as each shot of (portions, B, size, n) tells it, (portions, B, size)."""
    total = torch.zeros(bits.shape[:-1], dtype=dual.dtype, device=bits.device)
    for number, label, weight in strings:
        parity = bits[..., [qubit for qubit, _ in support(label)]].sum(-1) % 2
        total += (1 - 2 * parity).to(dual) * (weight * dual[:, number]).unsqueeze(1)
    return total
