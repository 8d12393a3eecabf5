"""The section of encoder and decoder."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import model_validator

from qvae.config.section import Positive, Section


class NetworkConfig(Section):
    """Encoder and decoder."""

    kind: Literal["mlp", "conv"] = "mlp"
    hidden: list[Positive] = [256, 256]
    """mlp: widths of the hidden layers; conv: channels of the stride-2 layers; from the image to the latents"""
    decoder_hidden: list[Positive] | None = None
    """the decoder's, from the latents to the image; None takes those of ``hidden`` backwards"""
    batch_norm: bool = True
    activation: Literal["silu", "relu", "gelu", "tanh", "sigmoid"] = "silu"
    residual: bool = False
    """of mlp: each hidden layer that is as wide as the one before is added to it, so that gradients have a way past it"""

    @property
    def can_be_residual(self) -> bool:
        """Whether two hidden layers that follow each other are of one width."""
        both = (self.hidden, self.decoder_hidden or [])
        return self.kind == "mlp" and any(before == after for widths in both for before, after in pairwise(widths))

    @model_validator(mode="after")
    def _residual_layers_are_of_one_width(self) -> NetworkConfig:
        if self.residual and not self.can_be_residual:
            raise ValueError(
                f"residual is true, which needs kind mlp and two hidden layers of one width after each other, but kind is "
                f"{self.kind} and hidden {self.hidden}; change them, or set residual to false"
            )
        return self

    @model_validator(mode="after")
    def _convolutions_have_layers(self) -> NetworkConfig:
        for key in ("hidden", "decoder_hidden"):
            if self.kind == "conv" and getattr(self, key) == []:
                raise ValueError(f"{key} is empty; conv needs the channels of one layer or more")
        return self
