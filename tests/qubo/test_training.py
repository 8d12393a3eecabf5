"""Networks of few-bit weights: their losses are exact, and every way finds minima that can be enumerated."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import mse_loss

import qvae
from qvae.errors import DataError, ExecutorError
from qvae.ising.pseudo_boolean import PseudoBoolean
from qvae.qubo import minimise
from qvae.qubo.minimise import minimise_by_sampling, minimise_exhaustively
from qvae.qubo.network import FewBitNetwork
from qvae.qubo.qaoa import _cost, minimise_by_qaoa

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


def test_bits_are_those_of_outputs_one_by_one_with_the_bias_last():
    """Levels -1, -1/3, 1/3 and 1, the lower bit first; and layers one after another, with squares between them."""
    network = FewBitNetwork((2, 2), bits=2)
    network.bits.copy_(torch.tensor([1, 1, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0]))
    x = torch.tensor([[3.0, 6.0], [-3.0, 9.0]])
    expected = [[3 - 6 - 1 / 3, 1 - 2 - 1], [-3 - 9 - 1 / 3, -1 - 3 - 1]]
    torch.testing.assert_close(network(x), torch.tensor(expected))
    network = FewBitNetwork((1, 1, 2), bits=1)
    network.bits.copy_(torch.tensor([1, 0, 1, 0, 0, 1]))
    torch.testing.assert_close(network(torch.tensor([[4.0]])), torch.tensor([[9.0 - 1, 1 - 9.0]]))


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


class Recorder(qvae.LatentSampler):
    """Keeps what it is given."""

    capabilities = qvae.Capabilities(persistent=True)

    def _sample(self, hamiltonian, num_samples):
        self.given = [*getattr(self, "given", []), hamiltonian]
        return qvae.Samples(torch.ones(num_samples, hamiltonian.num_spins, dtype=torch.int8))


def test_an_anneal_begins_where_the_costliest_flip_is_free_and_ends_where_a_mean_one_is_made_by_a_hundredth():
    """Fields of 1 and -3 and a coupling of 2: the costliest flip costs 2 (3 + 2), a mean coefficient is 2."""
    hamiltonian = qvae.IsingHamiltonian([1.0, -3.0], [(0, 1)], [2.0])
    rise = minimise._betas(hamiltonian, Recorder())
    assert (len(rise), rise[0], rise[-1]) == (20, pytest.approx(math.log(2) / 10), pytest.approx(math.log(100) / 4))
    factors = [after / before for before, after in itertools.pairwise(rise)]
    assert factors == pytest.approx([factors[0]] * 19, rel=1e-4)
    assert minimise._betas(hamiltonian, qvae.load_sampler("exact")) == rise[-1:]
    assert minimise._betas(hamiltonian, Remote()) == [1 / 3]
    assert minimise._betas(qvae.IsingHamiltonian([0.0, 0.0], [(0, 1)], [0.0]), Recorder()) == [1.0]


def test_a_sampler_is_asked_at_each_temperature_and_the_last_draws_count():
    a, b, c = (PseudoBoolean.bit(number) for number in range(3))
    polynomial, sampler = 2 * a * b * c - 3 * b, Recorder()
    found = minimise_by_sampling(polynomial, sampler, betas=[0.5, 2.0])
    assert (found.num_draws, found.value, found.mean, found.frequency) == (100, -1.0, -1.0, 1.0)
    penalised = polynomial.quadratised(0.05).hamiltonian
    for beta, given in zip([0.5, 2.0], sampler.given, strict=True):
        assert torch.allclose(given.h, beta * penalised.h)
        assert torch.allclose(given.J, beta * penalised.J)
    assert found.bits.tolist() == [1, 1, 1]
    found = minimise.Minimum.of(torch.tensor([1.0, -2.0, -2.0 + 1e-9, 4.0], dtype=torch.float64), torch.ones(2))
    assert (found.value, found.frequency, found.mean, found.num_draws) == (-2.0, 0.5, pytest.approx(0.25), 4)


def test_a_circuit_begins_as_a_short_anneal(monkeypatch):
    begun = {}

    class Stopped(Exception):
        pass

    def adam(parameters, lr):
        (weight,) = parameters
        begun.update(weight=weight.detach().clone(), lr=lr)
        raise Stopped

    monkeypatch.setattr("torch.optim.Adam", adam)
    with pytest.raises(Stopped):
        minimise_by_qaoa(PseudoBoolean.bit(0) * PseudoBoolean.bit(1))
    assert begun["weight"].tolist() == pytest.approx([0.7 * part / 6 for part in (1, 5, 3, 3, 5, 1)])
    assert begun["lr"] == 0.05
    with pytest.raises(Stopped):
        minimise_by_qaoa(PseudoBoolean.bit(0) * PseudoBoolean.bit(1), layers=2, lr=0.2, ramp=0.4)
    assert begun["weight"].tolist() == pytest.approx([0.1, 0.3, 0.3, 0.1])
    assert begun["lr"] == 0.2
    monkeypatch.undo()
    assert minimise_by_qaoa(PseudoBoolean.bit(0), steps=0).num_draws == 1000


def test_a_circuit_has_the_executor_and_the_gradients_that_are_named(monkeypatch):
    asked = []

    class Stopped(Exception):
        pass

    def layer(circuit, observables, *others):
        asked.append((circuit.num_weights, *others))
        raise Stopped

    monkeypatch.setattr("qvae.qubo.qaoa.CircuitLayer", layer)
    with pytest.raises(Stopped):
        minimise_by_qaoa(PseudoBoolean.bit(0) * PseudoBoolean.bit(1), "an executor", layers=2, gradient="spsa")
    assert asked == [(4, "an executor", "spsa")]


def test_costs_of_strings_have_the_deviation_of_so_many_qubits():
    """2 z0 z1 - z1 is, by z = (1 + s)/2 and s = -Z, (1/2) Z0 Z1 - (1/2) Z0 + const: of squares that add up to 2."""
    a, b = PseudoBoolean.bit(0), PseudoBoolean.bit(1)
    found = dict(_cost(2 * a * b - b))
    assert found == {"ZZ": pytest.approx(1.0), "IZ": pytest.approx(-1.0)}


def test_what_is_refused():
    network, x, y = problem(0)
    with pytest.raises(DataError, match="1 row or more"):
        network.loss(x[:0], y[:0])
    with pytest.raises(DataError, match=r"must be \(rows, 3\)"):
        network(x[0])
    for sizes, options in (((3, 0), {}), ((3, 1), {"bits": 0}), ((3, 1), {"scale": 0.0})):
        with pytest.raises(ValueError, match="two sizes or more, all above 0"):
            FewBitNetwork(sizes, **options)
    assert FewBitNetwork((1, 1)).num_bits == 2
    assert repr(FewBitNetwork((3, 2), 2)) == "FewBitNetwork((3, 2), 2 bits each, 16 bits)"
    with pytest.raises(DataError, match=r"must be \(20, 1\)"):
        network.loss(x, y[:, 0])
    with pytest.raises(DataError, match=r"must be \(rows, 3\)"):
        network(x[:, :2])
    with pytest.raises(ValueError, match="two sizes or more"):
        FewBitNetwork((3,))
    with pytest.raises(ExecutorError, match="at most 24 qubits"):
        minimise_by_qaoa(sum((PseudoBoolean.bit(number) for number in range(25)), PseudoBoolean({})))
