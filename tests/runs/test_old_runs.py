"""A run folder of version 0.1.0 opens, is evaluated to the same numbers, generates, is reported and goes on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import qvae
from qvae import workflow
from qvae.applications.generate import generate
from qvae.applications.reconstruct import reconstruct
from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.config.latent import LatentConfig
from qvae.runs.old_checkpoints import upgraded

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """As the numbers of before were made, and with the kernels that there were."""
    monkeypatch.setenv("QVAE_KERNELS", "torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def old(tmp_path):
    return shutil.copytree(DATA / "run-0.1.0", tmp_path / "old")


def leaves(found, above=""):
    """Every number of nested results by its dotted key; what a new version adds and what depends on the clock left out."""
    if isinstance(found, dict):
        parts = found.items()
    elif isinstance(found, list):
        parts = enumerate(found)
    else:
        yield above, found
        return
    for key, value in parts:
        if (above, key) != ("", "seconds"):
            yield from leaves(value, f"{above}.{key}".lstrip("."))


def agrees(found, expected, tolerance):
    found = dict(leaves(found))
    for key, value in leaves(expected):
        if isinstance(value, float):
            assert found[key] == pytest.approx(value, rel=tolerance, abs=1e-9), key
        else:
            assert found[key] == value, key


def test_it_is_evaluated_to_the_numbers_of_then(old, whole_reports):
    expected = json.loads((old / "evaluation.json").read_text())
    (old / "evaluation.json").unlink()
    workflow.evaluate(qvae.load_run(old))
    found = json.loads((old / "evaluation.json").read_text())
    agrees(found, expected, 1e-4)
    assert found["likelihood"] == "bernoulli"
    assert found["num_features"] == 64


def test_its_evaluation_is_reported_and_compared_as_it_stands(old, tmp_path):
    run = qvae.load_run(old)
    html = workflow.report(run).read_text()
    assert "Bernoulli p(x|z)" in html
    assert f"{run.evaluation['log_likelihood']:.2f}" in html
    again = shutil.copytree(old, tmp_path / "again")
    page, _ = workflow.compare([run, qvae.load_run(again)], tmp_path / "both.html")
    assert "Bernoulli p(x|z), threshold binarization" in page.read_text()


def test_it_generates_and_reconstructs(old):
    run = qvae.load_run(old)
    assert np.load(generate(run, 5).files[0])["images"].shape == (5, 8, 8)
    assert np.load(reconstruct(run, 6).files[0])["reconstructions"].shape == (6, 8, 8)


def test_its_samples_are_used_again(old, monkeypatch):
    run = qvae.load_run(old)
    monkeypatch.setattr(type(run), "sampler", lambda self, name=None: pytest.fail("samples were there already"))
    assert run.prior_spins(60).shape == (60, 11)


def test_it_goes_on_to_where_it_would_have_ended(old, whole_reports):
    expected = json.loads((DATA / "resumed-by-0.1.0.json").read_text())
    resumed = workflow.resume(old, ["training.epochs=5"])
    assert [row["epoch"] for row in resumed.metrics] == [1, 2, 3, 4, 5]
    agrees(resumed.evaluation, expected, 1e-3)


def test_couplings_are_put_in_order_with_their_edges(tmp_path):
    """0.1.0 kept them, their averages and Adam's memory of them as the configuration named the edges, in no order."""
    old = shutil.copytree(DATA / "edges-0.1.0", tmp_path / "old")
    expected = json.loads((old / "evaluation.json").read_text())
    workflow.evaluate(qvae.load_run(old))
    agrees(json.loads((old / "evaluation.json").read_text()), expected, 1e-4)
    expected = json.loads((DATA / "edges-resumed-by-0.1.0.json").read_text())
    resumed = workflow.resume(old, ["training.epochs=12"])
    agrees(resumed.evaluation, expected, 1e-5)
    again = workflow.resume(old, ["training.epochs=13"])  # of today's order, once and no more
    assert torch.allclose(again.model.prior.J, resumed.model.prior.J, atol=0.05)


def test_flat_rows_which_were_images_of_height_one_are_a_table_now(tmp_path):
    rows = np.random.default_rng(0).random((60, 10)) < 0.4
    settings = [
        "training.epochs=2", "training.batch_size=16", "model.latent.sizes=[3,3]", "model.network.hidden=[8]",
        "evaluation.num_generated=20", "evaluation.tsne_every=0",
    ]  # fmt: skip
    folder = qvae.train(qvae.load_config("digits", settings), tmp_path / "run", data=rows).path
    for name in ("checkpoint.safetensors", "model.safetensors"):
        save_checkpoint(folder / name, load_checkpoint(folder / name) | {"image_shape": [1, 10]})
    run = qvae.load_run(folder, data=rows)
    before = run.evaluation
    workflow.evaluate(run)
    assert run.evaluation["elbo"] == before["elbo"]
    workflow.report(run)
    assert {"marginals.png", "correlations.png"} <= {file.name for file in (folder / "figures").iterdir()}
    assert generate(run, 5).files[1].exists()
    assert reconstruct(run, 5).files[1].exists()
    assert workflow.resume(folder, ["training.epochs=3"], data=rows).metrics[-1]["epoch"] == 3


EDGES = [[2, 0], [3, 0], [1, 2], [3, 1], [0, 1]]  # in no order


def as_before(found, order, size):
    """Nested state with every tensor of ``size`` numbers put in another order."""
    if isinstance(found, dict):
        return {key: as_before(value, order, size) for key, value in found.items()}
    if isinstance(found, list):
        return [as_before(value, order, size) for value in found]
    return found[order] if isinstance(found, torch.Tensor) and found.shape == (size,) else found


def test_couplings_are_those_of_the_configuration_s_edges_in_their_order(tmp_path):
    """0.1.0 kept edges, and all that belongs to them, in the order that they were given in."""
    settings = [
        "training.epochs=2", "model.latent.graph=edges", "model.latent.sizes=[4]", f"model.latent.edges={EDGES}",
        "model.network.hidden=[8]", "evaluation.num_generated=0", "evaluation.tsne_every=0", "evaluation.probes=false",
    ]  # fmt: skip
    new = qvae.train(qvae.load_config("digits", settings), tmp_path / "new")
    old = shutil.copytree(new.path, tmp_path / "old")
    ascending = sorted(range(5), key=lambda place: sorted(EDGES[place]))
    given = [ascending.index(place) for place in range(5)]
    for name in ("checkpoint.safetensors", "model.safetensors"):
        state = load_checkpoint(old / name)
        del state["model"]["prior._extra_state"]
        touched = {key: as_before(state[key], given, 5) for key in ("model", "average", "optimizer") if key in state}
        save_checkpoint(old / name, state | touched)
    assert torch.equal(qvae.load_run(old).model.prior.J, new.model.prior.J)
    on = [workflow.resume(folder, ["training.epochs=4"]) for folder in (new.path, old)]
    assert torch.equal(on[0].model.prior.J, on[1].model.prior.J)
    assert not torch.equal(on[0].model.prior.J, new.model.prior.J)


def test_averages_of_couplings_stand_before_those_of_a_trained_gamma():
    """A state of 0.1.0 lists them after the networks': fields, couplings and, if it is learned, log gamma."""
    latent = LatentConfig(graph="edges", sizes=[4], edges=[(0, 3), (0, 1), (1, 2), (2, 3)], gamma=1.0)
    given, order = torch.tensor([3.0, 1.0, 12.0, 23.0]), [1.0, 3.0, 12.0, 23.0]
    parts = [torch.zeros(7), torch.zeros(4), given, torch.tensor([1.0, 2.0, 3.0, 4.0])]
    model = {"prior.h": parts[1], "prior.J": given, "prior.log_gamma": parts[3]}
    optimizer = {str(place): {"exp_avg": part} for place, part in enumerate(parts)}
    found = upgraded({"model": model, "average": parts, "optimizer": optimizer, "watch": {}}, latent)
    assert found["model"]["prior.J"].tolist() == order
    assert found["average"][2].tolist() == found["optimizer"]["2"]["exp_avg"].tolist() == order
    assert found["average"][3].tolist() == found["optimizer"]["3"]["exp_avg"].tolist() == [1.0, 2.0, 3.0, 4.0]
