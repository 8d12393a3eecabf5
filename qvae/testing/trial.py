"""One sampler on one problem after the other, with the exact distribution as the measure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qvae.errors import CapabilityError
from qvae.ising.exact import ExactDistribution, exact_distribution
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.abilities import Remote
from qvae.sampling.diagnostics import Estimate, effective_beta, effective_sample_size, expected_total_variation, total_variation
from qvae.sampling.sampler import LatentSampler, Moments, Samples, fault_of_moments, fault_of_samples
from qvae.testing.problems import Problem, small
from qvae.testing.results import Skipped, require

MAX_INFLATION = 5.0
"""Correlated rows are allowed for up to this factor between the number of samples and the effective number."""
EXACT_TOLERANCE = 1e-6
"""Largest error of the moments of a sampler that calls itself exact."""
BETA_TOLERANCE = 0.1
"""By which part the temperatures of two problems may differ, beyond their errors, where a sampler has one of its own."""
_WARM_UP_CALLS = 10  # for persistent chains, which may need few sweeps a call but some calls


def sampled(sampler: LatentSampler, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
    """Samples whose form is right, of a graph that is still as it was; fields and couplings are handed over as copies."""
    before = hamiltonian.edges.clone()
    samples = sampler.sample(hamiltonian, num_samples)
    require(torch.equal(before, hamiltonian.edges), "sample changed the Hamiltonian's edges")
    fault = fault_of_samples(samples, hamiltonian, num_samples, wait=True)
    require(fault is None, str(fault))
    return samples


def require_moments(found: Moments, hamiltonian: IsingHamiltonian) -> None:
    """Moments of the right form and type, all of them between -1 and 1."""
    fault = fault_of_moments(found, hamiltonian, wait=True)
    require(fault is None, str(fault))


@dataclass
class Trial:
    """One sampler on one problem after the other, as a user would call it.

    Attributes:
        log_level: minus the logarithm of the false-alarm probability of one test.
        efficiency: effective samples of each drawn one, by problem.
        betas: inverse temperatures at which problems are compared, where they are the sampler's own.
    """

    sampler: LatentSampler
    num_samples: int
    log_level: float
    efficiency: dict[str, float] = field(default_factory=dict)
    betas: dict[str, float] = field(default_factory=dict)

    def sign_convention(self) -> str:
        """A field h > 0 favours s = -1 at any temperature; so does an aligned coupling J > 0 opposite spins."""
        pair = IsingHamiltonian([1.0, 0.0], [(0, 1)], [1.0])
        if self.sampler.capabilities.excludes(2, quantum=False) is not None:
            pair = IsingHamiltonian([1.0], [], [])
        found = Moments.from_samples(sampled(self.sampler, pair, self.num_samples), pair)
        require(float(found.spins[0]) < 0, f"h = +1 makes <s> = {float(found.spins[0]):+.2f}, but E = h s favours s = -1")
        require(bool((found.pairs < 0).all()), "J = +1 makes <s_0 s_1> positive, but E = J s_0 s_1 favours opposite spins")
        return ""

    def temperature(self, cases: Sequence[Problem]) -> str:
        """A sampler of a temperature of its own has one, above 0, for all problems."""
        if self.sampler.capabilities.native_beta:
            raise Skipped("it says that it samples at beta = 1")
        found: dict[str, Estimate] = {}
        for problem in cases:
            if self._excluded(problem.hamiltonian) is None:
                samples = sampled(self.sampler, problem.hamiltonian, self.num_samples)
                beta = effective_beta(samples, problem.hamiltonian)
                if math.isfinite(beta.value) and 0 < beta.stderr < math.inf:
                    share = _effective_number(samples, problem.hamiltonian) / self.num_samples
                    found[problem.name] = Estimate(beta.value, beta.stderr / math.sqrt(share))
        require(bool(found), "no problem tells the temperature: no spin ever stands against its field, as after an optimizer")
        precision = sum(beta.stderr**-2 for beta in found.values())
        mean = sum(beta.value * beta.stderr**-2 for beta in found.values()) / precision
        require(mean > 0, f"the effective beta of all problems is {mean:.3f}, but must be above 0")
        # Some annealers' drifts a little: where the mean is beyond a problem's error bar, its own is the better guess.
        apart = {name: beta.value for name, beta in found.items() if abs(beta.value - mean) > 3 * beta.stderr}
        self.betas = {problem.name: apart.get(problem.name, mean) for problem in cases}
        for name, beta in found.items():
            allowed = BETA_TOLERANCE * mean + math.sqrt(2 * self.log_level) * beta.stderr
            text = f"effective beta {beta.value:.3f} ± {beta.stderr:.3f} of {name}, but {mean:.3f} of all problems"
            require(abs(beta.value - mean) <= allowed, f"{text}: one temperature for all is needed")
        return f"effective beta {mean:.3f} ± {precision**-0.5:.3f}"

    def distribution(self, problem: Problem) -> str:
        """Valid samples, from the exact distribution as far as that many of them can tell."""
        hamiltonian = problem.hamiltonian
        self._skip_excluded(hamiltonian)
        for _ in range(_WARM_UP_CALLS if self.sampler.capabilities.persistent else 0):
            self.sampler.sample(hamiltonian, self.num_samples)
        samples = sampled(self.sampler, hamiltonian, self.num_samples)
        beta = effective_beta(samples, hamiltonian)
        exact = exact_distribution(self._at_its_temperature(problem))
        effective = _effective_number(samples, hamiltonian)
        self.efficiency[problem.name] = effective / self.num_samples
        deviation = self._moment_deviation(Moments.from_samples(samples, hamiltonian.to(dtype=torch.float64)), exact, effective)
        distance, expected = total_variation(samples, exact), expected_total_variation(exact, effective)
        allowed = expected + math.sqrt(self.log_level / (2 * effective))
        text = f"total variation {distance:.3f}, {expected:.3f} expected of {effective:.0f} perfect samples"
        if math.isfinite(beta.value):
            text += f"; effective beta {beta.value:.2f} ± {beta.stderr:.2f}"
        require(distance <= allowed, f"not the Gibbs distribution: {text}, {allowed:.3f} allowed")
        return f"{text}; {deviation}"

    def moments(self, problem: Problem) -> str:
        """``moments`` agrees with the exact ones, to rounding if the sampler is exact."""
        hamiltonian = problem.hamiltonian
        self._skip_excluded(hamiltonian)
        found = self.sampler.moments(hamiltonian, self.num_samples)
        require_moments(found, hamiltonian)
        exact = exact_distribution(self._at_its_temperature(problem))
        if self.sampler.capabilities.exact:
            pairs = zip((found.spins, found.pairs), exact.moments(), strict=True)
            error = max(float((mine - true).abs().max()) for mine, true in pairs if len(true))
            require(error <= EXACT_TOLERANCE, f"called exact, but off by {error:.1e}; {EXACT_TOLERANCE:.0e} is allowed")
            return f"largest error {error:.1e}"
        return self._moment_deviation(found, exact, self.efficiency.get(problem.name, 1.0) * self.num_samples)

    def _moment_deviation(self, found: Moments, exact: ExactDistribution, effective: float) -> str:
        """The largest deviation, which must stay below Chernoff's bound, N KL(p_hat || p) <= log(1 / level)."""
        mine = torch.cat([found.spins, found.pairs]).double().cpu()
        true = torch.cat(exact.moments()).cpu()
        p_hat, p = ((1 + mine) / 2).clamp(0, 1), (1 + true) / 2
        divergence = effective * (_relative(p_hat, p) + _relative(1 - p_hat, 1 - p))
        worst = int(divergence.argmax())
        n = len(found.spins)
        edge = exact.graph.edges[worst - n].tolist() if worst >= n else []
        name = f"<s_{edge[0]} s_{edge[1]}>" if edge else f"<s_{worst}>"
        text = f"{name} {float(mine[worst]):+.3f}, exactly {float(true[worst]):+.3f}"
        # In units of standard errors, as everybody knows them.
        sigmas, allowed = (math.sqrt(2 * x) for x in (max(0.0, float(divergence[worst])), self.log_level))
        require(sigmas <= allowed, f"wrong moments: {text}, {sigmas:.1f} standard errors off where {allowed:.1f} are allowed")
        return f"largest deviation {sigmas:.1f} of {allowed:.1f} standard errors"

    def no_spins(self) -> str:
        """The empty problem has one state of no spins."""
        empty = IsingHamiltonian([], [], [])
        sampled(self.sampler, empty, 5)
        require_moments(self.sampler.moments(empty, 5), empty)
        return ""

    def any_number(self) -> str:
        """One sample, then more, then fewer."""
        for number in (1, 37, 5):
            sampled(self.sampler, small(), number)
        return ""

    def fresh_randomness(self) -> str:
        """Two calls return different samples."""
        if self.sampler.capabilities.exact:
            raise Skipped("it is exact")
        hamiltonian = small()
        first, second = (sampled(self.sampler, hamiltonian, 100).spins for _ in range(2))
        require(not torch.equal(first, second), "two calls returned the same samples: derive a fresh seed for each call")
        return ""

    def float64(self) -> str:
        """Double precision is taken, and given back in moments."""
        hamiltonian = small().to(dtype=torch.float64)
        sampled(self.sampler, hamiltonian, 20)
        require_moments(self.sampler.moments(hamiltonian, 20), hamiltonian)
        return ""

    def cuda(self) -> str:
        """A Hamiltonian on the GPU, wherever the sampler itself works."""
        if not torch.cuda.is_available():
            raise Skipped("there is no CUDA device here")
        hamiltonian = small().to("cuda")
        sampled(self.sampler, hamiltonian, 20)
        require_moments(self.sampler.moments(hamiltonian, 20), hamiltonian)
        return ""

    def submit(self) -> str:
        """``submit`` hands over samples later."""
        if not isinstance(self.sampler, Remote):
            raise Skipped("it isn't remote")
        spins = self.sampler.submit(small(), 20).result(timeout=600).spins
        require(tuple(spins.shape) == (20, 5), f"submit's samples have shape {tuple(spins.shape)}, not (20, 5)")
        return ""

    def too_many_spins(self) -> str:
        """Limits are kept: the error comes before any work."""
        able, refused = self.sampler.capabilities, []
        for limit, gamma in ((able.max_spins, 0.0), (able.max_quantum_spins, 1.0)):
            if limit is not None and (gamma == 0 or able.transverse_field):
                chain = Graph(limit + 1, list(itertools.pairwise(range(limit + 1))))
                self._require_refusal(IsingHamiltonian(torch.zeros(limit + 1), chain, torch.zeros(limit), gamma))
                refused.append(f"{limit + 1} spins{' with a transverse field' if gamma else ''}")
        if not refused:
            raise Skipped("it sets no limit")
        return f"refuses {' and '.join(refused)}"

    def transverse_field(self) -> str:
        """A classical sampler doesn't quietly drop gamma."""
        if self.sampler.capabilities.transverse_field:
            raise Skipped("it takes transverse fields")
        self._require_refusal(IsingHamiltonian([0.5], [], [], gamma=1.0))
        return ""

    def close(self) -> str:
        """``close`` is harmless."""
        self.sampler.close()
        return ""

    def _require_refusal(self, hamiltonian: IsingHamiltonian) -> None:
        for method in (self.sampler.sample, self.sampler.moments):
            try:
                method(hamiltonian, 5)
            except CapabilityError:
                continue
            raise AssertionError(f"{method.__name__} took {hamiltonian}, which its capabilities exclude")

    def _at_its_temperature(self, problem: Problem) -> IsingHamiltonian:
        """The problem that has at beta = 1 the distribution that the sampler's should be."""
        plain = problem.hamiltonian
        if self.sampler.capabilities.native_beta:
            return plain
        if not self.betas:
            raise Skipped("form right; it has no temperature at which it could be compared")
        beta = self.betas[problem.name]
        return plain.replace(beta * plain.h, beta * plain.J, beta * plain.gamma)

    def _excluded(self, hamiltonian: IsingHamiltonian) -> str | None:
        return self.sampler.capabilities.excludes(hamiltonian.num_spins, hamiltonian.is_quantum)

    def _skip_excluded(self, hamiltonian: IsingHamiltonian) -> None:
        reason = self._excluded(hamiltonian)
        if reason is not None:
            raise Skipped(reason)


def _relative(p_hat: Tensor, p: Tensor) -> Tensor:
    """p_hat log(p_hat / p)."""
    return torch.special.xlogy(p_hat, p_hat) - torch.special.xlogy(p_hat, p.clamp(min=1e-300))


def _effective_number(samples: Samples, hamiltonian: IsingHamiltonian) -> float:
    """How many independent samples these are worth: Kish's number for weights, times that of a chain for their order."""
    columns = torch.cat([samples.spins.double(), hamiltonian.energy(samples.spins).double().unsqueeze(1)], dim=1)
    found = [effective_sample_size(column.unsqueeze(1)) for column in columns.detach().T]
    share = min([value / len(samples) for value in found if math.isfinite(value)] + [1.0])
    return max(1.0, samples.effective_size * max(share, 1 / MAX_INFLATION))
