"""Recommendations: what accuracy is needed, and which candidate is named."""

import pytest
import torch
from support import model_of

from qvae.config.backends import BackendSpec
from qvae.config.schema import ModelConfig
from qvae.errors import ConfigError
from qvae.measuring import recommend as module
from qvae.measuring.advice import recommendation_table, recommendation_text
from qvae.measuring.candidates import Candidate
from qvae.measuring.problems import make_problem
from qvae.measuring.recommend import Recommendation, recommend
from qvae.measuring.truth import find_truth


@pytest.fixture(scope="module")
def truth():
    return find_truth(make_problem("rbm-weak:3x3").hamiltonian, 1.0)


def test_the_cheapest_is_best_and_the_most_accurate_of_equals():
    def candidate(name, milliseconds, noise, reaches=True):
        return Candidate(BackendSpec(name=name), 100, milliseconds, noise, 0.0, reaches, 8)

    def best(*candidates):
        found = Recommendation("", "", "", list(candidates), BackendSpec(name="a"), "c.yaml")
        return found.best and found.best.spec.name

    assert best(candidate("a", 1.0, 0.5), candidate("b", 2.0, 0.1)) == "a"
    assert best(candidate("a", 1.0, 0.5), candidate("b", 1.1, 0.1)) == "b"
    assert best(candidate("a", 1.0, 3.0, False), candidate("b", 9.0, 0.1)) == "b"
    assert best(candidate("a", 1.0, 3.0, False)) is None


@pytest.mark.parametrize("configured", ["quick", "exact", "slow", "wrong"])
def test_a_recommendation_in_words(configured):
    """Every number stands behind the sampler whose it is, and the command trains with the one that is named."""
    rows = [("quick", 64, 1.25, 0.5, 0.25, True, 8), ("exact", 32, 3.5, 0.125, None, True, 1),
            ("slow", 16, 900.0, 0.75, 0.125, True, 3), ("wrong", 8, 0.5, 20.0, 4.5, False, 9)]  # fmt: skip
    candidates = [Candidate(BackendSpec(name=name), *numbers) for name, *numbers in rows]
    away = Candidate(BackendSpec(name="far"), 0, 0.0, 0.0, None, False, 0, why="it is remote")
    named = next(candidate.spec for candidate in candidates if candidate.spec.name == configured)
    found = Recommendation("a prior", "a batch", "a truth", [*candidates, away], named, "c.yaml", overrides=["data.root=x"])
    text, command = recommendation_text(found)
    assert text.startswith(
        "quick with 64 samples is the cheapest that is accurate enough: 1.25 ms a step, at 0.75 of the allowed"
    )
    assert {
        "quick": "It is the configured one.",
        "exact": "The configured exact is accurate enough, too, at 3.5 ms.",
        "slow": "The configured slow is accurate enough, too, at 900 ms.",
        "wrong": "The configured wrong makes 24.5 times the allowed variance.",
    }[configured] in text
    assert text.endswith("The best of the other backends that reach it: exact at 3.5 ms, slow at 900 ms.")
    assert command == "qvae train c.yaml --sampler quick --set data.root=x --set training.chains=64"
    table = recommendation_table(found)
    assert table.rows[1] == ("exact", "32", "3.5", "0.12", "-", "yes", "1")
    assert table.rows[3] == ("wrong", "8", "0.5", "20", "4.50", "no", "9")
    assert table.note.startswith("Measured on a prior;")
    assert "Allowed: a batch." in table.note
    assert table.note.endswith("Truth: a truth. Not measured: far (it is remote).")
    found.candidates[:3] = []
    text, command = recommendation_text(found)
    assert "The nearest is wrong, with 24.5 times the allowed variance" in text
    assert command.endswith("--sampler wrong --set data.root=x --set training.chains=8")


def test_the_positive_phase_of_two_kinds_of_images(truth):
    """Half of the codes are all up, half all down: each mean varies by 1, and no correlation varies."""

    class Model:
        posterior = None
        prior = type("Prior", (), {"hamiltonian": lambda self: make_problem("rbm-weak:3x3").hamiltonian})()

        def code_means(self, images, generator):
            return images[:, :1].expand(-1, 6)

    class Data:
        train = torch.cat([torch.zeros(50, 1, 2, 2), torch.ones(50, 1, 2, 2)])

    original, module.prepare_fixed = module.prepare_fixed, lambda dataset, images, seed: images
    try:
        allowed, how = module._allowed_variance(Model(), Data(), 10, truth)
    finally:
        module.prepare_fixed = original
    assert allowed == pytest.approx(6 * 1 / 10)
    assert "a batch of 10 images (from the codes of 100)" in how
    allowed, how = module._allowed_variance(Model(), None, 10, truth)
    assert allowed == pytest.approx(float((1 - truth.moments.spins**2).sum() + (1 - truth.moments.pairs**2).sum()) / 10)
    assert "10 samples of the prior" in how


VQVAE = {"kind": "vqvae", "variant": "discrete", "circuit": {"qubits": 3, "layers": 1, "initial_weights": 1.0}}


def test_the_positive_phase_of_measured_bits_is_that_of_their_joint_distribution():
    """Whose pairs are no products of means: E_q[phi] of each image is an average over all its draws."""
    torch.manual_seed(0)
    config = ModelConfig(**VQVAE, discrete={"prior": "boltzmann"}, network={"hidden": [8]})
    model = model_of(config, torch.full((2, 2), 0.5)).eval()
    torch.nn.init.normal_(model.posterior.preimage.weight, std=10.0)  # codes that differ
    images, generator = torch.rand(6, 4), torch.Generator().manual_seed(0)
    hamiltonian = model.prior.hamiltonian().detach()
    draws = 40_000
    bits = model.posterior_sample(images, relaxed=False, generator=generator, draws=draws).latents.detach()
    spins = (2 * bits - 1).view(6, draws, 3)
    pairs = [spins[..., i] * spins[..., j] for i, j in hamiltonian.edges.tolist()]
    means = torch.cat([spins, torch.stack(pairs, -1)], -1).mean(1)
    found = module._measured_variance(model, images, hamiltonian, generator)
    noise = 6 / draws  # of six phi whose variances are at most 1
    assert found == pytest.approx(float(means.var(0, correction=0).sum()), abs=noise + 10 * (found * noise) ** 0.5)
    assert abs(found - module._factorial_variance(model, images, hamiltonian, generator)) > 0.05


def test_a_circuit_s_bits_with_a_boltzmann_prior_are_served_and_no_other_latents():
    settings = ["model.circuit.qubits=3", "model.circuit.layers=1", "model.network.hidden=[16]", "model.variant=discrete"]
    found = recommend("digits-vqvae", 2.0, [*settings, "model.discrete.prior=boltzmann"])
    assert {"exact", "gibbs"} <= {candidate.spec.name for candidate in found.candidates}
    assert found.allowed.endswith("as noisy as a batch of 256 images (from the codes of 1500)")
    for other in (settings, ["model.variant=variational"]):
        with pytest.raises(ConfigError, match="recommended for Boltzmann priors: of model.kind qvae, or of a vqvae with"):
            recommend("digits-vqvae", 5.0, other)


def test_six_spins_and_a_run(command, trained, tmp_path):
    (tmp_path / "six.yaml").write_text("model: {latent: {sizes: [3, 3]}, network: {hidden: [16]}}\n")
    found = recommend("six.yaml", 5.0, ["training.batch_size=200", "training.chains=128"])
    exact = next(candidate for candidate in found.candidates if candidate.spec.name == "exact")
    assert exact.reaches
    assert exact.noise == pytest.approx(0, abs=1e-9)
    assert found.best is not None
    text, line = recommendation_text(found)
    # It is either taken, or named with its cost among those that are not.
    assert "exact" in text
    assert line.startswith(f"qvae train six.yaml --sampler {found.best.spec.name}")
    assert "--set training.batch_size=200" in line  # what was asked for stays, and what is recommended replaces
    assert line.count("training.chains") == 1
    assert "this prior was trained for a moment" in found.warnings[0]
    assert "Truth: enumeration of 2^6 states" in recommendation_table(found).note
    code, out, err = command("samplers", "recommend", trained, "--seconds", 3)
    assert (code, err) == (0, "")
    assert f"qvae train {trained}/config.yaml --sampler" in out
    code, _, err = command("samplers", "recommend", "nothing.yaml")
    assert code == 2
    assert "nothing.yaml" in err
