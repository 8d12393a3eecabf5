"""Orders of flips beside all orders there are, and what lies on the paths."""

import itertools

import pytest
import torch

from qvae.applications.paths import energies_along, great_circle, lowest_order, states_along, straight_order
from qvae.ising import graphs
from qvae.ising.hamiltonian import IsingHamiltonian


def glass(seed, n=7):
    torch.manual_seed(seed)
    graph = graphs.complete(n)
    return IsingHamiltonian(torch.randn(n), graph, torch.randn(graph.num_edges))


def ends(seed, n=7, differing=6):
    torch.manual_seed(seed)
    start = 2 * torch.randint(2, (n,)) - 1
    end = start.clone()
    end[torch.randperm(n)[:differing]] *= -1
    return start, end


@pytest.mark.parametrize("seed", range(6))
def test_a_search_wide_enough_finds_the_lowest_barrier_of_all_orders(seed):
    hamiltonian, (start, end) = glass(seed), ends(seed)
    found = lowest_order(hamiltonian, start, end, 20)  # sets of three flips among six
    differing = (start != end).nonzero().squeeze(1).tolist()
    assert sorted(found.tolist()) == differing
    orders = [found, *map(torch.tensor, itertools.permutations(differing))]
    peak, *peaks = (float(energies_along(hamiltonian, start, order).max()) for order in orders)
    assert peak == pytest.approx(min(peaks), abs=1e-5)
    assert min(peaks) < max(peaks) - 0.5


def test_a_search_of_width_one_goes_to_the_lowest_neighbour():
    hamiltonian, (start, end) = glass(1), ends(1)
    state, greedy = start.clone(), []
    while not torch.equal(state, end):
        free = (state != end).nonzero().squeeze(1)
        energies = [float(hamiltonian.energy(torch.where(torch.arange(7) == i, -state, state).float())) for i in free]
        greedy.append(int(free[energies.index(min(energies))]))
        state[greedy[-1]] *= -1
    orders = greedy, lowest_order(hamiltonian, start, end, 1).tolist()
    peaks = [float(energies_along(hamiltonian, start, torch.tensor(order)).max()) for order in orders]
    assert peaks[1] <= peaks[0] + 1e-5  # or the way back was lower


def test_there_and_back_the_barrier_is_the_same():
    for seed in range(8):
        hamiltonian, (start, end) = glass(seed), ends(seed)
        ways = (start, lowest_order(hamiltonian, start, end, 1)), (end, lowest_order(hamiltonian, end, start, 1))
        there, back = (float(energies_along(hamiltonian, *way).max()) for way in ways)
        assert there == pytest.approx(back, abs=1e-5)


def test_the_barrier_counts_before_the_energies_that_are_passed():
    """Where the order of the lowest energies has a barrier that is higher by three."""
    torch.manual_seed(300)
    graph = graphs.complete(5)
    hamiltonian = IsingHamiltonian(torch.randn(5), graph, torch.randn(graph.num_edges))
    start = 2 * torch.randint(2, (5,)) - 1
    end = start.clone()
    end[torch.randperm(5)[:4]] *= -1
    orders = [torch.tensor(order) for order in itertools.permutations((start != end).nonzero().squeeze(1).tolist())]
    along = torch.stack([energies_along(hamiltonian, start, order) for order in orders])
    peaks, lowest = along.max(1).values, int(along.sum(1).argmin())
    assert float(peaks[lowest]) > float(peaks.min()) + 2
    found = float(energies_along(hamiltonian, start, lowest_order(hamiltonian, start, end, 6)).max())
    assert found == pytest.approx(float(peaks.min()), abs=1e-5)


def test_among_orders_of_one_barrier_that_of_the_lowest_energies_goes_on():
    """Every flip leads down, so that all of them have the energy of the start as their highest."""
    torch.manual_seed(3)
    graph = graphs.complete(5)
    hamiltonian = IsingHamiltonian(torch.full((5,), 6.0) + torch.rand(5), graph, torch.randn(graph.num_edges))
    start, end = torch.ones(5, dtype=torch.int64), torch.tensor([-1, -1, 1, -1, -1])
    orders = [torch.tensor(order) for order in itertools.permutations((0, 1, 3, 4))]
    along = torch.stack([energies_along(hamiltonian, start, order) for order in orders])
    assert bool((along.argmax(1) == 0).all())
    found = lowest_order(hamiltonian, start, end, 6)  # sets of two flips among four
    assert found.tolist() == orders[int(along.sum(1).argmin())].tolist()


def test_states_and_energies_along_a_path_are_those_of_its_flips():
    hamiltonian, (start, end) = glass(2), ends(2, differing=3)
    order = torch.tensor([i for i in range(7) if start[i] != end[i]]).flip(0)
    expected = [start.clone()]
    for flip in order:
        expected.append(expected[-1].clone())
        expected[-1][flip] *= -1
    assert torch.equal(states_along(start, order), torch.stack(expected))
    assert torch.equal(expected[-1], end)
    energies = torch.stack([hamiltonian.energy(state) for state in expected])
    torch.testing.assert_close(energies_along(hamiltonian, start, order), energies)
    assert len(lowest_order(hamiltonian, start, start, 3)) == 0


def test_on_the_straight_line_bits_flip_where_their_logits_cross_zero():
    start, end = torch.tensor([4.0, -1.0, 2.0, 3.0]), torch.tensor([-1.0, 3.0, 1.0, -3.0])
    assert straight_order(start, end).tolist() == [1, 3, 0]  # at 1/4, 1/2 and 4/5


def test_a_great_circle_turns_evenly_and_keeps_the_length():
    start, end = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 3.0, 0.0])
    found = great_circle(start, end, 4)
    torch.testing.assert_close(found[[0, 3]], torch.stack([start, end]))
    torch.testing.assert_close(found.norm(dim=1), torch.linspace(2, 3, 4))
    turned = torch.nn.functional.cosine_similarity(found[1:], found[:-1])
    torch.testing.assert_close(turned, torch.full((3,), 3**0.5 / 2))
    torch.testing.assert_close(great_circle(start, 2 * start, 3), torch.tensor([2.0, 3, 4]).unsqueeze(1) * start / 2)


def test_codes_that_point_the_same_or_the_opposite_way_have_a_straight_line():
    start = torch.tensor([3.0, 4.0])
    for factor in (-1.0, 0.5, 1.0, -2.0):
        found = great_circle(start, factor * start, 5)
        expected = torch.stack([start * (1 + (factor - 1) * part / 4) for part in range(5)])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
