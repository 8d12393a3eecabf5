"""Latents given what was seen of a row, z ~ p(z | seen): importance resampling of proposals, then a Markov chain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from qvae.applications.observation import Observation
from qvae.errors import CapabilityError
from qvae.evaluation.log_terms import LogPrior
from qvae.models.autoencoder import Autoencoder
from qvae.models.prior import boltzmann_prior
from qvae.sampling.conditional import sample_given
from qvae.sampling.sampler import LatentSampler

_TURNS = 100  # of a slice's bracket, which shrinks by a half on average: more than float32 tells apart
_PULL = 0.5  # of the fields that would be right for uncoupled spins; couplings pull, too
_LEAST = 0.02  # probability of a bit, for its field
_SETTLING = 0.5  # part of a chain that is left out of its means


class Target:
    """log p(z) + log p(seen | z) of latents of B rows, K of each.

    Args:
        model: in evaluation mode.
        observation: of B rows.
        log_prior: log p(z) of latents (N, n), float64; None where only what the decoder says is asked for.
    """

    def __init__(self, model: Autoencoder, observation: Observation, log_prior: LogPrior | None) -> None:
        self.model, self.observation, self.log_prior = model, observation, log_prior

    def output(self, latents: Tensor) -> Tensor:
        """The decoder's of latents (B, K, n), (B, K, outputs * D)."""
        return self.model.decoder(latents.flatten(0, 1)).flatten(1).float().unflatten(0, latents.shape[:2])

    def means(self, latents: Tensor) -> Tensor:
        """Of p(x|z), which agree with what was seen, (B, K, D)."""
        return self.observation.completed(self.model.likelihood.mean(self.output(latents)))

    def seen(self, latents: Tensor) -> Tensor:
        """log p(seen | z) of latents (B, K, n), float64, (B, K)."""
        return self.observation.log_prob(self.output(latents)).double()

    def __call__(self, latents: Tensor) -> Tensor:
        assert self.log_prior is not None
        return self.seen(latents) + self.log_prior(latents.flatten(0, 1)).view(latents.shape[:2])

    def with_gradient(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Values (B, K), and their gradients with respect to the latents (B, K, n)."""
        with torch.enable_grad():
            free = latents.detach().requires_grad_()
            values = self(free)
            (gradient,) = torch.autograd.grad(values.sum(), free)
        return values.detach(), gradient


@dataclass(frozen=True)
class Conditioned:
    """Draws of p(z | seen), and moments of p(x | z) over more draws than are kept.

    Attributes:
        latents: (B, M, n).
        completions: means of p(x|z) of these, with what was seen kept, (B, M, D).
        mean: E[x | seen], (B, D): the guess of least squared error.
        spread: standard deviation over z of the mean of p(x|z), (B, D).
        effective_size: of the importance weights, (B,): near 1 where the encoder's proposals were of little use.
    """

    latents: Tensor
    completions: Tensor
    mean: Tensor
    spread: Tensor
    effective_size: Tensor


@torch.no_grad()
def condition(
    target: Target,
    completions: int,
    generator: torch.Generator,
    draws: int = 256,
    rounds: int | None = None,
    steps: int = 100,
    sampler: LatentSampler | None = None,
) -> Conditioned:
    """Draws of p(z | seen).

    First ``rounds`` times ``draws`` proposals of the encoder are weighted (:func:`proposals`), or ``draws`` of a sampler
    (:func:`sampled_proposals`), and completions resampled from these. Then each goes on as a Markov chain of ``steps``: of bits
    :func:`gibbs_steps`, of real latents :func:`slice_steps`. Both leave p(z | seen) as it is, so that longer chains mend what
    the proposals missed.

    Args:
        target: log p(z, seen).
        completions: M.
        generator: on the model's device.
        draws: K, of each round.
        rounds: 1 or more; as many as the observation wants, if left out.
        steps: of each chain.
        sampler: of a Boltzmann prior, to draw proposals from it in place of the encoder's.

    Raises:
        CapabilityError: a sampler is given, but the prior is no classical Boltzmann machine.
    """
    if sampler is None:
        latents, log_weights = proposals(target, draws, rounds or target.observation.rounds, generator)
    else:
        latents, log_weights = sampled_proposals(target, draws, sampler, generator)
    weights = log_weights.softmax(1)
    size = 1 / weights.square().sum(1)
    chosen = resampled(latents, weights, completions, generator)
    if not steps:
        mean, square = _moments(target, latents, weights)
        return Conditioned(chosen, target.means(chosen), mean, _spread(mean, square), size)
    walk = gibbs_steps if target.model.latents_are_bits else slice_steps
    sums = None
    counted, every = 0, max(1, steps // 20)
    for done in range(0, steps, every):
        chosen = walk(target, chosen, min(every, steps - done), generator)
        if done + every > _SETTLING * steps:
            found = _moments(target, chosen, chosen.new_full(chosen.shape[:2], 1 / completions))
            sums = found if sums is None else (sums[0] + found[0], sums[1] + found[1])
            counted += 1
    assert sums is not None
    mean, square = sums[0] / counted, sums[1] / counted
    return Conditioned(chosen, target.means(chosen), mean, _spread(mean, square), size)


@torch.no_grad()
def taken_on_trust(target: Target, completions: int, generator: torch.Generator, draws: int = 256) -> Conditioned:
    """Draws of q(z | what was seen), unweighed: for an encoder that was trained to see such rows (``training.corruption``).

    Args:
        target: whose log p(z) isn't asked for.
        completions: M.
        generator: on the model's device.
        draws: of which the moments are taken.
    """
    draws = max(draws, completions)
    code = target.model.posterior_sample(target.observation.picture(), relaxed=False, generator=generator, draws=draws)
    latents = code.latents.unflatten(0, (-1, draws))
    mean, square = _moments(target, latents, latents.new_full(latents.shape[:2], 1 / draws))
    chosen = latents[:, :completions]
    size = latents.new_full(latents.shape[:1], draws)
    return Conditioned(chosen, target.means(chosen), mean, _spread(mean, square), size)


def proposals(target: Target, draws: int, rounds: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weighted draws of the encoder: latents (B, rounds K, n), log p(z, seen) - log q(z), float64, (B, rounds K).

    The first round encodes what was seen, completed by a blurred average. Each further one resamples the draws so far,
    completes what was seen by the means of p(x|z) of each, and encodes these (population Monte Carlo, Cappé et al. 2004). Every
    weight is right for the proposal that its draw came from, so all rounds count alike. Many rounds of few draws find more than
    few of many.
    """
    latents, log_weights = _proposed(target, _first_guess(target, generator), draws, generator)
    for _ in range(rounds - 1):
        chosen = resampled(latents, log_weights.softmax(1), draws, generator)
        more, their_weights = _proposed(target, target.means(chosen), 1, generator)
        latents, log_weights = torch.cat([latents, more], 1), torch.cat([log_weights, their_weights], 1)
    return latents, log_weights


def sampled_proposals(
    target: Target, draws: int, sampler: LatentSampler, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Weighted draws of the prior itself, biased towards what was seen: latents (B, K, n), log-weights, float64, (B, K).

    For each row fields b are added that pull spins halfway from the prior's means to those of the row's code, and the weights
    take them off again: p(z | seen) / [p(z) exp(-b . s)] = p(seen | z) exp(b . s). As p(z) cancels, it needn't be known.

    Raises:
        CapabilityError: the prior is no Boltzmann machine, or has a transverse field, with which b can't be taken off.
        SamplerError: the sampler fails.
    """
    hamiltonian = boltzmann_prior(target.model).frozen()
    if hamiltonian.is_quantum:
        raise CapabilityError("fields on a prior with a transverse field can't be weighed out again; leave the sampler out.")
    usual = _logits((1 + sampler.moments(hamiltonian, draws).spins) / 2)
    codes = target.model.code_means(_first_guess(target, generator).squeeze(1), generator)
    fields = _PULL * (usual - _logits(codes)) / 2
    spins = torch.stack([
        sample_given(sampler, hamiltonian, draws, fields=own).equal_weights(generator).spins.to(fields) for own in fields
    ])  # fmt: skip
    latents = (1 + spins) / 2
    return latents, target.seen(latents) + (spins @ fields.unsqueeze(2)).squeeze(2).double()


def _first_guess(target: Target, generator: torch.Generator) -> Tensor:
    """What was seen, completed by what the decoder makes of bits half-way, or of real latents at 0, (B, 1, D)."""
    codes = target.model.code_means(target.observation.picture(), generator)
    return target.means(torch.full_like(codes, 0.5 if target.model.latents_are_bits else 0.0).unsqueeze(1))


def _logits(p: Tensor) -> Tensor:
    """Of probabilities that are taken to be less than sure, so that no field is without end."""
    return torch.logit(p.clamp(_LEAST, 1 - _LEAST))


def _proposed(target: Target, rows: Tensor, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``draws`` latents of each of the rows (B, R, D), (B, R K, n), and their log-weights."""
    code = target.model.posterior_sample(rows.flatten(0, 1), relaxed=False, generator=generator, draws=draws)
    latents = code.latents.unflatten(0, (len(rows), -1))
    return latents, target(latents) - code.log_prob().double().view(latents.shape[:2])


def resampled(latents: Tensor, weights: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """``number`` of each row's latents (B, K, n), drawn in proportion to weights (B, K), (B, number, n)."""
    places = torch.multinomial(weights, number, replacement=True, generator=generator)
    return latents.gather(1, places.unsqueeze(2).expand(-1, -1, latents.shape[2]))


def gibbs_steps(target: Target, bits: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """Single bits flipped, those first that the gradient says matter: Gibbs with gradients (Grathwohl et al. 2021).

    Bit i is proposed with probability softmax_i(d_i / 2), d_i = (1 - 2 z_i) df/dz_i a first-order guess of what its flip does
    to f = log p(z, seen), and accepted by Metropolis and Hastings' rule. arXiv:2102.04509

    Args:
        target: f.
        bits: (B, K, n), of as many chains.
        steps: proposals of each chain.
        generator: on their device.
    """
    value, gradient = target.with_gradient(bits)
    forward = _flip_log_probs(bits, gradient)
    for _ in range(steps):
        place = torch.multinomial(forward.exp().flatten(0, 1), 1, generator=generator).view(*bits.shape[:2], 1)
        flipped = bits.scatter(2, place, 1 - bits.gather(2, place))
        its_value, its_gradient = target.with_gradient(flipped)
        backward = _flip_log_probs(flipped, its_gradient)
        log_ratio = its_value - value + (backward.gather(2, place) - forward.gather(2, place)).squeeze(2)
        accepted = torch.rand(value.shape, generator=generator, device=bits.device).log() < log_ratio
        bits = torch.where(accepted.unsqueeze(2), flipped, bits)
        value = torch.where(accepted, its_value, value)
        forward = torch.where(accepted.unsqueeze(2), backward, forward)
    return bits


def _flip_log_probs(bits: Tensor, gradient: Tensor) -> Tensor:
    return ((1 - 2 * bits) * gradient / 2).log_softmax(2)


def slice_steps(target: Target, latents: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """Elliptical slice sampling of real latents (B, K, n) under their prior Normal(0, 1) (Murray, Adams and MacKay 2010).

    A point is sought on the ellipse through the latents and a draw of the prior, whose p(seen | z) is above a random part of
    what it is now; a bracket of angles shrinks towards the start until one is found. Nothing is to be tuned. arXiv:1001.0175
    """
    shape, device = latents.shape[:2], latents.device

    def uniform() -> Tensor:
        return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)

    value = target.seen(latents)
    for _ in range(steps):
        other = torch.randn(latents.shape, generator=generator, device=device)
        least = value + uniform().log()
        angle = 2 * math.pi * uniform()
        low, high = angle - 2 * math.pi, angle.clone()
        start, found = latents, torch.zeros(shape, dtype=torch.bool, device=device)
        for _ in range(_TURNS):
            turn = angle.to(start).unsqueeze(2)
            moved = start * turn.cos() + other * turn.sin()
            its_value = target.seen(moved)
            new = ~found & (its_value > least)
            latents = torch.where(new.unsqueeze(2), moved, latents)
            value = torch.where(new, its_value, value)
            found |= new
            if bool(found.all()):
                break
            low, high = torch.where(angle < 0, angle, low), torch.where(angle >= 0, angle, high)
            angle = torch.where(found, angle, low + (high - low) * uniform())
    return latents


def _moments(target: Target, latents: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean of completed rows and of their squares, (B, D) both."""
    means, weights = target.means(latents), weights.to(latents).unsqueeze(2)
    return (weights * means).sum(1), (weights * means.square()).sum(1)


def _spread(mean: Tensor, square: Tensor) -> Tensor:
    return (square - mean.square()).clamp_min(0).sqrt()
