"""Trainings on a CUDA device: as good as on the processor, resumed, and opened where there is no such device."""

import math
import signal
from pathlib import Path

import pytest
import torch
from on_cuda import DEVICE, needs_cuda

import qvae
from qvae.checkpoint import load_checkpoint
from qvae.runs.assemble import assemble
from qvae.training.objective import Clock
from qvae.training.objectives.surrogate import Surrogate
from qvae.training.random_state import global_random_state, restore_global_random_state
from qvae.training.trainer import Trainer

pytestmark = needs_cuda

SIGMAS = 5.0
QUIET = [
    "model.network.hidden=[32]", "evaluation.importance_samples=20", "evaluation.num_test=200", "evaluation.num_generated=0",
    "evaluation.probes=false", "evaluation.tsne_every=0",
]  # fmt: skip
THERE = [*QUIET, f"training.device={DEVICE.type}"]
TINY = ["digits-vqvae", "model.circuit.qubits=3", "model.circuit.layers=1"]
GAME = ["model.circuit.qubits=3", "model.circuit.layers=1", "model.critic.hidden=[16]"]
FAMILIES = {
    "rbm": ["digits", "model.latent.sizes=[4,4]"],
    "two levels": ["digits", "model.latent.sizes=[4,4]", "model.posterior.levels=2"],
    "tempered": ["digits", "model.latent.sizes=[4,4]", "sampler.options.tempering=3"],
    "path_integral": ["digits", "model.latent.sizes=[2,2]", "model.latent.gamma=0.5", "sampler.name=path_integral"],
    "exact": ["digits-quantum", "model.latent.sizes=[4]"],
    "gaussian": [*TINY, "model.circuit.arm=gaussian"],
    "corrupted": ["digits", "model.latent.sizes=[4,4]", "training.corruption=hidden"],
    "clipped, held out": ["digits", "model.latent.sizes=[4,4]", "training.clip_norm=1.0", "training.validation=0.2"],
    "vqvae": TINY,
    "discrete": [*TINY, "model.variant=discrete"],
    "boltzmann": [*TINY, "model.variant=discrete", "model.discrete.prior=boltzmann", "model.discrete.gradient=relaxed"],
    "deterministic": [*TINY, "model.variant=deterministic"],
    "qng": [*TINY, "training.optimizer.name=qng"],
    "spsa": [*TINY, "training.optimizer.name=spsa"],
    "shifts": [*TINY, "training.circuit_gradient.name=parameter-shift"],
    "vqgan": ["digits-vqgan", *GAME],
    "patches": ["digits-vqgan-patch"],
}


def train(folder, name, *more, epochs=2):
    preset, *settings = FAMILIES[name]
    return qvae.train(qvae.load_config(preset, [*THERE, *settings, f"training.epochs={epochs}", *more]), folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_trains_there(name, tmp_path):
    run = train(tmp_path / "run", name)
    assert all(parameter.device == DEVICE for parameter in run.model.parameters())
    assert all(math.isfinite(value) for row in run.metrics for value in row.values() if value is not None)
    assert all(bool(value.isfinite().all()) for value in run.model.state_dict().values())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_model_is_as_good_as_that_of_the_processor(precision, tmp_path):
    """Test rows are the same, but weights start alike only by their distribution: means over seeds, each with its spread."""
    found = {}
    for name, device, own in (("here", "cpu", "float32"), ("there", DEVICE.type, precision)):
        settings = [f"training.device={device}", f"training.precision={own}"]
        found[name] = torch.tensor(
            [
                train(
                    tmp_path / f"{name}-{seed}", "rbm", *settings, f"training.seed={seed}", epochs=15
                ).evaluation["elbo"]
                for seed in range(4)
            ]
        )
    here, there = found["here"], found["there"]
    assert abs(here.mean() - there.mean()) < SIGMAS * max(0.15, float((here.var() + there.var()).sqrt()) / 2)


# Runs -----------------------------------------------------------------------------------------------------------------


def interrupted_at(step, monkeypatch):
    train_step = Trainer._train_step

    def interrupted(trainer, rows):
        if trainer.step == step:
            signal.raise_signal(signal.SIGINT)
        train_step(trainer, rows)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)


@pytest.mark.parametrize("name", ["rbm", "path_integral", "gaussian", "vqvae", "vqgan"])
def test_a_resumed_run_ends_as_one_that_was_never_interrupted(name, tmp_path, monkeypatch):
    """To rounding: sums by atomic additions are in no order, and few steps don't amplify it."""
    more = ["training.precision=float32"]
    whole = train(tmp_path / "whole", name, *more)
    with monkeypatch.context() as patch:
        interrupted_at(7, patch)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", name, *more)
    qvae.resume(tmp_path / "cut")
    found = [load_checkpoint(tmp_path / folder / "model.safetensors")["model"] for folder in ("whole", "cut")]
    assert len(found[0]) > 1
    for key, value in found[0].items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(found[1][key], value, rtol=1e-4, atol=1e-5)
    assert whole.metrics[-1]["step"] == qvae.load_run(tmp_path / "cut").metrics[-1]["step"]


@pytest.mark.skipif(DEVICE.type == "cpu", reason="there is no other device")
@pytest.mark.parametrize("first", ["cpu", "cuda"])
@pytest.mark.parametrize("name", ["rbm", "vqvae", "vqgan"])
def test_a_run_goes_on_on_the_other_device(name, first, tmp_path):
    second = "cpu" if first == "cuda" else "cuda"
    train(tmp_path / "run", name, f"training.device={first}")
    said = []

    class Listening(qvae.Progress):
        def say(self, text):
            said.append(text)

    run = qvae.resume(tmp_path / "run", ["training.epochs=3", f"training.device={second}"], Listening())
    assert any(f"goes on with {second}, where it was not saved" in text for text in said)
    assert [row["epoch"] for row in run.metrics] == [1, 2, 3]
    assert all(math.isfinite(value) for value in run.metrics[-1].values() if value is not None)


@pytest.mark.parametrize("name", ["rbm", "exact", "vqvae"])
def test_a_run_is_opened_and_evaluated_on_the_processor(name, tmp_path, monkeypatch):
    run = train(tmp_path / "run", name)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        opened = qvae.load_run(tmp_path / "run")
        assert all(parameter.device.type == "cpu" for parameter in opened.model.parameters())
        here = qvae.evaluate(opened).to_dict()
    for key in ("elbo", "log_likelihood", "log_z"):
        # Rows are the same, draws differ: by less than rows do.
        error = run.evaluation.get(f"{key}_stderr", 0.0)
        assert here[key] == pytest.approx(run.evaluation[key], abs=error + 0.05), key


def test_the_same_images_are_reconstructed_on_both_devices(tmp_path):
    run = train(tmp_path / "run", "gaussian")
    rows = run.dataset.test[:20].flatten(1).float() / max(1, int(run.dataset.test.max()))
    there = run.model.encoder(rows.to(DEVICE))
    assert there.device == DEVICE
    torch.testing.assert_close(there.cpu(), run.model.to("cpu").encoder(rows), rtol=1e-3, atol=1e-4)


# Steps that are played again ------------------------------------------------------------------------------------------


def figures_of_steps(name, number=12):
    """Each step's figures, in single precision, and the trained weights."""
    preset, *settings = FAMILIES[name]
    config = qvae.load_config(preset, [*THERE, *settings, "training.precision=float32"])
    parts = assemble(Path("unused"), config)
    rows = parts.dataset.train[: config.training.batch_size].flatten(1).to(DEVICE)
    found = [parts.objective.step(rows, Clock(step, 1, step / number)) for step in range(1, number + 1)]
    return torch.stack(found), parts.objective


@pytest.mark.skipif(DEVICE.type == "cpu", reason="there are graphs on CUDA only")
@pytest.mark.parametrize("name", ["rbm", "clipped, held out", "corrupted", "gaussian", "vqvae", "discrete", "boltzmann"])
def test_steps_that_are_played_again_are_those_that_python_would_make(name, monkeypatch):
    played, objective = figures_of_steps(name)
    monkeypatch.setattr("qvae.ising.recorded.records", lambda device: False)
    monkeypatch.setattr("qvae.training.objectives.parts.Parts.is_watched", True)
    made, other = figures_of_steps(name)
    assert objective._replay._recorder._recorded is not None
    assert other._replay._recorder._recorded is None
    torch.testing.assert_close(played, made, rtol=1e-4, atol=1e-4)
    assert torch.equal(objective.generator.get_state(), other.generator.get_state())
    for key, value in objective.model.state_dict().items():
        torch.testing.assert_close(value, other.model.state_dict()[key], rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="there are graphs on CUDA only")
def test_a_step_that_waits_for_the_device_is_made_by_python(monkeypatch):
    """What was begun to be recorded leaves no trace."""
    made, _ = figures_of_steps("rbm")

    def waiting(self, kl_weight=1.0):
        assert math.isfinite(float(self.entropy.sum()))
        return loss(self, kl_weight)

    loss = Surrogate.loss
    monkeypatch.setattr(Surrogate, "loss", waiting)
    found, objective = figures_of_steps("rbm")
    assert objective._replay._recorder._recorded is None
    torch.testing.assert_close(found, made, rtol=1e-4, atol=1e-4)


# Random numbers -------------------------------------------------------------------------------------------------------


def test_the_device_s_own_generator_goes_on_from_a_state():
    def draw():
        return torch.rand(3, device=DEVICE)

    draw()
    state = global_random_state(DEVICE)
    expected = draw()
    torch.manual_seed(99)
    restore_global_random_state(state, DEVICE)
    assert torch.equal(draw(), expected)


def test_equal_seeds_train_alike(tmp_path):
    first, second, other = (
        train(tmp_path / str(number), "gaussian", "training.precision=float32", f"training.seed={seed}").model.state_dict()
        for number, seed in enumerate((1, 1, 2))
    )
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-4, atol=1e-5)
    assert any(not torch.allclose(other[key], value, rtol=1e-2) for key, value in first.items())
