"""The runs of a sweep in tables and on a page: what each combination of settings came to, over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qvae.config.grid import Trial, short_keys
from qvae.config.load import dump_value
from qvae.files import atomic_write_text
from qvae.progress import clock
from qvae.reporting.page import Picture, Section, Table, render_page
from qvae.reporting.tables import mean_and_spread, with_error
from qvae.runs.folder import FIGURES, REPORT

_MOST_PICTURES = 12


@dataclass
class SweptRun:
    """A run of a sweep, and what became of it.

    Attributes:
        trial: its settings.
        status: waiting for a worker, or the end.
        reason: why it failed, as a sentence.
        figures: its figures of merit by name.
        seconds: of training.
    """

    trial: Trial
    status: Literal["waiting", "finished", "failed"] = "waiting"
    reason: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """What ``sweep.json`` says of it."""
        trial = {"name": self.trial.name, "settings": dict(self.trial.settings), "seed": self.trial.seed}
        return trial | {"status": self.status, "reason": self.reason, "figures": self.figures, "seconds": self.seconds}


def settings_table(runs: Sequence[SweptRun]) -> Table:
    """A row for each combination of settings: mean and standard deviation of each figure over the seeds."""
    keys = list(runs[0].trial.settings) if runs else []
    short = short_keys(keys)
    figures = _figures(runs)
    groups: dict[str, list[SweptRun]] = {}
    for run in runs:
        groups.setdefault(str(run.trial.settings), []).append(run)
    rows = []
    for group in groups.values():
        done = [run for run in group if run.status == "finished"]
        settings = [dump_value(group[0].trial.settings[key]) for key in keys]
        counted = str(len(done)) if len(done) == len(group) else f"{len(done)} of {len(group)}"
        means = [mean_and_spread([run.figures[name] for run in done if name in run.figures]) for name in figures]
        rows.append((*settings, *means, counted))
    note = "± is the standard deviation over seeds, for one run." if any(len(group) > 1 for group in groups.values()) else ""
    return Table((*(short[key] for key in keys), *figures, "seeds"), rows, note)


def failures_table(runs: Sequence[SweptRun]) -> Table:
    """Runs that failed, with the reason."""
    rows = [(run.trial.name, run.reason) for run in runs if run.status == "failed"]
    return Table(("failed", "why"), rows, "The same command tries them again.")


def write_sweep_report(runs: Sequence[SweptRun], folder: Path) -> Path:
    """The page ``report.html`` of a sweep's folder: all tables, and what the first seed's models generate."""
    figures = _figures(runs)
    done = [run for run in runs if run.status == "finished"]
    each = [
        (run.trial.name, *(_figure(run, name) for name in figures), "-" if run.seconds is None else clock(run.seconds))
        for run in done
    ]
    sections = [Section("Settings", tables=[settings_table(runs)])]
    if any(run.status == "failed" for run in runs):
        sections.append(Section("Failures", tables=[failures_table(runs)]))
    sections.append(Section("Runs", tables=[Table(("run", *figures, "training"), each)]))
    first = [run.trial for run in done if run.trial.seed == runs[0].trial.seed]
    files = {trial.name: folder / trial.name / FIGURES / "samples.png" for trial in first}
    pictures = [Picture(file, name) for name, file in files.items() if file.exists()][:_MOST_PICTURES]
    if pictures:
        sections.append(Section("Samples", pictures=pictures, columns=min(3, len(pictures))))
    subtitle = f"{len(done)} of {len(runs)} runs"
    atomic_write_text(folder / REPORT, render_page("qvae: a sweep", subtitle, sections))
    return folder / REPORT


def _figures(runs: Sequence[SweptRun]) -> list[str]:
    """Names of all figures that any run has."""
    return list(dict.fromkeys(name for run in runs for name in run.figures))


def _figure(run: SweptRun, name: str) -> str:
    return with_error(run.figures[name], None) if name in run.figures else "-"
