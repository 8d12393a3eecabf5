"""A diagnosis in words, in tables for a terminal, and on a page."""

from __future__ import annotations

from collections.abc import Sequence

from qvae.diagnosis.figures import norm_curves, variance_curves
from qvae.diagnosis.layers import DEAD, GROWTH, TALL, Layer
from qvae.diagnosis.outcome import Diagnosis, Trial
from qvae.diagnosis.plateau import Curve, Plateau
from qvae.diagnosis.remedies import TRIED_STARTS, TRIED_STEPS
from qvae.files import atomic_write_text
from qvae.reporting.figures import save_figure
from qvae.reporting.page import Picture, Section, Table, render_page
from qvae.runs.folder import FIGURES, REPORT

_HOW = (
    f"Norms are those of backward, before clipping. Dead: the median over the steps is 0, or below {DEAD:g} of the largest "
    f"norm between the loss and the layer. Exploding: not finite, or {GROWTH:g} times larger at the end than at the start, or "
    f"{TALL:g} times that of the tensors nearest to the loss, which come first."
)


def layer_table(trial: Trial) -> Table:
    """Every layer: its gradient at the first and last step, the median between, and the verdict."""
    rows = [
        (layer.name, *(_norm(value) for value in _ends(layer)), layer.verdict) for layer in trial.layers
    ]
    return Table(("layer", "first", "median", "last", "verdict"), rows, _HOW)


def findings(found: Diagnosis) -> list[str]:
    """What is wrong, a sentence for each thing, or that nothing is."""
    ill = [layer for layer in found.trial.layers if layer.verdict in ("dead", "exploding")]
    sentences = [f"{layer.name} is {layer.verdict}: {layer.why}." for layer in ill]
    if not ill:
        sentences.append("No layer is dead, and none explodes.")
    frozen = [layer.name for layer in found.trial.named("frozen")]
    if frozen:
        sentences.append(f"Without gradients, since they are frozen or moved by losses alone: {', '.join(frozen)}.")
    unreached = [layer.name for layer in found.trial.named("unreached")]
    if unreached:
        sentences.append(f"No gradient came in these steps to {', '.join(unreached)}: another phase moves them, or none.")
    return sentences + ([] if found.plateau is None else [_in_words(curve) for curve in found.plateau.curves])


def remedy_table(found: Diagnosis) -> Table | None:
    """Settings tried against what is wrong with layers; None if all is well."""
    if found.trial.is_well:
        return None
    rows = [("as configured", *_state(found.trial))]
    rows += [(trial.setting, *_state(trial)) for trial in found.others]
    note = (
        "Spread: the smallest norm by the largest, medians over the steps, layers without any left out. Clipping moves weights "
        "otherwise and leaves the norms as they are. A lower training.learning_rate is a remedy, too, for gradients that grow "
        "in training."
    )
    if not found.others:
        note += " Nothing else is tried on a run, whose network is what it is: diagnose its configuration."
    elif not any("residual" in trial.setting for trial in found.others):
        note += " Residual connections weren't tried: they need an mlp with neighbouring hidden layers of one width."
    return Table(("setting", "dead", "exploding", "spread"), rows, note)


def variance_table(plateau: Plateau) -> Table:
    """Variances of both costs at all sizes, with their standard errors."""
    rows = []
    for against in ("qubits", "layers"):
        of_it = [curve for curve in plateau.curves if curve.against == against]
        for place, size in enumerate(of_it[0].sizes if of_it else ()):
            pairs = [curve.variances[place] for curve in of_it]
            told = [f"{pair.variance:.1e} ± {pair.stderr:.0e}" for pair in pairs]
            rows.append((f"{size} {against if size > 1 else against[:-1]}, {of_it[0].fixed}", *told))
    note = (
        f"Variance of a derivative, mean over all weights, {plateau.starts} starts of uniform angles, a normal latent, "
        "by exact amplitudes. Global cost: 1 - |0...0><0...0|; local cost: the same of single qubits, on average."
    )
    return Table(("circuit", "global cost", "local cost"), rows, note)


def start_table(plateau: Plateau) -> Table:
    """Mean squares of derivatives for each start, and how many times those of uniform angles and the global cost they are."""
    base = plateau.remedies[0].squares["global"]
    rows = [
        (remedy.name, *(_times(remedy.squares[cost], base) for cost in ("global", "local"))) for remedy in plateau.remedies
    ]
    note = (
        f"Mean square of a derivative at {plateau.qubits} qubits and {plateau.layers} layers; in brackets, how many times that "
        "of uniform angles and the global cost. A start helps only where its number is larger."
    )
    return Table(("start", "global cost", "local cost"), rows, note)


def trained_table(plateau: Plateau) -> Table:
    """Both costs before and after a short training from each start."""
    rows = [
        (remedy.name, *(f"{before:.3f} to {after:.3f}" for before, after in (remedy.costs["global"], remedy.costs["local"])))
        for remedy in plateau.remedies
    ]
    note = (
        f"Costs before and after {TRIED_STEPS} steps of Adam that prepare |0...0>, means of {TRIED_STARTS} starts by exact "
        "gradients; the least is 0. Where shots measure a gradient, one that is small drowns in their noise."
    )
    return Table(("training from", "global cost", "local cost"), rows, note)


def tables(found: Diagnosis) -> list[Table]:
    """All of them, in their order."""
    some = [layer_table(found.trial), remedy_table(found)]
    if found.plateau is not None:
        some += [variance_table(found.plateau), start_table(found.plateau), trained_table(found.plateau)]
    return [table for table in some if table is not None]


def write_report(found: Diagnosis) -> None:
    """``report.html`` and its pictures in the folder."""
    figures = found.path / FIGURES
    steps = found.trial.steps
    file = save_figure(norm_curves(steps, found.trial.layers), figures / "norms.png")
    caption = "Dark is near the loss, light is near the data; dead layers are dotted, exploding ones dashed."
    remedies = remedy_table(found)
    sections = [
        Section("Findings", " ".join(findings(found))),
        Section(
            "Gradients of layers",
            f"{steps[-1]:,} steps of training, {len(steps)} of them noted.",
            [layer_table(found.trial), *([remedies] if remedies is not None else [])],
            [Picture(file, "Norms of gradients", caption)],
        ),
    ]
    if found.plateau is not None:
        picture = save_figure(variance_curves(found.plateau), figures / "variances.png")
        about = "Points have their standard errors; a line is the law that fits better, exponential or a power."
        in_words = " ".join(map(_in_words, found.plateau.curves))
        measured = [variance_table(found.plateau), start_table(found.plateau), trained_table(found.plateau)]
        sections.append(Section("Gradients of the circuit", in_words, measured, [Picture(picture, "Variances", about)]))
    atomic_write_text(found.path / REPORT, render_page("Gradients", found.source, sections))


def _in_words(curve: Curve) -> str:
    name = f"The circuit's gradients under a {curve.cost} cost"
    if curve.decay is None:
        return f"{name} are known at too few sizes for a law against {curve.against}."
    rate = f"{curve.decay.rate:.2f} ± {curve.decay.stderr:.2f}"
    at = f"at {curve.fixed}, chi² {curve.decay.chi_square:.2g}"
    unit = curve.against[:-1]
    if curve.law == "exponential":
        return f"{name} lose {rate} bits of variance with each {unit} ({at})."
    return f"{name} fall as {curve.against} to the power {-curve.decay.rate:.2f} ± {curve.decay.stderr:.2f} ({at})."


def _state(trial: Trial) -> tuple[str, str, str]:
    norms = [layer.median for layer in trial.layers if layer.median > 0]
    spread = f"{min(norms) / max(norms):.0e}" if norms else "-"
    return str(len(trial.named("dead"))), str(len(trial.named("exploding"))), spread


def _ends(layer: Layer) -> Sequence[float | None]:
    return (layer.norms[0], layer.median, layer.norms[-1]) if layer.norms else (None, None, None)


def _norm(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def _times(value: float, base: float) -> str:
    return f"{value:.1e} (x {value / base:.2g})" if base > 0 else f"{value:.1e}"
