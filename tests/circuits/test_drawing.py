"""Circuits as text: what is drawn of every gate, where, and how lines are broken."""

import math
import textwrap

import pytest

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.drawing import affine_text, angle_text, gate_symbol
from qvae.circuits.gates import GATES
from qvae.circuits.library import angle_encoding, compose, strongly_entangling


def test_wires_boxes_controls_and_names_of_parameters():
    gates = [
        Gate("ry", (0,), (Affine(0),)),
        Gate("rzz", (0, 2), (math.pi / 2,)),
        Gate("cswap", (1, 0, 2)),
        Gate("sdg", (1,)),
        Gate("ccx", (2, 0, 1)),
        Gate("cry", (2, 1), (Affine(2, -0.5, 1.0),)),
    ]
    drawn = Circuit(3, gates, num_parameters=3, num_inputs=1).draw()
    assert drawn == textwrap.dedent(
        """\
        q0: ──RY(x0)───RZZ(π/2)───×───────●────────────────
                           │      │       │
        q1: ───────────────┼──────●──S†───⊕──RY(-0.5w1+1)──
                           │      │       │        │
        q2: ───────────RZZ(π/2)───×───────●────────●───────"""
    )


def test_the_order_on_a_wire_is_kept_and_lines_keep_to_the_width():
    circuit = compose(angle_encoding(11), strongly_entangling(11, 3))
    lines = circuit.draw(width=60).splitlines()
    assert max(len(line) for line in lines) <= 60
    rows = [line for line in lines if line.startswith("q")]
    blocks = [rows[start : start + 11] for start in range(0, len(rows), 11)]
    assert len(blocks) > 3
    wires = ["".join(parts) for parts in zip(*blocks, strict=True)]
    for qubit, wire in enumerate(wires):
        assert wire.startswith(f"q{qubit}: ")
        names = [f"(x{a.index})" if a.index < 11 else f"(w{a.index - 11})" for g in circuit.gates if g.qubits == (qubit,)
                 for a in g.angles]  # fmt: skip
        places = [wire.index(name) for name in names]
        assert places == sorted(places)
    assert all(row.endswith("»") for block in blocks[:-1] for row in block)
    assert not any("»" in row for row in blocks[-1])


def test_gates_that_cross_do_not_share_a_column():
    crossing = Circuit(3, [Gate("cx", (0, 2)), Gate("h", (1,))])
    assert [len(column) for column in crossing.columns()] == [1, 1]
    beside = Circuit(3, [Gate("cx", (0, 1)), Gate("h", (2,))])
    assert [len(column) for column in beside.columns()] == [2]


@pytest.mark.parametrize("name", GATES)
def test_every_gate_has_a_label_on_each_qubit(name):
    kind = GATES[name]
    symbol = gate_symbol(name, tuple(range(kind.num_qubits)), ["a"] * kind.num_angles)
    assert len(symbol.labels) == kind.num_qubits
    assert sum("a" in label for label in symbol.labels) >= min(kind.num_angles, 1)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("c3sx", ("●", "●", "●", "SX")),
        ("cz", ("●", "Z")),
        ("csdg", ("●", "S†")),
        ("swap", ("×", "×")),
        ("rzx", ("RZX₀(a)", "RZX₁")),
        ("cu", ("●", "U(a, a, a, a)")),
    ],
)
def test_controls_are_points(name, labels):
    assert gate_symbol(name, tuple(range(len(labels))), ["a"] * GATES[name].num_angles).labels == labels


def test_angles_are_fractions_of_pi_where_they_are():
    assert [angle_text(angle) for angle in (0.0, math.pi, -math.pi / 3, 1.5)] == ["0", "π", "-π/3", "1.5"]
    assert [angle_text(angle) for angle in (3.1416, 0.79)] == ["3.14", "0.79"]  # near one, but not one
    assert [affine_text("x", *pair) for pair in ((1, 0), (-1, 0.5), (2.5, -math.pi / 2))] == ["x", "-x+0.5", "2.5x-π/2"]


def test_a_circuit_without_gates_and_a_short_repr():
    circuit = Circuit(2, [], num_parameters=3, num_inputs=1)
    assert circuit.draw() == "q0: ─\n\nq1: ─"
    assert repr(circuit) == "<Circuit: 2 qubits, 0 gates, 1 inputs, 2 weights>"
