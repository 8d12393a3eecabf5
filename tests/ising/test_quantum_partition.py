"""log Z in a transverse field against diagonalization."""

from __future__ import annotations

import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from trotter_products import GRAPHS, MIXED, SIGMAS, broken_symmetry, flattened, generator, settled, trotter

from qvae.ising import quantum_partition
from qvae.ising.diagonal_elements import log_diagonal_element
from qvae.ising.estimate import LogPartition
from qvae.ising.exact import exact_distribution
from qvae.ising.graphs import Graph, complete, rbm
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.quantum_partition import path_integral_log_partition
from qvae.ising.world_lines import WorldLines


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 3.0, MIXED * 2], ids=str)
@pytest.mark.parametrize("graph", [rbm(4, 4), complete(8)], ids=["rbm", "complete"])
def test_log_z(graph: Graph, gamma: object, random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(graph, gamma=gamma)
    found = path_integral_log_partition(hamiltonian, chains=100, temperatures=50)
    assert abs(found.value - exact_distribution(hamiltonian).log_z) < SIGMAS * found.stderr < 1.0
    assert found.stderr == pytest.approx(math.hypot(found.details["sampling_error"], found.details["trotter_error"]))
    assert found.method.startswith("path-integral AIS forward + reverse (BAR), 100 chains x 50 temperatures x ")


def test_log_z_of_spins_in_another_order_than_that_of_their_colours(random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(GRAPHS["ring"], gamma=MIXED)
    found = path_integral_log_partition(hamiltonian, chains=100, temperatures=30)
    assert abs(found.value - exact_distribution(hamiltonian).log_z) < SIGMAS * found.stderr < 0.5


def test_all_errors_are_part_of_the_error_bar(random_hamiltonian, monkeypatch) -> None:
    annealed = LogPartition(10.0, 0.3, "AIS of two", {"overlap": 0.5})
    monkeypatch.setattr(quantum_partition, "combine_annealings", lambda *arguments: annealed)
    monkeypatch.setattr(quantum_partition, "_towards_infinitely_many", lambda *arguments: (0.25, 0.4, 1.2))
    found = path_integral_log_partition(random_hamiltonian(rbm(1, 1), gamma=1.0), slices=4, chains=2, temperatures=2)
    assert (found.value, found.stderr) == (10.25, pytest.approx(1.3))
    assert found.details == {
        "overlap": 0.5, "slices": 4, "trotter_correction": 0.25, "trotter_error": 1.2, "sampling_error": pytest.approx(0.5),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        (1, (0.0, 0.0, 0.0)),
        # Of P/2 = 1 slices 0.3 more than of 2, of which independent spins explain 0.7 - 1: a third of 0.6 is taken off.
        (2, (0.2 - 0.6 / 3, 0.09 / 3, 0.6 / 3)),
        (6, (0.2 - 0.6 / 3, 0.09 / 3, 0.6 / 3)),
        # And of P/4 1.1 more, of which they explain -0.5: with a/P^2 + b/P^4, (1.6 - 5 x 0.6) / 45 more.
        (4, (0.2 - 0.6 / 3 - 1.4 / 45, 4 / 9 * 0.09 + 0.45 / 45, 1.4 / 45)),
    ],
)
def test_what_is_left_of_slices_is_taken_off_in_one_step_or_two(slices: int, expected: tuple, monkeypatch) -> None:
    seen = {2: (0.3, 0.09), 4: (1.1, 0.45)}
    monkeypatch.setattr(quantum_partition, "_coarser", lambda energies, stride: seen[stride])
    known = {slices: 1.0, slices // 2: 0.7, None: 1.2} | ({1: 0.5} if slices == 4 else {})
    found = quantum_partition._towards_infinitely_many(torch.zeros(slices, 3), known.__getitem__)
    assert found == pytest.approx(expected)


def test_targets_are_equilibrated_for_a_quarter_of_the_temperatures_or_a_hundred(random_hamiltonian, monkeypatch) -> None:
    asked = []

    class Stopped(Exception):
        pass

    def equilibrate(lines, hamiltonian, chains, sweeps, generator):
        asked.append((lines.slices, chains, sweeps, generator.initial_seed()))
        raise Stopped

    monkeypatch.setattr(quantum_partition, "_equilibrate", equilibrate)
    for temperatures in (403, 804):
        with pytest.raises(Stopped):
            quantum_partition._both_ways(random_hamiltonian(rbm(1, 1), gamma=1.0), 4, 7, temperatures, 5)
    assert asked == [(4, 7, 100, 5), (4, 7, 201, 5)]


def test_log_z_error_bars_are_neither_small_nor_large(random_hamiltonian) -> None:
    hamiltonian, number = random_hamiltonian(rbm(2, 2), coupling=1.0, gamma=1.5), 20
    log_z = exact_distribution(hamiltonian).log_z
    runs = [path_integral_log_partition(hamiltonian, slices=4, chains=40, temperatures=10, seed=seed) for seed in range(number)]
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


def test_log_z_in_parts(random_hamiltonian) -> None:
    """Bases of parts differ; their weights and samples count as those of one."""
    hamiltonian = random_hamiltonian(rbm(3, 3), coupling=0.8, field=0.8, gamma=1.0)
    log_z, options = exact_distribution(hamiltonian).log_z, {"chains": 91, "temperatures": 20, "parts": 3}
    runs = [path_integral_log_partition(hamiltonian, **options, seed=seed) for seed in range(8)]
    scores = torch.tensor([(run.value - log_z) / run.stderr for run in runs])
    assert float(scores.square().mean().sqrt()) < 1 + 5 / math.sqrt(2 * len(runs))
    assert all(run.stderr < 0.1 and "warning" not in run.details for run in runs)
    with ThreadPoolExecutor(2) as executor:
        assert path_integral_log_partition(hamiltonian, **options, seed=1, spread=executor.map) == runs[1]
    parts = [quantum_partition._both_ways(hamiltonian, 8, 30, 20, seed) for seed in (1, 2)]
    bases = [part.base.log_z(8) for part in parts]
    assert abs(bases[0] - bases[1]) > 0.1  # so that mixing them up would be seen
    assert pickle.loads(pickle.dumps(parts[0])).base.log_z(8) == bases[0]


def test_log_z_without_couplings_is_that_of_single_spins() -> None:
    hamiltonian = IsingHamiltonian([0.8, 0.0, 3.0], [], [], [0.6, 1.0, 0.0])
    found = path_integral_log_partition(hamiltonian, chains=50, temperatures=10)
    expected = sum(math.log(2 * math.cosh(e)) for e in (1.0, 1.0, 3.0))
    assert found.value == pytest.approx(expected, abs=SIGMAS * found.stderr)
    assert found.stderr < 0.05
    assert path_integral_log_partition(IsingHamiltonian([], [], []), chains=5, temperatures=5).value == 0.0


@pytest.mark.parametrize("gamma", [20.0, 200.0, 1000.0])
def test_log_z_in_a_strong_field_alone(gamma: float) -> None:
    found = path_integral_log_partition(IsingHamiltonian(torch.zeros(16), [], [], gamma), chains=30, temperatures=10)
    expected = 16 * (gamma + math.log1p(math.exp(-2 * gamma)))  # log 2 cosh
    assert found.value == pytest.approx(expected, abs=SIGMAS * found.stderr)
    assert found.stderr < 0.05
    for function in (path_integral_log_partition, lambda H, slices: log_diagonal_element(H, torch.ones(1, 2), slices=slices)):
        with pytest.raises(ValueError, match="slices is 4, but a transverse field of"):
            function(IsingHamiltonian(torch.zeros(2), [], [], gamma), slices=4)


def test_runs_back_are_the_time_reversal_of_runs_forward(random_hamiltonian) -> None:
    hamiltonian, slices, chains = random_hamiltonian(complete(6), coupling=1.5, gamma=0.3, seed=1), 2, 200_000
    lines, betas = WorldLines(hamiltonian, slices), torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    path = quantum_partition._LinePath(lines, hamiltonian, torch.zeros(6), generator())
    forward, _ = path.anneal(path.base_state(chains), betas)
    flat = exact_distribution(flattened(hamiltonian, slices)).sample(chains, generator(1)).T.view(6, slices, chains)
    target = ((1 + flat) // 2)[lines.gibbs.order].flatten(0, 1)
    backward, _ = path.anneal(target, betas, reverse=True)
    assert broken_symmetry(forward, backward, trotter(hamiltonian, slices).log_z - path.log_z0) < SIGMAS


def test_coarser_slices_from_finer_ones(random_hamiltonian) -> None:
    hamiltonian, slices, chains = random_hamiltonian(complete(4), gamma=2.0), 8, 10_000
    lines, bits = settled(hamiltonian, slices, chains)
    log_z = {count: trotter(hamiltonian, count).log_z for count in (2, 4, 8)}
    for stride in (2, 4):
        value, stderr = quantum_partition._coarser(lines.energies(bits), stride)
        assert value == pytest.approx(log_z[slices // stride] - log_z[slices], abs=SIGMAS * stderr)
        assert stderr < 0.01


def test_the_same_seed_finds_the_same_log_z(random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(rbm(2, 2), gamma=1.0)
    values = [path_integral_log_partition(hamiltonian, chains=10, temperatures=5, seed=seed).value for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_too_few_chains_or_temperatures() -> None:
    with pytest.raises(ValueError, match="chains is 1 and temperatures is 5; each must be 2 or more"):
        path_integral_log_partition(IsingHamiltonian([0.5], [], [], gamma=1.0), chains=1, temperatures=5)


def test_the_base_is_not_fitted_to_the_noise_of_the_samples() -> None:
    """Spins without fields: what the few chains' means are by chance says nothing of the samples that they go on to."""
    hamiltonian = IsingHamiltonian(torch.zeros(300), [], [], 1.0)
    lines = WorldLines(hamiltonian, 8)
    state, fields = quantum_partition._equilibrate(lines, hamiltonian, 4, 4, generator(0))
    magnetizations = torch.empty(300)
    magnetizations[lines.gibbs.order] = 2 * state.view(300, 8, 4).float().mean((1, 2)) - 1
    assert abs(float(torch.corrcoef(torch.stack([magnetizations, fields.float()]))[0, 1])) < SIGMAS / 300**0.5


def test_spins_of_which_all_samples_agree_have_a_base_that_is_not_certain() -> None:
    """Of thirty samples two more are supposed, one either way: means of 30 / 32, in rows of another order than the spins."""
    hamiltonian = IsingHamiltonian([-40.0, 40.0, -40.0], [(0, 1), (1, 2)], [0.1, 0.2], [1e-6, 2e-6, 3e-6])
    _, fields = quantum_partition._equilibrate(WorldLines(hamiltonian, 2), hamiltonian, 30, 4, generator())
    assert fields.tolist() == pytest.approx([-math.atanh(30 / 32), math.atanh(30 / 32), -math.atanh(30 / 32)], rel=1e-6)


def test_trotter_s_error_is_told_by_the_samples_of_all_parts(random_hamiltonian, monkeypatch) -> None:
    seen, works = [], torch.zeros(2, dtype=torch.float64)
    base = quantum_partition._Base(torch.zeros(2, 1).double(), torch.ones(2, 1).double())
    energies = torch.randn(2, 4, 2, generator=generator())
    parts = [quantum_partition._Part(base, works, works, own) for own in energies]
    monkeypatch.setattr(
        quantum_partition, "_towards_infinitely_many", lambda *given: seen.append(given) or (0.0, 0.0, 0.0)
    )
    hamiltonian = random_hamiltonian(rbm(1, 1), gamma=1.0)
    path_integral_log_partition(hamiltonian, slices=4, chains=4, temperatures=2, parts=2, spread=lambda *given: parts)
    ((found, _),) = seen
    assert torch.equal(found, torch.cat([*energies], 1))
