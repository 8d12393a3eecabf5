"""Every number of a diagnosis stands where its row and column say: tables of made-up ones, all of them different."""

import html
from pathlib import Path

import pytest

from qvae.circuits.gradients.variance import Decay, GradientVariance
from qvae.diagnosis.layers import Layer
from qvae.diagnosis.outcome import Diagnosis, Trial
from qvae.diagnosis.plateau import Curve, Plateau
from qvae.diagnosis.remedies import Remedy
from qvae.diagnosis.report import (
    findings,
    layer_table,
    remedy_table,
    start_table,
    tables,
    trained_table,
    variance_table,
    write_report,
)

LAYERS = (
    Layer("decoder", 9, (4.0, 2.0, 1.0)),
    Layer("encoder", 8, (4e-7, 2e-7, 1e-7), "dead", "its gradient is tiny"),
    Layer("stem", 7, (0.5, 8.0, 90.0), "exploding", "its gradient grows"),
    Layer("prior", 6, (), "frozen", "no gradient is asked for"),
    Layer("critic", 5, (), "unreached", "no gradient came"),
)
ILL = Trial("", (1, 5, 9), LAYERS)
WELL = Trial("training.clip_norm=1.0", (1, 5, 9), LAYERS[:1])


def curve(cost, against, law, values):
    variances = tuple(GradientVariance(value, 0.1, 1.0, 100) for value in values)
    fixed = "3 layers" if against == "qubits" else "4 qubits"
    return Curve(against, fixed, cost, (2, 4), variances, Decay(1.25, 0.5, 2.0), law)


@pytest.mark.parametrize(
    ("verdict", "is_well"),
    [("dead", False), ("exploding", False), ("healthy", True), ("frozen", True), ("unreached", True)],
)
def test_one_layer_that_is_dead_or_explodes_is_enough(verdict, is_well):
    trial = Trial("", (1,), (Layer("a", 1, (1.0,)), Layer("b", 1, (1.0,), verdict)))
    assert trial.is_well == is_well


def test_layers_and_what_is_said_of_them():
    rows = {row[0]: row[1:] for row in layer_table(ILL).rows}
    assert rows["decoder"] == ("4.0e+00", "2.0e+00", "1.0e+00", "healthy")
    assert rows["stem"] == ("5.0e-01", "8.0e+00", "9.0e+01", "exploding")
    assert rows["prior"] == ("-", "-", "-", "frozen")
    assert findings(Diagnosis("x", ILL, (), None, Path())) == [
        "encoder is dead: its gradient is tiny.",
        "stem is exploding: its gradient grows.",
        "Without gradients, since they are frozen or moved by losses alone: prior.",
        "No gradient came in these steps to critic: another phase moves them, or none.",
    ]


def test_remedies_are_held_against_what_is_configured():
    table = remedy_table(Diagnosis("x", ILL, (WELL,), None, Path()))
    assert table.rows == [("as configured", "1", "1", "2e-08"), ("training.clip_norm=1.0", "0", "0", "1e+00")]
    assert "Residual connections weren't tried" in table.note
    assert "on a run" in remedy_table(Diagnosis("x", ILL, (), None, Path())).note
    assert remedy_table(Diagnosis("x", WELL, (), None, Path())) is None


def made_up_plateau():
    curves = tuple(
        curve(cost, against, law, values)
        for against, cost, law, values in (
            ("qubits", "global", "exponential", (0.5, 0.25)),
            ("qubits", "local", "power", (0.75, 0.125)),
            ("layers", "global", "power", (0.3, 0.2)),
            ("layers", "local", "power", (0.1, 0.05)),
        )
    )
    costs = {"global": (1.0, 0.25), "local": (0.5, 0.125)}
    sizes = {"uniform angles": {"global": 2e-3, "local": 4e-3}, "small": {"global": 8e-3, "local": 1e-3}}
    starts = tuple(Remedy(name, squares, costs) for name, squares in sizes.items())
    return Plateau(4, 3, 100, curves, starts)


def test_a_plateau():
    plateau = made_up_plateau()
    assert [row[:2] for row in start_table(plateau).rows] == [("uniform angles", "2.0e-03 (x 1)"), ("small", "8.0e-03 (x 4)")]
    assert [row[2] for row in start_table(plateau).rows] == ["4.0e-03 (x 2)", "1.0e-03 (x 0.5)"]
    assert trained_table(plateau).rows[1] == ("small", "1.000 to 0.250", "0.500 to 0.125")
    rows = [(row[0], row[1].split()[0], row[2].split()[0]) for row in variance_table(plateau).rows]
    assert rows == [
        ("2 qubits, 3 layers", "5.0e-01", "7.5e-01"),
        ("4 qubits, 3 layers", "2.5e-01", "1.2e-01"),
        ("2 layers, 4 qubits", "3.0e-01", "1.0e-01"),
        ("4 layers, 4 qubits", "2.0e-01", "5.0e-02"),
    ]
    assert variance_table(plateau).rows[1][1:] == ("2.5e-01 ± 1e-01", "1.2e-01 ± 1e-01")
    said = findings(Diagnosis("x", WELL, (), plateau, Path()))
    assert said[0] == "No layer is dead, and none explodes."
    assert "under a global cost lose 1.25 ± 0.50 bits of variance with each qubit (at 3 layers, chi² 2)" in said[1]
    assert "under a local cost fall as qubits to the power -1.25 ± 0.50" in said[2]


@pytest.mark.parametrize(("norms", "median"), [((1.0, 5.0, 3.0), 3.0), ((float("inf"), 2.0, 4.0), 3.0), ((), 0.0)])
def test_the_median_of_a_layer_leaves_out_what_is_not_finite(norms, median):
    assert Layer("x", 1, norms).median == median


def test_the_page_holds_every_table_and_sentence(tmp_path):
    found = Diagnosis("vqvae on digits", ILL, (WELL,), made_up_plateau(), tmp_path)
    write_report(found)
    page = html.unescape((tmp_path / "report.html").read_text())
    for text in ("vqvae on digits", "9 steps of training, 3 of them noted.", *findings(found)):
        assert text in page
    assert len(tables(found)) == 5
    for table in tables(found):
        assert table.note in page
        assert all(cell in page for row in (table.header, *table.rows) for cell in row)
    assert page.index("Findings") < page.index("Gradients of layers") < page.index("Gradients of the circuit")
    of_run = Diagnosis("the run small", WELL, (), None, tmp_path)
    write_report(of_run)
    page = html.unescape((tmp_path / "report.html").read_text())
    assert "Gradients of the circuit" not in page
    assert len(tables(of_run)) == 1
