"""The quantum variational autoencoder: encoder, posterior, Boltzmann prior and decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qvae.config.schema import ModelConfig
from qvae.ising.graphs import Graph
from qvae.models.networks import Decoder, Encoder
from qvae.models.posterior import Code, Posterior, split_levels
from qvae.models.prior import BoltzmannPrior, make_graph
from qvae.models.relaxation import make_relaxation
from qvae.sampling.sampler import LatentSampler

_DECODED_AT_ONCE = 4096  # so that the memory of a large sample is that of its images


class QVAE(nn.Module):
    """p(x, z) = p(z) prod_d Bernoulli(x_d | decoder(z)), p(z) a Boltzmann machine, with posterior q(z|x).

    Images come as (B, *image_shape) or (B, D), with values in [0, 1].

    Args:
        config: latent graph, posterior, relaxation and networks.
        mean_image: mean of the training images, of shape (H, W) or (C, H, W): the shape of the images, the input's offset
            and the start of the decoder's bias.
        graph: of the latents, where the configuration says ``native``; None makes the one it names.

    Raises:
        ValueError: more levels than latent spins, or a gamma to be trained that is 0.

    >>> model = QVAE(ModelConfig(), torch.full((8, 8), 0.3)).eval()
    >>> model.reconstruct(torch.zeros(2, 8, 8)).shape
    torch.Size([2, 8, 8])
    """

    def __init__(self, config: ModelConfig, mean_image: Tensor, graph: Graph | None = None) -> None:
        super().__init__()
        self.config = config
        self.image_shape = tuple(mean_image.shape)
        graph = make_graph(config.latent) if graph is None else graph
        self.prior = BoltzmannPrior(graph, config.latent.gamma, config.latent.train_gamma)
        levels = split_levels(graph.num_spins, config.posterior.levels, list(config.latent.sizes))
        self.encoder = Encoder(config.network, self.image_shape, mean_image)
        self.posterior = Posterior(self.encoder.num_features, levels)
        self.decoder = Decoder(config.network, graph.num_spins, self.image_shape, mean_image)
        self.relaxation = make_relaxation(config.relaxation)

    def posterior_sample(self, images: Tensor, relaxed: bool, generator: torch.Generator | None = None) -> Code:
        """Latents of images (B, D): smoothed if ``relaxed``, otherwise bits."""
        return self.posterior(self.encoder(images), self.relaxation if relaxed else None, generator)

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        """log p(x|z) of binary images (B, D) given latents (B, n), in nats, (B,)."""
        return bernoulli_log_likelihood(self.decoder(latents), images)

    @torch.no_grad()
    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latent bits z ~ q(z|x), (B, n)."""
        return self.posterior_sample(images.flatten(1), relaxed=False, generator=generator).latents

    @torch.no_grad()
    def code_means(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """q(z_i = 1|x) of images (B, D), (B, n); in the later levels of a hierarchy, given bits drawn in the earlier ones."""
        return torch.sigmoid(self.posterior_sample(images.flatten(1), relaxed=False, generator=generator).logits)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Probabilities of the pixels, (B, *image_shape), from latent bits or relaxed latents (B, n)."""
        return torch.sigmoid(self.decoder(latents)).unflatten(1, self.image_shape)

    def decode_bits(self, bits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Probabilities of the pixels from bits (B, n), smoothed as in training: a one to near one, a zero to near zero."""
        batches = bits.split(_DECODED_AT_ONCE)
        return torch.cat([self.decode(self.relaxation.smooth(batch, generator)) for batch in batches])

    def reconstruct(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Probabilities of the pixels after encoding and decoding, (B, *image_shape)."""
        return self.decode_bits(self.encode(images, generator), generator)

    def generate(
        self,
        num_images: int,
        sampler: LatentSampler,
        generator: torch.Generator | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Probabilities of the pixels decoded from the prior's samples, (num_images, *image_shape).

        Args:
            num_images: how many.
            sampler: of the prior.
            generator: of the smoothing; None takes torch's global one.
            bias: fields (n,) added to the prior's, which steer what is generated; any sampler takes them.

        Raises:
            CapabilityError: the sampler can't sample this prior.
        """
        hamiltonian = self.prior.hamiltonian().detach()
        if bias is not None:
            hamiltonian = hamiltonian.replace(hamiltonian.h + bias)
        spins = sampler.sample(hamiltonian, num_images).spins
        return self.decode_bits((1 + spins.to(self.prior.h)) / 2, generator)


def bernoulli_log_likelihood(logits: Tensor, images: Tensor) -> Tensor:
    """sum_d x_d log p_d + (1-x_d) log(1-p_d) with p = sigmoid(logits), (B,)."""
    return -F.binary_cross_entropy_with_logits(logits, images, reduction="none").sum(-1)
