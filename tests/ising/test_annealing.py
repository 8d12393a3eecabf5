"""log Z by annealing against exact values: within error bars that are neither small nor large."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from trotter_products import broken_symmetry

from qvae.ising import annealing, block_gibbs
from qvae.ising.annealing import annealed_importance_sampling, bidirectional_annealing, combine_annealings
from qvae.ising.annealing_path import AnnealingPath
from qvae.ising.exact import exact_distribution
from qvae.ising.exact_partition import enumerate_rbm, product_log_partition
from qvae.ising.graphs import Graph, chimera, complete, edge_list, rbm, zephyr
from qvae.ising.hamiltonian import IsingHamiltonian


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ferromagnet(size: int, coupling: float, field: float) -> IsingHamiltonian:
    """An RBM with two modes, all up and all down, of unequal weight."""
    graph = rbm(size, size)
    return IsingHamiltonian(torch.full((2 * size,), field), graph, torch.full((size * size,), coupling))


@pytest.fixture
def small(random_hamiltonian) -> tuple[IsingHamiltonian, float]:
    """An RBM on which short annealing has weights of visible spread, and its exact log Z."""
    hamiltonian = random_hamiltonian(rbm(8, 8), coupling=0.7, seed=1)
    return hamiltonian, exact_distribution(hamiltonian).log_z


def standard_errors(values: Tensor, expected: float) -> float:
    return float((values.mean() - expected).abs() / (values.std() / math.sqrt(len(values))))


def test_forward_annealing_is_unbiased_in_z(small) -> None:
    hamiltonian, log_z = small
    base = torch.zeros(16)
    runs = [
        annealed_importance_sampling(hamiltonian, chains=50, temperatures=8, generator=generator(seed), base_fields=base).value
        for seed in range(60)
    ]
    errors = torch.tensor(runs).double() - log_z
    assert float(errors.std()) > 0.1  # not so easy that nothing could fail
    assert standard_errors(errors.exp(), 1.0) < 5


def test_reverse_annealing_is_unbiased_in_one_over_z(small) -> None:
    hamiltonian, log_z = small
    exact = exact_distribution(hamiltonian)
    runs = []
    for seed in range(60):
        path = AnnealingPath(hamiltonian, generator(seed), torch.zeros(16), pilot_steps=8)
        target = path.gibbs.from_spins(exact.sample(50, generator(1000 + seed)))
        works, _ = path.anneal(target, path.ladder(8), reverse=True)
        runs.append(path.log_z0 + math.log(50) - float(torch.logsumexp(works, 0)))
    errors = torch.tensor(runs).double() - log_z
    assert float(errors.std()) > 0.1
    assert standard_errors((-errors).exp(), 1.0) < 5


def test_runs_back_are_the_time_reversal_of_runs_forward(random_hamiltonian) -> None:
    # Six colours and one temperature between the ends: the order of updates is seen.
    hamiltonian, chains = random_hamiltonian(complete(6), coupling=1.5, seed=1), 200_000
    exact, betas = exact_distribution(hamiltonian), torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    path = AnnealingPath(hamiltonian, generator(), torch.zeros(6), pilot_steps=2)
    forward, _ = path.anneal(path.base_state(chains), betas)
    target = path.gibbs.from_spins(exact.sample(chains, generator(1)))
    backward, _ = path.anneal(target, betas, reverse=True)
    assert broken_symmetry(forward, backward, exact.log_z - path.log_z0) < 5


def test_replicas_pass_from_the_hottest_rung_to_the_coldest() -> None:
    # All spins are up at first, and nothing turns them where it is cold.
    path = AnnealingPath(ferromagnet(4, coupling=-1.5, field=0.0), generator(), torch.zeros(8), pilot_steps=2)
    replicas, betas = torch.ones(8, 8, 300), torch.linspace(0, 1, 8, dtype=torch.float64)
    path.temper(replicas, betas, 200)
    assert abs(float((2 * replicas[:, -1] - 1).mean())) < 5 / math.sqrt(300)


def off_order() -> IsingHamiltonian:
    """Three spins whose rows, sorted by colour, stand in another order: 0, 2, 1."""
    return IsingHamiltonian([1.0, -0.7, 0.4], [(0, 1), (1, 2)], [1.2, -0.8])


def test_the_means_of_tempering_are_those_of_the_coldest_rung() -> None:
    path = AnnealingPath(off_order(), generator(), torch.zeros(3), pilot_steps=2)
    betas, chains = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64), 2000
    replicas = path.base_state(3 * chains).view(3, 3, chains)
    path.temper(replicas, betas, 20)
    exact = exact_distribution(off_order()).moments()[0][path.gibbs.order]
    assert float((path.temper(replicas, betas, 20) - exact).abs().max()) < 5 / math.sqrt(chains)


def test_states_that_are_kept_on_the_way_are_weighed() -> None:
    """After one step from independent spins, and one sweep, it is the weights alone that make samples of them."""
    path, chains = AnnealingPath(off_order(), generator(), torch.zeros(3), pilot_steps=2), 20_000
    betas, start = torch.tensor([0.0, 1.0], dtype=torch.float64), path.base_state(chains)
    _, kept = path.anneal(start.clone(), betas, keep=torch.tensor([0, 1]))
    exact = exact_distribution(off_order()).moments()[0][path.gibbs.order]
    assert torch.equal(kept[:, 0], start)
    assert float(((2 * kept[:, 1] - 1).mean(1) - exact).abs().max()) < 10 / math.sqrt(chains)  # few weigh much
    path.sweep(start, 1.0)
    assert float(((2 * start - 1).mean(1) - exact).abs().max()) > 0.05


def test_spins_of_which_all_samples_agree_have_a_base_that_is_not_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thirty samples two more are supposed, one either way: means of 30 / 32."""
    monkeypatch.setattr(annealing, "_MIN_SWEEPS", 4)
    hamiltonian = IsingHamiltonian([-40.0, 40.0, -40.0], [(0, 1), (1, 2)], [0.1, 0.2])
    _, fields = annealing._equilibrate(hamiltonian, 30, 4, generator())
    assert fields.tolist() == pytest.approx([-math.atanh(30 / 32), math.atanh(30 / 32), -math.atanh(30 / 32)])


def test_one_way_error_bars_and_the_fitted_base(small) -> None:
    hamiltonian, log_z = small
    found = annealed_importance_sampling(hamiltonian, chains=400, temperatures=100, generator=generator())
    assert found.method == "AIS forward, 400 chains x 100 temperatures"
    assert 0 < found.stderr < 0.1
    assert abs(found.value - log_z) < 5 * found.stderr
    assert 40 < found.details["effective_samples"] <= 400


@pytest.mark.parametrize(("parts", "seeds"), [(1, 30), (3, 8)])
def test_error_bars_over_seeds(random_hamiltonian, parts: int, seeds: int) -> None:
    """In several parts, too, whose bases differ."""
    hamiltonian = random_hamiltonian(rbm(8, 8), coupling=0.4, seed=1)
    log_z = exact_distribution(hamiltonian).log_z
    runs = [bidirectional_annealing(hamiltonian, chains=100, temperatures=20, seed=seed, parts=parts) for seed in range(seeds)]
    z = torch.tensor([(run.value - log_z) / run.stderr for run in runs])
    # Standard normal numbers: of thirty the mean has sd 0.18, the root mean square sd 0.13.
    assert abs(float(z.mean())) < 5 / math.sqrt(seeds)
    assert 1 - 5 / math.sqrt(2 * seeds) < float(z.square().mean().sqrt()) < 1 + 5 / math.sqrt(2 * seeds)
    assert not any("warning" in run.details for run in runs)


def embedded_in_an_rbm(hamiltonian: IsingHamiltonian) -> IsingHamiltonian:
    """The same spins, sorted by colour, with a coupling of zero where there is none."""
    colours = hamiltonian.graph.colouring
    order = torch.argsort(colours, stable=True)
    place = torch.argsort(order)
    n1 = int((colours == 0).sum())
    matrix = torch.zeros(n1, len(colours) - n1)
    ends = place[hamiltonian.edges].sort(1).values
    matrix[ends[:, 0], ends[:, 1] - n1] = hamiltonian.J
    return IsingHamiltonian(hamiltonian.h[order], rbm(*matrix.shape), matrix.reshape(-1))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("graph", [chimera(2), zephyr(1, 1), complete(9), edge_list([(0, 1), (2, 3), (3, 4), (4, 2)], 7)])
def test_other_graphs(graph: Graph, sparse: bool, monkeypatch: pytest.MonkeyPatch, random_hamiltonian) -> None:
    if sparse:
        monkeypatch.setattr(block_gibbs, "_DENSE_SPINS", 0)
    hamiltonian = random_hamiltonian(graph, coupling=0.5, seed=2)
    if graph.num_spins > 20:
        exact = enumerate_rbm(embedded_in_an_rbm(hamiltonian)).value
    else:
        exact = exact_distribution(hamiltonian).log_z
    found = bidirectional_annealing(hamiltonian, chains=200, temperatures=100)
    assert found.stderr < 0.1
    assert abs(found.value - exact) < 5 * found.stderr
    assert abs(found.details["forward"] - exact) < 5 * found.details["forward_stderr"]
    assert abs(found.details["reverse"] - exact) < 5 * found.details["reverse_stderr"]


def test_one_way_in_parts_is_as_good_and_the_same_wherever_they_are_done(small) -> None:
    hamiltonian, log_z = small
    options = {"chains": 101, "temperatures": 30, "parts": 4}
    with ThreadPoolExecutor(2) as executor:
        elsewhere = annealed_importance_sampling(hamiltonian, **options, generator=generator(1), spread=executor.map)
    runs = [annealed_importance_sampling(hamiltonian, **options, generator=generator(seed)) for seed in range(8)]
    assert elsewhere == runs[1]
    assert runs[0].method == "AIS forward, 101 chains x 30 temperatures"
    assert len({run.value for run in runs}) == 8
    z = torch.tensor([(run.value - log_z) / run.stderr for run in runs])
    assert float(z.square().mean().sqrt()) < 1 + 5 / math.sqrt(2 * len(runs))
    single = annealed_importance_sampling(hamiltonian, chains=26, temperatures=30, generator=generator())
    assert runs[0].stderr < 0.8 * single.stderr  # chains of all parts are counted
    with pytest.raises(ValueError, match="chains is 1 "):
        annealed_importance_sampling(hamiltonian, chains=7, temperatures=5, generator=generator(), parts=4)
    with pytest.raises(ValueError, match="chains is 1 "):
        bidirectional_annealing(hamiltonian, chains=7, temperatures=5, parts=4)


def test_spins_without_couplings_anneal_without_error() -> None:
    hamiltonian = IsingHamiltonian([0.3, -2.0], [], [])
    found = annealed_importance_sampling(hamiltonian, chains=10, temperatures=5, generator=generator())
    assert found.value == pytest.approx(product_log_partition(hamiltonian).value, abs=1e-5)
    assert found.stderr == pytest.approx(0, abs=1e-6)


def test_strong_couplings_trigger_the_warning(random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(rbm(16, 64), coupling=1.5, seed=1)
    log_z = enumerate_rbm(hamiltonian).value
    for seed in range(3):
        found = bidirectional_annealing(hamiltonian, chains=100, temperatures=20, seed=seed)
        assert "log Z is uncertain" in found.details["warning"]
        assert found.stderr >= abs(found.details["gap"])
        assert abs(found.value - log_z) < 5 * found.stderr


def test_a_mode_that_the_base_leaves_out_is_counted_and_told() -> None:
    hamiltonian = ferromagnet(18, coupling=-0.15, field=0.015)
    log_z = enumerate_rbm(hamiltonian).value
    for seed in range(3):
        found = bidirectional_annealing(hamiltonian, chains=300, temperatures=100, seed=seed)
        # Forward runs agree with each other on the wrong value; only the samples of the target know the other mode.
        # By 9 to 14 of their standard errors, over 24 seeds.
        assert found.details["forward"] < log_z - 8 * found.details["forward_stderr"]
        assert abs(found.value - log_z) < 0.15
        assert abs(found.value - log_z) < 5 * found.stderr
        assert found.stderr > 0.7 * found.details["gap"]


def works_of(chains: int, good: int) -> Tensor:
    """Log weights of a mean of 1, of so many chains that count as much as each other, and of the others that don't count."""
    works = torch.full((chains,), -1e3, dtype=torch.float64)
    works[:good] = math.log(chains / good)
    return works


@pytest.mark.parametrize(
    ("chains", "good", "told"),
    [
        (100, 21, None),
        (100, 19, "the weights of 100 chains are worth only 19.0; "),
        (1000, 50, None),
        (1000, 49, "the weights of 1000 chains are worth only 49.0; "),
    ],
)
@pytest.mark.parametrize("is_forward", [True, False])
def test_few_weights_that_count_are_told(chains: int, good: int, told: str | None, is_forward: bool) -> None:
    even = torch.zeros(chains, dtype=torch.float64)
    pair = (works_of(chains, good), even) if is_forward else (even, works_of(chains, good))
    found = combine_annealings(7.0, *pair, "so many")
    assert found.details["effective_samples"] == pytest.approx(good)
    assert (found.details["forward"], found.details["reverse"]) == (pytest.approx(7.0), pytest.approx(7.0))
    assert ("warning" in found.details) == (told is not None)
    assert found.method == "AIS forward + reverse (BAR), so many"
    stderr = math.sqrt((chains / good - 1) / (chains - 1))
    assert max(found.details["forward_stderr"], found.details["reverse_stderr"]) == pytest.approx(stderr)
    if told is not None:
        assert told in found.details["warning"]
        _, of_ratio = annealing._acceptance_ratio(pair[0], -pair[1])
        assert found.stderr == pytest.approx(math.hypot(of_ratio, stderr))  # the larger one's, where both agree


@pytest.mark.parametrize(("gap", "is_told"), [(0.4, False), (-0.4, False), (0.51, True), (-0.51, True)])
def test_directions_half_a_nat_apart_are_told_and_any_distance_is_part_of_the_error(gap: float, is_told: bool) -> None:
    """Log weights without spread: one direction says 8, the other 8 + gap, and the ratio of both is in the middle."""
    works = torch.ones(50, dtype=torch.float64)
    found = combine_annealings(7.0, works, -works - gap, "")
    assert (found.details["forward"], found.details["gap"]) == (pytest.approx(8.0), pytest.approx(gap))
    assert found.value == pytest.approx(8.0 + gap / 2)
    # Of 50 + 50 logistic weights at a distance of gap / 2 from the middle.
    p = 1 / (1 + math.exp(-gap / 2))
    own = math.sqrt(max(0.0, 1 / (100 * p * (1 - p)) - 2 / 50))
    assert found.stderr == pytest.approx(math.hypot(own, gap))
    assert (f"forward and reverse are {abs(gap):.2f} nats apart" in found.details.get("warning", "")) == is_told


def test_betas_stand_at_even_distances_of_what_a_pilot_saw_and_a_tenth_of_beta() -> None:
    path = object.__new__(AnnealingPath)
    path._spreads = torch.tensor([3.0, 1.0])  # parts of the way: 0.9 x 3/4 + 0.05 and 0.9 x 1/4 + 0.05
    # A quarter and a half of the way lie in the first part, three quarters in the second.
    expected = [0, 0.5 * 0.25 / 0.725, 0.5 * 0.5 / 0.725, 0.5 + 0.5 * 0.025 / 0.275, 1]
    assert path.ladder(5).tolist() == pytest.approx(expected, abs=1e-6)
    betas = torch.linspace(0, 1, 101, dtype=torch.float64)
    for spreads, count in (([0.5, 0.5], 4), ([3.5, 3.2], 8), ([100.0, 100.0], 24)):
        path._spreads = torch.tensor(spreads)
        rungs = path.rungs(betas).tolist()
        assert (len(rungs), rungs[0], rungs[-1]) == (count, 0, 100)


def test_details_and_reproducibility(small) -> None:
    hamiltonian, _ = small
    found = bidirectional_annealing(hamiltonian, chains=100, temperatures=50, seed=3)
    assert set(found.details) - {"warning"} == {
        "forward",
        "forward_stderr",
        "reverse",
        "reverse_stderr",
        "gap",
        "effective_samples",
    }
    assert found.details["gap"] == found.details["reverse"] - found.details["forward"]
    assert found == bidirectional_annealing(hamiltonian, chains=100, temperatures=50, seed=3)
    assert found.value != bidirectional_annealing(hamiltonian, chains=100, temperatures=50, seed=4).value


def test_targets_are_equilibrated_for_an_eighth_of_the_temperatures_and_no_pilot_is_finer_than_the_ladder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    class Stopped(Exception):
        pass

    def recorded(hamiltonian: IsingHamiltonian, *given: object) -> None:
        asked.append([one.initial_seed() if isinstance(one, torch.Generator) else one for one in given])
        raise Stopped

    fields = torch.zeros(3)
    monkeypatch.setattr(annealing, "_equilibrate", recorded)
    monkeypatch.setattr(annealing, "AnnealingPath", recorded)
    for work, given in ((annealing._both_ways, (7, 400, 5)), (annealing._forward, (fields, 7, 30, 4)),
                        (annealing._forward, (fields, 7, 300, 6))):  # fmt: skip
        with pytest.raises(Stopped):
            work(off_order(), *given)
    assert asked == [[7, 50, 5], [4, fields, 30], [6, fields, 100]]


def test_parts_are_the_same_wherever_they_are_done(small) -> None:
    hamiltonian, log_z = small
    options = {"chains": 101, "temperatures": 50, "seed": 3, "parts": 4}
    found = bidirectional_annealing(hamiltonian, **options)
    with ThreadPoolExecutor(2) as executor:
        assert bidirectional_annealing(hamiltonian, **options, spread=executor.map) == found
    assert abs(found.value - log_z) < 5 * found.stderr < 1
    seen = []

    def spread(work, *columns):
        seen.extend(zip(*columns[1:], strict=True))
        return map(work, *columns)

    assert bidirectional_annealing(hamiltonian, **options, spread=spread) == found
    assert [chains for chains, _, _ in seen] == [26, 25, 25, 25]
    assert len({seed for _, _, seed in seen}) == 4


def test_parts_from_bases_far_apart_count_from_one_z(small) -> None:
    """Works without any spread are log Z less that of the base, whichever that is, and the negative of that on the way back."""
    log_z = 7.0

    def spread(work, hamiltonians, chains, *_):
        for base, number in zip((1.0, 4.0), chains, strict=True):
            works = torch.full((number,), log_z - base, dtype=torch.float64)
            yield base, works, -works

    found = bidirectional_annealing(small[0], chains=100, temperatures=5, parts=2, spread=spread)
    assert [found.value, found.details["forward"], found.details["reverse"]] == pytest.approx([log_z] * 3, abs=1e-6)


def test_a_transverse_field_is_refused(random_hamiltonian) -> None:
    with pytest.raises(ValueError, match=r"use exact_distribution\(hamiltonian\).log_z, for at most 14 spins"):
        bidirectional_annealing(random_hamiltonian(rbm(2, 2), gamma=1.0))
    with pytest.raises(ValueError, match=r"use exact_distribution\(hamiltonian\).log_z, for at most 14 spins"):
        annealed_importance_sampling(random_hamiltonian(rbm(2, 2), gamma=1.0), chains=5, temperatures=5, generator=generator())


def test_wrong_base_fields(random_hamiltonian) -> None:
    options = {"chains": 2, "temperatures": 2, "generator": generator(), "base_fields": torch.zeros(3)}
    with pytest.raises(ValueError, match="one field for each spin"):
        annealed_importance_sampling(random_hamiltonian(rbm(2, 2)), **options)
