"""Samples that come with weights: whoever reads a run's spins, or generates, sees the distribution that the weights say."""

import torch

import qvae
from qvae.ising.exact import exact_distribution
from qvae.sampling.sampler import Samples, SeededSampler


class Weighing(SeededSampler):
    """Uniform spins, weighed."""

    def _sample(self, hamiltonian, num_samples):
        shape = (num_samples, hamiltonian.num_spins)
        spins = 2 * torch.randint(0, 2, shape, generator=self.generator(torch.device("cpu"))).to(torch.int8) - 1
        return Samples(spins, torch.softmax(-hamiltonian.energy(spins), 0))


def opened(folder, monkeypatch):
    """A run whose prior is far from uniform, and its exact means."""
    run = qvae.load_run(folder)
    with torch.no_grad():
        run.model.prior.h.copy_(torch.linspace(-1, 1, 8))
    monkeypatch.setattr(run, "sampler", lambda name=None: Weighing(seed=0))
    return run, exact_distribution(run.model.prior.frozen()).moments()[0]


def test_the_spins_of_a_run_are_of_equal_weight(small_run, monkeypatch):
    run, means = opened(small_run, monkeypatch)
    spins = run.prior_spins(20000)
    assert (spins.float().mean(0) - means).abs().max() < 0.05
    kept = run.prior_spins(500)
    assert (kept.float().mean(0) - means).abs().max() < 5 / 500**0.5


def test_generated_images_are_of_equal_weight(small_run, monkeypatch):
    """The decoder hands its latents on, so that images tell what they were made from."""
    run, means = opened(small_run, monkeypatch)
    decoded = []
    monkeypatch.setattr(run.model, "decode_codes", lambda bits, generator=None: decoded.append(bits) or bits)
    run.model.generate(20000, Weighing(seed=0), torch.Generator().manual_seed(0))
    assert (2 * decoded[0].mean(0) - 1 - means).abs().max() < 0.05


def test_they_are_thinned_by_the_seed_of_evaluations(small_run, monkeypatch):
    run, _ = opened(small_run, monkeypatch)
    run.config.evaluation.seed = 5
    weighed = Weighing(seed=0).sample(run.model.prior.frozen(), 300)
    drawn = [weighed.equal_weights(torch.Generator().manual_seed(seed)).spins for seed in (5, 0)]
    found = run.prior_spins(300)
    assert torch.equal(found, drawn[0])
    assert not torch.equal(found, drawn[1])
