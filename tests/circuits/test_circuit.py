"""The description of circuits: what it refuses, and its way to Qiskit and back."""

import math
import sys

import pytest
import torch

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.errors import CircuitError
from qvae.testing.dense import dense_state

BELL = [Gate("h", (0,)), Gate("cx", (0, 1))]


def test_equal_circuits_are_one_key():
    first = Circuit(2, [Gate("h", [0]), Gate("rz", [1], [Affine(0)])], 1)
    assert {first: 1}[Circuit(2, (Gate("h", (0,)), Gate("rz", (1,), (Affine(0),))), 1)] == 1
    assert first != Circuit(2, first.gates, 2)


def test_then_adds_at_the_end():
    assert Circuit(2, BELL[:1]).then(BELL[1:]) == Circuit(2, BELL)


def test_angles_follow_parameters():
    values = torch.tensor([[0.5, 1.0], [2.0, 3.0]], dtype=torch.float64)
    found = Gate("p", (0,), (Affine(1, -2.0, 0.25),)).matrix(values)[:, 1, 1]
    assert torch.allclose(found, torch.exp(1j * (0.25 - 2 * values[:, 1])))
    assert Gate("p", (0,), (math.pi,)).matrix(values).shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, []), "the circuit has 0 qubits; it needs 1 or more"),
        ((1, [Gate("rxy", (0,))]), r"no gate is called 'rxy': did you mean 'ry' or 'rx'\? Allowed: c3sx, .*"),
        ((1, [], 1, 2), r"num_inputs is 2; it must be in 0\.\.1, the parameters"),
        ((1, [], 1, -1), r"num_inputs is -1; it must be in 0\.\.1"),
        ((1, [Gate("rx", (0,), (Affine(-1),))], 1), "gate 'rx' follows parameter -1"),
        ((2, [Gate("h", (-1,))]), r"gate 'h' acts on qubits \(-1,\)"),
        ((2, [Gate("cx", (0,))]), "gate 'cx' was given 1 qubits and 0 angles; it needs 2 and 0"),
        ((2, [Gate("rx", (0,))]), "gate 'rx' was given 1 qubits and 0 angles; it needs 1 and 1"),
        ((2, [Gate("cx", (1, 1))]), r"gate 'cx' acts on qubits \(1, 1\); they must differ and be in 0..1"),
        ((2, [Gate("h", (2,))]), r"gate 'h' acts on qubits \(2,\); they must differ and be in 0..1"),
        (("2", []), "num_qubits is '2'; it must be a whole number"),
        ((2, [Gate("h", (0.5,))]), r"Gate\(name='h', qubits=\(0.5,\), angles=\(\)\) is no gate; it must be as"),
        ((2, [Gate("h", 0)]), "qubits=0, angles=.* is no gate"),
        ((2, ["h"]), "'h' is no gate"),
        ((1, [Gate("rx", (0,), ("a",))]), "is no gate"),
        ((1, [Gate("rx", (0,), (math.nan,))]), "an angle of gate 'rx' is nan; it must be finite"),
        ((1, [Gate("rx", (0,), (Affine(0, math.inf),))], 1), "scale=inf.*; it must be finite"),
        ((1, [Gate("rx", (0,), (Affine(0, offset=math.nan),))], 1), "offset=nan.*; it must be finite"),
        ((1, [Gate("rx", (0,), (Affine(1),))], 1), "gate 'rx' follows parameter 1, but the circuit has 1, counted from 0"),
    ],
)
def test_one_sentence_for_each_mistake(arguments, message):
    with pytest.raises(CircuitError, match=message) as caught:
        Circuit(*arguments)
    assert str(caught.value).endswith(".")
    assert [Circuit(1, [], 1, inputs).num_weights for inputs in (0, 1)] == [1, 0]


# Qiskit ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def qiskit():
    return pytest.importorskip("qiskit", reason="Qiskit is not installed")


def overlap(circuit, bound):
    """|<ours|Qiskit's>| at the values 0.3, 0.6, ... of our parameters, for their circuit with bound ones."""
    from qiskit.quantum_info import Statevector

    values = 0.3 * torch.arange(1, circuit.num_parameters + 1)
    return abs(Statevector(bound).data.conj() @ dense_state(circuit, values))


def test_there_and_back(qiskit):
    gates = [*BELL, Gate("rzz", (1, 0), (Affine(2, 0.5, 1.0),)), Gate("cu", (0, 1), (0.1, Affine(0), 0.3, Affine(2, -1.0)))]
    circuit = Circuit(2, gates, num_parameters=3)
    there = circuit.to_qiskit()
    back = Circuit.from_qiskit(there)
    # Qiskit knows no parameters that nothing follows.
    assert back.num_parameters == 2
    renumbered = {0: 0, 1: 2}
    for gate, original in zip(back.gates, gates, strict=True):
        assert gate[:2] == original[:2]
        for angle, wanted in zip(gate.angles, original.angles, strict=True):
            if isinstance(wanted, Affine):
                assert renumbered[angle.index] == wanted.index
                assert (angle.scale, angle.offset) == pytest.approx((wanted.scale, wanted.offset))
            else:
                assert angle == wanted
    assert [parameter.name for parameter in there.parameters] == ["theta[0]", "theta[2]"]


def test_parameters_keep_qiskit_s_order(qiskit):
    from qiskit.circuit import Parameter, ParameterVector

    b, a, many = Parameter("b"), Parameter("a"), ParameterVector("x", 11)
    circuit = qiskit.QuantumCircuit(3)
    circuit.rx(b, 0)
    circuit.ry(2 * a - 1, 1)
    circuit.rz(-many[10] / 4, 0)
    circuit.rx(many[2], 2)
    ours = Circuit.from_qiskit(circuit)
    assert ours.num_parameters == 4
    # By name, and elements of a vector by number, as assign_parameters takes a list.
    assert [gate.angles for gate in ours.gates] == [
        (Affine(1),),
        (Affine(0, 2.0, -1.0),),
        (Affine(3, -0.25),),
        (Affine(2),),
    ]
    in_our_order = Circuit.from_qiskit(circuit, inputs=[many[10], b], weights=[many[2], a])
    assert (in_our_order.num_inputs, in_our_order.num_parameters) == (2, 4)
    assert [gate.angles[0].index for gate in in_our_order.gates] == [1, 3, 0, 2]
    assert overlap(ours, circuit.assign_parameters([0.3, 0.6, 0.9, 1.2])) == pytest.approx(1)


def test_gates_outside_the_table_become_their_definitions(qiskit):
    from qiskit.circuit import Gate as QiskitGate
    from qiskit.circuit import Parameter
    from qiskit.circuit.library import QFTGate, RYGate, UnitaryGate

    x = Parameter("x")
    inner = qiskit.QuantumCircuit(2, name="block", global_phase=1.0)
    inner.ry(3 * x, 1)
    inner.cx(1, 0)
    named_as_ours = QiskitGate("rx", 1, [])
    named_as_ours.definition = qiskit.QuantumCircuit(1)
    named_as_ours.definition.h(0)
    circuit = qiskit.QuantumCircuit(4)
    circuit.h(range(4))
    circuit.append(inner.to_gate(), [3, 1])
    circuit.barrier()
    circuit.append(RYGate(x).control(2, ctrl_state=1, annotated=False), [0, 2, 3])
    circuit.mcx([0, 1, 2], 3)
    circuit.append(QFTGate(3), [0, 1, 3])
    circuit.append(UnitaryGate([[0, 1j], [1, 0]]), [2])
    circuit.append(named_as_ours, [0])
    ours = Circuit.from_qiskit(circuit)
    assert overlap(ours, circuit.assign_parameters([0.3])) == pytest.approx(1)


def test_permutations_are_those_of_qiskit(qiskit):
    from qiskit.circuit.library import PermutationGate

    circuit = qiskit.QuantumCircuit(4)
    for qubit in range(4):
        circuit.ry(0.5 + qubit, qubit)
    circuit.append(PermutationGate([2, 0, 3, 1]), [3, 0, 1, 2])
    assert overlap(Circuit.from_qiskit(circuit), circuit) == pytest.approx(1)


def test_an_angle_that_can_not_be_had_at_0_is_linear_all_the_same(qiskit):
    x = qiskit.circuit.Parameter("x")
    circuit = qiskit.QuantumCircuit(1)
    circuit.rx(x * x / x, 0)
    assert Circuit.from_qiskit(circuit).gates[0].angles == (Affine(0),)


def test_parameters_in_no_order_and_names_of_parameters_are_refused(qiskit):
    x, y = (qiskit.circuit.Parameter(name) for name in "xy")
    circuit = qiskit.QuantumCircuit(1)
    circuit.rx(x + 0, 0)
    circuit.ry(y, 0)
    for given, message in (
        ({"inputs": {x}}, "inputs is a set, whose order changes from process to process; give a list"),
        ({"inputs": "x"}, "inputs is 'x'; it must be a list"),
        ({"weights": ["x", y]}, "weights holds 'x', which is no Parameter"),
    ):
        with pytest.raises(CircuitError, match=message):
            Circuit.from_qiskit(circuit, **given)


def test_what_is_no_list_of_gates_is_refused():
    with pytest.raises(CircuitError, match="gates is None; it must be a list of gates"):
        Circuit(1, None)


def test_what_is_no_circuit_is_refused():
    for wrong in ("bell", Circuit(2, BELL)):
        with pytest.raises(CircuitError, match=f"from_qiskit was given a {type(wrong).__name__}; it takes a QuantumCircuit"):
            Circuit.from_qiskit(wrong)


def test_without_qiskit(monkeypatch):
    monkeypatch.setitem(sys.modules, "qiskit", None)
    with pytest.raises(CircuitError, match=r"Qiskit isn't installed, of which a circuit is wanted: pip install"):
        Circuit(2, BELL).to_qiskit()


def test_what_is_no_unitary_circuit_is_refused(qiskit):
    from qiskit.circuit import Parameter

    x, y = Parameter("x"), Parameter("y")
    for build, message in (
        (
            lambda c: c.measure(0, 0),
            "the operation 'measure', which is not made of unitary gates; call remove_final_measurements",
        ),
        (
            lambda c: (c.measure(0, 0), c.h(0)),
            "the operation 'measure', which is not made of unitary gates; gates follow it: leave it out",
        ),
        (lambda c: c.reset(0), "the operation 'reset', which is not made of unitary gates"),
        (lambda c: c.initialize([1, 0], 0), "the operation 'initialize'.*begins with a reset: take prepare_state"),
        (lambda c: c.if_test((c.clbits[0], 1), qiskit.QuantumCircuit(1, 1), [0], [0]), "the operation 'if_else'"),
        (lambda c: c.rx(x * y, 0), r"an angle of gate 'rx' is x\*y; it must be a number or linear in one parameter"),
        (lambda c: c.rx(x * x, 0), r"linear in one parameter.* Put a new parameter in its place"),
        (lambda c: c.rx(x.sin(), 0), "linear in one parameter"),
        (lambda c: c.rx(x + y, 0), r"is x \+ y; it must be"),
        (lambda c: c.rv(x, 0.1, 0.2, 0), "Qiskit doesn't say of which gates 'rv' is made"),
    ):
        circuit = qiskit.QuantumCircuit(1, 1)
        build(circuit)
        with pytest.raises(CircuitError, match=message):
            Circuit.from_qiskit(circuit)
