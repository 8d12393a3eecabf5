"""Label units: p(z | class) and bounds of log p(x, y) beside sums over all latents, and what doesn't go with them."""

import itertools
import math

import pytest
import torch

from qvae.config.schema import ModelConfig
from qvae.errors import CapabilityError
from qvae.evaluation.log_terms import log_prior_of
from qvae.ising.estimate import LogPartition
from qvae.ising.exact import exact_distribution, state_numbers
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.prior import make_graph
from qvae.models.qvae import QVAE
from qvae.sampling.registry import load_sampler
from qvae.training.objectives.surrogate import expected_energy, surrogate

CLASSES = (3, 5, 8)
DRAWS = 20_000


def labelled(latent=None, coding="one-hot", levels=1, relaxation="gumbel"):
    """Four latent bits and the units of three classes, with random weights, for rows of six bits."""
    torch.manual_seed(3)
    latent = {"graph": "rbm", "sizes": [2, 2], "label_units": coding} | (latent or {})
    config = ModelConfig(latent=latent, network={"hidden": [5]}, posterior={"levels": levels}, relaxation={"kind": relaxation})
    model = QVAE.from_config(config, Statistics.blank((6,)), classes=CLASSES)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.7)
    return model.eval()


def words_of(model, labels):
    return torch.stack([model.labels.word(label) for label in labels])


def free_bits(model):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=model.prior.num_spins - model.labels.size)))


@pytest.mark.parametrize("sampler", ["exact", "gibbs"])
@pytest.mark.parametrize(("graph", "coding"), [("rbm", "one-hot"), ("complete", "binary"), ("edges", "one-hot")])
def test_samples_of_a_class_are_those_of_the_prior_given_its_word(sampler, graph, coding):
    model = labelled({} if graph == "rbm" else {"graph": graph, "sizes": [4]}, coding)
    options = {"sweeps": 20} if sampler == "gibbs" else {}
    found = model.draw_of_class(DRAWS, 5, load_sampler(sampler, seed=0, **options))
    check_given(model, found, 5)


def test_a_transverse_field_of_the_other_bits_leaves_label_units_free_to_be_held():
    model = labelled({"gamma": 0.8})
    assert model.prior.frozen().gamma.tolist() == pytest.approx([0.8] * 4 + [0.0] * 3)
    check_given(model, model.draw_of_class(DRAWS, 8, load_sampler("exact", seed=0)), 8)


def check_given(model, found, label):
    """Frequencies of the free bits, beside p(z, y) of all states at this word over its sum."""
    word, bits = model.labels.word(label), free_bits(model)
    assert bool((found[:, -len(word) :] == word).all())
    joint = exact_distribution(model.prior.frozen()).probabilities
    expected = joint[state_numbers(torch.cat([bits, word.expand(len(bits), -1)], 1))]
    expected = expected / expected.sum()
    counts = torch.bincount(state_numbers(found[:, : -len(word)]), minlength=len(bits))[state_numbers(bits)] / len(found)
    error = (expected * (1 - expected) / len(found)).sqrt()
    assert float(((counts - expected) / error).abs().max()) < 4.5


@pytest.mark.parametrize("levels", [1, 2])
def test_bounds_of_log_p_x_y_are_those_of_sums_over_all_latents(levels):
    model, labels = labelled(levels=levels), [3, 8]
    x, words = torch.tensor([[1, 0, 1, 1, 0, 0.0], [0, 1, 0, 0, 1, 1]]), words_of(labelled(), labels)
    log_z = exact_distribution(model.prior.frozen()).log_z
    log_prior = log_prior_of(model, LogPartition(log_z, 0.0, ""), None)
    with torch.no_grad():
        code = model.posterior_sample(x, False, torch.Generator().manual_seed(0), DRAWS, words)
        weights = (model.log_likelihood(x, code.latents) + log_prior(code.latents) - code.log_prob()).view(2, -1).double()
        for row, word, of_row in zip(x, words, weights, strict=True):
            bits = torch.cat([free_bits(model), word.expand(16, -1)], 1)
            joint = model.log_likelihood(row.expand(16, -1), bits).double() + log_prior(bits)
            assert float(of_row.logsumexp(0)) - math.log(DRAWS) == pytest.approx(float(joint.logsumexp(0)), abs=0.1)
            assert float(of_row.mean()) < float(joint.logsumexp(0))
            if levels == 1:
                q = torch.sigmoid(model.posterior_sample(row[None], False).logits[0, :4])
                log_q = torch.distributions.Bernoulli(q).log_prob(free_bits(model)).sum(1).double()
                elbo = (log_q.exp() * (joint - log_q)).sum()
                assert float(of_row.mean()) == pytest.approx(float(elbo), abs=5 * float(of_row.std()) / DRAWS**0.5)


@pytest.mark.parametrize("graph", ["rbm", "complete"])
def test_energy_entropy_and_guess_of_given_classes_are_exact(graph):
    model = labelled({} if graph == "rbm" else {"graph": graph, "sizes": [4]})
    x, words = torch.rand(2, 6).round(), words_of(model, [5, 3])
    found = surrogate(model, x, torch.Generator().manual_seed(0), words=words)
    logits = model.posterior_sample(x, False).logits
    q, guessed = torch.sigmoid(logits[:, :4]), torch.distributions.Bernoulli(logits=logits[:, 4:])
    bits = free_bits(model)
    for row, word in enumerate(words):
        p = torch.distributions.Bernoulli(q[row]).log_prob(bits).sum(1).exp()
        energies = model.prior.hamiltonian().energy(2 * torch.cat([bits, word.expand(16, -1)], 1) - 1)
        torch.testing.assert_close(found.energy[row], (p * energies).sum())
        torch.testing.assert_close(found.entropy[row], torch.distributions.Bernoulli(q[row]).entropy().sum())
    torch.testing.assert_close(found.guess, guessed.log_prob(words).sum(1))
    parts = -(found.log_likelihood - 0.5 * (found.energy - found.entropy) + found.guess).mean()
    torch.testing.assert_close(found.loss(0.5), parts)


def test_between_levels_the_energy_of_given_classes_is_right_on_average():
    model = labelled(levels=2, relaxation="overlapping")
    x, words = torch.rand(1, 6).round(), words_of(model, [5])
    generator, draws = torch.Generator().manual_seed(0), 4000
    with torch.no_grad():
        code = model.posterior_sample(x, True, generator, draws, words)
        found = expected_energy(model, model.prior.hamiltonian(), code)
        bits = model.labels.told(model.posterior_sample(x, True, generator, draws), words.expand(draws, -1))
        drawn = torch.cat([torch.bernoulli(torch.sigmoid(bits.logits[:, 2:])), words.expand(draws, -1)], 1)[:, :2]
        # The first level's spins are drawn given what the second saw of them.
        first = torch.bernoulli(model.relaxation.bit_mean(bits.logits, bits.latents)[:, :2], generator=generator)
        energies = model.prior.hamiltonian().energy(2 * torch.cat([first, drawn, words.expand(draws, -1)], 1) - 1)
    error = math.hypot(float(found.std()), float(energies.std())) / draws**0.5
    assert float(found.mean()) == pytest.approx(float(energies.mean()), abs=4.5 * error)


def test_label_bits_of_generated_codes_are_not_smoothed():
    model = labelled()
    codes = torch.rand(50, 7).round()
    smoothed = model._smoothed(codes, torch.Generator().manual_seed(0))
    assert torch.equal(smoothed[:, 4:], codes[:, 4:])
    assert not bool((smoothed[:, :4] == codes[:, :4]).all())


@pytest.mark.parametrize(
    ("latent", "edges"),
    [
        ({"graph": "rbm", "sizes": [2, 3]}, list(itertools.product(range(2), range(2, 7)))),
        ({"graph": "complete", "sizes": [3]}, list(itertools.combinations(range(5), 2))),
        ({"graph": "edges", "sizes": [3], "edges": [(1, 2)]}, [(1, 2), *itertools.product(range(3), [3, 4]), (3, 4)]),
    ],
)
def test_label_units_are_the_last_spins_of_the_graph(latent, edges):
    found = make_graph(ModelConfig(latent=latent | {"label_units": "binary"}).latent, 2).edges
    assert sorted(map(tuple, found.tolist())) == sorted(edges)


def test_what_does_not_go_with_label_units_is_refused():
    blank = Statistics.blank((6,))
    for latent, reason in (
        ({"graph": "chimera", "sizes": [1]}, "has no couplers from them to all others; take rbm"),
        ({"gamma": 1.0, "train_gamma": True}, "can only be held without a transverse field"),
    ):
        with pytest.raises(ValueError, match=reason):
            ModelConfig(latent=latent | {"label_units": "one-hot"})
    circuit = {"kind": "vqvae", "variant": "discrete", "circuit": {"qubits": 3}}
    with pytest.raises(ValueError, match=r"latent.label_units is set, but isn't of a model of kind vqvae"):
        ModelConfig(**circuit, latent={"graph": "complete", "sizes": [3], "label_units": "binary"})
    with pytest.raises(ValueError, match="there are no labels of the training rows"):
        QVAE.from_config(ModelConfig(latent={"label_units": "one-hot"}), blank)
    with pytest.raises(CapabilityError, match="there is no class 4: "):
        labelled().generate(2, load_sampler("exact"), label=4)
    with pytest.raises(CapabilityError, match=r"no label units to hold; train with model.latent.label_units"):
        QVAE.from_config(ModelConfig(), blank).generate(2, load_sampler("gibbs"), label=4)
