"""Hadamard tests against automatic differentiation, for every gate, and measured in shots."""

import math

import pytest
import torch
from qvae_backends.statevector import StatevectorExecutor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.executor import Executor, ExecutorCapabilities
from qvae.circuits.gradients import HadamardTest
from qvae.circuits.registry import load_executor
from qvae.errors import ExecutorError
from qvae.testing.circuit_problems import circuit_problems

PROBLEMS = circuit_problems()


class Shots(StatevectorExecutor):
    """Measures, and has one qubit to spare."""

    capabilities = ExecutorCapabilities(max_qubits=3)
    shots = 4000
    _weighted_expectations = Executor._weighted_expectations


def exact_gradient(circuit, values, observables, dual):
    leaf = values.clone().requires_grad_()
    (found,) = torch.autograd.grad((StatevectorExecutor().expectations(circuit, leaf, observables) * dual).sum(), leaf)
    return found


@pytest.mark.parametrize("problem", PROBLEMS[1:], ids=[problem.name for problem in PROBLEMS[1:]])
def test_it_is_exact_for_every_gate_scale_and_repeated_parameter(problem):
    dual = torch.randn(len(problem.values), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = exact_gradient(problem.circuit, problem.values, problem.observables, dual)
    found = HadamardTest().gradients(
        StatevectorExecutor(), problem.circuit, problem.values, problem.observables, dual, range(1, 4)
    )
    assert (found - exact[:, 1:4]).abs().max() < 1e-10
    assert exact.abs().max() > 1e-2


CIRCUIT = Circuit(
    2, [Gate("ry", (0,), (Affine(0),)), Gate("cp", (0, 1), (Affine(1),)), Gate("rzx", (0, 1), (Affine(0, 0.5),))], 2
)


def test_shots_give_it_within_their_error():
    values, dual = torch.tensor([[0.7, -1.2]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    observables = [[("ZX", 1.0)]]
    exact = exact_gradient(CIRCUIT, values, observables, dual)
    found = HadamardTest().gradients(Shots(seed=0), CIRCUIT, values, observables, dual, range(2))
    assert ((found - exact).abs() < 5 * math.sqrt(3 / Shots.shots)).all()
    assert HadamardTest().executions(CIRCUIT, range(2)) == 5
    assert HadamardTest().executions(CIRCUIT, range(1, 2)) == 3


def test_it_runs_on_aer():
    pytest.importorskip("qiskit_aer", reason="Qiskit is not installed")
    values, dual = torch.tensor([[0.7, -1.2]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    exact = exact_gradient(CIRCUIT, values, [[("ZX", 1.0)]], dual)
    found = HadamardTest().gradients(load_executor("aer", shots=4000, seed=1), CIRCUIT, values, [[("ZX", 1.0)]], dual, range(2))
    assert ((found - exact).abs() < 5 * math.sqrt(3 / 4000)).all()


def test_an_executor_without_a_spare_qubit_says_so():
    circuit = Circuit(3, [Gate("ry", (0,), (Affine(0),))], 1)
    with pytest.raises(ExecutorError, match="can't run 4 qubits: it takes at most 3 qubits"):
        HadamardTest().gradients(Shots(), circuit, torch.zeros(1, 1), [[("ZZZ", 1.0)]], torch.ones(1, 1), range(1))
