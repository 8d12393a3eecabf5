"""Which sampler or executor a run is given for what: name, options, seed and the user's words, as they are handed on."""

from types import SimpleNamespace

import pytest

from qvae.config.load import load_config
from qvae.runs import backends
from qvae.runs.backends import (
    chosen_executor,
    generation_executor,
    generation_sampler,
    make_executor,
    make_sampler,
    needed_words,
    own_seed,
)


@pytest.fixture
def made(monkeypatch):
    """What is asked for: name, options, seed, folder and words."""
    found = []

    def make(spec, seed, folder, trust):
        found.append((spec.name, dict(spec.options), seed, folder, set(trust.words)))

    monkeypatch.setattr(backends.registry, "make_sampler", make)
    executors = SimpleNamespace(make=lambda spec, seed, trust, folder: make(spec, seed, folder, trust))
    monkeypatch.setattr(backends, "EXECUTORS", executors)
    return found


def test_samplers_and_executors_of_a_run_have_seeds_apart_from_each_other_s(made, tmp_path):
    config = load_config("digits", ["training.seed=7"])
    seeds = [own_seed(config, purpose) for purpose in range(6)]
    assert len(set(seeds)) == 6
    assert own_seed(load_config("digits", ["training.seed=8"]), 2) not in seeds
    make_sampler(config.sampler, config, tmp_path, 1)
    generation_sampler(config, tmp_path)
    make_executor(config, tmp_path, 4)
    generation_executor(config, tmp_path)
    assert [(name, seed) for name, _, seed, *_ in made] == [
        ("gibbs", seeds[1]), ("gibbs", seeds[2]), ("statevector", seeds[4]), ("statevector", seeds[5]),
    ]  # fmt: skip
    assert all(folder == tmp_path for *_, folder, _ in made)
    made.clear()
    generation_sampler(config, tmp_path, "exact", 3)
    generation_sampler(config, tmp_path, seed=3)
    generation_executor(config, tmp_path, seed=3)
    assert [(name, seed) for name, _, seed, *_ in made] == [("exact", 3), ("gibbs", 3), ("statevector", 3)]
    fixed = load_config("digits", ["sampler.options.seed=11"])
    made.clear()
    make_sampler(fixed.sampler, fixed, tmp_path, 1)
    assert made[0][2] == 11


def test_options_beside_a_name_give_way_to_those_set_for_it_when_the_run_was_opened(made, tmp_path):
    config = load_config("digits", ["sampler=gibbs", "sampler.options.sweeps=9", "generation.sampler={name: dimod}"])
    generation_sampler(config, tmp_path)
    generation_sampler(config, tmp_path, "dimod")
    generation_sampler(config, tmp_path, "gibbs:sweeps=3,burn_in=5")
    generation_sampler(config, tmp_path, "exact")
    assert [(name, options) for name, options, *_ in made] == [
        ("dimod", {}), ("dimod", {}), ("gibbs", {"sweeps": 9, "burn_in": 5}), ("exact", {}),
    ]  # fmt: skip
    circuit = load_config("digits-vqvae", ["executor=aer", "executor.options.shots=9"])
    assert chosen_executor(circuit, None) is chosen_executor(circuit, "aer") is circuit.executor
    other = chosen_executor(circuit, "qiskit:shots=3")
    assert (other.name, dict(other.options)) == ("qiskit", {"shots": 3})


def test_what_a_user_names_needs_no_other_word(made, tmp_path):
    config = load_config("digits")
    generation_sampler(config, tmp_path, "dimod:sampler=my_module.Mine")
    generation_executor(config, tmp_path, "aer:backend=my_module.Mine")
    assert [words for *_, words in made] == [{"dimod", "my_module.Mine"}, {"aer", "my_module.Mine"}]


def test_every_backend_that_a_run_may_use_asks_for_its_word(monkeypatch, tmp_path):
    """A model without a circuit uses no executor, and one with a normal prior no sampler."""
    registry = SimpleNamespace(needs=lambda spec, folder: [SimpleNamespace(text=f"{spec.name} in {folder.name}")])
    monkeypatch.setattr(backends, "SAMPLERS", registry)
    monkeypatch.setattr(backends, "EXECUTORS", registry)
    config = load_config("digits", ["training.fallback=exact", "generation.sampler={name: dimod}"])
    here = tmp_path.name
    assert needed_words(config, tmp_path) == {f"{name} in {here}" for name in ("gibbs", "dimod", "exact")}
    assert needed_words(load_config("digits"), tmp_path) == {f"gibbs in {here}"}
    assert needed_words(load_config("digits-vqvae"), tmp_path) == {f"statevector in {here}"}
