"""Strings in a report: tables of what generated ones are worth, strings themselves, and a picture of lengths and characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qvae.reporting.page import Table

_CHARACTERS = 40  # the most frequent ones, in a picture


def string_tables(found: Mapping[str, Any]) -> list[Table]:
    """Nats a symbol beside an n-gram model's, reconstructions, and generated strings in figures; none of other data."""
    if found.get("strings") is None:
        return []
    strings = found["strings"]
    return [_symbol_table(found, strings), *([_set_table(strings)] if strings["sets"] else [])]


def _symbol_table(found: Mapping[str, Any], strings: Mapping[str, Any]) -> Table:
    model = found.get("log_likelihood", found.get("reconstruction"))
    rows = [
        (name, f"{value:.2f}" + ("" if error is None else f" ± {error:.2f}"), f"{value / strings['symbols']:.3f}")
        for name, value, error in (
            ("this model" if "log_likelihood" in found else "this model, reconstruction alone", model, _error(found)),
            (f"n-gram model, order {strings['ngram_order']}", strings["ngram"], strings["ngram_stderr"]),
        )
    ]
    note = (
        f"Log-likelihoods of test strings, of {strings['symbols']:.1f} symbols in the mean, the end included. The n-gram model "
        "counts in the training strings; its order is the best on a tenth of them. Of the test strings "
        f"{strings['reconstructed']:.1%} come back as they were; a reconstruction is {strings['edits']:.2f} edits away."
    )
    return Table(("nats", "a string", "a symbol"), rows, note)


def _error(found: Mapping[str, Any]) -> float | None:
    return found.get("log_likelihood_stderr", found.get("reconstruction_stderr"))


def _set_table(strings: Mapping[str, Any]) -> Table:
    rows = [
        (
            name,
            "-" if found["valid"] is None else f"{found['valid']:.1%}",
            f"{found['different']:.1%}",
            f"{found['new']:.1%}",
            f"{found['diversity']:.3f}",
            f"{found['length']:.1f}",
            f"{found['number']:,}",
        )
        for name, found in strings["sets"].items()
    ]
    check = "no check was given: evaluation.check" if strings["check"] is None else f"those that match {strings['check']}"
    note = (
        f"Valid: {check}. Different: each counted once. New: of these, not among the training strings. Diversity: mean edit "
        "distance of two, in units of the longer one's length. The more are drawn, the fewer are different."
    )
    if strings["samples_reason"]:
        note += f" There are no samples of the model: {strings['samples_reason']}."
    return Table(("strings", "valid", "different", "new", "diversity", "length", "number"), rows, note)


def shown_strings(title: str, columns: Mapping[str, Sequence[str]]) -> Table:
    """Strings side by side, those of one row belonging together, each row under its number."""
    rows = [(str(number), *row) for number, row in enumerate(zip(*columns.values(), strict=True), 1)]
    return Table((title, *columns), rows)


def strings_figure(sets: Mapping[str, Sequence[str]]) -> Figure:
    """How long strings are, and how often they have each of the first set's characters, for sets of strings by their names."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    lengths, characters = figure.subplots(1, 2, width_ratios=(1, 2))
    longest = max(len(string) for strings in sets.values() for string in strings)
    counts = {name: Counter("".join(strings)) for name, strings in sets.items()}
    first = next(iter(counts.values()))
    shown = sorted(character for character, _ in first.most_common(_CHARACTERS))
    for number, (name, strings) in enumerate(sets.items()):
        bins = (np.arange(longest + 2) - 0.5).tolist()
        lengths.hist(list(map(len, strings)), bins, density=True, histtype="step", linewidth=1.4, label=name)
        total, width = max(1, counts[name].total()), 0.8 / len(sets)
        places = np.arange(len(shown)) + width * (number - (len(sets) - 1) / 2)
        characters.bar(places, [counts[name][character] / total for character in shown], width, label=name)
    lengths.set_xlabel("characters of a string")
    characters.set_xticks(range(len(shown)), ["␣" if character == " " else character for character in shown])
    some = "" if len(first) == len(shown) else f" (the {len(shown)} most frequent)"
    characters.set_title(f"part of all characters{some}", fontsize=9)
    for axes in (lengths, characters):
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(*lengths.get_legend_handles_labels(), loc="outside lower center", ncols=len(sets), frameon=False)
    return figure
