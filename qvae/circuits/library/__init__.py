"""Well-known circuits, to be taken by name or composed: encodings of data, ansatzes with weights, and ways to join them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from qvae.circuits.circuit import Circuit
from qvae.circuits.library.amplitudes import AmplitudeAngles, amplitude_encoding
from qvae.circuits.library.ansatzes import brickwork, hardware_efficient, matchgate, strongly_entangling
from qvae.circuits.library.composition import compose, reuploading
from qvae.circuits.library.diagonals import diagonal
from qvae.circuits.library.encodings import angle_encoding
from qvae.circuits.library.evolution import evolution
from qvae.circuits.library.fourier import fourier
from qvae.circuits.library.qaoa import qaoa
from qvae.circuits.library.tensor_networks import mera, tree

__all__ = [
    "ANSATZES",
    "ENCODINGS",
    "AmplitudeAngles",
    "amplitude_encoding",
    "angle_encoding",
    "brickwork",
    "compose",
    "diagonal",
    "evolution",
    "fourier",
    "hardware_efficient",
    "matchgate",
    "mera",
    "qaoa",
    "reuploading",
    "strongly_entangling",
    "tree",
]

ENCODINGS: dict[str, Callable[[int], Circuit]] = {
    "rx": partial(angle_encoding, rotation="rx"),
    "ry": partial(angle_encoding, rotation="ry"),
    "rz": partial(angle_encoding, rotation="rz"),
    "h_rz": partial(angle_encoding, rotation="rz", hadamard=True),
    "amplitude": amplitude_encoding,
}
"""From a number of qubits to a circuit of inputs alone; ``num_inputs`` of it says how many."""

ANSATZES: dict[str, Callable[[int, int], Circuit]] = {
    "hardware_efficient": hardware_efficient,
    "strongly_entangling": strongly_entangling,
    "brickwork": brickwork,
    "matchgate": matchgate,
    "tree": tree,
    "mera": mera,
}
"""From numbers of qubits and layers to a circuit of weights alone; ``num_weights`` of it says how many."""
