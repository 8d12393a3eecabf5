"""Networks of few-bit weights: their losses are exact, and every way finds minima that can be enumerated."""

import pytest
import torch
from torch.nn.functional import mse_loss

import qvae
from qvae.errors import DataError, ExecutorError
from qvae.ising.pseudo_boolean import PseudoBoolean
from qvae.qubo.minimise import minimise_by_sampling, minimise_exhaustively
from qvae.qubo.network import FewBitNetwork
from qvae.qubo.qaoa import minimise_by_qaoa

RUNS = 10


def problem(seed, sizes=(3, 1), bits=2, bias=True):
    """A network, and data of a teacher of its kind with noise."""
    generator = torch.Generator().manual_seed(seed)
    network = FewBitNetwork(sizes, bits, bias=bias)
    x = torch.randn(20, sizes[0], generator=generator)
    network.bits.copy_(torch.randint(2, (network.num_bits,), generator=generator))
    y = network(x) + 0.3 * torch.randn(20, sizes[-1], generator=generator)
    return network, x, y


@pytest.mark.parametrize(
    ("sizes", "bits", "bias"), [((3, 1), 2, True), ((2, 2), 1, False), ((2, 1, 1), 2, False), ((1, 2, 2), 1, True)]
)
def test_the_loss_is_that_of_the_network_at_all_bits(sizes, bits, bias):
    network, x, y = problem(0, sizes, bits, bias)
    loss = network.loss(x, y)
    number = network.num_bits
    assert loss.num_bits == number
    for state in torch.randperm(2**number, generator=torch.Generator().manual_seed(1))[:50].tolist():
        network.bits.copy_(torch.tensor([state >> place & 1 for place in range(number)]))
        assert float(loss.values(network.bits)) == pytest.approx(float(mse_loss(network(x), y)), rel=1e-5)


def test_squares_of_two_layers_need_fewer_spins_than_their_terms():
    network, x, y = problem(0, (2, 2, 1), bits=1)
    loss = network.loss(x, y)
    assert len(loss.quadratised().products) == 18  # of each hidden unit and its outer weight: 3 pairs of 3 weights, 6 with that
    assert len(PseudoBoolean(loss.terms).quadratised().products) > 30


def test_weights_are_evenly_spaced():
    network = FewBitNetwork((1, 1), bits=2, scale=1.5, bias=False)
    levels = []
    for bits in ([0, 0], [1, 0], [0, 1], [1, 1]):
        network.bits.copy_(torch.tensor(bits))
        levels.append(float(network(torch.ones(1, 1))))
    assert levels == [-1.5, -0.5, 0.5, 1.5]


def test_the_least_of_all_states():
    a, b, c = (PseudoBoolean.bit(number) for number in range(3))
    found = minimise_exhaustively(2 * a * b - 3 * b * c + a)
    assert (found.bits.tolist(), found.value, found.frequency, found.num_draws) == ([0, 1, 1], -3.0, 1 / 8, 8)
    with pytest.raises(DataError, match="at most 24 can be tried out"):
        minimise_exhaustively(PseudoBoolean.bit(24))


@pytest.mark.parametrize("name", ["exact", "gibbs", "dimod"])
@pytest.mark.parametrize(("sizes", "bits", "bias"), [((6, 1), 2, True), ((2, 2, 1), 1, False)])
def test_samplers_find_the_optimum(name, sizes, bits, bias):
    """A QUBO of 14 bits, and one of 6 bits with 8 products: in at least 9 of 10 runs."""
    found = 0
    for seed in range(RUNS):
        network, x, y = problem(seed, sizes, bits, bias)
        loss = network.loss(x, y)
        sampler = qvae.load_sampler(name, **({} if name == "exact" else {"seed": seed}))
        best = minimise_by_sampling(loss, sampler, 50)
        assert best.num_draws == 50
        assert best.value <= best.mean
        found += best.value == pytest.approx(minimise_exhaustively(loss).value)
    assert found >= 0.9 * RUNS


def test_the_optimum_is_put_into_the_network():
    network, x, y = problem(0)
    best = minimise_by_sampling(network.loss(x, y), qvae.load_sampler("dimod", seed=0))
    network.bits.copy_(best.bits)
    assert float(mse_loss(network(x), y)) == pytest.approx(best.value, rel=1e-5)


@pytest.mark.parametrize(("sizes", "bits", "bias"), [((3, 1), 2, True), ((2, 2, 1), 1, False)])
def test_qaoa_finds_the_optimum(sizes, bits, bias):
    """Of 2^8 and 2^6 states in every run, and far more often than by chance."""
    for seed in range(3):
        network, x, y = problem(seed, sizes, bits, bias)
        loss = network.loss(x, y)
        truth = minimise_exhaustively(loss)
        executor = qvae.load_executor("statevector", seed=seed)
        best = minimise_by_qaoa(loss, executor, steps=15, num_samples=500)
        assert best.value == pytest.approx(truth.value)
        assert best.frequency > min(3 * truth.frequency, 0.6)


def test_weights_without_effect_have_bits_too():
    network, x, y = problem(0, (3, 1), bits=1, bias=False)
    x[:, 2] = 0
    loss = network.loss(x, y)
    ways = (
        minimise_exhaustively(loss),
        minimise_by_sampling(loss, qvae.load_sampler("gibbs", seed=0)),
        minimise_by_qaoa(loss, steps=2, num_samples=50),
    )
    for best in ways:
        network.bits.copy_(best.bits)
        assert best.value == pytest.approx(ways[0].value)
    assert ways[0].frequency == 1 / 4  # the third bit is free


def test_a_constant_has_its_minimum_everywhere():
    found = minimise_by_sampling(0.0 * PseudoBoolean.bit(1) + 2, qvae.load_sampler("gibbs", seed=0), 10)
    assert (found.value, found.frequency, len(found.bits)) == (2.0, 1.0, 2)


def test_qaoa_trains_its_angles():
    network, x, y = problem(1)
    loss = network.loss(x, y)
    means = [
        minimise_by_qaoa(loss, qvae.load_executor("statevector", seed=0), steps=steps, num_samples=2000).mean
        for steps in (0, 40)
    ]
    assert means[1] < 0.9 * means[0]


def test_qaoa_on_shots():
    pytest.importorskip("qiskit_aer")
    network, x, y = problem(0, (3, 1), bits=1)
    loss = network.loss(x, y)
    best = minimise_by_qaoa(loss, qvae.load_executor("qiskit", seed=0), steps=5, num_samples=100, gradient="spsa")
    assert best.value == pytest.approx(minimise_exhaustively(loss).value)


class Remote(qvae.LatentSampler):
    """Stands for an annealer, and remembers what it was given."""

    capabilities = qvae.Capabilities(remote=True, native_beta=False)

    def _sample(self, hamiltonian, num_samples):
        self.given = hamiltonian
        return qvae.Samples(torch.ones(num_samples, hamiltonian.num_spins, dtype=torch.int8))


def test_an_annealer_is_given_couplings_within_its_range():
    network, x, y = problem(0)
    sampler = Remote()
    minimise_by_sampling(network.loss(x, y), sampler, 3)
    assert float(torch.cat([sampler.given.h, sampler.given.J]).abs().max()) == pytest.approx(1)
    minimise_by_sampling(network.loss(x, y), sampler, 3, betas=[1.0])
    exact = network.loss(x, y).quadratised().hamiltonian
    assert torch.allclose(sampler.given.J, exact.J)


def test_what_is_refused():
    network, x, y = problem(0)
    with pytest.raises(DataError, match=r"must be \(20, 1\)"):
        network.loss(x, y[:, 0])
    with pytest.raises(DataError, match=r"must be \(rows, 3\)"):
        network(x[:, :2])
    with pytest.raises(ValueError, match="two sizes or more"):
        FewBitNetwork((3,))
    with pytest.raises(ExecutorError, match="at most 24 qubits"):
        minimise_by_qaoa(sum((PseudoBoolean.bit(number) for number in range(25)), PseudoBoolean({})))
