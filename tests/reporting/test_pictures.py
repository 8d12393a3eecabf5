"""What a run's pictures and warnings are of: what is handed to the figures is caught, and found again by hand."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import qvae
from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.config.schema import ModelConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.models.likelihoods.likelihood import Statistics
from qvae.reporting import compare, figures, pictures, report, table_figures
from qvae.reporting.page import Picture
from qvae.reporting.traversals import traversal_paths
from qvae.runs.assemble import make_model


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """One with a prior that is far from uniform."""
    found = qvae.load_run(shutil.copytree(trained, tmp_path_factory.mktemp("pictures") / "small"))
    with torch.no_grad():
        found.model.prior.h.copy_(torch.linspace(-1, 1, 8))
    return found


@pytest.fixture
def drawn(monkeypatch):
    """Arguments of the figure that a function of a run's views draws."""

    def caught(draw, views, name, module=figures):
        given = []
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda *arguments, **options: given.append(arguments))
            draw(views)
        return given[0]

    return caught


@pytest.fixture
def views(run):
    return pictures.Views(run)


def test_curves_are_of_the_run_s_metrics_with_its_elbo(run, views, drawn):
    rows, elbo, noun = drawn(pictures._losses, views, "loss_curves")
    assert rows == [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert (elbo, noun) == (json.loads((run.path / "evaluation.json").read_text())["elbo"], "image")


def test_the_prior_is_drawn_as_it_is(run, views, drawn):
    h, edges, J, layers = drawn(pictures._couplings, views, "couplings")
    assert np.array_equal(h, run.model.prior.h.detach().numpy())
    assert np.array_equal(J, run.model.prior.J.detach().numpy())
    assert (edges.tolist(), layers) == ([[i, j] for i in range(4) for j in range(4, 8)], (4, 4))


def test_energies_are_those_of_the_prior_s_samples_and_of_the_test_rows(run, views, drawn):
    prior, encoded, noun = drawn(pictures._energies, views, "energy_histogram")
    h, J = run.model.prior.h.detach().double(), run.model.prior.J.detach().double().view(4, 4)
    spins = run.prior_spins(len(prior)).double()
    by_hand = spins @ h + ((spins[:, :4] @ J) * spins[:, 4:]).sum(1)
    assert np.allclose(prior, by_hand.numpy(), atol=1e-5)
    bits = run.model.encode(views.test, views.fresh_generator())
    assert np.allclose(encoded, views.hamiltonian.energy(2 * bits - 1).numpy(), atol=1e-5)
    assert (len(encoded), noun) == (40, "image")


def test_the_map_has_the_labels_of_its_rows(run, views, drawn):
    points, labels, title = drawn(pictures._map, views, "code_map")
    assert points.shape == (40, 2)
    assert labels.tolist() == run.dataset.test_labels[:40].tolist()
    assert title == "t-SNE of the codes of 40 test images"


def test_use_of_units_is_their_information(run, views, drawn):
    information, alive = drawn(pictures._units, views, "unit_use")
    p = run.model.code_means(views.test).double().clamp(1e-12, 1 - 1e-12)
    entropies = [-(q * q.log() + (1 - q) * (1 - q).log()) for q in (p.mean(0), p)]
    assert np.allclose(information, (entropies[0] - entropies[1].mean(0)).numpy(), atol=1e-6)
    assert alive == 0.01


def test_reconstructions_are_of_the_first_test_rows(run, views, drawn):
    above, below, _ = drawn(pictures._reconstructions, views, "reconstruction_pairs")
    assert np.array_equal(above, run.dataset.values(run.dataset.test[:40]).numpy())
    generator = torch.Generator().manual_seed(run.config.evaluation.seed)
    assert np.allclose(below, run.model.reconstruct(run.dataset.values(run.dataset.test[:40]), generator).numpy())


def test_samples_are_decoded_samples_of_the_prior(run, views, drawn, monkeypatch):
    monkeypatch.setattr(run.model, "decode_codes", lambda codes, generator: codes.view(-1, 2, 4))
    (images,) = drawn(pictures._samples, views, "image_grid")
    assert np.array_equal(images.reshape(64, 8), (1 + run.prior_spins(64).float().numpy()) / 2)


def test_neighbours_are_the_nearest_training_images(run, views, drawn):
    samples, neighbours, _ = drawn(pictures._neighbours, views, "nearest_neighbours")
    rows = run.dataset.values(run.dataset.train).flatten(1).numpy()
    assert len(samples) == 12
    for sample, found in zip(samples.reshape(12, -1), neighbours.reshape(12, 5, -1), strict=True):
        distances = np.sort(((rows - sample) ** 2).sum(1))[:5]
        assert np.allclose(((found - sample) ** 2).sum(1), distances, rtol=1e-4)


def test_ways_through_the_latents_keep_the_code_that_changes_most():
    """A pixel is the product of the first two latents: each is seen where the other is up, and the third nowhere."""
    codes = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]]).float()
    means = torch.tensor([[-2.0] * 3, [3.0] * 3])
    for are_bits, low, high in ((True, 0.0, 1.0), (False, -2.0, 3.0)):
        model = SimpleNamespace(decode=lambda codes: codes[:, :1] * codes[:, 1:2], latents_are_bits=are_bits)
        paths, names = traversal_paths(model, codes, means)
        ends = {name: (path[0].tolist(), path[-1].tolist()) for path, name in zip(paths[:2], names[:2], strict=True)}
        assert ends == {"unit 0": ([low, 1, 0], [high, 1, 0]), "unit 1": ([1, low, 1], [1, high, 1])}
        assert names[2:] == ["two images"] * 2
        for path, (start, end) in zip(paths[2:], ((0, 1), (2, 3)), strict=True):
            assert torch.allclose(path, torch.lerp(codes[start], codes[end], torch.linspace(0, 1, 11).unsqueeze(1)))


def test_frames_of_the_film_say_their_epoch_and_loss(run, views, monkeypatch):
    given = []
    monkeypatch.setattr(figures, "latent_film", lambda *arguments: given.extend(arguments) or [])
    monkeypatch.setattr(figures, "gif", lambda frames: b"")
    pictures._film_bytes({"epochs": [1, 4], "losses": ["surrogate 3.0", ""], "maps": torch.zeros(2, 5, 2)}, views)
    maps, titles, labels = given
    assert (len(maps), titles) == (2, ["epoch 1, surrogate 3.0 nats", "epoch 4,  nats"])
    assert labels.tolist() == run.dataset.test_labels[:5].tolist()


def test_a_table_s_columns_are_data_reconstructions_and_samples(drawn):
    rows = np.random.default_rng(0).normal(size=(60, 3))
    dataset = dataset_from_arrays(rows, rows[:20] + 5, kind="reals", feature_names=["a", "b", "c"])
    keys = {"likelihood": "gaussian", "latent": {"sizes": [2, 2]}, "network": {"hidden": [8]}}
    config = qvae.Config.model_validate({"model": keys})
    model = make_model(ModelConfig.model_validate(keys), Statistics.of(dataset)).eval()
    codes = torch.zeros(50, 4)
    run = SimpleNamespace(
        model=model, dataset=dataset, config=config, device=torch.device("cpu"), prior_codes=lambda count, or_fewer: codes
    )
    views = pictures.Views(run)
    for draw, name in ((pictures._marginals, "marginals"), (pictures._correlations, "correlations")):
        sets, names, *_ = drawn(draw, views, name, table_figures)
        assert names == ("a", "b", "c")
        assert {label: len(values) for label, values in sets.items()} == {"data": 20, "reconstructions": 20, "samples": 50}
        assert np.allclose(sets["data"], rows[:20] + 5)
    model.draw = lambda codes, generator: codes[:, :3] + 0
    assert not pictures.Views(run).tables["samples"].any()


# The report -----------------------------------------------------------------------------------------------------------


def test_each_section_has_its_pictures_and_each_picture_its_words(run):
    found = report.evaluated(run)
    files = {name: Path(f"{name}.png") for name in pictures.drawings(run)} | {"latent_film": Path("latent_film.gif")}
    sections = {section.heading: section.pictures for section in report._sections(run, found, files)}
    assert {heading: [picture.file.stem for picture in shown] for heading, shown in sections.items() if shown} == {
        "Samples and reconstructions": ["samples", "traversals", "reconstructions", "neighbours"],
        "Latents at work": ["map", "latent_film", "units"],
        "Prior and negative phase": ["circuit", "energies", "couplings"],
        "Training": ["losses"],
    }
    assert next(iter(sections)) == "Likelihood"
    for shown in sections.values():
        for picture in shown:
            assert isinstance(picture, Picture)
            if picture.file.stem != "latent_film":
                drawing = pictures.drawings(run)[picture.file.stem]
                assert (picture.title, picture.caption) == (drawing.title, drawing.caption)


def test_whatever_looked_wrong_is_in_the_report_and_on_the_screen(small_run, command):
    state = load_checkpoint(small_run / "checkpoint.safetensors")
    state["monitor"]["warnings"] = ["mixing: chains: stuck", "budget: no more money"]
    save_checkpoint(small_run / "checkpoint.safetensors", state)
    found = json.loads((small_run / "evaluation.json").read_text())
    (small_run / "evaluation.json").write_text(json.dumps(found | {"log_z_details": {"warning": "log Z is a guess"}}))
    qvae.load_run(small_run).prior_spins(5)
    spins = load_checkpoint(small_run / "prior_samples.safetensors")
    save_checkpoint(small_run / "prior_samples.safetensors", spins | {"warning": "reads were few"})
    run = qvae.load_run(small_run)
    assert report._warnings(run, report.evaluated(run)) == [
        "chains: stuck", "no more money", "log Z is a guess", "of the samples: reads were few.",
    ]  # fmt: skip
    page = report.write_report(run, {}).read_text()
    assert all(text in page for text in ("no more money", "log Z is a guess", "reads were few"))
    (small_run / "prior_samples.safetensors").unlink()
    without = qvae.load_run(small_run, ["generation.sampler={name: exact, options: {seed: -1}}"])
    assert "no samples were drawn, so there are no pictures" in report._warnings(without, report.evaluated(without))[-1]


def test_the_time_of_the_film_is_in_the_report(small_run):
    run = qvae.load_run(small_run)
    run.training_state["observer"] = {"epochs": [1], "seconds": 3.25}
    (training,) = [section for section in report._sections(run, report.evaluated(run), {}) if section.heading == "Training"]
    rows = {row[0]: row[1] for table in training.tables for row in table.rows}
    assert rows["latent film, outside the training's clock"] == "3.2 s"
    assert rows["training"].endswith("15 steps")


def test_pictures_side_by_side_are_those_of_the_run_they_name(small_run, tmp_path, monkeypatch):
    other = shutil.copytree(small_run, tmp_path / "other")
    (other / "figures" / "energies.png").unlink()
    shown = []
    monkeypatch.setattr(compare, "render_page", lambda title, subtitle, sections: shown.extend(sections) or "")
    monkeypatch.setattr(compare, "side_by_side", lambda columns, names: shown.append(dict(zip(names, columns, strict=True))))
    monkeypatch.setattr(compare, "save_figure", lambda figure, file, dpi: file)
    compare.write_comparison([qvae.load_run(small_run), qvae.load_run(other)], tmp_path / "both")
    pictures = next(section.pictures for section in shown[:-1] if section.heading == "Pictures")
    assert [(picture.file.parents[1].name, picture.file.stem) for picture in pictures] == [
        ("small", "samples"), ("other", "samples"), ("small", "reconstructions"), ("other", "reconstructions"),
        ("small", "energies"),
    ]  # fmt: skip
    assert all(picture.title.endswith(f": {picture.file.parents[1].name}") for picture in pictures)
    assert {name: list(column) for name, column in shown[-1].items()} == {
        "small": ["samples", "reconstructions", "energies"],
        "other": ["samples", "reconstructions"],
    }
