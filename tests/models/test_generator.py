"""The generator of a VQGAN: where it begins, whatever stands in the circuit's place."""

import pytest
import torch

from qvae.config.circuit import CircuitConfig
from qvae.config.schema import ModelConfig
from qvae.models.circuit_block import CircuitBlock
from qvae.models.generator import LatentGenerator


def test_noise_of_samples_has_the_temperature():
    """Of a linear generator: latents of twice the noise are twice as far from those of none."""
    config = ModelConfig(kind="vqgan", circuit={"qubits": 2, "arm": "gaussian"}).circuit
    made = LatentGenerator.from_config(config, noise=4, num_latents=3)
    drawn = []
    for made.temperature in (0.0, 1.0, 2.0):
        drawn.append(made.draw(50, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(drawn[0], drawn[0][:1].expand_as(drawn[0]))
    assert (drawn[1] - drawn[0]).abs().max() > 0.1
    assert torch.allclose(drawn[2] - drawn[0], 2 * (drawn[1] - drawn[0]), atol=1e-5)


@pytest.mark.parametrize("arm", ["quantum", "unentangled", "perceptron", "gaussian"])
def test_samples_begin_with_mean_and_variance_of_data(arm):
    """256 draws know a variance to 9 %, one standard deviation; 5000 others are here to see it."""
    torch.manual_seed(0)
    config = ModelConfig(kind="vqgan", circuit={"qubits": 6, "arm": arm}).circuit
    made = LatentGenerator.from_config(config, noise=4, num_latents=8, classes=(0, 1))
    made.begin_as_wide_as_data(torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        samples = made(made.draw_noise(5000, generator), made.draw_classes(5000, generator))
    assert (samples.mean(0).abs() < 5 / 256**0.5).all()
    assert (samples.var(0).log().abs() < 5 * (2 / 256) ** 0.5).all()


def test_a_latent_that_a_circuit_does_not_move_begins_with_none_and_stays_a_number():
    made = LatentGenerator.from_config(ModelConfig(kind="vqgan", circuit={"qubits": 2}).circuit, noise=4, num_latents=3)
    with torch.no_grad():
        made.head.weight[1] = 0
        made.begin_as_wide_as_data(torch.Generator().manual_seed(1))
        samples = made(made.draw_noise(50, torch.Generator().manual_seed(2)), None)
    assert bool(samples.isfinite().all())
    assert float(samples[:, 1].std()) == 0
    assert float(samples[:, 0].std()) > 0.5


def test_classes_are_drawn_as_often_as_in_the_data_or_are_all_the_one_of_a_label():
    config = ModelConfig(kind="vqgan", circuit={"qubits": 2}).circuit
    made = LatentGenerator.from_config(config, noise=4, num_latents=3, classes=(3, 7))
    assert made.draw_classes(2, None, label=7).tolist() == [[0, 1], [0, 1]]
    made.frequencies.copy_(torch.tensor([0.9, 0.1]))
    share = float(made.draw_classes(10_000, torch.Generator().manual_seed(0))[:, 1].mean())
    assert abs(share - 0.1) < 5 * (0.1 * 0.9 / 10_000) ** 0.5


def test_samples_of_a_label_are_those_of_its_class():
    """Of a linear generator that gives a class its own place."""
    config = ModelConfig(kind="vqgan", circuit={"qubits": 2, "arm": "gaussian"}).circuit
    made = LatentGenerator.from_config(config, noise=1, num_latents=2, classes=(3, 7))
    with torch.no_grad():
        made.head.weight.copy_(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
        made.head.bias.zero_()
    assert made.draw(2, label=7).tolist() == [[0, 1], [0, 1]]
    assert made.draw(2, label=3).tolist() == [[1, 0], [1, 0]]


def test_noise_enters_before_every_layer_by_a_map_of_its_own():
    """Each layer has angles of its own, behind the weights of those before it, and all of them make a difference."""
    torch.manual_seed(0)
    qubits, layers = 3, 4
    block = CircuitBlock.styled(CircuitConfig(qubits=qubits, layers=layers, ansatz="strongly_entangling"), num_inputs=5)
    assert block.circuit.num_inputs == qubits * layers
    used = [angle.index for gate in block.circuit.gates for angle in gate.angles if hasattr(angle, "index")]
    first_weight = block.circuit.num_inputs
    order = [index // qubits if index < first_weight else "weight" for index in used]
    places = [place for place, now in enumerate(order) if place == 0 or now != order[place - 1]]
    assert [order[place] for place in places] == [part for layer in range(layers) for part in (layer, "weight")]
    angles = block.angles(torch.randn(20, 5)).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(block.layer(angles).square().sum(), angles)
    assert (slopes.view(20, layers, qubits).abs().amax((0, 2)) > 1e-3).all()
