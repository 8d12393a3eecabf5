"""Block Gibbs: conditionals, stationarity and convergence on RBM, dense, rounded and sparse paths; its random numbers."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from qvae.ising import block_gibbs, fused_sweeps, products
from qvae.ising.block_gibbs import BlockGibbs, sparse_matrix
from qvae.ising.exact import exact_distribution, spin_states
from qvae.ising.graphs import Graph, complete, edge_list, rbm, zephyr
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.products import RoundedProducts
from qvae.ising.uniforms import Uniforms

pytestmark = pytest.mark.usefixtures("kernels")

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
def hamiltonian(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, random_hamiltonian) -> IsingHamiltonian:
    graph, sparse = request.param
    monkeypatch.setattr(fused_sweeps, "_ROWS", 0)  # products for small blocks, too
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


def test_energies_are_the_hamiltonian_s(hamiltonian: IsingHamiltonian) -> None:
    kernel = BlockGibbs(hamiltonian)
    state = kernel.random_state(50, torch.Generator().manual_seed(0))
    expected = hamiltonian.energy(kernel.to_spins(state))
    assert torch.allclose(kernel.energies(state), expected, atol=1e-4)
    assert torch.allclose(kernel.energies(state.bfloat16()), expected, atol=1e-4)
    moved = hamiltonian.replace(hamiltonian.h + 1, 2 * hamiltonian.J)
    kernel.update(moved)
    assert torch.allclose(kernel.energies(state), moved.energy(kernel.to_spins(state)), atol=1e-4)


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
    state = BlockGibbs(hamiltonian).sweep(state, 1, generator())
    swept = BlockGibbs(hamiltonian)
    swept.sweep(state.clone(), 1, generator())
    swept.update(other)
    expected = new.sweep(state.clone(), 2, generator(1))
    assert torch.equal(swept.sweep(state.clone(), 2, generator(1)), expected)
    assert torch.equal(swept.energies(expected), new.energies(expected))


def test_parts_of_the_chains(hamiltonian: IsingHamiltonian, monkeypatch: pytest.MonkeyPatch, excess) -> None:
    monkeypatch.setattr(block_gibbs, "_CPU_BITS", 0)
    monkeypatch.setattr(fused_sweeps, "_GATHERED", 100)
    monkeypatch.setattr(fused_sweeps, "_MULTIPLIED", 100)
    gibbs = BlockGibbs(hamiltonian)
    # A last part of one chain, and two temperatures that change inside a part.
    beta = torch.tensor([0.3, 1.0]).repeat_interleave(torch.tensor([3000, 10_000 - 3000 + 17]))
    spins = gibbs.to_spins(gibbs.sweep(gibbs.random_state(len(beta), generator()), 30, generator(1), beta))
    exact = exact_distribution(hamiltonian.replace(0.3 * hamiltonian.h, 0.3 * hamiltonian.J))
    assert excess(spins[:3000], exact) < 5
    assert excess(spins[3000:], exact_distribution(hamiltonian)) < 5


# Rounded products -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [rbm(4, 3), complete(5), edge_list([(1, 2), (2, 3), (3, 1)], 6)], ids=repr)
def test_many_chains_with_rounded_products(graph: Graph, random_hamiltonian, excess) -> None:
    hamiltonian = random_hamiltonian(graph, coupling=0.6)
    exact, gibbs = exact_distribution(hamiltonian), BlockGibbs(hamiltonian)
    state = gibbs.random_state(400_000, generator()).bfloat16()
    assert excess(gibbs.to_spins(gibbs.sweep(state, 25, generator(1))), exact) < 5


@pytest.mark.parametrize("of_digits", [True, False])
@pytest.mark.parametrize("graph", [rbm(4, 3), complete(5)], ids=repr)
def test_many_chains_with_products(
    graph: Graph, of_digits: bool, random_hamiltonian, monkeypatch: pytest.MonkeyPatch, excess
) -> None:
    monkeypatch.setattr(fused_sweeps, "_ROWS", 0)
    monkeypatch.setattr(products, "multiplies_int8", lambda: of_digits)
    hamiltonian = random_hamiltonian(graph, coupling=0.6)
    exact, gibbs = exact_distribution(hamiltonian), BlockGibbs(hamiltonian)
    state = gibbs.random_state(400_000, generator())
    assert excess(gibbs.to_spins(gibbs.sweep(state, 25, generator(1))), exact) < 5


def test_many_chains_with_a_sparse_graph(monkeypatch: pytest.MonkeyPatch, random_hamiltonian, excess) -> None:
    monkeypatch.setattr(block_gibbs, "_DENSE_SPINS", 0)
    hamiltonian = random_hamiltonian(edge_list([(i, (i + 1) % 9) for i in range(9)]), coupling=0.6)
    exact, gibbs = exact_distribution(hamiltonian), BlockGibbs(hamiltonian)
    assert not gibbs._dense
    state = gibbs.random_state(400_000, generator())
    assert excess(gibbs.to_spins(gibbs.sweep(state, 25, generator(1))), exact) < 5


def test_rounding_does_not_shift_the_logits_of_a_large_rbm(random_hamiltonian) -> None:
    gibbs = BlockGibbs(random_hamiltonian(rbm(128, 100), coupling=0.2))
    state = gibbs.sweep(gibbs.random_state(2000, generator()), 20, generator(1))
    rounded = RoundedProducts(gibbs._blocks, gibbs._weights, gibbs._biases, state.bfloat16())
    rounded.refresh()
    for block in range(2):
        exact = gibbs.logits(state, block)
        found = rounded.logits(block) - exact
        # A logit may be off by the rounding of its product; its mean over the chains may not.
        assert float(found.square().mean().sqrt()) < 2e-2
        assert float(found.mean(1).abs().max()) < 2e-3
        rounded.biases[block] = gibbs._biases[block]
        plain = rounded.logits(block) - exact
        assert float(plain.mean(1).square().mean()) > 30 * float(found.mean(1).square().mean())


def test_which_states_are_rounded(monkeypatch: pytest.MonkeyPatch, random_hamiltonian, kernels: str) -> None:
    monkeypatch.setattr(block_gibbs, "multiplies_bfloat16", lambda device: True)
    compiled = kernels == "numba"
    assert BlockGibbs(random_hamiltonian(rbm(100, 100))).quickest == (torch.int8 if compiled else torch.bfloat16)
    for graph in (rbm(20, 20), complete(200), zephyr(3)):
        assert BlockGibbs(random_hamiltonian(graph)).quickest == (torch.int8 if compiled else torch.float32)
    monkeypatch.setattr(block_gibbs, "multiplies_bfloat16", lambda device: False)
    assert BlockGibbs(random_hamiltonian(rbm(100, 100))).quickest == (torch.int8 if compiled else torch.float32)


# Random numbers -------------------------------------------------------------------------------------------------------


def test_uniform_numbers_are_uniform_in_their_high_and_low_bits() -> None:
    numbers = Uniforms(100, 5000, generator(), torch.device("cpu"))
    high, low = torch.zeros(256), torch.zeros(128)
    for _ in range(10):
        drawn = numbers.draw()
        assert float(drawn.min()) > 0
        assert float(drawn.max()) < 1
        steps = (drawn.double() * 2**24).long()
        high += torch.bincount((steps >> 16).flatten(), minlength=256)
        low += torch.bincount(steps[0] % 256 // 2, minlength=128)  # rows of a chain share it
    for counts in (high, low):
        chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum() - (len(counts) - 1)
        assert abs(float(chi_square)) < 5 * (2 * len(counts)) ** 0.5
    assert bool((steps % 2 == 1).all())  # between the multiples of 2^-23: neither end is more likely than it should be


def test_uniform_numbers_of_one_chain_are_independent() -> None:
    drawn = Uniforms(200, 20_000, generator(), torch.device("cpu")).draw() - 0.5
    pairs = (drawn[::2] * drawn[1::2]).mean() * 12
    assert abs(float(pairs)) < 5 / 2e6**0.5
    assert abs(float((drawn[:, ::2] * drawn[:, 1::2]).mean() * 12)) < 5 / 2e6**0.5


def test_uniform_numbers_repeat_with_their_seed() -> None:
    first, again, other = (Uniforms(3, 5, generator(seed), torch.device("cpu")).draw() for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rare_flips_are_as_rare_as_they_should_be(dtype: torch.dtype) -> None:
    # A probability of 2^-17.4, which 16 random bits alone would make 0 or 2^-16.
    p, n, chains, sweeps = 5.8e-6, 50, 4000, 100
    gibbs = BlockGibbs(IsingHamiltonian(torch.full((n,), -0.5 * math.log(p)), Graph(n, []), []))
    state, count = gibbs.random_state(chains, generator()).to(dtype), 0.0
    random = generator(1)
    for _ in range(sweeps):
        count += float(gibbs.sweep(state, 1, random).sum(dtype=torch.float32))
    expected = p * n * chains * sweeps
    assert abs(count - expected) < 5 * expected**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_no_spin_is_wrong_in_a_strong_field(dtype: torch.dtype) -> None:
    fields = torch.tensor([30.0, -30.0, 30.0, -30.0])
    gibbs = BlockGibbs(IsingHamiltonian(fields, rbm(2, 2), [0.1, -0.1, 0.2, -0.2]))
    state = gibbs.sweep(gibbs.random_state(100_000, generator()).to(dtype), 2, generator(1))
    assert torch.equal(gibbs.to_spins(state), -fields.sign().to(torch.int8).expand(100_000, 4))


def test_large_sparse_graph_agrees_with_a_dense_matrix(monkeypatch: pytest.MonkeyPatch, random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(zephyr(4))
    sparse = BlockGibbs(hamiltonian)
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


def test_torch_s_notes_on_sparse_matrices_do_not_reach_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    make = torch.sparse_csr_tensor

    def noting(*parts: Any, **options: Any) -> torch.Tensor:
        # Some versions of torch do, whatever they are told.
        warnings.warn("Sparse invariant checks are implicitly disabled. Memory errors will occur", stacklevel=1)
        return make(*parts, **options)

    monkeypatch.setattr(torch, "sparse_csr_tensor", noting)
    torch.set_warn_always(True)  # it warns once in a process otherwise, perhaps in an earlier test
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            matrix = sparse_matrix(torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0]), torch.tensor([3.0, 4.0]))
    finally:
        torch.set_warn_always(False)
    assert (matrix @ torch.eye(3)).tolist() == [[0.0, 3.0, 0.0], [0.0, 0.0, 0.0], [4.0, 0.0, 0.0]]


def test_no_spins() -> None:
    gibbs = BlockGibbs(IsingHamiltonian([], Graph(0, []), []))
    state = gibbs.sweep(gibbs.random_state(5, generator()), 2, generator())
    assert gibbs.to_spins(state).shape == (5, 0)
