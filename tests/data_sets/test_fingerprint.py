"""Another file of the same shape is another data set, wherever a run is opened with it."""

import numpy as np
import pytest
import torch
from striped_images import striped

import qvae
from qvae import workflow
from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.data import fingerprint as module
from qvae.data.fingerprint import fingerprint
from qvae.errors import DataError

SETTINGS = [
    "training.epochs=1", "model.latent.sizes=[3,3]", "model.network.hidden=[8]", "evaluation.num_test=20",
    "evaluation.num_generated=0", "evaluation.probes=false", "evaluation.tsne_every=0", "evaluation.importance_samples=2",
]  # fmt: skip


def test_the_same_data_have_the_same_and_others_another():
    assert fingerprint(striped()) == fingerprint(striped())
    first = striped()
    for change in ("train", "test"):
        other = striped()
        getattr(other, change)[17, 3, 3] += 1
        assert fingerprint(other) != fingerprint(first)
    turned = striped()
    turned.train[:] = turned.train.flip(0)
    assert fingerprint(turned) != fingerprint(first)
    assert fingerprint(striped(binarize="threshold")) != fingerprint(first)


def test_of_large_data_it_reads_a_part(monkeypatch):
    rows = torch.arange(1000, dtype=torch.int16).unsqueeze(1)
    monkeypatch.setattr(module, "_MOST_BYTES", 300)
    seen = module._spread(rows)
    assert seen.nbytes <= 300
    assert len(seen) > 100
    assert seen[-1] > 980
    assert len(module._spread(rows[:100])) == 100


@pytest.fixture(scope="module")
def run_on_a_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, seed in (("mine", 0), ("other", 1)):
        np.save(folder / f"{name}.npy", np.random.default_rng(seed).random((60, 4, 4)))
    qvae.train(qvae.load_config("digits", [*SETTINGS, f"data.name={folder / 'mine.npy'}"]), folder / "run")
    return folder


@pytest.mark.parametrize("name", ["evaluate", "report", "resume", "memory"])
def test_another_file_of_the_same_shape_is_refused(run_on_a_file, name, whole_reports):
    path, change = run_on_a_file / "run", [f"data.name={run_on_a_file / 'other.npy'}"]
    before = (path / "evaluation.json").read_bytes()
    work = {
        "evaluate": lambda: workflow.evaluate(qvae.load_run(path, change)),
        "report": lambda: workflow.report(qvae.load_run(path, change)),
        "resume": lambda: workflow.resume(path, [*change, "training.epochs=2"]),
        "memory": lambda: qvae.load_run(path, data=np.load(run_on_a_file / "other.npy")),
    }
    with pytest.raises(DataError, match=r"holds other data than the run in .* of the same shape; name its data with --set"):
        work[name]()
    assert (path / "evaluation.json").read_bytes() == before


def test_a_run_of_before_opens_with_any_data_of_its_shape(run_on_a_file, tmp_path):
    import shutil

    path = shutil.copytree(run_on_a_file / "run", tmp_path / "old")
    for name in ("model.safetensors", "checkpoint.safetensors"):
        state = load_checkpoint(path / name)
        del state["data"]
        save_checkpoint(path / name, state)
    change = [f"data.name={run_on_a_file / 'other.npy'}"]
    assert qvae.load_run(path, change).dataset.shape == (4, 4)
    assert workflow.resume(path, [*change, "training.epochs=2"]).fingerprint is not None
