"""How good samples are: distances to the exact distribution, effective temperature, and mixing of chains."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from qvae.ising.exact import ExactDistribution, state_numbers
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.sampler import Moments, Samples

# Distance to the exact distribution -----------------------------------------------------------------------------------


def total_variation(samples: Samples | Tensor, distribution: ExactDistribution) -> float:
    """(1/2) sum_s |p_hat(s) - p(s)| of the empirical distribution; see :func:`expected_total_variation` for its size.

    Args:
        samples: of a sampler, or its spins (num_samples, n).
        distribution: exact, of the same n.
    """
    return 0.5 * float((_frequencies(samples, distribution) - distribution.probabilities).abs().sum())


def expected_total_variation(distribution: ExactDistribution, num_samples: float) -> float:
    """The mean total variation of ``num_samples`` independent perfect samples, (1/2) sum_s E|X_s/N - p_s|.

    X_s is binomial, and E|X - Np| = 2 k C(N, k) p^k (1-p)^(N-k+1) with k = floor(Np) + 1 (de Moivre 1730). For large N p it
    approaches (1/2) sum_s sqrt(2 p_s (1 - p_s) / (pi N)).
    """
    n = torch.tensor(float(num_samples), dtype=torch.float64)
    p = distribution.probabilities.double().cpu()
    p = p[(p > 0) & (p < 1)]
    k = (n * p).floor().add(1).clamp(max=n)
    log_choose = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    log_mean = math.log(2) + k.log() + log_choose + k * p.log() + (n - k + 1) * torch.log1p(-p)
    return 0.5 * float(log_mean.exp().sum() / n)


def kl_to_exact(samples: Samples | Tensor, distribution: ExactDistribution) -> float:
    """KL(p_hat || p) = sum_s p_hat(s) log[p_hat(s) / p(s)] in nats, with observed frequencies put in for p_hat.

    This plug-in estimate is above 0 for perfect samples, too, by :func:`expected_kl`.
    """
    p_hat = _frequencies(samples, distribution)
    return float((torch.special.xlogy(p_hat, p_hat) - torch.special.xlogy(p_hat, distribution.probabilities)).sum())


def expected_kl(distribution: ExactDistribution, num_samples: float) -> float:
    """The mean of :func:`kl_to_exact` for N = ``num_samples`` independent perfect samples, in nats.

    It is (1/N) [sum_s g(N p_s) - 1/2], g(x) = E[X log X] - x log x with X Poisson of mean x, and approaches the familiar
    (2^n - 1) / 2N where every state is seen often (Miller 1955). States too rare to be seen add less.
    """
    mean = (float(num_samples) * distribution.probabilities.double().cpu()).clamp(min=1e-300)
    counts = torch.arange(2.0, 120.0, dtype=torch.float64).unsqueeze(1)
    total = 0.0
    for x in mean.split(2**14):
        small = x[x < 40]
        log_weight = counts * small.log() - small - torch.lgamma(counts + 1)
        total += float((log_weight.exp() * counts * counts.log()).sum() - torch.special.xlogy(small, small).sum())
        large = x[x >= 40]
        total += float((0.5 + 1 / (12 * large) + 1 / (12 * large**2)).sum())
    return (total - 0.5) / num_samples


def _frequencies(samples: Samples | Tensor, distribution: ExactDistribution) -> Tensor:
    """Weighted share of every state among the samples, (2**n,), float64."""
    spins, weights = _unpack(samples)
    spins = spins.to(distribution.probabilities.device)
    return torch.bincount(state_numbers(spins > 0), weights.to(spins.device), minlength=len(distribution.probabilities))


def _unpack(samples: Samples | Tensor) -> tuple[Tensor, Tensor]:
    """Spins (num_samples, n) and weights (num_samples,) that sum to 1, float64."""
    if isinstance(samples, Tensor):
        samples = Samples(samples)
    if samples.weights is None:
        return samples.spins, torch.full((len(samples),), 1 / len(samples), dtype=torch.float64, device=samples.spins.device)
    return samples.spins, samples.weights.double()


# Moments --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MomentError:
    """Root mean squares over spins and over pairs, each beside what independent perfect samples would show.

    Attributes:
        spins: of <s_i>_hat - <s_i>.
        expected_spins: sqrt of the mean of (1 - <s_i>^2) / N.
        pairs: of <s_i s_j>_hat - <s_i s_j> over the edges; 0 if there are none.
        expected_pairs: sqrt of the mean of (1 - <s_i s_j>^2) / N.
    """

    spins: float
    expected_spins: float
    pairs: float
    expected_pairs: float


def moment_error(found: Moments, reference: Moments, num_samples: int) -> MomentError:
    """The error of moments from N = ``num_samples`` samples (:meth:`Moments.from_samples`) against exact ones."""
    errors = []
    for mine, exact in ((found.spins, reference.spins), (found.pairs, reference.pairs)):
        exact = exact.double()
        squares, expected = (mine.to(exact) - exact) ** 2, (1 - exact**2) / num_samples
        errors += [_root_mean(squares), _root_mean(expected)]
    return MomentError(*errors)


def _root_mean(squares: Tensor) -> float:
    return math.sqrt(max(0.0, float(squares.mean()))) if squares.numel() else 0.0


# Temperature ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    stderr: float


def effective_beta(samples: Samples | Tensor, hamiltonian: IsingHamiltonian) -> Estimate:
    """The inverse temperature at which the samples are most likely, 1 for a perfect sampler, by pseudo-likelihood.

    It maximises sum_r w_r sum_i log sigmoid(-2 beta s_i f_i), f_i = dE/ds_i being the field on spin i of sample r: the
    likelihood of each spin given the others (Besag 1975; for annealers, Raymond et al. 2016, arXiv:1606.00919). It is
    concave in beta and is solved by Newton's method. The standard error is the sandwich estimate for independent samples,
    since spins of one sample depend on each other.

    Args:
        samples: of a sampler, or its spins (num_samples, n).
        hamiltonian: that they were drawn for.

    Returns:
        NaN where the samples say nothing: no spin feels a field, or there is a transverse field, under which the
        z basis has no such conditionals. Infinite, of either sign, where no spin ever stands against its field, or with it.
    """
    spins, weights = _unpack(samples)
    x = _alignments(spins, hamiltonian)
    scale = float(x.abs().max()) if x.numel() else 0.0
    if hamiltonian.is_quantum or scale == 0.0:
        return Estimate(math.nan, math.nan)
    if bool((x >= 0).all()) or bool((x <= 0).all()):
        return Estimate(math.copysign(math.inf, float(x.sum())), math.nan)
    x, weights = x / scale, weights.to(x.device)

    def derivatives(beta: float) -> tuple[Tensor, float, float]:
        against = torch.sigmoid(-beta * x)
        scores = (x * against).sum(1)
        return scores, float(weights @ scores), float(weights @ (x**2 * against * (1 - against)).sum(1))

    # A concave function's maximum stays between the bounds, which catch Newton's overshoot.
    beta, low, high = 0.0, -math.inf, math.inf
    for _ in range(100):
        scores, slope, curvature = derivatives(beta)
        low, high = (beta, high) if slope > 0 else (low, beta)
        step = slope / curvature if curvature > 0 else math.copysign(math.inf, slope)
        trust = 2.0 + 2.0 * abs(beta)
        following = beta + max(-trust, min(trust, step))
        if not low <= following <= high:
            following = (low + high) / 2
        if abs(following - beta) <= 1e-10 * (1 + abs(beta)):
            break
        beta = following
    stderr = math.sqrt(float((weights**2) @ (scores**2))) / curvature if curvature > 0 else math.inf
    return Estimate(beta / scale, stderr / scale)


def _alignments(spins: Tensor, hamiltonian: IsingHamiltonian) -> Tensor:
    """-2 s_i dE/ds_i: log p(s_i | rest) - log p(-s_i | rest) at beta = 1, (num_samples, n), float64."""
    exact = hamiltonian.detach().to(dtype=torch.float64)
    s = spins.to(exact.h)
    return -2 * s * exact.local_fields(s)


# Chains ---------------------------------------------------------------------------------------------------------------


def effective_sample_size(chains: Tensor) -> float:
    """How many independent samples have the same error of the mean as all draws of these chains.

    N M / tau with tau = 1 + 2 sum_t rho_t, where the autocorrelation rho_t combines all chains and the sum ends by Geyer's
    initial monotone sequence (Geyer 1992; Vehtari et al. 2021, arXiv:1903.08008, equations 10-13).

    Args:
        chains: a scalar function of the state, such as the energy, (draws, chains), in the order it was drawn.

    Returns:
        Above N M for anticorrelated draws; NaN if all values are equal or there are fewer than 4 draws.
    """
    x = _columns(chains)
    draws, num = x.shape
    if draws < 4 or bool((x == x[0, 0]).all()):
        return math.nan
    centred = x - x.mean(0)
    spectrum = torch.fft.rfft(centred, n=2 * draws, dim=0).abs() ** 2
    covariance = torch.fft.irfft(spectrum, n=2 * draws, dim=0)[:draws] / draws
    within = float(covariance[0].mean()) * draws / (draws - 1)
    pooled = within * (draws - 1) / draws + (float(x.mean(0).var()) if num > 1 else 0.0)
    rho = 1 - (within - covariance.mean(1) * draws / (draws - 1)) / pooled
    rho[0] = 1.0
    pairs = rho[: draws // 2 * 2].view(-1, 2).sum(1)
    negative = torch.nonzero(pairs < 0)
    end = int(negative[0]) if len(negative) else len(pairs)
    tau = -1 + 2 * float(pairs[:end].cummin(0).values.sum())
    # Vehtari's bound: strongly anticorrelated draws would otherwise claim any number.
    return draws * num / max(tau, 1 / math.log10(draws * num))


def r_hat(chains: Tensor) -> float:
    """Split R-hat: how much wider all chains together are than each half of one, near 1 if they have mixed.

    sqrt[((N-1)/N W + B/N) / W] over halves of chains, W being their mean variance and B/N the variance of their means
    (Gelman and Rubin 1992; split as in Vehtari et al. 2021, arXiv:1903.08008, without rank normalization).

    Args:
        chains: a scalar function of the state, such as the energy, (draws, chains), in the order it was drawn.

    Returns:
        Infinite if halves stand still at different values; NaN if all values are equal or there are fewer than 4 draws.
    """
    x = _columns(chains)
    half = len(x) // 2
    if half < 2 or bool((x == x[0, 0]).all()):
        return math.nan
    halves = torch.cat([x[:half], x[-half:]], dim=1)
    within, between = float(halves.var(0).mean()), float(halves.mean(0).var())
    return math.sqrt((half - 1) / half + between / within) if within > 0 else math.inf


def _columns(chains: Tensor) -> Tensor:
    x = torch.as_tensor(chains).detach().double()
    if x.ndim != 2:
        raise ValueError(f"chains must have shape (draws, chains), but have {tuple(x.shape)}")
    return x
