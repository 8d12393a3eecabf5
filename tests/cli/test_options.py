"""What commands do by themselves, the numbers that they refuse, and what they print and end with."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from qvae.applications import APPLICATIONS, TASKS
from qvae.cli import backends, runs
from qvae.cli.main import make_app
from qvae.errors import ConfigError
from qvae.progress import Progress
from qvae.reporting.page import Table
from qvae.search import Search

DEFAULTS = {
    "train": {"--resume": False, "--dry-run": False},
    "compare": {"--out": Path("comparison.html")},
    "compare-twins": {"config": "digits-vqvae", "--seeds": 3, "--out": Path("twins")},
    "sweep": {"--seeds": 1, "--out": Path("sweep")},
    "samplers check": {"--spend": False},
    "samplers recommend": {"--seconds": 60.0},
    "executors check": {"--spend": False},
    "benchmark samplers": {"--budget": 4.0, "--out": Path("benchmark-samplers"), "--seed": 0, "--device": "cpu"},
    "benchmark training": {"--seconds": 60.0, "--out": Path("benchmark-training")},
    "diagnose gradients": {"--steps": 100, "--out": Path("gradients")},
}


def parameters(found, path=()):
    if hasattr(found, "commands"):
        for name, inner in found.commands.items():
            yield from parameters(inner, (*path, name))
    elif path[-1] not in APPLICATIONS | TASKS:
        yield from ((" ".join(path), parameter) for parameter in found.params)


def test_what_commands_do_by_themselves():
    found = {}
    for command, parameter in parameters(typer.main.get_command(make_app())):
        value = parameter.default() if callable(parameter.default) else parameter.default
        if value is not None:
            found.setdefault(command, {})[parameter.opts[0]] = value
    assert found == DEFAULTS


WORK = (
    "qvae.sweep.sweep",
    "qvae.measuring.recommend.recommend",
    "qvae.measuring.benchmark.run_benchmark",
    "qvae.measuring.training.benchmark_training",
    "qvae.diagnosis.diagnose.diagnose_gradients",
)


@pytest.mark.parametrize(
    ("words", "option", "least", "too_little"),
    [
        ("sweep", "--seeds", 1, 0),
        ("sweep", "--random", 1, 0),
        ("sweep", "--jobs", 1, 0),
        ("samplers recommend digits", "--seconds", 1, 0.9),
        ("benchmark samplers --problem glass:n=4", "--budget", 0.01, 0.009),
        ("benchmark samplers --problem glass:n=4", "--reference", 0.01, 0.009),
        ("benchmark samplers --problem glass:n=4", "--seed", 0, -1),
        ("benchmark samplers --problem glass:n=4", "--qpu-price", 0, -0.1),
        ("benchmark training digits", "--seconds", 0.1, 0.09),
        ("diagnose gradients digits", "--steps", 1, 0),
    ],
)
def test_the_least_number_that_is_taken(words, option, least, too_little, command, monkeypatch):
    def begins(*given, **options):
        raise SystemExit(77)

    for path in WORK:
        monkeypatch.setattr(path, begins)
    assert command(*words.split(), option, least)[0] == 77
    code, _, error = command(*words.split(), option, too_little)
    assert (code, option in error) == (2, True)


def said(name):
    return Table(("name", "value"), [(name, "1")], f"a note of {name}")


def test_a_recommendation_is_its_table_its_warnings_and_its_sentences(command, monkeypatch):
    found = SimpleNamespace(warnings=["the prior is young"])
    monkeypatch.setattr("qvae.measuring.recommend.recommend", lambda *given: found)
    monkeypatch.setattr(
        "qvae.measuring.advice.recommendation_table", lambda given: said("candidates") if given is found else None
    )
    monkeypatch.setattr(
        "qvae.measuring.advice.recommendation_text", lambda given: ["Take it.", "qvae train"] * (given is found)
    )
    code, out, _ = command("samplers", "recommend", "digits")
    assert code == 0
    assert out.splitlines()[-4:] == ["a note of candidates", "warning: the prior is young", "Take it.", "qvae train"]


def test_a_diagnosis_is_its_tables_its_findings_and_its_files(command, monkeypatch, tmp_path):
    found = SimpleNamespace(path=tmp_path / "g")
    monkeypatch.setattr("qvae.diagnosis.diagnose.diagnose_gradients", lambda *given: found)
    monkeypatch.setattr("qvae.diagnosis.report.tables", lambda given: [said("layers"), said("remedies")])
    monkeypatch.setattr("qvae.diagnosis.report.findings", lambda given: ["No layer is dead."])
    code, out, _ = command("diagnose", "gradients", "digits")
    lines = [line.rstrip() for line in out.splitlines()]
    assert code == 0
    assert [line for line in lines if line.startswith("a note")] == ["a note of layers", "a note of remedies"]
    assert lines[-3] == "No layer is dead."
    assert [Path(line.removeprefix("wrote ")).parent.name for line in lines[-2:]] == ["g", "g"]
    assert lines[-1] == "wrote g/report.html"


@pytest.mark.parametrize("has_failed", [True, False])
def test_a_sweep_is_its_table_and_an_exit_code_where_a_run_has_failed(has_failed, command, monkeypatch, tmp_path):
    monkeypatch.setattr("qvae.sweep.sweep", lambda *given, **options: ["run"])
    monkeypatch.setattr("qvae.reporting.sweep.settings_table", lambda given: said("settings"))
    failed = said("failures") if has_failed else Table(("name", "value"), [], "a note of failures")
    monkeypatch.setattr("qvae.reporting.sweep.failures_table", lambda given: failed)
    monkeypatch.setattr("qvae.reporting.sweep.write_sweep_report", lambda given, out: out / "report.html")
    code, out, _ = command("sweep", "--out", "s")
    assert code == int(has_failed)
    assert ("a note of failures" in out, "a note of settings" in out) == (has_failed, True)
    assert out.splitlines()[-2:] == ["wrote s/sweep.json", "wrote s/report.html"]


def test_an_interrupted_sweep_says_how_to_go_on(command, monkeypatch):
    def interrupted(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("qvae.sweep.sweep", interrupted)
    code, _, error = command("sweep", "--out", "s")
    assert (code, error) == (130, "qvae: interrupted; the same command goes on with what s holds\n")


def test_a_benchmark_says_who_takes_no_part(command, monkeypatch, tmp_path):
    monkeypatch.setattr("qvae.measuring.specs.local_samplers", lambda: ([], {"dwave": "it is remote"}))
    monkeypatch.setattr(
        "qvae.measuring.benchmark.run_benchmark", lambda *given: {"problems": [{"spec": "glass", "size": "4 spins"}]}
    )
    monkeypatch.setattr("qvae.measuring.report.sampler_table", lambda found: said(found["spec"]))
    monkeypatch.setattr("qvae.measuring.report.overview_table", lambda found: said("all"))
    monkeypatch.setattr("qvae.measuring.report.write_sampler_report", lambda found, out: out / "report.html")
    code, out, _ = command("benchmark", "samplers", "--problem", "glass:n=4", "--out", "b")
    lines = [line.rstrip() for line in out.splitlines() if line.strip()]
    assert code == 0
    assert lines[0] == "glass  4 spins"
    assert lines[-5:] == [
        lines[-5], "a note of all", "dwave takes no part: it is remote", "wrote b/results.json", "wrote b/report.html",
    ]  # fmt: skip


def test_options_of_a_backend_and_what_no_configuration_holds(capsys):
    from qvae.cli.show import make_console

    class Bare:
        """Nothing to set."""

    capabilities = SimpleNamespace(max_qubits=3, exact=False, differentiable=False, noisy=True, remote=False)
    Bare.capabilities = capabilities
    registry = SimpleNamespace(find=lambda name: Bare)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "_load", lambda path: registry)
        backends._print_one(make_console(), backends._EXECUTORS, "bare")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "Nothing to set.", "", "qubits up to 3", "accuracy from shots", "gradients by shifts", "noise yes", "runs here",
        "It has no options.",
    ]  # fmt: skip
    import inspect

    assert backends._default(inspect.Parameter.empty) == "must be given"
    assert backends._default([1, None]) == "[1, null]"
    assert backends._default(Bare).endswith("Bare'>")


def test_a_search_and_combinations_at_random_are_both_handed_on_to_be_refused(command, monkeypatch):
    asked = []

    def begins(*given, **options):
        asked.append((options["search"], options["number"]))
        raise SystemExit(77)

    monkeypatch.setattr("qvae.sweep.sweep", begins)
    assert command("sweep", "digits", "--search", "random:trials=2", "--random", 3)[0] == 77
    assert asked == [(Search("random", 2), 3)]


def test_a_plan_is_of_a_new_run(command):
    code, _, error = command("train", "digits", "--dry-run", "--resume")
    assert (code, error) == (2, "qvae: --dry-run is of a new run; leave --resume out.\n")


def test_a_training_that_may_be_started_again_must_be_found(command, monkeypatch, tmp_path):
    """Without a checkpoint it begins; with one it goes on, with the configuration that it has."""
    from qvae.training import ranks

    made = []
    monkeypatch.setattr(ranks, "is_restartable", lambda: True)
    monkeypatch.setattr("qvae.workflow.train", lambda config, folder, progress: made.append(("train", folder.name)))
    monkeypatch.setattr("qvae.workflow.resume", lambda folder, *rest, **options: made.append(("resume", folder.name)))
    monkeypatch.setattr(ranks, "is_first", lambda: False)
    assert command("train", "digits") == (
        2, "", "qvae: torchrun may start this training again (--max-restarts), and must find its run then: add --out.\n",
    )  # fmt: skip
    assert command("train", "digits", "--out", "a")[0] == 0
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "checkpoint.safetensors").touch()
    assert command("train", "digits", "--model", "vqvae", "--out", "b")[0] == 0
    assert made == [("train", "a"), ("resume", "b")]


@pytest.mark.parametrize(
    ("error", "has_checkpoint", "told"),
    [
        (KeyboardInterrupt(), True, True),
        (KeyboardInterrupt(), False, False),
        (OSError(28, "no space"), True, True),
        (ConfigError("a key is wrong."), True, False),
    ],
)
def test_who_is_told_how_to_go_on(error, has_checkpoint, told, tmp_path, capsys):
    lines = []

    class Kept(Progress):
        def say(self, text):
            lines.append(text)

    def work():
        raise error

    if has_checkpoint:
        (tmp_path / "checkpoint.safetensors").touch()
    with pytest.raises(SystemExit if isinstance(error, KeyboardInterrupt) else type(error)):
        runs._resumable(Kept(), work, tmp_path)
    assert lines == [f"to go on from the last checkpoint: qvae train --resume --out {tmp_path}"] * told
    assert ("interrupted" in capsys.readouterr().err) is isinstance(error, KeyboardInterrupt)


def test_a_reader_that_has_left_is_told_of_by_a_code_of_its_own(tmp_path, monkeypatch, capsys):
    left = []

    def work():
        raise BrokenPipeError

    monkeypatch.setattr(runs, "leave_output", lambda: left.append(True))
    with pytest.raises(SystemExit) as ended:
        runs._resumable(Progress(), work, tmp_path)
    assert (ended.value.code, left) == (141, [True])
    assert "nobody reads the output any more, so this was stopped; to go on from the last" in capsys.readouterr().err


def test_settings_of_an_evaluation_are_short_unless_they_are_of_data_or_executor(command, monkeypatch):
    asked = []

    def opened(path, overrides, trust):
        asked.extend(overrides)
        raise SystemExit(77)

    monkeypatch.setattr("qvae.runs.run.load_run", opened)
    given = ["importance_samples=3", "evaluation.seed=4", "data.root=x", "executor.name=aer", "num_test=5"]
    assert command("evaluate", "a", *(word for text in given for word in ("--set", text)))[0] == 77
    assert asked == ["evaluation.importance_samples=3", *given[1:4], "evaluation.num_test=5"]
