"""The sections of a model with a circuit, and how those that were left out follow from the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from qvae.config.section import Positive, Section


class CircuitConfig(Section):
    """The circuit between encoder and decoder of a vqvae, or before the bits of a discrete one."""

    qubits: Positive = 10
    """30 at most; with arm gaussian, which has as many latents and nothing to run, 256"""
    encoding: str = "ry"
    """how angles enter: one of ``qvae.circuits.library.ENCODINGS``"""
    ansatz: str = "brickwork"
    """the layers with weights: one of ``qvae.circuits.library.ANSATZES``"""
    layers: Positive = 3
    reuploading: bool = False
    """encode anew before every layer"""
    angles: Literal["tanh", "linear"] = "tanh"
    """from latents u to angles: tanh, pi/2 (1 + tanh(u)), from 0 to pi | linear, u itself"""
    initial_weights: Annotated[float, Field(ge=0)] = 0.1
    """standard deviation of the learned angles at the start, in radians: near 0, where gradients are largest"""
    layerwise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """part of the training over which the layers begin to learn, one after another, the angles of the others being 0; 0 trains
    all from the start"""
    measured: Literal["z", "zz"] | list[str] = "z"
    """what the decoder sees: z, <Z> of each qubit | zz, those of all pairs, too | labels of Pauli strings; not of discrete"""
    arm: Literal["quantum", "unentangled", "frozen", "perceptron", "gaussian"] = "quantum"
    """what stands in the circuit's place, to compare it with: quantum, itself | unentangled, without gates on two qubits |
    frozen, at its first weights | perceptron, as many parameters | gaussian, nothing: latents go straight to the decoder"""

    @model_validator(mode="after")
    def _qubits_are_not_too_many(self) -> CircuitConfig:
        most = 256 if self.arm == "gaussian" and self.encoding != "amplitude" else 30
        if self.qubits > most:
            raise ValueError(f"qubits is {self.qubits}; it must be {most} or less")
        return self

    @property
    def is_run(self) -> bool:
        """Whether there is a circuit, or something classical in its place."""
        return self.arm not in ("perceptron", "gaussian")


class DiscreteConfig(Section):
    """A vqvae whose latents are the measured bits."""

    prior: Literal["uniform", "factorized", "boltzmann"] = "factorized"
    """factorized learns a field for each bit; boltzmann is that of model.latent, drawn by the sampler"""
    gradient: Literal["score", "relaxed"] = "score"
    """of the circuit: score, unbiased, from several draws a row | relaxed, Gumbel-softmax over all basis states, biased"""
    draws: Annotated[int, Field(ge=2)] = 4
    """of score: measured bits a row, each of which is the others' control variate"""


def completed(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a vqvae's model with the sections that follow from others; what is no mapping is left to be refused.

    A discrete one's prior has a spin for each qubit: without couplings, or, if boltzmann, coupled all to all.
    """
    found = {**keys, "variant": keys.get("variant") or "variational"}
    if found.get("circuit") is None:
        found["circuit"] = {}
    if found["variant"] != "discrete":
        return found
    if found.get("discrete") is None:
        found["discrete"] = {}
    circuit, discrete, latent = (_mapping(found.get(name)) for name in ("circuit", "discrete", "latent"))
    if "latent" not in found or (isinstance(found["latent"], Mapping) and not {"graph", "sizes"} & set(latent)):
        is_coupled = discrete.get("prior") == "boltzmann"
        sizes = [circuit.get("qubits", CircuitConfig().qubits)]
        found["latent"] = {"graph": "complete" if is_coupled else "edges", "sizes": sizes, **latent}
    return found


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, Section):
        return value.model_dump()
    return dict(value) if isinstance(value, Mapping) else {}
