"""Block Gibbs sampling: exact on small systems, its chains, its tempering and its annealing."""

import math
import re

import pytest
import torch
from support import drawn_in_each_default_type

from qvae.errors import SamplerError
from qvae.ising import graphs
from qvae.ising.exact import exact_distribution, spin_states
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.diagnostics import expected_total_variation, total_variation
from qvae.sampling.registry import load_sampler
from qvae.sampling.sampler import Moments
from qvae.testing import check_sampler

SIGMAS = 5.0


def random_hamiltonian(graph, scale=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = scale * torch.randn(graph.num_spins, generator=generator)
    return IsingHamiltonian(h, graph, scale * torch.randn(graph.num_edges, generator=generator))


def assert_samples_the_distribution(spins, hamiltonian):
    """By McDiarmid's bound: fails once in 1e6 times."""
    exact, n = exact_distribution(hamiltonian), len(spins)
    allowed = expected_total_variation(exact, n) + math.sqrt(math.log(1e6) / (2 * n))
    assert total_variation(spins, exact) < allowed


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"persistent": False, "burn_in": 50},
        {"tempering": 3, "num_samples": 500},
        {"annealing": 3},
        {"annealing": 3, "persistent": False},
    ],
    ids=str,
)
def test_conformance(options):
    check_sampler("gibbs", **options)


def test_conformance_of_torch_kernels(monkeypatch):
    monkeypatch.setenv("QVAE_KERNELS", "torch")
    check_sampler("gibbs")


def test_moments_have_less_variance_than_samples_and_no_bias():
    hamiltonian = random_hamiltonian(graphs.chimera(1))
    exact = Moments(*exact_distribution(hamiltonian).moments())
    conditional, sampled = load_sampler("gibbs", seed=0), load_sampler("gibbs", seed=1)
    errors = {"conditional": [], "sampled": []}
    for _ in range(100):
        errors["conditional"].append(conditional.moments(hamiltonian, 100).pairs - exact.pairs)
        samples = sampled.sample(hamiltonian, 100)
        errors["sampled"].append(Moments.from_samples(samples, hamiltonian).pairs - exact.pairs)
    spread = {name: torch.stack(error).std(0).mean() for name, error in errors.items()}
    assert spread["conditional"] < 0.8 * spread["sampled"]
    bias = torch.stack(errors["conditional"]).mean(0) / (torch.stack(errors["conditional"]).std(0) / 10)
    assert bias.abs().max() < SIGMAS


def test_a_large_sparse_graph():
    n, coupling = 700, 0.6
    hamiltonian = IsingHamiltonian(
        torch.zeros(n), graphs.edge_list([(i, i + 1) for i in range(n - 1)]), torch.full((n - 1,), coupling)
    )
    sampler = load_sampler("gibbs", seed=0)
    pairs = sampler.moments(hamiltonian, 200).pairs
    assert abs(pairs.mean() + math.tanh(coupling)) < SIGMAS / (200 * n) ** 0.5
    pairs = Moments.from_samples(sampler.sample(hamiltonian, 200), hamiltonian).pairs
    assert abs(pairs.mean() + math.tanh(coupling)) < SIGMAS / (200 * n) ** 0.5


# Persistent chains ----------------------------------------------------------------------------------------------------


def test_chains_go_on_and_follow_new_parameters():
    hamiltonian = random_hamiltonian(graphs.rbm(3, 3))
    sampler = load_sampler("gibbs", sweeps=5, burn_in=40, seed=0)
    assert sampler.sample(hamiltonian, 4000).info["sweeps"] == 45
    for step in range(1, 20):
        moved = hamiltonian.replace(hamiltonian.h * (1 - step / 10), hamiltonian.J * (1 - step / 10))
        samples = sampler.sample(moved, 4000)
        assert samples.info["sweeps"] == 5
    assert_samples_the_distribution(samples.spins, moved)


# Tempering ------------------------------------------------------------------------------------------------------------


def test_tempering_finds_modes_that_plain_chains_miss():
    # All spins down is five times as likely as all up, but random starts find the one about as often as the other.
    hamiltonian = IsingHamiltonian([0.1] * 8, graphs.complete(8), [-0.7] * 28)
    plain = load_sampler("gibbs", seed=0).sample(hamiltonian, 2000)
    assert total_variation(plain.spins, exact_distribution(hamiltonian)) > 0.15
    tempered = load_sampler("gibbs", tempering=6, seed=0).sample(hamiltonian, 2000)
    assert_samples_the_distribution(tempered.spins, hamiltonian)
    rates = tempered.info["swap_acceptance"]
    assert rates.shape == (5,)
    assert all(0.05 < rate < 1 for rate in rates)
    assert not tempered.advice
    assert "fresh chains are stuck" in plain.advice[0].text


def test_swap_rates_without_interaction_with_temperature():
    hamiltonian = IsingHamiltonian([0.0, 0.0], [], [])
    assert load_sampler("gibbs", tempering=3, seed=0).sample(hamiltonian, 50).info["swap_acceptance"].tolist() == [1.0, 1.0]
    assert load_sampler("gibbs", tempering=2, seed=0).sample(hamiltonian, 50).info["swap_acceptance"].tolist() == [1.0]
    assert "swap_acceptance" not in load_sampler("gibbs", seed=0).sample(hamiltonian, 50).info


def test_neighbouring_temperatures_swap_as_often_as_their_energies_say():
    """Evenly spaced from 1 to the lowest: rates are means of min(1, exp[(beta - beta')(E - E')]) over all pairs of states."""
    hamiltonian, chains = random_hamiltonian(graphs.complete(5), 0.8), 4000
    energies = hamiltonian.energy(spin_states(5)).double()
    p = [torch.softmax(-beta * energies, 0) for beta in (1.0, 0.75, 0.5)]
    accepted = (0.25 * (energies.unsqueeze(1) - energies)).exp().clamp(max=1)
    expected = [float(p[k] @ accepted @ p[k + 1]) for k in (0, 1)]
    sampler = load_sampler("gibbs", tempering=3, beta_min=0.5, sweeps=5, burn_in=20, seed=0)
    rates = sampler.sample(hamiltonian, chains).info["swap_acceptance"]
    assert rates.tolist() == pytest.approx(expected, abs=SIGMAS * 0.5 / chains**0.5)
    assert max(expected) < 0.9


@pytest.mark.parametrize("graph", [graphs.complete(6), graphs.rbm(3, 3)], ids=repr)
@pytest.mark.parametrize("sweeps", [1, 3])
def test_tempering_keeps_the_distribution_in_calls_of_any_length(graph, sweeps):
    hamiltonian = random_hamiltonian(graph, 0.8)
    sampler = load_sampler("gibbs", tempering=4, sweeps=sweeps, burn_in=0, seed=0)
    for _ in range(100 // sweeps):
        samples = sampler.sample(hamiltonian, 4000)
    assert_samples_the_distribution(samples.spins, hamiltonian)


# Annealing ------------------------------------------------------------------------------------------------------------


def test_annealing_gives_modes_their_weights():
    hamiltonian = IsingHamiltonian([0.1] * 8, graphs.complete(8), [-0.7] * 28)
    exact = exact_distribution(hamiltonian)
    sampler, runs = load_sampler("gibbs", annealing=2, persistent=False, seed=0), 50
    found = [sampler.moments(hamiltonian, 200) for _ in range(runs)]
    # Chains of one call are relatives, calls are independent.
    means = torch.stack([moments.spins for moments in found]).double()
    assert ((means.mean(0) - exact.moments()[0]) / (means.std(0) / runs**0.5)).abs().max() < SIGMAS
    info = found[-1].info
    assert info["sweeps"] == 10 + 2 * info["temperatures"]
    assert info["population"] == 200
    assert abs(info["log_z"] - exact.log_z) < SIGMAS * info["log_z_stderr"]
    assert not found[-1].advice


def test_annealed_chains_go_on_and_more_are_annealed():
    hamiltonian = IsingHamiltonian([0.0] * 8, graphs.complete(8), [-0.9] * 28)
    sampler = load_sampler("gibbs", annealing=2, sweeps=1, seed=0)
    first = sampler.sample(hamiltonian, 150)
    again = sampler.sample(hamiltonian, 150)
    assert "families" in first.info
    assert "families" not in again.info
    assert again.info["sweeps"] == 1
    more = sampler.sample(hamiltonian, 300)
    assert more.info["population"] == 150
    # A mode is left once in a million sweeps.
    assert torch.equal(more.spins[:150].float().mean(1).sign(), first.spins.float().mean(1).sign())


def glass(strength):
    n = 60
    return random_hamiltonian(graphs.complete(n), strength)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "fresh chains are stuck near where they started .* set sampler.options.annealing=10"),
        ({"tempering": 3}, "swap in only [0-9.]+ % of the tries.* raise sampler.options.tempering"),
        ({"annealing": 1}, "descend from . of its first chains in effect.* raise sampler.options.annealing"),
    ],
    ids=str,
)
def test_a_glass_is_said_to_be_stuck_and_an_easy_prior_is_not(options, words):
    (said,) = load_sampler("gibbs", seed=0, **options).sample(glass(1.0), 64).advice
    assert re.search(words, said.text)
    assert not load_sampler("gibbs", seed=0, **options).sample(glass(0.03), 64).advice


def test_a_few_chains_of_one_spin_are_no_evidence():
    hamiltonian = IsingHamiltonian([0.0], [], [])
    assert not any(load_sampler("gibbs", seed=seed).sample(hamiltonian, 4).advice for seed in range(30))


# Options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("sweeps", 0, "sweeps is 0; it must be a whole number, 1 or more"),
        ("sweeps", 2.5, "sweeps is 2.5"),
        ("burn_in", -1, "burn_in is -1; it must be a whole number, 0 or more"),
        ("tempering", "many", "tempering is 'many'"),
        ("annealing", -1, "annealing is -1; it must be a whole number, 0 or more"),
        ("beta_min", 1.0, "beta_min is 1.0; it must be a number above 0 and below 1"),
        ("persistent", "no", "persistent is 'no'; it must be true or false"),
    ],
)
def test_bad_options(option, value, message):
    with pytest.raises(SamplerError, match=f"'gibbs' refuses its options: {message}"):
        load_sampler("gibbs", **{option: value})


def test_annealing_and_tempering_exclude_each_other():
    with pytest.raises(SamplerError, match="annealing and tempering are two remedies for the same trouble"):
        load_sampler("gibbs", annealing=5, tempering=4)


@pytest.mark.parametrize("options", [{}, {"annealing": 5}, {"tempering": 3}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torchs_default_type_changes_nothing(options, dtype):
    hamiltonian = IsingHamiltonian(torch.linspace(-0.5, 0.5, 4), graphs.complete(4), torch.full((6,), 0.2)).to(dtype=dtype)
    expected, found = drawn_in_each_default_type("gibbs", hamiltonian, options)
    assert all(map(torch.equal, found, expected))
