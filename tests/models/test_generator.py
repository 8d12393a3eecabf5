"""The generator of a VQGAN: where it begins, whatever stands in the circuit's place."""

import pytest
import torch

from qvae.config.schema import ModelConfig
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
