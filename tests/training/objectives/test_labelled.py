"""A step on rows whose classes are given: the class goes to the label units, and rows alone are prepared and damaged."""

import pytest
import torch
from support import model_of

from qvae.config.schema import ModelConfig, TrainingConfig
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.qvae import QVAE
from qvae.sampling.registry import load_sampler
from qvae.training.objective import Clock
from qvae.training.objectives import labelled as module
from qvae.training.objectives.boltzmann import BoltzmannObjective
from qvae.training.objectives.labelled import LabelledObjective, boltzmann_objective

ROWS = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
PLACES = torch.tensor([2.0, 0.0, 1.0, 2.0, 2.0, 1.0])
STORED = torch.cat([ROWS, PLACES.unsqueeze(1)], 1)


def objective(**training):
    """Of classes 3, 5 and 8, whose rows are prepared by halving them."""
    torch.manual_seed(3)
    latent = {"graph": "rbm", "sizes": [2, 2], "label_units": "one-hot"}
    model = QVAE.from_config(ModelConfig(latent=latent, network={"hidden": [5]}), Statistics.blank((4,)), classes=(3, 5, 8))
    config = TrainingConfig(chains=20, precision="float32", **training)
    return boltzmann_objective(model, lambda rows, generator: rows / 2, config, load_sampler("exact", seed=0))


@pytest.mark.parametrize("damage", [{}, {"corruption": "hidden", "corruption_amount": 0.5}])
def test_rows_are_prepared_damaged_and_told_apart_from_their_classes(damage, monkeypatch):
    one, seen = objective(**damage), []
    surrogate = module.surrogate
    monkeypatch.setattr(module, "surrogate", lambda *given: seen.append(given) or surrogate(*given))
    state = one.generator.get_state()
    one.step(STORED, Clock(0, 1, 0.0))
    ((model, rows, _, _, _, damaged, words),) = seen
    assert model is one.model
    assert torch.equal(rows, ROWS / 2)
    assert torch.equal(words, torch.eye(3)[PLACES.long()])
    if damage:
        assert torch.equal(damaged, one.corruption(ROWS / 2, torch.Generator().set_state(state)))
        assert not torch.equal(damaged, rows)
    else:
        assert damaged is None


@pytest.mark.parametrize("damage", [{}, {"corruption": "hidden", "corruption_amount": 0.5}])
def test_batch_norms_settle_on_codes_of_known_classes(damage):
    one, seen = objective(**damage), []
    sample = one.model.posterior_sample

    def noted(x, **more):
        seen.append((x, more))
        return sample(x, **more)

    one.model.posterior_sample = noted
    one.settle(one.model, STORED, 3)
    generator = torch.Generator().manual_seed(0)
    assert len(seen) == 2
    x, more = seen[0]
    assert torch.equal(x, one.corruption(ROWS[:3] / 2, generator) if damage else ROWS[:3] / 2)
    assert torch.equal(more["words"], torch.eye(3)[PLACES[:3].long()])
    assert more["relaxed"] is False


def test_models_without_label_units_are_told_no_classes():
    plain = model_of(ModelConfig(latent={"sizes": [2, 2]}, network={"hidden": [5]}), torch.full((4,), 0.5))
    found = boltzmann_objective(plain, None, TrainingConfig(chains=20), load_sampler("exact"))
    assert type(found) is BoltzmannObjective
    assert not found.takes_classes
    assert type(objective()) is LabelledObjective
    assert objective().takes_classes
