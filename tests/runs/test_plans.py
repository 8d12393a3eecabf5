"""What a plan says, in numbers: steps, calls, prices, circuits and memory, each reckoned by hand."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import qvae
from qvae.config.load import load_config
from qvae.runs import sizes
from qvae.runs.assemble import assemble
from qvae.runs.plan import plan
from qvae.training import trainer
from qvae.training.objectives.latent_game import LatentGame
from qvae.training.objectives.variational import VariationalObjective
from qvae.training.trainer import Trainer

ROWS = (np.random.default_rng(0).random((80, 4, 4)) < 0.4).astype(np.float32)
BASE = {"model": {"latent": {"sizes": [2, 3]}, "network": {"hidden": [8]}}}
TRAINING = ["training.epochs=5", "training.batch_size=24", "training.chains=30", "evaluation.num_generated=100"]
COINS = "sampling.test_metering:Coins"  # at 0.01 s a sample


def planned(*overrides, base=BASE):
    return plan(load_config(base, [*TRAINING, *overrides]), data=ROWS)


def test_steps_looks_and_time(monkeypatch):
    """Three steps an epoch, of 72 rows; a look at the end of every epoch."""
    monkeypatch.setattr(Trainer, "seconds_of_step", lambda self: 0.5)
    monkeypatch.setattr("qvae.runs.plan.threads_for", lambda *arguments: nullcontext())
    found = planned()
    assert found["training"] == "15 steps and 5 looks at the sampler"
    assert (found["latent spins"], found["couplings"], found["samples in a step"]) == (5, 6, 30)
    assert found["time of the training"] == "about 8 s here, at 500.0 ms a step; evaluation comes on top"
    found = planned("training.max_seconds=3")
    assert found["training"] == "15 steps and 5 looks at the sampler, or 3 s if that is less"
    assert found["time of the training"].startswith("about 3 s here")
    assert planned("training.max_seconds=30")["time of the training"].startswith("about 8 s here")
    assert planned("training.epochs=100", "training.validation=0.5")["training"] == "100 steps and 9 looks at the sampler"


def test_a_step_takes_as_long_as_those_of_both_parts_of_a_game_on_average(monkeypatch):
    """A second in the first 0.4 of the training, and four in the rest: 15 steps of 2.8 s."""
    clock = SimpleNamespace(now=0.0)

    def step(game, rows, at):
        clock.now += 1 if at.progress < 0.4 else 4
        return torch.zeros(1)

    monkeypatch.setattr(LatentGame, "step", step)
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr("qvae.runs.plan.threads_for", lambda *arguments: nullcontext())
    base = {"model": {"kind": "vqgan", "circuit": {"qubits": 2}, "network": {"hidden": [8]}}}
    found = plan(load_config(base, TRAINING[:2]), data=ROWS)
    assert found["time of the training"].startswith("about 42 s here, at 2800.0 ms a step")


def test_prices():
    """A call of 30 samples takes 0.3 s, 15 steps and 5 looks 6 s, and the samples at the end 1 s."""
    paid = [f"sampler.name={COINS}"]
    found = planned(*paid)
    assert found["QPU seconds of a step"] == "0.3000"
    assert found["QPU seconds of the training"] == "6.0"
    assert found["QPU seconds of the samples at the end"] == "1.0"
    assert "budget of the training" not in found
    assert not {"time of the training", "qpu_seconds", "budget"} & found.keys()
    assert planned(*paid, "evaluation.num_generated=0")["QPU seconds of the samples at the end"] == "20.0"  # of pictures
    assert planned(*paid, "generation.sampler={name: exact}")["QPU seconds of the samples at the end"] == "0.0"
    # Of 12 s 1.1 s are kept back, a tenth more than the samples at the end should take.
    found = planned(*paid, "sampler.options={max_seconds: 12}")
    assert found["budget of the training"] == "10.9 s, which is 36 steps"
    assert not {"qpu_seconds", "budget"} & found.keys()


def test_steps_that_wait_for_a_machine_elsewhere_are_not_made(monkeypatch):
    monkeypatch.setattr(VariationalObjective, "is_remote", property(lambda objective: True))
    monkeypatch.setattr(Trainer, "seconds_of_step", lambda trainer: pytest.fail("a step was made"))
    assert "time of the training" not in planned()


def test_a_paid_sampler_for_generation_is_only_rehearsed_with(tmp_path):
    config = load_config(BASE, [*TRAINING, f"generation.sampler={{name: '{COINS}'}}"])
    for is_rehearsal in (True, False):
        parts = assemble(tmp_path, config, data=ROWS, is_rehearsal=is_rehearsal)
        assert parts.generating.is_rehearsal is is_rehearsal


def test_circuits(monkeypatch):
    """Two inputs and six weights, with two circuits for each of their gradients, and one more; for each of 24 rows."""
    circuit = {"qubits": 2, "layers": 1, "ansatz": "hardware_efficient"}
    base = {"model": {"kind": "vqvae", "circuit": circuit, "network": {"hidden": [8]}}}
    shots = "of 64 shots each, for gradients by shifts"
    settings = ("executor.name=runs.test_vqvae_runs:Shots",)
    overrides = [text for text in TRAINING if "chains" not in text]
    found = plan(load_config(base, [*overrides, *settings]), data=ROWS)
    assert found["circuits in a step"] == f"about {24 * (1 + 2 * 8)}, {shots}"
    assert found["training"] == "15 steps"
    frozen = plan(load_config(base, [*overrides, *settings, "model.circuit.arm=frozen"]), data=ROWS)
    assert frozen["circuits in a step"] == f"about {24 * (1 + 2 * 2)}, {shots}"
    monkeypatch.setattr(VariationalObjective, "circuit_executions", 1000)  # of an optimizer beside gradients
    more = plan(load_config(base, [*overrides, *settings]), data=ROWS)
    assert more["circuits in a step"] == f"about {1000 + 24 * (1 + 2 * 8):,}, {shots}"


def test_an_evaluation_with_other_settings_is_what_is_written(small_run):
    run = qvae.load_run(small_run)
    settings = run.config.evaluation.model_copy(update={"importance_samples": 3, "num_test": 7})
    found = qvae.evaluate(run, settings)
    written = json.loads((small_run / "evaluation.json").read_text())
    assert (found.likelihood.importance_samples, found.likelihood.num_test) == (3, 7)
    assert (written["importance_samples"], written["num_test"]) == (3, 7)


@pytest.mark.parametrize(
    ("overrides", "name", "expected"),
    [
        ([], "model.latent.sizes", 40 * 6),
        (["model.latent.graph=complete", "model.latent.sizes=[5]"], "model.latent.sizes", 40 * 10),
        ([], "model.network.hidden", 4 * (2 * 16 * 8 + 2 * 5 * 8)),  # in and out, and latents at both ends
        ([], "training.batch_size", 24 * 4 * (16 + 5 + 8)),
        ([], "training.chains", 30 * 5),
        ([], "evaluation.importance_samples", 100 * 4 * (16 + 5 + 8)),
        ([], "evaluation.log_z_chains", 500 * 4 * 5),
        ([], "evaluation.log_z_temperatures", 2000 * 8),
        ([], "evaluation.num_generated", 100 * 5),
    ],
)
def test_memory(overrides, name, expected, monkeypatch):
    asked = {}
    monkeypatch.setattr(sizes, "require_memory", lambda size, what, *rest: asked.update({what.partition("=")[0]: size}))
    sizes.require_sizes(load_config(BASE, [*TRAINING, *overrides]), 16)
    assert asked[name] == expected


@pytest.mark.parametrize(
    ("likelihood", "data", "expected"),
    [
        ("categorical", np.arange(120).reshape(20, 2, 3) % 4, (6, 4)),
        ("poisson", np.arange(120).reshape(20, 2, 3), (6, None)),
        ("bernoulli", (2 * np.arange(120) + 17).astype(np.uint8).reshape(20, 2, 3), (6, None)),
    ],
)
def test_memory_is_reckoned_for_the_rows_and_categories_of_the_data(likelihood, data, expected, tmp_path, monkeypatch):
    class Reckoned(Exception):
        pass

    def reckon(config, features, levels):
        raise Reckoned(features, levels)

    monkeypatch.setattr("qvae.runs.assemble.require_sizes", reckon)
    with pytest.raises(Reckoned) as found:
        assemble(tmp_path, load_config(BASE, [f"model.likelihood={likelihood}"]), data=data)
    assert found.value.args == expected


def test_memory_of_categories(monkeypatch):
    """Each feature is as many numbers as there are categories, in and out."""
    asked = {}
    monkeypatch.setattr(sizes, "require_memory", lambda size, what, *rest: asked.update({what.partition("=")[0]: size}))
    sizes.require_sizes(load_config(BASE, TRAINING), 16, levels=3)
    assert asked["model.network.hidden"] == 4 * (2 * 16 * 3 * 8 + 2 * 5 * 8)
    assert asked["training.batch_size"] == 24 * 4 * (16 * 3 + 5 + 8)


def test_memory_of_circuits(monkeypatch):
    asked = {}
    monkeypatch.setattr(sizes, "require_memory", lambda size, what, *rest: asked.update({what.partition("=")[0]: size}))
    base = {"model": {"kind": "vqvae", "variant": "discrete", "circuit": {"qubits": 6}}, "training": {"batch_size": 24}}
    sizes.require_sizes(load_config(base), 16)
    assert asked["model.circuit.qubits"] == 24 * 2**6
    assert asked["training.batch_size"] >= 24 * 4
    monkeypatch.setattr(sizes, "require_memory", lambda size, what, *rest: asked.update({what: size}))
    sizes.require_sizes(load_config(base), 16)
    assert asked["training.batch_size=24 of circuits of 6 qubits"] == 24 * 24 * 2**6


@pytest.mark.parametrize(
    ("graph", "latent", "edges"),
    [
        ("chimera", [2], 10 * 32),
        ("native", [7], 70),
        ("complete", [1], 0),
    ],
)
def test_couplings_of_hardware_are_ten_a_qubit(graph, latent, edges):
    assert sizes.num_edges(load_config(BASE, [f"model.latent={{graph: {graph}, sizes: {latent}}}"]).model.latent) == edges


def test_weights_of_networks():
    """Of 6 latents: those of both networks, those that join them to the latents, and those of further levels."""

    def of(*settings):
        config = load_config("digits", ["model.latent.sizes=[2,4]", *settings])
        return sizes.num_weights(config.model, 10)

    assert of("model.network.hidden=[8,5]") == 2 * (10 * 8 + 8 * 5) + 6 * (5 + 5)
    assert of("model.network.hidden=[8,5]", "model.network.decoder_hidden=[3]") == 10 * 8 + 8 * 5 + 3 * 10 + 6 * (5 + 3)
    assert of("model.network.hidden=[]") == 2 * 0 + 6 * (10 + 10)
    assert of("model.network.hidden=[8,5]", "model.posterior.levels=3") == 240 + 60 + 2 * 5 * (5 + 6)
    assert of("model.network={kind: conv, hidden: [4,5]}") == 9 * 2 * (1 * 4 + 4 * 5) + 6 * (5 + 5)


@pytest.mark.parametrize(("each", "told"), [(2.9, []), (3.1, ["about 31 s: 10 circuits"])])
def test_a_long_measurement_is_told_once_as_soon_as_it_is_known(each, told, monkeypatch):
    from qvae.runs import on_executor

    now, said, shares = [0.0], [], []

    def quality(model, dataset, settings, advance=None):
        for done in range(1, 11) if advance else ():
            now[0] += each
            advance(done, 10)
        return model, dataset, settings

    progress = SimpleNamespace(
        say=said.append, work=lambda name: nullcontext(lambda share, figures: shares.append((name, share, figures)))
    )
    monkeypatch.setattr(on_executor, "quality", quality)
    monkeypatch.setattr(on_executor, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(on_executor, "running_on", lambda run, executor: nullcontext("model"))
    monkeypatch.setattr(on_executor, "executor_loss", lambda *given: given)
    run = SimpleNamespace(config=load_config("digits-vqvae"), model="exact", dataset="data", device="here")
    label, *both, seconds, dataset, device = on_executor.measured_loss(run, "qiskit:shots=5", "settings", progress)
    assert both == [("exact", "data", "settings"), ("model", "data", "settings")]
    assert (dataset, device) == ("data", "here")
    assert [text.partition("takes ")[2].partition(";")[0] for text in said] == told
    assert all("measuring on qiskit:shots=5 takes" in text and "evaluation.num_test or" in text for text in said)
    assert (label, seconds) == ("qiskit:shots=5", round(10 * each, 2))
    assert shares == [("measuring on qiskit:shots=5", pytest.approx(k / 10), "") for k in range(1, 11)]


@pytest.mark.parametrize("edges", [None, torch.tensor([[0, 2], [1, 2]])])
def test_hardware_says_its_graph_once_for_all(edges, tmp_path, monkeypatch):
    """A run that goes on keeps the one that it has, whatever hardware has become."""
    asked = []
    graph = SimpleNamespace(edges=torch.tensor([[0, 1], [1, 2]]))
    monkeypatch.setattr("qvae.runs.assemble.native_graph", lambda sampler, spins: asked.append(spins) or graph)
    config = load_config(BASE, ["model.latent={graph: native, sizes: [3]}"])
    parts = assemble(tmp_path, config, data=ROWS, edges=edges)
    expected = graph.edges if edges is None else edges
    assert parts.objective.prior.graph.edges.tolist() == expected.tolist()
    assert asked == ([3] if edges is None else [])
