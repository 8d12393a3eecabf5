"""What every autoencoder here can do, whatever its latents are: encode, decode, reconstruct, generate, log-probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

from qvae.circuits.layer import CircuitLayer
from qvae.errors import CapabilityError, DataError
from qvae.models.likelihoods.likelihood import Likelihood
from qvae.sampling.sampler import LatentSampler

_DECODED_AT_ONCE = 4096  # so that the memory of a large sample is that of its images


class Code(Protocol):
    """Latents drawn from q(z|x) of B rows, those of one row side by side.

    Attributes:
        latents: (B K, n).
    """

    latents: Tensor

    def log_prob(self) -> Tensor:
        """log q(z|x) of the latents, (B K,)."""
        ...

    def means(self) -> Tensor:
        """E_q[z|x], (B, n)."""
        ...

    def variances(self) -> Tensor:
        """Of each latent given x, (B, n)."""
        ...


class Prior(Protocol):
    """p(z), of which samples can be had."""

    def draw(
        self,
        num_samples: int,
        sampler: LatentSampler | None = None,
        generator: torch.Generator | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Latents z ~ p(z), (num_samples, n)."""
        ...


class Autoencoder(nn.Module, ABC):
    """p(x, z) = p(z) p(x | decoder(z)) with posterior q(z|x); data come as rows (B, D) or in their own shape, (B, *shape).

    Args:
        prior: of the latents; None is that of an autoencoder which only compresses.
        encoder: what the likelihood shows of x, ``likelihood.features(x)`` (B, D), to features (B, F).
        posterior: features to latents (B, n).
        decoder: latents to the parameters of p(x|z), (B, D) or of any shape that flattens to it.
        likelihood: p(x | decoder's output).
        shape: of one row of data, such as (H, W); None is that of the likelihood's statistics.

    Attributes:
        latents_are_bits: else they are real numbers.
    """

    latents_are_bits: bool

    @property
    def has_likelihood(self) -> bool:
        """Whether p(x) can be estimated: there is a prior, and its p(z) is known."""
        return self.prior is not None

    @property
    def compresses(self) -> bool:
        """Whether latents are another thing than data, so that reconstructions and maps of them tell something."""
        return True

    @property
    def classes(self) -> tuple[int, ...]:
        """Labels of which ``generate`` can be told one, by its argument ``label``; none of a model that takes none."""
        return ()

    @property
    def circuit(self) -> CircuitLayer | None:
        """The circuit that an executor runs; its ``executor`` may be changed. None where there is none."""
        return None

    def __init__(
        self,
        prior: nn.Module | None,
        encoder: nn.Module,
        posterior: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.prior = prior
        self.encoder = encoder
        self.posterior = posterior
        self.decoder = decoder
        self.likelihood = likelihood
        self.shape = tuple(likelihood.statistics.mean.shape if shape is None else shape)

    @abstractmethod
    def posterior_sample(self, x: Tensor, relaxed: bool, generator: torch.Generator | None = None, draws: int = 1) -> Code:
        """Latents of rows x (B, D): smoothed if ``relaxed`` and they are bits; those of one row side by side."""

    def _smoothed(self, codes: Tensor, generator: torch.Generator | None) -> Tensor:
        """Codes as the decoder has seen them in training."""
        return codes

    def log_likelihood(self, x: Tensor, latents: Tensor) -> Tensor:
        """log p(x|z) of rows x (B, D) given latents (B K, n), those of one row side by side, in nats, (B K,)."""
        output = self.decoder(latents).flatten(1).float()
        with torch.autocast(x.device.type, enabled=False):
            if len(latents) == len(x):
                return self.likelihood.log_prob(output, x)
            return self.likelihood.log_prob_draws(output.unflatten(0, (len(x), -1)), x).flatten()

    @torch.no_grad()
    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents z ~ q(z|x), (B, n)."""
        return self.posterior_sample(self._rows(x), relaxed=False, generator=generator).latents

    @torch.no_grad()
    def code_means(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """E_q[z|x], (B, n); in the later levels of a hierarchy, given bits drawn in the earlier ones."""
        return self.code_moments(x, generator)[0]

    @torch.no_grad()
    def code_moments(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Means, as of :meth:`code_means`, and variances of q(z|x), (B, n) both."""
        code = self.posterior_sample(self._rows(x), relaxed=False, generator=generator)
        return code.means(), code.variances()

    def _rows(self, x: Tensor) -> Tensor:
        """Data of any type and shape (B, ...), wherever they are, as rows (B, D) of the weights' type and beside them."""
        return x.flatten(1).to(next(self.parameters()))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The likelihood's mean (of pixels: their probabilities), (B, *shape), from latents (B, n), relaxed or not."""
        return self.likelihood.mean(self.decoder(latents).flatten(1).float()).unflatten(1, self.shape)

    def decode_codes(self, codes: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The likelihood's mean from codes (B, n); bits are smoothed as in training: a one to near one, a zero to near zero."""
        batches = codes.split(_DECODED_AT_ONCE)
        return torch.cat([self.decode(self._smoothed(batch, generator)) for batch in batches])

    @torch.no_grad()
    def draw(self, codes: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Data x ~ p(x|z) from codes (B, n), smoothed as in training, (B, *shape): what scatters as data do."""
        output = self.decoder(self._smoothed(codes, generator)).flatten(1).float()
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
        return self.decode_codes(self.encode(x, generator), generator)

    def generate(
        self,
        num_images: int,
        sampler: LatentSampler | None = None,
        generator: torch.Generator | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """The likelihood's mean decoded from the prior's samples, (num_images, *shape).

        Args:
            num_images: how many.
            sampler: of a Boltzmann prior; others draw by themselves.
            generator: of the smoothing, and of priors that draw by themselves; None takes torch's global one.
            bias: fields (n,) added to a Boltzmann prior's, which steer what is generated; any sampler takes them.

        Raises:
            CapabilityError: the sampler can't sample this prior, the prior needs none, or the model has no prior.
        """
        return self.decode_codes(self.require_prior().draw(num_images, sampler, generator, bias), generator)

    def require_prior(self) -> Prior:
        """The prior, of which samples can be had.

        Raises:
            CapabilityError: there is none.
        """
        if self.prior is None:
            raise CapabilityError(
                "a deterministic autoencoder has no prior to draw from, so it generates nothing; train with "
                "model.variant=variational or discrete."
            )
        return self.prior  # type: ignore[return-value]
