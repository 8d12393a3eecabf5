"""A recommendation in words: its table, the sentences, and the command to train with."""

from __future__ import annotations

import json

from qvae.measuring.candidates import MOST_CHAINS, Candidate
from qvae.measuring.recommend import Recommendation
from qvae.reporting.page import Table


def recommendation_table(found: Recommendation) -> Table:
    """The candidates: cost of a step, and the error of its gradient in units of what is allowed."""
    rows = [
        (
            candidate.spec.label,
            str(candidate.chains),
            f"{candidate.milliseconds:.3g}",
            _share(candidate.noise),
            "-" if candidate.bias is None else _share(candidate.bias),
            "yes" if candidate.reaches else "no",
            str(candidate.repeats),
        )
        for candidate in found.candidates
        if candidate.repeats
    ]
    note = (
        f"Measured on {found.prior}; milliseconds are those of the processor, all threads added up (on CUDA the wall's). "
        f"Allowed: {found.allowed}. Noise and bias squared are in units of that variance and must not exceed 1 together; what "
        f"was repeated once has its bias in its noise. Truth: {found.truth}."
    )
    reasons: dict[str, list[str]] = {}
    for candidate in found.candidates:
        if candidate.why:
            reasons.setdefault(candidate.why, []).append(candidate.spec.label)
    note += "".join(f" Not measured: {', '.join(labels)} ({why})." for why, labels in reasons.items())
    return Table(("sampler", "chains", "ms a step", "noise", "bias²", "enough", "repeats"), rows, note)


def recommendation_text(found: Recommendation) -> list[str]:
    """Which and why, in sentences, and as the last one the command."""
    best = found.best
    if best is None:
        measured = [c for c in found.candidates if c.repeats]
        if not measured:
            return ["Nothing could be measured in the time; give more --seconds."]
        nearest = min(measured, key=lambda candidate: candidate.total)
        sentence = (
            f"No sampler reaches the accuracy with up to {MOST_CHAINS} times the chains. The nearest is {nearest.spec.label}, "
            f"with {nearest.total:.1f} times the allowed variance: train with it and a lower training.prior_learning_rate, or "
            "on a smaller prior."
        )
        return [sentence, _command(found, nearest)]
    text = (
        f"{best.spec.label} with {best.chains} samples is the cheapest that is accurate enough: {best.milliseconds:.3g} ms a "
        f"step, at {best.total:.2f} of the allowed variance."
    )
    sentences = [text]
    configured = next((c for c in found.candidates if c.spec == found.configured), best)
    if configured.spec is best.spec:
        sentences.append("It is the configured one.")
    elif configured.reaches:
        label, milliseconds = configured.spec.label, configured.milliseconds
        sentences.append(f"The configured {label} is accurate enough, too, at {milliseconds:.3g} ms.")
    elif configured.repeats:
        sentences.append(f"The configured {configured.spec.label} makes {configured.total:.1f} times the allowed variance.")
    others: dict[str, Candidate] = {}
    for candidate in found.candidates:  # the cheapest first
        if candidate.reaches and candidate.spec.name != best.spec.name:
            others.setdefault(candidate.spec.name, candidate)
    if others:
        costs = [f"{c.spec.label} at {c.milliseconds:.3g} ms" for c in others.values()]
        sentences.append(f"The best of the other backends that reach it: {', '.join(costs)}.")
    return [" ".join(sentences), _command(found, best)]


def _command(found: Recommendation, candidate: Candidate) -> str:
    replaced = ("sampler.", "training.chains=")
    kept = [f"--set {text}" for text in found.overrides if not text.startswith(replaced)]
    settings = [f"--set sampler.options.{key}={json.dumps(value)}" for key, value in candidate.spec.options.items()]
    return " ".join(
        [
            f"qvae train {found.config} --sampler {candidate.spec.name}",
            *kept,
            *settings,
            f"--set training.chains={candidate.chains}",
        ]
    )


def _share(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
