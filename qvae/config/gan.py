"""The sections of a game between a generator and a critic: who draws, what is judged, and by which loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from qvae.config.section import Positive, Section


class GanConfig(Section):
    """What a vqgan generates, and from what."""

    autoencoder: str | None = None
    """folder of a run of kind qvae or vqvae whose latents are generated, and whose weights the new run then holds; None trains
    one of model.network on the way"""
    latents: Positive = 16
    """of the autoencoder that is trained on the way"""
    autoencoder_share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """part of the training that this one takes; the game has the rest"""
    kl_weight: Annotated[float, Field(ge=0)] = 0.3
    """of its KL part at the end of training.kl_warmup: below 1 more gets through the latents, and images are sharper"""
    noise: Positive = 10
    """normal numbers that a sample is made of"""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """standard deviation of the noise of samples: above 1 more of the data is covered, at less precision; the game
    has 1, as in the truncation trick of Brock et al. 2019 (arXiv:1809.11096)"""
    ancillas: Positive = 1
    """of each circuit of generator patch: qubits that are measured, and what is drawn is kept where they are 0"""
    conditional: bool | None = None
    """generator and critic are told the class, so that one can be asked for; None: if the data have labels"""


class CriticConfig(Section):
    """A network that tells data from samples, and the game that is played with it."""

    hidden: list[Positive] = [256, 256]
    """widths of the critic's layers"""
    loss: Literal["wasserstein", "nonsaturating"] = "wasserstein"
    """wasserstein: difference of mean scores | nonsaturating: logistic"""
    penalty: Literal["gradient", "r1", "spectral"] = "gradient"
    """what keeps the critic smooth: gradient, of norm 1 between data and samples | r1, small at data | spectral norms of 1"""
    penalty_weight: Annotated[float, Field(ge=0)] = 1.0
    """of gradient and r1"""
    steps: Positive = 1
    """turns of the critic for each one of a vqgan's generator"""
    weight: Annotated[float, Field(ge=0)] = 10.0
    """of a vqvae: of the critic's verdict on reconstructions, beside likelihood and KL part in nats"""


def completed_gan(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a vqgan's model with the sections that were left out, and a circuit and a critic of its own defaults.

    These are what the benchmarks found best: a game that is held near its equilibrium by R1 covers more of the data.
    """
    found = {name: {} if keys.get(name) is None else keys[name] for name in ("gan", "critic", "circuit")}
    is_patch = keys.get("generator") == "patch"
    if isinstance(found["circuit"], Mapping):
        qubits, layers, measured = (5, 6, "z") if is_patch else (8, 3, "zz")
        own = {"qubits": qubits, "ansatz": "strongly_entangling", "layers": layers, "measured": measured}
        found["circuit"] = {**own, **found["circuit"]}
    if isinstance(found["critic"], Mapping):
        critic = {"loss": "nonsaturating", "penalty": "r1", **found["critic"]}
        found["critic"] = {"penalty_weight": 3.0, **critic} if critic["penalty"] == "r1" else critic
    first = {"generator": "latent", "likelihood": "gaussian"} if is_patch else {"generator": "latent"}
    return {**first, **keys, **found}
