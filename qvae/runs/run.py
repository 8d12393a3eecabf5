"""A trained run, opened: its model, its data, its numbers, and samples of its prior."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.circuits.executor import Executor
from qvae.config.paths import settled
from qvae.config.schema import Config, ModelConfig, SamplerConfig
from qvae.data.dataset import Dataset, same_shape
from qvae.data.fingerprint import are_the_same, fingerprint
from qvae.errors import CircuitError, ConfigError, DataError, RunError, SamplerError
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.models.autoencoder import Autoencoder
from qvae.models.likelihoods import likelihood_class
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.prior import BoltzmannPrior, boltzmann_prior
from qvae.runs.assemble import make_dataset
from qvae.runs.backends import generation_executor, generation_sampler
from qvae.runs.folder import (
    CHECKPOINT,
    CONFIG,
    ENVIRONMENT,
    EVALUATION,
    MODEL,
    SPINS,
    existing_run,
    read_metrics,
    run_config,
)
from qvae.runs.models import Held, make_model
from qvae.runs.old_checkpoints import upgraded
from qvae.runs.records import Environment, Evaluated, read_record
from qvae.runs.sizes import require_sizes
from qvae.runs.states import alphabet_of, class_names_of, is_samples, require_told, shape_of
from qvae.sampling.closing import close
from qvae.sampling.sampler import LatentSampler
from qvae.training.devices import choose_device


@dataclass
class Run:
    """A run folder with its trained model.

    Attributes:
        path: the folder, which is made absolute.
        config: as resolved when the run was started.
        model: weights averaged over training, in evaluation mode, on the configured device; a circuit is run exactly, by
            ``statevector``, whatever it was trained on.
        fingerprint: of the data that it was trained on; None if an older version trained it.
        class_names: what the labels of its data were called, in the order of their numbers; empty if they had no names.
        samples_warning: why :meth:`prior_spins` may be wrong, once they are drawn; None if nothing is known to be.
    """

    path: Path
    config: Config
    model: Autoencoder
    fingerprint: str | None = field(default=None, repr=False)
    class_names: tuple[str, ...] = field(default=(), repr=False)
    samples_warning: str | None = field(default=None, repr=False)
    _prior_spins: Tensor | SamplerError | None = field(default=None, repr=False)
    _samples_fault: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.path = self.path.absolute()

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """What ``evaluation.json`` says; None before the first evaluation.

        Raises:
            RunError: it is damaged.
        """
        file = self.path / EVALUATION
        return read_record(file, Evaluated) if file.exists() else None

    @property
    def environment(self) -> dict[str, Any] | None:
        """What ``environment.json`` says; None where the run was shared without it.

        Raises:
            RunError: it is damaged.
        """
        file = self.path / ENVIRONMENT
        return read_record(file, Environment) if file.exists() else None

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One mapping per epoch, from ``metrics.jsonl``."""
        return read_metrics(self.path)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @cached_property
    def training_state(self) -> dict[str, Any]:
        """The state of the training at its end; empty where the run was shared without it.

        Raises:
            RunError: it is damaged.
        """
        file = self.path / CHECKPOINT
        state = load_checkpoint(file) if file.exists() else {}
        require_told(state, file)
        return state

    @cached_property
    def dataset(self) -> Dataset:
        """The data that the run was trained on.

        Raises:
            DataError: it isn't where it was, or it is no longer what it was.
        """
        dataset = make_dataset(self.config)
        require_same_data(dataset, self.model.shape, self.fingerprint, self.path)
        return dataset

    def sampler(self, name: str | None = None, seed: int | None = None) -> LatentSampler:
        """A fresh sampler for generation: the one named, ``generation.sampler``, or that of the negative phase."""
        return generation_sampler(self.config, self.path, name, seed)

    def executor(self, name: str | None = None, seed: int | None = None) -> Executor:
        """A fresh executor for generation: the one named, or that of the training."""
        return generation_executor(self.config, self.path, name, seed)

    def prior_codes(self, count: int, or_fewer: bool = False) -> Tensor:
        """Samples of the prior as the decoder takes them, (count, n): bits, as :meth:`prior_spins`, or real numbers.

        Raises:
            SamplerError: the sampler failed, now or before, or the model has no prior.
        """
        prior = self.model.require_prior()
        if isinstance(prior, BoltzmannPrior):
            return (1 + self.prior_spins(count, or_fewer).to(prior.h)) / 2
        return prior.draw(count, generator=torch.Generator(self.device).manual_seed(self.config.evaluation.seed))

    def prior_spins(self, count: int, or_fewer: bool = False) -> Tensor:
        """Samples of a Boltzmann prior by the sampler for generation, (count, n), -1 or +1; drawn once and kept: some cost.

        With ``or_fewer`` those that are there already will do.

        Raises:
            SamplerError: the sampler failed, now or before.
        """
        if self._prior_spins is None:
            self._prior_spins = self._saved_spins()
        kept = self._prior_spins
        if kept is None or (isinstance(kept, Tensor) and len(kept) < count and not or_fewer):
            self._prior_spins = kept = self._drawn_spins(count)
        if isinstance(kept, SamplerError):
            raise kept
        return kept[:count]

    def _drawn_spins(self, count: int) -> Tensor | SamplerError:
        """Fresh samples, which the folder keeps if it can be written to."""
        try:
            sampler = self.sampler()
        except SamplerError as error:
            return error
        try:
            samples = sampler.sample(self._hamiltonian, count)
        except SamplerError as error:
            return error
        finally:
            close(sampler)
        self.samples_warning = "; ".join(part.text for part in samples.advice) or None
        generator = torch.Generator(samples.spins.device).manual_seed(self.config.evaluation.seed)
        spins = samples.equal_weights(generator).spins
        content = {"spins": spins, "warning": self.samples_warning, "sampler": self._drawn_by}
        with contextlib.suppress(RunError):
            save_checkpoint(self.path / SPINS, self._coefficients() | content)
        if self._samples_fault is not None:
            self.samples_warning = "; ".join(text for text in (self._samples_fault, self.samples_warning) if text)
        return spins

    def _saved_spins(self) -> Tensor | None:
        """Samples of this very prior by this very sampler that the folder keeps; None where it has none, or damaged ones."""
        if not (self.path / SPINS).exists():
            return None
        try:
            saved = load_checkpoint(self.path / SPINS)
        except RunError:
            saved = {}
        coefficients = self._coefficients()
        if not is_samples(saved, coefficients):
            self._samples_fault = f"{SPINS} was damaged, so they were drawn again"
            return None
        is_of_this = all(torch.equal(saved[name], value.cpu()) for name, value in coefficients.items())
        if not is_of_this or saved.get("sampler", self._drawn_by) != self._drawn_by:  # version 0.1.0 doesn't say by which
            return None
        self.samples_warning = saved["warning"]
        return saved["spins"].to(self.device)

    @property
    def _drawn_by(self) -> str:
        """The sampler for generation and its options, in a line."""
        return (self.config.generation.sampler or self.config.sampler).label

    @property
    def _hamiltonian(self) -> IsingHamiltonian:
        return boltzmann_prior(self.model).frozen()

    def _coefficients(self) -> dict[str, Tensor]:
        hamiltonian = self._hamiltonian
        return {"h": hamiltonian.h, "J": hamiltonian.J, "gamma": hamiltonian.gamma}


def load_run(
    path: str | Path,
    overrides: Iterable[str] = (),
    data: Any = None,
    trust: Iterable[str] = (),
    sampler: LatentSampler | None = None,
) -> Run:
    """Open a run folder; the data isn't needed, no pickle is read, and a run from CUDA opens on the CPU where there is none.

    Args:
        path: the folder.
        overrides: ``a.b=c`` on top of the run's configuration, as ``data.root=FOLDER`` for data that has moved.
        data: of a run that was trained on data from memory, as they were given to :func:`qvae.train`.
        trust: of what its samplers name, the import paths, addresses and files outside of it that may be used, as in
            :func:`~qvae.config.load.load_config`; they are remembered for this folder.
        sampler: an object, of a run that was trained with one, or in place of the run's own.

    Raises:
        RunError: it isn't a run, or its model is missing, damaged, or of another configuration.
        DataError: ``data`` are of another shape.
    """
    folder, overrides = existing_run(path), list(overrides)
    config = settled(run_config(folder, overrides, trust))
    if sampler is not None:
        config.sampler = SamplerConfig.of(sampler)
    # A run is looked at, whosever it is: that fetches nothing.
    config.data.download = config.data.download and any(text.startswith("data.download") for text in overrides)
    if not (folder / MODEL).exists():
        raise RunError(f"{folder} holds no {MODEL}: the run ended before its first checkpoint; train it anew.")
    state = load_checkpoint(folder / MODEL)
    require_same_model(state.get("config"), config.model, folder / MODEL)
    shape, levels, edges = shape_of(state, folder / MODEL)
    alphabet = alphabet_of(state, likelihood_class(config.model.likelihood).kind, levels, folder / MODEL)
    class_names = class_names_of(state, folder / MODEL)
    require_sizes(config, math.prod(shape), levels)
    held = Held.of_state(state, folder / MODEL)
    try:
        model = make_model(config.model, Statistics.blank(shape, levels, alphabet), edges, held=held)
        model.load_state_dict(upgraded(state, config.model.latent)["model"])
    except (KeyError, IndexError, RuntimeError, ValueError, TypeError, AttributeError, ConfigError, CircuitError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{folder / MODEL} doesn't hold the model of {folder / CONFIG} ({reason}).") from error
    broken = [name for name, value in model.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise RunError(f"{folder / MODEL} holds numbers that are none (NaN or infinite) in {broken[0]}; train anew.")
    name = config.training.device
    device = choose_device(name if torch.cuda.is_available() or not name.startswith("cuda") else "cpu")
    run = Run(folder, config, model.to(device).eval(), state.get("data"), class_names)
    if data is not None:
        run.dataset = make_dataset(config, data)
        require_same_data(run.dataset, model.shape, run.fingerprint, folder)
    return run


def require_same_data(dataset: Dataset, image_shape: tuple[int, ...], known: str | None, folder: Path) -> None:
    """Raise a DataError unless the data have the shape, and the fingerprint if it is ``known``, of a run's."""
    remedy = "name its data with --set data.name=... or data.root=..."
    if not same_shape(dataset.shape, image_shape):
        raise DataError(
            f"the images of {dataset.name} have shape {tuple(dataset.shape)}, but the run in {folder} was trained on "
            f"{image_shape}; {remedy}"
        )
    if known is not None and not are_the_same(known, fingerprint(dataset)):
        raise DataError(f"{dataset.name} holds other data than the run in {folder} was trained on, of the same shape; {remedy}")


def require_same_model(saved: Any, config: ModelConfig, file: Path) -> None:
    """Raise a RunError unless a file's model is that of the configuration beside it."""
    try:
        # Read as a configuration is, so that keys which came later have their defaults.
        fits = ModelConfig.model_validate(saved) == config
    except ValidationError:
        fits = False
    if not fits:
        raise RunError(f"{file} is of another model than {file.parent / CONFIG} says; put the matching files together.")
