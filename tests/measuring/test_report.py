"""What a benchmark's notes say of a sampler, and from which number on."""

import pytest

from qvae.measuring.report import sampler_table

TRUTH = {"method": "counting", "is_exact": True, "means_error": 0.01, "correlations_error": 0.02, "energy_error": 0.03}
FLOORS = {"means_floor": 0.001, "correlations_floor": 0.002, "energy_floor": 0.003, "total_variation_floor": 0.004}
POINT = {"means": 0.1, "correlations": 0.2, "energy": 0.3, "total_variation": 0.4} | FLOORS
ROW = {"sampler": "mine", "status": "measured", "effective_samples_per_second": 5.0, "seconds_to_goal": 12.0, "curve": [POINT],
       "effective_beta": 1.0, "effective_beta_stderr": 0.01, "qpu_seconds": None, "qpu_cost": None, "bias": {}, "r_hat": 1.0,
       "identical_repeats": False, "repeats": 10}  # fmt: skip
BIAS = {"means": {"size": 0.125, "is_certain": True}, "energy": {"size": 0.5, "is_certain": False}}


def said(changes, truth=TRUTH):
    return sampler_table({"size": "4 spins", "truth": truth, "samplers": [ROW | changes]}).note


def test_nothing_is_said_of_a_good_sampler():
    assert "mine" not in said({})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bias": BIAS}, "mine is biased within this budget: means by 0.12."),
        ({"effective_beta": 1.05}, "mine samples at another temperature: beta = 1.05."),
        ({"effective_beta": 0.95}, "mine samples at another temperature: beta = 0.95."),
        ({"effective_beta": 1.03, "effective_beta_stderr": 0.001}, "beta = 1.03."),
        ({"r_hat": 1.06}, "Chains of mine disagree (R-hat 1.06)."),
        ({"identical_repeats": True}, "mine returns the same samples every time: its scatter can't be told."),
        ({"repeats": 2}, "mine managed 2 of ten repetitions: too few to tell its scatter."),
        ({"curve": [POINT, POINT | {"means": 0.019}]}, "mine is as good as the truth is known, in means: a longer --reference"),
        ({"curve": [POINT | {"correlations": 0.039, "energy": 0.059}]}, "is known, in correlations, energy:"),
    ],
)
def test_what_is_said_of_others(changes, words):
    assert words in said(changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"effective_beta": 1.039},
        {"effective_beta": 0.961},
        {"effective_beta": 0.981, "effective_beta_stderr": 0.001},  # nobody minds
        {"effective_beta": None},
        {"effective_beta_stderr": None, "effective_beta": 2.0},
        {"r_hat": 1.05},
        {"r_hat": None},
        {"repeats": 3},
        {"curve": [POINT | {"means": 0.019}, POINT | {"means": 0.021, "correlations": 0.041, "energy": 0.061}]},
    ],
)
def test_what_is_not_worth_a_word(changes):
    assert "mine" not in said(changes)


def test_what_is_said_of_a_measured_truth():
    measured = TRUTH | {"is_exact": False, "r_hat": 1.05}
    assert said({}, measured).startswith(
        "Truth: counting; its own errors are 0.01 (means), 0.02 (correlations), 0.03 sd (energy)."
    )
    assert "its groups disagree (R-hat 1.06): it may be wrong" in said({}, measured | {"r_hat": 1.06})
