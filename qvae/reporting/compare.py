"""Runs side by side: the same numbers, the same pictures, and what differs in their configurations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qvae.config.schema import Config
from qvae.files import atomic_write_text
from qvae.reporting.figures import save_figure, side_by_side
from qvae.reporting.page import Picture, Section, Table, opened_picture, render_page
from qvae.reporting.pictures import drawings
from qvae.reporting.report import evaluated, row_noun, subtitle
from qvae.reporting.strings import string_tables
from qvae.reporting.tables import data_preparation, is_autoencoder, likelihood_name, with_error
from qvae.runs.folder import FIGURES
from qvae.runs.run import Run

_COMPARED = ("samples", "reconstructions", "marginals", "correlations", "strings", "energies", "map")


def write_comparison(runs: Sequence[Run], out: str | Path) -> tuple[Path, Path]:
    """Numbers and pictures of runs, in an HTML file ``out`` and a PNG of the same name.

    Raises:
        RunError: a run was never evaluated.
    """
    names = _names(runs)
    titles = {key: drawing.title for run in runs for key, drawing in drawings(run).items() if key in _COMPARED}
    files = {key: [_picture_file(run, key) for run in runs] for key in _COMPARED if key in titles}
    pictures = [
        Picture(file, f"{titles[key]}: {name}")
        for key, row in files.items()
        for file, name in zip(row, names, strict=True)
        if file is not None
    ]
    different = _differences([run.config for run in runs])
    sections = [
        Section("Figures", tables=[comparison_table(runs)]),
        Section("Pictures", pictures=pictures, columns=len(runs)),
        Section("What differs in the configurations", tables=[Table(("key", *names), different)]),
    ]
    html = Path(out) if Path(out).suffix == ".html" else Path(f"{out}.html")
    atomic_write_text(html, render_page("qvae: runs side by side", ", ".join(names), sections))
    columns = [
        {key: _read_picture(file) for key, row in files.items() if (file := row[place]) is not None}
        for place in range(len(runs))
    ]
    return html, save_figure(side_by_side(columns, names), html.with_suffix(".png"), dpi=110)


def comparison_table(runs: Sequence[Run]) -> Table:
    """One row for each figure of merit that any run has, with its error bar; of runs of several seeds, mean and spread.

    Raises:
        RunError: a run was never evaluated.
    """
    columns = [_figures_of_merit(run, evaluated(run)) for run in runs]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    header, note = ["", *_names(runs)], ""
    if {row[0] for row in _differences([run.config for run in runs])} == {"training.seed"}:
        columns.append(_mean_and_spread([merits(evaluated(run)) for run in runs]))
        header.append(f"mean of {len(runs)} seeds")
        note = "The runs differ in their seeds alone: ± of the mean column is the standard deviation over them, for one run."
    return Table(header, [(key, *(column.get(key, "-") for column in columns)) for key in keys], note)


def _mean_and_spread(runs: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """Mean and standard deviation of each number that all runs have."""
    shared = [key for key in runs[0] if all(key in run for run in runs)]
    values = {key: [run[key] for run in runs] for key in shared}
    return {key: with_error(float(np.mean(found)), float(np.std(found, ddof=1))) for key, found in values.items()}


def merits(found: Mapping[str, Any]) -> dict[str, float]:
    """The figures of merit in an evaluation that are numbers, under the names of their rows."""
    frechet = found["frechet"]
    classifier = frechet.get("classifier", {}).get("weights", "")
    names = {
        "log-likelihood, nats": "log_likelihood",
        "ELBO, nats": "elbo",
        "Q-ELBO, nats": "q_elbo",
        "reconstruction, nats": "reconstruction",
    }
    numbers = {name: found.get(key) for name, key in names.items()}
    numbers |= {f"Frechet distance ({classifier}): {name}": row["value"] for name, row in frechet.get("distances", {}).items()}
    numbers |= {f"FID: {name}": row["value"] for name, row in frechet.get("inception", {}).items()}
    return {key: value for key, value in numbers.items() if value is not None}


def _figures_of_merit(run: Run, found: Mapping[str, Any]) -> dict[str, str]:
    bound = " at least: from a bound of log p(z), so it may lie below the ELBO" if found.get("log_likelihood_is_bound") else ""
    rows = {"run": subtitle(run)}
    if is_autoencoder(found):
        rows["reconstruction, nats"] = with_error(found["reconstruction"], found["reconstruction_stderr"])
    else:
        rows["log-likelihood, nats"] = with_error(found["log_likelihood"], found["log_likelihood_stderr"]) + bound
        rows["ELBO, nats"] = with_error(found["elbo"], found["elbo_stderr"])
    if "log_likelihood_per_feature" in found:
        rows["log-likelihood per feature, nats"] = f"{found['log_likelihood_per_feature']:.4f}"
    if found.get("q_elbo") is not None:
        rows["Q-ELBO, nats"] = with_error(found["q_elbo"], None)
    rows["likelihood"] = ", ".join(part for part in (likelihood_name(found), data_preparation(found)) if part)
    rows[f"test {row_noun(run)}s"] = str(found["num_test"])
    rows |= _frechet_merits(found) | _string_merits(found)
    latents = found["latents"]
    if latents is None:
        return rows
    for row in latents.get("probes", []):
        accuracy = f"{100 * row['linear']:.1f} % / {100 * row['mlp']:.1f} %"
        rows[f"linear / MLP probe on {row['features']}"] = f"{accuracy} ± {100 * row['stderr']:.1f}"
    return rows | {"latent units alive": f"{latents['alive']} of {latents['units']}"}


def _frechet_merits(found: Mapping[str, Any]) -> dict[str, str]:
    frechet = found["frechet"]
    classifier = frechet.get("classifier", {}).get("weights", "")
    rows = {
        f"Frechet distance ({classifier}): {name}": with_error(row["value"], row["stderr"])
        for name, row in frechet.get("distances", {}).items()
    }
    rows |= {f"FID: {name}": f"{row['value']:.2f}" for name, row in frechet.get("inception", {}).items()}
    for key, where in (("quality", "samples"), ("among_codes", "samples, among codes")):
        if key in frechet:
            of_samples = frechet[key]["coverage"]
            rows[f"precision / recall of {where}"] = f"{of_samples['precision']:.3f} / {of_samples['recall']:.3f}"
            rows[f"density / coverage of {where}"] = f"{of_samples['density']:.3f} / {of_samples['coverage']:.3f}"
    return rows


def _string_merits(found: Mapping[str, Any]) -> dict[str, str]:
    """Nats a symbol, and samples in figures, each beside those of an n-gram model."""
    rows: dict[str, str] = {}
    for table in string_tables(found):
        for name, *cells in table.rows:
            what = ", ".join(f"{head} {cell}" for head, cell in zip(table.header[1:], cells, strict=True) if cell != "-")
            rows[f"{table.header[0]}, {name}"] = what
    return rows


def _names(runs: Sequence[Run]) -> list[str]:
    """Folder names, with as many parents as tell them apart."""
    parts = [run.path.resolve().parts for run in runs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({place + 1})" for place, name in enumerate(names)]


def _differences(configs: Sequence[Config]) -> list[tuple[str, ...]]:
    flat = [dict(_leaves(config.model_dump(mode="json"))) for config in configs]
    keys = list(dict.fromkeys(key for leaves in flat for key in leaves))
    rows = [(key, *(json.dumps(leaves[key]) if key in leaves else "-" for leaves in flat)) for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _picture_file(run: Run, name: str) -> Path | None:
    file = run.path / FIGURES / f"{name}.png"
    return file if file.exists() else None


def _read_picture(file: Path) -> np.ndarray:
    with opened_picture(file) as picture:
        return np.asarray(picture.convert("RGB"))
