"""The section of encoder and decoder."""

from __future__ import annotations

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

    @model_validator(mode="after")
    def _convolutions_have_layers(self) -> NetworkConfig:
        for key in ("hidden", "decoder_hidden"):
            if self.kind == "conv" and getattr(self, key) == []:
                raise ValueError(f"{key} is empty; conv needs the channels of one layer or more")
        return self
