"""Keys of different sections that exclude each other: what is refused with a word, and the nearest that is taken."""

import re

import pytest

from qvae.config import load
from qvae.config.circuit import CircuitConfig
from qvae.config.load import load_config, parse_assignments
from qvae.config.schema import ModelConfig
from qvae.errors import ConfigError

CIRCUIT, DISCRETE = {"kind": "vqvae"}, {"kind": "vqvae", "variant": "discrete"}
GAME, PATCH, PLAIN = {"kind": "vqgan"}, {"kind": "vqgan", "generator": "patch"}, {"kind": "vqvae", "variant": "deterministic"}
COUPLED = ["model.discrete.prior=boltzmann"]


@pytest.mark.parametrize(
    ("model", "taken", "refused", "words"),
    [
        (
            GAME,
            [],
            ["training.optimizer=sgd"],
            "training.optimizer is sgd, but each player of a vqgan's game has an Adam of its",
        ),
        (GAME, [], ["training.optimizer={name: adamw, options: {eps: 0.1}}"], "training.optimizer is adamw, but each player"),
        (
            CIRCUIT | {"critic": {}},
            ["training.optimizer=sgd"],
            ["training.optimizer=spsa"],
            "is spsa, which knows of no critic",
        ),
        (GAME, [], ["training.validation=0.1"], "training.validation is 0.1, but the game of a vqgan has no loss"),
        ({}, [], ["model.latent.train_gamma=true"], "model.latent.train_gamma is true, but the Q-ELBO can't train gamma"),
        (
            {},
            ["model.posterior.levels=2"],
            ["model.posterior.levels=2", "training.prior_gradient=exact"],
            "levels is 2; training",
        ),
        ({}, ["training.prior_gradient=exact", "model.latent.train_gamma=true"], None, ""),
        (
            {},
            ["training.validation=0.1", "training.early_stopping=3"],
            ["training.validation=0.1", "training.early_stopping=3", "model.latent.gamma=0.5"],
            "training.early_stopping is 3, but with model.latent.gamma above 0 the surrogate isn't known",
        ),
        (
            {"latent": {"sizes": [1, 1], "gamma": [0.0, 0.5]}},
            ["training.validation=0.1", "training.early_stopping=3", "training.prior_gradient=exact"],
            ["training.validation=0.1", "training.early_stopping=3"],
            "with model.latent.gamma above 0",
        ),
        (
            {"latent": {"sizes": [1, 1], "gamma": [0.0, 0.0]}},
            ["training.validation=0.1", "training.early_stopping=3"],
            None,
            "",
        ),
        (
            {},
            ["training.validation=0.1"],
            ["training.early_stopping=3"],
            "no rows are held out to stop by; set validation, as to",
        ),
        (
            CIRCUIT,
            ["training.optimizer=qng"],
            ["training.optimizer=qng", "model.circuit.arm=frozen"],
            "training.optimizer is qng, but model.circuit.arm is frozen; leave the optimizer out",
        ),
        (CIRCUIT, ["model.circuit.arm=frozen"], None, ""),
        (
            CIRCUIT,
            ["training.optimizer=rotosolve"],
            ["training.optimizer=rotosolve", "training.circuit_learning_rate=0.5"],
            "training.circuit_learning_rate is 0.5, but rotosolve, the training.optimizer, has no rate: it goes to the minimum",
        ),
        (CIRCUIT, ["training.optimizer=qng", "training.circuit_learning_rate=0.5"], None, ""),
        (CIRCUIT, ["training.circuit_gradient=spsa"], None, ""),
        (
            DISCRETE,
            [],
            ["training.circuit_gradient=spsa"],
            "is spsa, but a discrete vqvae is trained on exact",
        ),
        (
            PATCH,
            [],
            ["training.circuit_gradient=spsa"],
            "is spsa, but patches are trained on exact",
        ),
        (GAME, ["training.circuit_gradient=spsa"], None, ""),
        # Backends that have no work
        ({}, [], ["executor=aer"], "executor is set, but model.kind is qvae, which has no circuit; leave it out, or choose"),
        (
            {},
            [],
            ["training.circuit_learning_rate=0.5"],
            "training.circuit_learning_rate is set, but model.kind is qvae, which has",
        ),
        ({}, [], ["training.circuit_gradient=spsa"], "training.circuit_gradient is set, but model.kind is qvae"),
        ({}, ["training.optimizer=sgd"], ["training.optimizer=qng"], "training.optimizer qng is set, but model.kind is qvae"),
        (CIRCUIT, ["executor=aer", "training.circuit_learning_rate=0.5"], None, ""),
        (CIRCUIT, ["model.circuit.arm=perceptron", "training.circuit_learning_rate=0.5"], None, ""),
        (
            CIRCUIT,
            [],
            ["model.circuit.arm=gaussian", "executor=aer"],
            "executor is set, but model.circuit.arm is gaussian, which has no",
        ),
        (
            PLAIN,
            [],
            ["training.prior_gradient=exact"],
            "model.kind is vqvae, variant deterministic, which has no Boltzmann prior",
        ),
        (
            CIRCUIT,
            [],
            ["training.chains=7"],
            "training.chains is set, but model.kind is vqvae, variant variational, which has no",
        ),
        (CIRCUIT, [], ["training.fallback=exact"], "training.fallback is set, but"),
        (CIRCUIT, [], ["training.prior_learning_rate=0.5"], "training.prior_learning_rate is set, but"),
        (
            GAME,
            ["training.prior_learning_rate=0.5"],
            ["training.chains=7"],
            "training.chains is set, but model.kind is vqgan, which",
        ),
        (CIRCUIT, [], ["sampler=exact"], "sampler is set, but"),
        (CIRCUIT, [], ["generation.sampler=exact"], "generation.sampler is set, but"),
        (DISCRETE, ["sampler=exact", "training.chains=7", "generation.sampler=exact", *COUPLED], None, ""),
        (
            CIRCUIT,
            [],
            ["training.critic_learning_rate=0.5"],
            "training.critic_learning_rate is set, but .* which has no critic",
        ),
        (GAME, ["training.critic_learning_rate=0.5"], None, ""),
        # A discrete model's bits
        (
            DISCRETE,
            [],
            ["model.circuit.arm=perceptron"],
            "circuit.arm is perceptron; a discrete vqvae needs a circuit, to measure",
        ),
        (
            DISCRETE,
            ["model.circuit.qubits=4"],
            ["model.latent={graph: edges, sizes: [9]}"],
            "latent has 9 spins; .* needs 10, one for",
        ),
        (
            DISCRETE,
            COUPLED,
            ["model.latent={graph: complete, sizes: [10]}"],
            "latent is set, but model.discrete.prior is factorized",
        ),
        (
            DISCRETE,
            ["model.discrete.gradient=relaxed"],
            ["model.discrete.gradient=relaxed", "model.relaxation.kind=overlapping"],
            "relaxation.kind is overlapping; a vqvae takes gumbel",
        ),
        ({}, ["model.relaxation.kind=overlapping"], None, ""),
        # Label units
        (
            {},
            ["model.latent.label_units=binary"],
            ["model.latent={graph: chimera, sizes: [1], label_units: binary}"],
            "graph 'chimera' has no",
        ),
        (
            {},
            [],
            ["model.latent={label_units: binary, train_gamma: true}"],
            "label_units can only be held without a transverse field",
        ),
    ],
)
def test_what_excludes_each_other(model, taken, refused, words):
    load_config({"model": model}, taken)
    if refused is not None:
        with pytest.raises(ConfigError, match=re.escape(words).replace(r"\.\*", ".*")):
            load_config({"model": model}, refused)


def test_a_discrete_model_s_prior_has_a_spin_for_each_qubit_however_its_sections_are_given():
    for circuit in ({"qubits": 4}, CircuitConfig(qubits=4)):
        for prior, graph in (("factorized", "edges"), ("uniform", "edges"), ("boltzmann", "complete")):
            model = ModelConfig(kind="vqvae", variant="discrete", circuit=circuit, discrete={"prior": prior})
            assert (model.latent.graph, model.latent.sizes, model.latent.edges) == (graph, [4], [])
    gamma = ModelConfig(kind="vqvae", variant="discrete", discrete={"prior": "boltzmann"}, latent={"gamma": 0.5}).latent
    assert (gamma.graph, gamma.sizes, gamma.gamma) == ("complete", [10], 0.5)


@pytest.mark.parametrize(("text", "value"), [("/data #2", "/data #2"), ("'a # b'", "a # b"), ("#", "#"), ("a#b", "a#b")])
def test_signs_of_comments_in_settings(text, value):
    assert parse_assignments([f"x={text}"]) == {"x": value}


def test_a_setting_that_is_neither_yaml_nor_a_comment():
    with pytest.raises(ConfigError, match=r"this isn't valid YAML in --set x=\[#, line 1"):
        parse_assignments(["x=[#"])


@pytest.mark.parametrize(
    ("model", "more", "trained_by", "drawn_by"),
    [
        ({}, [], "sampler gibbs", "sampler gibbs"),
        ({}, ["sampler=exact", "generation.sampler=dimod"], "sampler exact", "sampler dimod"),
        (CIRCUIT, [], "executor statevector", "executor statevector"),
        (CIRCUIT, ["model.circuit.arm=perceptron"], "networks alone", "networks alone"),
        (
            DISCRETE,
            [*COUPLED, "generation.sampler=exact"],
            "executor statevector, sampler gibbs",
            "executor statevector, sampler exact",
        ),
        (GAME, ["executor=aer"], "executor aer", "executor aer"),
    ],
)
def test_backends_in_titles(model, more, trained_by, drawn_by):
    config = load_config({"model": model}, more)
    assert (config.trained_by, config.drawn_by) == (trained_by, drawn_by)


def test_another_kind_of_model_forgets_the_backends_of_the_one_before():
    keys = {"data": {"binarize": "fixed"}, "model": {"kind": "vqvae", "network": {"hidden": [5]}}, "executor": {"name": "aer"}}
    same, other = (load_config(keys, model=kind) for kind in ("vqvae", "vqgan"))
    assert (same.executor.name, same.model.network.hidden) == ("aer", [5])
    assert (other.executor.name, other.model.kind, other.data.binarize) == ("statevector", "vqgan", "fixed")
    assert other.model.network.hidden == load_config(None).model.network.hidden
    keys = {"sampler": {"name": "exact"}, "generation": {"sampler": {"name": "dimod"}}}
    same, other = (load_config(keys, model=kind) for kind in ("qvae", "vqvae"))
    assert (same.sampler.name, same.generation.sampler.name) == ("exact", "dimod")
    assert (other.sampler.name, other.generation.sampler) == ("gibbs", None)
    with pytest.raises(ConfigError, match="there is no model of kind 'qvaee': did you mean 'qvae'"):
        load_config(keys, model="qvaee")


def test_aliases_stand_for_so_many_values_and_no_more(monkeypatch, tmp_path):
    """A list of two is three values."""
    monkeypatch.setattr(load, "_MOST_REPEATED", 6)
    for count, is_taken in ((2, True), (3, False)):
        (tmp_path / "a.yaml").write_text(f"sampler: {{options: {{a: &x [1, 2], b: [{', '.join(['*x'] * count)}]}}}}\n")
        if is_taken:
            assert load_config(tmp_path / "a.yaml").sampler.options == {"a": [1, 2], "b": [[1, 2]] * 2}
        else:
            with pytest.raises(ConfigError, match=r"aliases \(\*name\) stand for more than 6 values; write them out"):
                load_config(tmp_path / "a.yaml")
