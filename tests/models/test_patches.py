"""Patches of pixels from circuits with ancillas: beside amplitudes by hand, and measured bits beside exact probabilities."""

import math

import pytest
import torch

from qvae.circuits.executor import ExecutorCapabilities, SeededExecutor
from qvae.circuits.registry import load_executor
from qvae.config.circuit import CircuitConfig
from qvae.models.patches import Patches

CONFIG = CircuitConfig(qubits=3, layers=2, ansatz="strongly_entangling")


class Shots(SeededExecutor):
    """Bits as they are measured."""

    capabilities = ExecutorCapabilities()
    shots = 40_000

    def _sample(self, circuit, values, shots):
        return load_executor("statevector", seed=1).sample(circuit, values, shots)


def patches(num_pixels=7):
    torch.manual_seed(0)
    return Patches.from_config(CONFIG, 2, 1, num_pixels)


def test_pixels_are_probabilities_of_the_states_whose_ancilla_is_0():
    made, inputs = patches(), torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
    found = made(inputs)
    assert found.shape == (5, 7)  # two patches of four, the last pixel cut off
    for place, block in enumerate(made.blocks):
        circuit, layer = block.circuit, block.layer
        amplitudes = layer.executor.amplitudes(circuit, block.angles(inputs), layer.weight).detach()
        by_hand = [[abs(complex(row[state])) ** 2 for state in range(8) if not state & 0b100] for row in amplitudes]
        for row, values in enumerate(by_hand):
            grey = [(8 * value - 0.15) / 1.35 for value in values]  # of 8 states
            expected = [min(1, max(0, each)) for each in grey][: 4 if place == 0 else 3]
            assert found[row, 4 * place : 4 * place + 4].tolist() == pytest.approx(expected, abs=1e-5)


def test_measured_bits_give_the_same_pixels():
    made, inputs = patches(), torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact = made(inputs)
        made.blocks[0].layer.executor = Shots()  # of the first patch, as where a run's executor is exchanged
        measured = made(inputs)
    # A share p of N shots has the error sqrt(p (1-p) / N).
    tolerance = 5 * 0.5 / math.sqrt(Shots.shots) * 8 / 1.35
    assert float((measured - exact).abs().max()) < tolerance
    for patch in (slice(4), slice(4, None)):  # all of them are measured
        assert not torch.equal(measured[:, patch], exact[:, patch])


def test_noise_in_every_layer_gives_more_than_one_image():
    with torch.no_grad():
        assert float(patches()(torch.randn(100, 2)).var(0).mean()) > 0.01
