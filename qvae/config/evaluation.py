"""The section of the numbers at the end of a training, and of what is looked at on the way."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from qvae.config.section import Positive, Section, Seed


class EvaluationConfig(Section):
    """The likelihood at the end, and what is looked at on the way."""

    importance_samples: Positive = 100
    num_test: Positive | None = None
    """test images used; None for all of them"""
    log_z_chains: Annotated[int, Field(ge=2)] = 500
    log_z_temperatures: Annotated[int, Field(ge=2)] = 2000
    num_generated: Annotated[int, Field(ge=0)] = 10_000
    """samples in the Frechet distance, or of strings in their figures; 0 leaves them out"""
    check: str | None = None
    """of strings: a regular expression that valid ones match as a whole; None says nothing of validity"""
    inception_weights: str | None = None
    """file of the Inception weights, for the distance that goes by its name; None leaves it out"""
    probes: bool = True
    """read the labels from the code by a linear and an MLP probe"""
    tsne_every: Annotated[int, Field(ge=0)] = 10
    """epochs between two maps of the latent film; 0 leaves out film and map"""
    seed: Seed = 0

    @field_validator("check")
    @classmethod
    def _is_a_regular_expression(cls, check: str | None) -> str | None:
        try:
            re.compile(check or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"it must be a regular expression ({error})") from None
        return check
