"""Results of the races as a table with verdicts, and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from racing import Result

NEAR = 1.25
"""Times Adam's loss at the end: so near is near enough for a count of what it took."""
UNITS = {"vanishing": "evaluations", "exploding": "evaluations", "plateau": "circuits"}
TITLES = {
    "vanishing": "sigmoid perceptron, six layers deep: gradients vanish",
    "exploding": "recurrent network: gradients explode",
    "plateau": "circuit classifier, 8 qubits, string on all: barren plateau",
}


def verdict(result: Result, adam: Result) -> str:
    """Against Adam on the same seeds: better or worse in four of five, or level."""
    better = sum(ours < 0.98 * theirs for ours, theirs in zip(result.ends, adam.ends, strict=True))
    worse = sum(ours > 1.02 * theirs for ours, theirs in zip(result.ends, adam.ends, strict=True))
    seeds = len(adam.ends)
    if result is adam:
        return "-"
    if better >= seeds - 1:
        return f"better, {better}/{seeds}"
    return f"worse, {worse}/{seeds}" if worse >= seeds - 1 else f"level, {better} better, {worse} worse"


def table(task: str, results: Sequence[Result]) -> str:
    """One row a method, as Markdown."""
    adam, unit = results[0], UNITS[task]
    goal = NEAR * median(adam.ends)
    lines = [
        f"| {TITLES[task]} | rate | loss at the end | steps | {unit} a step | {unit} to {goal:.2g} | CPU s to it | than Adam |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        middle, ends = result.middle(), result.ends
        reached = result.cost_to(goal)
        cells = [
            result.name,
            f"{result.rate:.2g}" if result.rate else "-",
            f"{median(ends):.3g} ({min(ends):.2g} to {max(ends):.2g})",
            f"{middle.steps[-1]}",
            f"{middle.costs[-1] / middle.steps[-1]:,.0f}",
            *((f"{reached[0]:,.0f}", f"{reached[1]:.2f}") if reached else ("never", "never")),
            verdict(result, adam),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [f"\n{result.name}: {text}." for result in results for text in result.middle().told]
    return "\n".join(lines) + "\n"


def figure(results: dict[str, list[Result]], path: Path) -> None:
    """Median losses over the seeds against steps, cost and time; a row of panels for each task."""
    picture = Figure(figsize=(13, 3.7 * len(results)), layout="constrained")
    rows = picture.subfigures(len(results), 1, squeeze=False)[:, 0]
    for row, (task, found) in zip(rows, results.items(), strict=True):
        row.suptitle(TITLES[task], fontsize=11)
        panels = row.subplots(1, 3, sharey=True)
        for axes, (key, label) in zip(panels, (("steps", "steps"), ("costs", UNITS[task]), ("seconds", "CPU s")), strict=True):
            for number, result in enumerate(found):
                middle = result.middle()
                style = ("-", "--", ":")[number // 10]
                first = 0 if key == "steps" else 1  # a logarithmic axis has no place for the start
                axes.plot(getattr(middle, key)[first:], middle.losses[first:], style, color=colormaps["tab10"](number % 10),
                          label=result.name, linewidth=1.3, marker="." if len(middle.steps) < 12 else None)  # fmt: skip
            axes.set(xlabel=label, yscale="log" if task != "plateau" else "linear")
            if task != "plateau":
                axes.set_ylim(top=2.0)  # starts above it are no matter
            if key != "steps":
                axes.set_xscale("log")
                axes.xaxis.set_minor_formatter(NullFormatter())
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("loss, median of five seeds")
        handles, labels = panels[0].get_legend_handles_labels()
        row.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=110)
