"""A VQVAE whose decoder is trained against a critic, too: sharper reconstructions, and all that a training promises."""

import numpy as np
import pytest
import torch

from qvae.config.load import load_config
from qvae.data.arrays import dataset_from_arrays
from qvae.errors import ConfigError
from qvae.runs.assemble import assemble
from qvae.training.metrics import Metrics
from qvae.training.objective import Clock

SMALL = {
    "model": {"kind": "vqvae", "circuit": {"qubits": 2, "layers": 1}, "network": {"hidden": [8]}, "critic": {"hidden": [8]}},
    "training": {"epochs": 2, "batch_size": 50, "device": "cpu"},
    "evaluation": {"tsne_every": 0},
}


def parts(tmp_path, *overrides):
    rows = (np.random.default_rng(0).random((200, 4, 4)) < 0.5).astype(np.float32)
    made = assemble(tmp_path / "run", load_config(SMALL, overrides), data=dataset_from_arrays(rows, rows[:20], name="memory"))
    made.trainer.metrics, made.trainer.save = Metrics(), lambda trainer: None
    return made


def bits(model):
    return torch.cat([value.reshape(-1).double() for value in model.state_dict().values()])


def test_the_critic_and_the_autoencoder_both_move_and_only_one_by_the_other_s_optimizer(tmp_path):
    settings = ["training.warmup_steps=4", "training.learning_rate=0.002", "training.critic_learning_rate=0.004"]
    objective = parts(tmp_path, *settings).objective
    assert not {name for name in objective.parameters() if name.startswith("critic.")}
    before = {name: value.clone() for name, value in objective.model.named_parameters()}
    figures = objective.step(parts(tmp_path).trainer.rows[:50], Clock(0, 1, 0.5))
    rates = (objective.optimizer, 0.002), (objective.critic_optimizer, 0.004)
    for optimizer, peak in rates:  # half of a cosine, and the first step of a warm-up of 4
        assert optimizer.param_groups[0]["lr"] == pytest.approx(peak / 2 / 5)
    assert figures.shape == (5,)
    moved = {name for name, value in objective.model.named_parameters() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in moved} >= {"encoder", "decoder", "critic", "posterior"}


def test_the_gradient_is_that_of_the_bound_and_of_the_critic_s_verdict(tmp_path):
    """At weight 0 it is the bound's; the verdict's part grows as its weight, whatever that of the KL part is."""

    def gradient(weight, of_kl=1.0):
        objective = parts(tmp_path, f"model.critic.weight={weight}", "model.network.batch_norm=false").objective
        objective._backward(objective.prepare(parts(tmp_path).trainer.rows[:50], objective.generator), of_kl)
        return objective.model.decoder[-1].bias.grad.clone()

    none, one, three = (gradient(weight) for weight in (0, 1, 3))
    assert not torch.allclose(one, none, atol=1e-6)
    assert torch.allclose(three - none, 3 * (one - none), atol=1e-5)
    assert torch.allclose(gradient(3, 0.2) - gradient(0, 0.2), three - none, atol=1e-5)


def test_a_turn_of_the_critic_is_on_data_and_reconstructions(tmp_path):
    """Of a linear critic, whose slope is the same everywhere, beside the closed form."""
    objective = parts(tmp_path, "model.critic.hidden=[]", "model.critic.penalty_weight=0.5").objective
    real, fake = torch.rand(2, 50, 16, generator=torch.Generator().manual_seed(0))
    weight, bias = objective.model.critic.parameters()
    objective._turn_of_critic(real, fake)
    w = weight.detach()[0]
    slope = w.norm()
    torch.testing.assert_close(objective._seen, torch.stack([w @ (real.mean(0) - fake.mean(0)), slope]))
    expected = fake.mean(0) - real.mean(0) + 0.5 * 2 * (slope - 1) * w / slope
    torch.testing.assert_close(weight.grad[0], expected, atol=1e-5, rtol=1e-4)
    assert float(bias.grad.abs()) < 1e-6


def test_reconstructions_are_moved_to_where_the_critic_scores_them_higher(tmp_path):
    """Of a critic that likes bright pixels, the verdict's gradient is -weight times that of the brightness of a row."""

    class Brightness(torch.nn.Module):
        def forward(self, rows):
            return rows.sum(1)

    def gradient(weight):
        objective = parts(tmp_path, f"model.critic.weight={weight}", "model.network.batch_norm=false").objective
        objective.model.critic = Brightness()
        objective._turn_of_critic = lambda real, fake: None
        bits = objective.prepare(parts(tmp_path).trainer.rows[:50], objective.generator)
        objective._backward(bits, 1.0)
        return objective.model.decoder[-1].bias.grad.clone()

    verdict = gradient(2) - gradient(0)
    assert (verdict < -2 * 0.1).all()  # d sigmoid is 1/4 where a pixel is grey, as at the start
    assert (verdict >= -2 * 0.25 - 1e-6).all()


def test_a_resumed_training_ends_with_the_same_bits(tmp_path):
    whole, first, second = (parts(tmp_path).trainer for _ in range(3))
    whole.fit()
    for rows in list(first._batches())[:3]:
        first._train_step(rows)
    second.load_state_dict(first.state_dict())
    second.fit()
    assert torch.equal(bits(whole.model), bits(second.model))
    assert torch.equal(bits(whole.averaged_model()), bits(second.averaged_model()))


def test_figures_of_the_critic_stand_beside_those_of_the_bound(tmp_path):
    made, rows = parts(tmp_path), []
    made.trainer.observers = [lambda model, figures: rows.append(figures)]
    made.trainer.fit()
    assert {"minus_elbo", "kl", "critic_gap", "critic_slope"} <= set(rows[-1])


def test_what_has_no_use_for_a_critic_refuses_it(tmp_path):
    for overrides, problem in (
        (["training.optimizer.name=spsa"], "training.optimizer is spsa, which knows of no critic"),
        (["model.variant=discrete"], "model.critic is set, but isn't of a model of kind vqvae, discrete"),
        (["model.critic.steps=2"], "model.critic.steps is set, but isn't of a model of kind vqvae"),
    ):
        with pytest.raises(ConfigError, match=problem):
            parts(tmp_path, *overrides)
