"""The VQGAN: an autoencoder whose latents are made by a generator with a circuit, trained against a critic of latents."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from qvae.circuits.executor import Executor
from qvae.circuits.layer import CircuitLayer
from qvae.config.schema import ModelConfig
from qvae.models.autoencoder import Autoencoder, Code
from qvae.models.critic import Critic
from qvae.models.gaussian import GaussianPosterior, IdentityPosterior, NormalPrior
from qvae.models.generator import LatentGenerator
from qvae.models.likelihoods import likelihood_class
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.networks import Decoder, Encoder
from qvae.models.qvae import QVAE
from qvae.models.vqvae import VQVAE
from qvae.sampling.sampler import LatentSampler


class VQGAN(Autoencoder):
    """An autoencoder with a generator in its prior's place: it compresses and generates, and claims no likelihood.

    Args:
        autoencoder: of any kind; its own prior is left out.
        generator: of its latents.
        critic: what the generator is trained against.

    >>> model = VQGAN.from_config(ModelConfig(kind="vqgan", circuit={"qubits": 3}), Statistics.blank((8, 8))).eval()
    >>> model.generate(2).shape
    torch.Size([2, 8, 8])
    """

    prior: LatentGenerator

    def __init__(self, autoencoder: Autoencoder, generator: LatentGenerator, critic: Critic) -> None:
        parts = autoencoder.encoder, autoencoder.posterior, autoencoder.decoder, autoencoder.likelihood
        super().__init__(generator, *parts, autoencoder.shape)
        self.critic = critic
        self.is_frozen = False
        self.latents_are_bits = autoencoder.latents_are_bits
        self.relaxation = autoencoder.relaxation if isinstance(autoencoder, QVAE) else None

    @classmethod
    def from_config(
        cls,
        config: ModelConfig,
        statistics: Statistics,
        classes: tuple[int, ...] = (),
        autoencoder: Autoencoder | None = None,
        executor: Executor | None = None,
    ) -> Self:
        """The model that a configuration names.

        Args:
            config: generator, critic, circuit; networks and likelihood of the autoencoder.
            statistics: of the training data, as for any autoencoder.
            classes: labels of the classes that generator and critic are told.
            autoencoder: whose latents are generated; None makes one that has learnt nothing yet.
            executor: of the generator's circuit; None is ``statevector``.

        Raises:
            CircuitError, ExecutorError: the circuit can't be had, or not run.
            ValueError: convolutions on a table.
        """
        assert config.circuit is not None
        assert config.gan is not None
        assert config.critic is not None
        if config.generator == "patch":
            pixels, told = statistics.mean.numel(), (classes, executor)
            generator = LatentGenerator.of_patches(config.circuit, config.gan.noise, config.gan.ancillas, pixels, *told)
            autoencoder = _identity(config, statistics)
        else:
            if autoencoder is None:
                autoencoder = _autoencoder(config, config.gan.latents, statistics)
            posterior: Any = autoencoder.posterior
            n, bits = posterior.num_latents, autoencoder.latents_are_bits
            generator = LatentGenerator.from_config(config.circuit, config.gan.noise, n, classes, bits, executor)
        generator.temperature = config.gan.temperature
        return cls(autoencoder, generator, Critic(len(generator.mean) + len(classes), config.critic))

    def generate(
        self,
        num_images: int,
        sampler: LatentSampler | None = None,
        generator: torch.Generator | None = None,
        bias: Tensor | None = None,
        label: int | None = None,
    ) -> Tensor:
        """The likelihood's mean decoded from latents that the generator makes, (num_images, *shape), of one class if asked.

        Raises:
            CapabilityError: there is no class of this label, or a sampler or fields are given, which are of other models.
        """
        return self.decode_codes(self.prior.draw(num_images, sampler, generator, bias, label), generator)

    @property
    def has_likelihood(self) -> bool:
        """A generator's samples have no density that could be told."""
        return False

    @property
    def classes(self) -> tuple[int, ...]:
        """Labels that the generator is told."""
        return self.prior.classes

    @property
    def circuit(self) -> CircuitLayer | None:
        """That of the generator, or of its first patch; its ``executor`` may be changed. None in a classical arm."""
        return next(iter(self.prior.circuits), None)

    @property
    def compresses(self) -> bool:
        """A generator of pixels has an autoencoder that does nothing."""
        return not isinstance(self.posterior, IdentityPosterior)

    def posterior_sample(self, x: Tensor, relaxed: bool, generator: torch.Generator | None = None, draws: int = 1) -> Code:
        """Latents of rows x (B, D): smoothed if ``relaxed`` and they are bits; those of one row side by side."""
        features = self.encoder(self.likelihood.features(x))
        how = relaxed if self.relaxation is None else self.relaxation if relaxed else None
        return self.posterior(features, how, generator, draws)

    def _smoothed(self, codes: Tensor, generator: torch.Generator | None) -> Tensor:
        return codes if self.relaxation is None else self.relaxation.smooth(codes, generator)

    @torch.no_grad()
    def reality(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the generator is to make of noise: latents of prepared rows x (B, D), (B, n), of bits their means."""
        code = self.posterior_sample(x, relaxed=False, generator=generator)
        return code.means() if self.latents_are_bits else code.latents

    def autoencoder(self) -> VQVAE:
        """The autoencoder that is trained on the way, of the same modules, with a normal prior that keeps its latents near."""
        assert isinstance(self.posterior, GaussianPosterior)
        prior = NormalPrior(self.posterior.num_latents)
        return VQVAE(self.encoder, self.posterior, prior, self.decoder, self.likelihood, self.shape)

    def freeze_autoencoder(self) -> None:
        """No weight of the autoencoder learns any more, and its batch norms stay as they are, also in training."""
        for part in (self.encoder, self.posterior, self.decoder, self.likelihood):
            part.requires_grad_(False)
        self.is_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Training mode of what still learns."""
        super().train(mode)
        for part in (self.encoder, self.posterior, self.decoder) if self.is_frozen else ():
            part.eval()
        return self


def _autoencoder(config: ModelConfig, latents: int, statistics: Statistics) -> VQVAE:
    """One with a Gaussian posterior and no circuit, of the configuration's networks."""
    likelihood = likelihood_class(config.likelihood).from_config(config, statistics)
    encoder = Encoder(config.network, likelihood.plane, likelihood.input_mean())
    posterior = GaussianPosterior(encoder.num_features, latents)
    decoder = Decoder(config.network, latents, likelihood.plane, likelihood.initial_bias())
    return VQVAE(encoder, posterior, NormalPrior(latents), decoder, likelihood)


def _identity(config: ModelConfig, statistics: Statistics) -> VQVAE:
    """An autoencoder that does nothing: its latents are pixels, in standard deviations from their mean."""
    likelihood = likelihood_class(config.likelihood).from_config(config, statistics)
    posterior = IdentityPosterior(statistics.mean.numel())
    return VQVAE(nn.Identity(), posterior, None, nn.Identity(), likelihood, tuple(statistics.mean.shape))  # type: ignore[arg-type]
