"""Where weights start: the ranges, spreads and places of the angles."""

from math import pi

import torch

from qvae.circuits.initialisation import FirstLayers, IdentityBlocks, SmallAngles, uniform
from qvae.circuits.library import hardware_efficient

CIRCUIT = hardware_efficient(2, 3)  # of 18 weights
STARTS = 1000


def drawn(start, circuit=CIRCUIT):
    found = start(circuit, STARTS, torch.Generator().manual_seed(0))
    assert found.shape == (STARTS, circuit.num_weights)
    assert found.dtype == torch.float64
    assert torch.equal(found, start(circuit, STARTS, torch.Generator().manual_seed(0)))
    return found


def is_a_whole_turn(angles):
    """Uniform in 0 ... 2 pi: range, mean and variance."""
    number = angles.numel()
    assert 0 <= angles.min() < 0.1
    assert 2 * pi - 0.1 < angles.max() < 2 * pi
    assert abs(angles.mean() - pi) < 5 * pi / (3 * number) ** 0.5
    assert abs(angles.var() / (pi**2 / 3) - 1) < 5 * (0.8 / number) ** 0.5


def test_uniform_angles_are_anywhere_in_a_whole_turn():
    is_a_whole_turn(drawn(uniform))


def test_small_angles_are_normal_about_0():
    angles = drawn(SmallAngles(0.2)) / 0.2
    number = angles.numel()
    assert abs(angles.mean()) < 5 / number**0.5
    assert abs(angles.var() - 1) < 5 * (2 / number) ** 0.5
    assert abs((angles**4).mean() - 3) < 5 * (96 / number) ** 0.5


def test_only_the_first_layers_turn():
    angles = drawn(FirstLayers(7))
    is_a_whole_turn(angles[:, :7])
    assert not angles[:, 7:].any()


def test_each_block_and_start_has_angles_of_its_own_twice():
    blocks = IdentityBlocks(hardware_efficient(2, 1), blocks=3)
    angles = drawn(blocks, blocks.circuit).unflatten(1, (3, 2, 6))
    assert torch.equal(angles[:, :, 0], angles[:, :, 1])
    is_a_whole_turn(angles[:, :, 0])
    assert angles[:, :, 0].unique().numel() == STARTS * 18
