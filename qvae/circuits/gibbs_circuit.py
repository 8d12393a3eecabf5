"""The Gibbs ansatz as a circuit of standard gates."""

from __future__ import annotations

from itertools import groupby
from math import pi

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.gibbs_ansatz import GibbsAnsatz


def gibbs_circuit(ansatz: GibbsAnsatz) -> Circuit:
    """The ansatz on 2n qubits, spin i on qubit i, with one parameter for each angle, in their order.

    All terms with the same first two letters share one change of basis, so that each coupling costs one two-qubit rotation.
    """
    n = ansatz.num_spins
    gates = []
    for i in range(n):
        gates += [Gate("h", (i,)), Gate("cx", (i, n + i))]
    terms = zip(ansatz.strings, map(Affine, range(ansatz.num_angles)), strict=True)
    for (letters, (spin, ancilla)), group in groupby(terms, key=lambda term: (term[0][0][:2], term[0][1][:2])):
        # Y_s Z_a or Y_s X_a becomes Z_s, and goes back after the rotations.
        turn = [Gate("h", (ancilla,))] if letters == "YX" else []
        gates += [Gate("rx", (spin,), (pi / 2,)), *turn, Gate("cx", (ancilla, spin))]
        for (_, (_, _, *partner)), angle in group:
            gates.append(Gate("rzz" if partner else "rz", (spin, *partner), (angle,)))
        gates += [Gate("cx", (ancilla, spin)), *turn, Gate("rx", (spin,), (-pi / 2,))]
    return Circuit(2 * n, gates, ansatz.num_angles)
