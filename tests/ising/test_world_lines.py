"""World lines against Trotter products of matrices."""

from __future__ import annotations

import math

import pytest
import torch
from trotter_products import GRAPHS, MIXED, SIGMAS, by_spin, flattened, generator, settled, slice_product, trotter

from qvae.ising import block_gibbs, fused_line_sweeps, fused_sweeps, world_lines
from qvae.ising.exact import exact_distribution, spin_states
from qvae.ising.graphs import Graph, complete, edge_list, rbm
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.trotter import choose_slices, estimate_trotter_error
from qvae.ising.world_lines import WorldLines
from qvae.sampling.diagnostics import expected_total_variation, total_variation

pytestmark = pytest.mark.usefixtures("kernels")


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


def test_some_graphs_have_their_rows_in_another_order_than_their_spins() -> None:
    colours = {name: graph.colouring.tolist() for name, graph in GRAPHS.items()}
    assert [name for name, of_spins in colours.items() if of_spins != sorted(of_spins)] == ["ring", "permuted, a free spin"]


@pytest.mark.parametrize("gamma", [0.3, 1.5])
@pytest.mark.parametrize(("graph", "slices"), [(complete(3), 2), (complete(2), 4), (complete(3), 4)], ids=str)
def test_all_slices_together_are_distributed_as_their_weights(graph, slices, gamma, random_hamiltonian, excess) -> None:
    # Few slices and many chains: every joint state of them is counted.
    hamiltonian, chains = random_hamiltonian(graph, coupling=1.0, gamma=gamma, seed=2), 300_000
    lines, bits = settled(hamiltonian, slices, chains, sweeps=12)
    flat = by_spin(lines, 2 * bits - 1).flatten(0, 1).T
    assert excess(flat, exact_distribution(flattened(hamiltonian, slices))) < SIGMAS


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
    else:
        monkeypatch.setattr(fused_sweeps, "_ROWS", 0)  # products for small blocks, too
    monkeypatch.setattr(world_lines, "_CPU_ELEMENTS", 2**14)
    monkeypatch.setattr(fused_line_sweeps, "_BITS", 2**14)
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


def test_another_number_of_slices_goes_on_from_the_nearest() -> None:
    lines = WorldLines(IsingHamiltonian([0.0], [], [], 1.0), 6)
    bits = torch.tensor([0, 1, 0, 1], dtype=torch.int8).view(1, 4, 1)
    assert lines.resliced(bits).flatten().tolist() == [0, 0, 1, 0, 0, 1]
    assert lines.resliced(bits[:, :1]).flatten().tolist() == [0] * 6


@pytest.mark.parametrize("chains", [1, 70])
def test_what_is_of_a_chain_is_its_own_in_every_part(chains: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins, base and temperature: spins that are held stay, and where beta is 0 strong bases alone decide."""
    for module, name in ((world_lines, "_CPU_ELEMENTS"), (fused_line_sweeps, "_BITS")):
        monkeypatch.setattr(module, name, 16)
    lines = WorldLines(IsingHamiltonian(torch.full((3,), -30.0), [(0, 1), (1, 2)], [0.5, -0.3], 0.3), 4)
    bits = torch.zeros(3, 4, chains, dtype=torch.int8)
    pinned = torch.randn(3, chains, generator=generator()).sign()
    held = lines.sweep(bits.clone(), 2, generator(1), pinned=pinned)
    assert torch.equal(2 * held[:, 0] - 1, pinned.to(torch.int8))
    base = 1e4 * torch.randn(3, chains, generator=generator(2)).sign()
    beta = torch.randint(2, (chains,), generator=generator(3)).float()
    for own in (beta, 0.0):
        expected = torch.where(torch.as_tensor(own) == 1, 1.0, (1 + base.sign()) / 2)  # all up at beta = 1
        found = lines.sweep(bits.clone(), 2, generator(1), own, base)
        assert torch.equal(found, expected.to(torch.int8).unsqueeze(1).expand_as(found))


@pytest.mark.parametrize("changed", ["h", "J", "gamma"])
@pytest.mark.parametrize("graph", [rbm(2, 3), edge_list([(0, 1), (1, 4), (4, 2), (2, 0)], 5)], ids=["rbm", "permuted"])
def test_after_an_update_nothing_is_left_of_the_values_before(graph: Graph, changed: str, random_hamiltonian) -> None:
    before, other = (random_hamiltonian(graph, gamma=gamma, seed=seed) for gamma, seed in ((0.5, 1), (1.2, 2)))
    after = before.replace(**{changed: getattr(other, changed)})
    lines, fresh = WorldLines(before, 4), WorldLines(after, 4)
    bits = lines.sweep(lines.random_state(300, generator()), 2, generator(1))
    lines.update(after)
    expected = fresh.sweep(bits.clone(), 2, generator(2))
    assert torch.equal(lines.energies(bits), fresh.energies(bits))
    assert torch.equal(lines.transverse_means(bits), fresh.transverse_means(bits))
    assert torch.equal(lines.sweep(bits.clone(), 2, generator(2)), expected)
    assert not torch.equal(WorldLines(before, 4).sweep(bits.clone(), 2, generator(2)), expected)
