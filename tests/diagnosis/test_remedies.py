"""What is tried on a circuit is what it says: Adam from each start by itself, and layers that begin one after another."""

import pytest
import torch

import qvae
from qvae.circuits.initialisation import uniform
from qvae.config.load import load_config
from qvae.diagnosis import remedies as module
from qvae.diagnosis.plateau import circuit_family
from qvae.diagnosis.remedies import COSTS, remedies


def test_costs_are_those_of_adam_from_each_start_by_itself():
    config = load_config("digits-vqvae", ["model.circuit.qubits=2", "model.circuit.layers=1"]).model
    family = circuit_family(config)
    found = remedies(config, 2, family, starts=5, seed=3)[0]
    circuit, inputs = family(2, 1)
    for name, cost in COSTS.items():
        ends = []
        for angles in uniform(circuit, module.TRIED_STARTS, torch.Generator().manual_seed(3)):
            layer = qvae.CircuitLayer(circuit, [cost(2)]).double()
            with torch.no_grad():
                layer.weight.copy_(angles)
            optimizer = torch.optim.Adam(layer.parameters(), 0.1)
            losses = []
            for _ in range(module.TRIED_STEPS + 1):
                optimizer.zero_grad()
                loss = layer(inputs.unsqueeze(0)).sum()
                loss.backward()
                optimizer.step()
                losses.append(float(loss.detach()))
            ends.append((losses[0], losses[-1]))
        assert found.costs[name] == pytest.approx(tuple(torch.tensor(ends).double().mean(0).tolist()), abs=1e-6)


def test_layers_begin_one_after_another(monkeypatch):
    config = load_config("digits-vqvae", ["model.circuit.qubits=3", "model.circuit.layers=2"]).model
    held = []
    whole = module.Layerwise.hold

    def hold(layerwise, weight, progress):
        whole(layerwise, weight, progress)
        held.append((layerwise.ends, int((weight != 0).any(0).sum())))

    monkeypatch.setattr(module.Layerwise, "hold", hold)
    before, after = next(
        each for each in remedies(config, 3, circuit_family(config), starts=3, seed=0) if each.name.startswith("layerwise")
    ).costs["local"]
    assert after < before
    # A brick layer of three qubits is one block of fifteen angles; the second begins at a quarter of the training.
    assert {ends for ends, _ in held} == {(15, 30)}
    numbers = [number for _, number in held][: module.TRIED_STEPS]
    quarter = -(-module.TRIED_STEPS // 4)
    assert set(numbers[:quarter]) == {15}
    assert min(numbers[quarter:]) > 15
