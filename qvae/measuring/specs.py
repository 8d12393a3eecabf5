"""Which samplers are measured: those that a user names with options, or all that run here."""

from __future__ import annotations

from qvae.config.backends import BackendSpec
from qvae.config.load import parse_backend
from qvae.sampling.registered import sampler_infos
from qvae.sampling.registry import make_sampler
from qvae.sampling.sampler import LatentSampler
from qvae.workers import Workers


def parse_sampler(text: str) -> BackendSpec:
    """``NAME[:OPTION=VALUE,...]``, values in YAML.

    Raises:
        ConfigError: an option is not of that form.
        SamplerError: there is no such sampler, or it has no such option.
    """
    spec = parse_backend(text)
    make_seeded(spec, 0).close()  # what is wrong with a name or an option is said before anything is measured
    return spec


def make_seeded(spec: BackendSpec, seed: int, workers: Workers | None = None) -> LatentSampler:
    """A fresh sampler for a repetition: ``seed`` is counted from the specification's own, if it has one.

    Args:
        spec: its name and options.
        seed: of the repetition.
        workers: which draw for it, each a share of the samples; None is this process.
    """
    seed += int(spec.options.get("seed") or 0)
    if workers is None:
        return make_sampler(spec, seed)
    options = {option: value for option, value in spec.options.items() if option != "seed"}
    shared = {"of": {"name": spec.name, "options": options}, "executor": workers}
    return make_sampler(BackendSpec(name="pool", options=shared), seed)


def local_samplers() -> tuple[list[BackendSpec], dict[str, str]]:
    """Every registered sampler that runs here, at its defaults; and why the others are left out, by name."""
    chosen, left_out = [], {}
    for info in sampler_infos():
        if info.capabilities is None:
            left_out[info.name] = info.reason
        elif info.capabilities.remote:
            left_out[info.name] = f"it runs remotely and may cost money: name it, with --sampler {info.name}"
        elif info.is_composite:
            left_out[info.name] = f"it works through another one: name both, as in --sampler {info.name}:of=gibbs"
        else:
            chosen.append(BackendSpec(name=info.name))
    return chosen, left_out
