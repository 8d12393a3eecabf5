"""A VQGAN on the path a user takes: trained, looked at, compared, generated from by class and executor, resumed and opened."""

import json
import shutil
import signal

import numpy as np
import pytest
import torch

import qvae
from qvae.errors import CapabilityError, ConfigError, DataError
from qvae.training.trainer import Trainer

TINY = [
    "training.epochs=4",
    "training.batch_size=500",
    "model.circuit.qubits=3",
    "model.circuit.layers=1",
    "model.network.hidden=[16]",
    "model.critic.hidden=[16]",
    "model.gan.latents=4",
    "model.gan.noise=4",
    "evaluation.num_test=40",
    "evaluation.num_generated=100",
    "evaluation.probes=false",
    "evaluation.tsne_every=0",
]
SETTINGS = [part for setting in TINY for part in ("--set", setting)]
OUTER = [setting for setting in TINY if "latents" not in setting and "network" not in setting]
INNER = ["training.epochs=1", "model.network.hidden=[16]", "evaluation.num_generated=0", *TINY[-4:-3], *TINY[-2:]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vqgan") / "run"
    return qvae.train(qvae.load_config("digits-vqgan", TINY), folder)


def test_a_run_is_whole(run):
    found = json.loads((run.path / "evaluation.json").read_text())
    assert found["reconstruction"] < 0
    assert "elbo" not in found
    assert {"samples of the prior", "reconstructions"} <= set(found["frechet"]["distances"])
    html = (run.path / "report.html").read_text()
    assert "vqgan, strongly_entangling of 3 qubits" in html
    assert "the circuit of the model" in html
    figures = {path.stem for path in (run.path / "figures").iterdir()}
    assert {"losses", "samples", "neighbours", "reconstructions", "traversals"} <= figures


def test_images_of_a_class_repeat_with_their_seed_on_any_executor(run, command):
    for place, more in (("a", []), ("b", []), ("c", ["--executor", "qiskit:shots=64"])):
        asked = ["--num", 6, "--label", 3, "--seed", 7, "--out", f"{place}.npz", *more]
        code, out, error = command("generate", run.path, *asked)
        assert code == 0, error
        assert "of the images for a 3" in out
    a, b, c = (np.load(f"{place}.npz")["images"] for place in "abc")
    assert a.shape == (6, 8, 8)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--label", "12"], "there is no class 12"),
        (["--sampler", "gibbs"], "come from a generator, which takes no sampler"),
    ],
)
def test_what_a_generator_can_not_do_is_refused(arguments, problem, run, command):
    code, _, error = command("generate", run.path, *arguments)
    assert code == 2
    assert problem in error


def test_what_an_executor_costs_is_told_of_samples_alone(run, command, tmp_path):
    """No circuit stands between test images and their reconstructions."""
    copy = shutil.copytree(run.path, tmp_path / "copy")
    code, out, error = command("evaluate", copy, "--executor", "qiskit:shots=2")
    assert code == 0, error
    (lost,) = json.loads((copy / "evaluation.json").read_text())["executors"]
    assert lost["loss"] is None
    assert lost["num_rows"] == 100
    assert lost["samples"]["value"] != lost["exact_samples"]["value"]
    assert "Samples beside those of the same noise by exact amplitudes" in " ".join(out.split())


def test_evaluate_report_and_compare_take_it(run, command, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "copy")
    for asked in (["evaluate", copy], ["report", copy], ["compare", copy, run.path]):
        code, _, error = command(*asked)
        assert code == 0, error


@pytest.mark.parametrize("stop_at", [2, 9])  # before and in the game
def test_a_resumed_run_ends_with_the_same_bits(run, stop_at, tmp_path, monkeypatch):
    step = Trainer._train_step

    def interrupted(trainer, rows):
        step(trainer, rows)
        if trainer.step == stop_at:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        qvae.train(qvae.load_config("digits-vqgan", TINY), tmp_path / "run")
    assert qvae.load_run(tmp_path / "run").model.generate(2).isfinite().all()  # also where the game hasn't begun
    monkeypatch.setattr(Trainer, "_train_step", step)
    found = qvae.resume(tmp_path / "run").model.state_dict()
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, found[name]), name


@pytest.mark.parametrize("inner", ["digits", "digits-vqvae"])
def test_an_autoencoder_of_another_run_is_held_so_that_the_run_stands_alone(inner, tmp_path):
    small = ["model.latent.sizes=[3,3]"] if inner == "digits" else ["model.circuit.qubits=2", "model.circuit.layers=1"]
    before = qvae.train(qvae.load_config(inner, [*INNER, *small]), tmp_path / "inner")
    decoder = {name: value.clone() for name, value in before.model.decoder.state_dict().items()}
    progress, said = qvae.Progress(), []
    progress.say = said.append
    outer = qvae.load_config("digits-vqgan", [*OUTER, f"model.gan.autoencoder={tmp_path / 'inner'}"])
    qvae.train(outer, tmp_path / "run", progress)
    (told,) = (line for line in said if "have no part in it" in line)
    assert f"the autoencoder is the one of {tmp_path / 'inner'}" in told
    assert "model.network, gan.latents, gan.autoencoder_share and gan.kl_weight" in told
    shutil.rmtree(tmp_path / "inner")
    shutil.move(tmp_path / "run", tmp_path / "moved")
    found = qvae.load_run(tmp_path / "moved").model
    assert all(torch.equal(value, found.decoder.state_dict()[name]) for name, value in decoder.items())
    codes = found.prior.draw(50)
    assert codes.shape == (50, 6 if inner == "digits" else 2)
    if inner == "digits":
        assert set(codes.unique().tolist()) <= {0.0, 1.0}
    longer = qvae.resume(tmp_path / "moved", ["training.epochs=5"]).model
    assert all(torch.equal(value, longer.decoder.state_dict()[name]) for name, value in decoder.items())


def test_colour_images_of_ones_own_without_labels(tmp_path, command):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "faces.npz", train=images)
    more = ["--set", "training.batch_size=20", "--out", "run"]
    code, out, error = command("train", "faces.npz", "--model", "vqgan", *SETTINGS, *more)
    assert code == 0, error
    assert "training.validation" not in out + error  # which a game doesn't take
    assert "samples among codes of test rows" in out
    run = qvae.load_run(tmp_path / "run")
    among = run.evaluation["frechet"]["among_codes"]
    assert set(among) == {"coverage", "floor"}
    assert "samples among codes of test rows" in (tmp_path / "run" / "report.html").read_text()
    code, out, error = command("compare", "run", "run")
    assert code == 0, error
    assert f"{among['coverage']['precision']:.3f} / {among['coverage']['recall']:.3f}" in out
    assert run.model.generate(3).shape == (3, 3, 8, 8)
    with pytest.raises(CapabilityError, match="trained without classes, so it takes no label"):
        run.model.generate(3, label=1)


def test_a_small_one_is_tuned_by_parameter_shifts_on_shots(run, tmp_path, monkeypatch):
    pytest.importorskip("qiskit_aer", reason="Aer is not installed")
    folder = shutil.copytree(run.path, tmp_path / "run")
    step = Trainer._train_step

    def one_of_four_rows(trainer, rows):
        step(trainer, rows[:4])
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_train_step", one_of_four_rows)
    with pytest.raises(KeyboardInterrupt):
        qvae.resume(folder, ["executor.name=aer", "executor.options.shots=16", "training.epochs=5"])
    name = "prior.body.layer.weight"
    before, after = (qvae.load_run(path).training_state["model"][name] for path in (run.path, folder))
    assert not torch.equal(before, after)


def test_an_image_in_patches_is_drawn_against_a_critic_of_pixels(tmp_path, command):
    pixels = [setting for setting in OUTER if "qubits" not in setting]
    config = qvae.load_config("digits-vqgan", [*pixels, "model.generator=patch"])
    run = qvae.train(config, tmp_path / "run")
    found = json.loads((run.path / "evaluation.json").read_text())
    assert "samples of the prior" in found["frechet"]["distances"]
    assert "reconstructions" not in found["frechet"]["distances"]
    assert found["reconstruction"] is found["latents"] is None  # images have no codes
    html = (run.path / "report.html").read_text()
    assert "log p(x|z)" not in html
    assert "Latents at work" not in html
    figures = {path.stem for path in (run.path / "figures").iterdir()}
    assert {"losses", "samples", "neighbours"} <= figures
    assert not {"reconstructions", "traversals", "map"} & figures
    images = run.model.generate(20)
    assert images.shape == (20, 8, 8)
    assert -1e-6 < float(images.min()) < float(images.max()) < 1 + 1e-6
    patches = images.view(20, 4, 16)  # each of four circuits of 5 qubits, one an ancilla
    assert torch.allclose(patches.amax(2), torch.ones(20, 4), atol=1e-5)
    for asked in (
        ["generate", run.path, "--num", 3, "--label", 5, "--executor", "qiskit:shots=500", "--seed", 1],
        ["compare", run.path, run.path],
    ):
        code, _, error = command(*asked)
        assert code == 0, error
    with pytest.raises(ConfigError, match="training of patches needs exact probabilities"):
        qvae.train(qvae.load_config("digits-vqgan", [*pixels, "model.generator=patch", "executor.name=qiskit"]), tmp_path / "q")


def test_bad_input_gets_one_sentence(tmp_path, command):
    for settings, problem in (
        (["training.validation=0.1"], "has no loss that held-out rows"),
        (["model.gan.autoencoder=nowhere"], "there is no folder"),
        (["model.circuit.angles=linear"], "isn't of a model of kind vqgan"),
        (["model.circuit.layerwise=0.5"], "circuit.layerwise is set, but isn't of a model of kind vqgan"),
        (["model.generator=patch", "model.likelihood=bernoulli"], "isn't of a model of kind vqgan, patch"),
        (["model.circuit.encoding=rz"], "rz does nothing to |0>, so that no noise would be seen; take h_rz"),
        (["model.gan.ancillas=2"], "gan.ancillas is set, but isn't of a model of kind vqgan, latent"),
        (["model.critic.weight=3"], "critic.weight is set, but isn't of a model of kind vqgan"),
        (["model.generator=patch"], "gan.latents is set, but isn't of a model of kind vqgan, patch"),
        (
            ["model.generator=patch", "model.gan.latents=16", "training.circuit_gradient=spsa"],
            "training.circuit_gradient is spsa, but patches are trained on exact probabilities",
        ),
        (
            ["model.generator=patch", "model.gan.latents=16", "model.gan.ancillas=3"],
            "gan.ancillas is 3, but a circuit has 3 qubits",
        ),
    ):
        sets = [part for setting in settings for part in ("--set", setting)]
        code, _, error = command("train", "digits-vqgan", *SETTINGS, *sets, "--out", "run")
        assert code == 2
        assert problem in error
        assert not (tmp_path / "run").exists()


def test_an_autoencoder_of_other_data_is_refused(run, tmp_path):
    qvae.train(qvae.load_config("digits", [*INNER, "model.latent.sizes=[3,3]"]), tmp_path / "inner")
    config = qvae.load_config("digits-vqgan", [*OUTER, f"model.gan.autoencoder={tmp_path / 'inner'}"])
    with pytest.raises(DataError, match=r"rows of shape \(6, 6\), but the autoencoder .* was trained on \(8, 8\)"):
        qvae.train(config, tmp_path / "run", data=np.random.default_rng(0).random((600, 6, 6)))
    config = qvae.load_config("digits-vqgan", [*OUTER, f"model.gan.autoencoder={run.path}"])
    with pytest.raises(ConfigError, match="names a vqgan"):
        qvae.train(config, tmp_path / "run")
    config = qvae.load_config("digits-vqgan", [*OUTER, "model.gan.conditional=true"])
    with pytest.raises(DataError, match="has no labels"):
        qvae.train(config, tmp_path / "run", data=np.random.default_rng(0).random((600, 8, 8)))
