"""What a benchmark found, as tables for the terminal and as one HTML file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qvae.files import atomic_write_text
from qvae.measuring.accuracy import MEASURE
from qvae.reporting.figures import save_figure
from qvae.reporting.page import Picture, Section, Table, render_page

REPORT = "report.html"
_LIMITED = 2.0  # times the reference's own error: below this the truth is not known well enough to tell

_HOW = (
    "Errors are root mean squares over moments and repetitions of the averages of all samples so far, at equal budget and from "
    "a cold start, less the truth's own error; behind the stroke stands what as many perfect, independent samples would show. "
    "Effective samples per second (eff./s): the number of perfect samples whose averages scatter as much as those of "
    "repetitions do; a bias does not show in it. "
    f"Seconds to {MEASURE:,}: until means and correlations are as good as those of {MEASURE:,} perfect samples."
)


# Samplers -------------------------------------------------------------------------------------------------------------


def sampler_table(problem: Mapping[str, Any]) -> Table:
    """One problem of ``results.json``: its samplers, the quickest to the goal first."""
    rows = [row for row in problem["samplers"] if row["status"] == "measured"]
    rows.sort(key=lambda row: (row["seconds_to_goal"] is None, row["seconds_to_goal"] or 0.0, -_rank(row)))
    extra = _extra_columns(rows)
    table = [
        (
            row["sampler"],
            _number(row["effective_samples_per_second"]),
            _seconds(row["seconds_to_goal"]),
            *(_against_floor(row["curve"][-1], key, problem["truth"]) for key in _shown(problem)),
            _with_error(row["effective_beta"], row["effective_beta_stderr"]),
            *(show(row) for show in extra.values()),
        )
        for row in rows
    ]
    header = ("sampler", "eff./s", f"to {MEASURE:,}", *(_shown(problem).values()), "beta", *extra)
    return Table(header, table, " ".join(_notes(problem, rows)))


def _shown(problem: Mapping[str, Any]) -> dict[str, str]:
    names = {"means": "means", "correlations": "correl.", "energy": "energy", "total_variation": "TV"}
    return names if problem["truth"]["is_exact"] else {key: name for key, name in names.items() if key != "total_variation"}


def _extra_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if any(row["qpu_seconds"] is not None for row in rows):
        columns["QPU s"] = lambda row: _seconds(row["qpu_seconds"])
    if any(row.get("qpu_cost") is not None for row in rows):
        columns["price"] = lambda row: _number(row.get("qpu_cost"))
    return columns


def _rank(row: Mapping[str, Any]) -> float:
    return row["effective_samples_per_second"] or 0.0


def _notes(problem: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    truth = problem["truth"]
    known = f"Truth: {truth['method']}"
    if not truth["is_exact"]:
        known += (
            f"; its own errors are {truth['means_error']:.2g} (means), {truth['correlations_error']:.2g} (correlations), "
            f"{truth['energy_error']:.2g} sd (energy)"
        )
        if truth["r_hat"] is not None and truth["r_hat"] > 1.05:
            known += f", and its groups disagree (R-hat {truth['r_hat']:.2f}): it may be wrong"
    notes = [f"{known}."]
    for row in rows:
        notes += _findings(row, truth)
    for status in ("failed", "excluded"):
        of_it = [f"{row['sampler']} ({row['reason']})" for row in problem["samplers"] if row["status"] == status]
        if of_it:
            notes.append(f"{status.capitalize()}: {'; '.join(of_it)}.")
    return notes


def _findings(row: Mapping[str, Any], truth: Mapping[str, Any]) -> list[str]:
    found, name = [], row["sampler"]
    sizes = [f"{key} by {bias['size']:.2g}" for key, bias in row["bias"].items() if bias["is_certain"]]
    if sizes:
        found.append(f"{name} is biased within this budget: {', '.join(sizes)}.")
    beta, error = row["effective_beta"], row["effective_beta_stderr"]
    if beta is not None and error is not None and abs(beta - 1) > max(0.02, 4 * error):
        found.append(f"{name} samples at another temperature: beta = {beta:.2f}.")
    if row["r_hat"] is not None and row["r_hat"] > 1.05:
        found.append(f"Chains of {name} disagree (R-hat {row['r_hat']:.2f}).")
    if row["identical_repeats"]:
        found.append(f"{name} returns the same samples every time: its scatter can't be told.")
    elif row["repeats"] < 3:
        # One repetition has used up the budget.
        found.append(f"{name} managed {row['repeats']} of ten repetitions: too few to tell its scatter.")
    last = row["curve"][-1]
    limited = [key for key in ("means", "correlations", "energy") if last[key] < _LIMITED * truth[f"{key}_error"]]
    if limited:
        found.append(f"{name} is as good as the truth is known, in {', '.join(limited)}: a longer --reference tells more.")
    return found


def _against_floor(point: Mapping[str, Any], key: str, truth: Mapping[str, Any]) -> str:
    value, floor = point[key], point[f"{key}_floor"]
    if value is None:
        return "-"
    # Nothing is left when the truth's own error is taken off.
    shown = f"<{_error(truth[f'{key}_error'])}" if value == 0 and truth.get(f"{key}_error") else _error(value)
    return f"{shown}/{_error(floor)}"


def _error(value: float) -> str:
    """Four characters: tables of eight columns are narrow."""
    if 0 < value < 0.0005:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.3f}".removeprefix("0")


def _number(value: float | None) -> str:
    """Three digits, and M or k for millions and thousands."""
    if value is None:
        return "-"
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}" if value < 100 else f"{value:,.0f}"


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" + ("" if error is None else f"±{error:.2f}".replace("0.", "."))


def write_sampler_report(results: Mapping[str, Any], out: Path) -> Path:
    """``report.html`` in ``out``, with the pictures in ``out/figures``."""
    from qvae.measuring.figures import error_curves

    settings = results["settings"]
    sections = [Section("Which one?", _HOW, [_overview(results)])]
    for number, problem in enumerate(results["problems"]):
        measured = {row["sampler"]: row for row in problem["samplers"] if row["status"] == "measured"}
        pictures = []
        if measured:
            curves = {name: row["curve"] for name, row in measured.items()}
            clocks = {name: row["clock"] for name, row in measured.items()}
            keys = ("means", "correlations", "energy")
            reference = {key: problem["truth"][f"{key}_error"] for key in keys}
            any_point = next(iter(curves.values()))[-1]
            goal = {key: any_point[f"{key}_floor"] * (any_point["samples"] / MEASURE) ** 0.5 for key in keys}
            names = [row["sampler"] for row in problem["samplers"]]
            figure = error_curves(curves, clocks, names, reference, goal)
            file = save_figure(figure, out / "figures" / f"{number:02d}-{problem['fingerprint']}.png")
            caption = (
                f"Dotted in a sampler's colour: perfect samples of the same number. Dotted black: {MEASURE:,} perfect samples. "
                "Grey: the truth's own error."
            )
            pictures.append(Picture(file, "Error against time", caption))
        about = f"{problem['origin']}; {problem['size']}."
        sections.append(Section(problem["spec"], about[0].upper() + about[1:], [sampler_table(problem)], pictures))
    listings = {"Settings": json.dumps(settings, indent=2), "Environment": json.dumps(results["environment"], indent=2)}
    left_out = [(name, reason) for name, reason in results["left_out"].items()]
    tables = [Table(("sampler", "takes no part, because"), left_out)] if left_out else []
    sections.append(Section("How it was measured", _METHOD, tables, listings=listings))
    machine = results["environment"]
    where = f", on {settings['workers']} workers of a cluster" if settings.get("workers") else ""
    subtitle = (
        f"{settings['budget']:g} seconds for each sampler on each problem{where}; {machine['processor'] or machine['device']}, "
        f"{machine['threads']} threads, device {machine['device']}; qvae {results['qvae']}, {results['created'][:10]}"
    )
    atomic_write_text(out / REPORT, render_page("Samplers side by side", subtitle, sections))
    return out / REPORT


_METHOD = (
    "Ten repetitions share the budget. Persistent chains go on from call to call, others are asked for ever more samples; the "
    "clock is the processor's, all threads added up (the wall's for remote samplers, on workers and on CUDA), and runs only "
    "while the sampler works. A bias is stated where the sum of the repetitions' errors is longer than under any other choice "
    "of their signs, which happens to one perfect sampler in 512; it may be that of a cold start, which a larger budget "
    "lessens. Beta is the effective inverse temperature by pseudo-likelihood; it is not defined in a transverse field."
)


def _overview(results: Mapping[str, Any]) -> Table:
    """The quickest sampler on every problem, and by how much."""
    rows = []
    for problem in results["problems"]:
        measured = [row for row in problem["samplers"] if row["status"] == "measured"]
        able = sorted((row for row in measured if row["seconds_to_goal"] is not None), key=lambda row: row["seconds_to_goal"])
        if able:
            times = [row["seconds_to_goal"] / able[0]["seconds_to_goal"] for row in able]
            second = f"{able[1]['sampler']}, {times[1]:.1f} times as long" if able[1:] else "-"
            rows.append((problem["spec"], problem["size"], able[0]["sampler"], _seconds(able[0]["seconds_to_goal"]), second))
        else:
            nearest = min(measured, key=lambda row: row["curve"][-1]["correlations"], default=None)
            told = "none" if nearest is None else f"none; nearest: {nearest['sampler']}"
            rows.append((problem["spec"], problem["size"], told, "-", "-"))
    header = ("problem", "size", f"quickest to the accuracy of {MEASURE:,} perfect samples", "seconds", "next")
    return Table(header, rows)


def overview_table(results: Mapping[str, Any]) -> Table:
    """The quickest sampler on every problem, for the terminal."""
    full = _overview(results)
    return Table(("problem", "quickest", "s", "next"), [(row[0], *row[2:]) for row in full.rows])
