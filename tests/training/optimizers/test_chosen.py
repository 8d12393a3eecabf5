"""The optimizers that a configuration names: of which kind, with which rates, options and seed."""

import pytest
import torch

from qvae.circuits.layer import CircuitLayer
from qvae.circuits.library import hardware_efficient
from qvae.config.schema import TrainingConfig
from qvae.errors import ConfigError
from qvae.training.optimizers.chosen import circuit_optimizer, gradient_optimizer
from qvae.training.optimizers.natural_gradient import QuantumNaturalGradient
from qvae.training.optimizers.qnspsa import QNSPSA
from qvae.training.optimizers.rotosolve import Rotosolve
from qvae.training.optimizers.spsa import SPSA


def config(name, seed=3, **options):
    return TrainingConfig(optimizer={"name": name, "options": options}, circuit_learning_rate=0.07, seed=seed)


def weights():
    return [{"params": [torch.nn.Parameter(torch.zeros(2))]}]


@pytest.mark.parametrize(
    ("name", "kind", "options", "is_fused"),
    [
        ("adamw", torch.optim.AdamW, {"betas": (0.5, 0.75), "eps": 1e-3}, True),
        ("adam", torch.optim.Adam, {"betas": (0.5, 0.75), "eps": 1e-3}, True),
        ("sgd", torch.optim.SGD, {"momentum": 0.5, "nesterov": True}, None),
    ],
)
def test_gradients_are_followed_by_the_one_that_is_named_from_a_rate_of_0(name, kind, options, is_fused):
    made = gradient_optimizer(config(name, **options), weights())
    (group,) = made.param_groups
    assert type(made) is kind
    assert (group["lr"], group["fused"]) == (0.0, is_fused)
    assert {key: tuple(group[key]) if key == "betas" else group[key] for key in options} == options
    assert circuit_optimizer(config(name), []) is None


@pytest.mark.parametrize("name", ["qng", "spsa", "qn-spsa", "rotosolve"])
def test_beside_an_optimizer_of_circuits_adamw_moves_the_rest(name):
    assert type(gradient_optimizer(config(name), weights())) is torch.optim.AdamW


def test_an_optimizer_of_circuits_has_their_rate_its_options_and_the_training_s_seed():
    layer = CircuitLayer(hardware_efficient(2, 1))
    count = layer.weight.numel()
    kinds = {"qng": QuantumNaturalGradient, "spsa": SPSA, "qn-spsa": QNSPSA, "rotosolve": Rotosolve}
    some = {"qng": {"damping": 0.02}, "spsa": {"stability": 2.0}, "qn-spsa": {"damping": 0.02}, "rotosolve": {}}
    for name, kind in kinds.items():
        made = circuit_optimizer(config(name, **some[name]), [layer])
        (group,) = made.param_groups
        assert type(made) is kind
        assert group["params"][0] is layer.weight
        assert group.get("lr", 0.07) == 0.07
        assert {key: group[key] for key in some[name]} == some[name]
    assert circuit_optimizer(config("rotosolve"), [layer]).executions(10) == 10 * (3 * min(4, count) + 1)
    assert circuit_optimizer(config("rotosolve", angles=1), [layer]).executions(10) == 10 * (3 + 1)
    for name in ("spsa", "qn-spsa"):
        drawn = [circuit_optimizer(config(name, seed), [layer])._signs(torch.zeros(64)) for seed in (3, 3, 4)]
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("adamw", {"damping": 0.1}, "training.optimizer 'adamw' has no option 'damping': .*betas, eps"),
        ("sgd", {"momentun": 0.1}, "'sgd' has no option 'momentun': did you mean 'momentum'"),
        ("adam", {"lr": 0.1}, "'adam' has no option 'lr'"),  # rates are the training's
        ("adamw", {"eps": -1.0}, "training.optimizer 'adamw' refuses its options: .*-1.0"),
        ("sgd", {"nesterov": True}, "'sgd' refuses its options: Nesterov"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options, words):
    with pytest.raises(ConfigError, match=words):
        gradient_optimizer(config(name, **options), weights())


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("qng", {"damping": 0.0}, "'qng' refuses its options: damping is 0"),
        ("spsa", {"stability": -1.0}, "'spsa' refuses its options: stability is -1"),
        ("spsa", {"rows": 3}, "'spsa' has no option 'rows'"),
        ("qn-spsa", {"rows": 0}, "'qn-spsa' refuses its options: rows is 0"),
        ("rotosolve", {"angles": 0}, "'rotosolve' refuses its options: angles is 0"),
    ],
)
def test_options_of_circuits_that_do_not_fit_are_refused(name, options, words):
    with pytest.raises(ConfigError, match=words):
        circuit_optimizer(config(name, **options), [CircuitLayer(hardware_efficient(2, 1))])
