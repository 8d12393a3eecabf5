"""The commands with a run that was trained on a CUDA device."""

import json

import numpy as np
import pytest
from on_cuda import DEVICE, needs_cuda

import qvae

pytestmark = needs_cuda

THERE = ["--set", f"training.device={DEVICE.type}"]


@pytest.fixture
def run(command, small):
    """Of a prior on the device; on the command line, as a user trains it."""

    def trained(*more):
        code, out, err = command("train", "digits", "--out", "a", *small, *THERE, *more)
        assert (code, err) == (0, "")
        assert "report: a/report.html" in out
        return "a"

    return trained


def called(command, *arguments):
    code, out, err = command(*arguments)
    assert (code, err) == (0, ""), arguments
    return out


SAMPLERS = ["gibbs:tempering=3", "gibbs:annealing=5,persistent=false", "exact", "dimod", "path_integral"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_trains_and_draws(sampler, run, command, tmp_path):
    run("--sampler", sampler)
    called(command, "generate", "a", "--num", 5)
    assert np.load(tmp_path / "a" / "generated.npz")["images"].shape == (5, 8, 8)


def test_what_is_done_with_a_run(run, command, tmp_path):
    run("--set", "evaluation.num_generated=50", "--set", "evaluation.probes=true", "--set", "evaluation.tsne_every=1")
    assert "resuming a at step 15" in called(command, "train", "--resume", "a", "--set", "training.epochs=4")
    called(command, "evaluate", "a", "--set", "importance_samples=7")
    found = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    assert found["importance_samples"] == 7
    assert found["elbo"] <= found["log_likelihood"] + 5 * found["log_likelihood_stderr"] + 5 * found["elbo_stderr"]
    called(command, "generate", "a", "--num", 5)
    called(command, "generate", "a", "--num", 5, "--sampler", "exact")
    called(command, "generate", "a", "--num", 5, "--label", 3)
    called(command, "reconstruct", "a", "--num", 5)
    called(command, "report", "a")
    assert (tmp_path / "a" / "report.html").exists()


@pytest.fixture
def rows(tmp_path):
    """Writes some test rows of the run as files for tasks; some pixels of them are hidden, and labels are those of the rows."""

    def written():
        dataset = qvae.load_run("a").dataset
        values = (dataset.values(dataset.test[:12]).numpy() >= 0.5).astype(np.float32)
        hidden = np.zeros((8, 8), bool)
        hidden[:4, 2:6] = True
        np.save("rows.npy", values)
        np.savez("holes.npz", images=values, mask=hidden)
        np.savez("labelled.npz", images=values, labels=dataset.test_labels[:12].numpy())
        np.save("coarse.npy", values.reshape(12, 4, 2, 4, 2).mean((2, 4)))

    return written


RESTORED = ["--completions", 2, "--steps", 5]


@pytest.mark.parametrize(
    "words",
    [
        ["augment", "--input", "labelled.npz", "--factor", 2],
        ["denoise", "--input", "rows.npy", *RESTORED],
        ["detect", "--input", "rows.npy", "--samples", 5],
        ["embed", "--input", "rows.npy"],
        ["inpaint", "--input", "holes.npz", *RESTORED],
        ["interpolate", "--input", "rows.npy", "--frames", 3],
        ["style", "--content", "rows.npy", "--style", "rows.npy", "--units", 3, "--grid", 2],
        ["super-resolve", "--input", "coarse.npy", *RESTORED],
    ],
    ids=lambda words: words[0],
)
def test_tasks(words, run, rows, command, tmp_path):
    run("--set", "model.latent.label_units=one-hot") if words[0] == "augment" else run()
    rows()
    called(command, "apply", words[0], "a", *words[1:], "--out", "b")
    assert any((tmp_path / "b").iterdir())


def test_rows_are_compressed_and_come_back(run, rows, command, tmp_path):
    pytest.importorskip("constriction")
    run()
    rows()
    called(command, "apply", "compress", "a", "--input", "rows.npy", "--out", "packed")
    called(command, "apply", "decompress", "a", "--input", "packed.qvz", "--out", "back")
    assert np.array_equal(np.load("back.npz")["rows"], np.load("rows.npy"))


def test_benchmarks(command, small, tmp_path):
    samplers = ["--sampler", "exact", "--sampler", "gibbs:sweeps=2", "--sampler", "path_integral"]
    settings = ["--budget", 0.05, "--out", "b", "--device", DEVICE.type]
    out = called(command, "benchmark", "samplers", "--problem", "glass:n=4", *samplers, *settings)
    assert "gibbs:sweeps=2" in out
    found = json.loads((tmp_path / "b" / "results.json").read_text())
    measured = found["problems"][0]["samplers"]
    assert [row["status"] for row in measured] == ["measured"] * 3
    called(command, "benchmark", "training", "digits", "--seconds", 1, "--out", "t", *small, *THERE)
    (row,) = json.loads((tmp_path / "t" / "results.json").read_text())["samplers"]
    assert row["status"] == "measured"


def test_the_conformance_suites_name_the_device(command):
    for kind, name in (("samplers", "gibbs"), ("executors", "statevector")):
        out = called(command, kind, "check", name)
        if DEVICE.type == "cuda":
            assert "there is no CUDA device here" not in out


def test_a_sampler_is_recommended(run, command):
    run()
    assert "gibbs" in called(command, "samplers", "recommend", "a", "--seconds", 3)


def test_gradients_are_diagnosed(command, small):
    settings = ["--set", "model.circuit.qubits=3", "--set", "model.circuit.layers=1"]
    called(command, "diagnose", "gradients", "digits-vqvae", *settings, *THERE)
