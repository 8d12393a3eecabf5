"""The report of a run: its pictures, one HTML file with everything, and several runs side by side."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from qvae.checkpoint import load_checkpoint
from qvae.config.load import dump_config
from qvae.config.schema import Config, EvaluationConfig
from qvae.errors import RunError, SamplerError
from qvae.evaluation.evaluate import (
    EVALUATION,
    code_means,
    reconstruct,
    reconstruction_figure,
    samples_figure,
    save_figure,
    test_images,
)
from qvae.evaluation.latents import ALIVE, unit_information
from qvae.evaluation.tsne import tsne_map
from qvae.files import atomic_write_bytes, atomic_write_text
from qvae.reporting.page import Picture, Section, Table, render_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qvae.runs.run import Run

REPORT, FILM = "report.html", "latent_film.gif"
_SHOWN = 64  # images in a grid
_MAP_IMAGES = 3000
PICTURED = 2000  # samples in the histogram of energies


# Pictures -------------------------------------------------------------------------------------------------------------


@dataclass
class _Views:
    """What several pictures of a run show: samples of its prior and codes of its test images."""

    run: Run

    @cached_property
    def hamiltonian(self) -> Any:
        return self.run.model.prior.hamiltonian().detach()

    @cached_property
    def settings(self) -> EvaluationConfig:
        return self.run.config.evaluation

    @cached_property
    def generator(self) -> torch.Generator:
        return torch.Generator(self.run.device).manual_seed(self.settings.seed)

    @cached_property
    def test(self) -> Tensor:
        return test_images(self.run.dataset, self.settings)

    @cached_property
    def means(self) -> np.ndarray:
        """q(z=1|x) of the test images."""
        return code_means(self.run, self.test[: max(_MAP_IMAGES, PICTURED)], self.settings.seed)

    @cached_property
    def spins(self) -> Tensor:
        """Samples of the prior, (N, n)."""
        return self.run.prior_spins(PICTURED, or_fewer=True).to(self.hamiltonian.h)

    def decoded(self, bits: Tensor) -> np.ndarray:
        return self.run.model.decode_bits(bits, self.generator).cpu().numpy()

    def samples(self, count: int) -> np.ndarray:
        return self.decoded((1 + self.spins[:count]) / 2)

    def labels(self, count: int) -> np.ndarray | None:
        labels = self.run.dataset.test_labels
        return None if labels is None else labels[:count].numpy()

    # Figures ----------------------------------------------------------------------------------------------------------

    def losses(self) -> Figure:
        from qvae.reporting.figures import loss_curves

        return loss_curves(self.run.metrics, (self.run.evaluation or {}).get("elbo"))

    def reconstructions(self) -> Figure:
        return reconstruction_figure(*reconstruct(self.run, min(_SHOWN, len(self.test))))

    def samples_grid(self) -> Figure:
        return samples_figure(self.samples(_SHOWN), self.run)

    def neighbours(self) -> Figure:
        from sklearn.neighbors import NearestNeighbors

        from qvae.reporting.figures import nearest_neighbours

        images = self.run.dataset.grey(self.run.dataset.train).numpy()
        samples = self.samples(12)
        search = NearestNeighbors(n_neighbors=min(5, len(images)), algorithm="brute").fit(images.reshape(len(images), -1))
        nearest = search.kneighbors(samples.reshape(len(samples), -1), return_distance=False)
        return nearest_neighbours(samples, images[nearest], "samples, and right of each its nearest training images")

    def traversals(self) -> Figure:
        from qvae.reporting.figures import traversals

        codes = self.run.model.encode(self.test[:8].to(self.run.device), self.generator)
        steps = torch.linspace(0, 1, 11, device=codes.device).unsqueeze(1)
        first = codes[0]
        flipped = torch.where(torch.eye(len(first), device=first.device) > 0, 1 - first, first)
        change = (self.run.model.decode(flipped) - self.run.model.decode(first[None])).abs().flatten(1).sum(1)
        units = change.topk(min(4, len(change))).indices
        # One unit from 0 to 1, then all those that differ between two images.
        paths = [torch.lerp(first.index_fill(0, unit, 0.0), first.index_fill(0, unit, 1.0), steps) for unit in units]
        paths += [torch.lerp(start, end, steps) for start, end in zip(codes[::2], codes[1::2], strict=False)]
        names = [f"unit {unit}" for unit in units.tolist()] + ["two images"] * (len(paths) - len(units))
        images = self.run.model.decode(torch.cat(paths)).unflatten(0, (len(paths), len(steps))).cpu().numpy()
        return traversals(images, names, "through the latent space")

    def couplings(self) -> Figure:
        from qvae.reporting.figures import couplings

        h, J = self.hamiltonian.h.cpu().numpy(), self.hamiltonian.J.cpu().numpy()
        return couplings(h, self.hamiltonian.edges.cpu().numpy(), J, self.hamiltonian.graph.bipartite_sizes)

    def energies(self) -> Figure:
        from qvae.reporting.figures import energy_histogram

        bits = self.run.model.encode(self.test[:PICTURED].to(self.run.device), self.generator)
        energy = self.hamiltonian.energy
        return energy_histogram(energy(self.spins).cpu().numpy(), energy(2 * bits - 1).cpu().numpy())

    def units(self) -> Figure:
        from qvae.reporting.figures import unit_use

        return unit_use(unit_information(self.means), ALIVE)

    def map(self) -> Figure:
        from qvae.reporting.figures import code_map

        points = tsne_map(self.means[:_MAP_IMAGES], seed=self.settings.seed)
        return code_map(points, self.labels(len(points)), f"t-SNE of the codes of {len(points)} test images")


_PICTURES: Mapping[str, tuple[str, str, Callable[[_Views], Figure]]] = {
    "losses": (
        "Training",
        "The surrogate is what training lowers; it is no likelihood. The sampler's effective inverse temperature should be 1 "
        "within its error bars, and its chains should forget where they were.",
        _Views.losses,
    ),
    "reconstructions": ("Reconstructions", "What gets through the latent bits.", _Views.reconstructions),
    "samples": (
        "Samples",
        "Drawn from the prior by the sampler, smoothed as in training, and decoded: pixel probabilities.",
        _Views.samples_grid,
    ),
    "neighbours": (
        "Samples beside their nearest training images",
        "By Euclidean distance of the pixels: copies of training images would show here.",
        _Views.neighbours,
    ),
    "traversals": (
        "Traversals",
        "Upper rows: one unit goes from 0 to 1, the others stay as in the first test image; the units whose flip changes it "
        "most. Lower rows: straight from the code of one test image to that of another.",
        _Views.traversals,
    ),
    "energies": (
        "Energies",
        "Where the two don't overlap, the prior puts its mass elsewhere than the encoder: the negative phase went wrong, or "
        "the training isn't done.",
        _Views.energies,
    ),
    "couplings": ("The prior", "Couplings and fields of the Boltzmann machine, in the sign of dimod.", _Views.couplings),
    "units": ("Use of the latent units", "A unit at 0 is switched off; one at log 2 is a full bit.", _Views.units),
    "map": (
        "Latent space",
        "t-SNE keeps neighbours together; distances between far groups and their sizes mean nothing.",
        _Views.map,
    ),
}


def draw_pictures(run: Run, state: Mapping[str, Any]) -> list[Path]:
    """Every picture as a PNG file in ``figures/``, and the film of the latents where the training's state has one."""
    views = _Views(run)
    files = []
    for name, (_, _, draw) in _PICTURES.items():
        file = run.path / "figures" / f"{name}.png"
        if name == "map" and not (run.config.evaluation.tsne_every and len(views.means) > 2):
            file.unlink(missing_ok=True)  # one of before
            continue
        try:
            figure = draw(views)
        except SamplerError:  # which the report tells in words
            file.unlink(missing_ok=True)
            continue
        files.append(save_figure(figure, file))
    seen = state.get("observer", {})
    (run.path / FILM).unlink(missing_ok=True)
    if seen.get("epochs"):
        atomic_write_bytes(run.path / FILM, _film_bytes(seen, views))
        files.append(run.path / FILM)
    return files


def _film_bytes(seen: Mapping[str, Any], views: _Views) -> bytes:
    from qvae.reporting.figures import gif, latent_film

    titles = [f"epoch {epoch}, {loss} nats" for epoch, loss in zip(seen["epochs"], seen["losses"], strict=True)]
    maps = list(seen["maps"].numpy())
    return gif(latent_film(maps, titles, views.labels(len(maps[0]))))


def _checkpoint_state(run: Run) -> dict[str, Any]:
    """The state of the training at its end; empty where the run was shared without it."""
    from qvae.runs.run import CHECKPOINT

    file = run.path / CHECKPOINT
    return load_checkpoint(file) if file.exists() else {}


# Report ---------------------------------------------------------------------------------------------------------------


def write_report(run: Run) -> Path:
    """``report.html`` from the run's numbers and freshly drawn pictures.

    Raises:
        RunError: the run was never evaluated.
    """
    found = _evaluated(run)
    started = time.perf_counter()
    state = _checkpoint_state(run)
    files = {file.stem: file for file in draw_pictures(run, state)}
    found["seconds"]["pictures"] = round(time.perf_counter() - started, 2)
    atomic_write_text(run.path / EVALUATION, json.dumps(found, indent=2) + "\n")
    warnings = [warning.partition(": ")[2] for warning in state.get("monitor", {}).get("warnings", [])]
    warnings += [text for text in (found["log_z_details"].get("warning"),) if text]
    if run.samples_warning is not None:
        warnings.append(f"of the samples: {run.samples_warning}.")
    if "samples" not in files:
        warnings.append(_why_no_samples(run))
    html = render_page(
        f"qvae run: {run.path.resolve().name}",
        _subtitle(run.config, run.metrics),
        _sections(run, found, files, state),
        warnings,
    )
    atomic_write_text(run.path / REPORT, html)
    return run.path / REPORT


def _why_no_samples(run: Run) -> str:
    try:
        run.prior_spins(1, or_fewer=True)
    except SamplerError as error:
        return f"no samples were drawn, so there are no pictures and distances of them: {error}"
    return ""


def _evaluated(run: Run) -> dict[str, Any]:
    found = run.evaluation
    if found is None:
        raise RunError(f"{run.path} was not evaluated yet; run `qvae evaluate {run.path}` first.")
    if not {"frechet", "latents"} <= set(found):
        raise RunError(f"{run.path} was evaluated by an older qvae; run `qvae evaluate {run.path}` again.")
    return found


def _subtitle(config: Config, metrics: Sequence[Mapping[str, Any]]) -> str:
    latent = config.model.latent
    graph = f"{latent.graph} {'x'.join(map(str, latent.sizes))}"
    if latent.graph == "edges" and not latent.edges:
        graph = f"{latent.num_spins} independent bits"
    trained = f", {metrics[-1]['epoch']} epochs in {metrics[-1]['seconds']:.0f} s" if metrics else ""
    return f"{Path(config.data.name).stem}, prior {graph}, sampler {config.sampler.name}{trained}"


def _sections(run: Run, found: Mapping[str, Any], files: Mapping[str, Path], state: Mapping[str, Any]) -> list[Section]:
    def pictures(*names: str) -> list[Picture]:
        return [Picture(files[name], *_PICTURES[name][:2]) for name in names if name in files]

    films = [
        Picture(
            files[Path(FILM).stem],
            "The latent space while it was trained",
            "Each map starts from the last one; axes and colours stay. The loss is the surrogate, not a likelihood.",
        )
        for _ in files
        if Path(FILM).stem in files
    ][:1]
    environment = run.path / "environment.json"
    listings = {"Configuration": dump_config(run.config)}
    if environment.exists():
        listings["Environment"] = environment.read_text(encoding="utf-8")
    return [
        Section("Likelihood", tables=[_likelihood_table(found)]),
        Section("Samples and reconstructions", pictures=pictures("samples", "traversals", "reconstructions", "neighbours")),
        Section(
            "How far samples are from data",
            "The Frechet distance compares the mean and covariance of features; read every row against the floor.",
            tables=_frechet_tables(found),
        ),
        Section(
            "Latents at work",
            "What a classifier reads from the code, beside what it reads from the image itself.",
            tables=_latent_tables(found),
            pictures=[*pictures("map"), *films, *pictures("units")],
        ),
        Section("Prior and negative phase", pictures=pictures("energies", "couplings")),
        Section("Training", tables=[_time_table(run, found, state)], pictures=pictures("losses")),
        Section("Configuration and environment", listings=listings),
    ]


def evaluation_tables(found: Mapping[str, Any]) -> list[Table]:
    """What ``evaluation.json`` says, as text with error bars."""
    return [_likelihood_table(found), *_frechet_tables(found), *_latent_tables(found)]


def _likelihood_table(found: Mapping[str, Any]) -> Table:
    bound = "; log p(z) by its lower bound, so too low" if found.get("log_likelihood_is_bound") else ""
    rows = [
        ("ELBO", _with_error(found["elbo"], found["elbo_stderr"]), "discrete latents"),
        (
            "log-likelihood",
            _with_error(found["log_likelihood"], found["log_likelihood_stderr"]),
            f"importance weighted, K = {found['importance_samples']}{bound}",
        ),
        ("log Z of the prior", _with_error(found["log_z"], found["log_z_stderr"], 3), found["log_z_method"]),
    ]
    if found.get("q_elbo") is not None:
        gap = _with_error(found["golden_thompson_gap"], found["golden_thompson_gap_stderr"])
        rows.insert(1, ("Q-ELBO", _with_error(found["q_elbo"], None), f"below the ELBO by the Golden-Thompson gap, {gap}"))
    images = f"{'all ' if found['test_images_are_all'] else 'the first '}{found['num_test']} test images"
    note = f"{images}, {found['binarization']} binarization (others can't be compared); ± is the standard error over images."
    return Table(("nats per image", "value", "how"), rows, note)


def _with_error(value: float | None, error: float | None, digits: int = 2) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def _frechet_tables(found: Mapping[str, Any]) -> list[Table]:
    frechet = found["frechet"]
    tables = []
    if "distances" in frechet:
        classifier = frechet["classifier"]
        accuracy = f", {100 * classifier['test_accuracy']:.2f} % accurate" if classifier["test_accuracy"] is not None else ""
        rows = [
            (name, _with_error(row["value"], row["stderr"]), _with_error(row["bias"], None), str(row["num_images"]))
            for name, row in frechet["distances"].items()
        ]
        reference = next(iter(frechet["distances"].values()))["num_reference"]
        note = (
            f"On the features of a small classifier of this data set (weights {classifier['weights']}{accuracy}), against "
            f"{reference} test images. It is no FID and can only be compared under the same classifier; ± is over images, and "
            "of each distance so much is due to the finite sets."
        )
        tables.append(Table(("images", "Frechet distance", "of it, finite sets", "number"), rows, note))
    elif "reason" in frechet:
        tables.append(Table(("no Frechet distance on classifier features",), [(frechet["reason"],)]))
    if "inception" in frechet:
        inception = [(name, f"{row['value']:.2f}", str(row["num_images"])) for name, row in frechet["inception"].items()]
        note = "Frechet inception distance on 2,048 features, by torchmetrics."
        tables.append(Table(("images", "FID", "number"), inception, note))
    elif frechet:
        note = "No FID: give the Inception weights as a file with --set evaluation.inception_weights=PATH."
        tables[-1].note = f"{tables[-1].note} {note}".strip()
    return tables or [Table(("no Frechet distances",), [("evaluation.num_generated is 0",)])]


def _latent_tables(found: Mapping[str, Any]) -> list[Table]:
    latents = found["latents"]
    use = f"{latents['alive']} of {latents['units']} units hold more than {latents['alive_threshold']:g} nats about the image"
    total = f"together at most {latents['information']:.1f} nats"
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
    note = f"Test accuracy after learning from {latents['probe_images']} training images. {use}, {total}."
    return [Table(("features", "numbers", "linear probe", "MLP probe", "error"), rows, note)]


def _time_table(run: Run, found: Mapping[str, Any], state: Mapping[str, Any]) -> Table:
    rows: list[tuple[str, str]] = []
    timed = [row for row in run.metrics if "ms_forward" in row]
    if timed:
        last = timed[-1]
        rows += [
            ("a step: encoder and decoder, forward and backward", f"{last['ms_forward'] + last['ms_backward']:.2f} ms"),
            ("a step: negative phase", f"{last['ms_negative_phase']:.2f} ms"),
            ("a step: optimizer and averaging", f"{last['ms_optimizer']:.2f} ms"),
        ]
    if run.metrics:
        rows.append(("training", f"{run.metrics[-1]['seconds']:.1f} s, {run.metrics[-1]['step']} steps"))
    if run.metrics and run.metrics[-1].get("qpu_seconds"):
        last = run.metrics[-1]
        rows.append(("QPU access time", f"{last['qpu_seconds']:.2f} s, {last['qpu_seconds_per_call'] * 1e3:.1f} ms a call"))
    if state.get("observer", {}).get("epochs"):
        rows.append(("latent film, outside the training's clock", f"{state['observer']['seconds']:.1f} s"))
    rows += [(f"evaluation: {part}", f"{seconds:.1f} s") for part, seconds in found["seconds"].items()]
    return Table(("where the time went", ""), rows, "Parts of a step are medians of every fiftieth step near the end.")


# Side by side ---------------------------------------------------------------------------------------------------------


def compare(runs: Sequence[Run], out: str | Path) -> tuple[Path, Path]:
    """Runs side by side: the same numbers and pictures, in an HTML file ``out`` and a PNG of the same name.

    Raises:
        RunError: fewer than two runs, or one that was never evaluated.
    """
    from qvae.reporting.figures import side_by_side

    if len(runs) < 2:
        raise RunError("a comparison needs two runs or more: qvae compare RUN RUN ...")
    names = _names(runs)
    for run in runs:
        if not (run.path / REPORT).exists():
            write_report(run)
    shown = {key: title for key, (title, _, _) in _PICTURES.items() if key in _COMPARED}
    pictures = [
        Picture(file, f"{title}: {name}")
        for key, title in shown.items()
        for run, name in zip(runs, names, strict=True)
        if (file := run.path / "figures" / f"{key}.png").exists()
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
        {key: _read_picture(file) for key in shown if (file := run.path / "figures" / f"{key}.png").exists()} for run in runs
    ]
    picture = html.with_suffix(".png")
    buffer = io.BytesIO()
    side_by_side(columns, names).savefig(buffer, format="png", dpi=110)
    atomic_write_bytes(picture, buffer.getvalue())
    return html, picture


_COMPARED = ("samples", "reconstructions", "energies", "map")


def comparison_table(runs: Sequence[Run]) -> Table:
    """One row for each figure of merit that any run has, with its error bar.

    Raises:
        RunError: a run was never evaluated.
    """
    columns = [_figures_of_merit(run, _evaluated(run)) for run in runs]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    return Table(("", *_names(runs)), [(key, *(column.get(key, "-") for column in columns)) for key in keys])


def _figures_of_merit(run: Run, found: Mapping[str, Any]) -> dict[str, str]:
    rows = {
        "run": _subtitle(run.config, run.metrics),
        "log-likelihood, nats": _with_error(found["log_likelihood"], found["log_likelihood_stderr"])
        + (" (of the bound of log p(z))" if found.get("log_likelihood_is_bound") else ""),
        "ELBO, nats": _with_error(found["elbo"], found["elbo_stderr"]),
        **({"Q-ELBO, nats": _with_error(found["q_elbo"], None)} if found.get("q_elbo") is not None else {}),
        "test images, binarization": f"{found['num_test']}, {found['binarization']}",
    }
    rows |= _frechet_merits(found)
    latents = found["latents"]
    for row in latents.get("probes", []):
        accuracy = f"{100 * row['linear']:.1f} % / {100 * row['mlp']:.1f} %"
        rows[f"linear / MLP probe on {row['features']}"] = f"{accuracy} ± {100 * row['stderr']:.1f}"
    return rows | {"latent units alive": f"{latents['alive']} of {latents['units']}"}


def _frechet_merits(found: Mapping[str, Any]) -> dict[str, str]:
    frechet = found["frechet"]
    classifier = frechet.get("classifier", {}).get("weights", "")
    rows = {
        f"Frechet distance ({classifier}): {name}": _with_error(row["value"], row["stderr"])
        for name, row in frechet.get("distances", {}).items()
    }
    return rows | {f"FID: {name}": f"{row['value']:.2f}" for name, row in frechet.get("inception", {}).items()}


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


def _read_picture(file: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))
