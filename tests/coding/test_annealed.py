"""Codes under a Boltzmann prior: they come back, and take their entropy and an extra that falls with the chain's length."""

import numpy as np
import pytest
import torch

pytest.importorskip("constriction", reason="needs the extra: pip install -e '.[compress]'")

from qvae.coding.annealed import AnnealedCoder
from qvae.coding.stack import Stack
from qvae.errors import CapabilityError
from qvae.ising import graphs
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian

GRAPHS = {
    "rbm": graphs.rbm(4, 3),
    "complete": graphs.complete(6),
    "sparse": graphs.edge_list([(i, i + 1) for i in range(39)], 40),
    "none": graphs.edge_list([], 5),
}


def hamiltonian(graph, strength=0.5, gamma=0.0):
    generator = torch.Generator().manual_seed(graph.num_spins)
    h, J = (strength * torch.randn(count, generator=generator) for count in (graph.num_spins, graph.num_edges))
    return IsingHamiltonian(h, graph, J, gamma)


def full_stack(words=20_000):
    return Stack(np.random.default_rng(0).integers(1, 2**32, words, dtype=np.uint64).astype(np.uint32))


@pytest.mark.parametrize("name", GRAPHS)
def test_codes_come_back_and_nothing_else_is_touched(name):
    prior, rng = hamiltonian(GRAPHS[name]), np.random.default_rng(1)
    codes = [rng.integers(0, 2, (count, prior.num_spins)) for count in (1, 7, 64)]
    for stack in (full_stack(), Stack(np.empty(0, np.uint32))):
        before = stack.words()
        coder = AnnealedCoder(prior, 8)
        for part in codes:
            coder.push(stack, part)
        coder = AnnealedCoder(prior, 8)
        for part in reversed(codes):
            assert np.array_equal(coder.pop(stack, len(part)), part)
        assert np.array_equal(stack.words(), before)


@pytest.mark.parametrize("name", ["rbm", "complete", "none"])
def test_codes_of_the_prior_take_its_entropy_and_a_small_extra(name):
    prior, count = hamiltonian(GRAPHS[name]), 4000
    log_p = exact_distribution(prior).log_probabilities.numpy()
    numbers = np.random.default_rng(2).choice(len(log_p), count, p=np.exp(log_p) / np.exp(log_p).sum())
    codes = numbers[:, None] >> np.arange(prior.num_spins) & 1
    ideal = -log_p[numbers] / np.log(2)
    energies = prior.energy(torch.from_numpy(2.0 * codes - 1).float()).numpy()
    assert np.corrcoef(energies, ideal)[0, 1] > 0.999  # bits of a state's number are in the order of the spins
    extras = []
    for temperatures in (2, 64):
        stack, costs = full_stack(), []
        for part in codes.reshape(40, -1, prior.num_spins):
            before = stack.num_bits
            AnnealedCoder(prior, temperatures).push(stack, part)
            costs.append((stack.num_bits - before) / len(part))
        differences = np.array(costs) - ideal.reshape(40, -1).mean(1)
        extras.append((differences.mean(), differences.std() / 40**0.5))
    (rough, rough_error), (fine, error) = extras
    assert rough > -4 * rough_error  # no code is shorter than the entropy
    assert -4 * error < fine < rough / 16 + 4 * (error + rough_error)  # it falls as one over the number of temperatures


def test_dense_and_sparse_products_give_the_same_words(monkeypatch):
    prior, codes = hamiltonian(graphs.rbm(30, 20)), np.random.default_rng(3).integers(0, 2, (10, 50))
    dense, sparse = full_stack(), full_stack()
    AnnealedCoder(prior, 8).push(dense, codes)
    monkeypatch.setattr("qvae.coding.annealed._SPARSE", 0)  # which adds in another order
    AnnealedCoder(prior, 8).push(sparse, codes)
    assert np.array_equal(dense.words(), sparse.words())


def test_what_has_no_conditionals_or_no_exact_sums_is_refused():
    with pytest.raises(CapabilityError, match="transverse field"):
        AnnealedCoder(hamiltonian(GRAPHS["rbm"], gamma=0.5))
    with pytest.raises(CapabilityError, match="too strong"):
        AnnealedCoder(hamiltonian(GRAPHS["rbm"], 1e9))
