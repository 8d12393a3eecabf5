"""Which words stand beside the numbers: the likelihood that they are of, and what can't be compared."""

import json
from pathlib import Path

import pytest

from qvae.reporting.tables import (
    circuit_tables,
    data_preparation,
    evaluation_tables,
    executor_tables,
    frechet_tables,
    likelihood_name,
    likelihood_tables,
)

OLD = json.loads((Path(__file__).parents[1] / "data" / "run-0.1.0" / "evaluation.json").read_text())
DENSITY = OLD | {
    "likelihood": "gaussian", "binarization": "none", "num_features": 64, "elbo_per_feature": -0.39,
    "log_likelihood_per_feature": -0.38,
}  # fmt: skip


def test_numbers_of_bits_say_how_they_became_bits():
    (table,) = likelihood_tables(OLD)
    assert table.header[0] == "nats per image"
    assert table.note.startswith("The first 50 test images, Bernoulli p(x|z), threshold binarization (others can't be")
    assert [row[1] for row in table.rows[:2]] == ["-25.12 ± 0.55", "-24.96 ± 0.55"]
    assert not any("per feature" in row[0] for row in table.rows)


def test_a_density_is_told_per_feature_and_not_to_be_compared():
    assert likelihood_tables(OLD)[0].rows[0][2] == "latents drawn from q(z|x), bits never relaxed"
    real = likelihood_tables(OLD | {"log_z_method": "the prior is a normalised density"})[0]
    assert real.rows[0][2] == "latents drawn from q(z|x)"
    (table,) = likelihood_tables(DENSITY, "row")
    assert table.header[0] == "nats per row"
    assert "Gaussian p(x|z); ±" in table.note
    assert "can't be compared with likelihoods of bits" in table.note
    (row,) = [row for row in table.rows if "per feature" in row[0]]
    assert row[1] == "-0.3900 and -0.3800"
    assert "binarization" not in table.note


@pytest.mark.parametrize(
    ("name", "words"),
    [("bernoulli", "Bernoulli p(x|z)"), ("poisson", "Poisson p(x|z)"), ("negative-binomial", "negative binomial p(x|z)"),
     ("categorical", "categorical p(x|z)")],
)  # fmt: skip
def test_every_likelihood_has_words(name, words):
    assert likelihood_name({"likelihood": name}) == words


def test_what_was_not_found_says_why():
    assert data_preparation({"binarization": "none"}) == ""
    assert frechet_tables({"frechet": {}})[0].rows == [("evaluation.num_generated is 0",)]
    (table,) = frechet_tables({"frechet": {"reason": "it has no labels."}})
    assert table.rows == [("it has no labels.",)]


def test_fewer_images_than_features_are_told():
    classifier = {"weights": "abc", "test_accuracy": None}
    row = {"value": 1.0, "stderr": 0.1, "bias": 0.2, "num_features": 84}
    told = "covariance of 84 features hasn't full rank"
    for images, reference, is_told in [(85, 1000, False), (84, 1000, True), (1000, 40, True)]:
        sets = {"samples": row | {"num_images": images, "num_reference": reference}}
        (table,) = frechet_tables({"frechet": {"distances": sets, "classifier": classifier}})
        assert (told in table.note) == is_told
    (table,) = frechet_tables({"frechet": {"inception": {"samples": row | {"num_images": 9, "num_reference": 99}}}})
    assert "Of 9 images" in table.note


def test_all_tables_are_rectangular():
    for table in evaluation_tables(OLD):
        assert {len(row) for row in table.rows} == {len(table.header)}


def test_a_circuit_is_shown_with_what_is_known_of_it():
    assert circuit_tables([]) == circuit_tables([{"epoch": 1}]) == []
    (table,) = circuit_tables([{"qubits": 6.0, "depth": 56.0, "two_qubit_gates": 39.0, "fidelity": 0.98765}, {"epoch": 2}])
    assert [row[1] for row in table.rows] == ["6", "56", "39", "0.9877"]


def test_a_likelihood_that_is_a_bound_says_why_it_may_lie_below_the_elbo():
    gap = {"q_elbo": -30.0, "golden_thompson_gap": 4.9, "golden_thompson_gap_stderr": 0.1}
    rows = {row[0]: row for row in likelihood_tables(OLD | gap | {"log_likelihood_is_bound": True})[0].rows}
    assert "may lie below the ELBO" in rows["log-likelihood, at least"][2]
    assert "log-likelihood" in {row[0] for row in likelihood_tables(OLD | gap)[0].rows}


def test_each_executor_has_its_row_of_losses():
    distance = {"value": 7.0, "stderr": 0.5}
    lost = {
        "executor": "aer:shots=9", "num_rows": 1000, "reconstruction": -12.0, "reconstruction_stderr": 0.3, "exact": -11.5,
        "exact_stderr": 0.2, "loss": 0.5, "loss_stderr": 0.1, "samples": distance, "exact_samples": distance | {"value": 6.0},
    }  # fmt: skip
    alone = lost | {"executor": "x", "loss_stderr": None, "samples": None, "exact_samples": None}
    (table,) = executor_tables({"executors": [lost, alone]}, "row")
    assert len(set(table.header)) == len(table.header)  # a terminal may list them by name
    assert table.rows[0][1:] == ("-12.00 ± 0.30", "-11.50 ± 0.20", "0.50 ± 0.10", "7.00 ± 0.50", "6.00 ± 0.50", "1,000")
    assert table.rows[1][3:6] == ("0.50", "-", "-")
    assert executor_tables({}) == []
