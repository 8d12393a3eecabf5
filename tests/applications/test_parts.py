"""Which parts of a run an application puts together: what it hands on is caught, and files hold what their names say."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import qvae
from qvae.applications import generate as module
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


def test_samples_and_images_of_a_generation_follow_its_sampler_fields_and_seed(small_run):
    run = qvae.load_run(small_run)
    handed, codes = [], torch.arange(16.0).view(2, 8)
    run.sampler = lambda *arguments: handed.append(arguments)
    run.model.generate = lambda num, sampler, generator, bias: handed.append((num, generator.initial_seed(), bias)) or codes
    assert np.array_equal(generated(run, 2, "exact", torch.ones(8), 7), codes.numpy())
    assert handed[0] == ("exact", 7)
    assert (handed[1][0], handed[1][1], handed[1][2].tolist()) == (2, 7, [1.0] * 8)
    run.config.evaluation.seed = 5
    generated(run, 2)
    assert (handed[2], handed[3]) == ((None, None), (2, 5, None))


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
