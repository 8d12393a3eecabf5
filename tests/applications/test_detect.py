"""Scores of oddity against sums over all latents, and the command with its words."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from enumerated import all_bits, exact_log_prior, small_model

import qvae
from qvae.applications import detect as module
from qvae.applications.detect import anomaly_scores, detect, verdict
from qvae.errors import ConfigError, DataError
from qvae.evaluation import log_terms
from qvae.evaluation.likelihood import prior_log_partition
from qvae.evaluation.log_terms import log_prior_of

DRAWS = 20_000


class Told(qvae.Progress):
    """Keeps warnings."""

    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


@torch.no_grad()
def test_scores_are_those_of_sums_over_all_latents():
    model, z, log_prior = small_model(), all_bits(), exact_log_prior(small_model())
    x = (torch.rand(4, 6, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    density = log_prior_of(model, prior_log_partition(model.prior.frozen(), 2, 2, 0), None)
    found = anomaly_scores(model, x, density, DRAWS, torch.Generator().manual_seed(0))
    for row, one in enumerate(x):
        logits = model.posterior.levels[0](model.encoder(one[None]))
        log_q = (z * logits - torch.nn.functional.softplus(logits)).sum(1).double()
        log_p = model.log_likelihood(one.expand(len(z), -1), z).double()
        terms = {
            "energy": -log_prior,
            "free_energy": log_q - log_prior,
            "reconstruction": -log_p,
            "elbo": log_q - log_prior - log_p,
        }
        for name, values in terms.items():
            mean = (log_q.exp() * values).sum()
            error = ((log_q.exp() * (values - mean) ** 2).sum() / DRAWS).sqrt()
            assert float(found[name][row]) == pytest.approx(float(mean), abs=5 * float(error)), name
        weights = (log_prior + log_p - log_q).exp()
        evidence = (log_q.exp() * weights).sum()
        error = ((log_q.exp() * (weights / evidence - 1) ** 2).sum() / DRAWS).sqrt()
        assert float(found["likelihood"][row]) == pytest.approx(-math.log(evidence), abs=5 * float(error))


def test_noise_is_odder_than_digits(command, small_run, tmp_path):
    run = qvae.load_run(small_run)
    digits = run.dataset.values(run.dataset.test).numpy()
    np.savez(tmp_path / "noise.npz", images=np.random.default_rng(0).random((300, 8, 8)), ids=np.arange(300) + 1000)
    np.save(tmp_path / "digits.npy", digits)
    call = ("apply", "detect", small_run, "--input", "noise.npz", "--out", "scores", "--samples", 10)
    code, out, err = command(*call, "--normal", "digits.npy")
    assert (code, err) == (0, "")
    areas = {line.split(":")[0]: float(line.split()[2]) for line in out.splitlines() if "AUROC" in line}
    assert areas["likelihood"] > 0.9 < areas["elbo"]
    saved = np.load(tmp_path / "scores" / "scores.npz")
    assert saved["ids"][0] == "1000"
    assert saved["energy"].shape == (300,)
    assert saved["normal_elbo"].shape == (len(digits),)
    np.testing.assert_allclose(saved["elbo"], saved["free_energy"] + saved["reconstruction"], rtol=1e-9)
    assert (tmp_path / "scores" / "scores.png").exists()
    code, out, _ = command(*call)
    odd = np.load(tmp_path / "scores" / "scores-2.npz")
    assert f"the oddest row by likelihood: {odd['ids'][odd['likelihood'].argmax()]}" in out
    np.testing.assert_array_equal(odd["likelihood"], saved["likelihood"])  # the same seed, the same draws


def test_a_score_that_fails_is_said_to():
    rng = np.random.default_rng(0)
    low, high = rng.normal(0, 1, 100), rng.normal(3, 1, 100)
    assert verdict("elbo", low, high).startswith("elbo: AUROC 0.9")
    assert verdict("elbo", low, high)[-1].isdigit()
    assert "it takes the normal rows for the odd ones" in verdict("energy", high, low)
    assert "look alike" in verdict("energy", low, rng.normal(0, 1, 100))
    assert "tells little" in verdict("energy", low, low + 0.7)
    assert "one row tells nothing; give two or more" in verdict("energy", low, high[:1])


def test_what_can_t_be_scored_gets_a_sentence(small_run, tmp_path):
    run = qvae.load_run(small_run)
    np.save(tmp_path / "wrong.npy", np.zeros((3, 7, 8)))
    with pytest.raises(DataError, match=r"shape \(3, 7, 8\), but this model takes \(N, 8, 8\)"):
        detect(run, tmp_path / "wrong.npy")
    np.save(tmp_path / "right.npy", np.zeros((3, 8, 8)))
    with pytest.raises(ConfigError, match="samples is 0"):
        detect(run, tmp_path / "right.npy", samples=0)
    with pytest.raises(DataError, match="there is no file"):
        detect(run, tmp_path / "right.npy", normal=tmp_path / "none.npy")
    assert not (small_run / "scores.npz").exists()


@pytest.mark.parametrize("most", [14, 5])
def test_a_bound_in_place_of_log_p_is_said(small_run, tmp_path, monkeypatch, most):
    run = qvae.load_run(small_run)
    run.model.prior._template.gamma.fill_(0.5)
    run.model.prior._template.is_quantum = True
    monkeypatch.setattr(log_terms, "MAX_QUANTUM_SPINS", most)
    np.save(tmp_path / "rows.npy", np.zeros((3, 8, 8)))
    told = Told()
    detect(run, tmp_path / "rows.npy", samples=2, progress=told)
    assert [text for text in told.warnings if "is taken to be its bound" in text] == told.warnings
    assert len(told.warnings) == (most < 8)


def test_bits_of_grey_rows_are_drawn_by_the_seed_and_scored_a_few_at_a_time_in_their_order(trained, monkeypatch):
    """Five rows, in parts of two; the score of each is the sum of its bits."""
    run, original, told, calls = qvae.load_run(trained), module.batches, [], []
    dataset = SimpleNamespace(name="mine", test=run.dataset.test[:5], prepare=run.dataset.prepare)
    monkeypatch.setattr(module, "batches", lambda rows: original(rows, 2))

    def scores(model, rows, density, samples, generator):
        calls.append((model, density, samples, generator.initial_seed()))
        return {"sum": rows.double().sum(1), "square": rows.double().square().sum(1)}

    monkeypatch.setattr(module, "anomaly_scores", scores)

    class Shares(qvae.Progress):
        def work(self, what, interval=None):
            from contextlib import nullcontext

            return nullcontext(lambda share, text="": told.append(share))

    found = module.scored(run.model, dataset, "density", 6, 9, Shares())
    bits = torch.Generator().manual_seed(9)
    expected = torch.cat([run.dataset.prepare(part, bits) for part in dataset.test.flatten(1).split(2)]).double().sum(1)
    assert np.array_equal(found["sum"], expected.numpy())
    assert np.array_equal(found["square"], found["sum"])  # of 0 and 1
    assert calls == [(run.model, "density", 6, 9)] * 3
    assert told == pytest.approx([0.4, 0.8, 1.0])
