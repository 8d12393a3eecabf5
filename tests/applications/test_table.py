"""An application is one file and one line in a table: what the command line makes of it."""

import dataclasses
import sys

import numpy as np
import pytest

import qvae
from qvae.applications import APPLICATIONS
from qvae.applications.generate import class_fields, generate, generated
from qvae.errors import ConfigError, DataError

TWICE = '''
"""Counts on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from qvae.applications.outcome import Outcome

if TYPE_CHECKING:
    from qvae.runs.run import Run


def count_on(
    run: Run,
    times: Annotated[int, "How often."] = 2,
    word: Annotated[str | None, "What to say."] = None,
    parts: Annotated[list[str] | None, "Of what."] = None,
    loud: Annotated[bool, "Shout."] = False,
) -> Outcome:
    """Say how many spins there are.

    More for readers of the code.
    """
    text = " ".join([word or "spins", *(parts or [])])
    (run.path / "counted.txt").write_text(text)
    return Outcome([run.path / "counted.txt"], [f"{times} x {run.model.prior.num_spins} {text.upper() if loud else text}"])
'''


@pytest.fixture
def another(tmp_path_factory, monkeypatch):
    """A new application: one file, one line."""
    site = tmp_path_factory.mktemp("site")
    (site / "an_application.py").write_text(TWICE)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setitem(APPLICATIONS, "count-on", "an_application")
    yield
    sys.modules.pop("an_application", None)


def test_a_new_one_is_a_command_with_its_options(another, command, small_run):
    code, out, err = command("count-on", small_run, "--times", 3, "--word", "bits", "--parts", "a", "--parts", "b", "--loud")
    assert (code, err) == (0, "")
    assert out.splitlines() == ["3 x 8 BITS A B", "wrote small/counted.txt"]
    code, out, _ = command("count-on", small_run)
    assert out.splitlines()[0] == "2 x 8 spins"


def test_its_texts_are_its_help(another, command):
    _, out, _ = command("--help")
    assert "Say how many spins there are." in out
    _, out, _ = command("count-on", "--help")
    for text in ("How often.", "What to say.", "--set", "[default: 2]"):
        assert text in out
    assert "readers of the code" not in out


def test_every_run_option_reaches_the_run(another, command, small_run):
    code, _, err = command("count-on", small_run, "--set", "data.nme=digits")
    assert code == 2
    assert "data.nme" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("generate", "--num", 0), "num is 0"), (("reconstruct", "--num", -1), "num is -1"),
     (("generate", "--label", 1, "--strength", -1), "strength is -1"), (("generate", "--label", 12), "no class 12 in digits")],
)  # fmt: skip
def test_numbers_out_of_range_get_a_sentence(command, small_run, arguments, words):
    code, _, err = command(arguments[0], small_run, *arguments[1:])
    assert code == 2
    assert words in err


def test_steering_needs_labels(small_run):
    run = qvae.load_run(small_run)
    run.dataset = dataclasses.replace(run.dataset, train_labels=None, test_labels=None)
    with pytest.raises(DataError, match="no labels"):
        class_fields(run, 3)


@pytest.mark.parametrize("shape", [(64,), (4, 4)], ids=["a table", "images too small"])
def test_steering_works_where_no_classifier_can_be_had(shape, tmp_path):
    rows = (np.random.default_rng(0).random((60, *shape)) < 0.4).astype(np.float32).reshape(60, -1)
    names = [f"bit {number}" for number in range(64)] if len(shape) == 1 else None
    data = {"train": rows, "train_labels": np.arange(60) % 2, "feature_names": names}
    settings = ["training.epochs=1", "training.batch_size=20", "model.latent.sizes=[3,3]", "evaluation.num_generated=0"]
    run = qvae.train(qvae.load_config("digits", settings), tmp_path / "run", data=data)
    (said,) = generate(run, num=5, label=1, seed=0).sentences
    assert "no classifier tells how many of them are a 1: " in said


def test_generating_repeats_and_takes_another_sampler(small_run):
    run = qvae.load_run(small_run)
    assert np.array_equal(generated(run, 20, "exact"), generated(run, 20, "exact"))
    assert not np.array_equal(generated(run, 20, "exact"), generated(run, 20))
    with pytest.raises(ConfigError, match="num is 0"):
        generate(run, num=0)


def test_a_label_is_steered_towards(command, small_run):
    code, out, _ = command("generate", small_run, "--num", 8, "--label", 3)
    assert code == 0
    assert "the classifier takes" in out
    assert "wrote small/generated.npz" in out
