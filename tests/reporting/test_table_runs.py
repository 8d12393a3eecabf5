"""A table from a file through the command line: trained, evaluated and reported as a table, not as a picture."""

import json

import numpy as np
import pytest
import torch

import qvae
from qvae import workflow
from qvae.applications.reconstruct import reconstruct
from qvae.reporting import pictures

SETTINGS = [
    "model.likelihood=gaussian", "model.variance=features", "model.latent.sizes=[3,3]", "model.network.hidden=[16]",
    "training.epochs=20", "training.batch_size=20", "evaluation.importance_samples=5", "evaluation.num_generated=50",
]  # fmt: skip
NAMES = ["height", "weight", "age", "dose"]


@pytest.fixture(scope="module")
def table():
    """Four columns, of which the second follows the first."""
    columns = np.random.default_rng(0).normal(size=(200, 4))
    columns[:, 1] = 3 * columns[:, 0] + 0.2 * columns[:, 1]
    return columns * [1.0, 2.0, 0.1, 1.0] + [170.0, 70.0, 0.0, 5.0]


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    np.savetxt(folder / "people.csv", table, delimiter=",", header=",".join(NAMES), comments="")
    return qvae.train(qvae.load_config("digits", [*SETTINGS, f"data.name={folder / 'people.csv'}"]), folder / "run")


def test_a_table_has_pictures_that_suit_it(finished):
    drawn = {file.stem for file in (finished.path / "figures").iterdir()}
    assert drawn == {"losses", "marginals", "correlations", "energies", "couplings", "units", "map"}
    html = (finished.path / "report.html").read_text()
    for text in ("Gaussian p(x|z)", "nats per row", "Correlations", "per feature"):
        assert text in html
    assert "nats per image" not in html
    assert "test images" not in html.split("Configuration</summary>")[0].replace("against", "")


def test_its_pictures_name_its_columns(finished):
    views = pictures.Views(finished)
    assert [axes.get_title() for axes in pictures._marginals(views).axes][:4] == NAMES
    ticks = [label.get_text() for axes in pictures._correlations(views).axes for label in axes.get_xticklabels()]
    assert ticks[:4] == NAMES


def test_its_evaluation_says_what_it_is_of(finished):
    found = json.loads((finished.path / "evaluation.json").read_text())
    assert found["likelihood"] == "gaussian"
    assert found["num_features"] == 4
    assert found["binarization"] == "none"
    assert found["elbo_per_feature"] == pytest.approx(found["elbo"] / 4)
    assert found["log_likelihood_per_feature"] == pytest.approx(found["log_likelihood"] / 4)
    assert "is a table" in found["frechet"]["reason"]


def test_the_command_line_prints_it(finished, command):
    code, out, err = command("evaluate", finished.path)
    assert (code, err) == (0, "")
    assert "nats per row" in out
    assert "can't be compared with likelihoods of bits" in out
    assert command("generate", finished.path, "--num", 30)[0] == 0
    assert np.load(finished.path / "generated.npz")["images"].shape == (30, 4)
    array, picture = reconstruct(finished, 12).files
    assert np.load(array)["originals"].shape == (12, 4)
    assert picture.exists()


def test_tables_stand_side_by_side(finished, tmp_path):
    page, picture = workflow.compare([finished, qvae.load_run(finished.path)], tmp_path / "both")
    assert page.read_text().count("data:image/png") == 8  # columns, correlations, energies and map of two
    assert picture.exists()


def test_draws_have_the_mean_that_is_decoded(finished):
    bits = torch.randint(0, 2, (1, 6), generator=torch.Generator().manual_seed(1)).float().expand(4000, 6)
    drawn = finished.model.draw(bits, torch.Generator().manual_seed(2))
    means = finished.model.decode_codes(bits, torch.Generator().manual_seed(3))
    assert drawn.shape == (4000, 4)
    error = (drawn.var(0) / 4000).sqrt()
    assert ((drawn.mean(0) - means.mean(0)).abs() < 5 * error).all()
    assert (drawn.std(0) > 2 * means.std(0)).all()


def test_a_table_from_memory_is_generated_from_where_its_data_are_not(table, tmp_path, command):
    settings = ["training.epochs=1", "evaluation.num_generated=0", "evaluation.probes=false", "evaluation.tsne_every=0"]
    run = qvae.train(qvae.load_config("digits", [*SETTINGS, *settings]), tmp_path / "memory", data=table)
    code, out, err = command("generate", run.path, "--num", 30)
    assert (code, err) == (0, "")
    assert "the picture shows no test rows" in " ".join(out.split())
    assert (run.path / "figures" / "generated.png").exists()
