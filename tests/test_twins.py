"""A circuit model beside its twins: every arm is trained, none twice, and one table says how they fare."""

import json

import pytest

import qvae
from qvae import twins
from qvae.config.load import load_config
from qvae.errors import ConfigError
from qvae.reporting.twins import twins_beside, twins_table
from qvae.twins import train_twins

TINY = [
    "training.epochs=1",
    "model.circuit.qubits=2",
    "model.circuit.layers=1",
    "model.network.hidden=[8]",
    "evaluation.importance_samples=5",
    "evaluation.num_test=20",
    "evaluation.num_generated=0",
    "evaluation.probes=false",
    "evaluation.tsne_every=0",
]


def test_every_arm_has_a_row_with_its_spread(command, tmp_path):
    settings = [part for setting in TINY for part in ("--set", setting)]
    code, _, error = command("compare-twins", "digits-vqvae", "--seeds", 2, "--out", "twins", *settings)
    assert code == 0, error
    arms = ("quantum", "unentangled", "frozen", "perceptron", "gaussian")
    names = {path.name for path in (tmp_path / "twins").iterdir()}
    assert names == {f"{arm}-{seed}" for arm in arms for seed in (0, 1)}
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "twins").glob("*/model.safetensors")}
    runs = train_twins(load_config("digits-vqvae", TINY), 2, tmp_path / "twins")
    assert times == {path: path.stat().st_mtime_ns for path in times}
    table = twins_table(runs)
    assert [row[0] for row in table.rows][:2] == ["the circuit", "without gates on two qubits"]
    assert all("±" in row[1] for row in table.rows)
    assert [row[-1] for row in table.rows] == ["15", "12", "0", "17", "0"]
    means = [row[1] for row in table.rows]
    for path in (tmp_path / "twins").iterdir():  # each one's report shows them all, with its pictures
        html = (path / "report.html").read_text()
        assert all(mean in html for mean in means), path
        assert html.count("data:image") == len(list(path.glob("figures/*.png")))
    frozen = tmp_path / "twins" / "frozen-1"
    (frozen / "report.html").unlink()
    code, _, error = command("report", frozen)
    assert code == 0, error
    assert all(mean in (frozen / "report.html").read_text() for mean in means)
    with pytest.raises(ConfigError, match="another configuration"):
        train_twins(load_config("digits-vqvae", [*TINY, "training.epochs=2"]), 1, tmp_path / "twins")


def test_every_arm_has_a_run_of_each_seed_from_the_training_s_on(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(twins, "make", lambda config, folder, progress: made.append((config, folder)) or folder)
    monkeypatch.setattr(twins, "twins_table", lambda runs: None)
    monkeypatch.setattr(twins, "write_page", lambda run, table: None)
    runs = train_twins(load_config("digits-vqvae", [*TINY, "training.seed=5"]), 2, tmp_path)
    arms = ("quantum", "unentangled", "frozen", "perceptron", "gaussian")
    assert runs == {arm: [tmp_path / f"{arm}-5", tmp_path / f"{arm}-6"] for arm in arms}
    assert [(config.model.circuit.arm, config.training.seed) for config, _ in made] == [
        (arm, s) for s in (5, 6) for arm in arms
    ]
    assert [folder.name for _, folder in made] == [f"{arm}-{seed}" for seed in (5, 6) for arm in arms]


def test_bits_that_a_circuit_measures_have_no_perceptron_and_no_gaussian_in_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(twins, "make", lambda config, folder, progress: folder.name)
    monkeypatch.setattr(twins, "twins_table", lambda runs: None)
    monkeypatch.setattr(twins, "write_page", lambda run, table: None)
    config = load_config("digits-vqvae", [*TINY, "model.variant=discrete"])
    assert train_twins(config, 1, tmp_path) == {arm: [f"{arm}-0"] for arm in ("quantum", "unentangled", "frozen")}


def test_beside_a_run_are_those_alone_that_differ_by_arm_and_seed(tmp_path):
    config = load_config("digits-vqvae", TINY)
    runs = train_twins(config, 1, tmp_path)
    assert {arm: [run.path.name for run in of_arm] for arm, of_arm in twins_beside(runs["frozen"][0]).items()} == {
        arm: [f"{arm}-0"] for arm in runs
    }
    qvae.train(load_config("digits-vqvae", [*TINY, "training.seed=1", "training.epochs=2"]), tmp_path / "quantum-1")
    (tmp_path / "gaussian-0" / "evaluation.json").unlink()
    found = twins_beside(runs["quantum"][0])
    assert list(found) == ["quantum", "unentangled", "frozen", "perceptron"]
    assert all(len(of_arm) == 1 for of_arm in found.values())
    (tmp_path / "perceptron-0" / "config.yaml").write_text("nonsense")
    assert "unentangled" not in twins_beside(runs["quantum"][0])
    assert "epochs" not in twins_table(runs).note
    metrics = tmp_path / "frozen-0" / "metrics.jsonl"
    row = json.loads(metrics.read_text())
    metrics.write_text("".join(json.dumps(row | {"epoch": epoch}) + "\n" for epoch in (1, 2)))
    assert "The trainings had 1 to 2 epochs" in twins_table(runs).note
    alone = qvae.load_run((tmp_path / "quantum-0").rename(tmp_path / "alone"))
    assert twins_beside(alone) == {}


def test_generators_have_twins_of_as_many_weights(tmp_path):
    small = [*TINY[1:], "training.epochs=2", "training.batch_size=500", "model.critic.hidden=[8]"]
    runs = train_twins(load_config("digits-vqgan", small), 1, tmp_path)
    table = twins_table(runs)
    assert table.header[1:3] == ("precision", "recall")
    assert table.rows[0][1:3] == ("-", "-")  # no image is generated
    assert table.rows[-1][0] == "noise straight to the latents, by a linear map"
    weights = {arm: int(row[-1]) for arm, row in zip(runs, table.rows, strict=True)}
    style = 21 * 2  # noise, classes and 1 to the angles of two qubits
    assert weights == {"quantum": style + 6, "unentangled": style + 6, "frozen": style, "perceptron": 51, "gaussian": 0}
    patch = load_config("digits-vqgan", [*small[1:], "model.circuit.qubits=4", "model.generator=patch"])
    runs = train_twins(patch, 1, tmp_path / "patch")
    assert list(runs) == ["quantum", "unentangled", "frozen", "perceptron"]
    counts = [int(row[-1]) for row in twins_table(runs).rows]
    assert counts[0] == 8 * (21 * 4 + 12)
    assert abs(counts[3] - counts[0]) < 85 / 2  # as near as a whole number of hidden units comes


def test_a_model_without_a_circuit_has_no_twins(tmp_path):
    with pytest.raises(ConfigError, match="has no circuit to compare"):
        train_twins(load_config("digits"), 1, tmp_path)
    with pytest.raises(ConfigError, match="seeds is 0"):
        train_twins(load_config("digits-vqvae"), 0, tmp_path)


@pytest.mark.parametrize("name", ["digits-vqvae", "digits-vqgan", "mnist-vqvae", "mnist-vqgan"])
@pytest.mark.parametrize("arm", ["unentangled", "frozen", "perceptron", "gaussian"])
def test_every_arm_of_a_shipped_configuration_can_be_set(name, arm):
    assert load_config(name, [f"model.circuit.arm={arm}"]).model.circuit.arm == arm


def test_an_arm_without_a_circuit_says_so_where_an_executor_or_an_optimizer_of_circuits_is_set():
    for setting in ("executor=aer", "training.optimizer=rotosolve"):
        with pytest.raises(ConfigError, match=r"model\.circuit\.arm is perceptron, which has no circuit"):
            load_config("digits-vqvae", ["model.circuit.arm=perceptron", setting])
