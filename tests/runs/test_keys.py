"""Every key of a configuration arrives at the part that it is for, and every part of a run has a seed of its own."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import qvae
from qvae.config.load import load_config
from qvae.config.schema import Config
from qvae.evaluation import evaluate
from qvae.models.gaussian import NormalPrior
from qvae.runs.assemble import assemble, num_prior_samples
from qvae.runs.backends import generation_executor, generation_sampler, make_executor, make_sampler
from qvae.runs.run import Run
from qvae.training.objective import Clock
from qvae.training.optimizers.natural_gradient import QuantumNaturalGradient

ROWS = (np.random.default_rng(0).random((80, 3, 4)) < 0.4).astype(np.float32)
CONV = ["model.network.kind=conv", "model.network.hidden=[4]"]
SMALL = {"training": {"batch_size": 10}, "evaluation": {"tsne_every": 0}}
QVAE = {"model": {"latent": {"sizes": [2, 3]}, "network": {"hidden": [8]}}} | SMALL
CIRCUIT = {"model": {"kind": "vqvae", "circuit": {"qubits": 2, "layers": 1}, "network": {"hidden": [8]}}} | SMALL
GAN = {"model": CIRCUIT["model"] | {"kind": "vqgan"}} | SMALL
PATCH = {"model": GAN["model"] | {"generator": "patch", "circuit": {"qubits": 3, "layers": 1}}} | SMALL
SHARP = {"model": CIRCUIT["model"] | {"critic": {"hidden": [8]}}} | SMALL
DISCRETE = {"model": CIRCUIT["model"] | {"variant": "discrete"}} | SMALL


def parts_of(base, *overrides, data=ROWS, folder=None):
    return assemble(folder, load_config(base, overrides), data=data)


def rates(parts):
    """Of networks, circuit and prior at half of the training."""
    parts.objective._set_learning_rates(Clock(10_000, 1, 0.5))
    return [group["lr"] for group in parts.objective.optimizer.param_groups]


def call(parts):
    """The sizes that the sampler is asked for in a step."""
    asked = []
    parts.sampler.moments = lambda hamiltonian, count: asked.append(count) or qvae.load_sampler("exact").moments(hamiltonian, 1)
    parts.objective.step(parts.trainer.rows[:10], Clock(0, 1, 0.0))
    return asked


def draws(parts):
    """Rows that the decoder sees in the positive phase of ten."""
    seen = []
    parts.objective.model.decoder.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    parts.objective._terms(parts.objective.prepare(parts.trainer.rows[:10], torch.Generator()), torch.Generator())
    return seen


def block(parts):
    model = parts.objective.model
    return model.posterior.block if hasattr(model.posterior, "block") else model.decoder[0]


def gates(parts):
    return [gate.name for gate in block(parts).circuit.gates]


KEYS = {  # key: configuration, value, what to read of the parts, and what it must be
    "model.kind": (QVAE, "qvae", lambda p: type(p.objective.model).__name__, "QVAE"),
    "model.variant": (CIRCUIT, "deterministic", lambda p: p.objective.model.prior, None),
    "model.likelihood": (QVAE, "poisson", lambda p: p.objective.model.likelihood.name, "poisson"),
    "model.variance": (QVAE, "features", lambda p: p.objective.model.likelihood.variance.shape, (12,)),
    "model.latent.graph": (QVAE, "complete", lambda p: p.objective.prior.graph.num_edges, 10),
    "model.latent.sizes": (QVAE, "[4,1]", lambda p: p.objective.prior.graph.bipartite_sizes, (4, 1)),
    "model.latent.edges": (QVAE, "[[0,2],[1,4]]", lambda p: p.objective.prior.graph.edges.tolist(), [[0, 2], [1, 4]]),
    "model.latent.gamma": (QVAE, "[1,2,3,4,5]", lambda p: p.objective.prior.frozen().gamma.tolist(), [1, 2, 3, 4, 5]),
    "model.latent.train_gamma": (QVAE, "true", lambda p: p.objective.prior.log_gamma.requires_grad, True),
    "model.latent.sizes of measured bits": (DISCRETE, "[2,1]", lambda p: p.objective.prior.graph.bipartite_sizes, (2, 1)),
    "model.latent.gamma of measured bits": (DISCRETE, "[1,2]", lambda p: p.objective.prior.frozen().gamma.tolist(), [1, 2]),
    "model.latent.train_gamma of measured bits": (DISCRETE, "true", lambda p: p.objective.prior.log_gamma.requires_grad, True),
    "model.latent.label_units": (QVAE, "binary", lambda p: p.objective.model.labels.words.tolist(), [[0], [1]]),
    "model.posterior.levels": (QVAE, "3", lambda p: p.objective.model.posterior.level_sizes, [2, 2, 1]),
    "model.relaxation.kind": (QVAE, "overlapping", lambda p: p.objective.model.relaxation.beta, 8.0),
    "model.relaxation.temperature": (QVAE, "0.25", lambda p: p.objective.model.relaxation.temperature, 0.25),
    "model.relaxation.temperature of bits": (DISCRETE, "0.25", lambda p: p.objective.model.posterior.temperature, 0.25),
    "model.relaxation.beta": (QVAE, "3.5", lambda p: p.objective.model.relaxation.beta, 3.5),
    "model.network.kind": (QVAE, "conv", lambda p: type(p.objective.model.encoder.layers[1]).__name__, "Conv2d"),
    "model.network.hidden": (QVAE, "[9,7]", lambda p: [w.shape[0] for w in weights(p.objective.model.encoder)], [9, 7]),
    "model.network.decoder_hidden": (QVAE, "[6]", lambda p: [w.shape[0] for w in weights(p.objective.model.decoder)], [6, 12]),
    "model.network.batch_norm": (QVAE, "false", lambda p: len(list(p.objective.model.buffers())), 1),
    "model.network.activation": (QVAE, "tanh", lambda p: type(p.objective.model.encoder.layers[-1]).__name__, "Tanh"),
    "model.network.residual": (QVAE, "true", lambda p: type(p.objective.model.encoder.layers[-1]).__name__, "Skipped"),
    "model.circuit.qubits": (CIRCUIT, "3", lambda p: block(p).circuit.num_qubits, 3),
    "model.circuit.encoding": (CIRCUIT, "rx", lambda p: gates(p)[:2], ["rx", "rx"]),
    "model.circuit.ansatz": (CIRCUIT, "matchgate", lambda p: gates(p)[2:], ["rz", "rz", "rxx", "ryy"]),
    "model.circuit.layers": (CIRCUIT, "3", lambda p: gates(p).count("rzz"), 2),  # of three brick layers one is empty
    "model.circuit.reuploading": (CIRCUIT, "true", lambda p: gates(p).count("rx"), 8),
    "model.circuit.angles": (CIRCUIT, "linear", lambda p: block(p).angles(torch.tensor([0.3])).item(), pytest.approx(0.3)),
    "model.circuit.initial_weights": (CIRCUIT, "0", lambda p: block(p).layer.weight.abs().max().item(), 0.0),
    "model.circuit.layerwise": (CIRCUIT, "0.5", lambda p: block(p).layerwise.part, 0.5),
    "model.circuit.measured": (CIRCUIT, "zz", lambda p: len(block(p).layer.observables), 3),
    "model.circuit.arm": (CIRCUIT, "frozen", lambda p: block(p).layer.weight.requires_grad, False),
    "model.discrete.prior": (DISCRETE, "uniform", lambda p: p.objective.prior.h.requires_grad, False),
    "model.discrete.gradient": (DISCRETE, "relaxed", draws, [10]),
    "model.discrete.draws": (DISCRETE, "3", draws, [30]),
    "model.generator": (GAN, "patch", lambda p: p.objective.model.compresses, False),
    "model.gan.ancillas": (PATCH, "2", lambda p: len(p.objective.model.prior.circuits), 6),
    "model.gan.latents": (GAN, "3", lambda p: p.objective.model.decoder.layers[0][0].in_features, 3),
    "model.gan.autoencoder_share": (GAN, "0.25", lambda p: p.objective.share, 0.25),
    "model.gan.kl_weight": (GAN, "0.125", lambda p: p.objective.first.positive.keywords, {"weight": 0.125}),
    "model.gan.noise": (GAN, "5", lambda p: p.objective.model.prior.draw_noise(2, None).shape, (2, 5)),
    "model.gan.temperature": (GAN, "1.5", lambda p: p.objective.model.prior.temperature, 1.5),
    "model.gan.conditional": (GAN, "false", lambda p: p.objective.model.prior.classes, ()),
    "model.critic.hidden": (GAN, "[9,7]", lambda p: [w.shape[0] for w in weights(p.objective.model.critic)], [9, 7, 1]),
    "model.critic.loss": (GAN, "wasserstein", lambda p: p.objective.game.critic.loss, "wasserstein"),
    "model.critic.penalty": (GAN, "gradient", lambda p: p.objective.game.critic.penalty, "gradient"),
    "model.critic.penalty_weight": (GAN, "0.5", lambda p: p.objective.game.critic.penalty_weight, 0.5),
    "model.critic.steps": (GAN, "3", lambda p: p.objective.game.critic.steps, 3),
    "model.critic.weight": (SHARP, "3", lambda p: p.objective.critic.weight, 3.0),
    "sampler.name": (QVAE, "exact", lambda p: p.sampler.name, "exact"),
    "sampler.options": (QVAE, "{sweeps: 7, seed: 99}", lambda p: (p.sampler.sweeps, p.sampler.seed), (7, 99)),
    "executor.name": (CIRCUIT, "qiskit", lambda p: p.objective.executor.name, "qiskit"),
    "executor.options": (CIRCUIT, "{shots: 77, seed: 99}", lambda p: (p.objective.executor.shots, p.objective.executor.seed),
                         (77, 99)),
    "generation.sampler": (QVAE, "{name: exact}", lambda p: p.generating.name, "exact"),
    "training.epochs": (QVAE, "7", lambda p: p.trainer.total_steps, 49),  # of 72 rows
    "training.max_seconds": (QVAE, "0.5", lambda p: p.trainer.config.max_seconds, 0.5),
    "training.batch_size": (QVAE, "24", lambda p: p.trainer.steps_per_epoch, 3),
    "training.validation": (QVAE, "0.25", lambda p: (len(p.trainer.held_out), len(p.trainer.rows)), (18, 54)),
    "training.early_stopping": (QVAE, "9", lambda p: p.trainer.stopping.patience, 9),
    "training.seed": (QVAE, "5", lambda p: p.objective.generator.initial_seed(), 5),
    "training.device": (QVAE, "cpu", lambda p: p.objective.device.type, "cpu"),
    "training.precision": (QVAE, "bfloat16", lambda p: p.objective.bf16, True),
    "training.learning_rate": (QVAE, "0.25", lambda p: rates(p), [0.125, 0.0015]),
    "training.prior_learning_rate": (QVAE, "0.25", lambda p: rates(p), [0.0015, 0.125]),
    "training.circuit_learning_rate": (CIRCUIT, "0.25", lambda p: rates(p), [0.0015, 0.125]),
    "training.weight_decay": (QVAE, "0.25", lambda p: [group["weight_decay"] for group in p.objective.optimizer.param_groups],
                              [0.25, 0.0]),
    "training.schedule": (QVAE, "constant", lambda p: rates(p), [0.003, 0.003]),
    "training.warmup_steps": (QVAE, "39999", lambda p: rates(p)[0], pytest.approx(0.0015 * 10_001 / 40_000)),
    "training.kl_warmup": (QVAE, "0.5", lambda p: (p.trainer.stopping.begins, weight_at(p, 0.25)), (0.5, 0.5)),
    "training.kl_start": (QVAE, "0.5", lambda p: (weight_at(p, 0.0), weight_at(p, 0.15), weight_at(p, 0.3)), (0.5, 0.75, 1.0)),
    "training.corruption": (QVAE, "dropped", lambda p: p.objective.corruption.damage, "dropped"),
    "training.corruption_amount": (QVAE, "0.5", lambda p: p.objective.corruption.amount, 0.5),
    "training.clip_norm": (QVAE, "0.125", lambda p: norm_of_a_step(p), pytest.approx(0.125, rel=1e-3)),
    "training.average_decay": (QVAE, "0", lambda p: follows(p), True),
    "training.prior_gradient": (QVAE, "exact", call, []),
    "training.chains": (QVAE, "13", call, [13]),
    "training.critic_learning_rate": (GAN, "0.25", lambda p: rate_of_critic(p.objective.game), 0.25),
    "training.optimizer.name": (CIRCUIT, "qng", lambda p: type(p.objective.circuit_optimizer), QuantumNaturalGradient),
    "training.optimizer.options": (QVAE, "{eps: 0.5}", lambda p: p.objective.optimizer.param_groups[0]["eps"], 0.5),
    "training.circuit_gradient.name": (CIRCUIT, "spsa", lambda p: type(block(p).layer.gradient).__name__, "SPSA"),
    "training.circuit_gradient.options": (CIRCUIT, "{step: 0.25}", lambda p: block(p).layer.gradient.step, 0.25),
    "training.fallback": (QVAE, "exact", lambda p: p.objective.fallback.name, "exact"),
    "training.checkpoint_seconds": (QVAE, "20", lambda p: saves_after(p, 30.0), True),
    "training.tensorboard": (QVAE, "true", lambda p: p.trainer.metrics._tensorboard.name, "tensorboard"),
    "evaluation.tsne_every": (QVAE, "3", lambda p: p.trainer.observer.every, 3),
}  # fmt: skip
BESIDE = {  # what must be said with a key
    "model.variance": ["model.likelihood=gaussian"],
    "model.latent.graph": ["model.latent.sizes=[5]"],
    "model.latent.edges": ["model.latent.graph=edges", "model.latent.sizes=[5]"],
    "model.latent.gamma": ["sampler.name=exact"],
    "model.latent.train_gamma": ["model.latent.gamma=1", "training.prior_gradient=exact", "sampler.name=exact"],
    "model.latent.sizes of measured bits": ["model.circuit.qubits=3", "model.discrete.prior=boltzmann"],
    "model.latent.gamma of measured bits": ["sampler.name=exact", "model.discrete.prior=boltzmann"],
    "model.latent.train_gamma of measured bits": ["model.discrete.prior=boltzmann", "model.latent.gamma=1",
                                                  "training.prior_gradient=exact", "sampler.name=exact"],
    "model.relaxation.beta": ["model.relaxation.kind=spike-exponential"],
    "model.network.kind": ["model.network.hidden=[4]"],
    "model.network.residual": ["model.network.hidden=[8,8]"],
    "model.circuit.reuploading": ["model.circuit.layers=4", "model.circuit.encoding=rx"],
    "model.relaxation.temperature of bits": ["model.discrete.gradient=relaxed"],
    "executor.options": ["executor.name=qiskit"],
    "training.circuit_gradient.options": ["training.circuit_gradient.name=spsa"],
    "training.corruption_amount": ["training.corruption=dropped"],
    "training.early_stopping": ["training.validation=0.1"],
    "training.prior_gradient": ["sampler.name=exact"],
}
NEED = {"executor.name": "qiskit_aer", "executor.options": "qiskit_aer", "training.tensorboard": "tensorboard"}


def weights(module):
    """Of its linear layers."""
    return [layer.weight for layer in module.modules() if isinstance(layer, torch.nn.Linear)]


def rate_of_critic(game):
    game._set_learning_rates(Clock(10_000, 1, 0.5))
    return game.critic_optimizer.param_groups[0]["lr"]


def weight_at(parts, progress):
    return parts.objective._schedules(Clock(0, 1, progress))["kl_weight"]


def norm_of_a_step(parts):
    """Of the networks' gradient, as the optimizer sees it."""
    parts.sampler.moments = qvae.load_sampler("exact").moments
    parts.objective.step(parts.trainer.rows[:10], Clock(0, 1, 0.0))
    return float(torch.stack([p.grad.square().sum() for p in parts.objective._networks.values()]).sum().sqrt())


def saves_after(parts, seconds):
    """Whether the state is saved so long after it was the last time."""
    parts.trainer._saved_at = time.perf_counter() - seconds
    return parts.trainer._judge(False).saves


def follows(parts):
    """Whether the average is the last weights."""
    with torch.no_grad():
        for parameter in parts.objective.parameters().values():
            parameter.add_(1.0)
    parts.trainer.average.update(1000)
    return all(map(torch.equal, parts.trainer.average.values, parts.objective.parameters().values()))


@pytest.mark.parametrize("key", KEYS)
def test_a_key_arrives(key, tmp_path):
    if key in NEED:
        pytest.importorskip(NEED[key])
    base, value, read, expected = KEYS[key]
    labelled = {"train": ROWS, "train_labels": np.arange(80) % 2}
    kinds = {"model.gan.conditional": labelled, "model.latent.label_units": labelled, "model.likelihood": 3 * ROWS}
    kinds |= dict.fromkeys(("model.generator", "model.gan.ancillas"), np.random.default_rng(2).random(ROWS.shape))
    kinds |= {"model.variance": ROWS + np.random.default_rng(1).normal(size=ROWS.shape)}
    parts = parts_of(base, *BESIDE.get(key, []), f"{key.split()[0]}={value}", data=kinds.get(key, ROWS), folder=tmp_path)
    assert read(parts) == expected
    if key not in ("model.kind", "training.device", "training.precision"):
        try:
            before = read(parts_of(base, *BESIDE.get(key, []), data=kinds.get(key, ROWS), folder=tmp_path))
        except Exception:  # where there is nothing of the kind by default
            return
        assert before != expected, "the value must be another than the default"


EVALUATION = {  # what an evaluation asks for, with everything at a value of its own
    "importance_samples": 3, "num_test": 6, "log_z_chains": 11, "log_z_temperatures": 13, "num_generated": 17,
    "probes": True, "seed": 19,
}  # fmt: skip


def test_an_evaluation_is_made_as_it_is_set(monkeypatch, tmp_path):
    parts = parts_of(QVAE, *(f"evaluation.{key}={value}" for key, value in EVALUATION.items()), folder=tmp_path)
    settings = load_config(QVAE, [f"evaluation.{key}={value}" for key, value in EVALUATION.items()]).evaluation
    given = {}

    def caught(name):
        function = getattr(evaluate, name)
        monkeypatch.setattr(evaluate, name, lambda *arguments: given.update({name: arguments}) or function(*arguments))

    for name in ("prior_log_partition", "evaluate_likelihood", "frechet_distances", "latent_use"):
        caught(name)
    samples = SimpleNamespace(codes=torch.zeros(17, 5), warning=None)
    model = parts.trainer.averaged_model()
    found = evaluate.evaluate_model(model, parts.dataset, settings, lambda count: samples).to_dict()
    assert given["prior_log_partition"][1:] == (11, 13, 19)
    _, rows, log_z, *rest = given["evaluate_likelihood"]
    assert (rows.shape, rest[:2]) == ((6, 12), [3, 19])
    assert (found["importance_samples"], found["num_test"], found["evaluation_seed"], found["log_z"]) == (3, 6, 19, log_z.value)
    assert given["frechet_distances"][2] == given["latent_use"][2] == settings
    counts = [num_prior_samples(load_config(QVAE, [f"evaluation.num_generated={number}"])) for number in (17, 0)]
    assert counts == [17, 2000]  # pictures need some


def keys_of(section, above=()):
    for name, field in section.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = next((kind for kind in kinds if isinstance(kind, type) and hasattr(kind, "model_fields")), None)
        if inner is None or (name == "sampler" and above):
            yield ".".join((*above, name))
        else:
            yield from keys_of(inner, (*above, name))


def test_every_key_is_in_a_table():
    """Those of the data have tests of their own, in tests/data_sets; files, runs and strings in tests/evaluation and here."""
    seen = {*KEYS, *(f"evaluation.{key}" for key in EVALUATION)}
    seen |= {"evaluation.inception_weights", "evaluation.check", "model.gan.autoencoder"}
    missing = [key for key in keys_of(Config) if key not in seen and not key.startswith("data.")]
    assert not missing, "give each a line in KEYS, so that it is seen to arrive"


# Seeds ----------------------------------------------------------------------------------------------------------------


def seeds_of(seed, folder):
    config = load_config(QVAE, [f"training.seed={seed}"])
    circuit = load_config(CIRCUIT, [f"training.seed={seed}", "executor.name=statevector"])
    measured = parts_of(CIRCUIT, f"training.seed={seed}", "training.circuit_gradient=spsa", folder=folder)
    more = ("training.fallback=gibbs", "generation.sampler={name: gibbs}")
    parts = parts_of(QVAE, f"training.seed={seed}", *more, folder=folder)
    return {
        "training": parts.objective.generator.initial_seed(),
        "negative phase": parts.sampler.seed,
        "fallback": parts.objective.fallback.seed,
        "generation": generation_sampler(config, folder).seed,
        "circuit": make_executor(circuit, folder, purpose=4).seed,
        "circuit of generation": generation_executor(circuit, folder).seed,
        "gradient": block(measured).layer.gradient.seed,
    }, parts


def test_every_part_has_a_seed_of_its_own_which_follows_that_of_the_run(tmp_path):
    (first, parts), (second, others) = (seeds_of(seed, tmp_path) for seed in (1, 2))
    assert len({*first.values(), *second.values()}) == 14
    assert parts.generating.seed == first["generation"]
    assert not torch.equal(parts.objective.prior.J, others.objective.prior.J)  # weights at the start, too
    (again, same) = seeds_of(1, tmp_path)
    assert (again, list(same.objective.prior.J)) == (first, list(parts.objective.prior.J))


def test_a_seed_that_is_given_is_taken(tmp_path):
    config = load_config(QVAE, ["sampler.options={seed: 42}"])
    assert make_sampler(config.sampler, config, tmp_path, purpose=1).seed == 42
    assert generation_sampler(config, tmp_path).seed == 42
    assert generation_sampler(config, tmp_path, seed=7).seed == 7
    assert generation_sampler(config, tmp_path, "exact", seed=7).seed == 7
    circuit = load_config(CIRCUIT)
    assert generation_executor(circuit, tmp_path, seed=7).seed == 7
    assert generation_executor(circuit, tmp_path, "statevector:seed=8").seed == 8


def test_codes_of_a_normal_prior_follow_the_seed_of_the_evaluation(tmp_path):
    model = parts_of(CIRCUIT, folder=tmp_path).trainer.averaged_model()
    assert isinstance(model.prior, NormalPrior)
    codes = {}
    for training, evaluation in ((0, 0), (1, 0), (0, 1)):
        config = load_config(CIRCUIT, [f"training.seed={training}", f"evaluation.seed={evaluation}"])
        codes[training, evaluation] = Run(tmp_path, config, model).prior_codes(5)
    assert torch.equal(codes[0, 0], codes[1, 0])
    assert not torch.equal(codes[0, 0], codes[0, 1])
    assert torch.equal(codes[0, 1], torch.randn(5, 2, generator=torch.Generator().manual_seed(1)))
