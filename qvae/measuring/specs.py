"""Which samplers are measured: a registered one with options, as the command line writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qvae.config.load import parse_assignments
from qvae.sampling.registry import load_sampler, sampler_infos, sampler_options
from qvae.sampling.sampler import LatentSampler


@dataclass(frozen=True)
class SamplerSpec:
    """A registered sampler and options for it, and whether a user named it."""

    name: str
    options: Mapping[str, Any]
    label: str
    is_named: bool = True

    @classmethod
    def of(cls, name: str, options: Mapping[str, Any], is_named: bool = True) -> SamplerSpec:
        """With a label that :func:`parse_sampler` reads back."""
        text = ",".join(f"{key}={json.dumps(value)}" for key, value in options.items())
        return cls(name, dict(options), f"{name}:{text}" if text else name, is_named)

    def make(self, seed: int) -> LatentSampler:
        """A fresh sampler, seeded if it takes a seed."""
        options = dict(self.options)
        if "seed" in sampler_options(self.name):
            options["seed"] = int(options.get("seed") or 0) + seed
        return load_sampler(self.name, **options)


def parse_sampler(text: str) -> SamplerSpec:
    """``NAME[:OPTION=VALUE,...]``, values in YAML.

    Raises:
        ConfigError: an option is not of that form.
        SamplerError: there is no such sampler, or it has no such option.

    >>> parse_sampler("gibbs:sweeps=50,persistent=false").options
    {'sweeps': 50, 'persistent': False}
    """
    name, _, rest = text.partition(":")
    # Commas inside brackets belong to a value.
    options = parse_assignments(part for part in re.split(r",(?![^\[{]*[\]}])", rest) if part.strip())
    spec = SamplerSpec(name, options, text)
    spec.make(0).close()  # what is wrong with a name or an option is said before anything is measured
    return spec


def local_samplers() -> tuple[list[SamplerSpec], dict[str, str]]:
    """Every registered sampler that runs here, at its defaults; and why the others are left out, by name."""
    chosen, left_out = [], {}
    for info in sampler_infos():
        if info.capabilities is None:
            left_out[info.name] = info.reason
        elif info.capabilities.remote:
            left_out[info.name] = f"it runs remotely and may cost money: name it, with --sampler {info.name}"
        else:
            chosen.append(SamplerSpec.of(info.name, {}, is_named=False))
    return chosen, left_out
