"""The generator of a VQGAN: noise, and a class, to latents of an autoencoder, by a circuit that noise enters in every layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qvae.circuits.executor import Executor
from qvae.circuits.layer import CircuitLayer
from qvae.config.circuit import CircuitConfig
from qvae.errors import CapabilityError, nearest
from qvae.models.circuit_block import CircuitBlock, perceptron, perceptron_like
from qvae.models.critic import with_class
from qvae.models.patches import Patches
from qvae.sampling.sampler import LatentSampler

_FIRST_SAMPLES = 256  # by which mean and variance are known to a tenth


class LatentGenerator(nn.Module):
    """A prior of latents that is learnt in a game: p(u) can be drawn from, but has no density.

    u = mean + std * head(body(noise, class)): the game is about latents of mean 0 and variance 1, by the statistics of the
    training data, which the generator keeps.

    Args:
        body: noise and class (B, noise + K) to features (B, F).
        head: features to standardised latents (B, n).
        num_latents: n.
        noise: how many normal numbers a sample is made of.
        classes: labels of the K classes; none for a generator that isn't told one.
        are_bits: latents are bits, of which the game is about the means q(z = 1|x): the generator makes means, and bits are
            drawn from them, as the posterior does.
    """

    mean: Tensor
    std: Tensor
    frequencies: Tensor
    temperature: float = 1.0
    """standard deviation of the noise that samples are drawn with; the game always has 1"""

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module,
        num_latents: int,
        noise: int,
        classes: tuple[int, ...] = (),
        are_bits: bool = False,
    ) -> None:
        super().__init__()
        self.body, self.head, self.noise, self.classes, self.are_bits = body, head, noise, classes, are_bits
        self.register_buffer("mean", torch.zeros(num_latents))
        self.register_buffer("std", torch.ones(num_latents))
        self.register_buffer("frequencies", torch.full((len(classes),), 1 / max(1, len(classes))))

    @classmethod
    def from_config(
        cls,
        config: CircuitConfig,
        noise: int,
        num_latents: int,
        classes: tuple[int, ...] = (),
        are_bits: bool = False,
        executor: Executor | None = None,
    ) -> LatentGenerator:
        """The generator of a configuration's circuit, or of what stands in its place.

        Raises:
            CircuitError: there is no such circuit.
            ExecutorError: the executor takes fewer qubits.
        """
        inputs = noise + len(classes)
        block = CircuitBlock.styled(config, inputs, executor)
        width = len(block.layer.observables)
        body: nn.Module = block
        if config.arm == "perceptron":
            body = perceptron(block)
        elif config.arm == "gaussian":
            body, width = nn.Identity(), inputs
        return cls(body, nn.Linear(width, num_latents), num_latents, noise, classes, are_bits)

    @classmethod
    def of_patches(
        cls,
        config: CircuitConfig,
        noise: int,
        ancillas: int,
        num_pixels: int,
        classes: tuple[int, ...] = (),
        executor: Executor | None = None,
    ) -> LatentGenerator:
        """One that draws pixels, by a circuit for each patch, or by a perceptron in their place.

        Raises:
            CircuitError, ExecutorError, ValueError: as :meth:`Patches.from_config`.
        """
        inputs = noise + len(classes)
        body: nn.Module = Patches.from_config(config, inputs, ancillas, num_pixels, executor)
        if config.arm == "perceptron":
            body = perceptron_like(body, inputs, num_pixels, nn.Sigmoid())
        return cls(body, nn.Identity(), num_pixels, noise, classes)

    @property
    def circuits(self) -> list[CircuitLayer]:
        """The layers of its circuits; none where a classical arm replaces them."""
        return [module for module in self.body.modules() if isinstance(module, CircuitLayer)]

    def forward(self, noise: Tensor, classes: Tensor | None) -> Tensor:
        """Standardised latents (B, n) of noise (B, noise) and classes (B, K), each a one among zeros."""
        return self.head(self.body(with_class(noise, classes)))

    def standardised(self, latents: Tensor) -> Tensor:
        """Latents (B, n) as the game is about them."""
        return (latents - self.mean) / self.std

    @torch.no_grad()
    def standardise_by(self, latents: Tensor) -> None:
        """Take mean and standard deviation of latents of the training data (N, n); one that never varies keeps its unit."""
        deviation, mean = torch.std_mean(latents.double(), 0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    @torch.no_grad()
    def begin_as_wide_as_data(self, generator: torch.Generator) -> None:
        """Scale and shift the head so that samples have the mean and variance of data: Salimans and Kingma 2016, section 3.

        Expectations of an entangled circuit vary the less, the more qubits it has, and the critic would see one point
        (arXiv:1602.07868).
        """
        if not isinstance(self.head, nn.Linear):
            return
        samples = self(self.draw_noise(_FIRST_SAMPLES, generator), self.draw_classes(_FIRST_SAMPLES, generator))
        deviation, mean = torch.std_mean(samples, 0)
        deviation = deviation.clamp(min=1e-6)
        self.head.weight.div_(deviation.unsqueeze(1))
        self.head.bias.sub_(mean).div_(deviation)

    def draw_noise(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Normal numbers, (count, noise)."""
        return torch.randn(count, self.noise, generator=generator, device=self.mean.device)

    def draw_classes(self, count: int, generator: torch.Generator | None, label: int | None = None) -> Tensor | None:
        """Classes (count, K) as often as they are in the training data, or all the one of a label.

        Raises:
            CapabilityError: there is no class of this label, or the generator isn't told any.
        """
        if label is not None and not self.classes:
            raise CapabilityError("this generator was trained without classes, so it takes no label; leave it out.")
        if label is not None and label not in self.classes:
            raise CapabilityError(f"there is no class {label}: {nearest(str(label), map(str, self.classes))}.")
        if not self.classes:
            return None
        if label is None:
            chosen = torch.multinomial(self.frequencies, count, replacement=True, generator=generator)
        else:
            chosen = torch.full((count,), self.classes.index(label), device=self.mean.device)
        return F.one_hot(chosen, len(self.classes)).float()

    @torch.no_grad()
    def draw(
        self,
        num_samples: int,
        sampler: LatentSampler | None = None,
        generator: torch.Generator | None = None,
        bias: Tensor | None = None,
        label: int | None = None,
    ) -> Tensor:
        """Latents (num_samples, n), of the class of a label if one is given.

        Raises:
            CapabilityError: a sampler or fields are given, which are of Boltzmann priors, or there is no such class.
        """
        if sampler is not None or bias is not None:
            what = "sampler" if sampler is not None else "fields"
            raise CapabilityError(f"this model's latents come from a generator, which takes no {what}; leave it out.")
        noise = self.temperature * self.draw_noise(num_samples, generator)
        classes = self.draw_classes(num_samples, generator, label)
        latents = self.mean + self.std * self(noise, classes)
        return torch.bernoulli(latents.clamp(0, 1), generator=generator) if self.are_bits else latents
