"""Encoders and decoders: multilayer perceptrons and convolutional networks."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from qvae.config.schema import NetworkConfig


class Encoder(nn.Module):
    """Images (B, D) of values in [0, 1] to features (B, ``num_features``).

    Args:
        config: kind and widths.
        image_shape: (H, W) or (C, H, W), of D = C H W pixels.
        mean_image: (D,) or the image's shape; subtracted from the input.
    """

    mean_image: Tensor

    def __init__(self, config: NetworkConfig, image_shape: tuple[int, ...], mean_image: Tensor) -> None:
        super().__init__()
        pixels = math.prod(image_shape)
        self.register_buffer("mean_image", mean_image.reshape(pixels).float())
        if config.kind == "mlp":
            self.layers: nn.Module = _mlp([pixels, *config.hidden], config.batch_norm)
            self.num_features = config.hidden[-1] if config.hidden else pixels
            return
        sizes = _conv_sizes(image_shape, len(config.hidden))
        channels = [_channels(image_shape)[0], *config.hidden]
        layers: list[nn.Module] = [nn.Unflatten(1, _channels(image_shape))]
        for inputs, outputs in itertools.pairwise(channels):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=not config.batch_norm)]
            layers += [nn.BatchNorm2d(outputs)] if config.batch_norm else []
            layers += [nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.num_features = channels[-1] * math.prod(sizes[-1])

    def forward(self, images: Tensor) -> Tensor:
        """Features of ``images`` (B, D)."""
        return self.layers(images - self.mean_image)


class Decoder(nn.Module):
    """Latents (B, n) in [0, 1] to the logits (B, D) of Bernoulli pixels, with a bias that starts at the data's mean."""

    def __init__(self, config: NetworkConfig, num_latents: int, image_shape: tuple[int, ...], mean_image: Tensor) -> None:
        super().__init__()
        pixels = math.prod(image_shape)
        hidden = config.hidden[::-1] if config.decoder_hidden is None else config.decoder_hidden
        self.bias = nn.Parameter(torch.logit(mean_image.reshape(pixels).float().clamp(0.005, 0.995)))
        if config.kind == "mlp":
            widths = [num_latents, *hidden]
            self.layers = nn.Sequential(_mlp(widths, config.batch_norm), nn.Linear(widths[-1], pixels, bias=False))
            return
        sizes = list(reversed(_conv_sizes(image_shape, len(hidden))))
        channels = [*hidden, _channels(image_shape)[0]]
        layers: list[nn.Module] = [nn.Linear(num_latents, channels[0] * math.prod(sizes[0])), nn.SiLU()]
        layers += [nn.Unflatten(1, (channels[0], *sizes[0]))]
        for level, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
            # A stride-2 layer halves rounding up, so the way back needs to be told which of two sizes it was.
            extra = tuple(large - (2 * small - 1) for small, large in zip(sizes[level], sizes[level + 1], strict=True))
            last = level == len(channels) - 2
            bias = not (last or config.batch_norm)
            layers += [nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=extra, bias=bias)]  # type: ignore[arg-type]
            if not last:
                layers += [nn.BatchNorm2d(outputs)] if config.batch_norm else []
                layers += [nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten())

    def forward(self, latents: Tensor) -> Tensor:
        """Logits of the pixels; float32 whatever the precision of the layers."""
        return self.layers(latents).float() + self.bias


def _mlp(widths: list[int], batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=not batch_norm)]
        layers += [nn.BatchNorm1d(outputs)] if batch_norm else []
        layers += [nn.SiLU()]
    return nn.Sequential(*layers)


def _channels(image_shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, *image_shape) if len(image_shape) == 2 else image_shape


def _conv_sizes(image_shape: tuple[int, ...], depth: int) -> list[tuple[int, int]]:
    """Heights and widths before, between and after ``depth`` stride-2 layers."""
    _, height, width = _channels(image_shape)
    return [(math.ceil(height / 2**k), math.ceil(width / 2**k)) for k in range(depth + 1)]
