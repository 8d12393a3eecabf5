"""The path-integral sampler: conformance, moments, its Trotter error and its slices."""

import math

import pytest
import torch
from qvae_backends import path_integral
from support import drawn_in_each_default_type

from qvae.errors import CapabilityError, SamplerError
from qvae.ising import graphs
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.trotter import choose_slices, estimate_trotter_error
from qvae.sampling.registry import load_sampler
from qvae.sampling.sampler import Moments
from qvae.testing import check_sampler

SIGMAS = 5.0
CHAIN = graphs.edge_list([(spin, spin + 1) for spin in range(4)])  # whose colours take turns


def random_hamiltonian(graph, gamma=1.0, scale=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = scale * torch.randn(graph.num_spins, generator=generator)
    return IsingHamiltonian(h, graph, scale * torch.randn(graph.num_edges, generator=generator), gamma)


def stiff(gamma=1e-6):
    """A pair that keeps its orientation for ever."""
    return IsingHamiltonian([0.0, 0.0], [(0, 1)], [-12.0], gamma)


@pytest.mark.parametrize("options", [{"burn_in": 20}, {"persistent": False, "burn_in": 30, "slices": 16}], ids=str)
def test_conformance(options):
    check_sampler("path_integral", num_samples=1000, **options)


def test_conformance_of_torch_kernels(monkeypatch):
    monkeypatch.setenv("QVAE_KERNELS", "torch")
    check_sampler("path_integral", burn_in=20)


@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_moments_have_less_variance_than_samples_and_no_bias(gamma):
    hamiltonian = random_hamiltonian(graphs.chimera(1), gamma)
    exact = Moments(*exact_distribution(hamiltonian).moments())
    options = {"slices": 12, "sweeps": 3, "burn_in": 50}
    conditional, sampled = load_sampler("path_integral", seed=0, **options), load_sampler("path_integral", seed=1, **options)
    errors = {"conditional": [], "sampled": []}
    for _ in range(60):
        errors["conditional"].append(conditional.moments(hamiltonian, 100).pairs - exact.pairs)
        samples = sampled.sample(hamiltonian, 100)
        errors["sampled"].append(Moments.from_samples(samples, hamiltonian).pairs - exact.pairs)
    spread = {name: torch.stack(error).std(0).mean() for name, error in errors.items()}
    assert spread["conditional"] < 0.8 * spread["sampled"]
    found = torch.stack(errors["conditional"])
    noise = found.std(0) * math.sqrt(3 / 60)  # for calls that are correlated with the one before
    stated = estimate_trotter_error(hamiltonian, 12)
    assert bool((found.mean(0).abs() < stated + SIGMAS * noise).all())


@pytest.mark.parametrize("graph", [graphs.complete(5), CHAIN], ids=["complete", "chain"])
def test_transverse_moments_are_exact(graph):
    hamiltonian = random_hamiltonian(graph, torch.tensor([1.0, 0.0, 3.0, 0.5, 2.0]))
    found = load_sampler("path_integral", slices=64, burn_in=20, seed=0).transverse_moments(hamiltonian, 3000)
    assert found.dtype == torch.float32
    # Kinks of one line number gamma <sx> on average, and <sx> is their number over gamma; they come in pairs.
    exact, gamma = exact_distribution(hamiltonian).transverse, hamiltonian.gamma.double()
    noise = torch.where(gamma > 0, torch.sqrt(2 * exact / (gamma.clamp(min=0.1) * 3000)), 0.0)
    assert bool(((found - exact).abs() <= SIGMAS * noise + 2e-3).all())
    assert float(found[1]) == 0.0


@pytest.mark.parametrize("graph", [graphs.rbm(3, 3), CHAIN], ids=["rbm", "chain"])
def test_the_trotter_error_is_measured(graph):
    hamiltonian = random_hamiltonian(graph, gamma=1.5)
    exact = torch.cat(exact_distribution(hamiltonian).moments())
    many = load_sampler("path_integral", slices=8, sweeps=20, burn_in=50, seed=0)
    error = many.trotter_error(hamiltonian, 4000)
    error, info = torch.cat([error.spins, error.pairs]), error.info
    assert info["standard_error"] < 0.001
    assert 0.004 < float(error.abs().max()) < info["error_estimate"]
    # Moments less their error are exact, and as they are, they aren't.
    sums = [many.moments(hamiltonian, 4000) for _ in range(25)]
    moments = torch.stack([torch.cat([found.spins, found.pairs]) for found in sums])
    noise = float(moments.std(0).max()) / 5
    off = (moments.mean(0) - exact).abs().max()
    assert float((moments.mean(0) - error - exact).abs().max()) < min(float(off), SIGMAS * (noise + info["standard_error"]))


@pytest.mark.parametrize(("number", "sizes"), [(25, [3] * 8 + [1]), (4, [1] * 4), (40, [4] * 10)])
def test_the_error_of_a_trotter_error_is_that_of_ten_groups_of_chains(number, sizes, monkeypatch):
    seen, found = [], torch.randn(10, 3, generator=torch.Generator().manual_seed(0))

    def of_part(kernel, chains, hamiltonian):
        seen.append(chains.shape[2])
        return found[len(seen) - 1]

    monkeypatch.setattr(path_integral, "_halving_error", of_part)
    told = load_sampler("path_integral", slices=4, burn_in=1, seed=0).trotter_error(stiff(), number)
    rows = found[: len(sizes)]
    assert seen == sizes
    assert torch.cat([told.spins, told.pairs]).tolist() == pytest.approx(rows.mean(0).tolist())
    variances = [sum((value - column.mean()) ** 2 for value in column) / (len(sizes) - 1) for column in rows.T]
    assert told.info["standard_error"] == pytest.approx(math.sqrt(sum(variances) / 3 / len(sizes)), rel=1e-5)


def test_the_trotter_error_without_transverse_field_is_none():
    found = load_sampler("path_integral", burn_in=5, seed=0).trotter_error(random_hamiltonian(graphs.rbm(2, 2), 0.0), 20)
    assert found.spins.tolist() == [0.0] * 4
    assert found.pairs.tolist() == [0.0] * 4


@pytest.mark.parametrize("method", ["transverse_moments", "trotter_error"])
def test_limits_are_kept_in_methods_of_its_own(method):
    sampler = load_sampler("path_integral")
    sampler.capabilities = type(sampler.capabilities)(max_spins=1)
    with pytest.raises(CapabilityError):
        getattr(sampler, method)(stiff(), 5)
    for number in (0, 2.5):
        with pytest.raises(SamplerError, match=f"num_samples is {number}; it must be"):
            getattr(load_sampler("path_integral"), method)(stiff(), number)


def test_a_large_sparse_graph():
    # An open Ising chain in a weak transverse field, against its classical correlations less what second order takes.
    n, coupling = 700, 0.6
    graph = graphs.edge_list([(i, i + 1) for i in range(n - 1)])
    sampler = load_sampler("path_integral", seed=0, slices=8, burn_in=50)
    found = [
        sampler.moments(IsingHamiltonian(torch.zeros(n), graph, torch.full((n - 1,), coupling), gamma), 100).pairs.mean()
        for gamma in (0.0, 0.3)
    ]
    small = exact_distribution(IsingHamiltonian([0.0] * 8, graphs.edge_list([(i, i + 1) for i in range(7)]), [0.6] * 7, 0.3))
    noise = SIGMAS / math.sqrt(100 * n)
    assert abs(found[0] + math.tanh(coupling)) < noise
    assert abs(found[1] - small.moments()[1][3]) < noise + 2e-3
    assert found[1] > found[0]


# Slices ---------------------------------------------------------------------------------------------------------------


def test_info_and_the_number_of_slices():
    hamiltonian = random_hamiltonian(graphs.rbm(3, 3))
    info = load_sampler("path_integral", sweeps=2, burn_in=3, seed=0).sample(hamiltonian, 10).info
    assert info["sweeps"] == 5
    assert info["slices"] == choose_slices(hamiltonian) == 12
    assert info["error_estimate"] == estimate_trotter_error(hamiltonian, 12) < 0.005
    assert info["wall_seconds"] > 0
    info = load_sampler("path_integral", burn_in=3, slices=4).moments(hamiltonian, 10).info
    assert info["slices"] == 4
    assert info["error_estimate"] > 0.02


def test_without_transverse_field_there_is_one_slice():
    sampler = load_sampler("path_integral", slices=16, seed=0, burn_in=5)
    info = sampler.sample(random_hamiltonian(graphs.rbm(3, 3), gamma=0.0), 10).info
    assert (info["slices"], info["error_estimate"]) == (1, 0.0)
    assert sampler.state_dict()["chains"].shape == (1, 10, 6)


def test_means_in_a_strong_field():
    """<sz> = -(h/e) tanh e with e^2 = h^2 + gamma^2, or a word where slices don't do."""
    h = torch.tensor([-20.0, 0.0, 5.0])
    found = load_sampler("path_integral", burn_in=5, sweeps=2, seed=0).moments(IsingHamiltonian(h, [], [], 80.0), 300)
    expected = -h / torch.hypot(h, torch.tensor(80.0))
    # The means are over many slices, too: their error is below that of as many chains.
    assert float((found.spins - expected).abs().max()) < 0.005 + 1 / math.sqrt(300)
    with pytest.raises(CapabilityError, match="field of 500 needs more than 1024 slices .* where 1024 leave 0.1; take weaker"):
        load_sampler("path_integral").sample(IsingHamiltonian([500.0], [], [], 500.0), 10)


def test_chains_that_go_on_get_more_slices_and_never_fewer():
    graph = graphs.edge_list([(0, 1)])
    sampler = load_sampler("path_integral", sweeps=1, burn_in=20, seed=0)
    orientation = [sampler.sample(IsingHamiltonian([0.0, 0.0], graph, [-12.0], 1e-6), 50).spins]
    slices = []
    for gamma in (1e-6, 0.5, 0.1, 0.0, 0.5):
        samples = sampler.sample(IsingHamiltonian([0.0, 0.0], graph, [-12.0], gamma), 50)
        orientation.append(samples.spins)
        slices.append(samples.info["slices"])
        assert samples.info["sweeps"] == 1
    assert slices == [2, 6, 6, 1, 6]
    # Whatever the number, it is the same chains that go on (the last ones may lose their memory).
    assert all(torch.equal(found, orientation[0]) for found in orientation[1:2])
    assert (orientation[2] == orientation[0]).float().mean() > 0.8


# Options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("sweeps", 0, "sweeps is 0; it must be a whole number, 1 or more"),
        ("burn_in", -1, "burn_in is -1; it must be a whole number, 0 or more"),
        ("slices", 0, "slices is 0; it must be a whole number from 2 to 65536"),
        ("slices", 5, "slices is 5; it must be an even whole number, 2 or more"),
        ("slices", "many", "slices is 'many'"),
        ("persistent", "no", "persistent is 'no'; it must be true or false"),
    ],
)
def test_bad_options(option, value, message):
    with pytest.raises(SamplerError, match=f"'path_integral' refuses its options: {message}"):
        load_sampler("path_integral", **{option: value})


@pytest.mark.parametrize("options", [{}, {"slices": 4}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torchs_default_type_changes_nothing(options, dtype):
    hamiltonian = IsingHamiltonian(torch.linspace(-0.5, 0.5, 4), graphs.complete(4), torch.full((6,), 0.2), 0.5).to(dtype=dtype)
    expected, found = drawn_in_each_default_type("path_integral", hamiltonian, options)
    assert all(map(torch.equal, found, expected))
