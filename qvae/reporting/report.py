"""The report of a run: one HTML file with its numbers, pictures, warnings and configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qvae.config.load import dump_config
from qvae.config.schema import ModelConfig
from qvae.errors import RunError, SamplerError
from qvae.files import atomic_write_text
from qvae.reporting.page import Picture, Section, Table, render_page
from qvae.reporting.pictures import Views, drawings, model_circuit
from qvae.reporting.run_rows import is_of_strings, row_noun, texts
from qvae.reporting.strings import shown_strings, string_tables
from qvae.reporting.tables import (
    circuit_tables,
    executor_tables,
    frechet_tables,
    is_autoencoder,
    latent_tables,
    likelihood_tables,
    model_circuit_table,
    optimizer_table,
    time_table,
)
from qvae.runs.folder import FILM, REPORT
from qvae.runs.run import Run

_STRINGS = 25  # rows of strings in the report


def write_report(run: Run, files: Mapping[str, Path], twins: Table | None = None) -> Path:
    """``report.html`` from the run's numbers, its pictures, ``files`` by their names, and a table of it and its twins.

    Raises:
        RunError: the run was never evaluated, or by a version that knew less.
    """
    found = evaluated(run)
    html = render_page(
        f"qvae run: {run.path.name}", subtitle(run), _sections(run, found, files, twins), _warnings(run, found)
    )
    atomic_write_text(run.path / REPORT, html)
    return run.path / REPORT


def evaluated(run: Run) -> dict[str, Any]:
    """What ``evaluation.json`` says.

    Raises:
        RunError: the run was never evaluated, or by a version that knew less.
    """
    found = run.evaluation
    if found is None:
        raise RunError(f"{run.path} was not evaluated yet; run `qvae evaluate {run.path}` first.")
    if not {"frechet", "latents"} <= set(found):
        raise RunError(f"{run.path} was evaluated by an older qvae; run `qvae evaluate {run.path}` again.")
    return found


def subtitle(run: Run) -> str:
    """Data, model, backends and length of the training, in a line."""
    metrics = run.metrics
    trained = f", {metrics[-1]['epoch']} epochs in {metrics[-1]['seconds']:.0f} s" if metrics else ""
    return f"{Path(run.config.data.name).stem}, {_model(run.config.model)}, {run.config.trained_by}{trained}"


def _model(config: ModelConfig) -> str:
    """Circuit and prior, in a line."""
    latent, parts = config.latent, []
    if config.circuit is not None:
        arm = "" if config.circuit.arm == "quantum" else f", {config.circuit.arm}"
        name = config.kind if config.variant is None else f"{config.variant} {config.kind}"
        parts.append(f"{name}, {config.circuit.ansatz} of {config.circuit.qubits} qubits{arm}")
    if config.has_boltzmann_prior:
        graph = f"{latent.graph} {'x'.join(map(str, latent.sizes))}"
        is_independent = latent.graph == "edges" and not latent.edges
        parts.append(f"prior {f'{latent.num_spins} independent bits' if is_independent else graph}")
    return ", ".join(parts)


def _warnings(run: Run, found: Mapping[str, Any]) -> list[str]:
    """What looked wrong in training, in log Z and with the samples."""
    warnings = [warning.partition(": ")[2] for warning in run.training_state.get("monitor", {}).get("warnings", [])]
    warnings += [text for text in (found["log_z_details"].get("warning"),) if text]
    try:
        if run.model.prior is not None:
            run.prior_codes(1, or_fewer=True)
    except SamplerError as error:
        warnings.append(f"no samples were drawn, so there are no pictures and distances of them: {error}")
    if run.samples_warning is not None:
        warnings.append(f"of the samples: {run.samples_warning}.")
    return warnings


def _string_columns(run: Run) -> list[Table]:
    """Test strings with their reconstructions, and samples; none of other data, or where they can't be had."""
    if not is_of_strings(run):
        return []
    columns = {name: texts(run, rows) for name, rows in Views(run).string_rows(_STRINGS).items()}
    return [shown_strings("", columns)]


def _quantum_parts(run: Run, found: Mapping[str, Any], pictures: Callable[..., list[Picture]]) -> list[Section]:
    """The circuit with what it loses where it is measured, and a Boltzmann prior with its negative phase."""
    sections, layer = [], model_circuit(run)
    if layer is not None:
        tables = [model_circuit_table(layer), *executor_tables(found, row_noun(run))]
        sections.append(Section("Circuit", tables=tables, pictures=pictures("model_circuit")))
    if run.config.model.has_boltzmann_prior:
        drawn = pictures("circuit", "energies", "couplings")
        sections.append(Section("Prior and negative phase", tables=circuit_tables(run.metrics), pictures=drawn))
    return sections


def _sections(run: Run, found: Mapping[str, Any], files: Mapping[str, Path], twins: Table | None = None) -> list[Section]:
    explained, noun = drawings(run), row_noun(run)

    def pictures(*names: str) -> list[Picture]:
        return [Picture(files[name], explained[name].title, explained[name].caption) for name in names if name in files]

    films = [
        Picture(
            file,
            "The latent space while it was trained",
            "Each map starts from the last one; axes and colours stay. The loss is the surrogate, not a likelihood.",
        )
        for file in files.values()
        if file.name == FILM
    ]
    seen = run.training_state.get("observer", {})
    listings = {"Configuration": dump_config(run.config)}
    environment = run.environment
    if environment is not None:
        listings["Environment"] = json.dumps(environment, indent=2)
    shown = ("samples", "traversals", "reconstructions", "neighbours", "marginals", "correlations", "strings")
    if is_of_strings(run):
        worth = Section("What generated strings are worth", tables=string_tables(found))
    else:
        text = "The Frechet distance compares the mean and covariance of features; read every row against the floor."
        worth = Section("How far samples are from data", text, tables=frechet_tables(found))
    sections = [
        Section("Reconstruction" if is_autoencoder(found) else "Likelihood", tables=likelihood_tables(found, noun)),
        Section("Samples and reconstructions", tables=_string_columns(run), pictures=pictures(*shown)),
        worth,
        Section(
            "Latents at work",
            f"What a classifier reads from the code, beside what it reads from the {noun} itself.",
            tables=latent_tables(found, noun),
            pictures=[*pictures("map"), *films, *pictures("units")],
        ),
        *_quantum_parts(run, found, pictures),
        Section("Beside its twins", "The same data, budget and seeds.", tables=[] if twins is None else [twins]),
        Section(
            "Training",
            tables=[
                optimizer_table(run.config.training),
                time_table(run.metrics, found, seen["seconds"] if seen.get("epochs") else None),
            ],
            pictures=pictures("losses"),
        ),
        Section("Configuration and environment", listings=listings),
    ]
    return [section for section in sections if section.tables or section.pictures or section.listings]
