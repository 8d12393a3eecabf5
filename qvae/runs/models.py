"""Models from their configurations, and what the files of a run keep of them beside configuration and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from qvae.checkpoint import load_checkpoint
from qvae.circuits.executor import Executor
from qvae.config.schema import ModelConfig
from qvae.data.classes import classes_of
from qvae.data.dataset import Dataset, same_shape
from qvae.errors import ConfigError, DataError, RunError
from qvae.ising.graphs import Graph
from qvae.models.autoencoder import Autoencoder
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.qvae import QVAE
from qvae.models.vqgan import VQGAN
from qvae.models.vqvae import VQVAE
from qvae.runs.folder import MODEL, existing_run, run_config
from qvae.runs.old_checkpoints import upgraded
from qvae.runs.states import is_edges, shape_of


@dataclass(frozen=True)
class Held:
    """What a model follows from beside its configuration, so that a run stands alone.

    Attributes:
        classes: labels that generator and critic, or label units, are told.
        autoencoder: the ``model`` section of the run that its autoencoder was taken from; None of one that it trains itself.
        edges: of a native graph in there, (m, 2).
    """

    classes: tuple[int, ...] = ()
    autoencoder: ModelConfig | None = None
    edges: Tensor | None = None

    def to_state(self) -> dict[str, Any]:
        """What there is, as a run's files keep it."""
        config = None if self.autoencoder is None else self.autoencoder.model_dump(mode="json")
        found = {"classes": list(self.classes) or None, "autoencoder": config, "autoencoder_edges": self.edges}
        return {key: value for key, value in found.items() if value is not None}

    @classmethod
    def of_state(cls, state: Mapping[str, Any], file: Path) -> Held:
        """What a run's file has kept.

        Raises:
            RunError: it is damaged.
        """
        classes, kept, edges = state.get("classes", []), state.get("autoencoder"), state.get("autoencoder_edges")
        try:
            autoencoder = None if kept is None else ModelConfig.model_validate(kept)
        except ValidationError:
            autoencoder = ModelConfig(kind="vqgan")
        is_fine = autoencoder is None or autoencoder.kind != "vqgan"  # which could hold another one, without end
        is_fine = is_fine and (edges is None or is_edges(edges))
        if not is_fine or not isinstance(classes, list) or not all(type(label) is int for label in classes):
            raise RunError(f"{file} doesn't say what its generator and autoencoder are; restore it from a copy, or train anew.")
        return cls(tuple(classes), autoencoder, edges)


def make_model(
    config: ModelConfig,
    statistics: Statistics,
    edges: Tensor | None = None,
    executor: Executor | None = None,
    held: Held = Held(),
) -> Autoencoder:
    """A model that has learnt nothing yet.

    Args:
        config: the ``model`` section.
        statistics: of the training data.
        edges: of a native graph, (m, 2).
        executor: of a circuit; None is ``statevector``, which is exact.
        held: what a vqgan, or a model with label units, follows from, too.

    Raises:
        ConfigError: the parts of the model don't fit together.
        CircuitError, ExecutorError: the circuit can't be had, or not run.
    """
    graph = None if edges is None else Graph(config.latent.num_spins, edges)
    try:
        if config.kind == "vqgan":
            inner = None if held.autoencoder is None else make_model(held.autoencoder, statistics, held.edges)
            return VQGAN.from_config(config, statistics, held.classes, inner, executor)
        if config.kind == "vqvae":
            return VQVAE.from_config(config, statistics, graph, executor)
        return QVAE.from_config(config, statistics, graph, held.classes)
    except ValueError as error:
        raise ConfigError(f"model: {error}.") from error


def held_by(config: ModelConfig, dataset: Dataset) -> tuple[Held, dict[str, Tensor]]:
    """What a new model is made with, and the weights of the autoencoder that its configuration names, if it names one.

    Raises:
        DataError: classes are asked for, and the data have none, or too many.
        ConfigError, RunError: there is no such run, or its autoencoder is one of other data.
    """
    classes = _classes(config, dataset)
    if config.gan is None or config.gan.autoencoder is None:
        return Held(classes), {}
    folder = existing_run(config.gan.autoencoder)
    inner = run_config(folder).model
    if inner.latent.label_units is not None:
        raise ConfigError(f"model.gan.autoencoder names a {inner.kind} with label units; name one without, or leave it out.")
    if inner.kind == "vqgan" or inner.likelihood != config.likelihood:
        raise ConfigError(
            f"model.gan.autoencoder names a {inner.kind} with likelihood {inner.likelihood}; it must be a qvae or vqvae with "
            f"model.likelihood, {config.likelihood}."
        )
    state = load_checkpoint(folder / MODEL)
    shape, _, edges = shape_of(state, folder / MODEL)
    if not same_shape(shape, dataset.shape):
        raise DataError(
            f"{dataset.name} has rows of shape {tuple(dataset.shape)}, but the autoencoder in {folder} was trained on {shape}; "
            "name another model.gan.autoencoder."
        )
    parts = ("encoder.", "posterior.", "decoder.", "likelihood.")
    weights = {name: value for name, value in upgraded(state, inner.latent)["model"].items() if name.startswith(parts)}
    return Held(classes, inner, edges), weights


def _classes(config: ModelConfig, dataset: Dataset) -> tuple[int, ...]:
    """Labels that a new model is told; none where its configuration wants none, or leaves it to data that have none."""
    asks: bool | None = config.latent.label_units is not None
    remedy = "leave model.latent.label_units out"
    if config.gan is not None:
        asks, remedy = config.gan.conditional, "set model.gan.conditional to false"
    classes = () if asks is False else classes_of(dataset, remedy)
    if asks and not classes:
        raise DataError(f"{dataset.name} has no labels of its training rows; {remedy}.")
    return classes
