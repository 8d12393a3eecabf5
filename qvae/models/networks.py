"""Encoders and decoders: multilayer perceptrons, and convolutional networks for images and strings."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from qvae.config.network import NetworkConfig
from qvae.models.passes import normalised_silu, plus_bias

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Encoder(nn.Module):
    """What a likelihood shows of data, (B, D), to features (B, ``num_features``).

    Args:
        config: kind and widths.
        plane: the likelihood's: (H, W) of an image, (L,) of a string, () of a table.
        mean: (D,), subtracted from the input; of K D numbers where a likelihood shows K for each of data, (K, D) flattened.

    Raises:
        ValueError: convolutions are asked for, but there is no plane.
    """

    mean_image: Tensor

    def __init__(self, config: NetworkConfig, plane: tuple[int, ...], mean: Tensor) -> None:
        super().__init__()
        inputs = mean.numel()
        self.register_buffer("mean_image", mean.reshape(inputs).float())
        if config.kind == "mlp":
            self.layers: nn.Module = _mlp([inputs, *config.hidden], config)
            self.num_features = config.hidden[-1] if config.hidden else inputs
            return
        convolution, _, norm = _convolutions(plane)
        channels = [inputs // math.prod(plane), *config.hidden]
        layers: list[nn.Module] = [nn.Unflatten(1, (channels[0], *plane))]
        for before, after in itertools.pairwise(channels):
            layers += [convolution(before, after, 3, stride=2, padding=1, bias=not config.batch_norm)]
            layers += [norm(after)] if config.batch_norm else []
            layers += [ACTIVATIONS[config.activation]()]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.num_features = channels[-1] * math.prod(_conv_sizes(plane, len(config.hidden))[-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Features of ``inputs`` (B, D)."""
        return self.layers(inputs - self.mean_image)


class Decoder(nn.Module):
    """Latents (B, n) in [0, 1] to what a likelihood takes, (B, K D) for K numbers a datum, with a bias to start from.

    Args:
        config: kind and widths.
        num_latents: n.
        plane: the likelihood's: (H, W) of an image, (L,) of a string, () of a table.
        bias: (K D,), where the output starts.

    Raises:
        ValueError: convolutions are asked for, but there is no plane.
    """

    def __init__(self, config: NetworkConfig, num_latents: int, plane: tuple[int, ...], bias: Tensor) -> None:
        super().__init__()
        hidden = config.hidden[::-1] if config.decoder_hidden is None else config.decoder_hidden
        self.bias = nn.Parameter(bias.reshape(-1).float())
        if config.kind == "mlp":
            widths = [num_latents, *hidden]
            self.layers = nn.Sequential(_mlp(widths, config), nn.Linear(widths[-1], bias.numel(), bias=False))
            return
        _, transposed, norm = _convolutions(plane)
        sizes = list(reversed(_conv_sizes(plane, len(hidden))))
        channels = [*hidden, bias.numel() // math.prod(plane)]
        layers: list[nn.Module] = [nn.Linear(num_latents, channels[0] * math.prod(sizes[0])), ACTIVATIONS[config.activation]()]
        layers += [nn.Unflatten(1, (channels[0], *sizes[0]))]
        for level, (before, after) in enumerate(itertools.pairwise(channels)):
            # A stride-2 layer halves rounding up, so the way back needs to be told which of two sizes it was.
            extra = tuple(large - (2 * small - 1) for small, large in zip(sizes[level], sizes[level + 1], strict=True))
            last = level == len(channels) - 2
            needs_bias = not (last or config.batch_norm)
            layers += [transposed(before, after, 3, 2, 1, output_padding=extra, bias=needs_bias)]
            if not last:
                layers += [norm(after)] if config.batch_norm else []
                layers += [ACTIVATIONS[config.activation]()]
        self.layers = nn.Sequential(*layers, nn.Flatten())

    def forward(self, latents: Tensor) -> Tensor:
        """Parameters of p(x|z), in float32 or better whatever the precision of the layers."""
        return plus_bias(self.layers(latents), self.bias)


class Layers(nn.Sequential):
    """One after the other; batch norm and the SiLU behind it in one pass, where there is one for them."""

    def forward(self, x: Tensor) -> Tensor:
        rest = [*self]
        while rest:
            layer, *rest = rest
            both = normalised_silu(x, layer, rest[0]) if rest else None
            if both is None:
                x = layer(x)
            else:
                x, rest = both, rest[1:]
        return x


class Skipped(nn.Module):
    """x + f(x): He et al. 2016 (arXiv:1512.03385)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def _mlp(widths: list[int], config: NetworkConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    for place, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layer: list[nn.Module] = [nn.Linear(inputs, outputs, bias=not config.batch_norm)]
        layer += [nn.BatchNorm1d(outputs)] if config.batch_norm else []
        layer += [ACTIVATIONS[config.activation]()]
        is_between_hidden = place > 0 and inputs == outputs
        layers += [Skipped(Layers(*layer))] if config.residual and is_between_hidden else layer
    return Layers(*layers)


def _convolutions(plane: tuple[int, ...]) -> tuple[type[nn.Module], type[nn.Module], type[nn.Module]]:
    """The convolution, its transpose and the batch norm of a plane with so many axes."""
    if not plane:
        raise ValueError("network.kind is conv, which takes images or strings, but the data are a table; take mlp")
    if len(plane) == 1:
        return nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d
    return nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d


def _conv_sizes(plane: tuple[int, ...], depth: int) -> list[tuple[int, ...]]:
    """The lengths of all axes before, between and after ``depth`` stride-2 layers."""
    return [tuple(math.ceil(side / 2**k) for side in plane) for k in range(depth + 1)]
