"""Every option of every command arrives where the work is done: the call is caught, and its arguments are looked at."""

import functools
import importlib
import inspect
import sys
import typing
from pathlib import Path

import pytest
import typer

import qvae.workflow  # noqa: F401 - imported while a stand-in is in place, it would keep that
from qvae.applications import APPLICATIONS, TASKS
from qvae.cli.main import make_app
from qvae.config.load import load_config
from qvae.config.ranges import Range
from qvae.search import Search
from qvae.testing.results import CheckResult

TINY = ["training.epochs=7", "training.seed=3"]
SET = [part for setting in TINY for part in ("--set", setting)]
WORD = ("--trust", "a_module:Thing")


def trusted(config):
    """Is it given this configuration, with the user's word?"""
    return lambda got, here: got == config and "a_module:Thing" in got.trust.words


def labels(specs):
    """What samplers are called with their options."""
    return [spec.label for spec in specs]


CALLS = {  # the command; what it calls; what is expected of its arguments
    "train": (
        ("train", "digits", "--out", "here", "--sampler", "gibbs:sweeps=3", *SET),
        "qvae.workflow:train",
        {
            "config": load_config("digits", [*TINY, "sampler.options.sweeps=3"]),
            "out": lambda got, here: got == here / "here",
        },
    ),
    "train a circuit": (
        ("train", "digits", "--model", "vqvae", "--executor", "qiskit:shots=50"),
        "qvae.workflow:train",
        {"config": load_config("digits-vqvae", ["executor.name=qiskit", "executor.options.shots=50"])},
    ),
    "train with a word": (
        ("train", "mine.yaml", *WORD, "--sampler", "exact", "--set", "training.device=cpu"),
        "qvae.workflow:train",
        {"config": lambda got, here: got.trust.words >= {"a_module:Thing", "exact"} and not got.trust.everything},
    ),
    "plan": (
        ("train", "mine.yaml", "--dry-run", "--out", "here", *SET, *WORD),
        "qvae.runs.plan:plan",
        {"config": trusted(load_config("digits", TINY)), "out": Path("here")},
    ),
    "resume": (
        ("train", "--resume", "--out", "run", "--sampler", "exact", *SET, *WORD),
        "qvae.workflow:resume",
        {"folder": Path("run"), "overrides": ["sampler.name=exact", *TINY], "trust": ["a_module:Thing"]},
    ),
    "evaluate": (
        ("evaluate", "run", "--set", "importance_samples=7", "--set", "evaluation.seed=2", "--set", "data.root=x", *WORD),
        "qvae.runs.run:load_run",
        {
            "path": Path("run"),
            "overrides": ["evaluation.importance_samples=7", "evaluation.seed=2", "data.root=x"],
            "trust": ["a_module:Thing"],
        },
    ),
    "report": (
        ("report", "run", "--set", "data.root=x", *WORD),
        "qvae.runs.run:load_run",
        {"path": Path("run"), "overrides": ["data.root=x"], "trust": ["a_module:Thing"]},
    ),
    "what a circuit loses": (
        ("evaluate", "run", "--executor", "qiskit:shots=9"),
        "qvae.workflow:measure",
        {"run": Path("run"), "executor": "qiskit:shots=9"},
    ),
    "config": (
        ("config", "mnist", *SET),
        "qvae.config.load:load_config",
        {"source": "mnist", "overrides": TINY},
    ),
    "generate": (
        ("generate", "run"),
        "qvae.applications.generate:generate",
        {"run": Path("run"), "num": 64, "sampler": None, "label": None, "strength": 0.5, "seed": None, "out": None},
    ),
    "compare": (
        ("compare", "run", "other", "--out", "mine.html", *WORD),
        "qvae.workflow:compare",
        {"runs": lambda got, here: got == [Path("run"), Path("other")], "out": Path("mine.html")},
    ),
    "a comparison's run": (
        ("compare", "run", "other", *WORD),
        "qvae.runs.run:load_run",
        {"path": Path("run"), "trust": ["a_module:Thing"]},
    ),
    "compare twins": (
        ("compare-twins", "circuit.yaml", "--seeds", 5, "--out", "tw", *SET, *WORD),
        "qvae.twins:train_twins",
        {
            "config": trusted(load_config({"model": {"kind": "vqvae"}}, TINY)),
            "seeds": 5,
            "out": lambda got, here: got == here / "tw",
        },
    ),
    "diagnose": (
        ("diagnose", "gradients", "digits", "--steps", 5, "--out", "g", *SET, *WORD),
        "qvae.diagnosis.diagnose:diagnose_gradients",
        {"source": "digits", "steps": 5, "out": Path("g"), "overrides": TINY, "trust": ["a_module:Thing"]},
    ),
    "check a sampler": (
        ("samplers", "check", "gibbs", "--set", "sweeps=7", "--spend"),
        "qvae.testing:run_checks",
        {"sampler": "gibbs", "options": {"sweeps": 7}},
    ),
    "check an executor": (
        ("executors", "check", "statevector", "--set", "seed=4", "--spend"),
        "qvae.testing:run_executor_checks",
        {"executor": "statevector", "options": {"seed": 4}},
    ),
    "recommend": (
        ("samplers", "recommend", "digits", "--seconds", 7, *SET, *WORD),
        "qvae.measuring.recommend:recommend",
        {"source": "digits", "seconds": 7.0, "overrides": TINY, "trust": ["a_module:Thing"]},
    ),
    "benchmark samplers": (
        ("benchmark", "samplers", "--problem", "glass:n=4", "--problem", "rbm-critical:2x2", "--sampler", "gibbs:sweeps=2",
         "--budget", 0.5, "--reference", 3, "--out", "b", "--seed", 9, "--device", "cpu", "--qpu-price", 12, "--cluster", "tcp://far:1"),
        "qvae.measuring.benchmark:run_benchmark",
        {
            "problems": lambda got, here: [problem.spec for problem in got] == ["glass:n=4", "rbm-critical:2x2"],
            "samplers": lambda got, here: labels(got) == ["gibbs:sweeps=2"],
            "out": lambda got, here: got == here / "b",
            "budget": 0.5, "reference_seconds": 3.0, "seed": 9, "qpu_price": 12.0, "cluster": "tcp://far:1",
            "device": lambda got, here: got.type == "cpu",
        },
    ),
    "sweep": (
        ("sweep", "digits", "--grid", "training.chains=[3, 4]", "--seeds", 4, "--random", 5, "--jobs", 6, "--cluster", "tcp://far:1",
         "--model", "vqvae", "--out", "s", *SET, *WORD),
        "qvae.sweep:sweep",
        {
            "config": "digits", "grid": {"training.chains": [3, 4]}, "seeds": 4, "number": 5, "jobs": 6, "cluster": "tcp://far:1",
            "model": "vqvae", "overrides": TINY, "trust": ["a_module:Thing"], "out": lambda got, here: got == here / "s",
        },
    ),
    "search": (
        ("sweep", "digits", "--grid", "training.chains=3..9", "--search", "gp:trials=7,aim=elbo"),
        "qvae.sweep:sweep",
        {"grid": {"training.chains": Range(3, 9)}, "number": None, "search": Search("gp", 7, "elbo")},
    ),
    "benchmark training": (
        ("benchmark", "training", "mine.yaml", "--sampler", "exact", "--sampler", "gibbs:sweeps=2", "--seconds", 5, "--out",
         "t", *SET, *WORD),
        "qvae.measuring.training:benchmark_training",
        {
            "config": lambda got, here: got == load_config("digits", TINY) and got.trust.words >= {"a_module:Thing", "exact"},
            "samplers": lambda got, here: labels(got) == ["exact", "gibbs:sweeps=2"],
            "seconds": 5.0,
            "out": lambda got, here: got == here / "t",
        },
    ),
}  # fmt: skip


class Caught(Exception):
    """The call was seen; there is no need to do the work."""


@pytest.fixture
def caught(monkeypatch):
    """Put a stand-in in the place of a function, ``module:name``, which takes its arguments and does nothing else."""

    def put(path):
        module, _, name = path.partition(":")
        function = getattr(importlib.import_module(module), name)
        given = {}

        @functools.wraps(function)
        def stand_in(*arguments, **options):
            bound = inspect.signature(function).bind(*arguments, **options)
            bound.apply_defaults()
            given.update(bound.arguments)
            raise Caught

        monkeypatch.setattr(sys.modules[module], name, stand_in)
        return given

    return put


@pytest.mark.parametrize("case", CALLS)
def test_what_is_asked_for_arrives(case, caught, command, tmp_path, monkeypatch):
    arguments, path, expected = CALLS[case]
    (tmp_path / "mine.yaml").write_text("training: {epochs: 200}\n")
    (tmp_path / "circuit.yaml").write_text("model: {kind: vqvae}\n")
    if path != "qvae.runs.run:load_run":
        monkeypatch.setattr("qvae.runs.run.load_run", lambda path, *rest, **options: path)
    given = caught(path)
    with pytest.raises(Caught):
        command(*arguments)
    for name, value in expected.items():
        is_right = value(given[name], tmp_path) if callable(value) else given[name] == value
        assert is_right, f"{name} is {given[name]}"


@pytest.mark.parametrize("name", [*APPLICATIONS, *TASKS])
def test_what_is_asked_of_an_application_arrives(name, caught, command, monkeypatch):
    path = f"{(APPLICATIONS | TASKS)[name]}:{name.replace('-', '_')}"
    function = getattr(importlib.import_module((APPLICATIONS | TASKS)[name]), name.replace("-", "_"))
    asked = {option: value_of(kind) for option, kind in annotated_options(function)}
    words = [word for option, value in asked.items() for word in (f"--{option.replace('_', '-')}", value) if word is not True]
    words = ["apply"] * (name in TASKS) + [name, "run", *words]
    given = caught("qvae.runs.run:load_run")
    with pytest.raises(Caught):
        command(*words, "--set", "data.root=x", *WORD)
    assert (given["path"], given["overrides"], given["trust"]) == (Path("run"), ["data.root=x"], ["a_module:Thing"])
    monkeypatch.setattr("qvae.runs.run.load_run", lambda path, *rest, **options: path)
    given = caught(path)
    with pytest.raises(Caught):
        command(*words)
    assert {option: given[option] for option in asked} == asked
    assert given["run"] == Path("run")


def annotated_options(function):
    """Names and types of the parameters that become options."""
    hints = typing.get_type_hints(function, localns={"Run": object, "Progress": object}, include_extras=True)
    for name, hint in hints.items():
        if typing.get_origin(hint) is typing.Annotated:
            kinds = [kind for kind in typing.get_args(hint.__origin__) if kind is not type(None)] or [hint.__origin__]
            yield name, kinds[0]


def value_of(kind):
    """Some value that no option has by itself."""
    known = {int: 7, float: 0.125, bool: True, str: "exact", Path: Path("given.npz")}
    return known[kind] if kind in known else typing.get_args(kind)[-1]


def test_every_option_is_in_the_table():
    used = {(words[0], word) for words, _, _ in CALLS.values() for word in map(str, words) if word.startswith("--")}
    options = list(options_of(typer.main.get_command(make_app())))
    assert len(options) > 40
    others = [(path, option) for path, option in options if path[-1] not in APPLICATIONS | TASKS]
    missing = [f"{option} of {' '.join(path)}" for path, option in others if (path[0], option) not in used]
    assert not missing, "give each a line in CALLS, so that it is seen to arrive"


def options_of(found, path=()):
    """Every option with the words of its command."""
    if hasattr(found, "commands"):
        for name, inner in found.commands.items():
            yield from options_of(inner, (*path, name))
    else:
        options = (parameter.opts[0] for parameter in found.params if parameter.param_type_name == "option")
        yield from ((path, option) for option in options if option != "--help")


def test_evaluate_and_report_work_on_the_run_that_was_opened(command, monkeypatch):
    asked = []
    monkeypatch.setattr("qvae.runs.run.load_run", lambda path, *rest, **options: f"opened {path}")
    monkeypatch.setattr("qvae.workflow.evaluate", lambda run, *rest, **options: asked.append(run))
    monkeypatch.setattr("qvae.workflow.report", lambda run, *rest: asked.append(run) or Path("r.html"))
    monkeypatch.setattr("qvae.cli.runs.print_evaluation", lambda console, run: asked.append(run))
    assert command("evaluate", "a")[0] == 0
    code, out, _ = command("report", "b")
    assert (code, out) == (0, "wrote r.html\n")
    assert asked == ["opened a", "opened a", "opened b"]


@pytest.mark.parametrize(("outcomes", "code"), [(["passed", "failed"], 1), (["passed", "skipped"], 0), (["failed"] * 3, 1)])
def test_a_check_that_fails_is_an_exit_code(outcomes, code, command, monkeypatch):
    results = [CheckResult(f"check {place}", outcome, "why") for place, outcome in enumerate(outcomes)]
    monkeypatch.setattr("qvae.testing.run_checks", lambda name, **options: results)
    found, out, _ = command("samplers", "check", "gibbs")
    assert found == code
    counts = {outcome: outcomes.count(outcome) for outcome in ("passed", "failed", "skipped")}
    assert out.splitlines()[-1] == ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    assert out.splitlines()[0] == f"{outcomes[0]}  check 0  why"


@pytest.mark.parametrize("words", [("samplers",), ("training", "digits")])
def test_an_interrupted_benchmark_says_how_to_go_on(words, command, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("qvae.measuring.benchmark.run_benchmark", interrupted)
    monkeypatch.setattr("qvae.measuring.training.benchmark_training", interrupted)
    code, _, error = command("benchmark", *words, "--out", "here")
    assert (code, error) == (130, "qvae: interrupted; the same command goes on with what here holds\n")
