"""Restoration from files to files: better than what was given, what was seen is kept, and what is wrong gets a sentence."""

import numpy as np
import pytest
import torch
from enumerated import all_bits, exact_log_prior
from PIL import Image

import qvae
from qvae.applications.condition import sampled_proposals
from qvae.applications.denoise import denoise
from qvae.applications.inpaint import inpaint
from qvae.applications.observation import Flipped
from qvae.applications.super_resolve import super_resolve
from qvae.errors import CapabilityError, ConfigError, DataError

QUICK = ("--draws", 40, "--steps", 20, "--completions", 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of some hundred steps, which has learnt what digits look like."""
    folder = tmp_path_factory.mktemp("restoring") / "run"
    settings = ["training.epochs=60", "model.latent.sizes=[16,16]", "model.network.hidden=[64]", "evaluation.num_generated=0"]
    settings += ["evaluation.importance_samples=5", "evaluation.num_test=20", "evaluation.probes=false"]
    qvae.train(qvae.load_config("digits", [*settings, "evaluation.tsne_every=0"]), folder)
    return folder


@pytest.fixture
def run(folder):
    return qvae.load_run(folder)


@pytest.fixture
def clean(run):
    return (run.dataset.values(run.dataset.test[:24]).numpy() >= 0.5).astype(np.float32)


def error(found, clean):
    return float(((found - clean) ** 2).mean())


def test_a_hidden_corner_is_completed_and_the_rest_kept(command, folder, clean, tmp_path):
    hidden = np.zeros((8, 8), bool)
    hidden[:4, 2:6] = True
    np.savez(tmp_path / "holes.npz", images=np.where(hidden, 0.7, clean), mask=hidden)
    code, out, err = command("apply", "inpaint", folder, "--input", "holes.npz", "--out", "done", *QUICK)
    assert (code, err) == (0, "")
    assert "effective number of proposals" in out
    found = np.load(tmp_path / "done" / "inpainted.npz")
    assert found["completions"].shape == (24, 3, 8, 8)
    assert np.array_equal(found["best"][:, ~hidden], clean[:, ~hidden])
    assert np.array_equal(found["completions"][:, :, ~hidden], clean[:, None, ~hidden].repeat(3, 1))
    assert found["spread"][:, ~hidden].max() < 1e-3 < found["spread"][:, hidden].mean()
    mean = clean.mean(0)[hidden]
    assert error(found["best"][:, hidden], clean[:, hidden]) < error(mean, clean[:, hidden])  # the mean of all, were it known
    assert (tmp_path / "done" / "inpainted.png").exists()
    np.save(tmp_path / "mask.npy", np.broadcast_to(hidden, clean.shape))
    command("apply", "inpaint", folder, "--input", "holes.npz", "--mask", "mask.npy", "--out", "done", *QUICK)
    again = np.load(tmp_path / "done" / "inpainted-2.npz")
    assert np.array_equal(found["best"], again["best"])  # the same mask in another form, and the same seed


def test_noise_is_taken_off_files_of_images(command, folder, clean, tmp_path):
    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(clean.shape) < 0.2, rng.random(clean.shape) < 0.5, clean)
    (tmp_path / "noisy").mkdir()
    for number, image in enumerate(noisy):
        Image.fromarray((255 * image).astype(np.uint8)).save(tmp_path / "noisy" / f"{number:02}.png")
    code, out, err = command("apply", "denoise", folder, "--input", "noisy", "--out", "done", *QUICK)
    assert (code, err) == (0, "")
    assert out.count("wrote done/denoised") == 3
    found = np.load(tmp_path / "done" / "denoised.npz")
    assert error(found["best"], clean) < 0.8 * error(noisy, clean)
    picture = np.asarray(Image.open(tmp_path / "done" / "denoised" / "03.png"))
    np.testing.assert_allclose(picture / 255, found["best"][3], atol=0.6 / 255)


def test_pictures_keep_names_that_differ_in_their_ending_and_are_never_written_over(run, clean, tmp_path):
    given = tmp_path / "denoised"
    given.mkdir()
    for name in ("a.png", "a.jpg"):
        Image.fromarray(np.uint8(255 * clean[0])).save(given / name)
    before = (given / "a.png").read_bytes()
    files = denoise(run, given, completions=1, draws=5, steps=0, out=tmp_path).files
    assert files[1] == tmp_path / "denoised-2"  # for "denoised" is there
    assert sorted(file.name for file in files[1].iterdir()) == ["a.jpg.png", "a.png"]
    assert (given / "a.png").read_bytes() == before


def test_pictures_of_what_is_interrupted_are_gone(run, clean, tmp_path, monkeypatch):
    (tmp_path / "noisy").mkdir()
    Image.fromarray(np.uint8(255 * clean[0])).save(tmp_path / "noisy" / "a.png")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("qvae.applications.restore._shown", interrupted)  # when the first PNG is written
    with pytest.raises(KeyboardInterrupt):
        denoise(run, tmp_path / "noisy", completions=1, draws=5, steps=0, out=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_word_of_an_encoder_that_hasn_t_seen_such_damage_is_called_a_guess(run, clean, tmp_path):
    np.save(tmp_path / "rows.npy", clean[:2])
    told = "the encoder learnt from {} rows, so that its word on these is a guess"
    for seen, sentences in ((None, [told.format("undamaged")]), ("hidden", [told.format("hidden")]), ("dropped", [])):
        run.config.training.corruption = seen
        said = denoise(run, tmp_path / "rows.npy", "dropped", trained=True, completions=1, draws=2).sentences
        assert [sentence.split(";")[0] for sentence in said] == sentences


@pytest.mark.parametrize("noise", ["gaussian", "dropped"])
def test_other_noise_is_taken_off(run, clean, noise, tmp_path):
    rng = np.random.default_rng(0)
    noisy = clean + 0.5 * rng.normal(size=clean.shape) if noise == "gaussian" else clean * (rng.random(clean.shape) > 0.5)
    np.save(tmp_path / "noisy.npy", noisy)
    files = denoise(run, tmp_path / "noisy.npy", noise, 0.5, completions=2, draws=40, steps=20).files
    assert error(np.load(files[0])["best"], clean) < 0.8 * error(noisy, clean)


def test_coarse_images_are_refined(run, clean, tmp_path):
    coarse = clean.reshape(-1, 4, 2, 4, 2).mean((2, 4))
    np.save(tmp_path / "coarse.npy", coarse)
    found = np.load(super_resolve(run, tmp_path / "coarse.npy", completions=2, draws=40, steps=20).files[0])["best"]
    assert error(found, clean) < 0.8 * error(clean.mean(0), clean)
    assert error(found.reshape(-1, 4, 2, 4, 2).mean((2, 4)), coarse) < 0.001  # what was seen is kept


def test_a_sampler_draws_the_proposals(command, folder, clean, tmp_path, monkeypatch):
    np.save(tmp_path / "noisy.npy", clean)
    call = ("apply", "denoise", folder, "--input", "noisy.npy", "--out", "done", *QUICK)
    asked = []

    def proposed(target, draws, sampler, generator):
        asked.append((draws, sampler.name))
        return sampled_proposals(target, draws, sampler, generator)

    monkeypatch.setattr("qvae.applications.condition.sampled_proposals", proposed)
    code, _, err = command(*call, "--sampler", "gibbs:persistent=false")
    assert (code, err) == (0, "")
    assert asked == [(40, "gibbs")]
    code, _, err = command(*call, "--sampler", "gibs")
    assert (code, "did you mean 'gibbs'" in err) == (2, True)


def test_the_best_guess_of_a_command_is_the_exact_one(tmp_path):
    """E[x | seen] of a run's model of 6 bits, from a file to a file, against the sum over all latents."""
    rows = (np.random.default_rng(0).random((60, 3, 4)) < 0.4).astype(np.float32)
    settings = ["training.epochs=2", "training.batch_size=20", "model.latent.sizes=[3,3]", "evaluation.num_generated=0"]
    run = qvae.train(qvae.load_config("digits", [*settings, "evaluation.tsne_every=0"]), tmp_path / "run", data=rows)
    np.save(tmp_path / "noisy.npy", rows[:2])
    found = np.load(denoise(run, tmp_path / "noisy.npy", completions=1, draws=4000, steps=0).files[0])
    z, seen = all_bits(), torch.from_numpy(rows[:2]).flatten(1)
    with torch.no_grad():
        output = run.model.decoder(z).expand(2, -1, -1)
        observation = Flipped(run.model.likelihood, seen, 0.2, 0.5)
        p = (observation.log_prob(output).double() + exact_log_prior(run.model)).softmax(1)
        expected = (p.float().unsqueeze(2) * observation.completed(run.model.likelihood.mean(output))).sum(1)
    scatter = 5 * found["spread"].reshape(2, -1) / np.sqrt(found["effective_size"])[:, None]
    assert (np.abs(found["best"].reshape(2, -1) - expected.numpy()) <= scatter + 1e-5).all()


def test_what_can_t_be_done_gets_a_sentence(run, clean, tmp_path):
    np.save(tmp_path / "rows.npy", clean)
    np.save(tmp_path / "mask.npy", np.zeros((5, 8, 8)))

    def masked(value):
        np.savez(tmp_path / "masked.npz", images=clean, mask=np.full((8, 8), value))
        return tmp_path / "masked.npz"

    for words, kind, work in (
        ("nothing says what is hidden", DataError, lambda: inpaint(run, tmp_path / "rows.npy")),
        ("that of one row or of all 24", DataError, lambda: inpaint(run, tmp_path / "rows.npy", tmp_path / "mask.npy")),
        ("did you mean 'gaussian'", ConfigError, lambda: denoise(run, tmp_path / "rows.npy", "gausian")),
        ("amount is 1; it must be above 0, and below 1", ConfigError, lambda: denoise(run, tmp_path / "rows.npy", amount=1)),
        ("amount is inf", ConfigError, lambda: denoise(run, tmp_path / "rows.npy", "gaussian", np.inf)),
        ("seed is 4294967296; it must be 0 to", ConfigError, lambda: denoise(run, tmp_path / "rows.npy", seed=2**32)),
        ("of type <U1", DataError, lambda: inpaint(run, masked("x"))),
        ("values that are NaN", DataError, lambda: inpaint(run, masked(np.nan))),
        ("values outside [0, 1], the first 7.0", DataError, lambda: inpaint(run, masked(7.0))),
        ("there is no file", DataError, lambda: inpaint(run, tmp_path / "rows.npy", tmp_path / "mask.png")),
        ("steps is -1", ConfigError, lambda: denoise(run, tmp_path / "rows.npy", steps=-1)),
        ("takes (N, 4, 4) or (N, 2, 2)", DataError, lambda: super_resolve(run, tmp_path / "rows.npy")),
    ):
        with pytest.raises(kind) as told:
            work()
        assert words in str(told.value)


def test_a_model_without_a_prior_says_so(tmp_path):
    rows = np.random.default_rng(0).random((40, 3, 4)).astype(np.float32)
    settings = ["training.epochs=1", "training.batch_size=20", "model.variant=deterministic", "evaluation.num_generated=0"]
    config = qvae.load_config("digits-vqvae", [*settings, "evaluation.tsne_every=0", "model.circuit.qubits=2"])
    run = qvae.train(config, tmp_path / "run", data=rows)
    np.save(tmp_path / "rows.npy", rows)
    with pytest.raises(CapabilityError, match="has no prior"):
        denoise(run, tmp_path / "rows.npy")
    best = np.load(denoise(run, tmp_path / "rows.npy", trained=True).files[0])["best"]  # a denoising autoencoder needs none
    assert best.shape == rows.shape


def test_a_model_without_a_density_says_so(run, clean, tmp_path, monkeypatch):
    monkeypatch.setattr(type(run.model), "has_likelihood", False)
    np.save(tmp_path / "rows.npy", clean)
    with pytest.raises(CapabilityError, match="no density"):
        denoise(run, tmp_path / "rows.npy")


def test_counts_are_not_made_finer_and_that_is_said_before_anything_is_read(small_run, tmp_path, monkeypatch):
    run = qvae.load_run(small_run)
    monkeypatch.setattr(type(run.model.likelihood), "kind", "counts")
    with pytest.raises(CapabilityError, match=r"needs bits or real numbers, but the model's data are counts; .* inpaint"):
        super_resolve(run, tmp_path / "not there.npy")
