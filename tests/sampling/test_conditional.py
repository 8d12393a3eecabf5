"""Conditional samples of every sampler but the annealer's against the exact conditional distribution."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from qvae import graphs, load_sampler
from qvae.errors import CapabilityError
from qvae.ising.exact import exact_distribution, spin_states, state_numbers
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.conditional import sample_given
from qvae.sampling.info import Advice
from qvae.sampling.sampler import Capabilities, Samples, SeededSampler

HELD, VALUES = [4, 1], [1, -1]
NUM = 20_000


def system(gamma=0.0):
    generator = torch.Generator().manual_seed(2)
    graph = graphs.complete(6)
    h, J = torch.randn(6, generator=generator), 0.6 * torch.randn(graph.num_edges, generator=generator)
    free_only = [0.0 if spin in HELD else gamma for spin in range(6)]
    return IsingHamiltonian(h, graph, J, free_only)


def exact_conditional(hamiltonian):
    """p(s | held) of all states, 0 where the held spins have other values."""
    p = exact_distribution(hamiltonian).log_probabilities.exp()
    agrees = (spin_states(6)[:, HELD] == torch.tensor(VALUES)).all(1)
    return torch.where(agrees, p, 0) / p[agrees].sum()


def frequencies(spins):
    """The part of draws (num, 6) that is in each state."""
    return torch.bincount(state_numbers(spins > 0), minlength=64).double() / len(spins)


@pytest.mark.parametrize(
    ("name", "gamma"), [("exact", 0.0), ("gibbs", 0.0), ("dimod", 0.0), ("exact", 0.9), ("path_integral", 0.9)]
)
def test_held_spins_condition_the_others(name, gamma):
    hamiltonian = system(gamma)
    fields = torch.tensor([0.3, 5.0, -0.4, 0.0, -7.0, 0.2])  # of held spins they don't matter
    options = {"slices": 32} if name == "path_integral" else {}
    num = NUM if name in ("exact", "gibbs") else 2000
    found = sample_given(load_sampler(name, seed=0, **options), hamiltonian, num, HELD, VALUES, fields).spins
    assert (found[:, HELD] == torch.tensor(VALUES)).all()
    p = exact_conditional(hamiltonian.replace(hamiltonian.h + fields))
    observed = frequencies(found)
    error = (p * (1 - p) / num).sqrt()
    assert ((observed - p).abs() <= 5 * error + 1e-3 * (p > 0)).all()  # and the exact methods' own errors


def total_variation_given(sampler, hamiltonian, num):
    """Between draws and the exact conditional distribution, and what its estimate from as many exact draws may add to it."""
    found = sample_given(sampler, hamiltonian, num, HELD, VALUES)
    assert (found.spins[:, HELD] == torch.tensor(VALUES)).all()
    p = exact_conditional(hamiltonian)
    return float((frequencies(found.spins) - p).abs().sum()) / 2, float((p * (1 - p) / num).sqrt().sum()), found.info


def test_held_spins_condition_the_chains_of_a_pool():
    with ThreadPoolExecutor(2) as threads:
        sampler = load_sampler("pool", of="gibbs", executor=threads, workers=2, seed=0)
        distance, noise, _ = total_variation_given(sampler, system(), 4000)
    assert distance < noise


def test_held_spins_condition_a_gibbs_state_up_to_its_fidelity():
    pytest.importorskip("qiskit_aer", reason="Qiskit is not installed")
    distance, noise, info = total_variation_given(load_sampler("aer", seed=0), system(), 4000)
    assert info["fidelity"] > 0.95
    assert distance < (1 - info["fidelity"]) ** 0.5 + noise  # Fuchs and van de Graaf 1999


def test_all_or_none_may_be_held():
    sampler = load_sampler("exact", seed=0)
    everything = sample_given(sampler, system(), 3, range(6), [1, -1, 1, -1, 1, 1])
    assert everything.spins.tolist() == 3 * [[1, -1, 1, -1, 1, 1]]
    assert sample_given(sampler, system(), 3).spins.shape == (3, 6)


def test_weights_of_the_free_spins_are_those_of_all():
    class Weighing(SeededSampler):
        capabilities = Capabilities()

        def _sample(self, hamiltonian, num_samples):
            spins = torch.ones(num_samples, hamiltonian.num_spins, dtype=torch.int8)
            return Samples(spins, torch.tensor([0.7, 0.3]), {"sweeps": 4}, lambda info: [Advice("slow", f"{info['sweeps']}")])

    found = sample_given(Weighing(0), system(), 2, HELD, VALUES)
    assert found.weights.tolist() == pytest.approx([0.7, 0.3])
    assert (found.info["sweeps"], list(found.advice)) == (4, [Advice("slow", "4")])


def test_what_isn_t_a_conditional_is_refused():
    sampler = load_sampler("exact")
    with pytest.raises(CapabilityError, match="can't be held"):
        sample_given(sampler, system(0.9), 3, [0], [1])
    with pytest.raises(CapabilityError, match="can't be held"):  # one of two with a field is enough
        sample_given(sampler, IsingHamiltonian([0.1, 0.2, 0.3], [(0, 1)], [0.5], [0.0, 0.9, 0.0]), 3, [0, 1], [1, 1])
    with pytest.raises(ValueError, match="must be -1 or"):
        sample_given(sampler, system(), 3, [0], [0])
