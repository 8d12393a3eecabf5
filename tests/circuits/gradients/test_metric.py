"""The Fubini-Study metric against dense states, closed forms and measured overlaps."""

import math

import pytest
import torch
from qvae_backends.statevector import StatevectorExecutor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.executor import Executor, ExecutorCapabilities
from qvae.circuits.gradients import metric
from qvae.circuits.gradients.metric import fubini_study, levels, num_overlaps
from qvae.testing.dense import dense_state

MIXED = Circuit(
    3,
    [
        Gate("ry", (0,), (Affine(0),)),
        Gate("rx", (1,), (Affine(1, 1.5),)),
        Gate("cx", (0, 2)),
        Gate("cry", (2, 1), (Affine(2),)),
        Gate("rzz", (0, 1), (Affine(1, -0.5, 0.3),)),
        Gate("u", (2,), (Affine(3), 0.4, Affine(4))),
        Gate("xx_plus_yy", (0, 2), (Affine(2, 0.7), Affine(3))),
    ],
    num_parameters=5,
    num_inputs=1,
)
ROWS = torch.tensor([[0.3], [-1.1]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.9, -0.7, 1.3], dtype=torch.float64)


class Overlaps(StatevectorExecutor):
    """Measures, and owns up to no amplitudes."""

    capabilities = ExecutorCapabilities()
    shots = 20_000
    _weighted_expectations = Executor._weighted_expectations


def test_it_is_that_of_dense_states():
    step = 1e-5
    expected = torch.zeros(4, 4, dtype=torch.float64)
    for row in ROWS:
        state = torch.from_numpy(dense_state(MIXED, torch.cat([row, WEIGHTS])))
        slopes = []
        for index in range(4):
            shift = step * torch.eye(4, dtype=torch.float64)[index]
            up, down = (dense_state(MIXED, torch.cat([row, WEIGHTS + sign * shift])) for sign in (1, -1))
            slopes.append(torch.from_numpy(up - down) / (2 * step))
        slope = torch.stack(slopes)
        along = slope.conj() @ state
        expected += (slope.conj() @ slope.T - torch.outer(along, along.conj())).real / len(ROWS)
    found = fubini_study(StatevectorExecutor(), MIXED, ROWS, WEIGHTS)
    assert torch.allclose(found, expected, atol=1e-8)
    assert torch.linalg.eigvalsh(found).min() > -1e-12


def test_a_rotation_moves_a_state_by_half_its_angle_unless_it_is_an_eigenstate():
    circuit = Circuit(2, [Gate("ry", (0,), (Affine(0),)), Gate("rz", (1,), (Affine(1),))], num_parameters=2)
    found = fubini_study(StatevectorExecutor(), circuit, torch.zeros(1, 0), torch.tensor([0.4, 1.0]))
    assert torch.allclose(found, torch.tensor([[0.25, 0.0], [0.0, 0.0]]), atol=1e-6)


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS], ids=["row", "rows"])
def test_measured_overlaps_give_the_same(rows):
    # Each element is half a sum of products of two rules' terms, each with the binomial error of its overlap.
    exact = fubini_study(StatevectorExecutor(), MIXED, rows, WEIGHTS)
    found = fubini_study(Overlaps(seed=0), MIXED, rows, WEIGHTS)
    chain = 1.5**2 + 1  # at most so many squared scales meet in one element
    error = chain * math.sqrt(16) * 0.5 * math.sqrt(0.25 / Overlaps.shots)
    assert (found - exact).abs().max() < 5 * error
    assert (found - exact).abs().max() > 0


def test_overlaps_without_errors_of_shots_give_exactly_the_same(monkeypatch):
    def exact(executor, circuit, values):
        return executor.amplitudes(circuit, values)[:, 0].abs().square()

    monkeypatch.setattr(metric, "_return_probability", exact)
    expected, found = (fubini_study(StatevectorExecutor(), MIXED, ROWS, WEIGHTS, measured=way) for way in (False, True))
    assert torch.allclose(found, expected, atol=1e-10)


def test_blocks_are_layers_of_gates():
    circuit = Circuit(
        2,
        [
            *(Gate("ry", (qubit,), (Affine(qubit),)) for qubit in range(2)),
            Gate("cx", (0, 1)),
            *(Gate("ry", (qubit,), (Affine(2 + qubit),)) for qubit in range(2)),
        ],
        num_parameters=4,
    )
    blocks = levels(circuit)
    assert blocks[0] == blocks[1] != blocks[2] == blocks[3]
    weights = torch.tensor([0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    none = torch.zeros(1, 0, dtype=torch.float64)
    full = fubini_study(StatevectorExecutor(), circuit, none, weights)
    kept = fubini_study(StatevectorExecutor(), circuit, none, weights, blocks)
    assert torch.equal(kept[:2, :2], full[:2, :2])
    assert torch.equal(kept[2:, 2:], full[2:, 2:])
    assert not kept[:2, 2:].any()
    assert full[:2, 2:].abs().max() > 0.01
    measured = fubini_study(Overlaps(seed=1), circuit, none, weights, torch.arange(4))
    assert measured.diagonal() == pytest.approx(full.diagonal(), abs=5 * 0.5 * math.sqrt(4 * 0.25 / Overlaps.shots))
    assert not (measured - measured.diagonal().diag()).any()


def test_levels_count_gates_from_the_last_and_a_weight_is_where_it_acts_first():
    """Weight 2 acts twice, and weight 3 beside the gate before the last; inputs have no level."""
    gates = [
        Gate("ry", (0,), (Affine(0),)),
        Gate("ry", (0,), (Affine(1),)),
        Gate("ry", (1,), (Affine(3),)),
        Gate("ry", (0,), (Affine(2),)),
        Gate("ry", (1,), (Affine(4),)),
        Gate("cx", (0, 1)),
        Gate("ry", (0,), (Affine(3),)),
    ]
    assert levels(Circuit(2, gates, num_parameters=5, num_inputs=1)).tolist() == [4, 3, 4, 3]


def test_as_many_overlaps_are_told_as_are_measured():
    """Four for each pair of angles that follow weights, the pair of an angle with itself among them; inputs have none."""
    gates = [Gate("ry", (0,), (Affine(0),)), Gate("ry", (0,), (Affine(1),)), Gate("rx", (1,), (Affine(2),))]
    circuit = Circuit(2, gates, num_parameters=3, num_inputs=1)
    assert (num_overlaps(circuit), num_overlaps(circuit, torch.tensor([0, 1]))) == (4 * 3, 4 * 2)
    asked = []

    class Counted(Overlaps):
        def _sample(self, circuit, values, shots):
            asked.append(len(values))
            return super()._sample(circuit, values, shots)

    for blocks in (None, torch.tensor([0, 1])):
        fubini_study(Counted(seed=0), circuit, torch.zeros(3, 1), torch.tensor([0.4, 1.0]), blocks)
    assert asked == [12, 12, 12, 8, 8, 8]
