"""What whoever says nothing gets, where no shipped configuration spells it out: a default that changes, changes runs."""

import inspect
from typing import Annotated, get_args

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from qvae.circuits.gradients import GRADIENTS
from qvae.config.load import load_config
from qvae.config.schema import Config, ModelConfig
from qvae.models.relaxation import Gumbel, OverlappingExponentials, SpikeAndExponential
from qvae.training.optimizers import QNSPSA, SPSA, QuantumNaturalGradient, Rotosolve

CIRCUIT = {
    "qubits": 10, "encoding": "ry", "ansatz": "brickwork", "layers": 3, "reuploading": False, "angles": "tanh",
    "initial_weights": 0.1, "layerwise": 0.0, "measured": "z", "arm": "quantum",
}  # fmt: skip
LATENT = {"graph": "rbm", "sizes": [32, 32], "edges": [], "gamma": 0.0, "train_gamma": False, "label_units": None}
GAME = {
    "autoencoder": None, "latents": 16, "autoencoder_share": 0.4, "kl_weight": 0.3, "noise": 10, "temperature": 1.0,
    "ancillas": 1, "conditional": None,
}  # fmt: skip
CRITIC = {
    "hidden": [256, 256], "loss": "wasserstein", "penalty": "gradient", "penalty_weight": 1.0, "steps": 1, "weight": 10.0,
}  # fmt: skip
HELD = CRITIC | {"loss": "nonsaturating", "penalty": "r1", "penalty_weight": 3.0}
OF_GAME = CIRCUIT | {"qubits": 8, "ansatz": "strongly_entangling", "measured": "zz"}
OF_PATCH = CIRCUIT | {"qubits": 5, "ansatz": "strongly_entangling", "layers": 6}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, {}),
        ({"kind": "vqvae"}, {"kind": "vqvae", "variant": "variational", "circuit": CIRCUIT}),
        (
            {"kind": "vqvae", "variant": "discrete"},
            {
                "kind": "vqvae", "variant": "discrete", "circuit": CIRCUIT,
                "discrete": {"prior": "factorized", "gradient": "score", "draws": 4},
                "latent": LATENT | {"graph": "edges", "sizes": [10]},
            },
        ),
        ({"kind": "vqvae", "critic": {}}, {"kind": "vqvae", "variant": "variational", "circuit": CIRCUIT, "critic": CRITIC}),
        ({"kind": "vqgan"}, {"kind": "vqgan", "generator": "latent", "circuit": OF_GAME, "gan": GAME, "critic": HELD}),
        (
            {"kind": "vqgan", "generator": "patch"},
            {"kind": "vqgan", "generator": "patch", "circuit": OF_PATCH, "gan": GAME, "critic": HELD, "likelihood": "gaussian"},
        ),
        (
            {"kind": "vqgan", "critic": {"penalty": "gradient", "loss": "wasserstein"}},
            {"kind": "vqgan", "generator": "latent", "circuit": OF_GAME, "gan": GAME, "critic": CRITIC},
        ),
    ],
)  # fmt: skip
def test_sections_of_a_model(said, expected):
    assert ModelConfig(**said).model_dump() == load_config("digits").model.model_dump() | expected


def defaults(function):
    options = inspect.signature(function).parameters.values()
    return {option.name: option.default for option in options if option.default is not option.empty}


def test_options_of_optimizers_gradients_and_relaxations():
    assert {name: defaults(kind) for name, kind in GRADIENTS.items()} == {
        "parameter-shift": {},
        "stochastic-shift": {"repetitions": 1, "seed": None},
        "shot-budget": {"shots": 10_000, "memory": 0.9},
        "hadamard": {},
        "spsa": {"repetitions": 1, "step": 0.1, "seed": None},
        "shadows": {"copies": 1000, "seed": None},
    }
    assert defaults(QuantumNaturalGradient) == {
        "lr": 0.05, "metric": "full", "damping": 1e-3, "momentum": 0.0, "rows": 8, "solver": "cholesky", "source": "auto",
        "classical_lr": 1e-3,
    }  # fmt: skip
    assert defaults(SPSA) == {"lr": 0.1, "step": 0.1, "stability": 0.0, "blocking": None, "seed": None}
    assert defaults(QNSPSA) == {
        "lr": 0.01, "step": 0.01, "damping": 1e-3, "blocking": None, "rows": 8, "classical_lr": 1e-3, "seed": None,
    }  # fmt: skip
    assert defaults(Rotosolve) == {"angles": None, "blocking": None}
    assert [defaults(kind) for kind in (Gumbel, OverlappingExponentials, SpikeAndExponential)] == [
        {"temperature": 0.5}, {"beta": 8.0}, {"beta": 8.0},
    ]  # fmt: skip


VQVAE, DISCRETE = {"kind": "vqvae"}, {"kind": "vqvae", "variant": "discrete"}
VQGAN, PATCH = {"kind": "vqgan"}, {"kind": "vqgan", "generator": "patch"}


@pytest.mark.parametrize(
    ("key", "value", "right", "wrong"),
    [
        ("variant", "deterministic", VQVAE, [{}, VQGAN]),
        ("circuit", {"layers": 2}, VQVAE, [{}]),
        ("discrete", {"draws": 2}, DISCRETE, [{}, VQVAE, VQGAN]),
        ("latent", {"graph": "complete", "sizes": [5]}, {}, [VQVAE, VQGAN]),
        ("posterior", {"levels": 2}, {}, [VQVAE, DISCRETE, VQGAN]),
        ("relaxation", {"temperature": 0.3}, {}, [VQVAE, DISCRETE, VQGAN]),
        ("generator", "latent", VQGAN, [{}, VQVAE]),
        ("gan", {"noise": 3}, VQGAN, [{}, VQVAE]),
        ("critic", {"loss": "wasserstein"}, VQVAE, [{}, DISCRETE]),
        ("critic.steps", 2, VQGAN, [VQVAE]),
        ("critic.weight", 2.0, VQVAE, [VQGAN, PATCH]),
        ("gan.ancillas", 2, PATCH, [VQGAN]),
        ("gan.latents", 3, VQGAN, [PATCH]),
        ("gan.autoencoder", "a run", VQGAN, [PATCH]),
        ("likelihood", "bernoulli", VQGAN, [PATCH]),
        ("circuit.reuploading", True, VQVAE, [VQGAN, PATCH]),
        ("circuit.layerwise", 0.5, VQVAE, [VQGAN, PATCH]),
        ("circuit.angles", "linear", VQVAE, [VQGAN, PATCH]),
        ("circuit.measured", "zz", VQGAN, [PATCH]),
        ("circuit.arm", "gaussian", VQGAN, [PATCH]),
    ],
)
def test_keys_of_other_kinds_are_refused_and_those_of_a_kind_taken(key, value, right, wrong):
    section, _, name = key.partition(".")
    said = {section: {name: value} if name else value}
    ModelConfig(**right, **said)
    for kind in wrong:
        with pytest.raises(ValidationError, match=f"{key}.* is set, but isn't of a model of kind {kind.get('kind', 'qvae')}"):
            ModelConfig(**kind, **said)


def field_of(key):
    """The type of a key with its limits, without what other keys have to say of it."""
    section = Config
    for name in key.split("."):
        field = section.model_fields[name]
        kinds = (field.annotation, *get_args(field.annotation))
        section = next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
    return TypeAdapter(Annotated[field.annotation, Field(), *field.metadata])


RATES = ("learning_rate", "prior_learning_rate", "circuit_learning_rate", "critic_learning_rate")
LIMITS = {
    "model.posterior.levels model.circuit.qubits model.circuit.layers model.gan.latents model.gan.noise model.gan.ancillas "
    "model.critic.steps training.epochs training.chains training.early_stopping evaluation.importance_samples "
    "evaluation.num_test": ([1], [0, 1.5]),
    "model.latent.sizes model.network.hidden model.network.decoder_hidden model.critic.hidden": ([[1, 2]], [[0], [1, 0]]),
    "model.latent.gamma": ([0, 1.5, [0, 1.5]], [-0.1, [1.5, -0.1]]),
    "model.relaxation.temperature model.gan.temperature training.corruption_amount training.checkpoint_seconds "
    "training.max_seconds training.clip_norm " + " ".join(f"training.{rate}" for rate in RATES): ([1e-9, 50.0], [0.0]),
    "model.relaxation.beta": ([1e-9, 100], [0, 100.1]),
    "model.circuit.initial_weights model.gan.kl_weight model.critic.penalty_weight model.critic.weight training.weight_decay "
    "training.warmup_steps evaluation.num_generated evaluation.tsne_every": ([0, 1000], [-1]),
    "model.circuit.layerwise training.kl_warmup training.kl_start": ([0, 0.5, 1], [-0.1, 1.1]),
    "model.discrete.draws training.batch_size evaluation.log_z_chains evaluation.log_z_temperatures": ([2], [1]),
    "model.gan.autoencoder_share": ([1e-9, 0.999], [0, 1]),
    "training.validation": ([0, 0.5], [-0.1, 0.51]),
    "training.average_decay": ([0, 0.9999], [-0.1, 1]),
    "training.seed evaluation.seed": ([0, 2**63 - 1], [-1, 2**63]),
}


@pytest.mark.parametrize("keys", LIMITS)
def test_numbers_may_be_as_large_as_they_make_sense(keys):
    for key in keys.split():
        taken, refused = LIMITS[keys]
        for value in taken:
            assert field_of(key).validate_python(value) == value
        for value in refused:
            with pytest.raises(ValidationError):
                field_of(key).validate_python(value)
