"""Decay of a circuit's gradients against closed forms, and the circuits of a configuration at other sizes."""

import pytest
import torch

from qvae.circuits.gradients.variance import gradient_variance
from qvae.circuits.initialisation import uniform
from qvae.circuits.library.costs import local_cost
from qvae.circuits.library.placed import placed_gates
from qvae.config.load import load_config
from qvae.diagnosis.plateau import circuit_family, curves, look_for_plateau
from qvae.errors import CircuitError


def product_circuit(qubits, layers):
    """One RX a qubit."""
    return placed_gates(qubits, [("rx", (qubit,)) for qubit in range(qubits)]), None


def test_the_product_circuit_decays_as_cerezo_says():
    everywhere, single = curves(product_circuit, "qubits", [(2, 1), (3, 1), (4, 1)], starts=4000, seed=3)
    for n, whole, local in zip((2, 3, 4), everywhere.variances, single.variances, strict=True):
        assert abs(whole.variance - (1 / 8) * (3 / 8) ** (n - 1)) < 4 * whole.stderr
        assert abs(local.variance - 1 / (8 * n**2)) < 4 * local.stderr
    assert everywhere.sizes == single.sizes == (2, 3, 4)
    assert everywhere.fixed == single.fixed == "1 layer"
    assert (everywhere.cost, single.cost, everywhere.against) == ("global", "local", "qubits")
    # log2(8/3) bits a qubit, and the square of the number of qubits.
    assert everywhere.law == "exponential"
    assert abs(everywhere.decay.rate - 1.415) < 4 * everywhere.decay.stderr
    assert single.law == "power"
    assert abs(single.decay.rate - 2) < 4 * single.decay.stderr


def test_sizes_of_which_there_is_no_circuit_are_left_out():
    def even(qubits, layers):
        if qubits % 2:
            raise CircuitError("odd")
        return product_circuit(qubits, layers)

    found, _ = curves(even, "qubits", [(2, 1), (3, 1), (4, 1)], starts=10, seed=0)
    assert found.sizes == (2, 4)
    deeper, _ = curves(product_circuit, "layers", [(3, 1), (3, 2)], starts=10, seed=0)
    assert (deeper.against, deeper.fixed, deeper.sizes) == ("layers", "3 qubits", (1, 2))
    assert found.decay is None


@pytest.mark.parametrize("name", ["digits-vqvae", "digits-vqgan"])
def test_the_circuit_of_a_configuration_is_itself_at_its_own_size(name):
    config = load_config(name).model
    circuit, inputs = circuit_family(config)(config.circuit.qubits, config.circuit.layers)
    assert circuit.num_qubits == config.circuit.qubits
    assert len(inputs) == circuit.num_inputs
    assert circuit_family(config)(2, 1)[0].num_qubits == 2
    # The latent that is encoded is drawn by the seed, whatever else was drawn before.
    torch.manual_seed(0)
    assert torch.equal(circuit_family(config, 7)(2, 1)[1], circuit_family(config, 7)(2, 1)[1])
    assert not torch.equal(circuit_family(config, 7)(2, 1)[1], circuit_family(config, 8)(2, 1)[1])


@pytest.mark.parametrize("key", ["ansatz=tree", "reuploading=true", "arm=unentangled"])
def test_every_remedy_is_tried(key):
    config = load_config("digits-vqvae", ["model.circuit.qubits=4", "model.circuit.layers=2", f"model.circuit.{key}"]).model
    found = look_for_plateau(config, starts=4, seed=0)
    assert [(curve.against, curve.sizes[-1]) for curve in found.curves] == 2 * [("qubits", 4)] + 2 * [("layers", 4)]
    assert "identity blocks, 2 layers" in found.remedies[-1].name or key == "arm=unentangled"
    assert found.remedies[0].name == "uniform angles"
    circuit, inputs = circuit_family(config)(4, 2)
    uniformly = gradient_variance(circuit, local_cost(4), None, 4, uniform, inputs, seed=0)
    assert found.remedies[0].squares["local"] == pytest.approx(uniformly.mean_square) != uniformly.variance
    assert len(found.remedies) == (4 if key == "arm=unentangled" else 5)
    assert all(square >= 0 for remedy in found.remedies for square in remedy.squares.values())
