"""The moving average of weights: by hand at first, and in a full window as one of every step; then the statistics anew."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from qvae.training.averaging import WeightAverage, retake_batch_norm


def average_of(values: list[float], decay: float, began: int = 0) -> list[float]:
    """The average after each step of a weight that has these values, from 0 on."""
    weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
    average, found = WeightAverage({"weight": weight}, decay), []
    for step, value in enumerate(values, start=1):
        weight.data.fill_(value)
        average.update(step, step - began if step > began else step)
        found.append(float(average.values[0]))
    return found


def test_early_steps_by_hand() -> None:
    # What is kept of the old average: 1/11, 2/12, 3/13 by the number of steps, and never more than the decay.
    one = 10 / 11
    two = one * 2 / 12 + 2 * 10 / 12
    three = two * 0.2 + 3 * 0.8
    torch.testing.assert_close(average_of([1.0, 2.0, 3.0], decay=0.2), [one, two, three])


def test_weights_that_move_late_start_with_a_plain_mean() -> None:
    # Of 1000 steps before; the first two that move them count 1/2 and 1/3.
    found = average_of([0.0] * 1000 + [6.0, 12.0], decay=0.999, began=1000)
    torch.testing.assert_close(found[-2:], [3.0, 3.0 * 2 / 3 + 12.0 / 3])


def test_no_decay_keeps_the_last_weights() -> None:
    assert average_of([5.0, 7.0, -1.0], decay=0.0) == [5.0, 7.0, -1.0]


def test_a_full_window_takes_in_every_fourth_step_and_is_as_long_as_if_it_took_all() -> None:
    steps = 20_000
    found = average_of([float(step) for step in range(1, steps + 1)], decay=0.999)
    moved = [step for step in range(steps - 1000, steps) if found[step] != found[step - 1]]
    assert len(moved) == 250
    assert {step % 4 for step in moved} == {3}  # steps 4, 8, ... of which the first has number 1
    # Of every step's weights it would lag by decay / (1 - decay) = 999 steps behind the last; of every fourth, by 997.5.
    assert abs(steps - found[-1] - 4 * 0.999**4 / (1 - 0.999**4)) < 0.1


def test_a_short_window_takes_in_every_step() -> None:
    found = average_of([float(step) for step in range(1, 4001)], decay=0.998)
    assert all(later > earlier for earlier, later in itertools.pairwise(found))


def test_statistics_taken_anew_are_plain_averages_over_batches_of_two_rows_or_more() -> None:
    norm = nn.BatchNorm1d(1, momentum=0.25)
    norm(torch.tensor([[50.0], [90.0]]))  # of other weights
    rows = torch.tensor([[0.0], [2.0], [4.0], [8.0], [6.0], [12.0], [100.0]])
    retake_batch_norm(nn.Sequential(norm), rows.split(2), norm)
    torch.testing.assert_close(norm.running_mean, torch.tensor([(1.0 + 6.0 + 9.0) / 3]))
    torch.testing.assert_close(norm.running_var, torch.tensor([(2.0 + 8.0 + 18.0) / 3]))
    assert (norm.momentum, norm.training) == (0.25, False)
