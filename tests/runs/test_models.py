"""What a run's files keep of its model: whatever an autoencoder of another run follows from comes back."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from qvae.config.schema import ModelConfig
from qvae.errors import ConfigError, DataError, RunError
from qvae.models.likelihoods.likelihood import Statistics
from qvae.runs import models as module
from qvae.runs.models import Held

EDGES = torch.tensor([[0, 1], [1, 2]])


def test_what_is_held_comes_back():
    native = ModelConfig.model_validate({"latent": {"graph": "native", "sizes": [3]}})
    found = Held.of_state(Held((3, 7), native, EDGES).to_state(), Path("model"))
    assert (found.classes, found.autoencoder) == ((3, 7), native)
    assert torch.equal(found.edges, EDGES)
    assert Held().to_state() == {}


@pytest.mark.parametrize("damage", [{"autoencoder_edges": EDGES[0]}, {"classes": [0.5]}, {"autoencoder": {"kind": "vqgan"}}])
def test_damage_is_told(damage):
    with pytest.raises(RunError, match="model doesn't say what its generator and autoencoder are"):
        Held.of_state(damage, Path("model"))


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ({"latent": {"label_units": "binary"}}, "names a qvae with label units; name one without, or leave it out"),
        (
            {"kind": "vqgan"},
            "names a vqgan with likelihood bernoulli; it must be a qvae or vqvae with model.likelihood, bernoulli",
        ),
        ({"likelihood": "gaussian"}, "names a qvae with likelihood gaussian; it must be a qvae or vqvae with"),
    ],
)
def test_an_autoencoder_that_no_latents_can_be_generated_of(inner, words, monkeypatch):
    config = ModelConfig.model_validate({"kind": "vqgan", "gan": {"autoencoder": "a run", "conditional": False}})
    monkeypatch.setattr(module, "existing_run", Path)
    monkeypatch.setattr(module, "run_config", lambda folder: SimpleNamespace(model=ModelConfig.model_validate(inner)))
    with pytest.raises(ConfigError, match=f"model.gan.autoencoder {words}"):
        module.held_by(config, None)


@pytest.mark.parametrize(
    ("keys", "has_labels", "classes"),
    [
        ({}, True, ()),
        ({"latent": {"label_units": "binary"}}, True, (3, 7)),
        (
            {"latent": {"label_units": "binary"}},
            False,
            "has no labels of its training rows; leave model.latent.label_units out",
        ),
        ({"kind": "vqgan"}, True, (3, 7)),
        ({"kind": "vqgan"}, False, ()),
        ({"kind": "vqgan", "gan": {"conditional": False}}, True, ()),
        ({"kind": "vqgan", "gan": {"conditional": True}}, False, "has no labels .*; set model.gan.conditional to false"),
    ],
)
def test_classes_are_told_where_they_are_wanted_and_there(keys, has_labels, classes):
    labels = torch.tensor([7, 3, 7]) if has_labels else None
    data = SimpleNamespace(name="mine", train_labels=labels)
    config = ModelConfig.model_validate(keys)
    if isinstance(classes, str):
        with pytest.raises(DataError, match=f"mine {classes}"):
            module.held_by(config, data)
    else:
        held, weights = module.held_by(config, data)
        assert (held.classes, held.autoencoder, weights) == (classes, None, {})


def test_an_autoencoder_comes_with_its_configuration_its_edges_and_its_weights_alone(monkeypatch):
    config = ModelConfig.model_validate({"kind": "vqgan", "gan": {"autoencoder": "a run", "conditional": False}})
    inner = ModelConfig.model_validate({"latent": {"graph": "native", "sizes": [3]}})
    parts = ("encoder", "posterior", "decoder", "likelihood")
    weights = {f"{part}.w": torch.full((2,), float(place)) for place, part in enumerate((*parts, "prior", "encoders"))}
    monkeypatch.setattr(module, "existing_run", Path)
    monkeypatch.setattr(module, "run_config", lambda folder: SimpleNamespace(model=inner))
    state = {"image_shape": [2, 3], "levels": None, "edges": EDGES, "model": weights | {"prior._extra_state": 0}}
    monkeypatch.setattr(module, "load_checkpoint", lambda file: state)
    held, found = module.held_by(config, SimpleNamespace(name="mine", shape=(2, 3), train_labels=None))
    assert (held.classes, held.autoencoder) == ((), inner)
    assert torch.equal(held.edges, EDGES)
    assert found == {f"{part}.w": weights[f"{part}.w"] for part in parts}
    with pytest.raises(DataError, match=r"mine has rows of shape \(3, 2\), but the autoencoder in a run was trained on"):
        module.held_by(config, SimpleNamespace(name="mine", shape=(3, 2), train_labels=None))


def test_an_autoencoder_has_its_own_edges_and_the_data_s_statistics(monkeypatch):
    inner = ModelConfig.model_validate({"latent": {"graph": "native", "sizes": [3]}, "network": {"hidden": [4]}})
    given = []
    monkeypatch.setattr(module.VQGAN, "from_config", lambda *arguments: given.append(arguments))
    config, statistics = ModelConfig(kind="vqgan"), Statistics.blank((2, 3))
    module.make_model(config, statistics, None, "an executor", Held((3, 7), inner, EDGES))
    ((asked, of_data, classes, autoencoder, executor),) = given
    assert (asked, of_data, classes, executor) == (config, statistics, (3, 7), "an executor")
    assert autoencoder.prior.graph.edges.tolist() == EDGES.tolist()
    assert autoencoder.shape == (2, 3)
