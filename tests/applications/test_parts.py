"""Which parts of a run an application puts together: what it hands on is caught, and files hold what their names say."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import qvae
from qvae.applications import generate as module
from qvae.applications import reconstruct as reconstruction
from qvae.applications.generate import class_share, generate, generated
from qvae.applications.reconstruct import reconstruct, reconstructed
from qvae.models.vqvae import VQVAE
from qvae.runs import on_executor


def test_all_that_is_asked_of_a_generation_is_handed_on(small_run, monkeypatch, tmp_path):
    run, given = qvae.load_run(small_run), []
    monkeypatch.setattr(module, "class_fields", lambda run, label: torch.full((8,), float(label)))
    monkeypatch.setattr(module, "class_share", lambda run, images, label: label / 10 + len(images) / 1000)
    names = inspect.signature(module.generated)

    def stand_in(*arguments):
        given.append(names.bind(*arguments).arguments)
        return np.full((2, 8, 8), 0.25)

    monkeypatch.setattr(module, "generated", stand_in)
    found = generate(run, 2, "exact", "aer", label=3, strength=0.5, seed=11, out=tmp_path / "x.npz")
    asked = {"run": run, "num": 2, "sampler": "exact", "seed": 11, "executor": "aer", "bias": pytest.approx([1.5] * 8)}
    assert {name: given[0][name] for name in asked} == asked
    assert found.sentences == ["the classifier takes 30% of the images for a 3"]
    assert found.files == [tmp_path / "x.npz", tmp_path / "x.png"]
    assert np.array_equal(np.load(tmp_path / "x.npz")["images"], np.full((2, 8, 8), 0.25))
    (said,) = generate(run, 2).sentences
    assert given[1]["bias"] is None
    assert said.endswith(f"for the same images again: --seed {given[1]['seed']}")


def test_samples_and_images_of_a_generation_follow_its_sampler_fields_and_seed(small_run, monkeypatch):
    run, runs_on, whole = qvae.load_run(small_run), [], on_executor.running_on
    monkeypatch.setattr(on_executor, "running_on", lambda *given: runs_on.append(given) or whole(run))
    handed, codes = [], torch.arange(16.0).view(2, 8)
    run.sampler = lambda *arguments: handed.append(arguments)
    run.model.generate = lambda num, sampler, generator, bias: handed.append((num, generator.initial_seed(), bias)) or codes
    assert np.array_equal(generated(run, 2, "exact", torch.ones(8), 7), codes.numpy())
    assert handed[0] == ("exact", 7)
    assert (handed[1][0], handed[1][1], handed[1][2].tolist()) == (2, 7, [1.0] * 8)
    run.config.evaluation.seed = 5
    generated(run, 2, executor="aer")
    assert (handed[2], handed[3]) == ((None, None), (2, 5, None))
    assert runs_on == [(run, None, 7), (run, "aer", None)]


def test_the_share_of_a_class_is_that_of_the_images_taken_for_it(small_run, monkeypatch):
    seen = []
    found = SimpleNamespace(predict=lambda images: seen.append(images) or torch.tensor([3, 3, 1, 3]))
    monkeypatch.setattr("qvae.evaluation.classifier_files.feature_classifier", lambda dataset, device: found)
    images = np.random.default_rng(0).random((4, 8, 8)).astype(np.float32)
    shares = [class_share(qvae.load_run(small_run), images, label) for label in (3, 1, 2)]
    assert shares == [0.75, 0.25, 0.0]
    assert np.array_equal(seen[0].numpy(), images)


def test_reconstructions_are_of_the_first_test_rows_and_stand_under_their_names(small_run, tmp_path):
    run = qvae.load_run(small_run)
    run.config.evaluation.seed = 3
    rows = run.dataset.values(run.dataset.test[:5])
    originals, found = reconstructed(run, 5)
    assert np.array_equal(originals, rows.numpy())
    assert np.array_equal(found, run.model.reconstruct(rows, torch.Generator().manual_seed(3)).numpy())
    arrays = np.load(reconstruct(run, 5, out=tmp_path / "r.npz").files[0])
    assert np.array_equal(arrays["originals"], originals)
    assert np.array_equal(arrays["reconstructions"], found)


def test_reconstructions_are_made_by_the_executor_that_is_named(small_run, monkeypatch, tmp_path):
    asked = []
    made = (np.zeros((2, 8, 8)), np.ones((2, 8, 8)))
    monkeypatch.setattr(reconstruction, "reconstructed", lambda *given: asked.append(given[1:]) or made)
    reconstruct(qvae.load_run(small_run), 2, "aer:shots=3", tmp_path / "r.npz")
    assert asked == [(2, "aer:shots=3")]


@pytest.mark.parametrize("seed", [None, 7])
def test_strings_are_drawn_of_codes_that_follow_sampler_fields_and_seed(seed, monkeypatch):
    asked, bias = [], torch.ones(4)
    prior = SimpleNamespace(draw=lambda *given: asked.append(given) or "codes")
    model = SimpleNamespace(
        circuit=None, shape=(5,), likelihood=SimpleNamespace(kind="strings"), require_prior=lambda: prior
    )
    sampler = SimpleNamespace(close=lambda: asked.append("closed"))
    config = SimpleNamespace(evaluation=SimpleNamespace(seed=5), model=SimpleNamespace(has_boltzmann_prior=True))
    run = SimpleNamespace(model=model, config=config, device=torch.device("cpu"))
    run.sampler = lambda *given: asked.append(given) or sampler
    monkeypatch.setattr("qvae.evaluation.strings.drawn_rows", lambda *given: asked.append(given) or torch.arange(3))
    assert generated(run, 3, "exact", bias, seed).tolist() == [0, 1, 2]
    made, drawn, rows, closed = asked
    assert (made, closed) == (("exact", seed), "closed")
    assert (drawn[:2], drawn[3]) == ((3, sampler), bias)
    assert drawn[2].initial_seed() == (5 if seed is None else 7)
    assert rows == (model, "codes", drawn[2])


@pytest.mark.parametrize(("given", "checked"), [(None, "a+"), ("b+", "b+")])
def test_strings_are_checked_by_what_is_asked_for_or_by_the_run(given, checked, small_run, monkeypatch, tmp_path):
    asked, run = [], qvae.load_run(small_run)
    run.config.evaluation.check = "a+"
    monkeypatch.setattr("qvae.reporting.run_rows.is_of_strings", lambda run: True)
    monkeypatch.setattr(module, "generated", lambda *given: "rows")
    monkeypatch.setattr(module, "_strings", lambda *given: asked.append(given[1:4:2]) or "outcome")
    assert generate(run, 2, check=given, seed=1, out=tmp_path / "x.txt") == "outcome"
    assert asked == [("rows", checked)]


def test_fields_of_a_class_are_of_training_rows_in_the_order_of_their_seed(small_run, monkeypatch):
    """Of four rows those at 3 and 0 are of class 7; with half a vote for either side their mean is (1 + 0.5) / 3."""
    asked, places = [], torch.tensor([2, 3, 1, 0])
    means = np.array([[1.0, 0.0], [1.0, 0.5], [0.5, 1.0], [0.0, 0.5]], dtype=np.float32)
    run = qvae.load_run(small_run)
    run.config.evaluation.seed = 5
    run.dataset = SimpleNamespace(train_labels=torch.tensor([7, 3, 3, 7]), name="mine")
    for name, result in (("training_rows", places), ("prepared", "rows"), ("code_means", means)):
        monkeypatch.setattr(
            f"qvae.evaluation.rows.{name}", lambda *given, name=name, result=result: asked.append((name, *given[1:])) or result
        )
    found = module.class_fields(run, 7)
    everywhere, there = np.array([3.0, 2.5]) / 5, np.array([1.5, 1.5]) / 3
    expected = np.arctanh(2 * everywhere - 1) - np.arctanh(2 * there - 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert [each[0] for each in asked] == ["training_rows", "prepared", "code_means"]
    assert [each[-1] for each in asked] == [5, 5, 5]
    assert asked[0][1] == 10_000
    assert torch.equal(asked[1][1], places)
    assert asked[2][1] == "rows"


def test_strings_are_counted_that_match_and_that_training_did_not_have(monkeypatch, tmp_path):
    """Of five, three match; one stands among the training strings, twice, and another one among those of the test."""
    found = ["ab", "ba", "b", "ab", "aab"]
    alphabet = SimpleNamespace(decode=lambda rows: [["ab", "bb"][number] for number in rows])
    data = SimpleNamespace(alphabet=alphabet, train=torch.tensor([0, 1]), test=torch.tensor([1]))
    monkeypatch.setattr("qvae.reporting.run_rows.texts", lambda run, rows: found)
    monkeypatch.setattr("qvae.reporting.run_rows.reachable_data", lambda run: data)
    outcome = module._strings(None, None, tmp_path / "x.txt", "a+b", ["before"])
    assert outcome.sentences == ["before", "3 of 5 match 'a+b'", "3 of 5 are none of the training strings"]
    assert (tmp_path / "x.txt").read_text() == "ab\nba\nb\nab\naab\n"
    monkeypatch.setattr("qvae.reporting.run_rows.reachable_data", lambda run: None)
    assert module._strings(None, None, tmp_path / "x.txt", None, []).sentences == []


def test_a_circuit_is_run_by_the_executor_that_is_named_and_by_its_own_afterwards(monkeypatch):
    layer, asked, closed = SimpleNamespace(executor="exact"), [], []

    class Model(VQVAE):
        circuit = layer

        def __init__(self):
            pass

    run = SimpleNamespace(model=Model(), executor=lambda *arguments: asked.append(arguments) or "chosen")
    monkeypatch.setattr(on_executor, "close", closed.append)

    def fails():
        with on_executor.running_on(run, "aer:shots=3", 5) as model:
            assert (model, layer.executor) == (run.model, "chosen")
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert (asked, closed, layer.executor) == ([("aer:shots=3", 5)], ["chosen"], "exact")
