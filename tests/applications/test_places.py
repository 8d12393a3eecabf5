"""Where generated files go: to a new place, or where the user says, and never over what is there."""

import numpy as np
import pytest
import torch

import qvae
from qvae.applications.generate import class_fields, generate, generated
from qvae.applications.reconstruct import reconstruct
from qvae.errors import ConfigError, DataError, RunError
from qvae.evaluation.rows import code_means, prepared, training_rows


def images(file):
    return np.load(file)["images"]


def test_each_call_has_its_own_files_and_the_run_keeps_its_pictures(small_run):
    run = qvae.load_run(small_run)
    before = {file: file.read_bytes() for file in (small_run / "figures").iterdir()}
    names = [[file.relative_to(small_run).as_posix() for file in generate(run, 3).files] for _ in range(3)]
    assert names == [
        ["generated.npz", "figures/generated.png"],
        ["generated-2.npz", "figures/generated-2.png"],
        ["generated-3.npz", "figures/generated-3.png"],
    ]
    (small_run / "generated-2.npz").unlink()  # its picture is there still
    assert generate(run, 3).files[0].name == "generated-4.npz"
    assert reconstruct(run, 3).files[1].name == "reconstructed.png"
    assert {file: file.read_bytes() for file in before} == before


def test_two_calls_differ_unless_their_seed_is_the_same(command, small_run, tmp_path):
    code, out, _ = command("generate", small_run, "--num", 5)
    assert code == 0
    seed = out.split("--seed ")[1].split()[0]
    assert command("generate", small_run, "--num", 5)[0] == 0
    assert command("generate", small_run, "--num", 5, "--seed", seed)[0] == 0
    first, second, third = (images(small_run / f"generated{n}.npz") for n in ("", "-2", "-3"))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, third)
    run = qvae.load_run(small_run)
    assert not np.array_equal(generated(run, 5, seed=1), generated(run, 5, seed=2))
    assert not np.array_equal(generated(run, 5, "exact", seed=1), generated(run, 5, "exact", seed=2))
    with pytest.raises(ConfigError, match="seed is -1; it must be 0 to"):
        generate(run, 5, seed=-1)


def test_files_go_where_the_user_says_and_replace_nothing(command, small_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command("generate", small_run, "--num", 2, "--out", "~/mine")[0] == 0
    assert images(tmp_path / "mine.npz").shape == (2, 8, 8)
    assert (tmp_path / "mine.png").exists()
    for out in ("mine.npz", "mine"):
        code, _, err = command("generate", small_run, "--num", 2, "--out", out)
        assert code == 2
        assert "is there already; choose another --out" in err
    (tmp_path / "thesis.png").write_text("mine")
    assert command("reconstruct", small_run, "--num", 2, "--out", "thesis.npz")[0] == 2
    assert (tmp_path / "thesis.png").read_text() == "mine"
    (tmp_path / "folder").mkdir()
    for _ in range(2):
        assert command("generate", small_run, "--num", 2, "--out", "folder")[0] == 0
    found = sorted(file.name for file in (tmp_path / "folder").iterdir())
    assert found == ["generated-2.npz", "generated-2.png", "generated.npz", "generated.png"]
    assert not (small_run / "generated.npz").exists()


def test_what_fails_leaves_nothing(small_run):
    run = qvae.load_run(small_run)
    with pytest.raises(DataError):
        generate(run, 2, label=12)
    assert not (small_run / "generated.npz").exists()
    with pytest.raises(RunError, match="can't be written"):
        generate(run, 2, out=small_run / "no" / "such" / "file.npz")


def test_a_link_in_the_run_folder_is_not_followed(small_run, tmp_path):
    (tmp_path / "mine").write_text("mine")
    (small_run / "generated.npz").symlink_to(tmp_path / "mine")
    with pytest.raises(RunError, match="is a link"):
        generate(qvae.load_run(small_run), 2)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_class_raises_the_means_of_its_codes(small_run):
    """The two signs that could be wrong: of the fields, and of what a field does to a spin."""
    run = qvae.load_run(small_run)
    fields = class_fields(run, 3)
    prior = run.model.prior.frozen()

    def means(bias):
        biased = qvae.IsingHamiltonian(prior.h + bias, prior.graph, prior.J)
        return qvae.load_sampler("exact", seed=0).moments(biased, 1).spins

    # A field of +5 drives spins down, and a spin of which the class has more ups has a field below 0.
    assert (means(5.0) < -0.9).all()
    moved = means(fields) - means(0.0)
    assert float((moved * fields).sum()) < 0


def test_class_fields_move_independent_spins_to_the_means_of_the_class(small_run):
    run = qvae.load_run(small_run)
    labels, seed = run.dataset.train_labels, run.config.evaluation.seed
    places = training_rows(run.dataset, 10_000, seed)
    means = torch.from_numpy(code_means(run.model, prepared(run.dataset, places, seed), seed))
    chosen = means[labels[places] == 3]
    everywhere, there = ((part.sum(0) + 0.5) / (len(part) + 1) for part in (means, chosen))
    spins = torch.tanh(torch.atanh(2 * everywhere - 1) - class_fields(run, 3))  # of a field h, -tanh(h)
    torch.testing.assert_close(spins, 2 * there - 1, atol=1e-4, rtol=0)
    assert float((there - everywhere).abs().max()) > 0.02
