"""What a diagnosis hands on: the seed, starts and inputs to every part, numbers of layers to names, and verdicts to lines."""

import json
import re
from math import sqrt
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import qvae
from qvae.circuits.gradients.variance import GradientVariance
from qvae.circuits.initialisation import FirstLayers, SmallAngles, uniform
from qvae.circuits.layerwise import Layerwise
from qvae.config.load import load_config
from qvae.diagnosis import diagnose, plateau, remedies
from qvae.diagnosis.figures import norm_curves
from qvae.diagnosis.layers import Layer
from qvae.diagnosis.outcome import Trial
from qvae.diagnosis.plateau import Plateau, circuit_family, curves, look_for_plateau
from qvae.errors import RunError

CIRCUIT = ["model.circuit.qubits=2", "model.circuit.layers=4", "training.seed=7"]


def recorded(monkeypatch, module, name, result):
    """The calls of a module's function, which returns ``result`` instead of what it would."""
    calls = []
    monkeypatch.setattr(module, name, lambda *given, **named: calls.append((given, named)) or result)
    return calls


def test_the_plateau_is_looked_for_with_the_seed_of_the_training(tmp_path, monkeypatch):
    recorded(monkeypatch, diagnose, "_trial", Trial("", (1,), (Layer("decoder", 9, (4.0,)),)))
    recorded(monkeypatch, diagnose, "write_report", None)
    calls = recorded(monkeypatch, diagnose, "look_for_plateau", Plateau(2, 4, 9, (), ()))
    found = qvae.diagnose_gradients("digits-vqvae", tmp_path / "g", steps=1, overrides=CIRCUIT)
    assert [given[1:3] for given, _ in calls] == [(diagnose._STARTS, 7)]
    assert calls[0][0][0].circuit.layers == 4
    assert found.plateau.starts == 9


def test_all_parts_of_a_plateau_get_its_starts_and_seed(monkeypatch):
    config = load_config("digits-vqvae", CIRCUIT).model
    families = recorded(monkeypatch, plateau, "circuit_family", "the family")
    along, others = recorded(monkeypatch, plateau, "curves", ()), recorded(monkeypatch, plateau, "remedies", ())
    look_for_plateau(config, 9, 7)
    assert families == [((config, 7), {})]
    assert [given for given, _ in along] == [
        ("the family", "qubits", [(2, 4)], 9, 7),
        ("the family", "layers", [(2, 1), (2, 2), (2, 4), (2, 8)], 9, 7),
    ]
    assert others == [((config, 2, "the family", 9, 7), {})]


def test_of_a_wide_circuit_ten_qubits_are_looked_at(monkeypatch):
    config = load_config("digits-vqvae", ["model.circuit.qubits=14", "model.circuit.layers=1"]).model
    recorded(monkeypatch, plateau, "circuit_family", "the family")
    along, others = recorded(monkeypatch, plateau, "curves", ()), recorded(monkeypatch, plateau, "remedies", ())
    told = []
    found = look_for_plateau(config, 9, 7, lambda share, what: told.append(share))
    sizes = [given[2] for given, _ in along]
    assert sizes == [[(2, 1), (5, 1), (7, 1), (10, 1)], [(10, 1), (10, 2)]]
    assert others[0][0][1] == found.qubits == 10
    assert (found.layers, told) == (1, sorted(told))


@pytest.mark.parametrize("seed", [0, 7])
def test_variances_are_of_the_circuit_s_inputs_and_the_seed(seed, monkeypatch):
    family = circuit_family(load_config("digits-vqvae", CIRCUIT).model, seed)
    calls = recorded(monkeypatch, plateau, "gradient_variance", GradientVariance(0.5, 0.1, 0.5, 9))
    curves(family, "qubits", [(2, 1), (3, 1)], starts=9, seed=seed)
    assert len(calls) == 4
    for (circuit, _, weight, starts, start, inputs), named in calls:
        made, angles = family(circuit.num_qubits, 1)
        assert (circuit.num_weights, weight, starts, start, named) == (made.num_weights, None, 9, uniform, {"seed": seed})
        assert torch.equal(inputs, angles)


@pytest.mark.parametrize("ansatz", ["hardware_efficient", "strongly_entangling"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4, 6])
def test_a_remedy_s_circuit_has_as_many_layers_as_its_name_says(ansatz, layers):
    config = load_config("digits-vqvae", [*CIRCUIT, f"model.circuit.ansatz={ansatz}", f"model.circuit.layers={layers}"]).model
    family = circuit_family(config)
    named = {tried.name: tried for tried in remedies._starts(config, 2, family)}
    told = {name: int(match[1]) for name in named if (match := re.search(r"(\d+) layers", name))}
    assert any(name.startswith("identity blocks") for name in told)
    for name, number in told.items():
        assert named[name].circuit.num_weights == family(2, number)[0].num_weights


def test_lines_show_the_norms_and_tell_the_verdicts_apart():
    verdicts = {"healthy": "-", "dead": ":", "exploding": "--"}
    layers = [Layer(verdict, 1, (1.0 + place, 0.0, 2.0), verdict) for place, verdict in enumerate(verdicts)]
    lines = norm_curves((1, 5, 9), [*layers, Layer("frozen", 1, (), "frozen")]).axes[0].get_lines()
    assert {line.get_label(): line.get_linestyle() for line in lines} == verdicts
    for line, layer in zip(lines, layers, strict=True):
        assert list(line.get_xdata()) == [1, 5, 9]
        assert np.array_equal(line.get_ydata(), [layer.norms[0], np.nan, 2.0], equal_nan=True)
    assert len({line.get_color() for line in lines}) == 3


@pytest.mark.parametrize("initial", [0.0, 0.3])
def test_starts_are_what_they_are_called(initial):
    config = load_config("digits-vqvae", [*CIRCUIT, f"model.circuit.initial_weights={initial}"]).model
    family = circuit_family(config)
    tried = {each.name: (each.start, each.layerwise) for each in remedies._starts(config, 2, family)}
    ends = tuple(family(2, layers)[0].num_weights for layers in (1, 2, 3, 4))
    expected = {
        "uniform angles": (uniform, None),
        "small angles, 0.3, as configured": (SmallAngles(0.3), None),
        "small angles, 0.20 (Zhang et al. 2022)": (SmallAngles(1 / (2 * sqrt(4 + 2))), None),
        "layerwise, 4 layers": (FirstLayers(ends[0]), Layerwise(ends, 0.5)),
    }
    if not initial:
        del expected["small angles, 0.3, as configured"]
    blocks, _ = tried.pop("identity blocks, 4 layers behind one encoding")
    assert blocks.blocks == 1
    assert tried == expected


@pytest.mark.parametrize(
    ("given", "tried"),
    [
        (["training.clip_norm=0.5", "model.network.activation=relu"], "batch_norm=false clip_norm=null activation=silu"),
        (["training.clip_norm=1.0", "model.network.batch_norm=false"], "batch_norm=true clip_norm=null activation=relu"),
        (["training.clip_norm=2.0", "model.network.residual=true"], "batch_norm=false clip_norm=1.0 activation=relu"),
        (["training.clip_norm=null"], "batch_norm=false clip_norm=1.0 activation=relu"),
    ],
)
def test_each_setting_is_tried_the_other_way(given, tried, monkeypatch):
    calls, told = recorded(monkeypatch, diagnose, "_trial", "a trial"), []
    config = load_config("digits", ["model.network.hidden=[8,8]", *given])
    assert list(diagnose._tried(config, 9, lambda share, text: told.append((share, text)))) == ["a trial"] * 4
    settings = [setting for _, setting in told]
    assert [re.sub(r"^(model\.network|training)\.", "", setting) for setting in settings[:3]] == tried.split()
    assert settings[3] == f"model.network.residual={'false' if config.model.network.residual else 'true'}"
    assert [share for share, _ in told] == [0, 1 / 4, 2 / 4, 3 / 4]
    for ((changed, run, setting, steps, _), _), expected in zip(calls, settings, strict=True):
        assert (run, setting, steps) == (None, expected, 9)
        assert changed == load_config(config.model_dump(mode="json"), [expected])


def test_of_a_run_its_settings_and_overrides_count_and_are_kept(trained, tmp_path, monkeypatch):
    whole, seen = diagnose._parts, []
    monkeypatch.setattr(diagnose, "_parts", lambda folder, config, run: seen.append(config) or whole(folder, config, run))
    found = qvae.diagnose_gradients(trained, tmp_path / "g", steps=2, overrides=["training.learning_rate=0.002"])
    assert (seen[0].training.learning_rate, seen[0].training.tensorboard) == (0.002, False)
    kept = json.loads((found.path / diagnose.RESULTS).read_text())
    assert "\n  learning_rate: 0.002\n" in kept["config"]
    assert {key: kept[key] for key in ("schema", "qvae", "source", "others", "plateau")} == {
        "schema": diagnose.SCHEMA, "qvae": qvae.__version__, "source": "the run small", "others": [], "plateau": None,
    }  # fmt: skip
    assert kept["trial"]["steps"] == [1, 2]


@pytest.mark.parametrize("is_of_run", [True, False])
def test_layers_of_a_run_s_circuit_have_all_begun(is_of_run, monkeypatch):
    class Stop(Exception):
        pass

    def stop(folder, config, run):
        raise Stop(config.model.circuit.layerwise)

    monkeypatch.setattr(diagnose, "_parts", stop)
    config = load_config("digits-vqvae", ["model.circuit.layerwise=0.5"])
    with pytest.raises(Stop, match="^0.0$" if is_of_run else "^0.5$"):
        diagnose._trial(config, "a run" if is_of_run else None, "", 1, print)
    assert config.model.circuit.layerwise == 0.5


def test_a_run_s_graph_classes_data_and_weights_are_those_that_are_trained(tmp_path, monkeypatch):
    taken, state = [], {"image_shape": [2, 3], "levels": None, "edges": torch.tensor([[0, 1], [1, 2]]), "classes": [3, 7]}
    weights = SimpleNamespace(state_dict=lambda: "weights of the run")
    trainer = SimpleNamespace(model=SimpleNamespace(load_state_dict=taken.append))
    calls = recorded(monkeypatch, diagnose, "assemble", SimpleNamespace(trainer=trainer))
    run = SimpleNamespace(training_state=state, path=tmp_path, dataset="data", model=weights)
    diagnose._parts(tmp_path, "config", run)
    (((folder, config), named),) = calls
    assert (folder, config, named["data"], named["is_rehearsal"]) == (tmp_path, "config", "data", True)
    assert named["edges"] is state["edges"]
    assert named["held"].classes == (3, 7)
    assert taken == ["weights of the run"]


def test_a_run_without_a_checkpoint_is_refused(small_run, tmp_path):
    (small_run / "checkpoint.safetensors").unlink()
    with pytest.raises(RunError, match="holds no checkpoint to go on from; diagnose its config.yaml instead"):
        qvae.diagnose_gradients(small_run, tmp_path / "g", steps=1)
