"""What an optimizer is given to go on with: moments of its parameters' own shapes, finite, and a step that is a number."""

import pytest
import torch

from qvae.training.objective import load_optimizer_state, optimizer_state


def adam(steps=1):
    weight = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.Adam([weight], lr=0.1, betas=(0.8, 0.9))
    for _ in range(steps):
        weight.sum().backward()
        optimizer.step()
    return optimizer, weight


def test_moments_go_on_and_settings_stay_the_optimizer_s_own():
    optimizer, weight = adam(3)
    other, its_weight = adam(0)
    other.param_groups[0]["lr"] = 0.025
    with torch.no_grad():
        its_weight.copy_(weight)
    load_optimizer_state(other, optimizer_state(optimizer))
    assert other.param_groups[0]["lr"] == 0.025
    state = other.state[its_weight]
    assert (float(state["step"]), float(state["exp_avg"][0, 0])) == (3, float(optimizer.state[weight]["exp_avg"][0, 0]))
    load_optimizer_state(adam(0)[0], {})  # of a training that hasn't begun


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exp_avg": torch.zeros(3, 2)}, r"moments of parameter 0 are not of its shape \(2, 3\)"),
        ({"exp_avg_sq": torch.zeros(6)}, "are not of its shape"),
        ({"exp_avg": torch.full((2, 3), torch.nan)}, "are not of its shape"),
        ({"exp_avg": torch.zeros(2, 3, dtype=torch.int64)}, "are not of its shape"),
        ({"exp_avg": [0.0] * 6}, "are not of its shape"),
        ({"exp_avg": None}, "are not of its shape"),  # which Adam needs
        ({"max_exp_avg_sq": torch.zeros(2)}, "are not of its shape"),
        ({"momentum": torch.zeros(2)}, "are not of its shape"),
        ({"metric": torch.zeros(3, 3)}, "metric of parameter 0 is none"),
        ({"step": torch.zeros(1)}, "step of parameter 0 is no number"),
        ({"step": torch.tensor(torch.inf)}, "step of parameter 0 is no number"),
        ({"step": 3}, "step of parameter 0 is no number"),
    ],
)
def test_a_state_of_something_else_is_refused(change, words):
    optimizer, _ = adam()
    state = optimizer_state(optimizer)
    fits = {"metric": torch.zeros(6, 6), "momentum": torch.zeros(2, 3), "max_exp_avg_sq": None, "momentum_buffer": None}
    load_optimizer_state(optimizer, {"0": state["0"] | fits})
    with pytest.raises(ValueError, match=words):
        load_optimizer_state(optimizer, {"0": state["0"] | change})
