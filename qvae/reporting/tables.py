"""What ``evaluation.json`` says, as tables of text with error bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qvae.circuits.layer import CircuitLayer
from qvae.config.schema import TrainingConfig
from qvae.evaluation.likelihood import DENSITY
from qvae.reporting.page import Table
from qvae.reporting.strings import string_tables

_LIKELIHOODS = {"bernoulli": "Bernoulli", "gaussian": "Gaussian", "poisson": "Poisson"}
_DENSITY = "Densities of real data depend on its units and can't be compared with likelihoods of bits or counts."


def evaluation_tables(found: Mapping[str, Any], noun: str = "image") -> list[Table]:
    """Likelihood, distances, or figures of strings, latents, and what a circuit loses where it is measured.

    Args:
        found: what ``evaluation.json`` holds.
        noun: what a row of the data is: an image, a row of a table, or a string.
    """
    worth = string_tables(found) or frechet_tables(found)
    parts = (likelihood_tables(found, noun), worth, latent_tables(found, noun), executor_tables(found, noun))
    return [table for part in parts for table in part]


def with_error(value: float | None, error: float | None, digits: int = 2) -> str:
    """A value with its error bar, where it has one.

    >>> with_error(-16.37, 0.26), with_error(None, None)
    ('-16.37 ± 0.26', '-')
    """
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of a figure over runs, the latter of two and more; a dash of none.

    >>> mean_and_spread([1.0, 2.0]), mean_and_spread([1.0]), mean_and_spread([])
    ('1.50 ± 0.71', '1.00', '-')
    """
    return with_error(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None) if values else "-"


def likelihood_name(found: Mapping[str, Any]) -> str:
    """Which p(x|z) the numbers are of, in words; runs of 0.1.0 know one alone.

    >>> likelihood_name({}), likelihood_name({"likelihood": "negative-binomial"})
    ('Bernoulli p(x|z)', 'negative binomial p(x|z)')
    """
    name = found.get("likelihood", "bernoulli")
    return f"{_LIKELIHOODS.get(name, name.replace('-', ' '))} p(x|z)"


def data_preparation(found: Mapping[str, Any]) -> str:
    """How data became bits, in words; empty where they are none."""
    return "" if found["binarization"] == "none" else f"{found['binarization']} binarization"


def is_autoencoder(found: Mapping[str, Any]) -> bool:
    """Whether the numbers are of a model without a prior, which has reconstructions and no likelihood."""
    return "reconstruction" in found


def likelihood_tables(found: Mapping[str, Any], noun: str = "image") -> list[Table]:
    """ELBO, log-likelihood and log Z, those of a density per feature, too; of an autoencoder its reconstructions, if any."""
    if is_autoencoder(found) and found["reconstruction"] is None:
        return []
    rows_used = f"{'all ' if found['test_images_are_all'] else 'the first '}{found['num_test']} test {noun}s"
    how = ", ".join(part for part in (rows_used, likelihood_name(found), data_preparation(found)) if part)
    note = f"{how[0].upper()}{how[1:]}; ± is the standard error over {noun}s."
    if is_autoencoder(found):
        value = with_error(found["reconstruction"], found["reconstruction_stderr"])
        rows = [("reconstruction log p(x|z)", value, "at each row's own code: no bound of a likelihood, which needs a prior")]
        return [Table((f"nats per {noun}", "value", "how"), rows, note)]
    is_bound = found.get("log_likelihood_is_bound")
    bound = ", from a lower bound of log p(z): it may lie below the ELBO, which has log p(z) itself" if is_bound else ""
    relaxed = "" if found["log_z_method"] == DENSITY else ", bits never relaxed"
    rows = [
        ("ELBO", with_error(found["elbo"], found["elbo_stderr"]), f"latents drawn from q(z|x){relaxed}"),
        (
            "log-likelihood, at least" if is_bound else "log-likelihood",
            with_error(found["log_likelihood"], found["log_likelihood_stderr"]),
            f"importance weighted, K = {found['importance_samples']}{bound}",
        ),
        ("log Z of the prior", with_error(found["log_z"], found["log_z_stderr"], 3), found["log_z_method"]),
    ]
    if found.get("q_elbo") is not None:
        gap = with_error(found["golden_thompson_gap"], found["golden_thompson_gap_stderr"])
        rows.insert(1, ("Q-ELBO", with_error(found["q_elbo"], None), f"below the ELBO by the Golden-Thompson gap, {gap}"))
    notes = []
    if "elbo_per_feature" in found:
        per_feature = f"{found['elbo_per_feature']:.4f} and {found['log_likelihood_per_feature']:.4f}"
        rows.insert(-1, ("both, per feature", per_feature, f"divided by {found['num_features']} features"))
        notes = [_DENSITY]
    others = " (others can't be compared)" if data_preparation(found) else ""
    notes.insert(0, note.replace(";", f"{others};", 1))
    return [Table((f"nats per {noun}", "value", "how"), rows, " ".join(notes))]


def frechet_tables(found: Mapping[str, Any]) -> list[Table]:
    """Distances on the classifier's features and on Inception's, or why there are none."""
    frechet = found["frechet"]
    tables = []
    if "distances" in frechet:
        tables.append(_classifier_table(frechet))
        tables += [quality_table(frechet["quality"])] if frechet.get("quality") else []
    elif "reason" in frechet:
        tables.append(Table(("no Frechet distance on classifier features",), [(frechet["reason"],)]))
        tables += [_among_codes_table(frechet["among_codes"])] if frechet.get("among_codes") else []
    if "inception" in frechet:
        inception = [(name, f"{row['value']:.2f}", str(row["num_images"])) for name, row in frechet["inception"].items()]
        notes = ["Frechet inception distance on 2,048 features, by torchmetrics.", *_few_images(frechet["inception"])]
        tables.append(Table(("images", "FID", "number"), inception, " ".join(notes)))
    elif "distances" in frechet:
        note = "No FID: give the Inception weights as a file with --set evaluation.inception_weights=PATH."
        tables[0].note = f"{tables[0].note} {note}"
    return tables or [Table(("no Frechet distances",), [("evaluation.num_generated is 0",)])]


def quality_table(quality: Mapping[str, Any]) -> Table:
    """How samples lie among test images, of which classes they are, and how near training images."""
    rows = _ball_rows(quality)
    shares = quality["classes"]
    parts = {label: shares[label] / share for label, share in quality["training_classes"].items() if share}
    for name, extreme in (("rarest class", min), ("most frequent class", max)):
        chosen = extreme(parts, key=parts.__getitem__)
        rows.append((f"{name}, {chosen}: its share", f"{shares[chosen]:.1%}", f"{quality['training_classes'][chosen]:.1%}"))
    distances = f"{quality['nearest']:.2f}", f"{quality['nearest_of_test']:.2f}, of test images"
    rows.append(("to the nearest training image", *distances))
    note = (
        f"On the same features, {_how_balls(quality)}. Distances are of pixels, "
        "medians: samples that are much nearer than test images are copies, or blurred."
    )
    return Table(("samples among test images", "samples", "training images"), rows, note)


def _among_codes_table(found: Mapping[str, Any]) -> Table:
    """How a generator's samples lie among codes of test rows, where no classifier looks at images."""
    note = f"On the latents, each in units of its standard deviation, {_how_balls(found)}."
    return Table(("samples among codes of test rows", "samples", "training rows"), _ball_rows(found), note)


def _ball_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    names = "precision", "recall", "density", "coverage"
    return [(name, *(f"{found[part][name]:.3f}" for part in ("coverage", "floor"))) for name in names]


def _how_balls(found: Mapping[str, Any]) -> str:
    of_samples = found["coverage"]
    return (
        f"by balls that reach the {of_samples['neighbours']}th neighbour in one's own set, "
        f"{of_samples['num_samples']:,} rows each (Kynkaanniemi et al. 2019, Naeem et al. 2020)"
    )


def _classifier_table(frechet: Mapping[str, Any]) -> Table:
    classifier = frechet["classifier"]
    accuracy = f", {100 * classifier['test_accuracy']:.2f} % accurate" if classifier["test_accuracy"] is not None else ""
    rows = [
        (name, with_error(row["value"], row["stderr"]), with_error(row["bias"], None), str(row["num_images"]))
        for name, row in frechet["distances"].items()
    ]
    reference = next(iter(frechet["distances"].values()))["num_reference"]
    note = (
        f"On the features of a small classifier of this data set (weights {classifier['weights']}{accuracy}), against "
        f"{reference} test images. It is no FID and can only be compared under the same classifier; ± is over images, and "
        "of each distance so much is due to the finite sets."
    )
    note = " ".join([note, *_few_images(frechet["distances"])])
    return Table(("images", "Frechet distance", "of it, finite sets", "number"), rows, note)


def _few_images(distances: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence where a set has so few images that its covariance has no full rank."""
    row = next(iter(distances.values()))
    fewest, features = min(row["num_reference"], *(row["num_images"] for row in distances.values())), row.get("num_features")
    if features is None or fewest > features:
        return []
    return [
        f"Of {fewest:,} images the covariance of {features:,} features hasn't full rank: such distances are too large, and can "
        "be compared only among sets of the same sizes."
    ]


def latent_tables(found: Mapping[str, Any], noun: str = "image") -> list[Table]:
    """How many units are used, and how well labels can be read from them; nothing where there are none."""
    latents = found["latents"]
    if latents is None:
        return []
    use = f"{latents['alive']} of {latents['units']} units hold more than {latents['alive_threshold']:g} nats about the {noun}"
    information = latents["information"]
    total = "without noise, so that there is no limit" if information is None else f"together at most {information:.1f} nats"
    if "probes" not in latents:
        return [Table(("latent units", "alive", "information"), [(str(latents["units"]), str(latents["alive"]), total)])]
    rows = [
        (
            row["features"],
            str(row["dimensions"]),
            f"{100 * row['linear']:.1f} %",
            f"{100 * row['mlp']:.1f} %",
            f"± {100 * row['stderr']:.1f}",
        )
        for row in latents["probes"]
    ]
    note = f"Test accuracy after learning from {latents['probe_images']} training {noun}s. {use}, {total}."
    return [Table(("features", "numbers", "linear probe", "MLP probe", "error"), rows, note)]


def optimizer_table(training: TrainingConfig) -> Table:
    """What moved the weights, and where the gradients of a circuit came from, if that was said."""
    rows = [("optimizer", training.optimizer.in_words)]
    if training.circuit_gradient is not None:
        rows.append(("gradients of the circuit", training.circuit_gradient.label))
    return Table(("how it learned", ""), rows)


def time_table(metrics: Sequence[Mapping[str, Any]], found: Mapping[str, Any], film_seconds: float | None = None) -> Table:
    """Where the time of a run went.

    Args:
        metrics: one mapping per epoch.
        found: what ``evaluation.json`` holds.
        film_seconds: spent on the latent film; None where there is none.
    """
    rows: list[tuple[str, str]] = []
    timed = [row for row in metrics if "ms_forward" in row]
    if timed:
        last = timed[-1]
        both, circuit = last["ms_forward"] + last["ms_backward"], last.get("ms_circuit")
        parts = "encoder and decoder" if circuit is None else "encoder, circuit and decoder"
        rows.append((f"a step: {parts}, forward and backward", f"{both:.2f} ms"))
        if circuit is not None and both > 0:
            rows.append(("of these the circuit, timed by itself", f"{circuit:.2f} ms, {100 * circuit / both:.0f} %"))
        if last.get("ms_negative_phase") is not None:
            rows.append(("a step: negative phase", f"{last['ms_negative_phase']:.2f} ms"))
        rows.append(("a step: optimizer and averaging", f"{last['ms_optimizer']:.2f} ms"))
    if metrics:
        last = metrics[-1]
        rows.append(("training", f"{last['seconds']:.1f} s, {last['step']} steps"))
        if last.get("qpu_seconds"):
            rows.append(("QPU access time", f"{last['qpu_seconds']:.2f} s, {last['qpu_seconds_per_call'] * 1e3:.1f} ms a call"))
    if film_seconds is not None:
        rows.append(("latent film, outside the training's clock", f"{film_seconds:.1f} s"))
    rows += [(f"evaluation: {part}", f"{seconds:.1f} s") for part, seconds in found["seconds"].items()]
    return Table(("where the time went", ""), rows, "Parts of a step are medians of every fiftieth step near the end.")


def model_circuit_table(layer: CircuitLayer) -> Table:
    """The circuit that is a part of a model, in figures."""
    circuit = layer.circuit
    rows = [
        ("qubits", str(circuit.num_qubits)),
        ("gates", str(len(circuit.gates))),
        ("of them on two qubits or more", str(sum(len(gate.qubits) > 1 for gate in circuit.gates))),
        ("angles that come from the latents", str(circuit.num_inputs)),
        ("angles that are learned", str(circuit.num_weights)),
        ("expectations", str(len(layer.observables))),
    ]
    return Table(("the circuit of the model", ""), rows, "Numbers above are those of exact amplitudes.")


def executor_tables(found: Mapping[str, Any], noun: str = "image") -> list[Table]:
    """What the circuit loses on each executor that was measured; none where none was."""
    losses = found.get("executors", [])
    if not losses:
        return []
    generates = all(each["reconstruction"] is None for each in losses)
    of_codes = {} if generates else {"reconstruction": "log p(x|z)", "exact": "log p(x|z), exact", "loss": "loss"}
    of_samples = {"samples": "Frechet distance of samples", "exact_samples": "distance, exact"}
    rows = [
        (
            each["executor"],
            *(with_error(each[key], each[f"{key}_stderr"]) for key in of_codes),
            *("-" if each[key] is None else with_error(each[key]["value"], each[key]["stderr"]) for key in of_samples),
            f"{each['num_rows']:,}",
        )
        for each in losses
    ]
    if generates:
        pairs = "Samples beside those of the same noise by exact amplitudes"
    else:
        pairs = (
            f"Of the first test {noun}s at their own codes, in nats, and of as many samples, beside exact amplitudes at the "
            "same latents (measured bits are drawn anew)"
        )
    note = f"{pairs}; ± is over {noun}s. Fewer images make every Frechet distance larger."
    return [Table(("the circuit run by", *of_codes.values(), *of_samples.values(), f"{noun}s"), rows, note)]


def circuit_tables(metrics: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The circuit that the negative phase was measured on, and how good it was at the end; none where there was none."""
    last = next((row for row in reversed(metrics) if "two_qubit_gates" in row), None)
    if last is None:
        return []
    shown = {
        "qubits": ("qubits", "{:.0f}"),
        "depth": ("depth, after transpiling", "{:.0f}"),
        "two_qubit_gates": ("gates on two qubits", "{:.0f}"),
        "fidelity": ("fidelity to the exact Gibbs state, without noise and shots", "{:.4f}"),
        "free_energy_gap": ("free energy above the exact one, a bound of the divergence", "{:.4f} nats"),
        "effective_beta": ("effective inverse temperature of its samples, 1 without noise", "{:.2f}"),
        "effective_beta_stderr": ("standard error of that", "{:.2f}"),
    }
    rows = [(what, form.format(last[key])) for key, (what, form) in shown.items() if last.get(key) is not None]
    return [Table(("the circuit of the negative phase", ""), rows, "Means over the last epoch's calls.")]
