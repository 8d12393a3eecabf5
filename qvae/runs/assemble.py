"""All parts of a run from its configuration, each made once, on one way down: data, backends, model, trainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from qvae.checkpoint import save_checkpoint
from qvae.circuits.executor import Executor
from qvae.circuits.gradients import load_gradient
from qvae.config.schema import MEMORY, Config, ModelConfig, SamplerConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.data.dataset import Dataset
from qvae.data.fingerprint import fingerprint
from qvae.data.load import load_data
from qvae.data.strings import dataset_from_strings
from qvae.errors import ConfigError, DataError, nearest
from qvae.evaluation.inception import check_inception
from qvae.evaluation.strings import require_strings
from qvae.evaluation.tsne import latent_film
from qvae.models.autoencoder import Autoencoder
from qvae.models.likelihoods import likelihood_class
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.prior import BoltzmannPrior
from qvae.models.vqgan import VQGAN
from qvae.models.vqvae import VQVAE
from qvae.progress import Progress
from qvae.runs.backends import generation_sampler, make_executor, make_sampler, own_seed
from qvae.runs.folder import CHECKPOINT, METRICS, MODEL, TENSORBOARD
from qvae.runs.game import make_game
from qvae.runs.models import Held, held_by, make_model
from qvae.runs.sizes import require_sizes
from qvae.sampling.abilities import Metered, native_graph
from qvae.sampling.closing import close
from qvae.sampling.sampler import LatentSampler
from qvae.training import ranks
from qvae.training.metrics import Metrics
from qvae.training.objective import Objective
from qvae.training.objectives.boltzmann import BoltzmannObjective
from qvae.training.objectives.gaussian import gaussian_surrogate, reconstruction_surrogate
from qvae.training.objectives.labelled import boltzmann_objective
from qvae.training.objectives.measured import measured_surrogate
from qvae.training.objectives.sharing import check
from qvae.training.objectives.sharpened import SharpenedObjective
from qvae.training.objectives.surrogate import surrogate
from qvae.training.objectives.variational import PositivePhase, VariationalObjective
from qvae.training.shared_norm import share_batch_norm
from qvae.training.trainer import Trainer

Backend = TypeVar("Backend", LatentSampler, Executor)

PICTURED = 2000
"""Samples of the prior at the end of a run that is evaluated without any: those of its pictures."""


@dataclass
class Parts:
    """What a training is made of.

    Attributes:
        dataset: the data.
        objective: holds the model and the backends of the training.
        trainer: takes the objective through the data.
        generating: the sampler for generation where it is another than that of the negative phase; else None.
    """

    dataset: Dataset
    objective: Objective
    trainer: Trainer
    generating: LatentSampler | None

    @property
    def sampler(self) -> LatentSampler | None:
        """That of the negative phase, of a model with a Boltzmann prior."""
        return self.objective.sampler if isinstance(self.objective, BoltzmannObjective) else None

    def close(self, warn: Callable[[str], None]) -> None:
        """Let all backends go; one that can't costs a warning."""
        for part in (self.objective, self.generating):
            if part is not None:
                close(part, warn)


def assemble(
    folder: Path,
    config: Config,
    progress: Progress | None = None,
    data: Any = None,
    edges: Tensor | None = None,
    is_rehearsal: bool = False,
    held: Held | None = None,
) -> Parts:
    """Everything that ``config`` says; whatever doesn't fit is found here, before anything is written.

    Args:
        folder: of the run, where samplers keep what they need again; it needn't exist yet.
        config: of the run.
        progress: watches the training.
        data: from memory, as in :func:`make_dataset`.
        edges: of a native graph, (m, 2), where the run has one already; else the sampler's hardware gives it.
        is_rehearsal: only to be planned with.
        held: what a vqgan follows from, where the run has it already.

    Raises:
        ConfigError, DataError, SamplerError, ExecutorError, RunError: something can't be had, or doesn't fit to something else.
    """
    dataset = make_dataset(config, data)
    require_strings(config.evaluation, dataset)
    require_sizes(config, math.prod(dataset.shape), dataset.levels if dataset.kind in ("categories", "strings") else None)
    with ExitStack() as made:  # backends, which are closed where something doesn't fit
        parts = _assembled(made, folder, config, progress, dataset, edges, is_rehearsal, held)
        made.pop_all()
    return parts


def _assembled(
    made: ExitStack,
    folder: Path,
    config: Config,
    progress: Progress | None,
    dataset: Dataset,
    edges: Tensor | None,
    is_rehearsal: bool,
    held: Held | None,
) -> Parts:
    """The parts; each backend is left to ``made`` as soon as there is one."""

    def kept(backend: Backend) -> Backend:
        made.callback(close, backend)
        return backend

    torch.manual_seed(config.training.seed)
    sampler = None
    if config.model.has_boltzmann_prior:
        sampler = kept(make_sampler(config.sampler, config, folder, purpose=1))
    if isinstance(sampler, Metered):
        sampler.is_rehearsal = is_rehearsal
    latent = config.model.latent
    if latent.graph == "native" and edges is None and sampler is not None:
        edges = ranks.first_does(lambda: native_graph(sampler, latent.num_spins).edges)
    executor = None
    if config.model.has_circuit:
        executor = kept(make_executor(config, folder, purpose=4))
        _require_able(executor, config.model)
    weights: dict[str, Tensor] = {}
    if held is None:
        held, weights = held_by(config.model, dataset)
    model = make_model(config.model, Statistics.of(dataset), edges, executor, held)
    model.load_state_dict(weights, strict=False)
    if ranks.count() > 1:
        share_batch_norm(model)
    _choose_gradient(model, config)
    if config.evaluation.inception_weights is not None:
        check_inception(config.evaluation.inception_weights)
    objective, generating = _objective(config, folder, model, dataset, sampler, kept, is_rehearsal)
    events = folder / TENSORBOARD if config.training.tensorboard else None
    metrics = Metrics(folder / METRICS, progress, events) if ranks.is_first() else Metrics()
    observer = latent_film(dataset, config.evaluation, objective.device) if model.compresses else None
    known = fingerprint(dataset)
    ranks.require_same(known, "data set")
    save = partial(save_run, folder, config, known, dataset.class_names, held)
    trainer = Trainer(objective, dataset, config.training, metrics, save, observer)
    return Parts(dataset, objective, trainer, generating)


def _choose_gradient(model: Autoencoder, config: Config) -> None:
    """Have the circuit of a model take the gradients that are named."""
    chosen = config.training.circuit_gradient
    if chosen is not None and model.circuit is not None:
        gradient = load_gradient(chosen.name, chosen.options, ranks.seed(own_seed(config, 7)))
        gradient.check(model.circuit.circuit)
        model.circuit.gradient = gradient


def _require_able(executor: Executor, config: ModelConfig) -> None:
    """Raise a ConfigError unless an executor can train a circuit: its size, and what the gradient needs of it."""
    assert config.circuit is not None
    reason = executor.capabilities.excludes(config.circuit.qubits)
    if reason is not None:
        what = f"model.circuit has {config.circuit.qubits} qubits, but of executor {executor.label!r}: {reason}"
        raise ConfigError(f"{what}; take fewer, or another executor.")
    by_probabilities = config.discrete is not None or config.generator == "patch"
    if by_probabilities and not (executor.capabilities.exact and executor.capabilities.differentiable):
        what, then = ("patches", "generate") if config.discrete is None else ("a discrete vqvae", "reconstruct")
        raise ConfigError(
            f"the training of {what} needs exact probabilities, which executor {executor.label!r} doesn't know; "
            f"train with statevector, and then {then} with --executor {executor.label}."
        )


def _objective(
    config: Config,
    folder: Path,
    model: Autoencoder,
    dataset: Dataset,
    sampler: LatentSampler | None,
    kept: Callable[[LatentSampler], LatentSampler],
    is_rehearsal: bool,
) -> tuple[Objective, LatentSampler | None]:
    """The objective of a model, and another sampler for generation, if one is named."""
    prior, training, prepare = model.prior, config.training, dataset.prepare_in_training
    if isinstance(model, VQGAN):
        return make_game(config, model, dataset), None
    if sampler is None:
        of_variant = reconstruction_surrogate if prior is None else gaussian_surrogate
        if config.model.critic is not None:
            assert isinstance(model, VQVAE)
            return SharpenedObjective(model, prepare, training, of_variant, config.model.critic), None
        return VariationalObjective(model, prepare, training, of_variant), None
    assert isinstance(prior, BoltzmannPrior)
    fallback = None
    if training.fallback is not None:
        fallback = kept(make_sampler(SamplerConfig(name=training.fallback), config, folder, purpose=3))
    generating = None
    if config.generation.sampler is not None:
        generating = kept(generation_sampler(config, folder))
        if isinstance(generating, Metered):
            generating.is_rehearsal = is_rehearsal
        check(generating, prior.frozen())
    objective = boltzmann_objective(model, prepare, training, sampler, fallback, positive_phase(config.model))
    if generating is None and isinstance(objective.sampler, Metered) and ranks.is_first():
        objective.sampler.keep_back(prior.frozen(), num_prior_samples(config))
    return objective, generating


def positive_phase(config: ModelConfig) -> PositivePhase:
    """The parts of the loss of a model with latent bits."""
    if config.discrete is None:
        return surrogate
    return partial(measured_surrogate, draws=config.discrete.draws if config.discrete.gradient == "score" else None)


def num_prior_samples(config: Config) -> int:
    """How many samples of the prior are drawn at the end of a run."""
    return config.evaluation.num_generated or PICTURED


def make_dataset(config: Config, data: Any = None) -> Dataset:
    """The data of a run: those named by its configuration, or ``data`` from memory.

    Args:
        config: of the run.
        data: a :class:`Dataset`, what :func:`dataset_from_arrays` takes as training data, or :func:`dataset_from_strings`, or a
            dict of its arguments, which has a ``train``; one that hasn't holds the columns of a table.

    Raises:
        DataError: there are none, they don't fit together, or the run's data were in memory and aren't given.
    """
    if data is None and config.data.name == MEMORY:
        remedy = "give them again, as in load_run(path, data=...) or resume(path, data=...)"
        raise DataError(f"the data of this run came from memory and are kept nowhere; {remedy}.")
    kind = likelihood_class(config.model.likelihood).kind
    if data is None:
        return load_data(config.data, kind)
    if not isinstance(data, Dataset):
        arguments = dict(data) if isinstance(data, Mapping) and "train" in data else {"train": data}
        make: Callable[..., Dataset] = dataset_from_strings if kind == "strings" else dataset_from_arrays
        known = signature(make).parameters
        odd = next((name for name in arguments if name not in known), None)
        if odd is not None:
            raise DataError(f"data has the key {odd!r} beside 'train'; {nearest(str(odd), known)}.")
        defaults = {} if kind == "strings" else {"binarize": config.data.binarization, "kind": kind}
        return make(**({"name": MEMORY} | defaults | arguments))
    if data.kind != kind:
        takes = f"model.likelihood is {config.model.likelihood}, which takes {kind}"
        raise DataError(f"{data.name} holds {data.kind}, but {takes}; choose another likelihood.")
    return data


def save_run(
    folder: Path, config: Config, data: str, class_names: tuple[str, ...], held: Held, trainer: Trainer
) -> None:
    """Write the checkpoint, to resume from, and the model, to use; each replaces the last one at once.

    Of several processes the first one writes, and all of them are asked for their states.

    Args:
        folder: of the run.
        config: of the run.
        data: the fingerprint of what it is trained on.
        class_names: what the data's labels were called, if they had names.
        held: what a vqgan follows from.
        trainer: with the state.
    """
    model: Any = trainer.model
    alphabet = model.likelihood.statistics.alphabet
    identity = {
        "config": config.model.model_dump(mode="json"),
        "image_shape": list(model.shape),
        "levels": model.likelihood.statistics.levels,
        "data": data,
        **held.to_state(),
    }
    if config.model.latent.graph == "native":
        identity["edges"] = model.prior.graph.edges
    if class_names:
        identity["class_names"] = list(class_names)
    if alphabet is not None:
        identity["alphabet"] = alphabet.characters
    state = trainer.state_dict()
    if not ranks.is_first():
        return
    save_checkpoint(folder / CHECKPOINT, identity | state)
    save_checkpoint(folder / MODEL, identity | {"model": trainer.averaged_model().state_dict(), "step": trainer.step})
