"""The quantum variational autoencoder: encoder, posterior, Boltzmann prior, decoder and likelihood."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qvae.config.schema import ModelConfig
from qvae.errors import CapabilityError
from qvae.ising.graphs import Graph
from qvae.models.autoencoder import Autoencoder
from qvae.models.labels import LabelUnits
from qvae.models.likelihoods import likelihood_class
from qvae.models.likelihoods.likelihood import Likelihood, Statistics
from qvae.models.networks import Decoder, Encoder
from qvae.models.posterior import BernoulliCode, Posterior, split_levels
from qvae.models.prior import BoltzmannPrior, make_graph
from qvae.models.relaxation import Gumbel, Relaxation, make_relaxation
from qvae.sampling.sampler import LatentSampler


class QVAE(Autoencoder):
    """p(x, z) = p(z) p(x | decoder(z)), p(z) a Boltzmann machine, with posterior q(z|x).

    Any modules will do as encoder and decoder. With label units the last bits carry the class: of rows whose class is given the
    posterior is certain of them, of others it guesses them like all bits.

    Args:
        encoder: what the likelihood shows of x, ``likelihood.features(x)`` (B, D), to features (B, F).
        posterior: features to latent bits, as :class:`~qvae.models.posterior.Posterior` of F features and n bits.
        prior: of the n bits.
        decoder: bits, or their relaxation, (B, n), to the parameters of p(x|z), (B, D) or of any shape that flattens to it.
        likelihood: p(x | decoder's output).
        relaxation: of the bits in training; None is Gumbel's at its default temperature.
        shape: of one row of data, such as (H, W); None is that of the likelihood's statistics.
        labels: what the last of the n bits mean, if they are a row's class.

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
        labels: LabelUnits | None = None,
    ) -> None:
        if sum(posterior.level_sizes) != prior.num_spins:
            raise ValueError(f"the posterior has {sum(posterior.level_sizes)} bits, but the prior {prior.num_spins}")
        super().__init__(prior, encoder, posterior, decoder, likelihood, shape)
        self.relaxation = Gumbel() if relaxation is None else relaxation
        self.labels = labels

    @classmethod
    def from_config(
        cls, config: ModelConfig, statistics: Statistics, graph: Graph | None = None, classes: tuple[int, ...] = ()
    ) -> QVAE:
        """The model that a configuration names.

        Args:
            config: latent graph, posterior, relaxation, networks and likelihood.
            statistics: of the training data: their shape, the input's offset and the start of the decoder's bias.
            graph: of the latents, where the configuration says ``native``; None makes the one it names.
            classes: labels of the training rows, where the configuration has label units for them.

        Raises:
            ValueError: more levels than latent spins, a gamma to be trained that is 0, convolutions on a table, or label units
                without classes.
        """
        latent = config.latent
        labels = None if latent.label_units is None else LabelUnits(classes, latent.label_units)
        units = 0 if labels is None else labels.size
        graph = make_graph(latent, units) if graph is None else graph
        likelihood = likelihood_class(config.likelihood).from_config(config, statistics)
        prior = BoltzmannPrior(graph, _with_units(latent.gamma, latent.num_spins, units), latent.train_gamma)
        levels = split_levels(graph.num_spins - units, config.posterior.levels, list(latent.sizes))
        levels[-1] += units
        encoder = Encoder(config.network, likelihood.plane, likelihood.input_mean())
        posterior = Posterior(encoder.num_features, levels)
        decoder = Decoder(config.network, graph.num_spins, likelihood.plane, likelihood.initial_bias())
        return cls(encoder, posterior, prior, decoder, likelihood, make_relaxation(config.relaxation), labels=labels)

    @property
    def classes(self) -> tuple[int, ...]:
        """Labels that the label units tell apart."""
        return () if self.labels is None else self.labels.classes

    def posterior_sample(
        self,
        x: Tensor,
        relaxed: bool,
        generator: torch.Generator | None = None,
        draws: int = 1,
        words: Tensor | None = None,
    ) -> BernoulliCode:
        """Latents of rows x (B, D): smoothed if ``relaxed``, otherwise bits; those of one row side by side.

        The label bits of rows whose class is known are given by its ``words`` (B, L), and never smoothed.
        """
        features = self.encoder(self.likelihood.features(x))
        code = self.posterior(features, self.relaxation if relaxed else None, generator, draws)
        if words is None:
            return code
        assert self.labels is not None
        return self.labels.told(code, words.repeat_interleave(draws, dim=0))

    def draw_of_class(
        self, num_samples: int, label: int, sampler: LatentSampler | None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Bits z ~ p(z | label) with those of the label units, which are held, (num_samples, n).

        Raises:
            CapabilityError: there is no class of this label, or no label units; or the sampler can't sample this prior.
        """
        if self.labels is None:
            raise CapabilityError("this model has no label units to hold; train with model.latent.label_units=one-hot.")
        n, word = self.prior.num_spins, self.labels.word(label)
        return self.prior.draw(num_samples, sampler, generator, held=range(n - len(word), n), values=word)

    def generate(
        self,
        num_images: int,
        sampler: LatentSampler | None = None,
        generator: torch.Generator | None = None,
        bias: Tensor | None = None,
        label: int | None = None,
    ) -> Tensor:
        """The likelihood's mean decoded from the prior's samples, (num_images, *shape), of one class if asked.

        Raises:
            CapabilityError: as of :meth:`Autoencoder.generate`, or the model has no label units, or none for this label.
        """
        if label is None:
            return super().generate(num_images, sampler, generator, bias)
        return self.decode_codes(self.draw_of_class(num_images, label, sampler, generator), generator)

    def _smoothed(self, codes: Tensor, generator: torch.Generator | None) -> Tensor:
        smoothed = self.relaxation.smooth(codes, generator)
        if self.labels is None:
            return smoothed
        return torch.cat([smoothed[:, : -self.labels.size], codes[:, -self.labels.size :]], 1)


def _with_units(gamma: float | list[float], spins: int, units: int) -> float | list[float]:
    """A transverse field of ``spins``, and none on label units, so that they can be held."""
    if not units:
        return gamma
    return [*(gamma if isinstance(gamma, list) else [gamma] * spins), *[0.0] * units]
