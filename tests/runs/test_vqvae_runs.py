"""A VQVAE on the path a user takes: every variant is trained, looked at, compared, generated from, resumed and opened."""

import json
import re
import shutil
import signal

import numpy as np
import pytest
import torch

import qvae
from qvae.applications.reconstruct import reconstructed
from qvae.circuits.executor import ExecutorCapabilities, SeededExecutor
from qvae.circuits.registry import load_executor
from qvae.errors import ConfigError
from qvae.training.trainer import Trainer

TINY = [
    "training.epochs=3",
    "model.circuit.qubits=3",
    "model.circuit.layers=1",
    "model.network.hidden=[16]",
    "evaluation.importance_samples=5",
    "evaluation.num_test=40",
    "evaluation.num_generated=0",
    "evaluation.probes=false",
    "evaluation.tsne_every=2",
]
VARIANTS = {
    "variational": ["model.variant=variational"],
    "discrete": ["model.variant=discrete"],
    "boltzmann": [
        "model.variant=discrete",
        "model.discrete.prior=boltzmann",
        "model.discrete.gradient=relaxed",
        "sampler.name=exact",
    ],
    "deterministic": ["model.variant=deterministic"],
}
SETTINGS = [part for setting in TINY for part in ("--set", setting)]


class Shots(SeededExecutor):
    """Bits as they are measured, from a generator of its own."""

    capabilities = ExecutorCapabilities()
    shots = 64

    def _sample(self, circuit, values, shots):
        seed = int(torch.randint(2**31, (1,), generator=self.generator(values.device)))
        return load_executor("statevector", seed=seed).sample(circuit, values, shots)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vqvae")
    for name, settings in VARIANTS.items():
        qvae.train(qvae.load_config("digits-vqvae", [*TINY, *settings]), folder / name)
    return folder


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_is_whole(runs, name):
    found = json.loads((runs / name / "evaluation.json").read_text())
    if name == "deterministic":
        assert "elbo" not in found
        assert "log_likelihood" not in found
        assert found["reconstruction"] < 0
        assert found["latents"]["information"] is None
    else:
        assert found["elbo"] < found["log_likelihood"] < 0
    html = (runs / name / "report.html").read_text()
    assert ("Reconstruction" if name == "deterministic" else "log-likelihood") in html
    assert "the circuit of the model" in html
    assert re.search(r"of these the circuit, timed by itself</td>\s*<td>[\d.]+ ms, \d+ %", html)
    figures = {path.stem for path in (runs / name / "figures").iterdir()}
    assert {"losses", "reconstructions", "traversals", "model_circuit"} <= figures
    assert ("samples" in figures) == (name != "deterministic")
    assert ("couplings" in figures) == (name in ("discrete", "boltzmann"))
    assert (runs / name / "latent_film.gif").exists()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_is_opened_and_used_on_the_command_line(runs, name, command):
    run = qvae.load_run(runs / name)
    rows = run.dataset.values(run.dataset.test[:4])
    assert run.model.reconstruct(rows).shape == (4, 8, 8)
    for asked in (["reconstruct", runs / name], ["generate", runs / name, "--seed", 1], ["report", runs / name]):
        code, _, error = command(*asked)
        if asked[0] == "generate" and name == "deterministic":
            assert code == 2
            assert "has no prior to draw from" in error
        else:
            assert code == 0, error


LIKELIHOODS = {
    "gaussian": ("variational", lambda image: image.astype("float32")),
    "poisson": ("discrete", lambda image: image // 2),
    "negative-binomial": ("deterministic", lambda image: image // 2),
    "categorical": ("variational", lambda image: image // 5),
}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_convolutions_and_every_likelihood_go_all_the_way(likelihood, tmp_path, command):
    variant, made = LIKELIHOODS[likelihood]
    rows = made(np.random.default_rng(0).integers(0, 17, (80, 8, 8)))
    settings = [
        *TINY, "training.epochs=1", "training.batch_size=40", "evaluation.tsne_every=0", f"model.variant={variant}",
        f"model.likelihood={likelihood}", "model.network.kind=conv", "model.network.hidden=[3,4]",
    ]  # fmt: skip
    data = {"train": rows, "test": rows[:20]}
    run = qvae.train(qvae.load_config("digits-vqvae", settings), tmp_path / "run", data=data)
    assert run.evaluation["likelihood"] == likelihood
    assert run.evaluation["reconstruction" if variant == "deterministic" else "elbo"] < 0
    assert (tmp_path / "run" / "report.html").exists()
    again = qvae.resume(tmp_path / "run", ["training.epochs=2"], data=data)
    assert np.isfinite(reconstructed(again, 4)[1]).all()
    if variant != "deterministic":
        code, _, error = command("generate", tmp_path / "run", "--num", 3)
        assert code == 0, error


def test_generated_images_repeat_with_their_seed_and_go_through_any_executor(runs, command):
    measured = ["--executor", "qiskit:shots=50"]
    for place, more in (("a", []), ("b", []), ("c", measured), ("d", measured)):
        code, _, error = command("generate", runs / "variational", "--num", 4, "--seed", 7, "--out", f"{place}.npz", *more)
        assert code == 0, error
    a, b, c, d = (np.load(f"{place}.npz")["images"] for place in "abcd")
    assert np.array_equal(a, b)
    assert np.array_equal(c, d)
    assert not np.array_equal(a, c)
    assert np.abs(a - c).max() < 0.6
    code, _, error = command("reconstruct", runs / "discrete", "--num", 4, "--executor", "qiskit", "--out", "e.npz")
    assert code == 0, error


def test_options_set_beside_an_executor_are_its_own(runs, command):
    """Else another backend than the one that was named would run the circuit, in silence."""
    for command_name in ("generate", "reconstruct"):
        backend = ["--executor", "qiskit", "--set", "executor.options.backend=no_such_module:device"]
        code, _, error = command(command_name, runs / "variational", "--num", 2, "--out", "set.npz", *backend)
        assert code != 0
        assert "no_such_module" in error
    for number, options in enumerate((["qiskit:shots=50"], ["qiskit", "--set", "executor.options.shots=50"])):
        where = ("--num", 4, "--seed", 7, "--out", f"set{number}.npz")
        code, _, error = command("generate", runs / "variational", *where, "--executor", *options)
        assert code == 0, error
    assert np.array_equal(np.load("set0.npz")["images"], np.load("set1.npz")["images"])
    run = qvae.load_run(runs / "variational", ["executor.options.shots=50"])
    assert run.executor("qiskit").shots == run.executor("qiskit:shots=7").shots == 50
    other = qvae.load_run(runs / "variational", ["executor.name=aer", "executor.options.shots=50"])
    assert (other.executor("aer").shots, other.executor("qiskit:shots=7").shots) == (50, 7)


def test_what_an_executor_loses_is_a_row_of_the_run(runs, command, tmp_path):
    run = shutil.copytree(runs / "variational", tmp_path / "run")
    for executor in ("statevector", "qiskit:shots=20", "qiskit:shots=20"):
        code, out, error = command("evaluate", run, "--executor", executor, "--set", "num_generated=30")
        assert code == 0, error
        assert "the circuit run by" in out
        assert "log-likelihood" not in out  # which was measured before, and not now
        assert ("measured now: qiskit:shots=20; the other rows are from before" in out) == (executor != "statevector")
    beside = ["--executor", "qiskit", "--set", "executor.options.shots=20"]
    code, _, error = command("evaluate", run, *beside, "--set", "num_generated=30")
    assert code == 0, error
    code, _, error = command("evaluate", run)  # which leaves them
    assert code == 0, error
    exact, measured = json.loads((run / "evaluation.json").read_text())["executors"]
    assert (exact["executor"], exact["loss"], exact["loss_stderr"]) == ("statevector", 0, 0)
    assert (measured["executor"], measured["num_rows"], measured["samples"]["num_images"]) == ("qiskit:shots=20", 40, 30)
    assert measured["loss"] != 0
    code, _, error = command("report", run)
    assert code == 0, error
    assert "<td>qiskit:shots=20</td>" in (run / "report.html").read_text()


def noisy():
    from qiskit_aer.noise import NoiseModel

    return NoiseModel()


def test_what_is_named_on_the_command_line_needs_no_other_word(runs, command):
    executor = "qiskit:noise_model=runs.test_vqvae_runs:noisy,shots=5"
    code, _, error = command("reconstruct", runs / "variational", "--num", 2, "--executor", executor, "--out", "x.npz")
    assert code == 0, error


def test_runs_of_all_variants_stand_side_by_side(runs, command, tmp_path):
    code, _, error = command("compare", *(runs / name for name in VARIANTS))
    assert code == 0, error
    html = (tmp_path / "comparison.html").read_text()
    assert "reconstruction, nats" in html
    assert "log-likelihood, nats" in html


@pytest.mark.parametrize("name", ["variational", "boltzmann"])
def test_a_resumed_run_ends_with_the_same_bits(runs, name, tmp_path, monkeypatch):
    step = Trainer._train_step

    def interrupted(trainer, rows):
        step(trainer, rows)
        if trainer.step == 7:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        qvae.train(qvae.load_config("digits-vqvae", [*TINY, *VARIANTS[name]]), tmp_path / "run")
    monkeypatch.setattr(Trainer, "_train_step", step)
    found = qvae.resume(tmp_path / "run").model.state_dict()
    for key, value in qvae.load_run(runs / name).model.state_dict().items():
        assert torch.equal(value, found[key]), key


def test_a_training_with_shots_resumes_with_the_same_bits(tmp_path, monkeypatch):
    settings = [*TINY, "training.epochs=1", "training.batch_size=500", "evaluation.tsne_every=0"]
    config = qvae.load_config("digits-vqvae", settings)
    config.executor.name = "runs.test_vqvae_runs:Shots"
    config.model.circuit.qubits = 1
    run = qvae.train(config, tmp_path / "whole")
    whole = run.model.state_dict()
    (lost,) = run.evaluation["executors"]
    assert lost["executor"] == "runs.test_vqvae_runs:Shots"
    assert "runs.test_vqvae_runs:Shots" in (tmp_path / "whole" / "report.html").read_text()
    step = Trainer._train_step

    def interrupted(trainer, rows):
        step(trainer, rows)
        if trainer.step == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        qvae.train(config, tmp_path / "run")
    monkeypatch.setattr(Trainer, "_train_step", step)
    found = qvae.resume(tmp_path / "run").model.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in whole.items())


def test_dry_run_counts_circuits_where_gradients_take_many(command):
    pytest.importorskip("qiskit_aer", reason="Aer is not installed")
    code, out, _ = command("train", "digits", "--model", "vqvae", *SETTINGS, "--dry-run", "--executor", "aer")
    assert code == 0
    assert re.search(r"circuits in a step +about [\d,]+, of 1,024 shots each, for gradients by shifts", out)
    assert "ms a step" not in out


def test_a_sampler_object_needs_a_prior():
    with pytest.raises(ConfigError, match="no Boltzmann prior that it could sample; leave it out"):
        qvae.train("digits-vqvae", sampler=qvae.load_sampler("gibbs"))


def test_dry_run_names_the_circuit(command):
    code, out, error = command("train", "digits", "--model", "vqvae", *SETTINGS, "--dry-run")
    assert code == 0, error
    assert "3 qubits" in out
    assert "ms a step" in out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["digits", "--executor", "qiskit"], "executor is set, but model.kind is qvae, which has no circuit"),
        (["digits", "--model", "vqvae", "--sampler", "dimod"], "variant variational, which has no Boltzmann prior"),
        (["digits", "--model", "vqvae", "--executor", "qiskitt"], "no installed executor is called 'qiskitt'"),
        (["digits", "--model", "vqvae", "--set", "model.circuit.ansatz=x"], "model.circuit.ansatz is 'x': Allowed"),
        (["digits", "--model", "vqvae", "--set", "model.circuit.qubits=27"], "model.circuit has 27 qubits, but of executor"),
        (
            ["digits", "--model", "vqvae", "--set", "model.variant=discrete", "--executor", "qiskit"],
            "needs exact probabilities, which executor 'qiskit' doesn't know",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_folder_is_made(arguments, problem, command, tmp_path):
    code, out, error = command("train", *arguments, "--out", "run")
    assert code == 2
    assert problem in error
    assert "training on" not in out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--sampler", "gibbs"], "takes no sampler"),
        (["--label", "3"], "has no Boltzmann prior"),
        (["--executor", "nobody"], "no installed executor is called 'nobody'"),
    ],
)
def test_what_a_gaussian_model_can_not_use_is_refused(arguments, problem, runs, command):
    code, _, error = command("generate", runs / "variational", *arguments)
    assert code == 2
    assert problem in error


@pytest.mark.parametrize("name", ["generate", "evaluate"])
def test_a_model_without_a_circuit_takes_no_executor(name, small_run, command):
    code, _, error = command(name, small_run, "--executor", "qiskit")
    assert code == 2
    assert "has no circuit" in error
