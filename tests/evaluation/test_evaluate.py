"""All numbers of a model from its parts: the keys that scripts rely on, and what stands there where something is missing."""

import dataclasses
import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qvae.config.schema import DataConfig, EvaluationConfig, ModelConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.data.load import load_data
from qvae.errors import SamplerError
from qvae.evaluation import evaluate
from qvae.evaluation.distances import PriorSamples
from qvae.evaluation.evaluate import evaluate_model
from qvae.evaluation.latents import latent_use
from qvae.evaluation.rows import code_means, evaluation_rows, training_rows
from qvae.models.likelihoods.likelihood import Statistics
from qvae.progress import Progress
from qvae.runs.assemble import make_model

OLD = json.loads((Path(__file__).parents[1] / "data" / "run-0.1.0" / "evaluation.json").read_text())
SETTINGS = EvaluationConfig(importance_samples=5, num_generated=40, probes=True)


class Listening(Progress):
    """Remembers what it was told."""

    def __init__(self):
        self.warnings, self.said, self.works = [], [], {}

    @contextmanager
    def work(self, name):
        self.works[name] = []
        yield lambda share, figures: self.works[name].append(share)

    def say(self, text):
        self.said.append(text)

    def warn(self, text):
        self.warnings.append(text)


@pytest.fixture(scope="module")
def parts():
    images = (np.random.default_rng(0).random((90, 9, 9)) < 0.4).astype(np.float32)
    dataset = dataset_from_arrays(images, train_labels=np.arange(90) % 2, name="noise", binarize="threshold")
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"latent": {"sizes": [3, 3]}, "network": {"hidden": [8]}})
    return make_model(config, Statistics.of(dataset)).eval(), dataset


def draw(count, warning=None):
    generator = torch.Generator().manual_seed(count)
    return PriorSamples(torch.randint(0, 2, (count, 6), generator=generator, dtype=torch.int8) * 2 - 1, warning)


def test_the_keys_are_those_of_before_and_the_likelihood_s_name(parts):
    found = evaluate_model(*parts, SETTINGS, draw).to_dict()
    assert set(found) - set(OLD) == {"likelihood", "num_features"}
    assert set(OLD) <= set(found)
    assert set(found["frechet"]) - set(OLD["frechet"]) == {"quality"}
    assert set(OLD["latents"]) == set(found["latents"])
    assert set(found["seconds"]) == {"likelihood", "frechet", "latents"}
    assert (found["likelihood"], found["num_features"], found["binarization"]) == ("bernoulli", 81, "threshold")
    json.dumps(found)


def test_every_part_is_followed_and_a_long_likelihood_is_said_beforehand(parts, monkeypatch):
    listening = Listening()
    monkeypatch.setattr(evaluate, "expected_seconds", lambda *arguments: 240.0)
    evaluate_model(*parts, SETTINGS, draw, listening)
    assert listening.said[0].startswith("the likelihood takes about 4 minutes: 5 draws for each of 9 test rows")
    assert list(listening.works) == [
        "log Z of the prior",
        "likelihood",
        "samples of the prior",
        "training the classifier",
        "Frechet distances",
        "what the latents hold",
    ]
    assert listening.works["Frechet distances"][-1] == 1.0
    assert listening.works["what the latents hold"] == [0.0, 1 / 3, 2 / 3]


def test_samples_that_fail_cost_their_row_alone(parts):
    def fails(count):
        raise SamplerError("no machine today.")

    found = evaluate_model(*parts, SETTINGS, fails).to_dict()
    assert found["frechet"]["samples_reason"] == "no machine today."
    assert "samples of the prior" not in found["frechet"]["distances"]
    assert len(found["frechet"]["distances"]) == 3


def test_samples_that_may_be_wrong_are_warned_of(parts):
    listening = Listening()
    found = evaluate_model(*parts, SETTINGS, lambda count: draw(count, "chains are stuck"), listening)
    assert found.frechet.samples_warning == "chains are stuck"
    assert listening.warnings[0] == "of the samples: chains are stuck"


def test_nothing_is_drawn_where_no_samples_are_wanted(parts):
    settings = SETTINGS.model_copy(update={"num_generated": 0, "probes": False})
    found = evaluate_model(*parts, settings, lambda count: pytest.fail("not asked for")).to_dict()
    assert found["frechet"] == {}
    assert "probes" not in found["latents"]


def test_rows_depend_on_the_seed_alone(parts):
    model, dataset = parts
    rows = evaluation_rows(dataset, SETTINGS)
    assert rows.shape == (9, 81)
    assert torch.equal(evaluation_rows(dataset, SETTINGS, 4), rows[:4])
    assert sorted(training_rows(dataset, 1000, 3).tolist()) == list(range(81))
    assert torch.equal(training_rows(dataset, 10, 3), training_rows(dataset, 1000, 3)[:10])
    assert np.array_equal(code_means(model, rows, 1), code_means(model, rows, 1))


def test_the_likelihood_is_of_the_test_rows(parts, monkeypatch):
    seen, measured = [], evaluate.evaluate_likelihood

    def remember(model, rows, *rest):
        seen.append(rows)
        return measured(model, rows, *rest)

    monkeypatch.setattr(evaluate, "evaluate_likelihood", remember)
    settings = SETTINGS.model_copy(update={"num_generated": 0, "probes": False})
    evaluate_model(*parts, settings, draw)
    bits = parts[1].values(parts[1].test).flatten(1)
    assert torch.equal(seen[0], bits)


def test_noise_over_a_step_of_grey_levels_is_the_seed_s():
    dataset = load_data(DataConfig(), "reals")
    rows = evaluation_rows(dataset, SETTINGS, 20)
    noise = torch.rand(20, 64, generator=torch.Generator().manual_seed(SETTINGS.seed))
    torch.testing.assert_close(rows, (dataset.test[:20].flatten(1) + noise) / 17)
    assert not torch.equal(evaluation_rows(dataset, SETTINGS.model_copy(update={"seed": 1}), 20), rows)


@pytest.mark.parametrize("are_real", [True, False])
def test_probes_read_the_label_of_the_same_row_and_are_scored_on_others(are_real):
    dataset = load_data(DataConfig())
    if not are_real:
        generator = torch.Generator().manual_seed(0)
        drawn = {
            part: torch.randint(0, 10, (len(getattr(dataset, part)),), generator=generator)
            for part in ("train_labels", "test_labels")
        }
        dataset = dataclasses.replace(dataset, **drawn)
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"latent": {"sizes": [3, 3]}, "network": {"hidden": [8]}})
    model = make_model(config, Statistics.of(dataset)).eval()
    raw = next(probe for probe in latent_use(model, dataset, SETTINGS).probes if probe.features == "raw pixels")
    if are_real:
        assert min(raw.linear, raw.mlp) > 0.8
    else:  # chance, within five standard errors
        assert max(raw.linear, raw.mlp) < 0.1 + 5 * (0.09 / 297) ** 0.5


def test_a_density_is_said_per_feature_as_well():
    dataset = load_data(DataConfig(), "reals")
    torch.manual_seed(0)
    keys = {"latent": {"sizes": [3, 3]}, "network": {"hidden": [8]}, "likelihood": "gaussian"}
    model = make_model(ModelConfig.model_validate(keys), Statistics.of(dataset)).eval()
    settings = SETTINGS.model_copy(update={"num_generated": 0, "probes": False, "num_test": 20})
    found = evaluate_model(model, dataset, settings, draw).to_dict()
    for key in ("elbo", "log_likelihood"):
        assert found[f"{key}_per_feature"] == pytest.approx(found[key] / 64)


def test_probes_that_fail_cost_themselves_alone(monkeypatch):
    def use(model, dataset, settings, progress):
        if settings.probes:
            raise MemoryError("too many")
        return "without probes"

    warned, progress, model = [], Progress(), SimpleNamespace(compresses=True)
    progress.warn = warned.append
    monkeypatch.setattr(evaluate, "latent_use", use)
    assert evaluate._latents(model, None, EvaluationConfig(), progress, None) == "without probes"
    assert warned[0].startswith("the labels couldn't be read from the codes (MemoryError")
