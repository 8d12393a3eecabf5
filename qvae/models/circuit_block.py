"""The quantum part of a model: latents to angles, angles to a circuit's expectations or bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qvae.circuits.circuit import Affine, Circuit
from qvae.circuits.executor import Executor
from qvae.circuits.layer import CircuitLayer
from qvae.circuits.layerwise import Layerwise
from qvae.circuits.library import ANSATZES, ENCODINGS, AmplitudeAngles, compose
from qvae.circuits.library.composition import joined, layers_of
from qvae.config.circuit import CircuitConfig
from qvae.errors import CircuitError, nearest

Made = TypeVar("Made")


class CircuitBlock(nn.Module):
    """A circuit layer behind the map from latents to its angles, in full precision whatever the networks' is.

    Args:
        angles: latents (B, n) to the circuit's inputs (B, I).
        layer: of I inputs.
        num_latents: n.
        layerwise: how the layers begin to learn; None is all of them at once.

    >>> block = CircuitBlock.from_config(CircuitConfig(qubits=3))
    >>> block(torch.zeros(5, block.num_latents)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self, angles: nn.Module, layer: CircuitLayer, num_latents: int, layerwise: Layerwise | None = None
    ) -> None:
        super().__init__()
        self.angles, self.layer, self.num_latents, self.layerwise = angles, layer, num_latents, layerwise

    @classmethod
    def from_config(cls, config: CircuitConfig, executor: Executor | None = None) -> CircuitBlock:
        """The block that a configuration names; its weights are drawn by torch's global generator.

        Raises:
            CircuitError: there is no such encoding, ansatz or observable, or these make no circuit together, or one that is
                blind to its inputs.
            ExecutorError: the executor takes fewer qubits.
        """
        encoding, ansatz = _parts(config)
        if config.encoding == "rz" and not (config.reuploading and config.layers > 1):
            raise _blind("latent", "model.circuit.reuploading with 2 layers or more")

        def of_layers(number: int) -> Circuit:
            if config.reuploading:
                return joined(_layers_behind(encoding, ansatz, config)[:number], shares_inputs=True)
            return compose(encoding, ansatz(config.qubits, number))

        circuit = of_layers(config.layers)
        layer = _layer(circuit, config, executor)
        layerwise = None
        if config.layerwise and layer.weight.requires_grad:
            shallower = [_arm(of_layers(number), config) for number in range(1, config.layers)]
            layerwise = Layerwise((*(each.num_weights for each in shallower), layer.circuit.num_weights), config.layerwise)
        if config.encoding == "amplitude":
            return cls(nn.Sequential(_Normalised(), AmplitudeAngles(config.qubits)), layer, 2**config.qubits, layerwise)
        return cls(_HalfATurn() if config.angles == "tanh" else nn.Identity(), layer, circuit.num_inputs, layerwise)

    @classmethod
    def styled(cls, config: CircuitConfig, num_inputs: int, executor: Executor | None = None) -> CircuitBlock:
        """A block whose inputs (B, num_inputs) enter before every layer of the ansatz, by an affine map of its own.

        As Bravo-Prieto et al. 2022 (arXiv:2110.06933) have it: noise that enters a pure state at its start alone gives
        samples that gather at the average of the data.

        Raises:
            CircuitError, ExecutorError: as :meth:`from_config`.
        """
        encoding, ansatz = _parts(config)
        if config.encoding == "rz" and config.layers == 1:
            raise _blind("noise", "model.circuit.layers to 2 or more")
        circuit = joined(_layers_behind(encoding, ansatz, config), shares_inputs=False)
        layer = _layer(circuit, config, executor)
        angles = nn.Linear(num_inputs, circuit.num_inputs)
        nn.init.normal_(angles.weight, std=num_inputs**-0.5)  # so that normal noise turns a qubit by a radian or so,
        nn.init.uniform_(angles.bias, -torch.pi, torch.pi)  # from anywhere: at 0 <Z> hardly changes
        return cls(angles, layer, num_inputs)

    @property
    def circuit(self) -> Circuit:
        """What is run."""
        return self.layer.circuit

    def forward(self, latents: Tensor) -> Tensor:
        """Expectations (B, K) of the observables."""
        with torch.autocast(latents.device.type, enabled=False):
            return self.layer(self.angles(latents.float()))

    def probabilities(self, latents: Tensor) -> Tensor:
        """Of all basis states, (B, 2**q), exact; as :meth:`~qvae.circuits.layer.CircuitLayer.probabilities`."""
        with torch.autocast(latents.device.type, enabled=False):
            return self.layer.probabilities(self.angles(latents.float()))

    def sample(self, latents: Tensor, shots: int) -> Tensor:
        """Measured bits, (B, shots, q), int8."""
        with torch.autocast(latents.device.type, enabled=False):
            return self.layer.sample(self.angles(latents.float()), shots)


def _blind(inputs: str, remedy: str) -> CircuitError:
    """What is wrong with a circuit that begins with rotations about z, and has no others of its inputs."""
    return CircuitError(
        f"model.circuit.encoding rz does nothing to |0>, so that no {inputs} would be seen; take h_rz, or set {remedy}."
    )


def _parts(config: CircuitConfig) -> tuple[Circuit, Callable[..., Circuit]]:
    """The encoding, and what makes the ansatz."""
    return _named(ENCODINGS, "encoding", config.encoding)(config.qubits), _named(ANSATZES, "ansatz", config.ansatz)


def _layers_behind(encoding: Circuit, ansatz: Callable[[int, int], Circuit], config: CircuitConfig) -> list[Circuit]:
    """The layers of the ansatz, each behind the encoding."""
    return [compose(encoding, layer) for layer in layers_of(ansatz, config.qubits, config.layers)]


def _layer(circuit: Circuit, config: CircuitConfig, executor: Executor | None) -> CircuitLayer:
    """The layer of a circuit, with the first weights and without the gates that the configuration says."""
    layer = CircuitLayer(_arm(circuit, config), observables(config), executor)
    nn.init.normal_(layer.weight, std=config.initial_weights)
    layer.weight.requires_grad_(config.arm != "frozen")
    return layer


def _arm(circuit: Circuit, config: CircuitConfig) -> Circuit:
    return unentangled(circuit) if config.arm == "unentangled" else circuit


def unentangled(circuit: Circuit) -> Circuit:
    """The gates on one qubit alone, with the weights that are left.

    >>> from qvae.circuits.library import brickwork
    >>> unentangled(brickwork(2, 1)).num_weights  # of 15, those of rxx, ryy and rzz are gone
    12
    """
    gates = [gate for gate in circuit.gates if len(gate.qubits) == 1]
    used = sorted({angle.index for gate in gates for angle in gate.angles if isinstance(angle, Affine)})
    kept = [*range(circuit.num_inputs), *(index for index in used if index >= circuit.num_inputs)]
    number = {index: place for place, index in enumerate(kept)}

    def moved(angle: float | Affine) -> float | Affine:
        return replace(angle, index=number[angle.index]) if isinstance(angle, Affine) else angle

    gates = [gate._replace(angles=tuple(map(moved, gate.angles))) for gate in gates]
    return Circuit(circuit.num_qubits, gates, len(kept), circuit.num_inputs)


def perceptron(block: CircuitBlock) -> nn.Sequential:
    """One hidden layer of tanh between latents and as many numbers in [-1, 1] as the block has expectations.

    It is so wide that it has as many parameters as the block has weights, as nearly as can be.
    """
    return perceptron_like(block, block.num_latents, len(block.layer.observables), nn.Tanh())


def perceptron_like(block: nn.Module, inputs: int, outputs: int, last: nn.Module) -> nn.Sequential:
    """As :func:`perceptron`, of any block and to numbers in the range of a ``last`` activation."""
    weights = sum(weight.numel() for weight in block.parameters())
    hidden = max(1, round((weights - outputs) / (inputs + outputs + 1)))
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs), last)


def observables(config: CircuitConfig) -> list[list[tuple[str, float]]]:
    """The Pauli strings that a decoder sees, in their order.

    >>> observables(CircuitConfig(qubits=2, measured="zz"))
    [[('IZ', 1.0)], [('ZI', 1.0)], [('ZZ', 1.0)]]
    """
    if isinstance(config.measured, list):
        return [[(label, 1.0)] for label in config.measured]
    orders = (1,) if config.measured == "z" else (1, 2)
    chosen = (qubits for order in orders for qubits in combinations(range(config.qubits), order))
    return [[("".join("Z" if q in qubits else "I" for q in reversed(range(config.qubits))), 1.0)] for qubits in chosen]


class _HalfATurn(nn.Module):
    """pi/2 (1 + tanh(u)): an angle between 0 and pi, from |0> to |1>, on the way of which <Z> never turns back."""

    def forward(self, latents: Tensor) -> Tensor:
        return torch.pi / 2 * (1 + torch.tanh(latents))


class _Normalised(nn.Module):
    """u / |u|: amplitudes have the norm 1."""

    def forward(self, latents: Tensor) -> Tensor:
        return F.normalize(latents, dim=-1)


def _named(table: Mapping[str, Callable[..., Made]], key: str, name: str) -> Callable[..., Made]:
    if name not in table:
        raise CircuitError(f"model.circuit.{key} is {name!r}: {nearest(name, table)}.")
    return table[name]
