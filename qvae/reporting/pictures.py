"""The pictures of a run: what is drawn, what it means, and the files that it goes to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from qvae.circuits.layer import CircuitLayer
from qvae.config.schema import EvaluationConfig
from qvae.errors import QvaeError, SamplerError, in_a_line
from qvae.evaluation.latents import ALIVE, unit_information
from qvae.evaluation.rows import code_moments, evaluation_rows
from qvae.evaluation.tsne import tsne_map
from qvae.files import atomic_write_bytes
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.models.prior import BoltzmannPrior, boltzmann_prior
from qvae.reporting import figures, table_figures
from qvae.reporting.circuit_figure import circuit_figure
from qvae.reporting.game_figure import game_curves
from qvae.reporting.run_rows import (
    as_grey,
    columns_figure,
    is_of_images,
    is_of_strings,
    reconstructions_figure,
    row_noun,
    samples_figure,
    test_values,
    texts,
)
from qvae.reporting.sampler_circuit import DRAWN_GATES, sampler_circuit_figure
from qvae.reporting.strings import strings_figure
from qvae.reporting.traversals import traversal_paths
from qvae.runs.assemble import PICTURED
from qvae.runs.folder import FIGURES, FILM
from qvae.runs.run import Run

_GRID = 64  # images in a grid of the report
_MAP_ROWS = 3000
_NEIGHBOURS_AMONG = 60_000  # training rows in which the nearest are looked for
_MODEL_GATES = 300  # of a model's circuit that are drawn, the first ones: more fill a page
_DRAWN = "Test rows beside draws of p(x|z), at their own codes and at samples of the prior"


@dataclass
class Drawing:
    """A picture of a run.

    Attributes:
        title: above it in the report.
        caption: what it means.
        draw: makes it from what is to be seen of a run; None where there is nothing of the kind.
    """

    title: str
    caption: str
    draw: Callable[[Views], Figure | None]


def drawings(run: Run) -> dict[str, Drawing]:
    """The pictures that suit the data and the model of a run, by the names of their files."""
    model, hidden = run.model, set()
    if not isinstance(model.prior, BoltzmannPrior):
        hidden |= {"circuit", "energies", "couplings"}
    if model.prior is None:
        hidden |= {"samples", "neighbours", "units"}
    if not model.compresses:
        hidden |= {"reconstructions", "traversals", "units", "map"}
    if model_circuit(run) is None:
        hidden |= {"model_circuit"}
    chosen = _OF_IMAGES if is_of_images(run) else _OF_STRINGS if is_of_strings(run) else _OF_TABLES
    return {name: drawing for name, drawing in chosen.items() if name not in hidden}


def model_circuit(run: Run) -> CircuitLayer | None:
    """The circuit that is a part of a run's model, if one is."""
    return run.model.circuit


def draw_pictures(
    run: Run,
    progress: Callable[[float], None] = lambda share: None,
    warn: Callable[[str], None] = lambda text: None,
) -> dict[str, Path]:
    """Every picture as a PNG file in ``figures/``, and the film of the latents where the training has taken one.

    Args:
        run: that is shown.
        progress: called with the part that is done.
        warn: told which pictures can't be drawn, and why.

    Returns:
        the files by the names of the pictures; those that can't be drawn are missing, as those of samples are where the
        sampler failed.
    """
    views, wanted = Views(run), drawings(run)
    files = {}
    for place, (name, drawing) in enumerate(wanted.items()):
        progress(place / len(wanted))
        file = run.path / FIGURES / f"{name}.png"
        file.unlink(missing_ok=True)  # one of before
        with _spared(f"the picture {name!r}", warn):
            figure = _drawn(name, drawing, views)
            if figure is not None:
                files[name] = figures.save_figure(figure, file)
    film = run.path / FILM
    film.unlink(missing_ok=True)
    with _spared("the film", warn):
        seen = run.training_state.get("observer", {})
        if seen.get("epochs"):
            atomic_write_bytes(film, _film_bytes(seen, views))
            files[film.stem] = film
    return files


def picture_files(folder: Path) -> dict[str, Path]:
    """The pictures and the film that a run folder holds, by their names."""
    return {path.stem: path for path in (*(folder / FIGURES).glob("*.png"), folder / FILM) if path.is_file()}


@contextmanager
def _spared(what: str, warn: Callable[[str], None]) -> Iterator[None]:
    """What fails in the block costs itself and a warning; errors that a user can mend are told as ever."""
    try:
        yield
    except QvaeError:
        raise
    except Exception as error:
        warn(f"{what} can't be drawn ({in_a_line(error)})")


def _drawn(name: str, drawing: Drawing, views: Views) -> Figure | None:
    if name == "map" and not (views.settings.tsne_every and len(views.moments[0]) > 2):
        return None
    try:
        return drawing.draw(views)
    except SamplerError:  # which the report tells in words
        return None


def _film_bytes(seen: Mapping[str, Any], views: Views) -> bytes:
    titles = [f"epoch {epoch}, {loss} nats" for epoch, loss in zip(seen["epochs"], seen["losses"], strict=True)]
    maps = list(seen["maps"].numpy())
    return figures.gif(figures.latent_film(maps, titles, views.labels(len(maps[0]))))


@dataclass
class Views:
    """What several pictures of a run show, found once: samples of its prior and codes of its test rows."""

    run: Run

    @cached_property
    def hamiltonian(self) -> IsingHamiltonian:
        """The prior's."""
        return boltzmann_prior(self.run.model).frozen()

    @cached_property
    def settings(self) -> EvaluationConfig:
        """How many rows are looked at, and the seed."""
        return self.run.config.evaluation

    @cached_property
    def generator(self) -> torch.Generator:
        """Of codes and of smoothing."""
        return self.fresh_generator()

    def fresh_generator(self) -> torch.Generator:
        """One that begins at the evaluation's seed."""
        return torch.Generator(self.run.device).manual_seed(self.settings.seed)

    @cached_property
    def test(self) -> Tensor:
        """Test rows as the networks see them, (N, D)."""
        return evaluation_rows(self.run.dataset, self.settings)

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances of q(z|x) of the test rows."""
        return code_moments(self.run.model, self.test[: max(_MAP_ROWS, PICTURED)], self.settings.seed)

    @cached_property
    def codes(self) -> Tensor:
        """Samples of the prior, as the decoder takes them, (N, n)."""
        return self.run.prior_codes(PICTURED, or_fewer=True)

    @cached_property
    def tables(self) -> dict[str, np.ndarray]:
        """Test rows, and draws of p(x|z) at their codes and at samples of the prior, of shape (N, D) each."""
        model, generator = self.run.model, self.fresh_generator()
        rows = self.test[:PICTURED].to(self.run.device)
        both = {"reconstructions": model.encode(rows, generator), "samples": self.codes}
        drawn = {label: model.draw(codes, generator).flatten(1).cpu().numpy() for label, codes in both.items()}
        return {"data": test_values(self.run, len(rows)), **drawn}

    def string_rows(self, count: int) -> dict[str, np.ndarray]:
        """Test strings, their reconstructions and, of a model with a prior, draws of it, (count, L) each."""
        found = dict(zip(("test string", "reconstruction"), self.reconstructed(count), strict=True))
        with contextlib.suppress(SamplerError):
            if self.run.model.prior is not None:
                found["sample"] = self.run.model.draw(self.codes[:count], self.fresh_generator()).cpu().numpy()
        fewest = min(map(len, found.values()))
        return {name: rows[:fewest] for name, rows in found.items()}

    def samples(self, count: int) -> np.ndarray:
        """Samples of the prior, decoded, (count, *shape)."""
        return self.run.model.decode_codes(self.codes[:count], self.generator).cpu().numpy()

    def reconstructed(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Test rows and their reconstructions, both (count, *shape)."""
        rows = self.test[:count].to(self.run.device)
        found = self.run.model.reconstruct(rows, self.fresh_generator())
        return rows.unflatten(1, self.run.model.shape).cpu().numpy(), found.cpu().numpy()

    def labels(self, count: int) -> np.ndarray | None:
        """Classes of the test rows."""
        labels = self.run.dataset.test_labels
        return None if labels is None else labels[:count].numpy()


# Of any data ----------------------------------------------------------------------------------------------------------


def _losses(views: Views) -> Figure:
    if any("gap" in row for row in views.run.metrics):
        return game_curves(views.run.metrics)
    return figures.loss_curves(views.run.metrics, (views.run.evaluation or {}).get("elbo"), row_noun(views.run))


def _couplings(views: Views) -> Figure:
    hamiltonian = views.hamiltonian
    h, J = hamiltonian.h.cpu().numpy(), hamiltonian.J.cpu().numpy()
    return figures.couplings(h, hamiltonian.edges.cpu().numpy(), J, hamiltonian.graph.bipartite_sizes)


def _energies(views: Views) -> Figure:
    bits = views.run.model.encode(views.test[:PICTURED].to(views.run.device), views.generator)
    prior, encoded = (views.hamiltonian.energy(spins).cpu().numpy() for spins in (2 * views.codes - 1, 2 * bits - 1))
    return figures.energy_histogram(prior, encoded, row_noun(views.run))


def _circuit(views: Views) -> Figure | None:
    return sampler_circuit_figure(views.run, views.hamiltonian)


def _model_circuit(views: Views) -> Figure:
    layer = model_circuit(views.run)
    assert layer is not None
    return circuit_figure(layer.circuit, _MODEL_GATES)


def _units(views: Views) -> Figure:
    model = views.run.model
    return figures.unit_use(unit_information(model, *views.moments), ALIVE, are_bits=model.latents_are_bits)


def _map(views: Views) -> Figure:
    points = tsne_map(views.moments[0][:_MAP_ROWS], seed=views.settings.seed)
    title = f"t-SNE of the codes of {len(points)} test {row_noun(views.run)}s"
    return figures.code_map(points, views.labels(len(points)), title)


# Of images ------------------------------------------------------------------------------------------------------------


def _reconstructions(views: Views) -> Figure:
    return reconstructions_figure(views.run, *views.reconstructed(_GRID))


def _samples(views: Views) -> Figure:
    return samples_figure(views.run, views.samples(_GRID))


def _neighbours(views: Views) -> Figure:
    from sklearn.neighbors import NearestNeighbors

    dataset = views.run.dataset
    images = dataset.values(dataset.train[:_NEIGHBOURS_AMONG]).numpy()
    samples = views.samples(12)
    search = NearestNeighbors(n_neighbors=min(5, len(images)), algorithm="brute").fit(images.reshape(len(images), -1))
    nearest = search.kneighbors(samples.reshape(len(samples), -1), return_distance=False)
    left, right = (as_grey(views.run, part) for part in (samples, images[nearest]))
    return figures.nearest_neighbours(left, right, "samples, and right of each its nearest training images")


def _traversals(views: Views) -> Figure:
    model = views.run.model
    codes = model.encode(views.test[:8].to(views.run.device), views.generator)
    paths, names = traversal_paths(model, codes, torch.from_numpy(views.moments[0]))
    images = model.decode(paths.flatten(0, 1)).unflatten(0, paths.shape[:2]).cpu().numpy()
    return figures.traversals(as_grey(views.run, images), names, "through the latent space")


# Of tables ------------------------------------------------------------------------------------------------------------


def _marginals(views: Views) -> Figure:
    return columns_figure(views.run, views.tables, "distribution of each column")


def _correlations(views: Views) -> Figure:
    return table_figures.correlations(views.tables, views.run.dataset.feature_names, "correlations of the columns")


# Of strings -----------------------------------------------------------------------------------------------------------


def _strings(views: Views) -> Figure:
    return strings_figure({name: texts(views.run, rows) for name, rows in views.tables.items()})


_LOSSES = Drawing(
    "Training",
    "The loss is what training lowers; a surrogate is no likelihood. A sampler's effective inverse temperature should be 1 "
    "within its error bars, and its chains should forget where they were.",
    _losses,
)
_OF_ANY_DATA = {
    "energies": Drawing(
        "Energies",
        "Where the two don't overlap, the prior puts its mass elsewhere than the encoder: the negative phase went wrong, or "
        "the training isn't done.",
        _energies,
    ),
    "circuit": Drawing(
        "The circuit of the negative phase",
        f"Before it is transpiled for its backend; w0, w1, ... are the angles that follow the prior. Of a circuit with more "
        f"gates the first {DRAWN_GATES} are drawn.",
        _circuit,
    ),
    "model_circuit": Drawing(
        "The circuit of the model",
        f"x0, x1, ... are the angles that come from the latents, w0, w1, ... are learned. Of a circuit with more gates the "
        f"first {_MODEL_GATES} are drawn.",
        _model_circuit,
    ),
    "couplings": Drawing("The prior", "Couplings and fields of the Boltzmann machine, in the sign of dimod.", _couplings),
    "units": Drawing(
        "Use of the latent units",
        "A unit at 0 is switched off; a bit holds log 2 at most, a real number has no such limit.",
        _units,
    ),
    "map": Drawing(
        "Latent space",
        "t-SNE keeps neighbours together; distances between far groups and their sizes mean nothing.",
        _map,
    ),
}
_OF_IMAGES = {
    "losses": _LOSSES,
    "reconstructions": Drawing("Reconstructions", "What gets through the latents.", _reconstructions),
    "samples": Drawing(
        "Samples",
        "Drawn from the prior by the sampler, smoothed as in training, and decoded: the mean of p(x|z), which for bits is "
        "the probability of a pixel.",
        _samples,
    ),
    "neighbours": Drawing(
        "Samples beside their nearest training images",
        "By Euclidean distance of the pixels: copies of training images would show here.",
        _neighbours,
    ),
    "traversals": Drawing(
        "Traversals",
        "Upper rows: one unit goes from end to end (a bit from 0 to 1), the others stay as in the one of eight test images "
        "that it changes most; units that change nothing to be seen are left out. Lower rows: straight from the code of one "
        "test image to that of another.",
        _traversals,
    ),
    **_OF_ANY_DATA,
}
_OF_TABLES = {
    "losses": _LOSSES,
    "marginals": Drawing("Columns", f"{_DRAWN}: with a good model all three have the same histograms.", _marginals),
    "correlations": Drawing("Correlations", f"{_DRAWN}: how much each two columns go together.", _correlations),
    **_OF_ANY_DATA,
}
_OF_STRINGS = {
    "losses": _LOSSES,
    "strings": Drawing("Lengths and characters", f"{_DRAWN}: with a good model all three are alike.", _strings),
    **_OF_ANY_DATA,
}
