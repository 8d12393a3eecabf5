"""The variational quantum autoencoder: a circuit between encoder and decoder, in three variants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qvae.circuits.executor import Executor
from qvae.circuits.layer import CircuitLayer
from qvae.config.schema import ModelConfig
from qvae.ising.graphs import Graph
from qvae.models.autoencoder import Autoencoder, Code
from qvae.models.circuit_block import CircuitBlock, perceptron
from qvae.models.critic import Critic
from qvae.models.gaussian import GaussianPosterior, NormalPrior, PointPosterior
from qvae.models.likelihoods import likelihood_class
from qvae.models.likelihoods.likelihood import Likelihood, Statistics
from qvae.models.measured import MeasuredPosterior
from qvae.models.networks import Decoder, Encoder
from qvae.models.prior import BoltzmannPrior, make_graph


class VQVAE(Autoencoder):
    """An autoencoder with a circuit in it: before the decoder, or, where the latents are its bits, behind the encoder.

    variational
        u ~ Normal(0, 1); p(x|u) = decoder(<O_k> of the circuit at the angles f(u)); q(u|x) Gaussian. Given u, the circuit is
        a function, so that this is a Gaussian VAE whose decoder holds the circuit, with exact densities throughout.
    discrete
        z ~ a prior of bits; p(x|z) = decoder(z); q(z|x) = |<z|psi(x)>|^2, the circuit at the encoder's angles, measured.
    deterministic
        variational without noise and prior: it compresses, and claims no likelihood.

    Args:
        encoder: what the likelihood shows of x, ``likelihood.features(x)`` (B, D), to features (B, F).
        posterior: a ``GaussianPosterior``, ``MeasuredPosterior`` or ``PointPosterior`` of F features.
        prior: a ``NormalPrior``, a ``BoltzmannPrior``, or None.
        decoder: latents to the parameters of p(x|z): a :class:`CircuitBlock` first, unless the latents are measured.
        likelihood: p(x | decoder's output).
        shape: of one row of data; None is that of the likelihood's statistics.

    Attributes:
        critic: of its reconstructions, which makes them sharper in training; None as a rule.

    >>> model = VQVAE.from_config(ModelConfig(kind="vqvae", circuit={"qubits": 3}), Statistics.blank((8, 8))).eval()
    >>> model.reconstruct(torch.zeros(2, 8, 8)).shape
    torch.Size([2, 8, 8])
    """

    def __init__(
        self,
        encoder: nn.Module,
        posterior: GaussianPosterior | MeasuredPosterior | PointPosterior,
        prior: NormalPrior | BoltzmannPrior | None,
        decoder: nn.Module,
        likelihood: Likelihood,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(prior, encoder, posterior, decoder, likelihood, shape)
        self.latents_are_bits = isinstance(posterior, MeasuredPosterior)
        self.critic: Critic | None = None

    @classmethod
    def from_config(
        cls, config: ModelConfig, statistics: Statistics, graph: Graph | None = None, executor: Executor | None = None
    ) -> VQVAE:
        """The model that a configuration names.

        Args:
            config: variant, circuit, networks and likelihood; the latent graph of a Boltzmann prior.
            statistics: of the training data: their shape, the input's offset and the start of the decoder's bias.
            graph: of the latents, where the configuration says ``native``; None makes the one it names.
            executor: of the circuit; None is ``statevector``.

        Raises:
            CircuitError, ExecutorError: the circuit can't be had, or not run.
            ValueError: convolutions on a table, or a gamma to be trained that is 0.
        """
        assert config.circuit is not None
        likelihood = likelihood_class(config.likelihood).from_config(config, statistics)
        bias = likelihood.initial_bias()
        encoder = Encoder(config.network, likelihood.plane, likelihood.input_mean())
        block = CircuitBlock.from_config(config.circuit, executor)
        if config.discrete is not None:
            posterior = MeasuredPosterior(encoder.num_features, block, config.relaxation.temperature)
            graph = make_graph(config.latent) if graph is None else graph
            prior = BoltzmannPrior(graph, config.latent.gamma, config.latent.train_gamma)
            prior.requires_grad_(config.discrete.prior != "uniform")
            decoder: nn.Module = Decoder(config.network, config.circuit.qubits, likelihood.plane, bias)
            return cls(encoder, posterior, prior, decoder, likelihood)
        between, width = _between(config.circuit.arm, block)
        decoder = nn.Sequential(*between, Decoder(config.network, width, likelihood.plane, bias))
        sizes = encoder.num_features, block.num_latents
        if config.variant == "deterministic":
            model = cls(encoder, PointPosterior(*sizes), None, decoder, likelihood)
        else:
            model = cls(encoder, GaussianPosterior(*sizes), NormalPrior(block.num_latents), decoder, likelihood)
        if config.critic is not None:
            if likelihood.kind == "strings":
                raise ValueError("critic is set, but strings have no gradient for it to give; leave it out")
            model.critic = Critic(likelihood.input_mean().numel(), config.critic)
        return model

    @property
    def circuit(self) -> CircuitLayer | None:
        """The circuit's layer, wherever it stands; its ``executor`` may be changed. None where a classical arm replaces it."""
        return next((module for module in self.modules() if isinstance(module, CircuitLayer)), None)

    def posterior_sample(self, x: Tensor, relaxed: bool, generator: torch.Generator | None = None, draws: int = 1) -> Code:
        """Latents of rows x (B, D): smoothed if ``relaxed`` and they are bits; those of one row side by side."""
        return self.posterior(self.encoder(self.likelihood.features(x)), relaxed, generator, draws)


def _between(arm: str, block: CircuitBlock) -> tuple[list[nn.Module], int]:
    """What stands between latents and decoder, and how many numbers come out of it."""
    if arm == "gaussian":
        return [], block.num_latents
    return [perceptron(block) if arm == "perceptron" else block], len(block.layer.observables)
