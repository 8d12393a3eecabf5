"""The objective of a Boltzmann prior when its sampler fails: nothing of the step is left, and the fallback makes it."""

import sys

import pytest
import torch
from support import model_of

from qvae.config.schema import ModelConfig, TrainingConfig
from qvae.errors import CapabilityError, SamplerError
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.abilities import Remote
from qvae.sampling.registry import load_sampler
from qvae.sampling.sampler import Capabilities, LatentSampler, Samples
from qvae.training.objective import Clock
from qvae.training.objectives.boltzmann import BoltzmannObjective, _rough_log_partition


class Failing(LatentSampler):
    """Does ``fault`` in every call."""

    def __init__(self, fault):
        self.fault = fault

    def _sample(self, hamiltonian, num_samples):
        return self.fault(hamiltonian, num_samples)


class FarFailing(Remote, Failing):
    capabilities = Capabilities(remote=True)

    def describe(self):
        return {}


def objective(sampler, fallback=None):
    torch.manual_seed(0)
    model = model_of(ModelConfig(latent={"sizes": [3, 3]}, network={"hidden": [8]}), torch.full((4, 4), 0.4))
    config = TrainingConfig(chains=20, warmup_steps=1)

    def prepare(rows, generator):
        return torch.bernoulli(rows, generator=generator)

    return BoltzmannObjective(model, prepare, config, sampler, fallback)


def state(one):
    return [one.generator.get_state(), *(part.detach().clone() for part in one.model.state_dict().values())]


ROWS, CLOCK = torch.full((16, 16), 0.5), Clock(5, 0, 0.3)


def no_samples(hamiltonian, num_samples):
    raise SamplerError("it is offline.")


@pytest.mark.parametrize("kind", [Failing, FarFailing])
def test_a_step_whose_sampler_fails_leaves_weights_buffers_and_generator_as_they_were(kind):
    one = objective(kind(no_samples))
    one.model.train()
    before = state(one)
    with pytest.raises(SamplerError, match="it is offline"):
        one.step(ROWS, CLOCK)
    assert all(map(torch.equal, state(one), before))


FAULTS = {
    "sys.exit": lambda hamiltonian, number: sys.exit(),
    "an error": lambda hamiltonian, number: {}["qubits"],
    "too few": lambda hamiltonian, number: Samples(torch.ones(number - 1, 6, dtype=torch.int8)),
    "zeros": lambda hamiltonian, number: Samples(torch.zeros(number, 6, dtype=torch.int8)),
    "weights": lambda hamiltonian, number: Samples(torch.ones(number, 6, dtype=torch.int8), torch.ones(number)),
    "nothing": lambda hamiltonian, number: None,
}


@pytest.mark.parametrize("kind", [Failing, FarFailing])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_whatever_the_sampler_does_the_fallback_makes_the_step(kind, fault):
    """As if it had been the sampler from the start."""
    heard = []
    one = objective(kind(fault), load_sampler("exact", seed=0))
    one.warn = lambda kind, text: heard.append(text)
    two = objective(load_sampler("exact", seed=0))
    for each in (one, two):
        each.model.train()
        each.step(ROWS, CLOCK)
    assert all(map(torch.equal, state(one), state(two)))
    assert "Training goes on with the fallback, 'exact', from step 5." in heard[0]


def test_a_fallback_that_can_not_take_the_prior_is_refused_before_it_is_needed():
    class Small(Failing):
        capabilities = Capabilities(max_spins=5)

    with pytest.raises(CapabilityError, match="at most 5"):
        objective(load_sampler("exact", seed=0), Small(no_samples))


def test_a_sampler_that_spoils_what_it_is_given_spoils_nothing():
    def spoils(hamiltonian, number):
        hamiltonian.h.fill_(9)
        hamiltonian.J.data.fill_(9)
        return Samples(torch.ones(number, 6, dtype=torch.int8))

    one = objective(Failing(spoils))
    before = [part.clone() for part in one.model.prior.parameters()]
    one.step(ROWS, Clock(0, 0, 0.0))
    moved = [part - old for part, old in zip(one.model.prior.parameters(), before, strict=True)]
    assert all(float(part.detach().abs().max()) < 0.1 for part in moved)


def test_a_sampler_that_can_t_be_closed_costs_a_word():
    heard = []
    one = objective(Failing(no_samples), load_sampler("exact", seed=0))
    one.warn = lambda kind, text: heard.append(text)
    one.sampler.close = lambda: sys.exit(3)
    one.step(ROWS, CLOCK)
    assert heard[1].startswith("Failing couldn't be closed (SystemExit")


def test_the_budget_share_that_a_lost_sampler_had_reached_stays():
    """In a resumed training, too: schedules don't go back."""
    one = objective(Failing(no_samples), load_sampler("exact", seed=0))
    assert one.budget_share == 0
    one.step(ROWS, CLOCK)
    assert one.budget_share == 0.3
    two = objective(load_sampler("exact", seed=0))
    two.load_state_dict(one.state_dict())
    assert two.budget_share == 0.3


@pytest.mark.parametrize("strength", [0.5, 6.0])
def test_the_rough_log_z_of_a_look_begins_at_the_means_of_samples(strength):
    """With strong fields all samples are the same: they are no proof that the other spins never occur."""
    generator = torch.Generator().manual_seed(0)
    h, J = (torch.randn(number, generator=generator, dtype=torch.float64) for number in (8, 7))
    chain = IsingHamiltonian(strength * h.sign(), [(spin, spin + 1) for spin in range(7)], 0.3 * J)
    samples = load_sampler("exact", seed=1).sample(chain, 100)
    assert bool((samples.spins.float().mean(0).abs() == 1).all()) == (strength > 5)
    found = _rough_log_partition(chain, samples)
    assert found == pytest.approx(exact_distribution(chain).log_z, abs=0.05)
