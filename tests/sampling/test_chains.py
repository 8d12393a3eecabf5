"""Chains that go on from call to call, from a checkpoint and from a pickle: the same for every sampler that keeps them."""

import pickle

import pytest
import torch

from qvae.errors import SamplerError
from qvae.ising import block_gibbs, graphs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling import chains
from qvae.sampling.chains import mixing_advice
from qvae.sampling.registry import load_sampler

SIGMAS = 5.0
# With the transverse field of their tests, and a coupling so stiff that chains hardly move and can be told apart.
SAMPLERS = {"gibbs": (0.0, -8.0), "path_integral": (1e-6, -12.0)}


@pytest.fixture(params=SAMPLERS)
def name(request):
    return request.param


def random_hamiltonian(graph, name, scale=0.5):
    generator = torch.Generator().manual_seed(0)
    h = scale * torch.randn(graph.num_spins, generator=generator)
    J = scale * torch.randn(graph.num_edges, generator=generator)
    return IsingHamiltonian(h, graph, J, 0.5 if name == "path_integral" else 0.0)


def stiff(name):
    gamma, coupling = SAMPLERS[name]
    return IsingHamiltonian([0.0, 0.0], [(0, 1)], [coupling], gamma)


def test_another_graph_starts_fresh_chains(name):
    gamma = 0.1 if name == "path_integral" else 0.0
    sampler = load_sampler(name, sweeps=1, burn_in=60, seed=0)
    up = IsingHamiltonian([-4.0, 0.0], [(0, 1)], [-4.0], gamma)
    # Chains that stayed up in this one would need far more than one sweep to come down.
    both = IsingHamiltonian([0.0, 0.0], [(0, 1)], [-4.0], gamma)
    assert sampler.sample(up, 2000).spins.float().mean() > 0.9
    samples = sampler.sample(both, 2000)
    assert samples.info["sweeps"] == 61
    assert abs(samples.spins[:, 0].float().mean()) < SIGMAS / 2000**0.5


def test_fewer_samples_forget_chains_and_more_add_fresh_ones(name):
    sampler, hamiltonian = load_sampler(name, sweeps=1, burn_in=20, seed=0), stiff(name)
    first = sampler.sample(hamiltonian, 40)
    fewer = sampler.sample(hamiltonian, 10)
    assert fewer.info["sweeps"] == 1
    assert torch.equal(fewer.spins, first.spins[:10])
    more = sampler.sample(hamiltonian, 40)
    assert more.info["sweeps"] == 21
    assert torch.equal(more.spins[:10], first.spins[:10])
    assert not torch.equal(more.spins, first.spins)


def test_without_persistence_every_call_is_fresh(name):
    sampler, hamiltonian = load_sampler(name, sweeps=1, burn_in=20, persistent=False, seed=0), stiff(name)
    assert not sampler.capabilities.persistent
    first, second = sampler.sample(hamiltonian, 40), sampler.sample(hamiltonian, 40)
    assert second.info["sweeps"] == 21
    assert not torch.equal(first.spins, second.spins)
    assert "chains" not in sampler.state_dict()


def test_fresh_chains_tell_what_they_remember(name):
    sampler, hamiltonian = load_sampler(name, sweeps=1, burn_in=20, seed=0), stiff(name)
    frozen = sampler.sample(hamiltonian, 200)
    assert frozen.info["burn_in_memory"] > 0.9
    (said,) = frozen.advice
    assert said.kind == "mixing"
    assert "raise sampler.options.burn_in" in said.text
    assert not sampler.sample(hamiltonian, 200).advice  # these go on: nothing was asked of them
    uncoupled = hamiltonian.replace(hamiltonian.h, 0 * hamiltonian.J)
    free = load_sampler(name, sweeps=1, burn_in=20, seed=0).sample(uncoupled, 200)
    if name == "gibbs":  # world lines of a tiny field don't turn by themselves
        assert abs(free.info["burn_in_memory"]) < SIGMAS * free.info["burn_in_memory_stderr"]
        assert not free.advice
    assert load_sampler(name, sweeps=1, burn_in=20, seed=0).moments(hamiltonian, 200).advice == frozen.advice
    assert "burn_in_memory" not in load_sampler(name, burn_in=1, seed=0).sample(stiff(name), 20).info


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ({}, None),
        ({"swap_acceptance": torch.tensor([0.4, 0.05])}, None),
        ({"swap_acceptance": torch.tensor([])}, None),
        ({"swap_acceptance": torch.tensor([0.4, 0.049])}, "swap in only 4.9 % of the tries"),
        ({"burn_in_memory": 0.25, "burn_in_memory_stderr": 0.05}, None),
        ({"burn_in_memory": 0.26, "burn_in_memory_stderr": 0.05}, "correlation 0.26 with themselves"),
        ({"burn_in_memory": 0.1}, None),
        ({"families": 10, "population": 1000}, None),
        ({"families": 9.6, "population": 1000}, "the 1000 chains of the population annealing descend from 10 of"),
        ({"families": 5, "population": 10}, None),
        ({"families": 4.9, "population": 10}, "descend from 5 of"),
        ({"swap_acceptance": 0.01, "burn_in_memory": 0.9, "families": 1, "population": 99}, "swap in only 1 % of"),
        ({"burn_in_memory": 0.9, "families": 1, "population": 99}, "correlation 0.90 with"),
    ],
)
def test_chains_are_said_to_be_stuck_by_the_plainest_sign(info, told):
    said = mixing_advice(info)
    assert [part.kind for part in said] == ["mixing"] * (told is not None)
    assert all(told in part.text for part in said)


def test_the_memory_of_chains_has_the_error_of_their_scatter():
    """Two spins in four chains, of which the first never turned, and the second in half of them."""
    before = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0]])
    after = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 1]])
    # Deviations of 1/2: products are 1/4 but for the last two chains of the second spin, and variances 2 x 1.
    memory, stderr = chains._memory(before, after)
    assert memory == pytest.approx((4 / 4 + 0) / 2)
    assert stderr == pytest.approx((2 * 0.25**2 + 0) ** 0.5)


@pytest.mark.parametrize(("burn_in", "swept"), [(0, [0]), (1, [1]), (5, [3, 2]), (6, [3, 3])])
def test_fresh_chains_are_burned_in_as_long_as_asked_for_an_odd_number_too(name, burn_in, swept):
    sampler, hamiltonian, asked = load_sampler(name, sweeps=4, burn_in=burn_in, seed=0), stiff(name), []
    sweep = sampler._sweep

    def recorded(kernel, hamiltonian, bits, sweeps, generator):
        asked.append((sweeps, bits.shape[2]))
        return sweep(kernel, hamiltonian, bits, sweeps, generator)

    sampler._sweep = recorded
    assert sampler.sample(hamiltonian, 3).info["sweeps"] == burn_in + 4
    assert sampler.sample(hamiltonian, 5).info["sweeps"] == burn_in + 4  # of two that are added
    assert asked == [*((count, 3) for count in swept), (4, 3), *((count, 2) for count in swept), (4, 5)]


# State ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name in SAMPLERS for options in ({}, {"persistent": False})]
    + [("gibbs", {"tempering": 3}), ("path_integral", {"slices": 4})]
    + [("gibbs", {"annealing": 2}), ("gibbs", {"annealing": 2, "persistent": False})],
    ids=str,
)
@pytest.mark.parametrize(
    "graph", [graphs.rbm(3, 4), graphs.complete(5), graphs.rbm(96, 100)], ids=["rbm", "complete", "rounded"]
)
def test_resumed_chains_are_the_same_bits(name, options, graph, monkeypatch):
    monkeypatch.setattr(block_gibbs, "multiplies_bfloat16", lambda device: True)
    prior = random_hamiltonian(graph, name, 0.5 if graph.num_spins < 10 else 0.05)

    def step(sampler, number):
        # With growing couplings, the number of slices of a path integral grows on the way.
        return sampler.moments(prior.replace(prior.h * number, prior.J * number), 30)

    through = load_sampler(name, seed=0, burn_in=10, **options)
    for number in range(3):
        step(through, number)
    resumed = load_sampler(name, seed=99, burn_in=10, **options)
    resumed.load_state_dict(through.state_dict())
    pickled = pickle.loads(pickle.dumps(through))
    for number in (2, 1, 5):
        expected = step(through, number)
        for other in (resumed, pickled):
            found = step(other, number)
            assert torch.equal(found.spins, expected.spins)
            assert torch.equal(found.pairs, expected.pairs)
            assert found.info.get("slices") == expected.info.get("slices")
            assert "saved_kernels" not in found.info  # they are the same


@pytest.mark.parametrize(("before", "after"), [("numba", "torch"), ("torch", "numba")])
def test_chains_of_other_kernels_go_on_and_say_so(name, before, after, monkeypatch):
    pytest.importorskip("numba")
    hamiltonian = random_hamiltonian(graphs.rbm(3, 4), name)
    monkeypatch.setenv("QVAE_KERNELS", before)
    through, resumed = (load_sampler(name, seed=0, burn_in=10, sweeps=1) for _ in range(2))
    first = through.sample(hamiltonian, 30)
    assert first.info["kernels"] == before
    assert not [said for said in first.advice if said.kind == "kernels"]
    state = through.state_dict()
    if before == "torch":
        del state["kernels"]  # as states of earlier versions
    resumed.load_state_dict(state)
    monkeypatch.setenv("QVAE_KERNELS", after)
    (said,) = resumed.sample(hamiltonian, 30).advice
    assert said.text.startswith(f"these chains were saved with {before}'s kernels and go on with {after}'s")
    assert resumed.state_dict()["kernels"] == after


@pytest.mark.parametrize(
    ("name", "copies", "other"),
    [
        ("gibbs", "1 temperatures", {}),
        ("gibbs", "2 temperatures", {"tempering": 2}),
        ("path_integral", "any number of slices", {}),
    ],
)
def test_saved_chains_of_another_system(name, copies, other):
    first = load_sampler(name, seed=0, burn_in=2, **({"slices": 4} if name == "path_integral" else {}))
    first.sample(random_hamiltonian(graphs.rbm(3, 4), name), 10)
    saved = first.state_dict()["chains"]
    assert saved.dtype == torch.int8
    assert saved.shape == (4 if name == "path_integral" else 1, 10, 7)
    second = load_sampler(name, **other)
    second.load_state_dict(first.state_dict())
    spins = 7 if other else 6  # too many temperatures are wrong for the same system, too
    message = rf"sampler '{name}' have shape \(\d, 10, 7\), but this system needs \({copies}, any number, {spins} spins"
    with pytest.raises(SamplerError, match=message):
        second.sample(random_hamiltonian(graphs.rbm(3, spins - 3), name), 10)


def test_an_empty_state_starts_afresh(name):
    hamiltonian = random_hamiltonian(graphs.rbm(2, 2), name)
    sampler = load_sampler(name, seed=0, burn_in=10)
    first = sampler.sample(hamiltonian, 30)
    sampler.load_state_dict({})
    assert torch.equal(sampler.sample(hamiltonian, 30).spins, first.spins)
