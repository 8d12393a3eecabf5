"""What is lost on an executor: pairs of rows, shot noise in closed form, and distances at the same latents."""

import math
from types import SimpleNamespace

import pytest
import torch

from qvae.circuits.executor import ExecutorCapabilities, SeededExecutor
from qvae.circuits.registry import load_executor
from qvae.config.schema import EvaluationConfig, ModelConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.evaluation.executor_loss import Quality, executor_loss, quality
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.vqgan import VQGAN
from qvae.models.vqvae import VQVAE
from qvae.runs.on_executor import measures_here

SHOTS = 3
CPU = torch.device("cpu")


class Shots(SeededExecutor):
    """Measures bits of exact amplitudes."""

    shots = SHOTS
    rows = 0

    def _sample(self, circuit, values, shots):
        self.rows += len(values)
        return load_executor("statevector", seed=self.fresh_seed()).sample(circuit, values, shots)


def model_and_data(variant, rows, **network):
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(rows, 6, generator=generator).numpy()
    dataset = dataset_from_arrays(data, data, kind="reals")
    circuit = {"qubits": 3, "layers": 1, "arm": "unentangled", "initial_weights": 1.0}
    config = ModelConfig(kind="vqvae", variant=variant, circuit=circuit, likelihood="gaussian", network=network)
    torch.manual_seed(0)
    return VQVAE.from_config(config, Statistics.blank((6,))).eval(), dataset


@pytest.mark.parametrize("variant", ["variational", "deterministic", "discrete"])
def test_nothing_is_lost_on_exact_amplitudes(variant):
    model, dataset = model_and_data(variant, rows=70, hidden=[8])
    settings = EvaluationConfig(num_generated=30)
    steps = []
    first = quality(model, dataset, settings, lambda done, total: steps.append((done, total)))
    model.circuit.executor = load_executor("statevector", seed=5)
    second = quality(model, dataset, settings)
    assert torch.equal(first.reconstruction, second.reconstruction)
    assert first.reconstruction.shape == (70,)
    total = 100 if variant == "variational" else 70
    assert steps == [(50, total), (70, total), *([(100, 100)] if variant == "variational" else [])]
    assert first.samples is None or torch.equal(first.samples, second.samples)
    found = executor_loss("statevector", first, second, 0.0, dataset, CPU)
    assert (found.loss, found.loss_stderr, found.samples) == (0, 0, None)  # a table has no classifier


def test_a_generator_says_how_far_its_circuit_is():
    """Each part of the samples is drawn when its turn comes: of a generator, that is where the circuit works."""
    config = ModelConfig(kind="vqgan", circuit={"qubits": 3}, gan={"latents": 2}, network={"hidden": [8]})
    model = VQGAN.from_config(config, Statistics.blank((6,))).eval()
    rows = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)).numpy()
    dataset = dataset_from_arrays(rows, rows, kind="reals")
    steps = []
    model.circuit.executor = Shots(seed=0)
    settings = EvaluationConfig(num_generated=120)
    measured = quality(model, dataset, settings, lambda *step: steps.append((*step, model.circuit.executor.rows)))
    assert measured.reconstruction is None
    assert steps == [(50, 120, 50), (100, 120, 100), (120, 120, 120)]


def test_shots_cost_what_their_variance_says():
    """With a linear decoder W, unit variance and independent qubits: loss = sum_k |W_k|^2 (1 - <Z_k>^2) / (2 shots)."""
    model, dataset = model_and_data("deterministic", rows=1000, hidden=[], batch_norm=False)
    settings = EvaluationConfig(num_generated=0)
    exact = quality(model, dataset, settings)
    with torch.no_grad():
        z = model.decoder[0](model.posterior_sample(dataset.test, relaxed=False).latents)
        squares = model.decoder[1].layers[-1].weight.square().sum(0)
        expected = float(((1 - z.square()) @ squares / (2 * SHOTS)).mean())
    model.circuit.executor = Shots(seed=0)
    found = executor_loss("shots", exact, quality(model, dataset, settings), 1.5, dataset, CPU)
    assert found.num_rows == 1000
    assert found.loss > 5 * found.loss_stderr
    assert abs(found.loss - expected) < 4 * found.loss_stderr
    assert found.exact - found.reconstruction == pytest.approx(found.loss, abs=1e-9)
    assert found.to_dict()["seconds"] == 1.5


def test_errors_are_of_pairs():
    exact, measured = torch.tensor([3.0, 5.0, 10.0]).double(), torch.tensor([2.0, 4.0, 9.0]).double()
    found = executor_loss("x", Quality(exact, None), Quality(measured, None), 0.0, None, CPU)
    assert (found.loss, found.loss_stderr) == (1, 0)
    assert found.exact_stderr == pytest.approx(float(exact.std()) / math.sqrt(3))
    alone = executor_loss("x", Quality(exact[:1], None), Quality(measured[:1], None), 0.0, None, CPU)
    assert (alone.loss, alone.loss_stderr) == (1, None)


def test_distances_are_of_the_same_latents():
    digits = 10 * torch.rand(60, 8, 8, generator=torch.Generator().manual_seed(0))  # both are made grey levels
    labels = torch.arange(60) % 3
    dataset = dataset_from_arrays(digits, digits, train_labels=labels, test_labels=labels, kind="reals")
    same = Quality(torch.zeros(3).double(), digits[:40])
    found = executor_loss("x", same, Quality(torch.zeros(3).double(), digits[20:]), 0.0, dataset, CPU)
    assert found.samples.num_images == 40
    noise = Quality(torch.zeros(3).double(), 10 * torch.rand(40, 8, 8, generator=torch.Generator().manual_seed(1)))
    worse = executor_loss("x", Quality(torch.zeros(3).double(), digits), noise, 0.0, dataset, CPU)
    assert worse.exact_samples.value < 1e-3 < worse.samples.value
    again = executor_loss("x", same, same, 0.0, dataset, CPU)
    assert again.samples == again.exact_samples


def test_latents_of_rows_and_samples_are_those_of_the_seed():
    model, dataset = model_and_data("variational", rows=5, hidden=[8])
    first, again, other = (quality(model, dataset, EvaluationConfig(num_generated=4, seed=seed)) for seed in (1, 1, 2))
    for name in ("reconstruction", "samples"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_no_more_are_measured_than_are_worth_it(monkeypatch):
    monkeypatch.setattr("qvae.evaluation.executor_loss.MOST", 20)
    model, dataset = model_and_data("variational", rows=30, hidden=[8])
    for asked, measured in ((None, 20), (25, 20), (15, 15)):
        found = quality(model, dataset, EvaluationConfig(num_test=asked, num_generated=asked or 40))
        assert (len(found.reconstruction), len(found.samples)) == (measured, measured)


@pytest.mark.parametrize(
    ("able", "measures"),
    [({}, True), ({"noisy": True}, True), ({"exact": True, "differentiable": True}, False), ({"remote": True}, False)],
)
def test_an_evaluation_measures_where_shots_are_taken_here(able, measures):
    """What waits for a machine elsewhere is measured when it is asked for."""
    executor, model = Shots(seed=0), SimpleNamespace(has_circuit=True)
    executor.capabilities = ExecutorCapabilities(**able)
    assert measures_here(SimpleNamespace(config=SimpleNamespace(model=model), executor=lambda: executor)) is measures
