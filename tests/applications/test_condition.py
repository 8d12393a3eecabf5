"""Draws given what was seen, against p(z | seen) by enumeration, and of real latents against a closed form."""

import math
from types import SimpleNamespace

import pytest
import torch
from enumerated import all_bits, small_model
from torch import nn

from qvae import load_sampler
from qvae.applications import condition as module
from qvae.applications.condition import (
    Target,
    condition,
    gibbs_steps,
    proposals,
    sampled_proposals,
    slice_steps,
    taken_on_trust,
)
from qvae.applications.observation import Flipped, Noisy, PartlyHidden, Pooled
from qvae.errors import CapabilityError
from qvae.evaluation.likelihood import prior_log_partition
from qvae.evaluation.log_terms import log_diagonal_table, log_prior_of
from qvae.ising.exact import state_numbers
from qvae.models.gaussian import GaussianPosterior, NormalPrior
from qvae.models.likelihoods.gaussian import Gaussian
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.vqvae import VQVAE

X = (torch.rand(2, 6, generator=torch.Generator().manual_seed(1)) < 0.4).float()
HIDDEN = torch.tensor([[True, True, False, True, False, False], [False, True, True, False, True, True]])
OBSERVATIONS = {
    "hidden": lambda likelihood: PartlyHidden(likelihood, X, HIDDEN),
    "flipped": lambda likelihood: Flipped(likelihood, X, 0.2, 0.5),
    "noisy": lambda likelihood: Noisy(likelihood, X + 0.1, 0.4),
    "pooled": lambda likelihood: Pooled(likelihood, X, 1, (2, 3)),
}


def target_of(model, name="hidden"):
    hamiltonian = model.prior.frozen()
    log_z = prior_log_partition(hamiltonian, 2, 2, 0)
    density = log_prior_of(model, log_z, log_diagonal_table(hamiltonian))
    return Target(model, OBSERVATIONS[name](model.likelihood), density)


@torch.no_grad()
def exact(target):
    """p(z | seen) of all latents, (2, 2^n), float64."""
    return target(all_bits().expand(2, -1, -1)).softmax(1)


def frequencies(latents):
    return torch.stack([torch.bincount(states, minlength=64) for states in state_numbers(latents)]).double()


def require_distribution(counts, p):
    """Chi-squared of counts (64,) of independent draws, in standard deviations of its own, with rare states taken together."""
    number, common = counts.sum(), p * counts.sum() > 5
    expected = torch.cat([p[common], p[~common].sum(None, True)]) * number
    observed = torch.cat([counts[common], counts[~common].sum(None, True)])
    statistic = ((observed - expected) ** 2 / expected.clamp_min(1e-9))[expected > 0].sum()
    freedom = len(expected) - 1
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("name", OBSERVATIONS)
@torch.no_grad()
def test_weighted_proposals_have_the_exact_distribution(name):
    target = target_of(small_model(levels=2), name)
    latents, log_weights = proposals(target, 20_000, 3, torch.Generator().manual_seed(0))
    weights, states, p = log_weights.softmax(1), state_numbers(latents), exact(target)
    for row in range(2):
        found = torch.zeros(64, dtype=torch.float64).index_add_(0, states[row], weights[row])
        # The variance of a self-normalised weighted mean of the indicator of each state.
        hit = torch.nn.functional.one_hot(states[row], 64).double()
        error = (weights[row][:, None] ** 2 * (hit - p[row]) ** 2).sum(0).sqrt()
        assert ((found - p[row]).abs() < 5 * error + 1e-3).all()
        # and the mean weight is p(seen): that of all rows of the model, up to the observation's own constant
        evidence = target(all_bits().expand(2, -1, -1)).logsumexp(1)[row]
        ratio = (log_weights[row] - evidence).exp()
        assert float(ratio.mean()) == pytest.approx(1, abs=5 * float(ratio.std()) / len(ratio) ** 0.5)


@pytest.mark.parametrize("name", ["exact", "gibbs", "dimod"])
@torch.no_grad()
def test_a_sampler_s_proposals_have_the_exact_distribution(name):
    target = target_of(small_model())
    sampler = load_sampler(name, seed=0)
    latents, log_weights = sampled_proposals(target, 4000, sampler, torch.Generator().manual_seed(0))
    weights, states, p = log_weights.softmax(1), state_numbers(latents), exact(target)
    for row in range(2):
        hit = torch.nn.functional.one_hot(states[row], 64).double()
        error = (weights[row][:, None] ** 2 * (hit - p[row]) ** 2).sum(0).sqrt()
        found = (weights[row][:, None] * hit).sum(0)
        assert ((found - p[row]).abs() < 5 * error + 2e-3).all()


def test_samplers_are_refused_where_fields_can_t_be_weighed_out():
    with pytest.raises(CapabilityError, match="transverse field"):
        sampled_proposals(target_of(small_model(gamma=0.8)), 10, load_sampler("exact"), torch.Generator())


@pytest.mark.parametrize("gamma", [0.0, 0.8], ids=["classical", "quantum"])
def test_gibbs_steps_lead_from_any_bits_to_the_exact_distribution(gamma):
    target = target_of(small_model(gamma=gamma))
    start = torch.zeros(2, 4000, 6)
    found = gibbs_steps(target, start, 60, torch.Generator().manual_seed(0))
    for counts, p in zip(frequencies(found), exact(target), strict=True):
        require_distribution(counts, p)
    with pytest.raises(AssertionError):  # from which it was far
        require_distribution(frequencies(start)[0], exact(target)[0])


@torch.no_grad()
def test_a_chain_that_stays_proposes_from_where_it_is():
    """Where a flip changes all slopes, proposals from the state that was refused would be others."""
    z = torch.cartesian_prod(*3 * [torch.tensor([0.0, 1.0])])
    couplings = torch.tensor([[0.0, 2.0, -2.0], [2.0, 0.0, 2.0], [-2.0, 2.0, 0.0]])

    class Coupled:
        def with_gradient(self, bits):
            slopes = bits @ couplings
            return (slopes * bits).sum(-1).double() / 2, slopes

    start = z[torch.arange(20_000) % 8].unsqueeze(0)
    found = gibbs_steps(Coupled(), start, 30, torch.Generator().manual_seed(0))
    p = Coupled().with_gradient(z)[0].softmax(0)
    counts = torch.bincount(state_numbers(found.flip(2).flatten(0, 1)), minlength=8) / 20_000
    assert float((counts - p).abs().max()) < 0.012


@pytest.mark.parametrize("steps", [0, 30])
def test_completions_and_their_moments_are_exact(steps):
    target = target_of(small_model())
    found = condition(target, 3000, torch.Generator().manual_seed(0), draws=3000, steps=steps)
    p = exact(target)
    with torch.no_grad():
        means = target.means(all_bits().expand(2, -1, -1))
        expected = (p.float().unsqueeze(2) * means).sum(1)
        spread = ((p.float().unsqueeze(2) * means.square()).sum(1) - expected.square()).clamp_min(0).sqrt()
    size = found.effective_size.clamp(max=3000).float().sqrt().unsqueeze(1)
    assert ((found.mean - expected).abs() <= 5 * spread / size + 1e-6).all()
    assert ((found.spread - spread).abs() <= 5 * spread / size + 1e-3).all()
    assert (found.spread[~HIDDEN] < 1e-3).all()  # what was seen is kept
    assert (found.effective_size > 100).all()


def test_real_latents_have_the_distribution_of_a_linear_model():
    """x = W u + noise, of which half is seen: p(u | seen) is normal, with known moments."""
    torch.manual_seed(0)
    decoder, encoder = nn.Linear(2, 6), nn.Identity()
    likelihood = Gaussian(Statistics.blank((6,)))
    model = VQVAE(encoder, GaussianPosterior(6, 2), NormalPrior(2), decoder, likelihood).eval()
    with torch.no_grad():
        likelihood.log_variance.fill_(-1.0)
        decoder.weight.mul_(2)
    x = torch.randn(2, 6)
    target = Target(model, PartlyHidden(likelihood, x, HIDDEN), lambda u: model.prior.log_prob(u.double()))
    found = condition(target, 4000, torch.Generator().manual_seed(0), draws=500, steps=20).latents
    variance = float(likelihood.variance.detach())
    for row in range(2):
        seen = ~HIDDEN[row]
        W, b = decoder.weight.detach()[seen], decoder.bias.detach()[seen]
        covariance = torch.linalg.inv(torch.eye(2) + W.T @ W / variance)
        mean = covariance @ W.T @ (x[row, seen] - b) / variance
        error = covariance.diagonal().sqrt() / 4000**0.5
        assert ((found[row].mean(0) - mean).abs() < 5 * error).all()
        spread = torch.cov(found[row].T)
        scale = torch.outer(covariance.diagonal(), covariance.diagonal()).sqrt()
        assert ((spread - covariance).abs() < 5 * scale * (2 / 4000) ** 0.5).all()
    far = slice_steps(target, torch.full((2, 4000, 2), 4.0), 40, torch.Generator().manual_seed(1))
    assert ((far.mean(1) - found.mean(1)).abs() < 0.1).all()


def test_holes_take_more_rounds_of_proposals_than_noise(monkeypatch):
    taken = []

    def counted(target, draws, rounds, generator):
        taken.append(rounds)
        return proposals(target, draws, 1, generator)

    monkeypatch.setattr("qvae.applications.condition.proposals", counted)
    for name in ("hidden", "flipped"):
        target = target_of(small_model(), name)
        condition(target, 2, torch.Generator().manual_seed(0), draws=4, steps=0)
        condition(target, 2, torch.Generator().manual_seed(0), draws=4, rounds=7, steps=0)
    assert taken == [30, 7, 10, 7]


def test_every_round_of_proposals_is_drawn_from_all_those_before(monkeypatch):
    target, drawn = target_of(small_model()), []
    whole = module.resampled

    def kept(latents, weights, number, generator):
        drawn.append((latents, weights, number))
        return whole(latents, weights, number, generator)

    monkeypatch.setattr(module, "resampled", kept)
    latents, log_weights = proposals(target, 5, 4, torch.Generator().manual_seed(0))
    assert (latents.shape, len(drawn)) == ((2, 20, 6), 3)
    for number, (before, weights, draws) in enumerate(drawn, 1):
        assert torch.equal(before, latents[:, : 5 * number])
        torch.testing.assert_close(weights, log_weights[:, : 5 * number].softmax(1))
        assert draws == 5


@pytest.mark.parametrize(("steps", "walks"), [(7, [1] * 7), (20, [1] * 20), (45, [2] * 22 + [1])])
@pytest.mark.parametrize("are_bits", [True, False])
def test_moments_are_those_of_the_second_half_of_chains(steps, walks, are_bits, monkeypatch):
    """After k steps, the two chains of a row stand at k and 2 k, and those of the other at 0 and -k."""
    asked = []

    def walk(target, latents, number, generator):
        asked.append(number)
        return latents + number * torch.tensor([[1.0, 2.0], [0.0, -1.0]]).unsqueeze(2)

    monkeypatch.setattr(module, "gibbs_steps" if are_bits else "slice_steps", walk)
    weights = torch.tensor([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]], dtype=torch.float64)
    monkeypatch.setattr(module, "proposals", lambda *given: (torch.zeros(2, 3, 1), weights.log()))
    target = SimpleNamespace(
        means=lambda latents: latents, model=SimpleNamespace(latents_are_bits=are_bits), observation=SimpleNamespace(rounds=1)
    )
    found = condition(target, 2, torch.Generator(), draws=3, steps=steps)
    assert asked == walks
    places = [sum(walks[: count + 1]) for count in range(len(walks))]
    late = torch.tensor([float(place) for place in places if place > steps / 2])
    for row, slopes in enumerate(((1, 2), (0, -1))):
        both = torch.cat([slope * late for slope in slopes])
        assert float(found.mean[row]) == pytest.approx(float(both.mean()))
        assert float(found.spread[row]) == pytest.approx(float(both.std(correction=0)), rel=1e-5)
    assert found.completions[:, :, 0].tolist() == [[steps, 2 * steps], [0, -steps]]
    assert found.effective_size.tolist() == pytest.approx([36 / 14, 3])


@torch.no_grad()
def test_an_encoder_that_is_trusted_has_the_moments_of_its_own_draws():
    model = small_model()
    target = target_of(model)
    target = Target(model, target.observation, None)
    logits = model.posterior.levels[0](model.encoder(target.observation.picture()))
    z = all_bits()
    q = (z * logits.unsqueeze(1) - torch.nn.functional.softplus(logits).unsqueeze(1)).sum(2).softmax(1).unsqueeze(2)
    means = target.means(z.expand(2, -1, -1))
    expected = (q * means).sum(1)
    spread = ((q * means.square()).sum(1) - expected.square()).clamp_min(0).sqrt()
    found = taken_on_trust(target, 3, torch.Generator().manual_seed(0), draws=4000)
    assert found.completions.shape == (2, 3, 6)
    torch.testing.assert_close(found.completions, target.means(found.latents))
    assert ((found.mean - expected).abs() <= 5 * spread / 4000**0.5 + 1e-6).all()
    assert ((found.spread - spread).abs() <= 5 * spread / 4000**0.5 + 1e-3).all()
    assert found.effective_size.tolist() == [4000.0, 4000.0]
    more = taken_on_trust(target, 7, torch.Generator().manual_seed(0), draws=2)  # which are as many as are asked for
    assert (more.completions.shape, more.effective_size.tolist()) == ((2, 7, 6), [7.0, 7.0])
    torch.testing.assert_close(more.mean, more.completions.mean(1))


def test_a_sampler_is_pulled_halfway_from_the_prior_to_each_row_s_code(monkeypatch):
    """By fields of independent spins, atanh(m) - atanh(m of the code), with no probability nearer to 0 or 1 than 0.02."""
    target, asked = target_of(small_model()), []
    usual = torch.tensor([0.5, 0.25, 0.9, 1.0, 0.5, 0.001])
    codes = torch.tensor([[0.5, 0.75, 0.2, 0.5, 1.0, 0.01], [0.1, 0.25, 0.9, 0.98, 0.0, 0.5]])
    target.model.code_means = lambda rows, generator: codes[: len(rows)]

    def given(sampler, hamiltonian, draws, fields):
        asked.append((draws, fields))
        spins = torch.where(torch.arange(draws * 6).view(draws, 6) % (2 + len(asked)) > 0, 1, -1)
        return SimpleNamespace(equal_weights=lambda generator: SimpleNamespace(spins=spins.to(torch.int8)))

    monkeypatch.setattr(module, "sample_given", given)
    counts = []
    sampler = SimpleNamespace(
        moments=lambda hamiltonian, draws: counts.append(draws) or SimpleNamespace(spins=2 * usual - 1)
    )
    with torch.no_grad():
        latents, log_weights = sampled_proposals(target, 4, sampler, torch.Generator())
        seen = target.seen(latents)
    assert counts == [4]
    for row, (draws, fields) in enumerate(asked):
        assert draws == 4
        means = [[min(max(float(p), 0.02), 0.98) for p in part] for part in (usual, codes[row])]
        expected = [(math.atanh(2 * p - 1) - math.atanh(2 * code - 1)) / 2 for p, code in zip(*means, strict=True)]
        assert fields.tolist() == pytest.approx(expected, abs=1e-5)
        for draw in range(4):
            pull = sum(field * (2 * bit - 1) for field, bit in zip(expected, latents[row, draw].tolist(), strict=True))
            assert float(log_weights[row, draw] - seen[row, draw]) == pytest.approx(pull, abs=1e-4)
    assert not torch.equal(latents[0], latents[1])


def test_flips_are_proposed_by_half_of_what_they_change_to_first_order():
    """Of f = 2 z_0 - 3 z_1 + z_2 at (1, 0, 0) flips change it by -2, -3 and +1."""
    bits = torch.tensor([[[1.0, 0.0, 0.0]]])
    found = module._flip_log_probs(bits, torch.tensor([[[2.0, -3.0, 1.0]]])).exp().flatten().tolist()
    odds = [math.exp(-1), math.exp(-1.5), math.exp(0.5)]
    assert found == pytest.approx([each / sum(odds) for each in odds])


def test_draws_are_taken_again_and_again_and_row_by_row():
    latents = torch.arange(12.0).view(2, 3, 2)
    weights = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
    found = module.resampled(latents, weights, 4, torch.Generator().manual_seed(0))
    assert found.tolist() == [[[2.0, 3.0]] * 4, [[10.0, 11.0]] * 4]


@pytest.mark.parametrize(("are_bits", "middle"), [(True, 0.5), (False, 0.0)])
def test_proposals_begin_at_what_latents_half_way_make_of_the_hidden(are_bits, middle):
    asked = []
    model = SimpleNamespace(latents_are_bits=are_bits, code_means=lambda rows, generator: torch.zeros(len(rows), 4))
    target = SimpleNamespace(
        model=model, observation=SimpleNamespace(picture=lambda: X), means=lambda latents: asked.append(latents) or latents
    )
    assert module._first_guess(target, torch.Generator()) is asked[0]
    assert asked[0].tolist() == [[[middle] * 4]] * 2


def test_a_bracket_of_angles_shrinks_to_the_start_from_either_side():
    """Every angle that is refused is the new end of its side; the thirteenth is taken."""
    start, moved = torch.tensor([[[1.0, 2.0]]]), []

    def seen(latents):
        moved.append(latents.flatten())
        return torch.full((1, 1), 0.0 if len(moved) in (1, 14) else -1e9, dtype=torch.float64)

    found = slice_steps(SimpleNamespace(seen=seen), start, 1, torch.Generator().manual_seed(0))
    other = torch.randn(2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found.flatten(), moved[-1])
    assert len(moved) == 14
    turns = torch.linalg.solve(torch.stack([start.flatten(), other], 1), torch.stack(moved[1:], 1))
    torch.testing.assert_close(turns.square().sum(0), torch.ones(13), atol=1e-4, rtol=0)  # cosines and sines
    first, *others = torch.atan2(turns[1], turns[0]).tolist()
    high = first % (2 * math.pi)
    low, sides = high - 2 * math.pi, set()
    ends = low, high
    for angle in others:
        angle = next(angle + shift for shift in (-2 * math.pi, 0, 2 * math.pi) if ends[0] < angle + shift < ends[1])
        assert low - 1e-4 < angle < high + 1e-4
        low, high = (angle, high) if angle < 0 else (low, angle)
        sides.add(angle < 0)
    assert sides == {True, False}
