"""A run from configuration to folder: train, resume and load."""

from __future__ import annotations

import contextlib
import json
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

import qvae
from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.config.load import dump_config, load_config
from qvae.config.schema import Config, ModelConfig, SamplerConfig
from qvae.data import Dataset, load_data
from qvae.errors import ConfigError, DataError, RunError, SamplerError
from qvae.evaluation.frechet import check_inception
from qvae.files import atomic_write_text
from qvae.ising.graphs import Graph
from qvae.look import EVALUATION, evaluate, film
from qvae.models.qvae import QVAE
from qvae.report import PICTURED, REPORT, write_report
from qvae.sampling.abilities import Metered, native_graph
from qvae.sampling.chains import mixing_trouble
from qvae.sampling.make import make_sampler
from qvae.sampling.sampler import LatentSampler
from qvae.training.monitor import Monitor
from qvae.training.trainer import Trainer, choose_device

if TYPE_CHECKING:
    from rich.console import Console

CONFIG, MODEL, CHECKPOINT = "config.yaml", "model.safetensors", "checkpoint.safetensors"
METRICS, ENVIRONMENT, SPINS = "metrics.jsonl", "environment.json", "prior_samples.safetensors"


@dataclass
class Run:
    """A run folder with its trained model.

    Attributes:
        path: the folder.
        config: as resolved when the run was started.
        model: weights averaged over training, in evaluation mode, on the configured device.
        samples_warning: why :meth:`prior_spins` may be wrong, once they are drawn; None if nothing is known to be.
    """

    path: Path
    config: Config
    model: QVAE
    samples_warning: str | None = field(default=None, repr=False)
    _prior_spins: Tensor | SamplerError | None = field(default=None, repr=False)

    def _saved_spins(self) -> Tensor | None:
        """Samples of this very prior that the folder keeps."""
        if not (self.path / SPINS).exists():
            return None
        saved = load_checkpoint(self.path / SPINS)
        is_of_this = all(torch.equal(saved[name], value.cpu()) for name, value in self._coefficients().items())
        if not is_of_this:
            return None
        self.samples_warning = saved["warning"]
        return saved["spins"].to(self.device)

    def _coefficients(self) -> dict[str, Tensor]:
        hamiltonian = self.model.prior.hamiltonian().detach()
        return {"h": hamiltonian.h, "J": hamiltonian.J, "gamma": hamiltonian.gamma}

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """What ``evaluation.json`` says; None before the first evaluation."""
        file = self.path / EVALUATION
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One mapping per epoch, from ``metrics.jsonl``."""
        file = self.path / METRICS
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [row for row in map(_metrics_row, lines) if row]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.prior.h.device

    @cached_property
    def dataset(self) -> Dataset:
        """The data that the run was trained on.

        Raises:
            DataError: it isn't where it was, or it is no longer what it was.
        """
        dataset = load_data(self.config.data)
        _require_same_shape(dataset, self.model.image_shape, self.path)
        return dataset

    def sampler(self, name: str | None = None) -> LatentSampler:
        """A fresh sampler for generation: the one named, ``generation.sampler``, or that of the negative phase."""
        return generation_sampler(self.config, self.path, name)

    def prior_spins(self, count: int, or_fewer: bool = False) -> Tensor:
        """Samples of the prior by the sampler for generation, (count, n), -1 or +1; drawn once and kept, since some cost.

        With ``or_fewer`` those that are there already will do.

        Raises:
            SamplerError: the sampler failed, now or before.
        """
        if self._prior_spins is None:
            self._prior_spins = self._saved_spins()
        kept = self._prior_spins
        if kept is None or (isinstance(kept, Tensor) and len(kept) < count and not or_fewer):
            sampler, hamiltonian = self.sampler(), self.model.prior.hamiltonian().detach()
            try:
                samples = sampler.sample(hamiltonian, count)
                self._prior_spins, self.samples_warning = samples.spins, mixing_trouble(samples.info)
                content = {"spins": self._prior_spins, "warning": self.samples_warning}
                with contextlib.suppress(RunError):  # a folder that can't be written to can be looked at
                    save_checkpoint(self.path / SPINS, self._coefficients() | content)
            except SamplerError as error:
                self._prior_spins = error
            finally:
                sampler.close()
        if isinstance(self._prior_spins, SamplerError):
            raise self._prior_spins
        assert self._prior_spins is not None
        return self._prior_spins[:count]


# Train and resume -----------------------------------------------------------------------------------------------------


def train(
    config: Config | str | Path | None = None, out: str | Path | None = None, console: Console | None = None
) -> Run:
    """Train a model, evaluate it and leave a run folder.

    Args:
        config: a configuration, a YAML file, or the name of a shipped one; None is ``digits``.
        out: the folder; None makes ``runs/<data>-<sampler>-<time>``.
        console: where progress is shown; None is silent.

    Raises:
        ConfigError, DataError, SamplerError, RunError: something is wrong with what was asked for, found before training.
        TrainingDiverged: the surrogate is no longer finite.
    """
    config = _with_absolute_paths(config if isinstance(config, Config) else load_config(config))
    folder = choose_folder(out, config)
    dataset, trainer = _assemble(folder, config, console)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the run folder {folder} can't be made: {error.strerror}; choose another --out.") from error
    (folder / METRICS).unlink(missing_ok=True)  # of a run that was killed before its first checkpoint
    atomic_write_text(folder / CONFIG, dump_config(config))
    atomic_write_text(folder / ENVIRONMENT, json.dumps(_environment(trainer.device), indent=2) + "\n")
    return _fit_and_evaluate(folder, dataset, trainer, console)


def plan(config: Config, out: str | Path | None = None) -> dict[str, Any]:
    """What a training would take: steps, what the sampler must do, and its QPU seconds where it has such a price.

    Everything is put together as for :func:`train`, with its errors; nothing is sampled, spent or written.
    """
    config = _with_absolute_paths(config)
    _, trainer = _assemble(choose_folder(out, config), config, None)
    hamiltonian = trainer.model.prior.hamiltonian().detach()
    try:
        chains, sampler = config.training.chains, trainer.sampler
        call = sampler.plan(hamiltonian, chains) if isinstance(sampler, Metered) else {}
    finally:
        trainer.sampler.close()
    seconds = f", or {config.training.max_seconds:g} s if that is less" if config.training.max_seconds else ""
    found: dict[str, Any] = {
        "latent spins": hamiltonian.num_spins,
        "couplings": hamiltonian.graph.num_edges,
        "training": f"{trainer.total_steps:,} steps and {trainer.num_looks} looks at the sampler{seconds}",
        "samples in a step": config.training.chains,
    }
    found |= {key: value for key, value in call.items() if key not in ("qpu_seconds", "budget")}
    if "qpu_seconds" in call:
        found["QPU seconds of a step"] = f"{call['qpu_seconds']:.4f}"
        calls = trainer.total_steps + trainer.num_looks
        found["QPU seconds of the training"] = f"{call['qpu_seconds'] * calls:,.1f}"
        generating = generation_sampler(config, choose_folder(out, config))
        try:
            count = config.evaluation.num_generated or PICTURED
            price = generating.plan(hamiltonian, count)["qpu_seconds"] if isinstance(generating, Metered) else 0.0
        finally:
            generating.close()
        found["QPU seconds of the samples at the end"] = f"{price:.1f}"
        if "budget" in call and call["qpu_seconds"] > 0:
            steps = int(call["budget"] / call["qpu_seconds"])
            found["budget of the training"] = f"{call['budget']:.1f} s, which is {steps:,} steps"
    return found


def resume(folder: str | Path, overrides: Iterable[str] = (), console: Console | None = None) -> Run:
    """Continue a run from its checkpoint; without interruption it would have ended with the same weights.

    Args:
        folder: of the run.
        overrides: ``a.b=c`` on top of the run's own configuration, as a longer ``training.epochs`` or another sampler.
        console: where progress is shown; None is silent.

    Raises:
        RunError: there is nothing to resume, the checkpoint is damaged, or it is of another model.
    """
    path = existing_run(folder)
    before = load_config(path / CONFIG)
    config = load_config(path / CONFIG, overrides)
    if _fixed(config) != _fixed(before):
        raise ConfigError(
            f"the model, the binarization, training.seed and training.batch_size of the run in {path} can't be changed when it "
            "is resumed; start a new run."
        )
    if not (path / CHECKPOINT).exists():
        raise RunError(f"{path} holds no {CHECKPOINT}: the run ended before its first checkpoint; leave --resume out.")
    state = load_checkpoint(path / CHECKPOINT)
    _require_same_model(state.get("config"), config.model, path / CHECKPOINT)
    dataset, trainer = _assemble(path, config, console, state.get("edges"))
    _require_same_shape(dataset, tuple(state.get("image_shape", ())), path)
    if config.sampler != before.sampler:
        state["sampler"] = {}
    try:
        trainer.load_state_dict(state)
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path / CHECKPOINT} doesn't fit this version or model ({reason}); train anew.") from error
    _keep_metrics_until(path / METRICS, trainer.step)
    atomic_write_text(path / CONFIG, dump_config(config))
    for stale in (EVALUATION, REPORT):  # they are of the weights before
        (path / stale).unlink(missing_ok=True)
    if console is not None:
        console.print(f"resuming [bold]{path}[/bold] at step {trainer.step} of {trainer.total_steps}")
    return _fit_and_evaluate(path, dataset, trainer, console)


def _fixed(config: Config) -> tuple[Any, ...]:
    """What a resumed run must have in common with the one before; its data may have moved."""
    return config.model, config.data.binarization, config.training.seed, config.training.batch_size


def _require_same_shape(dataset: Dataset, image_shape: tuple[int, ...], folder: Path) -> None:
    if tuple(dataset.image_shape) != image_shape:
        raise DataError(
            f"the images of {dataset.name} have shape {tuple(dataset.image_shape)}, but the run in {folder} was trained on "
            f"{image_shape}; name its data with --set data.name=... or data.root=..."
        )


def _with_absolute_paths(config: Config) -> Config:
    """Data files named from where the run was started, so that it can be opened from elsewhere."""
    config = config.model_copy(deep=True)
    if config.data.root is not None:
        config.data.root = str(Path(config.data.root).expanduser().absolute())
    if Path(config.data.name).suffix in (".npy", ".npz"):
        config.data.name = str(Path(config.data.name).expanduser().absolute())
    for chosen in (config.sampler, config.generation.sampler):
        for option in ("record", "replay"):  # files, whatever the sampler
            if chosen is not None and isinstance(chosen.options.get(option), str):
                chosen.options[option] = str(Path(chosen.options[option]).expanduser().absolute())
    if config.evaluation.inception_weights is not None:
        config.evaluation.inception_weights = str(Path(config.evaluation.inception_weights).expanduser().absolute())
    return config


def _assemble(
    folder: Path, config: Config, console: Console | None, edges: Tensor | None = None
) -> tuple[Dataset, Trainer]:
    """Data, model, sampler and trainer; whatever doesn't fit is found here, before anything is written.

    A native graph is that of ``edges``, (m, 2), where a run has one already, else the sampler's hardware gives it.
    """
    dataset = load_data(config.data)
    torch.manual_seed(config.training.seed)
    sampler = _make_sampler(config.sampler, config, folder, purpose=1)
    latent = config.model.latent
    graph = native_graph(sampler, latent.num_spins) if latent.graph == "native" and edges is None else None
    model = _build_model(config.model, dataset.mean_image, edges if graph is None else graph.edges)
    fallback = None
    if config.training.fallback is not None:
        fallback = _make_sampler(SamplerConfig(name=config.training.fallback), config, folder, purpose=3)
    if config.generation.sampler is not None:
        generating = generation_sampler(config, folder)
        generating.check(model.prior.hamiltonian().detach())
        generating.close()
    monitor = Monitor(folder, console, config.training.tensorboard)
    if config.evaluation.inception_weights is not None:
        check_inception(config.evaluation.inception_weights)
    save = partial(_save, folder, config)
    observer = film(dataset, config.evaluation, choose_device(config.training.device))
    trainer = Trainer(model, dataset, config.training, sampler, monitor, save, observer, fallback)
    if config.generation.sampler is None and isinstance(trainer.sampler, Metered):
        trainer.sampler.keep_back(model.prior.hamiltonian().detach(), config.evaluation.num_generated or PICTURED)
    return dataset, trainer


def _build_model(config: ModelConfig, mean_image: Tensor, edges: Tensor | None = None) -> QVAE:
    """The model; ``edges`` are those of a native graph."""
    try:
        return QVAE(config, mean_image, None if edges is None else Graph(config.latent.num_spins, edges))
    except ValueError as error:
        raise ConfigError(f"model: {error}.") from error


def generation_sampler(config: Config, folder: Path, name: str | None = None) -> LatentSampler:
    """A fresh sampler for generation: the one named, ``generation.sampler``, or that of the negative phase."""
    configured = config.generation.sampler or config.sampler
    chosen = configured if name in (None, configured.name) else SamplerConfig(name=name)
    return _make_sampler(chosen, config, folder, purpose=2)


def _make_sampler(chosen: SamplerConfig, config: Config, folder: Path, purpose: int) -> LatentSampler:
    """A sampler for a run; its seed is the run's unless given, apart from that of training and of other purposes."""
    seed = int(np.random.SeedSequence([config.training.seed, purpose]).generate_state(1)[0])
    return make_sampler(chosen, chosen.options.get("seed", seed), folder)


def _fit_and_evaluate(folder: Path, dataset: Dataset, trainer: Trainer, console: Console | None) -> Run:
    try:
        trainer.fit()
    finally:
        for sampler in (trainer.sampler, trainer.fallback):
            if sampler is not None:
                sampler.close()
    run = load_run(folder)
    run.dataset = dataset
    evaluate(run, console=console)
    write_report(run)
    return run


def _save(folder: Path, config: Config, trainer: Trainer) -> None:
    """Write the checkpoint, to resume from, and the model, to use; each replaces the last one at once."""
    identity = {"config": config.model.model_dump(mode="json"), "image_shape": list(trainer.model.image_shape)}
    if config.model.latent.graph == "native":
        identity["edges"] = trainer.model.prior.graph.edges
    save_checkpoint(folder / CHECKPOINT, identity | trainer.state_dict())
    model = trainer.averaged_model()
    state = {"model": model.state_dict(), "step": trainer.step}
    save_checkpoint(folder / MODEL, identity | state)


def choose_folder(out: str | Path | None, config: Config) -> Path:
    """A folder for a new run, not made yet.

    Raises:
        RunError: ``out`` holds a run already, or something else.
    """
    if out is None:
        name = f"{Path(config.data.name).stem}-{config.sampler.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = next(p for k in range(10_000) if not (p := Path("runs", f"{name}-{k}" if k else name)).exists())
    else:
        folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, so no run can be written there; choose another --out.")
    if (folder / CHECKPOINT).exists() or (folder / MODEL).exists():
        raise RunError(f"{folder} already holds a run; add --resume to continue it, or choose another --out.")
    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG).exists():
        raise RunError(f"{folder} is not empty and not a run; choose another --out.")
    return folder


def _keep_metrics_until(file: Path, step: int) -> None:
    """Drop the epochs after the checkpoint: they are about to be run again."""
    if file.exists():
        lines = [line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if _is_until(line, step)]
        atomic_write_text(file, "".join(lines))


def _is_until(line: str, step: int) -> bool:
    row = _metrics_row(line)
    return row is not None and row["step"] <= step


def _metrics_row(line: str) -> dict[str, Any] | None:
    """A line of the metrics; None if it was cut off when the run was killed."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "step" in row else None


def _environment(device: torch.device) -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in ("torch", "numpy", "dimod", "dwave-samplers", "dwave-system", "qiskit", "qiskit-aer", "safetensors"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "qvae": qvae.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def latest_run(name: str | None = None) -> Path:
    """The folder under ``runs/`` that was trained last, of those on the data of the configuration ``name``.

    Raises:
        RunError: there is none.
    """
    data = Path(load_config(name).data.name).stem if name else ""
    folders = [file.parent for file in Path("runs").glob(f"{data}*/{CHECKPOINT}")]
    if not folders:
        raise RunError(f"there is no run{f' of {name}' if name else ''} in ./runs to resume; name its folder with --out.")
    return max(folders, key=lambda folder: (folder / CHECKPOINT).stat().st_mtime)


# Load -----------------------------------------------------------------------------------------------------------------


def existing_run(path: str | Path) -> Path:
    """The folder, if it is a run.

    Raises:
        RunError: it doesn't exist or holds no run.
    """
    folder = Path(path)
    if not folder.exists():
        raise RunError(f"there is no folder {folder}; `qvae train` prints where its run folder is.")
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder} is not a run folder: it holds no {CONFIG}; `qvae train` prints where its run folder is.")
    return folder


def load_run(path: str | Path, overrides: Iterable[str] = ()) -> Run:
    """Open a run folder; the data isn't needed, no pickle is read, and a run from CUDA opens on the CPU where there is none.

    Args:
        path: the folder.
        overrides: ``a.b=c`` on top of the run's configuration, as ``data.root=FOLDER`` for data that has moved.

    Raises:
        RunError: it isn't a run, or its model is missing, damaged, or of another configuration.
    """
    folder = existing_run(path)
    config = load_config(folder / CONFIG, overrides)
    if not (folder / MODEL).exists():
        raise RunError(f"{folder} holds no {MODEL}: the run ended before its first checkpoint; train it anew.")
    state = load_checkpoint(folder / MODEL)
    _require_same_model(state.get("config"), config.model, folder / MODEL)
    try:
        model = _build_model(config.model, torch.zeros(state["image_shape"]), state.get("edges"))
        model.load_state_dict(state["model"])
    except (KeyError, RuntimeError, TypeError) as error:
        raise RunError(f"{folder / MODEL} doesn't hold the model of {folder / CONFIG} ({error}).") from error
    name = config.training.device
    device = choose_device(name if torch.cuda.is_available() or not name.startswith("cuda") else "cpu")
    return Run(folder, config, model.to(device).eval())


def _require_same_model(saved: Any, config: ModelConfig, file: Path) -> None:
    try:
        # Read as a configuration is, so that keys which came later have their defaults.
        fits = ModelConfig.model_validate(saved) == config
    except ValidationError:
        fits = False
    if not fits:
        raise RunError(f"{file} is of another model than {file.parent / CONFIG} says; put the matching files together.")
