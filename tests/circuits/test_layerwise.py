"""Layers of a circuit begin to learn one after another, under any optimizer and of every configured circuit."""

import pytest
import torch

import qvae
from qvae.circuits.layerwise import Layerwise
from qvae.circuits.library import angle_encoding, compose, hardware_efficient
from qvae.config.circuit import CircuitConfig
from qvae.models.circuit_block import CircuitBlock
from qvae.training.optimizers import QNSPSA, SPSA, QuantumNaturalGradient


def test_layer_l_begins_after_its_part_and_all_have_begun_at_the_end_of_it():
    layerwise = Layerwise(ends=(3, 5, 9, 12), part=0.5)
    assert [layerwise.begun(progress) for progress in (0.0, 0.124, 0.125, 0.374, 0.375, 0.5, 1.0)] == [1, 1, 2, 3, 4, 4, 4]


def test_several_sets_of_weights_are_held_side_by_side():
    weights = torch.ones(2, 3, 5)
    Layerwise(ends=(1, 4, 5), part=1.0).hold(weights, progress=0.4)
    assert torch.equal(weights, torch.tensor([1.0, 1, 1, 1, 0]).expand(2, 3, 5))


OPTIMIZERS = {
    "adam": lambda layer: torch.optim.Adam(layer.parameters(), 0.1),
    "qng": QuantumNaturalGradient,
    "spsa": lambda layer: SPSA(layer.parameters(), seed=0),
    "qn-spsa": lambda layer: QNSPSA(layer, seed=0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_has_not_begun_stays_at_zero_and_what_has_learns(name):
    torch.manual_seed(0)
    layer = qvae.CircuitLayer(compose(angle_encoding(2), hardware_efficient(2, 3, ("ry",)))).double()
    layerwise, optimizer, x = Layerwise((2, 4, 6), part=0.75), OPTIMIZERS[name](layer), torch.rand(4, 2).double()

    def loss():
        optimizer.zero_grad()
        found = (layer(x) - 0.3).square().mean()
        if found.requires_grad:
            found.backward()
        return found.detach()

    layerwise.hold(layer.weight, 0.0)
    for step in range(8):
        before = layer.weight.detach().clone()
        optimizer.step(loss)
        layerwise.hold(layer.weight, step / 8)
        end = (2, 2, 4, 4, 6, 6, 6, 6)[step]
        assert not layer.weight[end:].any()
        assert (layer.weight[:end] != before[:end]).all()


@pytest.mark.parametrize(
    "settings", [{}, {"reuploading": True}, {"arm": "unentangled"}, {"ansatz": "hardware_efficient", "encoding": "amplitude"}]
)
def test_layers_end_where_a_shallower_circuit_does(settings):
    config = CircuitConfig(qubits=3, layers=3, layerwise=0.5, **settings)
    ends = CircuitBlock.from_config(config).layerwise.ends
    sizes = [CircuitBlock.from_config(config.model_copy(update={"layers": n})).circuit.num_weights for n in (1, 2, 3)]
    assert list(ends) == sizes


def test_a_frozen_circuit_keeps_its_first_weights():
    assert CircuitBlock.from_config(CircuitConfig(qubits=3, layerwise=0.5, arm="frozen")).layerwise is None
