"""State vectors in torch against Qiskit's, finite differences and exact probabilities."""

import math

import pytest
import torch
from qvae_backends import statevector
from qvae_backends.statevector import StatevectorExecutor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.gates import GATES
from qvae.errors import ExecutorError
from qvae.testing import check_executor


def random_circuit(num_qubits=5, num_gates=60, seed=0):
    """Gates of all kinds on any qubits, at angles that follow 3 parameters."""
    generator = torch.Generator().manual_seed(seed)
    names, gates = list(GATES), []
    for _ in range(num_gates):
        name = names[int(torch.randint(len(names), (), generator=generator))]
        qubits = torch.randperm(num_qubits, generator=generator)[: GATES[name].num_qubits]
        scales = torch.randn(GATES[name].num_angles, generator=generator).tolist()
        gates.append(Gate(name, tuple(qubits.tolist()), tuple(Affine(k % 3, scale, 0.1) for k, scale in enumerate(scales))))
    return Circuit(num_qubits, gates, num_parameters=3)


def random_values(batch, dtype=torch.float64):
    return torch.randn(batch, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(dtype)


OBSERVABLES = [[("IIXYZ", 0.5), ("ZZIII", -1.5)], [("YYYIX", 1.0)], [("IIIII", 2.0), ("XIIII", 1.0)]]


def test_conformance():
    check_executor("statevector")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_states_and_expectations_are_qiskit_s(dtype, tolerance):
    info = pytest.importorskip("qiskit.quantum_info", reason="Qiskit is not installed")
    for seed in range(3):
        circuit, values = random_circuit(seed=seed), random_values(4, dtype)
        states = StatevectorExecutor().amplitudes(circuit, values)
        operators = [info.SparsePauliOp.from_list(terms) for terms in OBSERVABLES]
        found = StatevectorExecutor().expectations(circuit, values, operators)
        assert found.dtype == dtype
        theirs = circuit.to_qiskit()
        columns = [parameter.index for parameter in theirs.parameters]
        for row in range(4):
            bound = theirs.assign_parameters(values[row, columns].double().tolist())
            expected = info.Statevector(bound)
            assert abs(torch.vdot(states[row].to(torch.complex128), torch.tensor(expected.data))) == pytest.approx(
                1, abs=tolerance
            )
            means = torch.tensor([expected.expectation_value(operator).real for operator in operators])
            assert (found[row] - means).abs().max() < 4 * tolerance


def test_a_string_that_stands_twice_counts_twice():
    circuit, values = random_circuit(num_qubits=3, num_gates=12), random_values(2)
    twice = [[("ZIX", 0.5), ("XXI", 1.0), ("ZIX", 0.25)], [("IIZ", 1.0), ("IIZ", -1.0)]]
    once = [[("ZIX", 0.75), ("XXI", 1.0)], [("IIZ", 0.0)]]
    expected, found = (StatevectorExecutor().expectations(circuit, values, sums) for sums in (once, twice))
    assert torch.allclose(found, expected, atol=1e-12)


def test_memory_is_asked_for_of_the_states_and_of_the_tables_of_a_circuit(monkeypatch):
    asked = []
    monkeypatch.setattr(statevector, "require_memory", lambda size, *words: asked.append(size))
    circuit, values = random_circuit(), random_values(4)
    StatevectorExecutor().expectations(circuit, values, OBSERVABLES)
    tables = statevector._program(circuit, 3, values.dtype, values.device).table_bytes
    states = 6 * 4 * 2**5 * 16
    assert tables > 0
    assert asked == [states, states + tables]


def test_gradients_are_finite_differences():
    circuit, values = random_circuit(num_qubits=4, num_gates=25), random_values(2).requires_grad_()
    observables = [[(label[1:], weight) for label, weight in terms] for terms in OBSERVABLES]
    assert torch.autograd.gradcheck(lambda v: StatevectorExecutor().expectations(circuit, v, observables), values)


def test_bits_follow_the_probabilities():
    circuit, values, shots = random_circuit(num_qubits=4), random_values(3), 20_000
    bits = StatevectorExecutor(seed=0).sample(circuit, values, shots)
    assert (bits.shape, bits.dtype) == ((3, shots, 4), torch.int8)
    exact = StatevectorExecutor().amplitudes(circuit, values).flatten(1).abs().square()
    drawn = (bits.long() << torch.arange(4)).sum(-1)
    found = torch.stack([row.bincount(minlength=16) / shots for row in drawn])
    # By McDiarmid's bound: fails once in 1e6 times.
    allowed = 0.5 * (exact / shots).sqrt().sum(1) + math.sqrt(math.log(1e6) / (2 * shots))
    assert (((found - exact).abs().sum(1) / 2) < allowed).all()


def test_too_many_qubits():
    with pytest.raises(ExecutorError, match="executor 'StatevectorExecutor' can't run 25 qubits: it takes at most 24 qubits"):
        StatevectorExecutor().sample(Circuit(25, []), torch.zeros(1, 0), 1)
