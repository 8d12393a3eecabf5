"""The truth of a problem: exact against enumeration by hand, reference runs against the exact truth within their error bars."""

import itertools
import math
from dataclasses import fields

import pytest
import torch

from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.measuring import truth as module
from qvae.measuring.problems import make_problem
from qvae.measuring.truth import cached_truth, find_truth


def test_two_spins_by_hand():
    truth = find_truth(IsingHamiltonian([0.0, 0.0], [(0, 1)], [-0.5]), 1.0)
    assert truth.moments.pairs.tolist() == pytest.approx([math.tanh(0.5)])
    assert truth.moments.spins.tolist() == pytest.approx([0, 0], abs=1e-12)
    assert truth.energy == pytest.approx(-0.5 * math.tanh(0.5))
    assert truth.energy_sd == pytest.approx(0.5 / math.cosh(0.5))
    assert truth.rms_errors == (0, 0, 0)
    assert truth.distribution is not None


@pytest.mark.parametrize("kind", ["plain", "tempered", "quantum"])
def test_reference_runs_find_the_exact_truth(kind, monkeypatch):
    hamiltonian = make_problem("glass:n=6,gamma=1" if kind == "quantum" else "rbm-critical:5x5").hamiltonian
    exact = find_truth(hamiltonian, 1.0)
    monkeypatch.setattr(module, "can_be_exact", lambda hamiltonian: False)
    if kind == "tempered":
        monkeypatch.setattr(module, "_FORGOTTEN", -1.0)
    shares, ticks = [], itertools.count()
    # A clock that only goes on when it is read: as many measurements on a busy machine as on a quiet one.
    found = find_truth(hamiltonian, 0.4, 0, shares.append, lambda: next(ticks) * 1e-3)
    assert ("exchange" in found.method, "path" in found.method) == (kind == "tempered", kind == "quantum")
    assert shares[-1] == 1
    assert found.r_hat < 1.1
    errors = found.rms_errors
    # A root mean square over ten and more moments: three of its own error bars are more than five standard errors of it.
    assert float((found.moments.spins - exact.moments.spins).square().mean().sqrt()) < 3 * errors[0]
    assert float((found.moments.pairs - exact.moments.pairs).square().mean().sqrt()) < 3 * errors[1]
    assert abs(found.energy - exact.energy) < 6 * found.energy_error + 0.01
    assert found.energy_sd == pytest.approx(exact.energy_sd, rel=0.1)
    assert errors[0] < 0.1


@pytest.mark.parametrize("problem", ["rbm-weak:3x4", "glass:n=4,gamma=1"])
def test_a_reference_run_s_seed_decides_on_its_numbers(problem, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "can_be_exact", lambda hamiltonian: False)
    hamiltonian, asked = make_problem(problem).hamiltonian, []

    def found(seed):
        ticks = itertools.count()
        return find_truth(hamiltonian, 0.0, seed, clock=lambda: next(ticks) * 1e-3).moments

    first, again, other = map(found, (3, 3, 4))
    assert torch.equal(first.pairs, again.pairs)
    assert not torch.equal(first.pairs, other.pairs)
    truth = find_truth(hamiltonian, 0.0)
    monkeypatch.setattr(module, "find_truth", lambda *given: asked.append(given) or truth)
    assert cached_truth(hamiltonian, "abc", tmp_path, 0.25, 3, print) is truth
    assert asked == [(hamiltonian, 0.25, 3, print)]


def test_the_error_of_slices_which_no_spread_shows_is_part_of_every_error_bar(monkeypatch):
    monkeypatch.setattr(module, "can_be_exact", lambda hamiltonian: False)
    monkeypatch.setattr(module, "estimate_trotter_error", lambda hamiltonian, slices: 0.7)
    found = find_truth(make_problem("glass:n=4,gamma=1").hamiltonian, 0.0)
    assert min(float(part.min()) for part in (found.spins_error, found.pairs_error)) >= 0.7


def test_chains_that_do_not_forget_are_tempered():
    # Both modes of a ferromagnet: plain chains stay in the one they found.
    ferromagnet = IsingHamiltonian(torch.full((24,), 0.02), make_problem("glass:n=24").hamiltonian.graph, [-0.3] * 276)
    found = find_truth(ferromagnet, 0.5)
    assert "exchange" in found.method
    # All down is exp(2 x 24 x 0.02 x 0.98) times as likely as all up.
    assert float(found.moments.spins.mean()) == pytest.approx(-math.tanh(24 * 0.02), abs=0.1 + 5 * found.rms_errors[0])


def test_reference_runs_are_kept(tmp_path, monkeypatch):
    problem = make_problem("rbm-weak:16x16")
    first = cached_truth(problem.hamiltonian, problem.fingerprint, tmp_path, 0.1)
    monkeypatch.setattr(module, "_classical_chains", lambda *arguments: pytest.fail("measured again"))
    again = cached_truth(problem.hamiltonian, problem.fingerprint, tmp_path, 0.1)
    for name in ("spins", "pairs"):
        assert torch.equal(getattr(again.moments, name), getattr(first.moments, name))
    for field in fields(first):
        kept, measured = getattr(again, field.name), getattr(first, field.name)
        if isinstance(measured, torch.Tensor):
            assert torch.equal(kept, measured)
        elif field.name != "moments":
            assert kept == measured, field.name
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        cached_truth(problem.hamiltonian, problem.fingerprint, tmp_path, 0.2)
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        cached_truth(problem.hamiltonian, problem.fingerprint, tmp_path, 0.1, seed=1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        cached_truth(problem.hamiltonian, problem.fingerprint, tmp_path, 0.1)


def test_sweeps_between_measurements_take_as_long_as_a_measurement(monkeypatch):
    """On a clock on which a sweep takes a hundredth of a second, and a measurement 0.255: 26 sweeps."""
    now, swept = [0.0], []
    sweep, measure = module.BlockGibbs.sweep, module._measure

    def slow_sweep(self, state, sweeps, generator):
        swept.append(sweeps)
        now[0] += 0.01 * sweeps
        return sweep(self, state, sweeps, generator)

    def slow_measure(*arguments):
        now[0] += 0.255
        return measure(*arguments)

    monkeypatch.setattr(module.BlockGibbs, "sweep", slow_sweep)
    monkeypatch.setattr(module, "_measure", slow_measure)
    monkeypatch.setattr(module, "can_be_exact", lambda hamiltonian: False)
    found = find_truth(make_problem("rbm-weak:3x3").hamiltonian, 8.0, 0, clock=lambda: now[0])
    assert swept[:2] == [200, 200]  # the pilot's
    assert set(swept[2:]) == {26}
    # Two pilots of 2 s and the trial measurement leave 3.745 s, of 0.515 s each; all are past the fifth that is thrown away.
    assert len(swept) - 2 == 8
    assert found.method == "block Gibbs, 256 chains, 16 independent groups, 8 measurements"


def test_the_first_fifth_of_a_reference_run_is_thrown_away_and_four_measurements_are_made_at_least(monkeypatch):
    """Measurements of made-up numbers, one a second: of 10 s those of seconds 2 to 10 count, and of 1 s four."""
    monkeypatch.setattr(module, "can_be_exact", lambda hamiltonian: False)

    def run(seconds):
        now = [0.0]

        def chains(hamiltonian, generator, clock):
            yield "made up"
            while True:
                now[0] += 1.0
                value = torch.tensor([0.0, 1.0, 2.0, 3.0]).double().unsqueeze(1)  # of four groups
                yield value + now[0], -value, torch.stack([value[:, 0] + now[0], value[:, 0] + now[0] + 2], 1)

        monkeypatch.setattr(module, "_classical_chains", chains)
        return find_truth(IsingHamiltonian([0.0], [], []), seconds, clock=lambda: now[0])

    found = run(10.0)
    assert "9 measurements" in found.method
    assert found.moments.spins.tolist() == [1.5 + 6]
    assert found.moments.pairs.tolist() == [-1.5]
    deviation = math.sqrt(5 / 3 / 4)  # of the mean of 0, 1, 2 and 3
    assert (found.spins_error.tolist(), found.pairs_error.tolist()) == ([pytest.approx(deviation)], [pytest.approx(deviation)])
    assert (found.energy, found.energy_error) == (1.5 + 6 + 1, pytest.approx(deviation))
    # Variances of 0 to 3, of 2 to 10 and of 0 and 2.
    assert found.energy_sd == pytest.approx(math.sqrt(5 / 4 + 60 / 9 + 1))
    short = run(1.0)
    assert "4 measurements" in short.method
    assert short.moments.spins.tolist() == [1.5 + 2.5]


def test_a_measurement_s_means_are_those_given_the_other_colours():
    """Of sixteen groups of two chains each, by loops; spins in rows of another order."""
    h, J, edges = [0.5, -0.2, 0.3], [-1.0, 0.4], [(0, 1), (1, 2)]
    hamiltonian = IsingHamiltonian(h, edges, J)
    kernel = module.BlockGibbs(hamiltonian)
    spins = 2 * torch.randint(2, (32, 3), generator=torch.Generator().manual_seed(0)) - 1
    means, pairs, energies = module._measure(kernel, hamiltonian, kernel.from_spins(spins))
    for group, rows in enumerate(spins.view(16, 2, 3).tolist()):
        given = []
        for a, b, c in rows:
            given.append([-math.tanh(h[0] + J[0] * b), -math.tanh(h[1] + J[0] * a + J[1] * c), -math.tanh(h[2] + J[1] * b)])
        assert means[group].tolist() == pytest.approx([(given[0][i] + given[1][i]) / 2 for i in range(3)], rel=1e-5)
        products = [sum(m[i] * s[j] + s[i] * m[j] for m, s in zip(given, rows, strict=True)) / 4 for i, j in edges]
        assert pairs[group].tolist() == pytest.approx(products, rel=1e-5)
        plain = [h[0] * a + h[1] * b + h[2] * c + J[0] * a * b + J[1] * b * c for a, b, c in rows]
        assert energies[group].tolist() == pytest.approx(plain, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("gamma", "most"), [(0.0, 20), (1.0, 12)])
def test_what_is_small_is_solved(gamma, most):
    assert module.can_be_exact(IsingHamiltonian(torch.zeros(most), [], [], gamma))
    assert not module.can_be_exact(IsingHamiltonian(torch.zeros(most + 1), [], [], gamma))
