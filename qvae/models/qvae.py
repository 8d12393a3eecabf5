"""The quantum variational autoencoder: encoder, posterior, Boltzmann prior, decoder and likelihood."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qvae.config.schema import ModelConfig
from qvae.ising.graphs import Graph
from qvae.models.autoencoder import Autoencoder
from qvae.models.likelihoods import likelihood_class
from qvae.models.likelihoods.likelihood import Likelihood, Statistics
from qvae.models.networks import Decoder, Encoder
from qvae.models.posterior import BernoulliCode, Posterior, split_levels
from qvae.models.prior import BoltzmannPrior, make_graph
from qvae.models.relaxation import Gumbel, Relaxation, make_relaxation


class QVAE(Autoencoder):
    """p(x, z) = p(z) p(x | decoder(z)), p(z) a Boltzmann machine, with posterior q(z|x).

    Any modules will do as encoder and decoder.

    Args:
        encoder: what the likelihood shows of x, ``likelihood.features(x)`` (B, D), to features (B, F).
        posterior: features to latent bits, as :class:`~qvae.models.posterior.Posterior` of F features and n bits.
        prior: of the n bits.
        decoder: bits, or their relaxation, (B, n), to the parameters of p(x|z), (B, D) or of any shape that flattens to it.
        likelihood: p(x | decoder's output).
        relaxation: of the bits in training; None is Gumbel's at its default temperature.
        shape: of one row of data, such as (H, W); None is that of the likelihood's statistics.

    Raises:
        ValueError: posterior and prior have different numbers of bits.

    >>> model = QVAE.from_config(ModelConfig(), Statistics.blank((8, 8))).eval()
    >>> model.reconstruct(torch.zeros(2, 8, 8)).shape
    torch.Size([2, 8, 8])
    """

    prior: BoltzmannPrior
    posterior: Posterior
    latents_are_bits = True

    def __init__(
        self,
        encoder: nn.Module,
        posterior: Posterior,
        prior: BoltzmannPrior,
        decoder: nn.Module,
        likelihood: Likelihood,
        relaxation: Relaxation | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        if sum(posterior.level_sizes) != prior.num_spins:
            raise ValueError(f"the posterior has {sum(posterior.level_sizes)} bits, but the prior {prior.num_spins}")
        super().__init__(prior, encoder, posterior, decoder, likelihood, shape)
        self.relaxation = Gumbel() if relaxation is None else relaxation

    @classmethod
    def from_config(cls, config: ModelConfig, statistics: Statistics, graph: Graph | None = None) -> QVAE:
        """The model that a configuration names.

        Args:
            config: latent graph, posterior, relaxation, networks and likelihood.
            statistics: of the training data: their shape, the input's offset and the start of the decoder's bias.
            graph: of the latents, where the configuration says ``native``; None makes the one it names.

        Raises:
            ValueError: more levels than latent spins, a gamma to be trained that is 0, or convolutions on a table.
        """
        graph = make_graph(config.latent) if graph is None else graph
        likelihood = likelihood_class(config.likelihood).from_config(config, statistics)
        shape = tuple(statistics.mean.shape)
        prior = BoltzmannPrior(graph, config.latent.gamma, config.latent.train_gamma)
        levels = split_levels(graph.num_spins, config.posterior.levels, list(config.latent.sizes))
        encoder = Encoder(config.network, shape, likelihood.input_mean())
        posterior = Posterior(encoder.num_features, levels)
        decoder = Decoder(config.network, graph.num_spins, shape, likelihood.initial_bias())
        return cls(encoder, posterior, prior, decoder, likelihood, make_relaxation(config.relaxation))

    def posterior_sample(
        self, x: Tensor, relaxed: bool, generator: torch.Generator | None = None, draws: int = 1
    ) -> BernoulliCode:
        """Latents of rows x (B, D): smoothed if ``relaxed``, otherwise bits; those of one row side by side."""
        features = self.encoder(self.likelihood.features(x))
        return self.posterior(features, self.relaxation if relaxed else None, generator, draws)

    def _smoothed(self, codes: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.relaxation.smooth(codes, generator)
