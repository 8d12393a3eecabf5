"""The configuration of a run: every key, its type, its default and its range; the defaults are the shipped `digits`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from qvae.config.backends import MEMORY, ExecutorConfig, GenerationConfig, SamplerConfig
from qvae.config.circuit import CircuitConfig, DiscreteConfig, completed
from qvae.config.latent import LatentConfig
from qvae.config.names import LIKELIHOODS
from qvae.config.network import NetworkConfig
from qvae.config.optimization import GradientConfig, OptimizerConfig
from qvae.config.section import Positive, Section, Seed
from qvae.errors import nearest
from qvae.trust import OWN, Trust

DATA_SETS = ("digits", "mnist", "fashion-mnist")
DATA_ENDINGS = (".npy", ".npz", ".csv", ".parquet")

class DataConfig(Section):
    """Which data, where they are, and how they become bits."""

    name: str = "digits"
    """digits | mnist | fashion-mnist | a path to .npy, .npz, .csv or .parquet | a folder of PNG or JPEG files"""
    root: str | None = None
    """folder of the idx files; None looks in ./data/<name> and in the user's cache"""
    download: bool = False
    """fetch missing idx files from their public mirrors"""
    binarize: Literal["auto", "dynamic", "fixed", "threshold"] = "auto"
    """dynamic draws pixels anew at every use; fixed draws them once from a fixed seed; threshold cuts at 0.5;
    auto is threshold for digits, whose sixteen grey levels are mostly noise when drawn, and dynamic for all else"""
    layout: Literal["auto", "nchw", "nhwc"] = "auto"
    """where the channels of an array of images stand; auto reads what could be either as nchw"""
    labels: str | None = None
    """column of a table that holds class labels; None for none"""
    size: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None = None
    """height and width to which the files of a folder are resized; None takes files of one size as they are"""

    @field_validator("name")
    @classmethod
    def _is_known_or_a_path(cls, name: str) -> str:
        # A folder is known by its slash, so that a run opens when its data have moved.
        is_folder = "/" in name or os.sep in name or os.path.isdir(name)
        if name not in (*DATA_SETS, MEMORY) and Path(name).suffix not in DATA_ENDINGS and not is_folder:
            endings = f"{', '.join(DATA_ENDINGS[:-1])} or {DATA_ENDINGS[-1]}"
            raise ValueError(f"{nearest(name, DATA_SETS)}, or a path that ends in {endings}, or a folder of images")
        return name

    @model_validator(mode="after")
    def _labels_and_size_fit(self) -> DataConfig:
        suffix = Path(self.name).suffix
        if self.labels is not None and suffix not in (".csv", ".parquet"):
            raise ValueError(f"labels is {self.labels!r}, a column of a .csv or .parquet table, but name is {self.name!r}")
        if self.size is not None and (not self.is_path or suffix in DATA_ENDINGS):
            raise ValueError(f"size is {self.size}; it resizes the files of a folder, but name is {self.name!r}")
        return self

    @property
    def is_path(self) -> bool:
        """Whether ``name`` is that of a file or folder."""
        return self.name not in (*DATA_SETS, MEMORY)

    @property
    def binarization(self) -> Literal["dynamic", "fixed", "threshold"]:
        """``binarize`` with ``auto`` resolved."""
        if self.binarize != "auto":
            return self.binarize
        return "threshold" if self.name == "digits" else "dynamic"


class PosteriorConfig(Section):
    """The approximating posterior q(z|x)."""

    levels: Positive = 1
    """1 is factorial; each further level sees the levels before it"""


class RelaxationConfig(Section):
    """How discrete latents are smoothed so that gradients pass."""

    kind: Literal["gumbel", "overlapping", "spike-exponential"] = "gumbel"
    temperature: Annotated[float, Field(gt=0)] = 0.5
    """of gumbel"""
    beta: Annotated[float, Field(gt=0, le=100)] = 8.0
    """inverse width of the exponentials of the other two"""


class ModelConfig(Section):
    """The variational autoencoder."""

    kind: Literal["qvae", "vqvae"] = "qvae"
    """qvae: latent bits with a Boltzmann prior; vqvae: a variational circuit between encoder and decoder"""
    variant: Literal["variational", "discrete", "deterministic"] | None = None
    """of vqvae: variational, its default, has Gaussian latents that become angles; the latents of discrete are the measured
    bits; deterministic is an autoencoder"""
    likelihood: str = "bernoulli"
    """what data are, given the decoder's output: bernoulli | gaussian | poisson | negative-binomial | categorical"""
    variance: Literal["shared", "features"] = "shared"
    """of gaussian, which learns it in units of each feature's own: one for all features, or one for each"""
    latent: LatentConfig = LatentConfig()
    posterior: PosteriorConfig = PosteriorConfig()
    relaxation: RelaxationConfig = RelaxationConfig()
    network: NetworkConfig = NetworkConfig()
    circuit: CircuitConfig | None = None
    """of vqvae"""
    discrete: DiscreteConfig | None = None
    """of vqvae's variant discrete"""

    @model_validator(mode="before")
    @classmethod
    def _vqvae_is_complete(cls, keys: Any) -> Any:
        return completed(keys) if isinstance(keys, dict) and keys.get("kind") == "vqvae" else keys

    @field_validator("likelihood")
    @classmethod
    def _is_a_likelihood(cls, likelihood: str) -> str:
        if likelihood not in LIKELIHOODS:
            raise ValueError(nearest(likelihood, LIKELIHOODS))
        return likelihood

    @model_validator(mode="after")
    def _levels_have_spins(self) -> ModelConfig:
        levels, spins = self.posterior.levels, self.latent.num_spins
        if levels > spins:
            raise ValueError(f"posterior.levels is {levels}; it must be at most {spins}, the number of latent spins")
        return self

    @model_validator(mode="after")
    def _keys_are_of_this_kind(self) -> ModelConfig:
        is_vqvae = self.kind == "vqvae"
        what = f"{self.kind}, {self.variant}" if is_vqvae else self.kind
        foreign = {
            "variant": self.variant is not None and not is_vqvae,
            "circuit": self.circuit is not None and not is_vqvae,
            "discrete": self.discrete is not None and self.variant != "discrete",
            "latent": self.latent != LatentConfig() and not self.has_boltzmann_prior,
            "posterior": self.posterior != PosteriorConfig() and is_vqvae,
            "relaxation": self.relaxation != RelaxationConfig() and not self.is_relaxed,
        }
        wrong = next((key for key, is_foreign in foreign.items() if is_foreign), None)
        if wrong is not None:
            raise ValueError(f"{wrong} is set, but isn't of a model of kind {what}; leave it out, or choose another kind")
        if self.discrete is not None and self.circuit is not None:
            if not self.circuit.is_run:
                raise ValueError(f"circuit.arm is {self.circuit.arm}; a discrete vqvae needs a circuit, to measure its latents")
            self._check_prior_of_bits(self.discrete.prior, self.circuit.qubits)
        return self

    def _check_prior_of_bits(self, prior: str, qubits: int) -> None:
        if self.latent.num_spins != qubits:
            spins = f"latent has {self.latent.num_spins} spins"
            raise ValueError(f"{spins}; a discrete vqvae needs {qubits}, one for each qubit of model.circuit")
        if prior != "boltzmann" and self.latent != LatentConfig(graph="edges", sizes=[qubits]):
            raise ValueError(f"latent is set, but model.discrete.prior is {prior}; set that to boltzmann, or leave latent out")
        if self.is_relaxed and self.relaxation.kind != "gumbel":
            raise ValueError(f"relaxation.kind is {self.relaxation.kind}; a vqvae takes gumbel")

    @property
    def has_circuit(self) -> bool:
        """Whether an executor has something to run."""
        return self.circuit is not None and self.circuit.is_run

    @property
    def has_boltzmann_prior(self) -> bool:
        """Whether a sampler has something to draw."""
        return self.kind == "qvae" or self.variant == "discrete"

    @property
    def is_relaxed(self) -> bool:
        """Whether latent bits are smoothed in training."""
        return self.kind == "qvae" or (self.discrete is not None and self.discrete.gradient == "relaxed")


class TrainingConfig(Section):
    """The optimisation."""

    epochs: Positive = 200
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    """stop after so many seconds of training; learning rates then follow the clock, and steps depend on the machine"""
    batch_size: Annotated[int, Field(ge=2)] = 256
    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """part of the training set that is held out, to see overfitting; the test set is never looked at"""
    early_stopping: Positive | None = None
    """end after so many looks (40 a run, or every 2000 steps) that find held-out rows no better, with the weights of the best;
    looks count after kl_warmup. None trains to the end and keeps its last weights"""
    seed: Seed = 0
    device: str = "auto"
    """auto | cpu | cuda | cuda:N"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the networks; auto is bfloat16 where the machine multiplies it natively"""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    prior_learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    circuit_learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    """of the angles that are a circuit's weights"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """of all weights: adamw | adam | sgd; or of a circuit's, with adamw for the rest: qng | spsa | qn-spsa"""
    circuit_gradient: GradientConfig | None = None
    """parameter-shift | stochastic-shift | shot-budget | hadamard | spsa | shadows; None takes the executor's own, and
    parameter-shift where it has none"""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """of the networks: decoupled in adamw, added to the gradient in adam and sgd"""
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """steps over which the learning rates rise from zero"""
    kl_warmup: Annotated[float, Field(ge=0, le=1)] = 0.3
    """part of the training over which the KL part's weight rises to 1; without it the prior switches latents off early"""
    kl_start: Annotated[float, Field(ge=0, le=1)] = 0.0
    """the KL part's weight at the start of the warm-up; one above 0 keeps codes small early, and samples nearer to the data"""
    clip_norm: Annotated[float, Field(gt=0)] | None = 10.0
    """largest norm of the networks' gradient"""
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """of the moving average of the weights that evaluation uses; 0 turns it off"""
    prior_gradient: Literal["sampled", "exact"] = "sampled"
    """sampled: the bound whose negative phase the sampler draws; exact: log p(z) by diagonalization, of 10 spins at most"""
    chains: Positive = 256
    """samples in the negative phase of a step"""
    fallback: str | None = None
    """a sampler, at its defaults, to go on with when the chosen one fails; None stops, and the run can be resumed"""
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    tensorboard: bool = False

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ValueError("it must be auto, cpu, cuda or cuda:N with the number of a device")
        return device

    @model_validator(mode="after")
    def _rows_are_held_out_to_stop_by(self) -> TrainingConfig:
        if self.early_stopping is not None and not self.validation:
            raise ValueError(
                f"early_stopping is {self.early_stopping}, but no rows are held out to stop by; set validation, as to 0.1"
            )
        return self


class EvaluationConfig(Section):
    """The likelihood at the end, and what is looked at on the way."""

    importance_samples: Positive = 100
    num_test: Positive | None = None
    """test images used; None for all of them"""
    log_z_chains: Annotated[int, Field(ge=2)] = 500
    log_z_temperatures: Annotated[int, Field(ge=2)] = 2000
    num_generated: Annotated[int, Field(ge=0)] = 10_000
    """samples in the Frechet distance; 0 leaves it out"""
    inception_weights: str | None = None
    """file of the Inception weights, for the distance that goes by its name; None leaves it out"""
    probes: bool = True
    """read the labels from the code by a linear and an MLP probe"""
    tsne_every: Annotated[int, Field(ge=0)] = 10
    """epochs between two maps of the latent film; 0 leaves out film and map"""
    seed: Seed = 0


class Config(Section):
    """A whole run."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    sampler: SamplerConfig = SamplerConfig()
    executor: ExecutorConfig = ExecutorConfig()
    generation: GenerationConfig = GenerationConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    _trust: Trust = PrivateAttr(default=OWN)

    @property
    def trust(self) -> Trust:
        """What the user has said of it: everything, unless it was read from a file."""
        return self._trust

    def trusting(self, words: Iterable[str]) -> Config:
        """A copy of which the user has said these words, too."""
        copy = self.model_copy()
        copy._trust = self._trust.and_(words)
        return copy

    @property
    def trained_by(self) -> str:
        """The backends of a training, for titles: such as ``sampler gibbs``."""
        return self._backends(self.sampler)

    @property
    def drawn_by(self) -> str:
        """The backends of what is generated."""
        return self._backends(self.generation.sampler or self.sampler)

    def _backends(self, sampler: SamplerConfig) -> str:
        used = [f"executor {self.executor.name}"] * self.model.has_circuit
        used += [f"sampler {sampler.name}"] * self.model.has_boltzmann_prior
        return ", ".join(used) or "networks alone"

    @model_validator(mode="after")
    def _prior_can_be_trained(self) -> Config:
        exact = self.training.prior_gradient == "exact"
        if self.model.latent.train_gamma and not exact:
            raise ValueError(
                "model.latent.train_gamma is true, but the Q-ELBO can't train gamma: its bound of log p(z) holds gamma in "
                "log Z alone and only ever pulls it to 0; set training.prior_gradient to exact (10 spins at most), or "
                "train_gamma to false"
            )
        if exact and self.model.posterior.levels > 1:
            raise ValueError(f"model.posterior.levels is {self.model.posterior.levels}; training.prior_gradient: exact takes 1")
        gamma = self.model.latent.gamma
        if self.training.early_stopping is not None and not exact and (any(gamma) if isinstance(gamma, list) else gamma):
            raise ValueError(
                f"training.early_stopping is {self.training.early_stopping}, but with model.latent.gamma above 0 the "
                "surrogate isn't known; set training.prior_gradient to exact (10 spins at most), or early_stopping to null"
            )
        return self

    @model_validator(mode="after")
    def _circuit_learns_by_its_optimizer(self) -> Config:
        training, circuit = self.training, self.model.circuit
        name = training.optimizer.name
        if circuit is None:
            return self
        if training.optimizer.is_of_circuits and circuit.arm == "frozen":
            raise ValueError(f"training.optimizer is {name}, but model.circuit.arm is frozen; leave the optimizer out")
        if name == "rotosolve":
            raise ValueError(
                "training.optimizer is rotosolve, which needs a loss linear in the circuit's expectations, but here a decoder "
                "or an entropy is behind them; take qng, spsa or qn-spsa, or qvae.training.optimizers.Rotosolve in a loop of "
                "your own"
            )
        if training.circuit_gradient is not None and self.model.discrete is not None:
            raise ValueError(
                f"training.circuit_gradient is {training.circuit_gradient.name}, but a discrete vqvae is trained on exact "
                "probabilities, which have their own; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _backends_have_work(self) -> Config:
        model, default, foreign = self.model, TrainingConfig(), {}
        what = f"model.kind is {model.kind}" + (f", variant {model.variant}" if model.variant else "")
        if not model.has_circuit:
            changed = self.training.circuit_learning_rate != default.circuit_learning_rate
            is_set = {"executor": self.executor != ExecutorConfig(), "training.circuit_learning_rate": changed}
            is_set["training.circuit_gradient"] = self.training.circuit_gradient is not None
            is_set[f"training.optimizer {self.training.optimizer.name}"] = self.training.optimizer.is_of_circuits
            foreign["no circuit"] = is_set
        if not model.has_boltzmann_prior:
            keys = ("prior_learning_rate", "prior_gradient", "chains", "fallback")
            is_set = {f"training.{key}": getattr(self.training, key) != getattr(default, key) for key in keys}
            is_set |= {"sampler": self.sampler != SamplerConfig(), "generation.sampler": self.generation.sampler is not None}
            foreign["no Boltzmann prior"] = is_set
        for lacks, is_set in foreign.items():
            for key in (key for key, is_wrong in is_set.items() if is_wrong):
                raise ValueError(f"{key} is set, but {what}, which has {lacks}; leave it out, or choose another kind")
        return self
