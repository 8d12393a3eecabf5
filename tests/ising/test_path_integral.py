"""World lines against Trotter products of matrices, log Z and <z|exp(-H)|z> against diagonalization."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

from qvae.ising import block_gibbs, path_integral
from qvae.ising.exact import ExactDistribution, exact_distribution, spin_states
from qvae.ising.graphs import Graph, complete, edge_list, rbm
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.path_integral import (
    WorldLines,
    choose_slices,
    estimate_trotter_error,
    log_diagonal_element,
    path_integral_log_partition,
)
from qvae.sampling.diagnostics import expected_total_variation, total_variation

SIGMAS = 5.0
MIXED = [3.0, 0.0, 1.0, 0.2]

# Two colours, three colours that permute the spins, free spins beside coupled ones.
GRAPHS = {
    "rbm": rbm(2, 2),
    "complete": complete(4),
    "ring": edge_list([(0, 2), (2, 1), (1, 3), (3, 0)]),
    "permuted, a free spin": edge_list([(1, 3), (3, 2), (2, 1)], 4),
    "no edges": edge_list([], 3),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slice_product(hamiltonian: IsingHamiltonian, slices: int) -> Tensor:
    """S = exp(-E/2P) exp(sum gamma sx / P) exp(-E/2P) as a matrix of Kronecker products, spin 0 the last factor."""
    spins = spin_states(hamiltonian.num_spins)
    half = torch.exp(-hamiltonian.to(dtype=torch.float64).energy(spins) / (2 * slices))
    factors = [
        torch.tensor([[math.cosh(angle), math.sinh(angle)], [math.sinh(angle), math.cosh(angle)]], dtype=torch.float64)
        for angle in (hamiltonian.gamma / slices).flip(0).tolist()
    ]
    return half.unsqueeze(1) * functools.reduce(torch.kron, factors) * half


def trotter(hamiltonian: IsingHamiltonian, slices: int) -> ExactDistribution:
    """The distribution and log Z of so many slices."""
    weights = torch.linalg.matrix_power(slice_product(hamiltonian, slices), slices).diagonal()
    nothing = torch.zeros(hamiltonian.num_spins)
    return ExactDistribution(hamiltonian.graph, weights / weights.sum(), float(weights.sum().log()), "", nothing)


def by_spin(lines: WorldLines, rows: Tensor) -> Tensor:
    return torch.empty_like(rows).index_copy_(0, lines.gibbs.order, rows)


def settled(hamiltonian: IsingHamiltonian, slices: int, chains: int = 10_000, sweeps: int = 15) -> tuple[WorldLines, Tensor]:
    lines = WorldLines(hamiltonian, slices)
    return lines, lines.sweep(lines.random_state(chains, generator()), sweeps, generator(1))


# ---- slices


@pytest.mark.parametrize("slices", [1, 2, 6, None])
@pytest.mark.parametrize(("field", "gamma"), [(0.7, 0.4), (-2.0, 3.0), (0.0, 1.0), (1.5, 0.0), (0.0, 0.0), (-1e-9, 1e-9)])
def test_closed_forms_of_one_spin(field: float, gamma: float, slices: int | None) -> None:
    hamiltonian = IsingHamiltonian(torch.tensor([field]).double(), [], [], gamma)
    steps = slices or 2**14
    matrix = slice_product(hamiltonian, steps)
    tolerance = 1e-12 if slices else 1e-7
    spin = path_integral._FreeSpin(hamiltonian.h, hamiltonian.gamma, slices)
    whole = torch.linalg.matrix_power(matrix, steps)
    assert float(spin.log_trace()) == pytest.approx(float(whole.trace().log()), abs=tolerance)
    assert float(spin.mean()) == pytest.approx(float((whole[1, 1] - whole[0, 0]) / whole.trace()), abs=tolerance)
    for value in (0, 1):
        s = torch.tensor([2.0 * value - 1]).double()
        assert float(spin.log_return(s)) == pytest.approx(float(whole[value, value].log()), abs=tolerance)
        if slices == 6:
            some = torch.linalg.matrix_power(matrix, 4)
            assert float(spin.log_return(s, 4)) == pytest.approx(float(some[value, value].log()), abs=tolerance)
            assert float(spin.log_passage(4)) == pytest.approx(float(some[0, 1].log()), abs=tolerance)


def test_closed_forms_of_one_spin_in_strong_fields() -> None:
    fields, gamma = torch.tensor([5000.0, -5000.0, 3.0, 5000.0]).double(), torch.tensor([0.0, 1.0, 5000.0, 5000.0]).double()
    up = torch.ones_like(fields)
    for slices in (2, 64, None):
        spin = path_integral._FreeSpin(fields, gamma, slices)
        assert bool(torch.isfinite(spin.log_trace()).all())
        assert spin.mean()[:2].tolist() == pytest.approx([-1.0, 1.0], abs=1e-3)
        assert float(spin.log_return(up)[0]) == pytest.approx(-5000)
        assert float(spin.log_return(-up)[0]) == pytest.approx(5000)
        assert bool(torch.isfinite(spin.log_return(up)).all())


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("coupling", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("name", ["rbm", "complete", "ring"])
def test_the_estimate_is_above_the_trotter_error_and_not_by_much(name, coupling, gamma, random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(GRAPHS[name], coupling=coupling, gamma=gamma)
    exact, slices = exact_distribution(hamiltonian), 12
    pairs = zip(trotter(hamiltonian, slices).moments(), exact.moments(), strict=True)
    error = max(float((mine - true).abs().max()) for mine, true in pairs)
    assert error < estimate_trotter_error(hamiltonian, slices) < 6 * error


def test_slices_are_as_many_as_the_error_asks_for(random_hamiltonian) -> None:
    for gamma in (0.1, 1.0, 3.0, MIXED):
        hamiltonian = random_hamiltonian(complete(4), gamma=gamma)
        chosen = choose_slices(hamiltonian, 0.001)
        assert chosen % 2 == 0
        assert estimate_trotter_error(hamiltonian, chosen) <= 0.001
        assert chosen == 2 or estimate_trotter_error(hamiltonian, chosen // 2) > 0.001
    assert choose_slices(random_hamiltonian(complete(4), gamma=3.0), 1e-9) == 1024
    assert choose_slices(random_hamiltonian(complete(4))) == 1
    assert estimate_trotter_error(random_hamiltonian(complete(4)), 1) == 0.0


@pytest.mark.parametrize("slices", [0, 1, 3, 4.0, True, "many"])
def test_a_wrong_number_of_slices(slices: object) -> None:
    hamiltonian = IsingHamiltonian([0.5], [], [], gamma=1.0)
    message = "slices is .*; it must be an even whole number, 2 or more"
    for function in (WorldLines, lambda h, p: path_integral_log_partition(h, slices=p)):
        with pytest.raises(ValueError, match=message):
            function(hamiltonian, slices)  # type: ignore[arg-type]


# ---- world lines


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 3.0, MIXED], ids=str)
@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_slices_are_distributed_as_trotter_says(graph: Graph, gamma: object, random_hamiltonian, excess) -> None:
    # The product of matrices with the same P: nothing but the noise of samples is between the two.
    gamma = gamma[: graph.num_spins] if isinstance(gamma, list) else gamma
    hamiltonian = random_hamiltonian(graph, coupling=0.8, gamma=gamma)
    lines, bits = settled(hamiltonian, slices=4)
    exact = trotter(hamiltonian, 4)
    assert excess(lines.to_spins(bits), exact) < SIGMAS
    assert excess(lines.gibbs.to_spins(bits[:, 3]), exact) < SIGMAS


@pytest.mark.parametrize("gamma", [0.3, 1.0, 3.0, MIXED], ids=str)
def test_correlations_in_imaginary_time(gamma: object, random_hamiltonian) -> None:
    # <s_i^0 s_i^k> = Tr S^(P-k) sz S^k sz / Z, and <sigma^x>: both know of K what a single slice doesn't.
    hamiltonian, slices = random_hamiltonian(complete(4), gamma=gamma), 6
    lines, bits = settled(hamiltonian, slices)
    product, power = slice_product(hamiltonian, slices), torch.linalg.matrix_power
    log_z = trotter(hamiltonian, slices).log_z
    spins = by_spin(lines, 2 * bits.double() - 1)
    for k in (1, 2, 3):
        for i, column in enumerate(spin_states(4).T.double()):
            expected = (power(product, slices - k) * column @ (power(product, k) * column)).trace() / math.exp(log_z)
            found = (spins[i, 0] * spins[i, k]).mean()
            assert abs(found - expected) < SIGMAS / math.sqrt(bits.shape[2])
    step = 1e-4
    found = by_spin(lines, lines.transverse_means(bits)).tolist()
    for i in range(4):
        shifted = [hamiltonian.gamma.double() + sign * step * torch.eye(4).double()[i] for sign in (0, 1)]
        ends = [trotter(IsingHamiltonian(hamiltonian.h, hamiltonian.graph, hamiltonian.J, g), slices).log_z for g in shifted]
        angle = float(hamiltonian.gamma[i]) / slices
        kinks = bits.shape[2] * math.sinh(angle) ** 2 if angle else 1.0
        noise = 0.0 if not angle else 1 / (math.tanh(angle) * math.sqrt(bits.shape[2]) * max(1.0, math.sqrt(1 / kinks)))
        assert found[i] == pytest.approx((ends[1] - ends[0]) / step, abs=SIGMAS * noise + 1e-3)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("graph", [rbm(4, 4), complete(6), edge_list([(i, (i + 1) % 7) for i in range(7)])], ids=str)
def test_the_distribution_is_exact_to_sampling_and_stated_trotter_error(graph, gamma, random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(graph, gamma=gamma)
    slices, chains = choose_slices(hamiltonian), 2000
    lines, bits = settled(hamiltonian, slices, chains, sweeps=40)
    exact = exact_distribution(hamiltonian)
    # McDiarmid: fails once in 1e6 times.
    allowed = expected_total_variation(exact, chains) + math.sqrt(math.log(1e6) / (2 * chains))
    assert total_variation(lines.to_spins(bits), exact) < allowed + estimate_trotter_error(hamiltonian, slices)
    # Of all slices and chains together: what is stated of means and correlations.
    found = [torch.zeros(graph.num_spins), torch.zeros(graph.num_edges)]
    i, j = graph.edges.T
    for k in range(slices):
        spins = lines.gibbs.to_spins(bits[:, k]).float()
        found = [found[0] + spins.mean(0) / slices, found[1] + (spins[:, i] * spins[:, j]).mean(0) / slices]
    stated = estimate_trotter_error(hamiltonian, slices)
    for mine, true in zip(found, exact.moments(), strict=True):
        assert float((mine - true).abs().max()) < stated + SIGMAS / math.sqrt(chains)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 3.0])
def test_one_spin_in_closed_form(gamma: float) -> None:
    # <sz> = -(h/e) tanh e and <sx> = (gamma/e) tanh e with e^2 = h^2 + gamma^2.
    h, chains, slices = 0.8, 20_000, 40
    _, bits = settled(IsingHamiltonian([h], [], [], gamma), slices, chains)
    lines = WorldLines(IsingHamiltonian([h], [], [], gamma), slices)
    e = math.hypot(h, gamma)
    mean = float((2 * bits[0].float() - 1).mean())
    assert mean == pytest.approx(-h / e * math.tanh(e), abs=SIGMAS / math.sqrt(chains) + 1e-3)
    # Kinks come in pairs, about gamma <sx> / 2 of them a line, and <sx> is their number over gamma.
    expected = gamma / e * math.tanh(e)
    noise = math.sqrt(2 * expected / gamma / chains)
    assert float(lines.transverse_means(bits)) == pytest.approx(expected, abs=SIGMAS * noise + 1e-3)


def test_world_lines_turn_as_a_whole_where_the_transverse_field_is_weak() -> None:
    # Every line is up, and so is its neighbour; down is e^8 times as likely, and nothing but whole lines gets there soon.
    hamiltonian = IsingHamiltonian([2.0, 2.0], [(0, 1)], [-0.1], gamma=0.1)
    lines = WorldLines(hamiltonian, 16)
    bits = lines.sweep(torch.ones(2, 16, 500, dtype=torch.int8), 3, generator())
    assert float(bits.float().mean()) < 0.1


def test_a_spin_without_transverse_field_is_the_same_in_all_slices(random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(complete(4), gamma=MIXED)
    lines = WorldLines(hamiltonian, 4)
    row = int(torch.argsort(lines.gibbs.order)[1])
    # Whatever state is given: it may be from before that field was switched off.
    bits = lines.sweep(torch.randint(0, 2, (4, 4, 200), dtype=torch.int8, generator=generator()), 1, generator())
    assert bool((bits[row] == bits[row, :1]).all())
    others = [i for i in range(4) if i != row]
    assert not bool((bits[others] == bits[others, :1]).all())
    assert float(by_spin(lines, lines.transverse_means(bits))[1]) == 0.0


def test_without_transverse_field_there_is_one_slice(random_hamiltonian, excess) -> None:
    hamiltonian = random_hamiltonian(complete(5))
    lines, bits = settled(hamiltonian, 16)
    assert bits.shape[1] == 1
    assert excess(lines.to_spins(bits), exact_distribution(hamiltonian)) < SIGMAS
    assert lines.transverse_means(bits).tolist() == [0.0] * 5


@pytest.mark.parametrize("graph", [rbm(3, 3), edge_list([(i, (i + 1) % 7) for i in range(7)])], ids=["rbm", "ring"])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_sparse_matrices_and_parts_of_the_chains(graph, sparse, random_hamiltonian, monkeypatch, excess) -> None:
    if sparse:
        monkeypatch.setattr(block_gibbs, "_DENSE_SPINS", 0)
    monkeypatch.setattr(path_integral, "_CPU_ELEMENTS", 2**14)
    hamiltonian = random_hamiltonian(graph, gamma=1.0)
    slices = 24
    lines, bits = settled(hamiltonian, slices, chains=5001)
    assert len(list(lines._parts(bits))) > 2
    assert excess(lines.to_spins(bits), trotter(hamiltonian, slices)) < SIGMAS
    energies = hamiltonian.energy(lines.gibbs.to_spins(bits.flatten(1))).view(slices, -1) / slices
    torch.testing.assert_close(lines.energies(bits), energies, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_energies(graph: Graph, random_hamiltonian) -> None:
    lines = WorldLines(random_hamiltonian(graph, gamma=1.0), 2)
    bits = torch.randint(0, 2, (graph.num_spins, 2, 20), dtype=torch.int8, generator=generator())
    spins = lines.gibbs.to_spins(bits.flatten(1))
    expected = random_hamiltonian(graph).energy(spins).view(2, 20) / 2
    torch.testing.assert_close(lines.energies(bits), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.3, MIXED], ids=str)
def test_conditional_means_have_the_same_average_and_less_variance(gamma: object, random_hamiltonian) -> None:
    hamiltonian, slices = random_hamiltonian(complete(4), gamma=gamma), 6
    lines, bits = settled(hamiltonian, slices, chains=20_000)
    exact = trotter(hamiltonian, lines.slices).moments()[0]
    rows = [torch.cat(parts, 1).view(4, lines.slices, -1) for parts in zip(*lines.means(bits, generator(2)), strict=True)]
    conditional, plain = (by_spin(lines, values).double().mean(1) for values in rows)
    assert torch.equal(rows[1], 2 * bits.float() - 1)
    spread = conditional.std(1)
    assert bool(((conditional.mean(1) - exact).abs() < SIGMAS * spread / math.sqrt(20_000)).all())
    assert bool((spread < 0.9 * plain.std(1)).all())


def test_the_path_from_independent_spins(random_hamiltonian, excess) -> None:
    hamiltonian = random_hamiltonian(complete(4), gamma=1.0)
    lines, fields = WorldLines(hamiltonian, 4), torch.linspace(-1, 1, 4)
    between = hamiltonian.replace(0.4 * fields + 0.6 * hamiltonian.h, 0.6 * hamiltonian.J)
    base = (-2 / 4 * fields[lines.gibbs.order]).unsqueeze(1)
    for beta, logits in ((0.6, base), (torch.full((10_000,), 0.6), base.expand(-1, 10_000))):
        bits = lines.sweep(lines.random_state(10_000, generator()), 15, generator(1), beta, logits, order=[3, 1, 0, 2])
        assert excess(lines.to_spins(bits), trotter(between, 4)) < SIGMAS


def test_free_world_lines_and_pins(excess) -> None:
    hamiltonian = IsingHamiltonian([0.5, -1.0, 0.0], [], [], [1.0, 0.3, 3.0])
    fields, gamma = hamiltonian.h.double().unsqueeze(1), hamiltonian.gamma.double().unsqueeze(1)
    lines = WorldLines(hamiltonian, 4)
    free = path_integral._free_lines(fields, gamma, 4, 20_000, generator())
    assert excess(lines.to_spins(free), trotter(hamiltonian, 4)) < SIGMAS
    # With ends at z: slice 2 has weight <z|S^2|s>^2; a sweep keeps both the ends and the distribution.
    z = torch.tensor([1.0, -1.0, 1.0]).unsqueeze(1).expand(3, 20_000)
    weights = torch.linalg.matrix_power(slice_product(hamiltonian, 4), 2)[0b101].square()
    middle = ExactDistribution(hamiltonian.graph, weights / weights.sum(), 0.0, "", hamiltonian.h)
    bits = path_integral._free_lines(fields, gamma, 4, 20_000, generator(), pinned=z)
    start = 2 * bits[:, 0].float() - 1
    for _ in range(2):
        assert torch.equal(start, z)
        assert excess(lines.gibbs.to_spins(bits[:, 2]), middle) < SIGMAS
        lines.sweep(bits, 3, generator(1), pinned=z)
        start = 2 * bits[:, 0].float() - 1


def test_free_world_lines_without_transverse_field_dont_change() -> None:
    fields, gamma = torch.tensor([[0.5], [800.0]]).double(), torch.zeros(2, 1).double()
    bits = path_integral._free_lines(fields, gamma, 4, 10_000, generator())
    assert bool((bits == bits[:, :1]).all())
    assert float((2 * bits[0].float() - 1).mean()) == pytest.approx(-math.tanh(0.5), abs=SIGMAS / 100)
    assert int(bits[1].sum()) == 0
    z = torch.ones(2, 5)
    assert bool((path_integral._free_lines(fields, gamma, 4, 5, generator(), pinned=z) == 1).all())


def test_another_number_of_slices_goes_on_from_the_nearest() -> None:
    lines = WorldLines(IsingHamiltonian([0.0], [], [], 1.0), 6)
    bits = torch.tensor([0, 1, 0, 1], dtype=torch.int8).view(1, 4, 1)
    assert lines.resliced(bits).flatten().tolist() == [0, 0, 1, 0, 0, 1]
    assert lines.resliced(bits[:, :1]).flatten().tolist() == [0] * 6


# ---- log Z


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 3.0, MIXED * 2], ids=str)
@pytest.mark.parametrize("graph", [rbm(4, 4), complete(8)], ids=["rbm", "complete"])
def test_log_z(graph: Graph, gamma: object, random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(graph, gamma=gamma)
    found = path_integral_log_partition(hamiltonian, chains=100, temperatures=50)
    assert abs(found.value - exact_distribution(hamiltonian).log_z) < SIGMAS * found.stderr < 1.0
    assert found.stderr == pytest.approx(math.hypot(found.details["sampling_error"], found.details["trotter_error"]))
    assert found.method.startswith("path-integral AIS forward + reverse (BAR), 100 chains x 50 temperatures x ")


def test_log_z_error_bars_are_neither_small_nor_large(random_hamiltonian) -> None:
    hamiltonian, number = random_hamiltonian(rbm(2, 2), coupling=1.0, gamma=1.5), 20
    log_z = exact_distribution(hamiltonian).log_z
    runs = [
        path_integral_log_partition(hamiltonian, slices=4, chains=40, temperatures=10, seed=seed) for seed in range(number)
    ]
    scores = torch.tensor([(run.value - log_z) / run.stderr for run in runs])
    assert 0.5 < float(scores.square().mean().sqrt()) < 1.6
    # What was taken off is the Trotter error, and one that would have been seen.
    correction = sum(run.details["trotter_correction"] for run in runs) / number
    true = log_z - trotter(hamiltonian, 4).log_z
    left = sum(run.details["trotter_error"] for run in runs) / number
    values = torch.tensor([run.value for run in runs]).double()
    noise = float(values.std()) / math.sqrt(number)
    assert abs(correction - true) < left + noise
    assert left < 0.2 * abs(true)
    assert float(values.mean()) == pytest.approx(log_z, abs=SIGMAS * noise + left)
    assert abs(true) > 3 * noise + left


def test_log_z_without_couplings_is_that_of_single_spins() -> None:
    hamiltonian = IsingHamiltonian([0.8, 0.0, 3.0], [], [], [0.6, 1.0, 0.0])
    found = path_integral_log_partition(hamiltonian, chains=50, temperatures=10)
    expected = sum(math.log(2 * math.cosh(e)) for e in (1.0, 1.0, 3.0))
    assert found.value == pytest.approx(expected, abs=SIGMAS * found.stderr)
    assert found.stderr < 0.05
    assert path_integral_log_partition(IsingHamiltonian([], [], []), chains=5, temperatures=5).value == 0.0


def test_coarser_slices_from_finer_ones(random_hamiltonian) -> None:
    hamiltonian, slices, chains = random_hamiltonian(complete(4), gamma=2.0), 8, 10_000
    lines, bits = settled(hamiltonian, slices, chains)
    log_z = {count: trotter(hamiltonian, count).log_z for count in (2, 4, 8)}
    for stride in (2, 4):
        value, stderr = path_integral._coarser(lines.energies(bits), stride)
        assert value == pytest.approx(log_z[slices // stride] - log_z[slices], abs=SIGMAS * stderr)
        assert stderr < 0.01


def test_the_same_seed_finds_the_same_log_z(random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(rbm(2, 2), gamma=1.0)
    values = [path_integral_log_partition(hamiltonian, chains=10, temperatures=5, seed=seed).value for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_too_few_chains_or_temperatures() -> None:
    hamiltonian = IsingHamiltonian([0.5], [], [], gamma=1.0)
    with pytest.raises(ValueError, match="chains is 1 and temperatures is 5; each must be 2 or more"):
        path_integral_log_partition(hamiltonian, chains=1, temperatures=5)
    with pytest.raises(ValueError, match="chains is 1; it must be 2 or more"):
        log_diagonal_element(hamiltonian, torch.ones(1, 1), chains=1)
    with pytest.raises(ValueError, match="temperatures is 0; it must be 1 or more"):
        log_diagonal_element(hamiltonian, torch.ones(1, 1), temperatures=0)


# ---- <z|exp(-H)|z>


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 3.0, [*MIXED, 1.0, 0.5]], ids=str)
@pytest.mark.parametrize("graph", [rbm(3, 3), complete(6)], ids=["rbm", "complete"])
def test_diagonal_elements(graph: Graph, gamma: object, random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(graph, gamma=gamma)
    exact = exact_distribution(hamiltonian)
    log_p = exact.probabilities.log() + exact.log_z
    states = torch.multinomial(exact.probabilities, 100, replacement=True, generator=generator())
    values, errors = log_diagonal_element(hamiltonian, exact.spins()[states], chains=50, temperatures=10)
    scores = (values - log_p[states]) / (errors + 1e-3)
    assert float(scores.square().mean().sqrt()) < 1.6
    assert float(scores.mean().abs()) < SIGMAS * 0.2
    assert float(errors.max()) < 0.5
    # All states, likely or not.
    values, errors = log_diagonal_element(hamiltonian, exact.spins(), chains=50, temperatures=10)
    assert float((values - log_p).abs().max()) < 1.0


def test_diagonal_elements_without_transverse_field_are_energies(random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(complete(5))
    spins = spin_states(5)
    values, errors = log_diagonal_element(hamiltonian, spins, chains=2)
    torch.testing.assert_close(values, -hamiltonian.energy(spins).double(), atol=1e-4, rtol=1e-5)
    assert float(errors.max()) < 1e-4


def test_diagonal_elements_in_parts(random_hamiltonian, monkeypatch) -> None:
    hamiltonian = random_hamiltonian(rbm(2, 2), gamma=1.0)
    spins = spin_states(4)
    monkeypatch.setattr(path_integral, "_ROW_ELEMENTS", 4 * 12 * 20 * 3)
    exact = exact_distribution(hamiltonian)
    values, errors = log_diagonal_element(hamiltonian, spins, chains=20, temperatures=5)
    assert values.shape == errors.shape == (16,)
    scores = (values - exact.probabilities.log() - exact.log_z) / (errors + 1e-3)
    assert float(scores.abs().max()) < SIGMAS
