"""What each part of an evaluation is given: its settings, none of them a default, and the rows, labels and codes it needs."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from enumerated import small_model

from qvae.config.schema import EvaluationConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.data.dataset import epoch_permutation, prepare_fixed
from qvae.data.strings import dataset_from_strings
from qvae.errors import DataError, SamplerError
from qvae.evaluation import distances, evaluate, latents, strings
from qvae.evaluation.distances import PriorSamples, frechet_distances
from qvae.evaluation.evaluate import evaluate_model
from qvae.evaluation.frechet import FrechetDistance
from qvae.evaluation.latents import bit_information, latent_use
from qvae.evaluation.likelihood import evaluate_reconstruction
from qvae.evaluation.ngram import best_ngram
from qvae.evaluation.rows import code_means, code_moments, evaluation_rows, prepared, training_rows
from qvae.evaluation.samples import SampleQuality, SamplesAmongCodes
from qvae.evaluation.strings import SAMPLES, StringSet, edit_distances, string_figures
from qvae.evaluation.tsne import latent_film
from qvae.ising.estimate import LogPartition
from qvae.progress import Progress

SETTINGS = EvaluationConfig(
    seed=7, importance_samples=11, log_z_chains=12, log_z_temperatures=13, num_generated=14, num_test=6, probes=True
)


@pytest.fixture
def dataset():
    """Grey images of 2 x 3 pixels, each unlike all others, so that each seed makes other bits of them; labels in no order."""
    generator = np.random.default_rng(0)
    images, labels = generator.random((50, 2, 3)).astype(np.float32), generator.integers(0, 2, 50)
    return dataset_from_arrays(images[:40], images[40:], labels[:40], labels[40:], name="noise")


def recorded(monkeypatch, module, name, result):
    """The calls of a module's function, which returns ``result`` instead of what it would."""
    calls = []
    monkeypatch.setattr(module, name, lambda *arguments: calls.append(arguments) or result)
    return calls


def test_the_parts_of_an_evaluation_are_given_its_settings(dataset, monkeypatch):
    model, log_z, draw, progress = small_model(), LogPartition(1.0, 2.0, "by hand", {"so": "said"}), object(), Progress()
    of_log_z = recorded(monkeypatch, evaluate, "prior_log_partition", log_z)
    of_seconds = recorded(monkeypatch, evaluate, "expected_seconds", 0.0)
    of_likelihood = recorded(monkeypatch, evaluate, "evaluate_likelihood", "the likelihood")
    of_distances = recorded(monkeypatch, evaluate, "frechet_distances", "the distances")
    of_latents = recorded(monkeypatch, evaluate, "latent_use", "the latents")
    readings = iter([0.0, 1.5, 2.0, 4.5, 5.0, 8.5])
    monkeypatch.setattr(evaluate.time, "perf_counter", lambda: next(readings))
    found = evaluate_model(model, dataset, SETTINGS, draw, progress)
    rows = prepare_fixed(dataset, dataset.test.flatten(1)[:6], 7)
    ((hamiltonian, *of_log_z),) = of_log_z
    assert torch.equal(hamiltonian.h, model.prior.h)
    assert of_log_z == [12, 13, 7]
    assert of_seconds[0][2:] == (log_z, 11)
    for ((its_model, its_rows, *_),) in (of_seconds, of_likelihood):
        assert its_model is model
        assert torch.equal(its_rows, rows)
    assert of_likelihood[0][2:5] == (log_z, 11, 7)
    assert of_distances == [(model, dataset, SETTINGS, draw, progress)]
    assert of_latents[0][:3] == (model, dataset, SETTINGS)
    assert (found.likelihood, found.frechet, found.latents) == ("the likelihood", "the distances", "the latents")
    assert (found.log_z_details, found.evaluation_seed, found.num_features) == ({"so": "said"}, 7, 6)
    assert found.seconds == {"likelihood": 1.5, "frechet": 2.5, "latents": 3.5}


@pytest.mark.parametrize(("num_test", "are_all"), [(6, False), (10, True), (None, True)])
def test_it_is_said_whether_all_test_rows_were_used(dataset, num_test, are_all):
    settings = SETTINGS.model_copy(update={"num_generated": 0, "num_test": num_test, "probes": False})
    found = evaluate_model(small_model(), dataset, settings, None)
    assert found.test_images_are_all is are_all
    assert found.likelihood.num_test == (num_test or 10)


def test_a_reconstruction_is_of_bits_and_has_the_error_of_its_mean():
    model, seen = small_model(), []
    model.log_likelihood = lambda x, latents: seen.append(latents) or latents @ torch.arange(6.0)
    images = torch.rand(30, 6, generator=torch.Generator().manual_seed(1))
    found = evaluate_reconstruction(model, images, 7)
    (codes,) = seen
    assert torch.equal(codes, model.encode(images, torch.Generator().manual_seed(7)))
    assert set(codes.unique().tolist()) == {0.0, 1.0}
    values = codes @ torch.arange(6.0)
    assert found.reconstruction == pytest.approx(float(values.mean()))
    assert found.reconstruction_stderr == pytest.approx(float(values.std()) / 30**0.5)
    assert found.num_test == 30


def test_each_set_of_images_is_made_of_its_rows_and_codes_with_the_seed(dataset):
    model, seeds = small_model(), []
    model.decode_codes = lambda codes, generator: seeds.append(generator.initial_seed()) or codes
    codes = torch.rand(14, 6, generator=torch.Generator().manual_seed(2))
    sets = distances._image_sets(model, dataset, SETTINGS, lambda number: PriorSamples(codes[:number]))
    found = {name: torch.cat(list(batches())) for name, (_, batches) in sets.items()}
    assert {name: number for name, (number, _) in sets.items()} == {name: len(images) for name, images in found.items()}
    places, generator = training_rows(dataset, 14, 7), torch.Generator().manual_seed(7)
    floor, reconstructed, samples, independent = found.values()
    assert torch.equal(floor, dataset.values(dataset.train[places]))
    assert torch.equal(reconstructed, model.encode(prepare_fixed(dataset, dataset.test.flatten(1), 7), generator))
    assert torch.equal(samples, codes)
    means = torch.from_numpy(code_means(model, prepared(dataset, places, 7), 7).mean(0))
    assert torch.equal(independent, torch.bernoulli(means.expand(14, -1), generator=generator.manual_seed(7)))
    assert set(seeds) == {7}


def test_rows_their_bits_and_their_codes_are_those_of_the_seed(dataset):
    """And of no other; a hierarchy's means are given bits that are drawn."""
    model, places = small_model(levels=2), training_rows(dataset, 14, 7)
    assert torch.equal(places, epoch_permutation(40, 0, 7)[:14])
    rows = prepared(dataset, places, 7)
    assert torch.equal(rows, dataset.prepare(dataset.train[places].flatten(1), torch.Generator().manual_seed(7)))
    code = model.posterior_sample(rows, relaxed=False, generator=torch.Generator().manual_seed(7))
    for found, expected in zip(code_moments(model, rows, 7), (code.means(), code.variances()), strict=True):
        assert np.array_equal(found, expected.detach().numpy())
    others = training_rows(dataset, 14, 8), prepared(dataset, places, 8), torch.from_numpy(code_means(model, rows, 8))
    for other, own in zip(others, (places, rows, code.means()), strict=True):
        assert not torch.equal(other, own)


def test_a_model_without_a_likelihood_is_asked_for_its_reconstructions_with_the_seed(dataset, monkeypatch):
    asked = recorded(monkeypatch, evaluate, "evaluate_reconstruction", "the reconstructions")
    model, rows = SimpleNamespace(has_likelihood=False), torch.zeros(3, 6)
    assert evaluate._likelihood(model, rows, SETTINGS, Progress()) == ("the reconstructions", {})
    assert asked == [(model, rows, 7)]


def test_probes_see_the_same_rows_in_each_of_their_guises(dataset, monkeypatch):
    model = small_model()
    probes = recorded(monkeypatch, latents, "probe", None)
    found = latent_use(model, dataset, SETTINGS)
    places = training_rows(dataset, 5000, 7)
    train, test = prepared(dataset, places, 7), evaluation_rows(dataset, SETTINGS)
    codes, test_codes = code_means(model, train, 7), code_means(model, test, 7)
    assert [name for name, *_ in probes] == ["latent codes", "raw pixels", "PCA of the pixels"]
    for _, _, labels, _, test_labels, seed in probes:
        assert labels.tolist() == dataset.train_labels[places].tolist()
        assert test_labels.tolist() == dataset.test_labels[:6].tolist()
        assert seed == 7
    (_, a, _, b, *_), (_, c, _, d, *_), (_, e, _, f, *_) = probes
    for ours, theirs in ((a, codes), (b, test_codes), (c, train), (d, test)):
        assert np.array_equal(ours, theirs)
    # All six axes keep the products of rows about the mean of the training rows.
    centred, test_centred = train - train.mean(0), test - train.mean(0)
    assert np.allclose(e @ f.T, centred @ test_centred.T, atol=1e-5)
    information = bit_information(test_codes)
    assert found.information == pytest.approx(float(information.sum()))
    assert (found.units, found.alive, found.probe_images) == (6, int((information > 0.01).sum()), 40)
    assert 0 < found.alive < 6


class Echo(torch.nn.Module):
    """Its codes are rows; reconstructions lack the last character, draws are the row before, and the best one is the first."""

    prior, latents_are_bits = "any", False

    def __init__(self, known):
        super().__init__()
        self.weight, self.known = torch.nn.Parameter(torch.zeros(1)), known

    def reconstruct(self, rows, generator):
        assert generator.initial_seed() == 7
        shorter = rows.clone()
        shorter[torch.arange(len(rows)), (rows > 0).sum(1) - 1] = 0
        return torch.where(torch.arange(len(rows)).unsqueeze(1) > 0, shorter, rows)

    def draw(self, codes, generator):
        assert generator.initial_seed() == 7
        return codes.roll(1, 0)

    def decode_codes(self, codes, generator):
        return codes[:1].expand(len(codes), -1)


def test_figures_of_strings_are_those_of_their_definitions():
    words = ["ab", "abc", "cab", "b", "bca", "ca", "acb", "ba", "cc", "aab", "bb", "cba", "a", "bab"]
    dataset = dataset_from_strings(words[:10], ["ab", "bbc", "cab", "aa"])
    rows = dataset.test
    settings = SETTINGS.model_copy(update={"check": "[ab]+", "num_generated": 4})
    found = string_figures(Echo(words), dataset, rows, settings, lambda number: PriorSamples(rows[:number]), Progress())
    test = ["ab", "bbc", "cab", "aa"]
    back = ["ab", "bb", "ca", "a"]
    assert found.symbols == 1 + 10 / 4
    assert found.reconstructed == 1 / 4
    assert found.edits == edit_distances(test, back).mean() == 3 / 4
    ngram = best_ngram([words[place] for place in training_rows(dataset, 10, 7)], dataset.alphabet, rows.shape[1])
    values = np.array(list(map(ngram.log_prob, test)))
    assert (found.ngram_order, found.ngram) == (ngram.order, pytest.approx(values.mean()))
    assert found.ngram_stderr == pytest.approx(values.std(ddof=1) / 2)
    expected = {
        "test strings": test,
        SAMPLES: ["aa", "ab", "bbc", "cab"],
        "the most probable given the same z": ["ab"] * 4,
        f"n-gram model, order {ngram.order}": ngram.sample(4, 7),
    }
    matches = strings.matching("[ab]+")
    assert found.sets == {name: StringSet.of(each, set(words[:10]), matches, 7) for name, each in expected.items()}
    assert found.sets["test strings"].valid == 1 / 2
    assert found.sets["test strings"].new == 1 / 2


def test_strings_without_samples_say_why_and_without_any_asked_for_have_none():
    words = ["ab", "abc", "cab", "b", "bca", "ca"]
    dataset = dataset_from_strings(words, ["ab", "cab"])

    def fails(number):
        raise SamplerError("no machine today.")

    settings = SETTINGS.model_copy(update={"num_generated": 3})
    found = string_figures(Echo(words), dataset, dataset.test, settings, fails, Progress())
    assert found.samples_reason == "no machine today."
    assert [name.partition(",")[0] for name in found.sets] == ["test strings", "n-gram model"]
    none = SETTINGS.model_copy(update={"num_generated": 0})
    assert not string_figures(Echo(words), dataset, dataset.test, none, fails, Progress()).sets


@pytest.mark.parametrize("error", [DataError("of ours"), ValueError("of another's")])
def test_distances_that_fail_are_said_unless_the_user_can_mend_it(dataset, monkeypatch, error):
    def fails(*arguments):
        raise error

    monkeypatch.setattr(evaluate, "frechet_distances", fails)
    progress, warned = Progress(), []
    progress.warn = warned.append
    if isinstance(error, DataError):
        with pytest.raises(DataError, match="of ours"):
            evaluate._distances(None, dataset, SETTINGS, None, progress)
    else:
        assert evaluate._distances(None, dataset, SETTINGS, None, progress).reason == "ValueError: of another's"
        assert warned == ["there are no Frechet distances (ValueError: of another's)"]


@pytest.mark.parametrize("probes", [True, False])
def test_latents_that_fail_are_looked_at_without_probes_or_not_at_all(dataset, monkeypatch, probes):
    asked = []

    def fails_with_probes(model, data, settings, advance):
        asked.append(settings.probes)
        if len(asked) == 1:
            raise ValueError("no")
        return "the latents"

    monkeypatch.setattr(evaluate, "latent_use", fails_with_probes)
    progress, warned = Progress(), []
    progress.warn = warned.append
    settings = SETTINGS.model_copy(update={"probes": probes})
    arguments = (small_model(), dataset, settings, progress, lambda share: None)
    if not probes:
        with pytest.raises(ValueError, match="no"):
            evaluate._latents(*arguments)
        return
    assert evaluate._latents(*arguments) == "the latents"
    assert asked == [True, False]
    assert warned == ["the labels couldn't be read from the codes (ValueError: no)"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(30.0, None), (30.1, "about 30 s:"), (99.4, "about 99 s:"), (100.0, "about 2 minutes:")]
)
def test_a_likelihood_of_more_than_half_a_minute_is_said_beforehand(seconds, said):
    progress, heard = Progress(), []
    progress.say = heard.append
    evaluate._announce(seconds, 1234, SETTINGS.model_copy(update={"importance_samples": 5000}), progress)
    assert len(heard) == (said is not None)
    assert all(said in text and "5,000 draws for each of 1,234 test rows" in text for text in heard)


def test_a_warning_of_samples_is_passed_on_and_independent_bits_have_the_means_of_codes(dataset):
    model, progress, warned = small_model(), Progress(), []
    progress.warn = warned.append
    draws = SimpleNamespace(codes="codes", warning="they are stuck")
    found = dict(strings._codes(model, dataset, SETTINGS, lambda number: draws, progress))
    assert warned == ["of the samples: they are stuck"]
    assert found[SAMPLES] == "codes"
    rows = prepared(dataset, training_rows(dataset, 14, 7), 7)
    means = torch.from_numpy(code_means(model, rows, 7).mean(0)).expand(14, -1)
    assert torch.equal(
        found["independent bits, same decoder"], torch.bernoulli(means, generator=torch.Generator().manual_seed(7))
    )


@pytest.mark.parametrize("has_likelihood", [True, False])
def test_where_no_classifier_looks_inception_and_codes_still_do(dataset, monkeypatch, has_likelihood):
    model, settings = small_model(), SETTINGS.model_copy(update={"inception_weights": "weights.pth"})
    monkeypatch.setattr(type(model), "has_likelihood", has_likelihood)

    def no_classifier(*arguments):
        raise DataError("there are no labels")

    monkeypatch.setattr(distances, "feature_classifier", no_classifier)
    of_codes = recorded(monkeypatch, distances, "samples_among_codes", SamplesAmongCodes("the coverage", "the floor"))
    of_inception = recorded(monkeypatch, distances, "inception_table", {"samples": FrechetDistance(1.0, 14, 10)})
    codes = torch.rand(14, 6, generator=torch.Generator().manual_seed(2))
    found = frechet_distances(model, dataset, settings, lambda number: PriorSamples(codes[:number]), Progress())
    ((weights, reference, images, device, _),) = of_inception
    assert (weights, device) == ("weights.pth", torch.device("cpu"))
    assert torch.equal(torch.cat(list(reference)), dataset.values(dataset.test))
    numbers = {name: sum(map(len, batches)) for name, batches in images.items()}
    assert list(numbers.values()) == [14, 10, 14, 14]
    if has_likelihood:
        assert not of_codes
    else:
        ((its_model, its_data, rows, samples, seed),) = of_codes
        assert (its_model, its_data, seed) == (model, dataset, 7)
        assert torch.equal(rows, evaluation_rows(dataset, settings))
        assert torch.equal(samples, codes)
    kept = found.to_dict()
    assert kept.pop("inception")["samples"]["value"] == 1.0
    among = {} if has_likelihood else {"among_codes": {"coverage": "the coverage", "floor": "the floor"}}
    assert kept == {"reason": "there are no labels", **among}


def test_a_class_that_is_missing_is_the_rarest_beside_its_share():
    quality = SampleQuality(None, None, {3: 0.5, 7: 0.3, 8: 0.2}, {3: 0.4, 7: 0.2, 8: 0.4}, 0.0, 0.0)
    assert quality.rarest == (8, 0.5)
    told = []
    progress = Progress()
    progress.warn = told.append
    distances._warn_of_rare(quality, progress)
    assert told == []
    distances._warn_of_rare(replace(quality, classes={3: 0.5, 7: 0.4, 8: 0.1}), progress)
    assert told == ["of the samples: class 8 is 0.25 times as frequent as in the training images"]


def test_a_film_is_of_the_rows_of_an_evaluation(dataset):
    settings = SETTINGS.model_copy(update={"tsne_every": 4})
    film = latent_film(dataset, settings, torch.device("cpu"))
    assert torch.equal(film.images, evaluation_rows(dataset, settings))
    assert (film.every, film.seed) == (4, 7)
    for nothing in ({"tsne_every": 0}, {"tsne_every": 4, "num_test": 2}):
        assert latent_film(dataset, SETTINGS.model_copy(update=nothing), torch.device("cpu")) is None
