"""Recommendations: what accuracy is needed, and which candidate is named."""

import pytest
import torch
from support import model_of

from qvae.config.backends import BackendSpec
from qvae.config.schema import ModelConfig
from qvae.errors import ConfigError, SamplerError
from qvae.measuring import recommend as module
from qvae.measuring.advice import recommendation_table, recommendation_text
from qvae.measuring.candidates import Candidate
from qvae.measuring.problems import make_problem
from qvae.measuring.recommend import Recommendation, recommend
from qvae.measuring.truth import find_truth
from qvae.sampling.sampler import Capabilities


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
    worse = Candidate(BackendSpec(name="worse"), 8, 0.25, 30.0, 4.5, False, 9)
    found.candidates[:3] = [worse]
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


def test_candidates_share_what_is_left_of_the_time_and_the_best_stand_first(trained, truth, monkeypatch):
    """A clock on which the truth takes 4 s and each candidate 3: of 16 s three candidates get 4, 4.5 and 6."""
    now, given, told = [100.0], [], []
    results = {"exact": (8.0, 0.1, True), "gibbs": (2.0, 9.0, False), "dimod": (5.0, 0.5, True)}

    def find_truth_for(hamiltonian, seconds, seed, progress, clock):
        given.append((seconds, seed))
        now[0] += 4.0
        progress(1.0)
        return found_truth

    def judged(spec, hamiltonian, truth, allowed, chains, step, share):
        given.append((spec.name, truth is found_truth, chains, step, share))
        now[0] += 3.0
        return Candidate(spec, chains, *results[spec.name][:2], 0.0, results[spec.name][2], 8)

    found_truth = find_truth(make_problem(str(trained)).hamiltonian, 1.0)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(module, "find_truth", find_truth_for)
    monkeypatch.setattr(module, "settings_to_try", lambda configured, prior: [BackendSpec(name=name) for name in results])
    monkeypatch.setattr(module, "judge", judged)
    settings = ["training.chains=77", "training.prior_learning_rate=0.02", "training.batch_size=50"]
    found = recommend(str(trained), 16.0, settings, lambda share, text: told.append((share, text)))
    assert given[0] == (4.0, 0)  # a quarter
    rows = [("exact", True, 77, pytest.approx(0.002), 4.0), ("gibbs", True, 77, pytest.approx(0.002), 4.5)]
    assert given[1:] == [*rows, ("dimod", True, 77, pytest.approx(0.002), 6.0)]
    assert [candidate.spec.name for candidate in found.candidates] == ["dimod", "exact", "gibbs"]
    assert found.best.spec.name == "dimod"
    assert told[-5:] == [
        (4 / 16, "the truth"), (4 / 16, "exact"), (7 / 16, "gibbs"), (10 / 16, "dimod"), (13 / 16, "done"),
    ]  # fmt: skip
    assert (found.config, found.warnings, found.overrides) == (f"{trained}/config.yaml", [], settings)
    assert found.prior == f"the trained prior of {trained}"
    allowed, _ = module._allowed_variance(*(lambda run: (run.model, run.dataset))(module.load_run(trained)), 50, found_truth)
    assert found.allowed.startswith(f"a standard deviation of {(allowed / 24) ** 0.5:.2g} for each of 24 parameters, as noisy")
    for share, is_told in ((0.24, False), (0.26, True)):
        monkeypatch.setattr(module, "squared_error", lambda truth, share=share: share * allowed)
        warnings = recommend(str(trained), 16.0, settings).warnings
        assert any("hardly better than the gradient must be" in warning for warning in warnings) == is_told


def test_without_its_images_a_run_is_judged_by_the_prior_s_own_spread(small_run, monkeypatch):
    file = small_run / "config.yaml"
    file.write_text(file.read_text().replace("name: digits", "name: gone.npz"))
    monkeypatch.setattr(module, "settings_to_try", lambda configured, prior: [])
    found = recommend(str(small_run), 1.0)
    assert "as noisy as 256 samples of the prior" in found.allowed
    assert found.warnings[0].startswith("the images can't be read (")
    assert found.warnings[0].endswith("so the prior's own spread stands for theirs")
    assert recommendation_text(found) == ["Nothing could be measured in the time; give more --seconds."]


def test_a_prior_of_a_remote_sampler_is_trained_by_a_local_one_that_can(trained, monkeypatch):
    """The first that goes on with its chains and takes so many spins; hardware isn't asked for a trial."""
    able = {"far": {"remote": True}, "fresh": {}, "small": {"persistent": True, "max_spins": 7}, "right": {"persistent": True}}
    made, closed = [], []

    class Stub:
        def __init__(self, name, seed):
            self.name, self.capabilities = name, Capabilities(**able[name])
            made.append((name, seed))

        def close(self):
            closed.append(self.name)

    run = module.load_run(trained)
    monkeypatch.setattr(module, "make_seeded", lambda spec, seed: Stub(spec.name, seed))
    monkeypatch.setattr(module, "local_samplers", lambda: ([BackendSpec(name=name) for name in list(able)[1:]], {}))
    config = run.config.model_copy(deep=True)
    config.sampler.name, config.training.seed = "far", 5
    assert module._training_sampler(config, run.model).name == "right"
    assert (made, closed) == ([(name, 5) for name in able], ["far"])
    del able["right"]
    with pytest.raises(SamplerError, match="no local sampler can train this prior"):
        module._training_sampler(config, run.model)
    config.sampler.name = "fresh"
    assert module._training_sampler(config, run.model).name == "fresh"


def test_six_spins_and_a_run(command, trained, tmp_path, monkeypatch):
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
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").symlink_to(trained)
    assert recommend("~/run", 0.5).config == f"{tmp_path}/run/config.yaml"
    code, _, err = command("samplers", "recommend", "nothing.yaml")
    assert code == 2
    assert "nothing.yaml" in err
