"""Norms of gradients are those that backward leaves, of the steps that are to be noted, and watching changes nothing."""

import torch
from torch import nn

from qvae.config.load import load_config
from qvae.runs.assemble import assemble
from qvae.training.gradient_norms import GradientNorms


def test_norms_are_those_before_clipping_of_every_second_step():
    torch.manual_seed(0)
    model, expected = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), []
    with GradientNorms(model, every=2) as norms:
        for _ in range(5):
            model.zero_grad()
            model(torch.randn(6, 3)).square().sum().backward()
            expected.append(float(model[0].weight.grad.norm()))
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            norms.end_step()
    assert norms.steps == [1, 3, 5]
    assert norms.series()["0.weight"].tolist() == expected[::2]
    assert [name[0] for name in norms.names] == ["2", "2", "0", "0"]  # from the loss back
    model(torch.randn(6, 3)).sum().backward()
    norms.end_step()
    norms.end_step()
    assert norms.series()["0.weight"].tolist()[3:] == [0.0], "nobody listens behind the block"


def test_parameters_without_gradients_are_told_apart():
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "unused": nn.Linear(2, 1), "frozen": nn.Linear(2, 1)})
    model["frozen"].requires_grad_(False)
    with GradientNorms(model) as norms:
        model["used"](torch.ones(1, 2)).sum().backward()
        norms.end_step()
    assert norms.silent == ["frozen.weight", "frozen.bias"]
    assert norms.names[2:] == ["unused.weight", "unused.bias"]
    assert norms.series()["unused.bias"].tolist() == [0.0]


def test_a_trial_takes_the_steps_of_a_training(tmp_path):
    few = ["training.epochs=2", "model.circuit.arm=gaussian", "model.network.hidden=[8]", "training.batch_size=500"]
    config = load_config("digits-vqvae", few)
    trained, tried = (assemble(tmp_path, config).trainer for _ in range(2))
    trained.fit()
    assert trained.total_steps > trained.steps_per_epoch
    assert list(tried.trial(trained.total_steps)) == list(range(1, trained.total_steps + 1))
    ends = zip(trained.model.parameters(), tried.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in ends)
