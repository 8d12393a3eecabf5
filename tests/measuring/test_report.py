"""What a benchmark's notes say of a sampler, and from which number on."""

import pytest

from qvae.measuring import figures, report
from qvae.measuring.report import sampler_table, write_sampler_report

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


def test_the_page_draws_each_problem_s_curves_with_the_goal_of_a_thousand_perfect_samples(tmp_path, monkeypatch):
    """Errors of perfect samples fall with the root of their number: of 4,000 they are half of those of 1,000."""
    given = []
    monkeypatch.setattr(figures, "error_curves", lambda *arguments: given.append(arguments))
    monkeypatch.setattr(report, "save_figure", lambda figure, file: given.append(file.name))
    monkeypatch.setattr(report, "render_page", lambda title, subtitle, sections: given.append((subtitle, sections)) or "")
    rows = [
        ROW | {"sampler": "failed", "status": "failed", "reason": "no luck"},
        ROW | {"clock": "wall", "curve": [POINT | {"samples": 10}, POINT | {"samples": 4000}]},
    ]
    problem = {"spec": "glass:n=4", "origin": "a glass", "size": "4 spins", "fingerprint": "abc", "truth": TRUTH}
    results = {
        "settings": {"budget": 2.5, "workers": 3}, "left_out": {"far": "it is far"},
        "problems": [problem | {"samplers": rows}], "qvae": "9.9",
        "created": "2026-11-26T18:00:00", "environment": {"processor": "a chip", "threads": 7, "device": "cpu"},
    }  # fmt: skip
    write_sampler_report(results, tmp_path)
    (curves, clocks, names, reference, goal), file, (subtitle, sections) = given
    assert (curves, clocks, names) == ({"mine": rows[1]["curve"]}, {"mine": "wall"}, ["failed", "mine"])
    assert reference == {"means": 0.01, "correlations": 0.02, "energy": 0.03}
    assert goal == pytest.approx({"means": 0.002, "correlations": 0.004, "energy": 0.006})
    assert file == "00-abc.png"
    assert subtitle == (
        "2.5 seconds for each sampler on each problem, on 3 workers of a cluster; a chip, 7 threads, device cpu; qvae 9.9, "
        "2026-11-26"
    )
    assert [section.heading for section in sections] == ["Which one?", "glass:n=4", "How it was measured"]
    assert sections[1].text == "A glass; 4 spins."
    assert sections[2].tables[0].rows == [("far", "it is far")]


def test_time_of_a_machine_and_its_price_stand_last():
    rows = [ROW | {"cpu_seconds": 7.0, "qpu_seconds": 3.5, "qpu_cost": 12.0}, ROW | {"seconds_to_goal": 20.0}]
    table = sampler_table({"size": "4 spins", "truth": TRUTH, "samplers": rows})
    assert (table.header[-2:], [row[-2:] for row in table.rows]) == (("QPU s", "price"), [("3.5", "12"), ("-", "-")])


def test_errors_and_numbers_fit_into_narrow_columns():
    assert [report._error(value) for value in (0.0, 0.00049, 0.0005, 0.0123, 1.5)] == [".000", "5e-4", ".001", ".012", "1.500"]
    assert [report._number(value) for value in (None, 5.4321, 999.4, 999.6, 54321.0, 999_600.0, 2e7)] == [
        "-", "5.43", "999", "1k", "54.3k", "1M", "20M",
    ]  # fmt: skip
    assert [report._seconds(value) for value in (None, 0.123, 99.4, 1234.5)] == ["-", "0.12", "99", "1,234"]
    assert [report._with_error(*pair) for pair in ((None, None), (1.0, None), (1.0, 0.25))] == ["-", "1.00", "1.00±.25"]
    known = {"means_error": 0.004}
    assert report._against_floor({"means": 0.0, "means_floor": 0.02}, "means", known) == "<.004/.020"
    assert report._against_floor({"means": 0.0, "means_floor": 0.02}, "means", {"means_error": 0.0}) == ".000/.020"
    assert report._against_floor({"energy": None, "energy_floor": None}, "energy", known) == "-"
