"""The configuration of a run: every key, its type, its default and its range; the defaults are the shipped `digits`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class DataConfig(Section):
    """Which images, where they are, and how they become bits."""

    name: str = "digits"
    """digits | mnist | fashion-mnist | a path to .npy or .npz"""
    root: str | None = None
    """folder of the idx files; None looks in ./data/<name> and in the user's cache"""
    download: bool = False
    """fetch missing idx files from their public mirrors"""
    binarize: Literal["dynamic", "fixed", "threshold"] = "dynamic"
    """dynamic draws pixels anew at every use; fixed draws them once from a fixed seed; threshold cuts at 0.5"""


class LatentConfig(Section):
    """The graph of the latent Boltzmann machine and its transverse field."""

    graph: Literal["rbm", "complete", "chimera", "pegasus", "zephyr", "edges"] = "rbm"
    sizes: list[Positive] = [32, 32]
    """rbm: the two layers; complete and edges: [spins]; chimera: [m], [m, n] or [m, n, t]; pegasus: [m]; zephyr: [m] or [m, t]"""
    edges: list[tuple[int, int]] = []
    """for graph: edges; none at all makes the factorized prior"""
    gamma: Annotated[float, Field(ge=0)] | list[Annotated[float, Field(ge=0)]] = 0.0


class PosteriorConfig(Section):
    """The approximating posterior q(z|x)."""

    levels: Positive = 1
    """1 is factorial; each further level sees the levels before it"""


class RelaxationConfig(Section):
    """How discrete latents are smoothed so that gradients pass."""

    kind: Literal["gumbel", "overlapping", "spike-exponential"] = "gumbel"
    temperature: Annotated[float, Field(gt=0)] = 0.5
    """of gumbel"""
    beta: Annotated[float, Field(gt=0)] = 8.0
    """inverse width of the exponentials of the other two"""


class NetworkConfig(Section):
    """Encoder and decoder."""

    kind: Literal["mlp", "conv"] = "mlp"
    hidden: list[Positive] = [256, 256]
    """mlp: widths of the hidden layers; conv: channels of the stride-2 layers"""
    batch_norm: bool = True


class ModelConfig(Section):
    """The variational autoencoder."""

    kind: Literal["qvae"] = "qvae"
    latent: LatentConfig = LatentConfig()
    posterior: PosteriorConfig = PosteriorConfig()
    relaxation: RelaxationConfig = RelaxationConfig()
    network: NetworkConfig = NetworkConfig()


class SamplerConfig(Section):
    """A registered sampler and its options."""

    name: str = "gibbs"
    options: dict[str, Any] = {}


class GenerationConfig(Section):
    """What draws latents when the model generates."""

    sampler: SamplerConfig | None = None
    """None: the sampler of the negative phase, at the options of training"""


class TrainingConfig(Section):
    """The optimisation."""

    epochs: Positive = 100
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    """stop after so many seconds of training; learning rates then follow the clock, and steps depend on the machine"""
    batch_size: Positive = 256
    seed: Annotated[int, Field(ge=0)] = 0
    device: str = "auto"
    """auto | cpu | cuda | cuda:N"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the networks; auto is bfloat16 where the machine multiplies it natively"""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    prior_learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """steps over which the learning rates rise from zero"""
    kl_warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """epochs over which the KL part's weight rises to 1"""
    clip_norm: Annotated[float, Field(gt=0)] | None = 10.0
    """largest norm of the networks' gradient"""
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """of the moving average of the weights that evaluation uses; 0 turns it off"""
    chains: Positive = 256
    """samples in the negative phase of a step"""
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    tensorboard: bool = False


class EvaluationConfig(Section):
    """The likelihood at the end, and what is looked at on the way."""

    importance_samples: Positive = 100
    num_test: Positive | None = None
    """test images used; None for all of them"""
    log_z_chains: Positive = 500
    log_z_temperatures: Annotated[int, Field(ge=2)] = 2000
    seed: Annotated[int, Field(ge=0)] = 0


class Config(Section):
    """A whole run."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    sampler: SamplerConfig = SamplerConfig()
    generation: GenerationConfig = GenerationConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
