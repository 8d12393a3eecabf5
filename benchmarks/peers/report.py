"""The tables of a run as markdown, with date, machine and versions, and their place between two marks in a file."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
_BUDGETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def environment(threads: int) -> Row:
    """Date, processor, cores and threads."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    cores = len(names) if info.exists() and names else torch.get_num_threads()
    return {"date": date.today().isoformat(), "cpu": cpu, "cores": cores, "threads": threads}


def markdown(results: Row) -> str:
    """Everything that was measured, as it stands in the README."""
    where = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    parts = [
        f"Measured on {where['date']}: {where['cores']} cores of {where['cpu']}, {where['threads']} thread(s); {versions}. "
        "Times are CPU time. A ratio is the peer's time over ours in the call before it: median (range). Errors are roots of "
        "the mean square over spins and over edges, beside that of perfect samples.",
    ]
    parts += [f"{name} is missing: {reason}." for name, reason in results["missing"].items()]
    for part in results["parts"].values():
        parts += [_comparison(table) for table in part.get("tables", [])]
        if "reached" in part:
            parts.append(_sweeps(part["curves"][0], part))
        else:
            parts += [_budgets(found) for found in part.get("curves", [])]
        if "network" in part:
            parts.append(_training(part))
    return "\n\n".join(parts)


def write_between_markers(path: Path, name: str, text: str) -> None:
    """Replace what stands in a file between the two marks of this name.

    Raises:
        SystemExit: the marks aren't there, once each and in order.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "README.md"
    ...     _ = file.write_text("# A\\n<!-- peers -->\\nold\\n<!-- /peers -->\\nend")
    ...     write_between_markers(file, "peers", "new")
    ...     file.read_text().split()
    ['#', 'A', '<!--', 'peers', '-->', 'new', '<!--', '/peers', '-->', 'end']
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, start, rest = path.read_text().partition(first)
    _, end, after = rest.partition(last)
    if not start or not end or first in rest:
        raise SystemExit(f"{path} has no place for the tables; put a line {first} and after it a line {last} there.")
    path.write_text(f"{before}{first}\n\n{text}\n\n{last}{after}")


# Tables ---------------------------------------------------------------------------------------------------------------


def _comparison(table: Row) -> str:
    head = f"**{table['problem']}**, {table['samples']:,} chains, {table['sweeps']} sweeps."
    rows = [[row["label"], *_cells(row, _ms(row), _ratio(row), *_errors(row))] for row in table["rows"]]
    return with_table(f"{head} {_reference(table)}", ["sampler", "CPU, ms", "ratio", "means", "correlations"], rows)


def _sweeps(found: Row, part: Row) -> str:
    head = f"**{found['problem']}**, {found['samples']:,} chains, error (CPU ms) after so many sweeps; last, the time to "
    head += f"come within 10 % of perfect samples' error. {_reference(found)}"
    numbers = sorted({point["sweeps"] for points in found["points"].values() for point in points})
    base = next((part["reached"][label] for label, ours in found["ours"].items() if ours), None)
    rows = []
    for label, points in found["points"].items():
        by_sweeps = {point["sweeps"]: f"{point['error']['moments']:.4f} ({_ms(point)})" for point in points}
        reached = part["reached"][label]
        last = "never" if reached is None else f"{_ms(reached)} ms, {reached['sweeps']} sweeps"
        if reached and base and reached is not base:
            last += f", ratio {reached['cpu'] / base['cpu']:.1f}"
        rows.append([label, *(by_sweeps.get(number, "-") for number in numbers), last])
    return with_table(head, ["sampler", *(str(number) for number in numbers), "equal error"], _with_faults(rows, found))


def _budgets(found: Row) -> str:
    head = f"**{found['problem']}**, {found['samples']:,} chains, least error within so much CPU time. {_reference(found)}"
    best: dict[str, list[Any]] = {
        label: [min((p["error"]["moments"] for p in points if p["cpu"] <= budget), default=None) for budget in _BUDGETS]
        for label, points in found["points"].items()
    }
    within = [[errors[k] for errors in best.values() if errors[k] is not None] for k in range(len(_BUDGETS))]
    least = [min(errors, default=None) for errors in within]
    rows = []
    for label, errors in best.items():
        cells = ["-" if e is None else f"**{e:.4f}**" if e == low else f"{e:.4f}" for e, low in zip(errors, least, strict=True)]
        rows.append([label, *cells])
    return with_table(head, ["sampler", *(f"{budget:g} s" for budget in _BUDGETS)], _with_faults(rows, found))


def _training(part: Row) -> str:
    head = f"**A training step**: {part['network']}, batch {part['batch']}, {part['chains']} chains, {part['sweeps']} sweeps, "
    head += "random binary images."
    rows = [
        [row["label"], *_cells(row, _ms(row), f"{row.get('images_per_second', 0):,.0f}", _ratio(row))] for row in part["rows"]
    ]
    return with_table(head, ["step", "CPU, ms", "images/s", "ratio"], rows)


def _reference(table: Row) -> str:
    error = f"; its standard error {table['reference_error']:.4f}" if table["reference_error"] else ""
    return f"Perfect samples: {table['floor']:.4f}. Reference: {table['reference']}{error}."


def _with_faults(rows: list[list[str]], found: Row) -> list[list[str]]:
    return [[row[0], found["faults"][row[0]], *[""] * (len(row) - 2)] if row[0] in found["faults"] else row for row in rows]


def _cells(row: Row, *cells: str) -> list[str]:
    return list(cells) if "cpu" in row else [row["fault"], *[""] * (len(cells) - 1)]


def _errors(row: Row) -> tuple[str, str]:
    return (f"{row['error']['means']:.4f}", f"{row['error']['pairs']:.4f}") if "error" in row else ("", "")


def _ms(row: Row) -> str:
    if "cpu" not in row:
        return ""
    return f"{1e3 * row['cpu']:.3g}" if row["cpu"] < 1 else f"{1e3 * row['cpu']:,.0f}"


def _ratio(row: Row) -> str:
    if "ratio" not in row:
        return ""
    middle, least, most = row["ratio"]
    return "1" if least == most == 1 else f"{times(middle)} ({times(least)} to {times(most)})"


def times(ratio: float) -> str:
    """A ratio with two digits."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def with_table(text: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A paragraph and a table of markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join([text, "", *lines])
