"""Strings from a text file through every command, with each kind of model, and what strings can't be used for."""

import json
import random
import shutil

import numpy as np
import pytest

import qvae
from qvae.errors import DataError, RunError
from qvae.reporting import report

LIGHT = [
    "model.network.hidden=[8,8]", "training.epochs=3", "training.batch_size=50", "evaluation.importance_samples=5",
    "evaluation.num_generated=60", "evaluation.log_z_chains=10", "evaluation.log_z_temperatures=20", "evaluation.tsne_every=0",
]  # fmt: skip
QVAE = [*LIGHT, "model.latent.sizes=[3,3]"]
CIRCUIT = ["model.circuit.qubits=3", "model.circuit.layers=1"]
CHECK = "([kt][aio])+"


def names(count):
    rng = random.Random(1)
    return ["".join(rng.choice("kt") + rng.choice("aio") for _ in range(rng.randint(1, 4))) for _ in range(count)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strings")
    (folder / "names.txt").write_text("\n".join(names(300)))
    config = qvae.load_config(folder / "names.txt", [*QVAE, f"evaluation.check={CHECK}"])
    return qvae.train(config, folder / "run")


def lines(file):
    return file.read_text(encoding="utf-8").split("\n")[:-1]


def test_the_numbers_say_what_they_are_of(finished):
    found = json.loads((finished.path / "evaluation.json").read_text())
    strings = found["strings"]
    test = finished.dataset.alphabet.decode(finished.dataset.test)
    assert strings["symbols"] == pytest.approx(1 + np.mean(list(map(len, test))))
    assert strings["check"] == CHECK
    assert list(strings["sets"]) == [
        "test strings", "draws of p(x|z), z of the prior", "the most probable given the same z",
        "independent bits, same decoder", f"n-gram model, order {strings['ngram_order']}",
    ]  # fmt: skip
    assert strings["sets"]["test strings"]["valid"] == 1
    assert [row["number"] for row in strings["sets"].values()] == [30, 60, 60, 60, 60]
    assert found["log_likelihood"] >= found["elbo"]


def test_the_report_shows_strings(finished):
    html = (finished.path / "report.html").read_text()
    for text in ("nats per string", "What generated strings are worth", "a symbol", "Lengths and characters", "recurrent"):
        assert text in html
    assert "Frechet" not in html
    (table,) = report._string_columns(finished)
    test = finished.dataset.alphabet.decode(finished.dataset.test)
    assert [row[table.header.index("test string")] for row in table.rows] == test[: len(table.rows)]
    assert f"<td>{test[0]}</td>" in html
    drawn = {file.stem for file in (finished.path / "figures").iterdir()}
    assert drawn == {"losses", "strings", "energies", "couplings", "units"}


def test_generated_and_reconstructed_strings_are_text(finished, tmp_path, command):
    code, out, err = command("generate", finished.path, "--num", 40, "--seed", 5)
    assert (code, err) == (0, "")
    assert f"of 40 match {CHECK!r}" in " ".join(out.split())
    assert "of 40 are none of the training strings" in " ".join(out.split())
    first = lines(finished.path / "generated.txt")
    assert len(first) == 40
    assert set("".join(first)) <= set("ktaio")
    again = command("generate", finished.path, "--num", 40, "--seed", 5, "--check", ".*", "--out", "again")
    assert "40 of 40 match" in again[1]
    assert lines(tmp_path / "again.txt") == first
    code, out, err = command("reconstruct", finished.path, "--num", 9)
    assert (code, err) == (0, "")
    rows = [line.split("\t") for line in lines(finished.path / "reconstructed.tsv")]
    assert rows[0] == ["originals", "reconstructions"]
    assert [row[0] for row in rows[1:]] == finished.dataset.alphabet.decode(finished.dataset.test[:9])
    same = sum(a == b for a, b in rows[1:])
    assert f"{same} of 9 test strings came back as they were" in out


def test_strings_are_generated_without_the_data(finished, tmp_path, command):
    run = shutil.copytree(finished.path, tmp_path / "sent")
    text = (run / "config.yaml").read_text().replace("names.txt", "gone.txt")
    (run / "config.yaml").write_text(text)
    code, out, err = command("generate", run, "--num", 5, "--out", "new")
    assert (code, err) == (0, "")
    assert "training strings" not in out
    assert len(lines(tmp_path / "new.txt")) == 5


def test_another_check_and_no_check(finished, command):
    assert "0 of 6 match 'x'" in command("generate", finished.path, "--num", 6, "--check", "x", "--out", "a")[1]
    code, _, err = command("generate", finished.path, "--check", "(x", "--out", "b")
    assert code == 2
    assert "check is '(x'; it must be a regular expression" in err


def test_lines_of_another_file_are_embedded_and_scored(finished, tmp_path, command):
    (tmp_path / "mine.txt").write_text("kato\n\ntito\nki\n")
    assert command("apply", "embed", finished.path, "--input", "mine.txt", "--out", "codes")[0] == 0
    found = np.load(tmp_path / "codes" / "codes.npz")
    assert found["ids"].tolist() == ["kato", "tito", "ki"]
    assert found["codes"].shape == (3, 6)
    (tmp_path / "odd.txt").write_text("aaaaaaaa\nkkkkkkk\nttttttt\n")
    code, out, _ = command("apply", "detect", finished.path, "--input", "odd.txt", "--normal", "mine.txt", "--out", "scores")
    assert code == 0
    assert "likelihood: AUROC 1.000" in out
    for content, message in (
        ("kux", "has 'kux', whose 'u' the model doesn't know; leave such strings out"),
        ("kakakakaka", "of 10 characters; the model takes 8 at most"),
        ("\n", "holds no strings: each line must be one"),
    ):
        (tmp_path / "wrong.txt").write_text(content)
        code, _, err = command("apply", "embed", finished.path, "--input", "wrong.txt")
        assert code == 2
        assert message in err
    np.save(tmp_path / "rows.npy", np.zeros((2, 8)))
    _, _, err = command("apply", "embed", finished.path, "--input", "rows.npy")
    assert "this model takes strings, from a .txt file, one a line" in err


def test_a_model_of_other_data_takes_no_strings(small_run, command, tmp_path):
    (tmp_path / "mine.txt").write_text("kato\n")
    _, _, err = command("apply", "embed", small_run, "--input", "mine.txt")
    assert "this model takes bits, no strings" in err
    _, _, err = command("generate", small_run, "--check", "x")
    assert "check is of strings, but the run's data are none" in err


@pytest.mark.parametrize("task", ["inpaint", "denoise", "super-resolve"])
def test_strings_are_not_restored(finished, task, tmp_path, command):
    (tmp_path / "mine.txt").write_text("kato\n")
    code, _, err = command("apply", task, finished.path, "--input", "mine.txt")
    assert code == 2
    assert "strings can't be restored: a character depends on those before it; take a model of other data." in err


def test_what_strings_have_no_use_for_is_refused_before_training(finished, command):
    name = finished.config.data.name
    _, _, err = command("train", name, "--dry-run", "--set", "training.corruption=dropped")
    assert "training.corruption is dropped, but the model's data are strings, which have no such damage" in err
    _, _, err = command("train", name, "--dry-run", "--model", "vqvae", "--set", "model.critic.hidden=[4]")
    assert "critic is set, but strings have no gradient" in err
    _, _, err = command("train", name, "--dry-run", "--set", "model.likelihood=bernoulli")
    assert "holds strings, but the model's likelihood takes bits; set model.likelihood=strings" in err
    _, _, err = command("generate", finished.path, "--label", 1)
    assert "has no labels" in err


def test_a_plan_and_a_resumed_run(finished, tmp_path, command):
    name = finished.config.data.name
    settings = [part for setting in QVAE for part in ("--set", setting)]
    code, out, _ = command("train", name, "--dry-run", *settings)
    assert code == 0
    assert "15 steps" in out
    longer = ["training.epochs=6", "evaluation.num_generated=0"]
    whole = qvae.train(qvae.load_config(name, [*QVAE, *longer]), tmp_path / "whole")
    run = shutil.copytree(finished.path, tmp_path / "resumed")
    resumed = qvae.resume(run, longer)
    assert len(resumed.metrics) == 6
    assert {key: value.shape for key, value in whole.model.state_dict().items()} == {
        key: value.shape for key, value in resumed.model.state_dict().items()
    }
    assert whole.evaluation["strings"]["sets"] == {}


def test_other_strings_are_not_those_of_the_run(finished, tmp_path):
    other = [string.replace("k", "m") for string in names(300)]
    with pytest.raises(DataError, match="holds other data than the run"):
        qvae.load_run(finished.path, data=other)
    run = qvae.load_run(finished.path, data=names(300))
    assert run.dataset.alphabet == finished.dataset.alphabet


def test_a_run_whose_characters_are_missing_is_told(finished, tmp_path):
    from qvae.checkpoint import load_checkpoint, save_checkpoint

    run = shutil.copytree(finished.path, tmp_path / "damaged")
    state = load_checkpoint(run / "model.safetensors")
    for characters in ("ktai", "ktaai", 7, None):
        save_checkpoint(run / "model.safetensors", state | {"alphabet": characters})
        with pytest.raises(RunError, match="doesn't say what characters its model knows"):
            qvae.load_run(run)


@pytest.mark.parametrize(
    "settings",
    [
        [*LIGHT, "model.latent.sizes=[3,3]", "model.likelihood=strings", "model.network.kind=mlp"],
        [*LIGHT, *CIRCUIT, "model.likelihood=strings"],
        [*LIGHT, *CIRCUIT, "model.variant=discrete"],
        [*LIGHT, *CIRCUIT, "model.variant=deterministic"],
    ],
    ids=["qvae", "variational", "discrete", "deterministic"],
)
def test_every_kind_of_model_goes_all_the_way(finished, settings, tmp_path, command):
    model = "vqvae" if CIRCUIT[0] in settings else None
    run = qvae.train(qvae.load_config("strings", settings, model), tmp_path / "run", data=names(80))
    assert (run.path / "report.html").exists()
    assert ("a symbol" in command("evaluate", run.path)[2]) is False  # the data were in memory
    code, _, err = command("generate", run.path, "--num", 7)
    if "model.variant=deterministic" in settings:
        assert "no prior to draw from" in err
    else:
        assert code == 0
        assert len(lines(run.path / "generated.txt")) == 7
    page, _ = qvae.workflow.compare([finished, run], tmp_path / "both")
    assert "a symbol" in page.read_text()
