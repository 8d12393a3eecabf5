"""Plans of circuits: what is fused, and that it is still the same circuit."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from qvae_backends import statevector
from qvae_backends.statevector import StatevectorExecutor
from qvae_backends.statevector_fusion import GatherStep, MatrixStep, PhaseStep, permutation, plan
from qvae_backends.statevector_items import Waiting, items_of
from qvae_backends.statevector_measured import Measurement
from qvae_backends.statevector_states import Adjoint

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.gates import GATES
from qvae.errors import ExecutorError
from qvae.testing.dense import dense_expectation, dense_state


def ring(num_qubits, layers=3, uploads=1):
    """Angles by RY, then layers of rotations on each qubit and a ring of CNOTs; the angles come back ``uploads`` times."""
    gates, number = [], num_qubits
    for layer in range(layers):
        if layer < uploads:
            gates += [Gate("ry", (qubit,), (Affine(qubit, 1.5, 0.2),)) for qubit in range(num_qubits)]
        for name in ("rx", "ry", "rz"):
            for qubit in range(num_qubits):
                gates.append(Gate(name, (qubit,), (Affine(number),)))
                number += 1
        gates += [Gate("cx", (qubit, (qubit + 1) % num_qubits)) for qubit in range(num_qubits)]
    return Circuit(num_qubits, gates, number, num_qubits)


def scattered(num_qubits, num_gates=60, seed=0):
    """All gates on any qubits, at numbers, inputs (3) and weights (5)."""
    numbers = torch.Generator().manual_seed(seed)
    gates, names = [], list(GATES)
    for _ in range(num_gates):
        name = names[int(torch.randint(len(names), (), generator=numbers))]
        qubits = torch.randperm(num_qubits, generator=numbers)[: GATES[name].num_qubits].tolist()
        angles = []
        for _ in range(GATES[name].num_angles):
            index, (scale, offset) = int(torch.randint(9, (), generator=numbers)), torch.randn(2, generator=numbers).tolist()
            angles.append(offset if index == 8 else Affine(index, scale, offset))
        gates.append(Gate(name, tuple(qubits), tuple(angles)))
    return Circuit(num_qubits, gates, num_parameters=8, num_inputs=3)


def observables(num_qubits):
    """Strings of Z, and strings with X and Y that flip different qubits, an odd and an even number of Y among them."""
    texts = ("IZ", "ZZ", "XY", "YY", "ZY", "XI")
    rest = num_qubits - 2
    return [[("I" * rest + text, 0.7), (text + "Z" * rest, -1.2)] for text in texts] + [[("I" * num_qubits, 2.0)]]


CIRCUITS = {
    "ring": ring(5),
    "uploaded twice": ring(4, uploads=2),
    **{f"scattered {seed}": scattered(5 + seed % 2, seed=seed) for seed in range(6)},
}


@pytest.mark.parametrize("circuit", CIRCUITS.values(), ids=CIRCUITS)
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "adjoint"])
def test_expectations_and_gradients_are_those_of_dense_matrices(circuit, stored, monkeypatch):
    used = []
    monkeypatch.setattr(Adjoint, "apply", lambda *given, apply=Adjoint.apply: used.append(1) or apply(*given))
    if not stored:
        monkeypatch.setattr(statevector, "_STORED", 0.0)
    numbers = torch.Generator().manual_seed(7)
    x = torch.randn(3, circuit.num_inputs, dtype=torch.float64, generator=numbers).requires_grad_()
    weights = torch.randn(circuit.num_weights, dtype=torch.float64, generator=numbers).requires_grad_()
    wanted = observables(circuit.num_qubits)
    found = StatevectorExecutor().expectations(circuit, x, wanted, weights)
    assert bool(used) != stored

    def dense(x, weights):
        states = [dense_state(circuit, torch.cat([row, weights])) for row in x]
        return torch.tensor([[dense_expectation(state, terms) for terms in wanted] for state in states], dtype=torch.float64)

    assert (found - dense(x.detach(), weights.detach())).abs().max() < 1e-12
    factors = torch.randn(found.shape, dtype=torch.float64, generator=numbers)
    by_x, by_weights = torch.autograd.grad((found * factors).sum(), (x, weights))
    along = torch.randn(x.shape, dtype=torch.float64, generator=numbers), torch.randn(weights.shape, generator=numbers).double()
    step = 1e-5
    with torch.no_grad():
        up, down = (dense(x + sign * along[0], weights + sign * along[1]) for sign in (step, -step))
    slope = float(((up - down) * factors).sum() / (2 * step))
    assert float((by_x * along[0]).sum() + (by_weights * along[1]).sum()) == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_parameters_are_inputs_or_weights_alike(seed):
    circuit = scattered(6, seed=10 + seed)
    values = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    values[:, 3:] = values[0, 3:]
    executor, wanted = StatevectorExecutor(), observables(6)
    by_row = executor.expectations(circuit, values, wanted)
    assert torch.allclose(executor.expectations(circuit, values[:, :3], wanted, values[0, 3:]), by_row, atol=1e-12)
    assert torch.allclose(executor.expectations(circuit, values[:1], wanted), by_row[:1], atol=1e-12)
    found = executor.probabilities(circuit, values[:, :3], values[0, 3:])
    exact = torch.stack([torch.from_numpy(abs(dense_state(circuit, row)) ** 2) for row in values])
    assert torch.allclose(found, exact, atol=1e-12)


def test_rows_are_run_a_few_at_a_time(monkeypatch):
    circuit = ring(4)
    values = torch.rand(11, circuit.num_parameters, dtype=torch.float64)
    whole = StatevectorExecutor().expectations(circuit, values, observables(4))
    monkeypatch.setattr(statevector, "_CPU_AMPLITUDES", 3 * 2**4)
    assert torch.allclose(StatevectorExecutor().expectations(circuit, values, observables(4)), whole, atol=1e-14)
    assert StatevectorExecutor().amplitudes(circuit, values).shape == (11, 16)


def test_a_circuit_without_inputs_runs_once_for_all_rows():
    circuit = Circuit(2, [Gate("h", (0,)), Gate("crx", (0, 1), (Affine(0),))], num_parameters=1)
    found = StatevectorExecutor().expectations(circuit, torch.zeros(5, 0), [[("ZI", 1.0)]], torch.tensor([math.pi / 3]))
    assert found.shape == (5, 1)
    assert torch.allclose(found, torch.tensor(0.75), atol=1e-6)


def test_too_large_for_the_memory_is_refused_with_the_figure(monkeypatch):
    monkeypatch.setattr("qvae.memory.total_memory", lambda: 10**6)
    monkeypatch.setattr(statevector, "plan", None)  # which takes memory, too
    with pytest.raises(ExecutorError, match=r"20 qubits takes 0\.\d GB of memory, more than this machine has; take fewer"):
        StatevectorExecutor().expectations(Circuit(20, []), torch.zeros(1, 0), [[("Z" * 20, 1.0)]])


def test_permutations_that_would_fill_the_memory_are_refused_as_soon_as_they_do(monkeypatch):
    monkeypatch.setattr("qvae.memory.total_memory", lambda: 3 * 16 * 2**6)
    gates = [Gate(name, (qubit, (qubit + 1) % 6), angles) for _ in range(9) for name, angles in (("cx", ()), ("rxx", (0.3,)))
             for qubit in range(6)]  # fmt: skip
    with pytest.raises(ExecutorError, match="a circuit of 6 qubits takes"):
        plan(Circuit(6, gates), 0)
    assert plan(Circuit(6, gates[:6]), 0).steps


def test_a_ring_comes_down_to_few_passes():
    # First rotations go into the product state, each ring into one permutation, and rotations into matrices on four bits.
    steps = plan(ring(12), 12).steps
    assert sum(isinstance(step, MatrixStep) for step in steps) <= 6
    assert sum(isinstance(step, GatherStep) for step in steps) <= 3
    assert not any(isinstance(step, PhaseStep) for step in steps)


def test_inputs_come_back_as_phases_between_fixed_matrices():
    steps = plan(ring(8, uploads=3), 8).steps
    by_row = [step for step in steps if isinstance(step, PhaseStep)]
    assert all(step.by_row for step in by_row)
    assert sum(len(step.terms) for step in by_row) == 2 * 8
    items = [item for step in steps if isinstance(step, MatrixStep) for item in step.items]
    assert all(item.term is None for item in items)


def test_qubits_far_apart_are_brought_together():
    far = [Gate("rxx", (0, 7), (Affine(0),)), Gate("ryy", (0, 7), (Affine(1),)), Gate("rxx", (7, 0), (0.3,))]
    made = plan(Circuit(8, [Gate("h", (qubit,)) for qubit in range(8)] + far, 2), 0)
    assert [type(step) for step in made.steps] == [GatherStep, MatrixStep]
    assert made.steps[1].size == 2
    assert made.place != sorted(made.place)


def test_permutation_of_cnots_swaps_and_toffolis():
    gates = [Gate("cx", (0, 2)), Gate("swap", (1, 3)), Gate("ccx", (3, 0, 1)), Gate("cswap", (2, 1, 0))]
    before = torch.rand(16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    circuit = Circuit(4, gates)
    columns = []
    for state in range(16):
        ups = [Gate("x", (qubit,)) for qubit in range(4) if state >> qubit & 1]
        columns.append(torch.from_numpy(abs(dense_state(Circuit(4, [*ups, *gates]), torch.zeros(0)))).double())
    assert torch.equal(before[permutation(circuit.gates, range(4))], torch.stack(columns, 1) @ before)


@pytest.mark.parametrize(
    ("end", "is_made"),
    [
        ([Gate("ccx", (0, 2, 1))], True),
        ([Gate("cswap", (2, 0, 1))], True),
        ([Gate("cx", (0, 2)), Gate("swap", (1, 2)), Gate("cx", (2, 1))], False),
    ],
)
def test_a_last_permutation_need_not_be_made_where_it_turns_strings_into_strings(end, is_made):
    circuit = Circuit(3, [*(Gate("ry", (qubit,), (0.4 + 0.5 * qubit,)) for qubit in range(3)), *end])
    labels = ["IIZ", "IZI", "ZII", "IZZ", "ZIZ", "ZZI", "ZZZ"]
    made = plan(circuit, 0)
    observables = [[(label, 1.0)] for label in labels]
    assert Measurement(observables, made, torch.zeros(1)).last == len(made.steps) - (not is_made)
    found = StatevectorExecutor().expectations(circuit, torch.zeros(1, 0).double(), observables)[0]
    probabilities = abs(dense_state(circuit, torch.zeros(0))) ** 2
    signs = [[(-1) ** sum(b >> q & 1 for q in range(3) if label[2 - q] == "Z") for b in range(8)] for label in labels]
    assert found.tolist() == pytest.approx([sum(s * p for s, p in zip(row, probabilities, strict=True)) for row in signs])


def placed(name, qubits):
    """A gate on some of 3 qubits, as an item that is planned, and as a matrix."""
    gate = Gate(name, qubits, (0.3, 0.7, 1.1, 1.3)[: GATES[name].num_angles])
    ups = [[Gate("x", (qubit,)) for qubit in range(3) if state >> qubit & 1] for state in range(8)]
    columns = [dense_state(Circuit(3, [*before, gate]), torch.zeros(0)) for before in ups]
    return next(items_of(Circuit(3, [gate]), 0)), np.stack(columns, 1)


def passes(first, second):
    waiting = Waiting()
    waiting.add(first)
    return waiting.lets_pass(second)


def test_gates_that_change_places_commute():
    names = [name for name in GATES if GATES[name].num_qubits <= 3]
    everywhere = [placed(name, qubits) for name in names for qubits in permutations(range(3), GATES[name].num_qubits)]
    for name in names:
        item, matrix = placed(name, tuple(range(GATES[name].num_qubits)))
        assert all(np.allclose(matrix @ other, other @ matrix) for passing, other in everywhere if passes(item, passing))


def test_controls_pass_each_other_and_targets_pass_rotations_about_their_axis():
    def both(*gates):
        return passes(*(placed(*gate)[0] for gate in gates))

    assert both(("cry", (0, 1)), ("cry", (0, 2)))
    assert both(("cx", (0, 1)), ("rz", (0,)))
    assert both(("cx", (0, 1)), ("rx", (1,)))
    assert both(("cx", (0, 2)), ("cx", (1, 2)))
    assert not both(("cx", (0, 1)), ("cx", (1, 2)))
    assert not both(("cx", (0, 1)), ("h", (0,)))


def test_a_matrix_takes_in_what_commutes_with_the_gates_between():
    gates = [Gate("cry", pair, (0.1 * number,)) for number, pair in enumerate(((0, 1), (0, 7), (0, 1), (0, 7), (0, 1)))]
    matrices = [step for step in plan(Circuit(8, gates), 0).steps if isinstance(step, MatrixStep)]
    assert sorted(len(step.items) for step in matrices) in ([2, 3], [5])
