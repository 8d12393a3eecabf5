"""The command from a configuration or a run to a folder: what it names, what it leaves behind, and what it refuses."""

import json
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

import qvae
from qvae.diagnosis.diagnose import RESULTS, _require_free_of_charge
from qvae.diagnosis.report import findings, remedy_table, tables
from qvae.errors import ConfigError, RunError
from qvae.sampling.abilities import Metered

TINY = ["model.network.hidden=[8]", "training.batch_size=50", "training.epochs=2"]
CIRCUIT = ["model.circuit.qubits=2", "model.circuit.layers=1", *TINY]


def test_a_configuration_with_a_circuit(tmp_path, monkeypatch):
    monkeypatch.setattr("qvae.diagnosis.diagnose._STARTS", 5)
    found = qvae.diagnose_gradients("digits-vqvae", tmp_path / "g", steps=7, overrides=CIRCUIT)
    assert found.trial.steps == (1, 2, 3, 4, 5, 6, 7)
    assert found.trial.is_well
    assert not found.others
    assert any(layer.name.endswith("layer.weight") and layer.norms[0] > 0 for layer in found.trial.layers)
    kept = json.loads((found.path / RESULTS).read_text())
    assert [layer["name"] for layer in kept["trial"]["layers"]] == [layer.name for layer in found.trial.layers]
    assert kept["plateau"]["starts"] == 5
    page = (found.path / "report.html").read_text()
    assert page.count("<img") == 2
    assert {file.name for file in (found.path / "figures").iterdir()} == {"norms.png", "variances.png"}
    assert len(tables(found)) == 4
    # Again in the same folder, without a circuit.
    again = qvae.diagnose_gradients("digits", tmp_path / "g", steps=1, overrides=["model.latent.sizes=[4,4]", *TINY])
    assert again.plateau is None


def test_of_many_steps_twenty_are_noted(tmp_path):
    found = qvae.diagnose_gradients("digits", tmp_path / "g", steps=41, overrides=["model.latent.sizes=[4,4]", *TINY])
    assert found.trial.steps == tuple(range(1, 42, 3))


def test_a_network_that_is_too_deep_gets_its_remedies_tried(tmp_path):
    deep = ["model.latent.sizes=[4,4]", "model.network.batch_norm=false", f"model.network.hidden={[4] * 14}"]
    found = qvae.diagnose_gradients("digits", tmp_path / "g", steps=5, overrides=[*deep, "training.batch_size=50"])
    assert found.trial.named("dead")
    assert "is dead: its gradient is" in findings(found)[0]
    assert [trial.setting for trial in found.others] == [
        "model.network.batch_norm=true",
        "training.clip_norm=1.0",
        "model.network.activation=relu",
        "model.network.residual=true",
    ]
    assert len(found.others[0].named("dead")) < len(found.trial.named("dead"))
    assert not found.others[3].named("dead")
    assert "Residual" not in remedy_table(found).note


def test_a_run_is_diagnosed_from_its_weights_and_left_as_it_is(trained, tmp_path):
    before = {file: file.stat().st_mtime_ns for file in trained.iterdir()}
    state = torch.get_num_threads()
    found = qvae.diagnose_gradients(trained, tmp_path / "g", steps=3)
    assert found.source == "the run small"
    assert not found.others
    assert {file: file.stat().st_mtime_ns for file in trained.iterdir()} == before
    assert torch.get_num_threads() == state
    fresh = qvae.diagnose_gradients(qvae.load_run(trained).config, tmp_path / "h", steps=3)
    assert found.trial.layers[-1].norms[0] != fresh.trial.layers[-1].norms[0]


def test_what_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="needs 1 or more"):
        qvae.diagnose_gradients("digits", tmp_path, steps=0)
    with pytest.raises(ConfigError, match="digit is no run folder, YAML file or shipped configuration: did you mean 'digits'"):
        qvae.diagnose_gradients("digit", tmp_path)
    for nothing in (tmp_path, tmp_path / "no-such-run"):
        with pytest.raises(ConfigError, match="is no run folder, YAML file or shipped configuration"):
            qvae.diagnose_gradients(nothing, tmp_path / "g")
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(RunError, match="not of a diagnosis"):
        qvae.diagnose_gradients("digits", tmp_path)
    assert (tmp_path / "report.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("sampler", "is_remote", "problem"),
    [(Mock(spec=Metered), False, "time on an annealer; diagnose with --set sampler=gibbs"), (None, True, "waits for a remote")],
)
def test_a_training_that_would_cost_is_refused(sampler, is_remote, problem):
    with pytest.raises(ConfigError, match=problem):
        _require_free_of_charge(SimpleNamespace(sampler=sampler, objective=SimpleNamespace(is_remote=is_remote)))
