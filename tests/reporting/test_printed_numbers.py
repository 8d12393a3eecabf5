"""Every printed number is the one that its row and column name: whole tables of made-up numbers, all of them different."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.layer import CircuitLayer
from qvae.config.load import load_config
from qvae.measuring.report import overview_table, sampler_table
from qvae.measuring.training import training_table
from qvae.reporting.compare import comparison_table
from qvae.reporting.report import subtitle
from qvae.reporting.strings import string_tables
from qvae.reporting.tables import (
    circuit_tables,
    frechet_tables,
    latent_tables,
    likelihood_tables,
    model_circuit_table,
    quality_table,
    time_table,
)
from qvae.twins import twins_table

DISTANCE = {"value": 11.111, "num_images": 1201, "num_reference": 1202, "stderr": 1.234, "bias": 0.567, "num_features": 84}
SAMPLES = {"value": 22.222, "num_images": 1203, "num_reference": 1202, "stderr": 2.345, "bias": 0.678, "num_features": 84}
INCEPTION = {"value": 33.333, "num_images": 2401, "num_reference": 2402, "stderr": None, "bias": None, "num_features": 2048}
FOUND = {
    "elbo": -101.11, "elbo_stderr": 1.01, "log_likelihood": -99.22, "log_likelihood_stderr": 1.02, "importance_samples": 37,
    "log_z": 7.6543, "log_z_stderr": 0.0321, "log_z_method": "counting", "num_test": 51, "test_images_are_all": False,
    "binarization": "threshold", "likelihood": "bernoulli", "num_features": 64, "log_z_details": {},
    "frechet": {
        "classifier": {"weights": "abcdef", "test_accuracy": 0.98765},
        "distances": {"reconstructions": DISTANCE, "samples of the prior": SAMPLES},
        "inception": {"samples of the prior": INCEPTION},
    },
    "latents": {
        "units": 16, "alive": 13, "alive_threshold": 0.01, "information": 4.56, "probe_images": 1500,
        "probes": [{"features": "latent codes", "dimensions": 16, "linear": 0.812, "mlp": 0.923, "stderr": 0.0146}],
    },
    "seconds": {"likelihood": 1.24, "latents": 2.36},
}  # fmt: skip
QUANTUM = {"q_elbo": -103.33, "golden_thompson_gap": 2.25, "golden_thompson_gap_stderr": 0.44}
DENSITY = {"likelihood": "gaussian", "binarization": "none", "elbo_per_feature": -1.5812, "log_likelihood_per_feature": -1.5503}
POINT = {"reconstruction": -88.88, "reconstruction_stderr": 0.77}
METRICS = [
    {"epoch": 1, "step": 50, "seconds": 2.5, "ms_forward": 9.0, "ms_backward": 9.0, "ms_negative_phase": 9.0,
     "ms_optimizer": 9.0},
    {"epoch": 2, "step": 100, "seconds": 5.0, "ms_forward": 1.25, "ms_backward": 2.5, "ms_negative_phase": 3.75,
     "ms_optimizer": 0.5, "qpu_seconds": 1.0, "qpu_seconds_per_call": 0.01},
    {"epoch": 3, "step": 150, "seconds": 7.5, "qpu_seconds": 1.6, "qpu_seconds_per_call": 0.0107},
]  # fmt: skip


def cells(table):
    """Rows as lists, without the header."""
    return [list(row) for row in table.rows]


def values(table):
    """The first value of each row, by its name."""
    return {row[0]: row[1] for row in table.rows}


def test_likelihoods():
    (table,) = likelihood_tables(FOUND)
    assert [row[:2] for row in cells(table)] == [
        ["ELBO", "-101.11 ± 1.01"],
        ["log-likelihood", "-99.22 ± 1.02"],
        ["log Z of the prior", "7.654 ± 0.032"],
    ]
    assert [row[2] for row in table.rows][1:] == ["importance weighted, K = 37", "counting"]
    assert table.note.startswith("The first 51 test images, ")
    assert likelihood_tables(FOUND | {"test_images_are_all": True})[0].note.startswith("All 51 test images, ")


def test_strings():
    one = {"valid": 0.123, "different": 0.456, "new": 0.789, "diversity": 0.3217, "length": 6.54, "number": 1234}
    strings = {
        "symbols": 8.0, "ngram": -20.2, "ngram_stderr": 0.31, "ngram_order": 3, "reconstructed": 0.051, "edits": 2.358,
        "check": "[ab]+", "sets": {"samples": one, "others": one | {"valid": None}}, "samples_reason": None,
    }  # fmt: skip
    nats, sets = string_tables(FOUND | {"strings": strings})
    assert cells(nats) == [["this model", "-99.22 ± 1.02", "-12.402"], ["n-gram model, order 3", "-20.20 ± 0.31", "-2.525"]]
    for text in ("8.0 symbols", "5.1% come back", "2.36 edits"):
        assert text in nats.note
    assert cells(sets)[0] == ["samples", "12.3%", "45.6%", "78.9%", "0.322", "6.5", "1,234"]
    assert cells(sets)[1][:2] == ["others", "-"]
    assert "those that match [ab]+" in sets.note
    assert "There are no samples" not in sets.note
    bare = string_tables(FOUND | {"strings": strings | {"check": None, "samples_reason": "it has no prior"}})[1]
    assert "Valid: no check was given: evaluation.check." in bare.note
    assert bare.note.endswith(" There are no samples of the model: it has no prior.")
    assert string_tables(FOUND) == []
    point = string_tables(POINT | {"strings": strings | {"sets": {}}})
    assert [cells(table)[0] for table in point] == [["this model, reconstruction alone", "-88.88 ± 0.77", "-11.110"]]


def test_likelihoods_in_a_transverse_field_and_of_densities():
    rows = cells(likelihood_tables(FOUND | QUANTUM)[0])
    assert [row[0] for row in rows] == ["ELBO", "Q-ELBO", "log-likelihood", "log Z of the prior"]
    assert rows[1] == ["Q-ELBO", "-103.33", "below the ELBO by the Golden-Thompson gap, 2.25 ± 0.44"]
    rows = cells(likelihood_tables(FOUND | DENSITY)[0])
    assert rows[2] == ["both, per feature", "-1.5812 and -1.5503", "divided by 64 features"]
    assert [row[1] for row in cells(likelihood_tables(FOUND | POINT)[0])] == ["-88.88 ± 0.77"]


def test_distances():
    classifier, inception = frechet_tables(FOUND)
    assert classifier.header == ("images", "Frechet distance", "of it, finite sets", "number")
    assert cells(classifier) == [
        ["reconstructions", "11.11 ± 1.23", "0.57", "1201"],
        ["samples of the prior", "22.22 ± 2.35", "0.68", "1203"],
    ]
    assert "(weights abcdef, 98.77 % accurate), against 1202 test images" in classifier.note
    assert cells(inception) == [["samples of the prior", "33.33", "2401"]]


def test_what_the_latents_hold():
    (table,) = latent_tables(FOUND)
    assert table.header == ("features", "numbers", "linear probe", "MLP probe", "error")
    assert cells(table) == [["latent codes", "16", "81.2 %", "92.3 %", "± 1.5"]]
    assert "from 1500 training images. 13 of 16 units hold more than 0.01 nats" in table.note
    assert "together at most 4.6 nats" in table.note
    without = {key: value for key, value in FOUND["latents"].items() if "probe" not in key}
    (table,) = latent_tables({"latents": without})
    assert cells(table) == [["16", "13", "together at most 4.6 nats"]]


def test_where_the_time_went():
    assert values(time_table(METRICS, FOUND, 3.25)) == {
        "a step: encoder and decoder, forward and backward": "3.75 ms",
        "a step: negative phase": "3.75 ms",
        "a step: optimizer and averaging": "0.50 ms",
        "training": "7.5 s, 150 steps",
        "QPU access time": "1.60 s, 10.7 ms a call",
        "latent film, outside the training's clock": "3.2 s",
        "evaluation: likelihood": "1.2 s",
        "evaluation: latents": "2.4 s",
    }


def test_the_circuit_has_its_part_of_a_step():
    timed = [*METRICS[:1], METRICS[1] | {"ms_circuit": 1.5}]
    found = values(time_table(timed, FOUND))
    assert found["a step: encoder, circuit and decoder, forward and backward"] == "3.75 ms"
    assert found["of these the circuit, timed by itself"] == "1.50 ms, 40 %"


BALLS = {"precision": 0.911, "recall": 0.822, "density": 0.733, "coverage": 0.644, "neighbours": 5, "num_samples": 1000}
QUALITY = {
    "coverage": BALLS,
    "floor": {"precision": 0.955, "recall": 0.966, "density": 0.977, "coverage": 0.988, "neighbours": 5, "num_samples": 1000},
    "classes": {"0": 0.2, "1": 0.5, "2": 0.3},
    "training_classes": {"0": 0.1, "1": 0.6, "2": 0.3},
    "nearest": 1.234,
    "nearest_of_test": 2.345,
}


def test_what_samples_are_worth():
    assert cells(quality_table(QUALITY)) == [
        ["precision", "0.911", "0.955"],
        ["recall", "0.822", "0.966"],
        ["density", "0.733", "0.977"],
        ["coverage", "0.644", "0.988"],
        ["rarest class, 1: its share", "50.0%", "60.0%"],
        ["most frequent class, 0: its share", "20.0%", "10.0%"],
        ["to the nearest training image", "1.23", "2.35, of test images"],
    ]
    found = FOUND | {"frechet": FOUND["frechet"] | {"quality": QUALITY}}
    rows = {row[0]: row[1:] for row in comparison_table([run_of(found), run_of(FOUND, name="b")]).rows}
    assert rows["precision / recall of samples"] == ("0.911 / 0.822", "-")
    assert rows["density / coverage of samples"] == ("0.733 / 0.644", "-")


def test_circuits():
    turns = [Gate(name, (qubit,), (Affine(qubit),)) for qubit, name in enumerate(("ry", "rz", "rx"))]
    gates = [Gate("h", (0,)), Gate("cx", (0, 1)), *turns, Gate("cx", (1, 2))]
    layer = CircuitLayer(Circuit(3, gates, 3, 1), [[("IIZ", 1.0)]])
    assert [row[1] for row in model_circuit_table(layer).rows] == ["3", "6", "2", "1", "2", "1"]
    seen = {"qubits": 6.0, "depth": 56.0, "two_qubit_gates": 39.0, "fidelity": 0.98765, "free_energy_gap": 0.12345}
    (table,) = circuit_tables([{"two_qubit_gates": 1.0}, seen | {"effective_beta": 0.913, "effective_beta_stderr": 0.024}, {}])
    assert [row[1] for row in table.rows] == ["6", "56", "39", "0.9877", "0.1235 nats", "0.91", "0.02"]


# Runs side by side ----------------------------------------------------------------------------------------------------


def run_of(found, overrides=(), metrics=METRICS, name="run", decoder=None, shape=(8, 8)):
    """What tables read of a run."""
    config = load_config("digits", list(overrides))
    model = SimpleNamespace(shape=shape, circuit=None, decoder=decoder, likelihood=SimpleNamespace(kind="bits"))
    return SimpleNamespace(path=Path(name), evaluation=found, config=config, metrics=metrics, model=model)


def test_runs_side_by_side():
    other = FOUND | QUANTUM | {"elbo": -111.5, "log_likelihood_is_bound": True}
    table = comparison_table([run_of(FOUND), run_of(other, ["model.latent.gamma=0.5", "sampler.name=path_integral"], name="b")])
    first = {row[0]: row[1] for row in table.rows}
    second = {row[0]: row[2] for row in table.rows}
    assert first == {
        "run": "digits, prior rbm 32x32, sampler gibbs, 3 epochs in 8 s",
        "log-likelihood, nats": "-99.22 ± 1.02",
        "ELBO, nats": "-101.11 ± 1.01",
        "likelihood": "Bernoulli p(x|z), threshold binarization",
        "test images": "51",
        "Frechet distance (abcdef): reconstructions": "11.11 ± 1.23",
        "Frechet distance (abcdef): samples of the prior": "22.22 ± 2.35",
        "FID: samples of the prior": "33.33",
        "linear / MLP probe on latent codes": "81.2 % / 92.3 % ± 1.5",
        "latent units alive": "13 of 16",
        "Q-ELBO, nats": "-",
    }
    assert (second["ELBO, nats"], second["Q-ELBO, nats"]) == ("-111.50 ± 1.01", "-103.33")
    assert second["log-likelihood, nats"].startswith("-99.22 ± 1.02 at least: from a bound")
    densities = comparison_table([run_of(FOUND | DENSITY), run_of(FOUND | POINT, name="b")])
    rows = {row[0]: list(row[1:]) for row in densities.rows}
    assert rows["log-likelihood per feature, nats"] == ["-1.5503", "-"]
    assert rows["reconstruction, nats"] == ["-", "-88.88 ± 0.77"]


def test_mean_and_spread_over_seeds():
    """Of two numbers a and a + 2 b the mean is a + b, and the standard deviation, of one run, sqrt(2) b."""
    shifted = FOUND | QUANTUM | {"elbo": -103.11, "log_likelihood": -103.22, "q_elbo": -109.33}
    moved = {"classifier": FOUND["frechet"]["classifier"]}
    moved["distances"] = {"reconstructions": DISTANCE | {"value": 19.111}, "samples of the prior": SAMPLES | {"value": 32.222}}
    moved["inception"] = {"samples of the prior": INCEPTION | {"value": 45.333}}
    runs = [run_of(FOUND | QUANTUM), run_of(shifted | {"frechet": moved}, ["training.seed=1"], name="b")]
    table = comparison_table(runs)
    assert table.header[-1] == "mean of 2 seeds"
    assert {row[0]: row[3] for row in table.rows if row[3] != "-"} == {
        "log-likelihood, nats": "-101.22 ± 2.83",
        "ELBO, nats": "-102.11 ± 1.41",
        "Q-ELBO, nats": "-106.33 ± 4.24",
        "Frechet distance (abcdef): reconstructions": "15.11 ± 5.66",
        "Frechet distance (abcdef): samples of the prior": "27.22 ± 7.07",
        "FID: samples of the prior": "39.33 ± 8.49",
    }
    lacking = run_of(shifted, ["training.seed=1"], name="d")
    lacking.evaluation = {key: value for key, value in lacking.evaluation.items() if key != "q_elbo"}
    assert {row[0]: row[3] for row in comparison_table([runs[0], lacking]).rows}["Q-ELBO, nats"] == "-"  # not of all runs
    third = run_of(FOUND, ["training.seed=1", "training.epochs=7"], name="c")
    assert "mean" not in "".join(comparison_table([runs[0], third]).header)


def test_twins():
    other = FOUND | {"elbo": -103.11, "log_likelihood": -103.22}
    other["frechet"] = {"distances": {"reconstructions": DISTANCE | {"value": 19.111}, "samples of the prior": SAMPLES}}
    twins = {"quantum": [run_of(FOUND, decoder=[]), run_of(other, metrics=[METRICS[0] | {"ms_backward": 7.0}])], "frozen": []}
    twins["frozen"] = [run_of(FOUND | POINT, metrics=[], decoder=[]), run_of({}, metrics=[], decoder=[])]
    table = twins_table(twins)
    assert table.header[1:] == ("log-likelihood", "ELBO", "samples", "reconstructions", "ms a step", "weights there")
    assert cells(table)[0] == [
        "the circuit", "-101.22 ± 2.83", "-102.11 ± 1.41", "22.22 ± 0.00", "15.11 ± 5.66", "9.88 ± 8.66", "0",
    ]  # fmt: skip
    assert cells(table)[1][1:] == ["-", "-", "-", "-", "-", "0"]
    assert twins_table({"quantum": [run_of(FOUND, decoder=[])]}).rows[0][1] == "-99.22"


def test_a_run_in_a_line():
    run = run_of(FOUND, ["data.name=~/pictures/mine.npy", "model.latent.graph=edges", "model.latent.sizes=[9]"])
    assert subtitle(run) == "mine, prior 9 independent bits, sampler gibbs, 3 epochs in 8 s"
    for arm, words in (("quantum", ""), ("frozen", ", frozen")):
        circuit = f"model={{kind: vqvae, circuit: {{qubits: 3, ansatz: brickwork, arm: {arm}}}}}"
        expected = f"digits, variational vqvae, brickwork of 3 qubits{words}, executor statevector, 3 epochs in 8 s"
        assert subtitle(run_of(FOUND, [circuit])) == expected


# Benchmarks -----------------------------------------------------------------------------------------------------------


def test_trainings_side_by_side():
    last = {"log_likelihood": -90.12, "log_likelihood_stderr": 0.34, "log_z": 12.56, "log_z_stderr": 0.78,
            "log_z_method": "AIS", "num_test": 1000, "test_images_are_all": False}  # fmt: skip
    parts = {"forward": 1.1, "negative_phase": 2.2, "backward": 3.3, "optimizer": 4.4}
    row = {"sampler": "a", "status": "measured", "images_per_second": 12345.6, "milliseconds": parts, "peak_memory_mb": 654.3,
           "qpu_seconds": 2.5, "curve": [last | {"log_likelihood": -99.0}, last]}  # fmt: skip
    better = row | {"sampler": "b", "curve": [last | {"log_likelihood": -80.0}], "qpu_seconds": None}
    table = training_table({"samplers": [row, better], "settings": {"seconds": 7.0}})
    assert table.header == ("sampler", "images/s", "ms of a step", "MB", "log-likelihood", "log Z", "QPU s")
    assert [row[0] for row in table.rows] == ["b", "a"]
    assert cells(table)[1] == ["a", "12,346", "1.1/2.2/3.3/4.4", "654", "-90.12 ± 0.34", "12.56 ± 0.78", "2.5"]
    assert table.note.startswith("7 seconds of training each. Parts of a step: forward / negative phase / backward / optimizer")
    assert "nats of the first 1000 test images, K = 50" in table.note
    # Of one test image there is no error, of a machine that can't tell no memory, and of a training without an epoch no curve.
    alone = last | {"log_likelihood_stderr": None, "log_z_stderr": 0.0, "num_test": 1, "test_images_are_all": True}
    bare = row | {"curve": [alone], "milliseconds": {}, "peak_memory_mb": None, "qpu_seconds": None}
    nothing = bare | {"sampler": "c", "curve": []}
    failed = {"sampler": "d", "status": "failed", "reason": "no luck"}
    table = training_table({"samplers": [nothing, failed, bare], "settings": {"seconds": 0.5}})
    assert cells(table) == [
        ["a", "12,346", "-/-/-/-", "-", "-90.12", "12.56 ± 0.00"],
        ["c", "12,346", "-/-/-/-", "-", "-", "-"],
    ]
    assert "nats of all 1 test images" in table.note
    assert table.note.endswith("shifts it as a whole. Failed: d (no luck).")


@pytest.fixture
def problem():
    point = {"means": 0.011, "correlations": 0.022, "energy": 0.033, "total_variation": 0.044, "means_floor": 0.001,
             "correlations_floor": 0.002, "energy_floor": 0.003, "total_variation_floor": 0.004}  # fmt: skip
    row = {"sampler": "slow", "status": "measured", "effective_samples_per_second": 5432.1, "seconds_to_goal": 12.3,
           "curve": [point], "effective_beta": 0.987, "effective_beta_stderr": 0.0123, "qpu_seconds": 1.5, "qpu_cost": 27.0,
           "bias": {}, "r_hat": None, "identical_repeats": False, "repeats": 10}  # fmt: skip
    truth = {"method": "counting", "is_exact": True, "means_error": 0.0, "correlations_error": 0.0, "energy_error": 0.0}
    quick = row | {"sampler": "quick", "seconds_to_goal": 1.5}
    never = row | {"sampler": "never", "seconds_to_goal": None}
    return {"spec": "glass:n=4", "size": "4 spins", "truth": truth, "samplers": [never, row, quick]}


def test_samplers_side_by_side(problem):
    table = sampler_table(problem)
    assert table.header == ("sampler", "eff./s", "to 1,000", "means", "correl.", "energy", "TV", "beta", "QPU s", "price")
    assert [row[0] for row in table.rows] == ["quick", "slow", "never"]
    assert cells(table)[1] == [
        "slow", "5.43k", "12", ".011/.001", ".022/.002", ".033/.003", ".044/.004", "0.99±.01", "1.5", "27",
    ]  # fmt: skip
    assert overview_table({"problems": [problem]}).rows == [("glass:n=4", "quick", "1.5", "slow, 8.2 times as long")]
    problem["samplers"] = problem["samplers"][:1]
    assert overview_table({"problems": [problem]}).rows == [("glass:n=4", "none; nearest: never", "-", "-")]
