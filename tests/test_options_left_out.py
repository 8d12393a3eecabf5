"""What a user leaves out has the value of before: the same command gives the same numbers, or a change is meant."""

import importlib.util
import inspect

import pytest

from qvae.applications import APPLICATIONS, TASKS
from qvae.circuits.registry import executor_options
from qvae.measuring.benchmark import run_benchmark
from qvae.measuring.problems import DEFAULT_PROBLEMS, FAMILIES
from qvae.measuring.recommend import recommend
from qvae.sampling.registered import sampler_options
from qvae.search import Search
from qvae.testing import run_checks, run_executor_checks

SAMPLERS = {
    "gibbs": {"sweeps": 10, "burn_in": 200, "persistent": True, "annealing": 0, "tempering": 0, "beta_min": 0.2, "seed": None},
    "path_integral": {"sweeps": 10, "burn_in": 200, "slices": None, "persistent": True, "seed": None},
    "exact": {"seed": None},
    "dimod": {
        "sampler": "dwave.samplers.SimulatedAnnealingSampler", "sampler_options": None, "parameters": None, "num_sweeps": 100,
        "held": 0.5, "seed": None,
    },
    "dwave": {
        "solver": None, "region": None, "profile": None, "endpoint": None, "annealing_time": None, "fast_anneal": False,
        "anneal_schedule": None, "parameters": None, "spin_reversal": True, "chain_strength": None, "chain_breaks": "discard",
        "beta": None, "max_qpu_seconds": None, "timeout": 300.0, "retries": 3, "retry_seconds": 1.0, "record": None,
        "replay": None, "seed": None,
    },
    "pool": {"of": "gibbs", "workers": None, "address": None, "executor": None, "seed": None},
    "aer": {"layers": 2, "trainer": "simulator", "shots": None, "backend": None, "noise_model": None, "seed": None},
}  # fmt: skip
EXECUTORS = {
    "statevector": {"seed": None},
    "qiskit": {
        "backend": None, "noise_model": None, "shots": 1024, "readout_mitigation": False, "zero_noise_scales": None,
        "seed": None,
    },
}  # fmt: skip
EFFORT = {"completions": 8, "draws": 128, "steps": 100, "sampler": None, "trained": False, "seed": 0}
APPLIED = {
    "generate": {
        "num": 64, "sampler": None, "executor": None, "label": None, "strength": 0.5, "check": None, "seed": None,
    },
    "reconstruct": {"num": 64, "executor": None},
    "augment": {"factor": 10, "sampler": None, "seed": 0},
    "compress": {"lossy": False, "thrift": 0.0},
    "decompress": {},
    "denoise": {"noise": "salt-and-pepper", "amount": 0.2} | EFFORT,
    "detect": {"normal": None, "samples": 50, "seed": 0},
    "embed": {"format": "npz"},
    "inpaint": {"mask": None} | EFFORT,
    "interpolate": {"frames": 9, "width": 64},
    "style": {"strength": 1.0, "units": None, "grid": 8},
    "super-resolve": EFFORT,
}  # fmt: skip


def skip_without(module):
    if module is not None and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


@pytest.mark.parametrize("name", SAMPLERS)
def test_of_samplers(name):
    skip_without({"dwave": "minorminer", "aer": "qiskit_aer", "dimod": "dimod"}.get(name))
    assert sampler_options(name) == SAMPLERS[name]


@pytest.mark.parametrize("name", EXECUTORS)
def test_of_executors(name):
    skip_without({"qiskit": "qiskit_aer"}.get(name))
    assert executor_options(name) == EXECUTORS[name]


@pytest.mark.parametrize("name", APPLICATIONS | TASKS)
def test_of_applications(name):
    module = (APPLICATIONS | TASKS)[name]
    found = defaults(getattr(importlib.import_module(module), module.rpartition(".")[2]))
    assert found == APPLIED[name] | {"out": None} | ({"progress": None} if name in TASKS else {})


def test_of_benchmarks_searches_and_conformance_suites():
    found = {key: value for key, value in defaults(run_benchmark).items() if not callable(value)}
    assert found == {
        "budget": 4.0, "reference_seconds": None, "seed": 0, "device": "cpu", "qpu_price": None, "left_out": None,
        "cluster": None,
    }  # fmt: skip
    assert defaults(recommend)["seconds"] == 60.0
    assert defaults(Search) == {"sampler": "tpe", "trials": 20, "aim": "log_likelihood"}
    assert (defaults(run_checks), defaults(run_executor_checks)) == ({"num_samples": 4000}, {"num_samples": 4000})
    assert {name: dict(family.options) for name, family in FAMILIES.items() if "seed" in family.options} == {
        "rbm-weak": {"n1": 64, "n2": 64, "beta": 1.0, "seed": 0},
        "rbm-critical": {"n1": 64, "n2": 64, "beta": 1.0, "seed": 0},
        "zephyr": {"m": 4, "strength": 0.7, "beta": 1.0, "seed": 0},
        "pegasus": {"m": 4, "strength": 0.7, "beta": 1.0, "seed": 0},
        "glass": {"n": 12, "graph": "complete", "strength": 1.0, "beta": 1.0, "seed": 0},
    }
    assert DEFAULT_PROBLEMS == (
        "rbm-weak:8x8", "glass:n=12", "glass:n=8,gamma=1", "rbm-critical:64x64", "trained-digits", "trained-mnist",
        "trained-zephyr", "zephyr:m=4", "glass:n=500,graph=regular", "glass:n=48,gamma=1",
    )  # fmt: skip
