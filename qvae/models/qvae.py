"""The quantum variational autoencoder: encoder, posterior, Boltzmann prior, decoder and likelihood."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qvae.config.schema import ModelConfig
from qvae.errors import DataError
from qvae.ising.graphs import Graph
from qvae.models.likelihoods import likelihood_class
from qvae.models.likelihoods.likelihood import Likelihood, Statistics
from qvae.models.networks import Decoder, Encoder
from qvae.models.posterior import Code, Posterior, split_levels
from qvae.models.prior import BoltzmannPrior, make_graph
from qvae.models.relaxation import Gumbel, Relaxation, make_relaxation
from qvae.sampling.sampler import LatentSampler

_DECODED_AT_ONCE = 4096  # so that the memory of a large sample is that of its images


class QVAE(nn.Module):
    """p(x, z) = p(z) p(x | decoder(z)), p(z) a Boltzmann machine, with posterior q(z|x).

    Data come as rows (B, D) or in their own shape, (B, *shape). Any modules will do as encoder and decoder.

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
        super().__init__()
        if sum(posterior.level_sizes) != prior.num_spins:
            raise ValueError(f"the posterior has {sum(posterior.level_sizes)} bits, but the prior {prior.num_spins}")
        self.prior = prior
        self.encoder = encoder
        self.posterior = posterior
        self.decoder = decoder
        self.likelihood = likelihood
        self.relaxation = Gumbel() if relaxation is None else relaxation
        self.shape = tuple(likelihood.statistics.mean.shape if shape is None else shape)

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
    ) -> Code:
        """Latents of rows x (B, D): smoothed if ``relaxed``, otherwise bits; those of one row side by side."""
        features = self.encoder(self.likelihood.features(x))
        return self.posterior(features, self.relaxation if relaxed else None, generator, draws)

    def log_likelihood(self, x: Tensor, latents: Tensor) -> Tensor:
        """log p(x|z) of rows x (B, D) given latents (B K, n), those of one row side by side, in nats, (B K,)."""
        output = self.decoder(latents).flatten(1).float()
        with torch.autocast(x.device.type, enabled=False):
            if len(latents) == len(x):
                return self.likelihood.log_prob(output, x)
            return self.likelihood.log_prob_draws(output.unflatten(0, (len(x), -1)), x).flatten()

    @torch.no_grad()
    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latent bits z ~ q(z|x), (B, n)."""
        return self.posterior_sample(self._rows(x), relaxed=False, generator=generator).latents

    @torch.no_grad()
    def code_means(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """q(z_i = 1|x), (B, n); in the later levels of a hierarchy, given bits drawn in the earlier ones."""
        return torch.sigmoid(self.posterior_sample(self._rows(x), relaxed=False, generator=generator).logits)

    def _rows(self, x: Tensor) -> Tensor:
        """Data of any type and shape (B, ...) as rows (B, D) of the weights' type."""
        return x.flatten(1).to(self.prior.h.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The likelihood's mean (of pixels: their probabilities), (B, *shape), from bits or relaxed latents (B, n)."""
        return self.likelihood.mean(self.decoder(latents).flatten(1).float()).unflatten(1, self.shape)

    def decode_bits(self, bits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The likelihood's mean from bits (B, n), smoothed as in training: a one to near one, a zero to near zero."""
        batches = bits.split(_DECODED_AT_ONCE)
        return torch.cat([self.decode(self.relaxation.smooth(batch, generator)) for batch in batches])

    @torch.no_grad()
    def draw(self, bits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Data x ~ p(x|z) from bits (B, n), smoothed as in training, (B, *shape): what scatters as data do."""
        output = self.decoder(self.relaxation.smooth(bits, generator)).flatten(1).float()
        return self.likelihood.sample(output, generator).unflatten(1, self.shape)

    def reconstruct(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The likelihood's mean after encoding and decoding, (B, *shape).

        Raises:
            DataError: values are outside 0 to 1, and the likelihood is one of bits.
        """
        if self.likelihood.kind == "bits" and not bool(((x >= 0) & (x <= 1)).all()):
            raise DataError(
                f"this model was trained on values from 0 to 1, but was given {float(x.min()):g} to {float(x.max()):g}; divide "
                "8-bit images by 255."
            )
        return self.decode_bits(self.encode(x, generator), generator)

    def generate(
        self,
        num_images: int,
        sampler: LatentSampler,
        generator: torch.Generator | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """The likelihood's mean decoded from the prior's samples, (num_images, *shape).

        Args:
            num_images: how many.
            sampler: of the prior.
            generator: of the smoothing; None takes torch's global one.
            bias: fields (n,) added to the prior's, which steer what is generated; any sampler takes them.

        Raises:
            CapabilityError: the sampler can't sample this prior.
        """
        hamiltonian = self.prior.frozen()
        if bias is not None:
            hamiltonian = hamiltonian.replace(hamiltonian.h + bias)
        spins = sampler.sample(hamiltonian, num_images).equal_weights(generator).spins
        return self.decode_bits((1 + spins.to(self.prior.h)) / 2, generator)
