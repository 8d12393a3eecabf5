"""Block Gibbs: conditionals, stationarity and convergence on the RBM, dense and sparse paths."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from qvae.ising import block_gibbs
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.exact import exact_distribution, spin_states
from qvae.ising.graphs import Graph, complete, edge_list, rbm, zephyr
from qvae.ising.hamiltonian import IsingHamiltonian

CHAINS = 30_000

# Odd cycle: three colours that permute the spins. The last graph has free spins and colours without neighbours.
PATHS = {
    "rbm": (rbm(4, 3), False),
    "dense": (complete(5), False),
    "dense, permuted": (edge_list([(i, (i + 1) % 7) for i in range(7)]), False),
    "sparse": (edge_list([(i, (i + 1) % 9) for i in range(9)]), True),
    "sparse, free spins": (edge_list([(1, 2), (2, 3), (3, 1), (5, 6)], 8), True),
    "no edges": (edge_list([], 3), False),
}


@pytest.fixture(params=PATHS.values(), ids=PATHS.keys())
def hamiltonian(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, random_hamiltonian
) -> IsingHamiltonian:
    graph, sparse = request.param
    if sparse:
        monkeypatch.setattr(block_gibbs, "_DENSE_SPINS", 0)
        assert not BlockGibbs(random_hamiltonian(graph))._dense
    return random_hamiltonian(graph, coupling=0.6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditional_field(hamiltonian: IsingHamiltonian, spins: Tensor) -> Tensor:
    """h_i + sum_j J_ij s_j, (chains, n), by a loop over the edges."""
    field = hamiltonian.h.repeat(len(spins), 1)
    for (i, j), coupling in zip(hamiltonian.edges.tolist(), hamiltonian.J.tolist(), strict=True):
        field[:, i] += coupling * spins[:, j]
        field[:, j] += coupling * spins[:, i]
    return field


def test_logits_and_means_are_those_of_every_spin_given_the_rest(hamiltonian: IsingHamiltonian) -> None:
    gibbs = BlockGibbs(hamiltonian)
    spins = spin_states(hamiltonian.num_spins)
    state = gibbs.from_spins(spins)
    expected = -2 * conditional_field(hamiltonian, spins)[:, gibbs.order].T
    for block in range(gibbs.num_blocks):
        rows = gibbs.rows(block)
        torch.testing.assert_close(gibbs.logits(state, block), expected[rows])
        torch.testing.assert_close(gibbs.logits(state, block, 0.5), 0.5 * expected[rows])
    means, in_rows = gibbs.means(state)
    torch.testing.assert_close(means, torch.tanh(expected / 2))
    assert torch.equal(in_rows, spins[:, gibbs.order].T.float())


def test_blocks_cover_every_row_once(hamiltonian: IsingHamiltonian) -> None:
    gibbs = BlockGibbs(hamiltonian)
    rows = [row for block in range(gibbs.num_blocks) for row in range(hamiltonian.num_spins)[gibbs.rows(block)]]
    assert rows == list(range(hamiltonian.num_spins))


def test_spins_survive_the_way_to_a_state_and_back(hamiltonian: IsingHamiltonian) -> None:
    gibbs = BlockGibbs(hamiltonian)
    spins = spin_states(hamiltonian.num_spins)
    back = gibbs.to_spins(gibbs.from_spins(spins))
    assert back.dtype == torch.int8
    assert torch.equal(back, spins)


def test_exact_samples_stay_exact(hamiltonian: IsingHamiltonian, excess) -> None:
    exact, gibbs = exact_distribution(hamiltonian), BlockGibbs(hamiltonian)
    state = gibbs.from_spins(exact.sample(CHAINS, generator()))
    assert excess(gibbs.to_spins(gibbs.sweep(state, 3, generator(1))), exact) < 5


def test_random_spins_become_exact_samples(hamiltonian: IsingHamiltonian, excess) -> None:
    exact, gibbs = exact_distribution(hamiltonian), BlockGibbs(hamiltonian)
    state = gibbs.random_state(CHAINS, generator())
    returned = gibbs.sweep(state, 50, generator(1))
    assert returned.data_ptr() == state.data_ptr()
    assert excess(gibbs.to_spins(state), exact) < 5


def test_every_chain_has_its_own_temperature(hamiltonian: IsingHamiltonian, excess) -> None:
    gibbs = BlockGibbs(hamiltonian)
    beta = torch.tensor([0.3, 1.5]).repeat_interleave(CHAINS)
    spins = gibbs.to_spins(gibbs.sweep(gibbs.random_state(2 * CHAINS, generator()), 50, generator(1), beta))
    for b, half in zip((0.3, 1.5), spins.split(CHAINS), strict=True):
        assert excess(half, exact_distribution(hamiltonian.replace(b * hamiltonian.h, b * hamiltonian.J))) < 5


@pytest.mark.parametrize("per_chain", [False, True])
def test_the_path_from_independent_spins(hamiltonian: IsingHamiltonian, per_chain: bool, excess) -> None:
    gibbs = BlockGibbs(hamiltonian)
    fields = torch.linspace(-1, 1, hamiltonian.num_spins)
    base = -2 * fields[gibbs.order].unsqueeze(1)
    between = hamiltonian.replace(0.4 * fields + 0.6 * hamiltonian.h, 0.6 * hamiltonian.J)
    exact = exact_distribution(between)
    beta = torch.full((CHAINS,), 0.6) if per_chain else 0.6
    state = gibbs.from_spins(exact.sample(CHAINS, generator()))
    backwards = list(reversed(range(gibbs.num_blocks)))
    assert excess(gibbs.to_spins(gibbs.sweep(state, 3, generator(1), beta, base, backwards)), exact) < 5


def test_update_takes_over_new_values(hamiltonian: IsingHamiltonian, random_hamiltonian) -> None:
    other = random_hamiltonian(hamiltonian.graph, seed=9)
    old, new = BlockGibbs(hamiltonian), BlockGibbs(other)
    old.update(other)
    state = new.random_state(50, generator())
    for block in range(new.num_blocks):
        torch.testing.assert_close(old.logits(state, block), new.logits(state, block))


def test_large_sparse_graph_agrees_with_a_dense_matrix(monkeypatch: pytest.MonkeyPatch, random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(zephyr(4))
    torch.set_warn_always(True)  # it warns once in a process otherwise, perhaps in an earlier test
    try:
        with warnings.catch_warnings():
            # torch's note that CSR is in beta must not reach the user.
            warnings.simplefilter("error")
            sparse = BlockGibbs(hamiltonian)
    finally:
        torch.set_warn_always(False)
    monkeypatch.setattr(block_gibbs, "_DENSE_SPINS", 10_000)
    dense = BlockGibbs(hamiltonian)
    assert dense._dense
    assert not sparse._dense
    state = dense.random_state(20, generator())
    for block in range(4):
        torch.testing.assert_close(sparse.logits(state, block), dense.logits(state, block), rtol=1e-4, atol=1e-4)
    # The bits drawn may differ only where a random number falls between two roundings of one probability.
    moved = [g.sweep(state.clone(), 1, generator(3)) for g in (sparse, dense)]
    assert float((moved[0] != moved[1]).float().mean()) < 1e-3


def test_no_spins() -> None:
    gibbs = BlockGibbs(IsingHamiltonian([], Graph(0, []), []))
    state = gibbs.sweep(gibbs.random_state(5, generator()), 2, generator())
    assert gibbs.to_spins(state).shape == (5, 0)
