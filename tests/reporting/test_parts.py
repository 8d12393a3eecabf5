"""What reports are put together from: which drawings a model has, rows of strings, tables of sweeps, twins and differences."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from qvae.config.grid import trials
from qvae.config.load import load_config
from qvae.errors import DataError, QvaeError, SamplerError
from qvae.models.prior import BoltzmannPrior
from qvae.reporting import compare, pictures, run_rows, twins
from qvae.reporting.page import Picture
from qvae.reporting.pictures import Views, drawings, picture_files
from qvae.reporting.sweep import SweptRun, failures_table, settings_table
from qvae.reporting.tables import executor_tables, frechet_tables, optimizer_table
from qvae.runs.records import file_bytes

# Drawings -------------------------------------------------------------------------------------------------------------


def model_of_kind(prior, compresses=True, circuit=None, shape=(8, 8), kind="bits"):
    likelihood = SimpleNamespace(kind=kind)
    return SimpleNamespace(
        model=SimpleNamespace(prior=prior, compresses=compresses, circuit=circuit, shape=shape, likelihood=likelihood)
    )


def test_each_kind_of_model_and_of_data_has_the_drawings_that_suit_it():
    boltzmann = object.__new__(BoltzmannPrior)
    of_machines = {"energies", "circuit", "couplings"}
    of_others = {"losses", "reconstructions", "samples", "neighbours", "traversals", "units", "map"}
    assert set(drawings(model_of_kind(boltzmann))) == of_machines | of_others
    assert set(drawings(model_of_kind("normal", circuit="layer"))) == of_others | {"model_circuit"}
    assert set(drawings(model_of_kind(None))) == {"losses", "reconstructions", "traversals", "map"}
    assert set(drawings(model_of_kind("noise", compresses=False))) == {"losses", "samples", "neighbours"}
    table = set(drawings(model_of_kind(boltzmann, shape=(5,))))
    assert table == {"losses", "marginals", "correlations", "energies", "circuit", "couplings", "units", "map"}
    strings = set(drawings(model_of_kind(boltzmann, shape=(5,), kind="strings")))
    assert strings == table - {"marginals", "correlations"} | {"strings"}
    nouns = [run_rows.row_noun(model_of_kind(None, shape=shape, kind=kind)) for shape, kind in (
        ((5,), "strings"), ((5,), "bits"), ((1, 5), "bits"), ((3, 8, 8), "bits"),
    )]  # fmt: skip
    assert nouns == ["string", "row", "row", "image"]


def test_rows_of_strings_stand_under_their_names_and_no_more_than_all_have():
    test, back, drawn = (torch.arange(6.0).view(3, 2) + start for start in (0, 10, 20))
    model = SimpleNamespace(prior="a prior", draw=lambda codes, generator: drawn[: len(codes)])
    config = SimpleNamespace(evaluation=SimpleNamespace(seed=0))
    views = Views(SimpleNamespace(model=model, device=torch.device("cpu"), config=config))
    views.reconstructed = lambda count: (test[:count].numpy(), back[:count].numpy())
    views.codes = torch.zeros(2, 4)
    found = views.string_rows(3)
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "test string": test[:2].tolist(), "reconstruction": back[:2].tolist(), "sample": drawn[:2].tolist(),
    }  # fmt: skip
    model.prior = None
    assert {name: len(rows) for name, rows in views.string_rows(3).items()} == {"test string": 3, "reconstruction": 3}

    def fail(codes, generator):
        raise SamplerError("no luck")

    model.prior, model.draw = "a prior", fail
    assert list(views.string_rows(3)) == ["test string", "reconstruction"]


def test_a_picture_that_fails_costs_itself_and_errors_of_the_user_everything():
    told = []
    with pictures._spared("the film", told.append):
        raise ZeroDivisionError("by nothing")
    assert told == ["the film can't be drawn (ZeroDivisionError: by nothing)"]
    with pytest.raises(QvaeError), pictures._spared("the film", told.append):
        raise DataError("mend it.")
    drawing = pictures.Drawing("", "", lambda views: "drawn")

    def views(tsne_every, rows):
        return SimpleNamespace(settings=SimpleNamespace(tsne_every=tsne_every), moments=(np.zeros(rows),))

    assert [pictures._drawn("map", drawing, views(*given)) for given in ((1, 3), (1, 2), (0, 3))] == ["drawn", None, None]
    assert pictures._drawn("units", drawing, views(0, 0)) == "drawn"


def test_a_folder_s_pictures_are_its_pngs_and_its_film(tmp_path):
    (tmp_path / "figures").mkdir()
    for name in ("figures/b.png", "figures/a.png", "latent_film.gif", "figures/c.txt", "other.png"):
        (tmp_path / name).write_bytes(b"")
    assert {name: file.name for name, file in picture_files(tmp_path).items()} == {
        "a": "a.png", "b": "b.png", "latent_film": "latent_film.gif",
    }  # fmt: skip


def test_wide_pictures_are_told_by_their_pixels(tmp_path):
    for width, is_wide in ((1400, False), (1401, True)):
        file = tmp_path / f"{width}.png"
        Image.new("L", (width, 2)).save(file)
        assert Picture(file, "").is_wide == is_wide
    import base64

    assert Picture(file, "").uri == "data:image/png;base64," + base64.b64encode(file_bytes(file)).decode()


def test_grey_levels_without_data_are_those_of_bits_or_go_from_the_least_to_the_most(monkeypatch):
    monkeypatch.setattr(run_rows, "reachable_data", lambda run: None)
    images = np.array([[[0.25, 0.5]], [[0.75, 0.25]]], np.float32)
    assert np.allclose(run_rows.as_grey(model_of_kind(None), images), images)
    assert np.allclose(run_rows.as_grey(model_of_kind(None, kind="reals"), images), [[[0, 0.5]], [[1, 0]]], atol=1e-6)


# Tables ---------------------------------------------------------------------------------------------------------------


def swept():
    """Two settings and two seeds, seed by seed: the last run has failed, and the second one has no FID."""
    runs = [SweptRun(trial, "finished") for trial in trials({"training.epochs": [1, 2], "model.latent.gamma": [0.0]}, [3, 4])]
    for run, value in zip(runs, (1.0, 3.0, 5.0), strict=False):
        run.figures, run.seconds = {"ELBO": value, "FID": 10 * value}, 75.0
    del runs[1].figures["FID"]
    runs[3].status, runs[3].reason = "failed", "out of luck"
    return runs


def test_each_combination_of_a_sweep_has_its_mean_and_spread_over_the_seeds_that_are_done():
    runs = swept()
    table = settings_table(runs)
    assert list(table.header) == ["training.epochs", "latent.gamma", "ELBO", "FID", "seeds"]
    assert table.rows == [("1", "0.0", "3.00 ± 2.83", "30.00 ± 28.28", "2"), ("2", "0.0", "3.00", "-", "1 of 2")]
    assert "standard deviation over seeds" in table.note
    assert settings_table(runs[:2]).note == ""  # of one seed each
    assert failures_table(runs).rows == [(runs[3].trial.name, "out of luck")]
    assert runs[0].to_dict() == {
        "name": runs[0].trial.name, "settings": {"training.epochs": 1, "model.latent.gamma": 0.0}, "seed": 3,
        "status": "finished", "reason": "", "figures": {"ELBO": 1.0, "FID": 10.0}, "seconds": 75.0,
    }  # fmt: skip


def test_the_page_of_a_sweep_has_a_row_for_each_finished_run(tmp_path, monkeypatch):
    from qvae.reporting import sweep

    shown = []
    monkeypatch.setattr(sweep, "render_page", lambda title, subtitle, sections: shown.append((subtitle, sections)) or "")
    runs = swept()
    sweep.write_sweep_report(runs, tmp_path)
    ((subtitle, sections),) = shown
    assert subtitle == "3 of 4 runs"
    assert [section.heading for section in sections] == ["Settings", "Failures", "Runs"]
    (table,) = sections[2].tables
    assert table.rows == [
        (run.trial.name, f"{value}.00", fid, "1:15")
        for run, value, fid in zip(runs, (1, 3, 5), ("10.00", "-", "50.00"), strict=False)
    ]
    sweep.write_sweep_report(runs[:3], tmp_path)
    assert [section.heading for section in shown[1][1]] == ["Settings", "Runs"]


def test_tables_of_what_there_is_among_codes_and_on_executors_of_a_generator():
    balls = {"precision": 0.91, "recall": 0.82, "density": 0.73, "coverage": 0.64, "neighbours": 5, "num_samples": 1000}
    found = {"coverage": balls, "floor": {key: value / 2 for key, value in balls.items()}}
    _, codes = frechet_tables({"frechet": {"reason": "it has no labels.", "among_codes": found}})
    assert codes.rows == [
        ("precision", "0.910", "0.455"),
        ("recall", "0.820", "0.410"),
        ("density", "0.730", "0.365"),
        ("coverage", "0.640", "0.320"),
    ]
    assert "5th neighbour" in codes.note
    assert "1,000 rows each" in codes.note
    lost = {
        "executor": "aer", "num_rows": 50, "reconstruction": None, "samples": {"value": 7.0, "stderr": 0.5},
        "exact_samples": {"value": 6.0, "stderr": None},
    }  # fmt: skip
    (table,) = executor_tables({"executors": [lost]})
    assert table.header == ("the circuit run by", "Frechet distance of samples", "distance, exact", "images")
    assert table.rows == [("aer", "7.00 ± 0.50", "6.00", "50")]
    assert table.note.startswith("Samples beside those of the same noise")


def test_how_a_run_learned_says_its_gradients_where_that_was_set():
    plain = load_config("digits-vqvae").training
    shifted = load_config("digits-vqvae", ["training.circuit_gradient=parameter-shift"]).training
    assert [row[0] for row in optimizer_table(plain).rows] == ["optimizer"]
    assert optimizer_table(shifted).rows[1] == ("gradients of the circuit", shifted.circuit_gradient.label)


# Runs side by side ----------------------------------------------------------------------------------------------------


def test_differences_are_all_keys_in_which_any_two_runs_differ():
    configs = [load_config("digits", settings) for settings in ([], [], ["training.epochs=7", "sampler.options.sweeps=3"])]
    epochs = str(configs[0].training.epochs)
    assert compare._differences(configs) == [
        ("sampler.options", "{}", "{}", "-"),
        ("training.epochs", epochs, epochs, "7"),
        ("sampler.options.sweeps", "-", "-", "3"),
    ]
    assert compare._differences(configs[:2]) == []


def test_names_have_as_many_parents_as_tell_them_apart(tmp_path):
    def names(*paths):
        return compare._names([SimpleNamespace(path=tmp_path / path) for path in paths])

    assert names("a/run", "a/other") == ["run", "other"]
    assert names("a/run", "b/run") == ["a/run", "b/run"]
    assert [name.rpartition(" ")[2] for name in names("a", "a")] == ["(1)", "(2)"]


def test_figures_of_strings_are_rows_of_a_comparison():
    one = {"valid": None, "different": 0.5, "new": 0.25, "diversity": 0.3, "length": 6.5, "number": 100}
    strings = {
        "symbols": 8.0, "ngram": -20.0, "ngram_stderr": None, "ngram_order": 3, "reconstructed": 0.1, "edits": 2.0,
        "check": None, "sets": {"samples": one}, "samples_reason": None,
    }  # fmt: skip
    found = compare._string_merits({"strings": strings, "log_likelihood": -16.0, "log_likelihood_stderr": 0.5})
    assert found == {
        "nats, this model": "a string -16.00 ± 0.50, a symbol -2.000",
        "nats, n-gram model, order 3": "a string -20.00, a symbol -2.500",
        "strings, samples": "different 50.0%, new 25.0%, diversity 0.300, length 6.5, number 100",
    }


def test_twins_beside_a_run_are_of_the_seeds_that_all_arms_have(tmp_path, monkeypatch):
    seeds = {"quantum": {0, 1, 2}, "unentangled": {0, 2, 3}, "frozen": {1}, "perceptron": {0, 2}, "gaussian": set()}
    circuit = SimpleNamespace(arm="quantum")
    config = SimpleNamespace(model=SimpleNamespace(circuit=circuit), training=SimpleNamespace(seed=0))
    run = SimpleNamespace(config=config, path=tmp_path / "quantum-0")
    monkeypatch.setattr(twins, "existing_run", lambda path: path)
    monkeypatch.setattr(twins, "run_config", lambda path: path.name)
    monkeypatch.setattr(twins, "_seeds", lambda folder, base, arm: seeds[arm] if base == "quantum-0" else set())
    monkeypatch.setattr(twins, "_opened", lambda run, arm, seed: f"{arm}-{seed}")
    arms = ("quantum", "unentangled", "perceptron")
    assert twins.twins_beside(run) == {arm: [f"{arm}-0", f"{arm}-2"] for arm in arms}
    circuit.arm = "gaussian"
    run.path = tmp_path / "gaussian-0"
    assert twins.twins_beside(run) == {}  # which isn't among them


def test_twins_differ_in_what_stands_in_the_circuit_s_place():
    """An optimizer and a rate of circuits go where there is no circuit that learns."""
    with_circuit = {"quantum", "unentangled"}
    rated, solved = (load_config("digits-vqvae", [setting]) for setting in (
        "training.circuit_learning_rate=0.5", "training.optimizer=rotosolve",
    ))  # fmt: skip
    of = {arm: twins.twin_of(rated, arm, 7) for arm in twins.ARMS}
    assert all((twin.model.circuit.arm, twin.training.seed) == (arm, 7) for arm, twin in of.items())
    has_rate = {arm for arm, twin in of.items() if twin.training.circuit_learning_rate == 0.5}
    assert has_rate == with_circuit | {"frozen"}
    of = {arm: twins.twin_of(solved, arm, 7) for arm in twins.ARMS}
    assert {arm for arm, twin in of.items() if twin.training.optimizer == solved.training.optimizer} == with_circuit


def test_a_game_s_twins_are_set_side_by_side_by_precision_and_recall():
    config = load_config("digits-vqgan")
    lying = {"coverage": {"precision": 0.9, "recall": 0.8}}
    found = {"frechet": {"quality": lying, "distances": {"samples of the prior": {"value": 5.0}}}}
    other = {"frechet": {"quality": {"coverage": {"precision": 0.7, "recall": 0.4}}}}
    model = SimpleNamespace(circuit=None, decoder=[])
    runs = [SimpleNamespace(config=config, evaluation=each, metrics=[{"epoch": epoch}], model=model)
            for each, epoch in ((found, 3), (other, 5))]  # fmt: skip
    table = twins.twins_table({"gaussian": runs})
    assert table.header[1:3] == ("precision", "recall")
    what = "noise straight to the latents, by a linear map"
    assert table.rows == [(what, "0.80 ± 0.14", "0.60 ± 0.28", "-", "-", "-", "0")]
    assert table.note.startswith("2 seeds; ±")
    assert "Precision and recall are of samples" in table.note
    assert "The trainings had 3 to 5 epochs" in table.note
    assert twins.twins_table({"gaussian": runs[:1]}).note.startswith("One seed tells no spread.")


def test_pictures_are_drawn_anew_and_those_of_before_go(tmp_path, monkeypatch):
    """One of three can't be drawn, and one has nothing to show; the film of an earlier training goes, too."""
    told, shares = [], []
    (tmp_path / "figures").mkdir()
    for name in ("figures/new.png", "figures/none.png", "figures/broken.png", "latent.gif"):
        (tmp_path / name).write_text("old")
    draw = {"new": lambda views: "a figure", "none": lambda views: None, "broken": lambda views: 1 / 0}
    monkeypatch.setattr(pictures, "FILM", "latent.gif")
    monkeypatch.setattr(pictures, "drawings", lambda run: {name: pictures.Drawing("", "", each) for name, each in draw.items()})
    monkeypatch.setattr(pictures.figures, "save_figure", lambda figure, file: file.write_text(figure) and file)
    monkeypatch.setattr(pictures, "_film_bytes", lambda seen, views: b"a film")
    run = SimpleNamespace(path=tmp_path, training_state={"observer": {"epochs": []}})
    assert pictures.draw_pictures(run, shares.append, told.append) == {"new": tmp_path / "figures" / "new.png"}
    assert [file.name for file in sorted(tmp_path.rglob("*.*"))] == ["new.png"]
    assert (tmp_path / "figures" / "new.png").read_text() == "a figure"
    assert shares == pytest.approx([0, 1 / 3, 2 / 3])
    assert told == ["the picture 'broken' can't be drawn (ZeroDivisionError: division by zero)"]
    run.training_state["observer"] = {"epochs": [1]}
    assert pictures.draw_pictures(run)["latent"].read_bytes() == b"a film"
