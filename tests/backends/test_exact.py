"""The exact sampler: its moments carry no sampling error, and its samples are independent."""

import pytest
import torch

from qvae.errors import CapabilityError
from qvae.ising import graphs
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.registry import load_sampler
from qvae.testing import check_sampler


def test_conformance():
    check_sampler("exact")


@pytest.mark.parametrize("gamma", [0.0, 0.8])
def test_moments_are_minus_the_gradient_of_log_z(gamma):
    graph = graphs.rbm(2, 2)
    h, J = torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    sampler, step = load_sampler("exact"), 1e-5

    def log_z(h, J):
        return exact_distribution(IsingHamiltonian(h, graph, J, gamma)).log_z

    found = sampler.moments(IsingHamiltonian(h, graph, J, gamma), 1)
    assert found.info["log_z"] == pytest.approx(log_z(h, J))
    for i, unit in enumerate(torch.eye(4, dtype=torch.float64)):
        numeric = (log_z(h + step * unit, J) - log_z(h - step * unit, J)) / (2 * step)
        assert float(found.spins[i]) == pytest.approx(-numeric, abs=1e-8)
        numeric = (log_z(h, J + step * unit) - log_z(h, J - step * unit)) / (2 * step)
        assert float(found.pairs[i]) == pytest.approx(-numeric, abs=1e-8)


def test_parameters_changed_in_place_are_seen():
    hamiltonian = IsingHamiltonian([0.5, 0.5], [(0, 1)], [0.0])
    sampler = load_sampler("exact", seed=0)
    assert float(sampler.moments(hamiltonian, 1).spins[0]) < 0
    hamiltonian.h.neg_()
    assert float(sampler.moments(hamiltonian, 1).spins[0]) > 0


def test_limits_name_others():
    with pytest.raises(CapabilityError, match="it takes at most 20 spins; these can: .*gibbs"):
        load_sampler("exact").sample(IsingHamiltonian(torch.zeros(21), [], []), 1)
    with pytest.raises(CapabilityError, match="it takes at most 14 spins with a transverse field; these can: .*path_integral"):
        load_sampler("exact").moments(IsingHamiltonian(torch.zeros(15), [], [], gamma=1.0), 1)


@pytest.mark.parametrize(
    ("n", "gamma", "method"),
    [(12, 0.0, "enumeration of 2^12 states"), (3, 1.0, "exp(-H) in 2^3 states"), (11, 1.0, "Trotter products")],
)
def test_info_says_the_method_and_its_error(n, gamma, method):
    hamiltonian = IsingHamiltonian(torch.full((n,), 0.3), [], [], gamma)
    samples = load_sampler("exact", seed=0).sample(hamiltonian, 10)
    assert samples.info["method"].startswith(method)
    assert (0 < samples.info["error_estimate"] < 1e-6) == method.startswith("Trotter")
