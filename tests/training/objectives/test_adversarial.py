"""A game through the common trainer: who moves when, what is told of it, how it ends, and that it resumes bit by bit."""

import copy
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qvae.circuits.executor import ExecutorCapabilities
from qvae.circuits.gradients import load_gradient
from qvae.circuits.registry import load_executor
from qvae.config.schema import Config
from qvae.data.arrays import dataset_from_arrays
from qvae.errors import ExecutorError
from qvae.runs.assemble import assemble
from qvae.sampling.coverage import Coverage
from qvae.training.metrics import Metrics, TrainingDiverged
from qvae.training.objective import Clock
from qvae.training.objectives.game_watch import GameWatch
from qvae.training.objectives.gaussian import gaussian_surrogate
from qvae.training.objectives.latent_game import _weighted_surrogate

MODEL = {
    "kind": "vqgan",
    "circuit": {"qubits": 2, "layers": 1},
    "network": {"hidden": [8]},
    "gan": {"latents": 3, "noise": 3},
    "critic": {"hidden": [8], "steps": 2},
}


def parts(tmp_path, model=(), **training):
    rows = np.random.default_rng(0).random((240, 4, 4)).astype(np.float32)
    labels = np.arange(240) % 3
    dataset = dataset_from_arrays(rows, rows[:20], train_labels=labels, test_labels=labels[:20], name="memory")
    config = Config.model_validate(
        {
            "model": {**MODEL, **dict(model)},
            "training": {"epochs": 6, "batch_size": 40, "device": "cpu", **training},
            "evaluation": {"tsne_every": 0},
        }
    )
    made = assemble(tmp_path / "run", config, data=dataset)
    made.trainer.metrics, made.trainer.save = Metrics(), lambda trainer: None
    made.objective.listen(made.trainer.metrics.warn)
    return made


def in_the_game(made):
    """The objective of the game, where the autoencoder is done."""
    trainer = made.trainer
    while not trainer.model.is_frozen:
        for rows in trainer._batches():
            trainer._train_step(rows)
    return trainer.objective.game


def weights(module):
    return [weight.detach().clone() for weight in module.parameters()]


def are_equal(before, module):
    return all(map(torch.equal, before, module.parameters()))


def test_the_autoencoder_is_trained_first_and_then_stays_as_it_is(tmp_path):
    made = parts(tmp_path)
    model, trainer = made.trainer.model, made.trainer
    generator, decoder = weights(model.prior), weights(model.decoder)
    trainer._train_step(next(trainer._batches()))
    assert are_equal(generator, model.prior)
    assert not are_equal(decoder, model.decoder)
    in_the_game(made)
    frozen = weights(model.decoder)
    buffers = {name: value.clone() for name, value in model.encoder.named_buffers()}
    model.train()
    for rows in trainer._batches():
        trainer._train_step(rows)
    assert are_equal(frozen, model.decoder)
    assert all(torch.equal(value, dict(model.encoder.named_buffers())[name]) for name, value in buffers.items())
    assert not are_equal(generator, model.prior)


def test_latents_of_the_data_have_mean_0_and_variance_1_in_the_game(tmp_path):
    game = in_the_game(parts(tmp_path))
    made = torch.cat([game.real(game.reference, torch.Generator().manual_seed(seed))[0] for seed in range(50)])
    # The statistics are of one draw of 240 rows each, so they are off by a few of its standard errors.
    assert float(made.mean(0).abs().max()) < 5 / math.sqrt(240)
    assert float((made.std(0) - 1).abs().max()) < 5 / math.sqrt(2 * 240)


def test_the_autoencoder_s_statistics_are_those_of_all_rows(tmp_path, monkeypatch):
    """Batch norms hold the mean over batches, as latents are drawn; then, with those, latents get theirs over all rows."""
    monkeypatch.setenv("QVAE_KERNELS", "torch")
    made = parts(tmp_path, seed=5)
    game, rows = in_the_game(made), made.objective.rows
    norms = [name for name, module in game.model.named_modules() if isinstance(module, torch.nn.BatchNorm1d)]
    seen = {name: [] for name in norms}
    model, generator = copy.deepcopy(game.model), torch.Generator().manual_seed(5)
    for name in norms:  # which a frozen model's own train() leaves as they are
        model.get_submodule(name).train().register_forward_pre_hook(
            lambda module, given, name=name: seen[name].append(torch.stack([given[0].mean(0), given[0].var(0)]))
        )
    with torch.no_grad():
        for batch in rows.split(40):
            model.decoder(model.posterior_sample(game.prepare(batch, generator), False, generator).latents)
    assert {name.split(".")[0] for name in norms} == {"encoder", "decoder"}
    for name in norms:
        norm, (mean, variance) = game.model.get_submodule(name), torch.stack(seen[name]).mean(0)
        assert len(seen[name]) == 6
        torch.testing.assert_close(norm.running_mean, mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(norm.running_var, variance, atol=1e-5, rtol=1e-4)
    generator = torch.Generator().manual_seed(5)
    latents = [game.model.reality(game.prepare(batch, generator), generator) for batch in rows.split(40)]
    deviation, mean = torch.std_mean(torch.cat(latents), 0)
    torch.testing.assert_close(game.model.prior.mean, mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(game.model.prior.std, deviation, atol=1e-5, rtol=1e-4)


def test_a_latent_that_never_varies_keeps_its_unit(tmp_path):
    prior = parts(tmp_path).trainer.model.prior
    latents = torch.stack([torch.arange(5.0), torch.full((5,), 7.0), -2 * torch.arange(5.0)], 1)
    prior.standardise_by(latents)
    assert prior.std.tolist() == pytest.approx([1.5811, 1.0, 3.1623], abs=1e-4)
    assert prior.standardised(latents)[:, 1].tolist() == [0.0] * 5


def test_the_critic_moves_in_every_step_and_the_generator_when_it_is_due(tmp_path):
    game = in_the_game(parts(tmp_path))
    rows = game.reference[:40]
    for step in (100, 101, 102):
        generator, critic = weights(game.model.prior), weights(game.model.critic)
        game.step(rows, Clock(step, 1, 0.1))
        assert not are_equal(critic, game.model.critic)
        assert are_equal(generator, game.model.prior) == (step % 2 == 1)


@pytest.mark.parametrize(("loss", "penalty"), [("wasserstein", "gradient"), ("nonsaturating", "r1")])
def test_turns_of_a_game_are_those_written_by_hand(tmp_path, loss, penalty):
    """Figures, gradients, clipping, rates and Adam's moments: the generator moves in the first and third of three steps."""
    rates = {"prior_learning_rate": 0.01, "circuit_learning_rate": 0.03, "critic_learning_rate": 0.02, "warmup_steps": 9}
    critic = {"hidden": [8], "steps": 2, "loss": loss, "penalty": penalty, "penalty_weight": 3.0}
    game = in_the_game(parts(tmp_path, {"critic": critic}, clip_norm=0.05, **rates))
    prior, critic, rows = game.model.prior, game.model.critic, game.reference[:40]
    angles = prior.circuits[0].weight
    networks = [weight for weight in prior.parameters() if weight is not angles]
    players = [networks, [angles], list(critic.parameters())]
    moments = game.optimizer.state | game.critic_optimizer.state  # of the game's first steps
    generator = torch.Generator().set_state(game.generator.get_state())
    classes = torch.nn.functional.one_hot(rows[:, -1].long(), 3).float()

    def score(x):
        return critic(torch.cat([x, classes], 1))

    for step in (2, 3, 4):
        real = (game.model.reality(game.prepare(rows[:, :-1], generator), generator) - prior.mean) / prior.std
        fake = prior(torch.randn(40, 3, generator=generator), classes)
        share = torch.rand(40, 1, generator=generator) if penalty == "gradient" else 0.0
        between = (real + share * (fake - real)).detach().requires_grad_()
        slopes = torch.autograd.grad(score(between).sum(), between, create_graph=True)[0].norm(dim=1)
        if loss == "wasserstein":
            of_generator, of_critic = -score(fake), score(fake.detach()) - score(real)
        else:
            of_generator = (1 + (-score(fake)).exp()).log()
            of_critic = (1 + score(fake.detach()).exp()).log() + (1 + (-score(real)).exp()).log()
        paid = 3 * ((slopes - 1) ** 2 if penalty == "gradient" else slopes**2 / 2)
        gap, spread = score(real).mean() - score(fake).mean(), fake.var(0).mean() / real.var(0).mean()
        losses = (of_generator.mean(), of_generator.mean(), (of_critic + paid).mean())
        gradients = [torch.autograd.grad(loss, player, retain_graph=True) for loss, player in zip(losses, players, strict=True)]
        before = {weight: (weight.detach().clone(), copy.deepcopy(moments[weight])) for player in players for weight in player}
        found = game.step(rows, Clock(step, 1, 0.5))
        expected = torch.stack([gap, slopes.mean(), of_generator.mean(), spread]).detach()
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        for player, expected, rate in zip(players, gradients, (0.01, 0.03, 0.02), strict=True):
            if step == 3 and player is not players[2]:
                assert all(torch.equal(weight, before[weight][0]) for weight in player)
                continue
            norm = torch.stack([each.norm() for each in expected]).norm()
            scale = 1.0 if player is players[1] else 0.05 / norm  # angles of circuits are never clipped
            assert norm > 0.05 or player is players[1]
            for weight, gradient in zip(player, expected, strict=True):
                torch.testing.assert_close(weight.grad, scale * gradient, atol=1e-5, rtol=1e-3)
                start, seen = before[weight]
                square = (0.9 * seen["exp_avg_sq"] + 0.1 * weight.grad**2) / (1 - 0.9 ** (float(seen["step"]) + 1))
                moved = (step + 1) / 10 * rate * weight.grad / (square.sqrt() + 1e-8)
                torch.testing.assert_close(weight.detach(), start - moved, atol=1e-6, rtol=1e-4)


def test_generator_and_critic_are_told_the_classes_of_the_rows(tmp_path):
    game = in_the_game(parts(tmp_path))
    rows, told = game.reference[:40], []
    for module in (game.model.prior.body, game.model.critic):
        module.register_forward_hook(lambda module, inputs, output: told.append(inputs[0][:, -3:].detach()))
    game.step(rows, Clock(100, 1, 0.1))
    expected = torch.nn.functional.one_hot(rows[:, -1].long(), 3).float()
    assert len(told) == 5  # samples are made, and scored by each player; so are data, and rows where the slope is looked at
    assert all(torch.equal(each, expected) for each in told)


def test_averages_of_a_game_forget_where_its_generator_began(tmp_path):
    """It moves from step 15 of 30 on; counted from step 0, 0.62 of where it began would stay in the first average, not 0.5."""
    made = parts(tmp_path)
    trainer, weight = made.trainer, made.trainer.model.prior.head.bias
    seen = [weight.detach().clone()]
    while trainer.step < 30:
        for rows in trainer._batches():
            trainer._train_step(rows)
            if trainer.model.is_frozen:
                seen.append(weight.detach().clone())
    assert made.objective.began == 15
    expected = seen[0]
    for moved, value in enumerate(seen[1:], 1):
        step = 15 + moved
        expected = torch.lerp(expected, value, 1 - min(step / (step + 10), moved / (moved + 1)))
    averaged = trainer.average.averaged(trainer.model).prior.head.bias
    assert torch.allclose(averaged, expected, atol=1e-6)


def test_weights_that_are_averaged_are_the_generator_s_alone(tmp_path):
    trainer = parts(tmp_path).trainer
    trainer.fit()
    averaged = dict(trainer.averaged_model().named_parameters())
    differ = {name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, averaged[name])}
    assert differ == {f"prior.{name}" for name, _ in trainer.model.prior.named_parameters()}


def test_a_step_whose_executor_fails_leaves_everything_as_it_was(tmp_path):
    game = in_the_game(parts(tmp_path))
    layer = game.model.circuit

    class Broken(type(layer.executor)):
        capabilities = ExecutorCapabilities(exact=True, differentiable=True)

        def _weighted_expectations(self, *arguments):
            raise ExecutorError("the line is down.")

    rows, clock = game.reference[:40], Clock(100, 1, 0.1)
    before, state = weights(game.model), game.generator.get_state()
    whole, layer.executor = layer.executor, Broken()
    with pytest.raises(ExecutorError):
        game.step(rows, clock)
    assert are_equal(before, game.model)
    assert torch.equal(state, game.generator.get_state())
    assert all(weight.requires_grad for weight in game.model.critic.parameters())
    layer.executor = whole
    game.step(rows, clock)


@pytest.mark.parametrize(
    ("loss", "penalty"), [("wasserstein", "gradient"), ("wasserstein", "spectral"), ("nonsaturating", "r1")]
)
def test_every_loss_and_penalty_brings_samples_nearer_to_data(tmp_path, loss, penalty):
    critic = {"hidden": [16], "loss": loss, "penalty": penalty}
    rates = {"schedule": "constant", "prior_learning_rate": 0.01, "critic_learning_rate": 0.03}
    game = in_the_game(parts(tmp_path, {"critic": critic}, **rates))
    target = torch.tensor([1.5, -1.0, 0.5])  # where the data are moved to
    game.model.prior.mean.sub_(target * game.model.prior.std)
    classes = torch.nn.functional.one_hot(torch.arange(1000) % 3, 3).float()

    @torch.no_grad()
    def distance():
        made = game.model.prior(game.model.prior.draw_noise(1000, torch.Generator().manual_seed(0)), classes)
        return float((made.mean(0) - target).norm())

    before = distance()
    for step in range(150):
        game.step(game.reference[:120], Clock(100 + step, 1, 0.1))
    assert distance() < 0.6 * before


@pytest.mark.parametrize("stop_at", [14, 15, 20])  # the game begins with step 15
def test_a_resumed_training_ends_with_the_same_bits(tmp_path, stop_at):
    whole, first, second = (parts(tmp_path).trainer for _ in range(3))
    whole.fit()
    while first.step < stop_at:
        for rows in list(first._batches())[: stop_at - first.step]:
            first._train_step(rows)
    second.load_state_dict(first.state_dict())
    second.fit()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    for name, value in whole.averaged_model().state_dict().items():
        assert torch.equal(value, second.averaged_model().state_dict()[name]), name


def test_a_generator_that_has_collapsed_is_told_within_an_epoch(tmp_path):
    made = parts(tmp_path, schedule="constant")
    game = in_the_game(made)
    with torch.no_grad():
        game.model.prior.head.weight.zero_()  # whatever the noise, one sample
    game.model.prior.head.weight.register_hook(torch.zeros_like)
    trainer = made.trainer
    while trainer.step % trainer.steps_per_epoch:
        trainer._train_step(next(trainer._batches()))
    trainer.metrics = Metrics()
    trainer.objective.listen(trainer.metrics.warn)
    for rows in trainer._batches():
        trainer._train_step(rows)
    trainer._end_epoch()
    assert any("the generator has collapsed: its samples vary 0.0% as much" in text for text in trainer.metrics.warnings)


def seen(coverage):
    return Coverage(1.0, 0.0, 1.0, coverage, 5, 500)


def test_a_generator_that_misses_most_of_the_data_is_told_when_it_had_its_time():
    said = []
    watch = GameWatch(lambda kind, text: said.append((kind, text)))
    fine = {"gap": 1.0, "spread": 0.8}
    watch.check(fine, seen(0.1), Clock(10, 2, 0.3))
    watch.check(fine, seen(0.9), Clock(20, 3, 0.9))
    watch.check({"gap": -9e3, "spread": 0.8}, seen(0.9), Clock(20, 3, 0.9))
    assert not said
    watch.check(fine, seen(0.1), Clock(20, 3, 0.9))
    assert said[0][0] == "coverage"
    assert "10% of them have a sample near (epoch 3)" in said[0][1]


@pytest.mark.parametrize(
    ("spread", "coverage", "progress", "told"),
    [
        (0.05, 0.2, 0.9, None),
        (0.049, 0.2, 0.1, "its samples vary 4.9% as much as data (epoch 3)"),
        (0.049, 0.1, 0.9, "its samples vary 4.9% as much as data (epoch 3)"),  # and of this alone
        (0.05, 0.19, 0.51, "19% of them have a sample near (epoch 3)"),
        (0.05, 0.19, 0.5, None),
    ],
)
def test_a_game_is_told_of_below_a_twentieth_of_the_variance_and_a_fifth_of_the_data(spread, coverage, progress, told):
    said = []
    watch = GameWatch(lambda kind, text: said.append(text))
    watch.check({"gap": 1e4, "spread": spread}, seen(coverage), Clock(20, 3, progress))
    assert len(said) == (told is not None)
    assert all(told in text for text in said)
    with pytest.raises(TrainingDiverged, match="1e"):
        watch.check({"gap": -1.001e4, "spread": spread}, seen(coverage), Clock(20, 3, progress))


def test_a_game_that_diverges_ends_with_the_remedy_and_its_last_checkpoint(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"2e\+04 apart \(epoch 2\); lower training.critic_learning_rate .* checkpoint"):
        GameWatch(lambda kind, text: None).check({"gap": 2e4, "spread": 1.0}, seen(0.5), Clock(10, 2, 0.3))
    with pytest.raises(TrainingDiverged, match=r"-2e\+04 apart"):
        GameWatch(lambda kind, text: None).check({"gap": -2e4, "spread": 1.0}, seen(0.5), Clock(10, 2, 0.3))
    saved = []
    made = parts(tmp_path, checkpoint_seconds=1e-6)
    trainer = made.trainer
    trainer.save = lambda trainer: saved.append(trainer.step)
    step = trainer.objective.step

    def broken(rows, clock):
        figures = step(rows, clock)
        return figures * math.nan if clock.step == 20 else figures

    trainer.objective.step = broken
    with pytest.raises(TrainingDiverged, match="lower training.critic_learning_rate"):
        trainer.fit()
    assert saved[-1] == 20  # that is, before the step that went wrong


def test_figures_of_an_epoch_are_of_the_autoencoder_then_of_both_then_of_the_game(tmp_path):
    made = parts(tmp_path)
    rows = []
    made.trainer.observers = [lambda model, figures: rows.append(figures)]
    made.trainer.fit()
    assert ["reconstruction" in row for row in rows] == [True] * 3 + [False] * 3
    assert ["gap" in row for row in rows] == [False] * 2 + [True] * 4
    assert all(0 <= row["recall"] <= 1 for row in rows[2:])
    assert rows[0]["reconstruction"] == pytest.approx(16 * math.log(2), rel=0.3)


def test_figures_of_a_mixed_epoch_are_means_over_the_steps_of_each_part(tmp_path):
    objective = parts(tmp_path).objective
    known = {"plays": 0.25, "log_likelihood": -3.0, "energy": 1.5, "gap": 2.0, "spread": 0.25}
    means = dict.fromkeys(objective.figures, 0.0) | known
    row = objective.epoch_figures(means, {}, Clock(15, 3, 0.5))
    assert (row["reconstruction"], row["kl"], row["gap"], row["spread"]) == (4.0, 2.0, 8.0, 1.0)


def test_each_part_has_a_clock_of_its_own(tmp_path):
    """The autoencoder has the first 0.4 of the training, and the game the rest."""
    objective = parts(tmp_path).objective
    for whole, first, game in ((0.0, 0.0, 0.0), (0.1, 0.25, 0.0), (0.4, 1.0, 0.0), (0.7, 1.0, 0.5), (1.0, 1.0, 1.0)):
        of_first, of_game = objective._first_clock(Clock(7, 3, whole)), objective._game_clock(Clock(7, 3, whole))
        assert (of_first.step, of_first.epoch, of_first.progress) == (7, 3, pytest.approx(first))
        assert (of_game.step, of_game.epoch, of_game.progress) == (7, 3, pytest.approx(game))
    assert objective.phases == (0.0, 0.4)


def test_a_game_is_measured_by_the_same_draws_and_what_a_gradient_remembers_travels(tmp_path):
    one, two = (parts(tmp_path).objective.game for _ in range(2))
    assert one.measure() == one.measure()
    for each, seed in ((one, 3), (two, 4)):
        each.model.circuit.gradient = load_gradient("spsa", {}, seed=seed)
        each.model.circuit.gradient.generator(each.device)
    two.load_state_dict(one.state_dict())
    states = [each.model.circuit.gradient.state_dict()["generator"] for each in (one, two)]
    assert torch.equal(*states)
    two.load_state_dict({**one.state_dict(), "circuit_gradient": {}})  # of a run whose gradients were exact


def test_both_parts_are_remote_where_the_game_is_and_it_is_played(tmp_path):
    objective = parts(tmp_path).objective
    objective.game.executor = SimpleNamespace(capabilities=SimpleNamespace(remote=True), label="far", close=lambda: fail())
    said = []

    def fail():
        raise OSError("gone")

    assert (objective.is_remote, objective.game.is_remote) == (False, True)
    objective.model.freeze_autoencoder()
    assert objective.is_remote
    objective.listen(lambda kind, text: said.append((kind, text)))
    objective.close()
    assert said == [("close", "far couldn't be closed (OSError: gone); its work is done all the same")]


def test_learning_rates_of_the_autoencoder_fall_and_those_of_the_game_stay(tmp_path):
    """Half-way through the autoencoder's part, its cosine is at a half."""
    rates = {"learning_rate": 0.01, "prior_learning_rate": 0.02, "circuit_learning_rate": 0.03, "critic_learning_rate": 0.04}
    made = parts(tmp_path, warmup_steps=0, **rates)
    objective, share, rows = made.objective, made.objective.share, next(made.trainer._batches())
    objective.step(rows, Clock(1, 1, share / 2))
    assert objective.first.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)
    objective.step(rows, Clock(20, 4, share + (1 - share) / 2))
    game = objective.game
    assert [group["lr"] for group in game.optimizer.param_groups] == [0.02, 0.03]
    assert game.critic_optimizer.param_groups[0]["lr"] == 0.04


def test_both_players_gradients_are_clipped(tmp_path):
    game = in_the_game(parts(tmp_path, clip_norm=1e-3))
    game.step(game.reference[:40], Clock(100, 1, 0.1))
    for weights in (game._networks, game.model.critic.parameters()):
        assert float(torch.stack([w.grad.norm() for w in weights]).norm()) == pytest.approx(1e-3, rel=1e-2)


def test_the_executor_s_generator_travels_in_the_checkpoint(tmp_path):
    one, two = (in_the_game(parts(tmp_path)) for _ in range(2))
    for game, seed in ((one, 1), (two, 2)):
        game.executor = load_executor("statevector", seed=seed)
        game.executor.generator(game.device)
    two.load_state_dict(one.state_dict())
    assert torch.equal(*(game.executor.state_dict()["generator"] for game in (one, two)))


def test_the_kl_part_of_the_first_objective_is_weighed_as_a_whole(tmp_path):
    model = parts(tmp_path).objective.first.model
    x = (torch.rand(5, 16) < 0.5).float()
    whole, weighed = (
        surrogate(model, x, torch.Generator().manual_seed(0), False, False, None)
        for surrogate in (gaussian_surrogate, partial(_weighted_surrogate, weight=0.1))
    )
    kl = whole.energy - whole.entropy
    torch.testing.assert_close(weighed.loss(), 0.1 * kl.mean() - whole.log_likelihood.mean())
