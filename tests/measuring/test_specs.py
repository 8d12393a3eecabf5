"""Samplers as a command line names them, and those that take part unnamed."""

import pytest

from qvae.config.backends import BackendSpec
from qvae.errors import ConfigError, SamplerError
from qvae.measuring import specs
from qvae.measuring.specs import local_samplers, make_seeded, parse_sampler
from qvae.plugins import PluginInfo
from qvae.sampling.sampler import Capabilities


def test_samplers_with_options():
    spec = parse_sampler("gibbs:sweeps=50,persistent=false")
    assert (spec.name, spec.options) == ("gibbs", {"sweeps": 50, "persistent": False})
    assert parse_sampler(BackendSpec(name="gibbs", options={"sweeps": 50, "persistent": False}).label).options == spec.options
    nested = parse_sampler("dimod:parameters={beta_range: [0.1, 1.0], num_sweeps: 10},held=0.5")
    assert nested.options == {"parameters": {"beta_range": [0.1, 1.0], "num_sweeps": 10}, "held": 0.5}
    with pytest.raises(SamplerError, match="no installed sampler is called 'gibs'"):
        parse_sampler("gibs")
    with pytest.raises(SamplerError, match="has no option 'sweep'"):
        parse_sampler("gibbs:sweep=3")
    with pytest.raises(ConfigError):
        parse_sampler("gibbs:sweeps")


def test_only_local_samplers_take_part_unnamed(monkeypatch):
    infos = [
        PluginInfo("here", "p", "1", Capabilities()),
        PluginInfo("far", "p", "1", Capabilities(remote=True)),
        PluginInfo("broken", "p", "1", None, "needs the module x"),
        PluginInfo("around", "p", "1", Capabilities(), is_composite=True),
    ]
    monkeypatch.setattr(specs, "sampler_infos", lambda: infos)
    chosen, left_out = local_samplers()
    assert [spec.name for spec in chosen] == ["here"]
    assert left_out["broken"] == "needs the module x"
    assert "may cost money" in left_out["far"]
    assert "it works through another one" in left_out["around"]


def test_seeds_are_counted_from_a_specification_s_own_and_workers_draw_in_a_pool(monkeypatch):
    made = []
    monkeypatch.setattr(specs, "make_sampler", lambda spec, seed: made.append((spec.name, spec.options, seed)))
    spec, workers = BackendSpec(name="gibbs", options={"sweeps": 5, "seed": 100}), object()
    make_seeded(spec, 3)
    make_seeded(BackendSpec(name="gibbs"), 3)
    make_seeded(spec, 3, workers)
    of = {"name": "gibbs", "options": {"sweeps": 5}}
    assert made[:2] == [("gibbs", {"sweeps": 5, "seed": 100}, 103), ("gibbs", {}, 3)]
    assert made[2] == ("pool", {"of": of, "executor": workers}, 103)
