"""Samplers with Hamiltonians on a CUDA device: the conformance suite's problems there, their states and their seeds."""

import copy
import math
import pickle

import pytest
import torch
from on_cuda import DEVICE, needs_cuda

import qvae
from qvae.errors import SamplerError
from qvae.ising import graphs
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.testing.problems import Problem, problems
from qvae.testing.trial import Trial

pytestmark = needs_cuda

SIGMAS = 5.0
FALSE_ALARM = 1e-6  # of one test
PROBLEMS = {problem.name: problem.hamiltonian for problem in problems(quantum=True)}
QUANTUM = [name for name in PROBLEMS if "transverse" in name]
CLASSICAL = [name for name in PROBLEMS if name not in QUANTUM]
SAMPLERS = [
    ("gibbs", {}, CLASSICAL),
    ("gibbs", {"tempering": 3}, CLASSICAL),
    ("gibbs", {"annealing": 5, "persistent": False}, CLASSICAL),
    ("exact", {}, [*CLASSICAL, *QUANTUM]),
    ("dimod", {}, ["RBM 3x3", "frustrated triangle"]),
    ("path_integral", {}, ["RBM 3x3", "RBM 3x3, transverse field", "frustrated triangle, transverse field"]),
]
CASES = [(name, options, problem) for name, options, many in SAMPLERS for problem in many]


def there(name):
    return PROBLEMS[name].to(DEVICE)


def rbm(scale=0.5):
    generator = torch.Generator().manual_seed(0)
    h, J = (scale * torch.randn(count, generator=generator) for count in (8, 16))
    return IsingHamiltonian(h, graphs.rbm(4, 4), J).to(DEVICE)


@pytest.fixture(params=["triton", "torch"])
def own(request, monkeypatch):
    """Whose kernels sweep."""
    if request.param == "torch":
        monkeypatch.setenv("QVAE_KERNELS", "torch")
    return request.param


@pytest.mark.parametrize(("name", "options", "problem"), CASES, ids=str)
@pytest.mark.usefixtures("own")
def test_samples_and_moments_are_those_of_the_distribution(name, options, problem):
    trial = Trial(qvae.load_sampler(name, seed=1, **options), 2000, -math.log(FALSE_ALARM))
    for dtype in (torch.float32, torch.float64):
        case = Problem(problem, there(problem).to(dtype=dtype))
        trial.distribution(case)
        trial.moments(case)
    assert trial.sampler.sample(there(problem), 3).spins.device == DEVICE


def test_a_pool_works_for_it_on_processors():
    hamiltonian = rbm()
    exact = torch.cat(exact_distribution(hamiltonian.to("cpu")).moments())
    pool = qvae.load_sampler("pool", of={"name": "gibbs"}, workers=2, seed=1)
    try:
        moments, samples = pool.moments(hamiltonian, 4000), pool.sample(hamiltonian, 10)
    finally:
        pool.close()
    assert moments.spins.device == moments.pairs.device == samples.spins.device == DEVICE
    error = (torch.cat([moments.spins, moments.pairs]).double().cpu() - exact).abs()
    assert (error < SIGMAS * ((1 - exact**2) / 4000).sqrt()).all()


@pytest.mark.parametrize("size", [100, 260], ids=["float32", "bfloat16"])
def test_large_layers_in_the_quickest_products(size, own):
    """Of independent pairs: spin i of one layer and of the other, among couplings of 0."""
    coupling = 0.8
    hamiltonian = IsingHamiltonian(torch.zeros(2 * size), graphs.rbm(size, size), (-coupling * torch.eye(size)).flatten())
    hamiltonian = hamiltonian.to(DEVICE)
    chains = 2000
    found = qvae.load_sampler("gibbs", burn_in=40, seed=0).moments(hamiltonian, chains)
    # Rao-Blackwell moments vary less than those of independent samples.
    assert found.spins.abs().max() < SIGMAS / chains**0.5
    pairs = found.pairs.view(size, size)
    assert (pairs.diagonal() - math.tanh(coupling)).abs().max() < SIGMAS / (math.cosh(coupling) * chains**0.5)
    others = pairs[~torch.eye(size, dtype=torch.bool, device=DEVICE)]
    assert others.abs().max() < 1.2 * SIGMAS / chains**0.5
    if DEVICE.type == "cuda" and own == "triton":
        assert BlockGibbs(hamiltonian).quickest == torch.int8
    elif DEVICE.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        assert BlockGibbs(hamiltonian).quickest == (torch.bfloat16 if size >= 96 else torch.float32)  # spins of a colour


def test_a_large_sparse_graph():
    n, coupling = 2000, 0.6
    chain = graphs.edge_list([(i, i + 1) for i in range(n - 1)])
    hamiltonian = IsingHamiltonian(torch.zeros(n), chain, torch.full((n - 1,), coupling)).to(DEVICE)
    pairs = qvae.load_sampler("gibbs", burn_in=50, seed=0).moments(hamiltonian, 200).pairs
    assert abs(float(pairs.mean()) + math.tanh(coupling)) < SIGMAS / (200 * n) ** 0.5


# Recorded calls -------------------------------------------------------------------------------------------------------


GRAPHS = {
    "rbm": graphs.rbm(4, 4),
    "large": graphs.rbm(60, 70),
    "complete": graphs.complete(5),
    "sparse": graphs.chimera(3, 3, 4),
}


def moments_of_calls(graph, chains=200, calls=9):
    """Of a sampler whose Hamiltonian changes from call to call, as in a training; between calls 6 and 7 it gives samples."""
    sampler, graph = qvae.load_sampler("gibbs", sweeps=3, burn_in=5, seed=0), graph.to(DEVICE)
    generator, found = torch.Generator().manual_seed(0), []
    for number in range(calls):
        h, J = (0.3 * torch.randn(count, generator=generator).to(DEVICE) for count in (graph.num_spins, graph.num_edges))
        hamiltonian = IsingHamiltonian(h, graph, J)
        moments = sampler.moments(hamiltonian, chains)
        found.append(torch.cat([moments.spins, moments.pairs]))
        if number == 6:
            found.append(sampler.sample(hamiltonian, chains).spins.float().mean(0))
    return found, sampler


@pytest.mark.parametrize("name", GRAPHS)
def test_calls_that_are_played_again_are_those_that_python_would_make(name, monkeypatch):
    played, sampler = moments_of_calls(GRAPHS[name])
    monkeypatch.setattr("qvae.ising.recorded.records", lambda device: False)
    made, other = moments_of_calls(GRAPHS[name])
    for first, second in zip(played, made, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    assert torch.equal(sampler.state_dict()["chains"], other.state_dict()["chains"])
    assert torch.equal(sampler.state_dict()["generator"], other.state_dict()["generator"])
    if DEVICE.type == "cuda":
        assert sampler._recorded._recorder._recorded is not None or name in ("complete", "sparse")
        assert other._recorded._recorder._recorded is None


def test_what_was_given_by_a_call_stays_as_it_is():
    played, _ = moments_of_calls(GRAPHS["rbm"])
    assert not torch.equal(played[5], played[6])


# Seeds and states -----------------------------------------------------------------------------------------------------

SEEDED = [
    ("gibbs", {}, "RBM 3x3"),
    ("gibbs", {"tempering": 3}, "complete graph of 5"),
    ("gibbs", {"annealing": 5, "persistent": False}, "RBM 3x3"),
    ("path_integral", {"burn_in": 20}, "RBM 3x3, transverse field"),
    ("exact", {}, "RBM 3x3, transverse field"),
    ("dimod", {}, "RBM 3x3"),
]
seeded = pytest.mark.parametrize(("name", "options", "problem"), SEEDED, ids=str)


@seeded
def test_equal_seeds_give_equal_samples(name, options, problem):
    hamiltonian = there(problem)
    first, same, other = (qvae.load_sampler(name, seed=seed, **options).sample(hamiltonian, 50).spins for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@seeded
@pytest.mark.parametrize("way", ["checkpoint", "pickle"])
def test_a_state_goes_on_as_if_nothing_had_happened(name, options, problem, way, tmp_path):
    from qvae.checkpoint import load_checkpoint, save_checkpoint

    hamiltonian = there(problem)
    sampler = qvae.load_sampler(name, seed=1, **options)
    sampler.sample(hamiltonian, 50)
    if way == "pickle":
        again = pickle.loads(pickle.dumps(sampler))
    else:
        save_checkpoint(tmp_path / "state", sampler.state_dict())
        again = qvae.load_sampler(name, seed=2, **options)
        again.load_state_dict(load_checkpoint(tmp_path / "state"))
    for _ in range(2):
        assert torch.equal(again.sample(hamiltonian, 50).spins, sampler.sample(hamiltonian, 50).spins)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="there is no other device")
@pytest.mark.parametrize("name", ["gibbs", "path_integral", "exact"])
def test_a_state_of_another_device_is_refused_in_words(name):
    here = PROBLEMS["RBM 3x3"]
    for first, second in ((here, here.to(DEVICE)), (here.to(DEVICE), here)):
        sampler, other = qvae.load_sampler(name, seed=1), qvae.load_sampler(name, seed=1)
        sampler.sample(first, 5)
        other.load_state_dict(copy.deepcopy(sampler.state_dict()))
        with pytest.raises(SamplerError, match=f"was not saved on {second.h.device.type}; go on with the device"):
            other.sample(second, 5)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="there is no other device")
def test_one_sampler_serves_both_devices():
    """One after the other, with chains of its own on each."""
    sampler = qvae.load_sampler("gibbs", seed=1)
    for _ in range(2):
        for hamiltonian in (PROBLEMS["RBM 3x3"], there("RBM 3x3")):
            assert sampler.sample(hamiltonian, 10).spins.device == hamiltonian.h.device
