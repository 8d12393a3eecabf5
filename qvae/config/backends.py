"""The sections that name a backend, or another part of a training that is chosen by name, with its options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import PrivateAttr, model_validator

from qvae.config.section import Section

MEMORY = "memory"
"""The name of data, or of a sampler, that were given from memory, and that nobody but their owner can load again."""


@dataclass(frozen=True)
class Overrides:
    """What was set on top of a configuration when it was read.

    That is no part of what the configuration says: two are equal whatever their overrides.

    Attributes:
        tree: nested keys.

    >>> Overrides({"executor": {"options": {"shots": 9}}}).options_of("qiskit", "executor")
    {'shots': 9}
    """

    tree: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def options_of(self, name: str, section: str) -> dict[str, Any]:
        """Options that were set in a section, as ``generation.sampler``, unless for a backend of another name."""
        found: Any = self.tree
        for key in section.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        is_for_it = isinstance(found, Mapping) and found.get("name", name) == name
        return dict(found.get("options") or {}) if is_for_it else {}


class BackendSpec(Section):
    """A registered backend, or one by its import path (``my_module:MySampler``), and its options."""

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _name_alone_will_do(cls, keys: Any) -> Any:
        return {"name": keys} if isinstance(keys, str) else keys

    @property
    def label(self) -> str:
        """In one line, which :func:`~qvae.config.load.parse_backend` reads back.

        >>> BackendSpec(name="gibbs", options={"sweeps": 50}).label
        'gibbs:sweeps=50'
        """
        text = ",".join(f"{option}={json.dumps(value)}" for option, value in self.options.items())
        return f"{self.name}:{text}" if text else self.name


class SamplerConfig(BackendSpec):
    """A sampler and its options."""

    name: str = "gibbs"
    _given: Any = PrivateAttr(default=None)

    @classmethod
    def of(cls, sampler: Any) -> SamplerConfig:
        """That of a sampler object, which no file can hold: it says of which class it is."""
        spec = cls(name=MEMORY, options={"class": type(sampler).__name__})
        spec._given = sampler
        return spec

    @property
    def given(self) -> Any:
        """The object; None where a name says which, or the object was given to another process."""
        return self._given


class ExecutorConfig(BackendSpec):
    """An executor of circuits and its options."""

    name: str = "statevector"


class GenerationConfig(Section):
    """What draws latents when the model generates."""

    sampler: SamplerConfig | None = None
    """None: the sampler of the negative phase, at the options of training"""

    @model_validator(mode="after")
    def _sampler_is_named(self) -> GenerationConfig:
        if self.sampler is not None and "name" not in self.sampler.model_fields_set:
            raise ValueError("sampler.name is missing; name the sampler that has these options, or set sampler to null")
        return self
