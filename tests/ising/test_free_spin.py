"""One spin alone against products of 2 x 2 matrices, and its world lines against what such products say."""

from __future__ import annotations

import math

import pytest
import torch
from trotter_products import SIGMAS, generator, slice_product, trotter

from qvae.ising.exact import ExactDistribution
from qvae.ising.free_spin import FreeSpin, fields_of_means, free_lines, pinned_mean
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.world_lines import WorldLines


@pytest.mark.parametrize("slices", [1, 2, 6, None])
@pytest.mark.parametrize(("field", "gamma"), [(0.7, 0.4), (-2.0, 3.0), (0.0, 1.0), (1.5, 0.0), (0.0, 0.0), (-1e-9, 1e-9)])
def test_closed_forms_of_one_spin(field: float, gamma: float, slices: int | None) -> None:
    hamiltonian = IsingHamiltonian(torch.tensor([field]).double(), [], [], gamma)
    steps = slices or 2**14
    matrix = slice_product(hamiltonian, steps)
    tolerance = 1e-12 if slices else 1e-7
    spin = FreeSpin(hamiltonian.h, hamiltonian.gamma, slices)
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
        spin = FreeSpin(fields, gamma, slices)
        assert bool(torch.isfinite(spin.log_trace()).all())
        assert spin.mean()[:2].tolist() == pytest.approx([-1.0, 1.0], abs=1e-3)
        assert float(spin.log_return(up)[0]) == pytest.approx(-5000)
        assert float(spin.log_return(-up)[0]) == pytest.approx(5000)
        assert bool(torch.isfinite(spin.log_return(up)).all())


def test_fields_are_found_from_their_means() -> None:
    fields, gamma = torch.tensor([-3.0, -0.25, 0.0, 0.25, 2.0]).double(), torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0]).double()
    torch.testing.assert_close(fields_of_means(FreeSpin(fields, gamma).mean(), gamma), fields, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kernels", ["numba", "torch"])
def test_free_world_lines_and_pins(kernels, excess, monkeypatch) -> None:
    monkeypatch.setenv("QVAE_KERNELS", kernels)
    hamiltonian = IsingHamiltonian([0.5, -1.0, 0.0], [], [], [1.0, 0.3, 3.0])
    fields, gamma = hamiltonian.h.double().unsqueeze(1), hamiltonian.gamma.double().unsqueeze(1)
    lines = WorldLines(hamiltonian, 4)
    free = free_lines(fields, gamma, 4, 20_000, generator())
    assert excess(lines.to_spins(free), trotter(hamiltonian, 4)) < SIGMAS
    # With ends at z: slice 2 has weight <z|S^2|s>^2; a sweep keeps both the ends and the distribution.
    z = torch.tensor([1.0, -1.0, 1.0]).unsqueeze(1).expand(3, 20_000)
    weights = torch.linalg.matrix_power(slice_product(hamiltonian, 4), 2)[0b101].square()
    middle = ExactDistribution(hamiltonian.graph, (weights / weights.sum()).log(), 0.0, "", hamiltonian.h)
    bits = free_lines(fields, gamma, 4, 20_000, generator(), pinned=z)
    start = 2 * bits[:, 0].float() - 1
    for _ in range(2):
        assert torch.equal(start, z)
        assert excess(lines.gibbs.to_spins(bits[:, 2]), middle) < SIGMAS
        lines.sweep(bits, 3, generator(1), pinned=z)
        start = 2 * bits[:, 0].float() - 1


def test_free_world_lines_without_transverse_field_dont_change() -> None:
    fields, gamma = torch.tensor([[0.5], [800.0]]).double(), torch.zeros(2, 1).double()
    bits = free_lines(fields, gamma, 4, 10_000, generator())
    assert bool((bits == bits[:, :1]).all())
    assert float((2 * bits[0].float() - 1).mean()) == pytest.approx(-math.tanh(0.5), abs=SIGMAS / 100)
    assert int(bits[1].sum()) == 0
    z = torch.ones(2, 5)
    assert bool((free_lines(fields, gamma, 4, 5, generator(), pinned=z) == 1).all())


@pytest.mark.parametrize("spin", [1.0, -1.0])
def test_the_mean_of_a_pinned_spin_is_the_slope_of_its_return(spin: float) -> None:
    field = torch.tensor([-1.3, 0.2, 0.9, 2.5], dtype=torch.float64, requires_grad=True)
    gamma, pinned = torch.tensor([0.4, 1.7, 0.8, 0.3], dtype=torch.float64), torch.full((4,), spin, dtype=torch.float64)
    (slope,) = torch.autograd.grad(FreeSpin(field, gamma).log_return(pinned).sum(), field)
    torch.testing.assert_close(pinned_mean(field.detach(), gamma, pinned), -slope, rtol=1e-10, atol=1e-12)


def test_a_rare_return_keeps_its_digits_where_the_transverse_field_is_tiny() -> None:
    """To second order in gamma: the spin turns to its field and back, gamma^2 times the integral of (1 - t) e^(f (2 t - 1))."""
    f, gamma = 40.0, 1e-6
    there_and_back = gamma**2 * (math.exp(f) - (1 + 2 * f) * math.exp(-f)) / (4 * f**2)
    for sign in (1.0, -1.0):
        spin = FreeSpin(torch.tensor([sign * f]).double(), torch.tensor([gamma], dtype=torch.float64))
        expected = math.log(math.exp(-f) + there_and_back)
        assert float(spin.log_return(torch.tensor([sign]).double())) == pytest.approx(expected, rel=1e-9)
