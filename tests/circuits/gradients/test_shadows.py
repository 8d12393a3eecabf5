"""Classical shadows: unbiased derivatives of all parameters from the same copies, which are counted."""

import math
from types import SimpleNamespace

import pytest
import torch
from qvae_backends.statevector import StatevectorExecutor

import qvae
from qvae.circuits.circuit import Circuit, Gate
from qvae.circuits.gradients import ClassicalShadows, ParameterShift, shadows
from qvae.circuits.gradients.shadows import _snapshots, unitary
from qvae.errors import CircuitError
from qvae.runs.assemble import _choose_gradient
from qvae.runs.plan import plan
from qvae.testing.circuit_problems import circuit_problems
from qvae.testing.dense import dense_state

PROBLEMS = circuit_problems()


def test_the_mean_over_bases_and_outcomes_is_the_state():
    """Exactly, over the 3^n bases and their outcomes, with Born's probabilities."""
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(4, generator=generator, dtype=torch.complex128)
    state = state / state.norm()
    density = torch.outer(state, state.conj())
    total = torch.zeros(4, 4, dtype=torch.complex128)
    projectors = [(_snapshots(torch.tensor([kind])) + torch.eye(2)) / 3 for kind in range(6)]  # (1 + s P) / 2
    for first in range(6):
        for second in range(6):
            snapshot = _snapshots(torch.tensor([first, second]))
            total += torch.trace(torch.kron(projectors[second], projectors[first]) @ density) / 9 * snapshot
    assert torch.allclose(total, density, atol=1e-12)


def test_the_mean_snapshot_of_copies_is_their_state():
    """Of |i> and |0>, so that the sign of Y counts."""
    circuit, copies = Circuit(2, [Gate("rx", (0,), (-math.pi / 2,))]), 2000
    (found,) = ClassicalShadows(copies, seed=1)._shadow(StatevectorExecutor(seed=2), circuit, torch.zeros(1, 0))
    state = torch.tensor([1, 1j, 0, 0], dtype=torch.complex128) / math.sqrt(2)
    assert (found - torch.outer(state, state.conj())).abs().max() < 5 * 9 / 4 / math.sqrt(copies)


@pytest.mark.parametrize("problem", PROBLEMS[1:4], ids=[problem.name for problem in PROBLEMS[1:4]])
def test_a_circuit_s_matrix_makes_its_state(problem):
    found = unitary(problem.circuit, problem.values)
    for matrix, row in zip(found, problem.values, strict=True):
        assert torch.allclose(matrix[:, 0], torch.from_numpy(dense_state(problem.circuit, row)), atol=1e-12)
        assert torch.allclose(matrix @ matrix.mH, torch.eye(16, dtype=matrix.dtype), atol=1e-12)


@pytest.mark.parametrize("problem", PROBLEMS[1:3], ids=[problem.name for problem in PROBLEMS[1:3]])
def test_all_derivatives_come_from_the_same_copies(problem):
    rows, copies = 60, 100
    values, dual = problem.values[:1], torch.tensor([[0.6, -0.3, 0.2]], dtype=torch.float64)
    exact = ParameterShift().gradients(StatevectorExecutor(), problem.circuit, values, problem.observables, dual, range(4))[0]
    estimator = ClassicalShadows(copies, seed=4)
    found = estimator.gradients(
        StatevectorExecutor(seed=5),
        problem.circuit,
        values.expand(rows, -1),
        problem.observables,
        dual.expand(rows, -1),
        range(1, 4),
    )
    error = found.std(0) / math.sqrt(rows)
    assert ((found.mean(0) - exact[1:]).abs() < 5 * error + 1e-12).all()
    assert estimator.spent == rows * copies
    assert estimator.executions(problem.circuit, range(1, 4)) == copies


def test_snapshots_that_are_summed_in_parts_have_the_same_mean(monkeypatch):
    """Of two rows of 11 copies three at a time, the last part smaller."""
    problem = PROBLEMS[1]
    arguments = problem.circuit, problem.values[:2], problem.observables, torch.eye(3)[:2].double(), range(4)

    def found():
        return ClassicalShadows(11, seed=4).gradients(StatevectorExecutor(seed=5), *arguments)

    expected = found()
    monkeypatch.setattr(shadows, "_AT_ONCE", 3 * 2 * 4**4)
    assert torch.allclose(found(), expected, atol=1e-12)
    assert expected.abs().max() > 0.1


def test_large_circuits_are_refused():
    circuit = Circuit(9, [Gate("h", (0,))], 1)
    ClassicalShadows().check(Circuit(8, []))
    with pytest.raises(CircuitError, match="take 8 at most: choose another gradient"):
        ClassicalShadows().gradients(
            StatevectorExecutor(), circuit, torch.zeros(1, 1), [[("Z" * 9, 1.0)]], torch.ones(1, 1), range(1)
        )
    with pytest.raises(CircuitError, match="take 8 at most"):  # before anything is run
        qvae.CircuitLayer(circuit, gradient="shadows")
    chosen = qvae.load_config("digits-vqvae", ["training.circuit_gradient=shadows"])
    with pytest.raises(CircuitError, match="take 8 at most"):
        _choose_gradient(SimpleNamespace(circuit=SimpleNamespace(circuit=circuit)), chosen)
    with pytest.raises(CircuitError, match="take 8 at most"):
        plan(chosen)
