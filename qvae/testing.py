"""Conformance suite for samplers: small problems x properties, with the exact distribution as ground truth.

A plugin author's test is one line, and ``qvae samplers check NAME`` runs the same::

    def test_conformance():
        check_sampler("my-sampler")
"""

from __future__ import annotations

import inspect
import itertools
import json
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from qvae.errors import CapabilityError
from qvae.ising import graphs
from qvae.ising.exact import ExactDistribution, exact_distribution
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.options import named_parameters
from qvae.sampling.diagnostics import effective_beta, effective_sample_size, expected_total_variation, total_variation
from qvae.sampling.registry import load_sampler, sampler_options
from qvae.sampling.sampler import LatentSampler, Moments, Samples

FALSE_ALARM = 1e-3
"""Probability that a perfect sampler fails some statistical check of a whole run, at most."""
MAX_INFLATION = 5.0
"""Correlated rows are allowed for up to this factor between the number of samples and the effective number."""
EXACT_TOLERANCE = 1e-6
"""Largest error of the moments of a sampler that calls itself exact."""
_WARM_UP_CALLS = 10  # for persistent chains, which may need few sweeps a call but some calls


@dataclass(frozen=True)
class CheckResult:
    """One check: its name, its outcome, and what was measured or what went wrong."""

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.outcome}  {self.name}" + (f": {self.detail}" if self.detail else "")


@dataclass(frozen=True)
class ConformanceReport:
    """All checks of a sampler, in the order they ran."""

    results: list[CheckResult] = field(default_factory=list)

    @property
    def failures(self) -> list[CheckResult]:
        """The checks that failed."""
        return [result for result in self.results if result.outcome == "failed"]

    def __str__(self) -> str:
        return "\n".join(str(result) for result in self.results)


class ConformanceError(AssertionError):
    """A sampler failed checks; ``report`` holds all of them."""

    def __init__(self, report: ConformanceReport) -> None:
        self.report = report
        failures = "\n".join(f"  {result.name}: {result.detail}" for result in report.failures)
        super().__init__(f"{len(report.failures)} of {len(report.results)} checks failed:\n{failures}")


Subject = str | LatentSampler | Callable[..., LatentSampler]


def check_sampler(sampler: Subject, /, *, num_samples: int = 4000, **options: Any) -> ConformanceReport:
    """Run the suite on a sampler; see :func:`run_checks` for the arguments.

    Raises:
        ConformanceError: an AssertionError that lists the checks that failed.
    """
    report = ConformanceReport(list(run_checks(sampler, num_samples=num_samples, **options)))
    if report.failures:
        raise ConformanceError(report)
    return report


def run_checks(sampler: Subject, /, *, num_samples: int = 4000, **options: Any) -> Iterator[CheckResult]:
    """The suite's checks one by one, each result as soon as it is there.

    Moments are compared with the exact ones by Chernoff's bound, total variation by McDiarmid's; both hold for any number
    of samples, and are shared out so that a perfect sampler fails with a probability of at most ``FALSE_ALARM``. Samples
    in one call may be correlated with their neighbours, as states of one chain are: the number of samples is then reduced
    to the effective one, by a factor of at most ``MAX_INFLATION``.

    Args:
        sampler: a registered name, a class or function that makes a sampler, or a sampler; copies of that are used, and
            its seeds can't be checked.
        num_samples: in each of about twenty calls (ten times as many if chains are persistent).
        options: for a name, class or function.
    """
    subject = _Subject(sampler, options)
    shared = subject.make(seed=1)
    problems = _problems(shared.capabilities.transverse_field)
    within = [p for p in problems if shared.capabilities.excludes(p.hamiltonian.num_spins, p.hamiltonian.is_quantum) is None]
    # Two-sided for every moment, of samples and of `moments`, and one total variation.
    tests = sum(4 * (p.hamiltonian.num_spins + p.hamiltonian.graph.num_edges) + 1 for p in within)
    trial = _Trial(shared, num_samples, math.log(max(1, tests) / FALSE_ALARM))
    yield _result("sign convention", trial.sign_convention)
    for problem in problems:
        yield _result(f"distribution, {problem.name}", trial.distribution, problem)
    own_moments = type(shared).moments is not LatentSampler.moments
    for problem in problems if own_moments else within[-1:]:
        yield _result(f"moments, {problem.name}", trial.moments, problem)
    for name, check in (
        ("no spins", trial.no_spins),
        ("any number of samples", trial.any_number),
        ("fresh randomness in every call", trial.fresh_randomness),
        ("float64 Hamiltonian", trial.float64),
        ("no gradients", trial.no_gradients),
        ("CUDA Hamiltonian", trial.cuda),
        ("submit", trial.submit),
        ("refusal of more spins than it can take", trial.too_many_spins),
        ("refusal of a transverse field it can't take", trial.transverse_field),
        ("same seed, same samples", subject.same_seed),
        ("another seed, other samples", subject.another_seed),
        ("state", subject.state),
        ("pickle", subject.pickles),
        ("close", trial.close),
    ):
        yield _result(name, check)


# Problems -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Problem:
    name: str
    hamiltonian: IsingHamiltonian


def _problems(quantum: bool) -> list[_Problem]:
    """Small systems with fixed coefficients; with a transverse field once more if ``quantum``."""
    numbers = torch.Generator().manual_seed(20)

    def normal(count: int, scale: float) -> Tensor:
        return scale * torch.randn(count, generator=numbers)

    # Edges in no order and in both directions, for samplers that think i < j; a cell's sides take turns in its labels.
    five = Graph(5, [(3, 1), (0, 4), (2, 0), (1, 0), (4, 3), (3, 2), (2, 1), (0, 3), (4, 1), (2, 4)])
    cell = Graph(8, [(i, j) for i in range(0, 8, 2) for j in range(1, 8, 2)])
    classical = {
        "single spin": IsingHamiltonian([0.7], [], []),
        "no couplings": IsingHamiltonian([0.5, -1.0, 0.0, 0.25], [], []),
        "ferromagnetic pair": IsingHamiltonian([0.0, 0.0], [(0, 1)], [-1.0]),
        "antiferromagnetic pair": IsingHamiltonian([0.4, 0.1], [(0, 1)], [1.0]),
        "frustrated triangle": IsingHamiltonian([0.0, 0.0, 0.0], [(0, 1), (1, 2), (0, 2)], [1.0, 1.0, 1.0]),
        "strong fields": IsingHamiltonian([3.0, -4.0, 0.5], [(0, 1), (1, 2)], [0.5, -1.0]),
        "complete graph of 5": IsingHamiltonian(normal(5, 0.3), five, normal(10, 0.5)),
        "Chimera cell": IsingHamiltonian(normal(8, 0.3), cell, normal(16, 0.5)),
        "RBM 3x3": IsingHamiltonian(normal(6, 0.5), graphs.rbm(3, 3), normal(9, 0.8)),
    }
    problems = [_Problem(name, hamiltonian) for name, hamiltonian in classical.items()]
    if quantum:
        for name, plain in classical.items():
            gamma = torch.linspace(0.3, 1.2, plain.num_spins)
            problems.append(_Problem(f"{name}, transverse field", IsingHamiltonian(plain.h, plain.graph, plain.J, gamma)))
    return problems


def _small() -> IsingHamiltonian:
    return IsingHamiltonian([0.3, -0.2, 0.0, 0.1, 0.2], graphs.complete(5), torch.linspace(-0.5, 0.5, 10))


# Checks ---------------------------------------------------------------------------------------------------------------


class _Skipped(Exception):
    """A check that doesn't apply, with the reason."""


def _result(name: str, check: Callable[..., str], *arguments: Any) -> CheckResult:
    try:
        return CheckResult(name, "passed", check(*arguments))
    except _Skipped as reason:
        return CheckResult(name, "skipped", str(reason))
    except AssertionError as error:
        return CheckResult(name, "failed", str(error))
    except Exception as error:
        # A backend under test may fail in any way; the rest of the report is still wanted.
        return CheckResult(name, "failed", f"raised {type(error).__name__}: {' '.join(str(error).split())}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _sampled(sampler: LatentSampler, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
    """Samples whose form is right, of a Hamiltonian that is still as it was."""
    parts = {"h": hamiltonian.h, "J": hamiltonian.J, "gamma": hamiltonian.gamma, "edges": hamiltonian.edges}
    before = {name: part.detach().clone() for name, part in parts.items()}
    samples = sampler.sample(hamiltonian, num_samples)
    for name, part in before.items():
        _require(torch.equal(part, getattr(hamiltonian, name).detach()), f"sample changed the Hamiltonian's {name}")
    _require(isinstance(samples, Samples), f"sample returned a {type(samples).__name__}, not a qvae.Samples")
    spins, shape = samples.spins, (num_samples, hamiltonian.num_spins)
    _require(isinstance(spins, Tensor), f"spins are a {type(spins).__name__}, not a torch.Tensor")
    _require(tuple(spins.shape) == shape, f"spins have shape {tuple(spins.shape)}, not (num_samples, n) = {shape}")
    strange = sorted(set(spins.unique().tolist()) - {-1, 1})
    _require(not strange, f"spins hold {strange[:3]}; they must be -1 or +1 (from bits z: 2z - 1)")
    _require(spins.dtype == torch.int8, f"spins are {spins.dtype}, not torch.int8")
    _require(isinstance(samples.info, dict), f"info is a {type(samples.info).__name__}, not a dict")
    if samples.weights is not None:
        weights = samples.weights
        _require(tuple(weights.shape) == shape[:1], f"weights have shape {tuple(weights.shape)}, not (num_samples,)")
        _require(bool((weights >= 0).all()), "a weight is negative")
        _require(abs(float(weights.double().sum()) - 1) < 1e-4, f"weights sum to {float(weights.sum()):.6g}, not to 1")
    return samples


@dataclass
class _Trial:
    """One sampler on one problem after the other, as a user would call it.

    ``log_level`` is minus the logarithm of the false-alarm probability of one test.
    """

    sampler: LatentSampler
    num_samples: int
    log_level: float
    efficiency: dict[str, float] = field(default_factory=dict)

    def sign_convention(self) -> str:
        """A field h > 0 favours s = -1 at any temperature; so does an aligned coupling J > 0 opposite spins."""
        pair = IsingHamiltonian([1.0, 0.0], [(0, 1)], [1.0])
        if self.sampler.capabilities.excludes(2, quantum=False) is not None:
            pair = IsingHamiltonian([1.0], [], [])
        found = Moments.from_samples(_sampled(self.sampler, pair, self.num_samples), pair)
        _require(float(found.spins[0]) < 0, f"h = +1 makes <s> = {float(found.spins[0]):+.2f}, but E = h s favours s = -1")
        _require(bool((found.pairs < 0).all()), "J = +1 makes <s_0 s_1> positive, but E = J s_0 s_1 favours opposite spins")
        return ""

    def distribution(self, problem: _Problem) -> str:
        """Valid samples, from the exact distribution as far as that many of them can tell."""
        hamiltonian = problem.hamiltonian
        self._skip_excluded(hamiltonian)
        for _ in range(_WARM_UP_CALLS if self.sampler.capabilities.persistent else 0):
            self.sampler.sample(hamiltonian, self.num_samples)
        samples = _sampled(self.sampler, hamiltonian, self.num_samples)
        beta = effective_beta(samples, hamiltonian)
        if not self.sampler.capabilities.native_beta:
            raise _Skipped(f"form right; temperature its own, effective beta {beta.value:.3f} ± {beta.stderr:.3f}")
        exact = exact_distribution(hamiltonian)
        effective = _effective_number(samples, hamiltonian)
        self.efficiency[problem.name] = effective / self.num_samples
        deviation = self._moment_deviation(Moments.from_samples(samples, hamiltonian.to(dtype=torch.float64)), exact, effective)
        distance, expected = total_variation(samples, exact), expected_total_variation(exact, effective)
        allowed = expected + math.sqrt(self.log_level / (2 * effective))
        text = f"total variation {distance:.3f}, {expected:.3f} expected of {effective:.0f} perfect samples"
        if math.isfinite(beta.value):
            text += f"; effective beta {beta.value:.2f} ± {beta.stderr:.2f}"
        _require(distance <= allowed, f"not the Gibbs distribution: {text}, {allowed:.3f} allowed")
        return f"{text}; {deviation}"

    def moments(self, problem: _Problem) -> str:
        """``moments`` agrees with the exact ones, to rounding if the sampler is exact."""
        hamiltonian = problem.hamiltonian
        self._skip_excluded(hamiltonian)
        found = self.sampler.moments(hamiltonian, self.num_samples)
        _require_moments(found, hamiltonian)
        exact = exact_distribution(hamiltonian)
        if self.sampler.capabilities.exact:
            pairs = zip((found.spins, found.pairs), exact.moments(), strict=True)
            error = max(float((mine - true).abs().max()) for mine, true in pairs if len(true))
            _require(error <= EXACT_TOLERANCE, f"called exact, but off by {error:.1e}; {EXACT_TOLERANCE:.0e} is allowed")
            return f"largest error {error:.1e}"
        if not self.sampler.capabilities.native_beta:
            raise _Skipped("form right; temperature its own")
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
        _require(sigmas <= allowed, f"wrong moments: {text}, {sigmas:.1f} standard errors off where {allowed:.1f} are allowed")
        return f"largest deviation {sigmas:.1f} of {allowed:.1f} standard errors"

    def no_spins(self) -> str:
        """The empty problem has one state of no spins."""
        empty = IsingHamiltonian([], [], [])
        _sampled(self.sampler, empty, 5)
        _require_moments(self.sampler.moments(empty, 5), empty)
        return ""

    def any_number(self) -> str:
        """One sample, then more, then fewer."""
        for number in (1, 37, 5):
            _sampled(self.sampler, _small(), number)
        return ""

    def fresh_randomness(self) -> str:
        """Two calls return different samples."""
        if self.sampler.capabilities.exact:
            raise _Skipped("it is exact")
        hamiltonian = _small()
        first, second = (_sampled(self.sampler, hamiltonian, 100).spins for _ in range(2))
        _require(not torch.equal(first, second), "two calls returned the same samples: derive a fresh seed for each call")
        return ""

    def float64(self) -> str:
        """Double precision is taken, and given back in moments."""
        hamiltonian = _small().to(dtype=torch.float64)
        _sampled(self.sampler, hamiltonian, 20)
        _require_moments(self.sampler.moments(hamiltonian, 20), hamiltonian)
        return ""

    def no_gradients(self) -> str:
        """A Hamiltonian in the autograd graph, as a prior's is: its samples are constants."""
        plain = _small()
        hamiltonian = plain.replace(plain.h.requires_grad_(), plain.J.requires_grad_())
        _require(not _sampled(self.sampler, hamiltonian, 20).spins.requires_grad, "spins require gradients")
        found = self.sampler.moments(hamiltonian, 20)
        _require_moments(found, hamiltonian)
        attached = found.spins.requires_grad or found.pairs.requires_grad
        _require(not attached, "moments require gradients: detach the Hamiltonian's h and J")
        return ""

    def cuda(self) -> str:
        """A Hamiltonian on the GPU, wherever the sampler itself works."""
        if not torch.cuda.is_available():
            raise _Skipped("there is no CUDA device here")
        hamiltonian = _small().to("cuda")
        _sampled(self.sampler, hamiltonian, 20)
        _require_moments(self.sampler.moments(hamiltonian, 20), hamiltonian)
        return ""

    def submit(self) -> str:
        """``submit`` hands over samples later."""
        spins = self.sampler.submit(_small(), 20).result(timeout=600).spins
        _require(tuple(spins.shape) == (20, 5), f"submit's samples have shape {tuple(spins.shape)}, not (20, 5)")
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
            raise _Skipped("it sets no limit")
        return f"refuses {' and '.join(refused)}"

    def transverse_field(self) -> str:
        """A classical sampler doesn't quietly drop gamma."""
        if self.sampler.capabilities.transverse_field:
            raise _Skipped("it takes transverse fields")
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

    def _skip_excluded(self, hamiltonian: IsingHamiltonian) -> None:
        reason = self.sampler.capabilities.excludes(hamiltonian.num_spins, hamiltonian.is_quantum)
        if reason is not None:
            raise _Skipped(reason)


class _Subject:
    """What is checked, and how fresh ones are made."""

    def __init__(self, sampler: Subject, options: dict[str, Any]) -> None:
        self.options = options
        if isinstance(sampler, LatentSampler):
            original = sampler
            self.takes_seed = False
            self.build: Callable[..., LatentSampler] = lambda: pickle.loads(pickle.dumps(original))
        elif isinstance(sampler, str):
            name = sampler
            self.takes_seed = "seed" in sampler_options(name)
            self.build = lambda **given: load_sampler(name, **given)
        else:
            self.takes_seed = "seed" in _parameters(sampler)
            self.build = sampler

    def make(self, seed: int) -> LatentSampler:
        """A fresh sampler, seeded if it takes seeds."""
        return self.build(**self.options, **({"seed": seed} if self.takes_seed and "seed" not in self.options else {}))

    def seeded(self, seed: int) -> LatentSampler:
        """A fresh sampler with this very seed."""
        if not self.takes_seed:
            raise _Skipped("it takes no seed, or was handed over as an object")
        return self.build(**self.options | {"seed": seed})

    def same_seed(self) -> str:
        """Two samplers of one seed agree call by call, whatever else draws random numbers."""
        hamiltonian, first, second = _small(), self.seeded(5), self.seeded(5)
        if first.capabilities.remote:
            raise _Skipped("it is remote: hardware doesn't repeat itself")
        for _ in range(2):
            same = torch.equal(first.sample(hamiltonian, 100).spins, second.sample(hamiltonian, 100).spins)
            _require(same, "two samplers with seed=5 returned different samples")
        return ""

    def another_seed(self) -> str:
        """The seed is used."""
        hamiltonian = _small()
        first, second = (self.seeded(seed).sample(hamiltonian, 100).spins for seed in (5, 6))
        _require(not torch.equal(first, second), "samplers with seed=5 and seed=6 returned the same samples")
        return ""

    def state(self) -> str:
        """Another sampler with the state of the first goes on exactly as that one does."""
        hamiltonian, first = _small(), self.make(seed=5)
        first.sample(hamiltonian, 50)
        state = _travelled(first.state_dict(), "state_dict()")
        if not state:
            raise _Skipped("it keeps no state")
        second = self.make(seed=6)
        second.load_state_dict(state)
        _require(_same_state(second.state_dict(), state), "state_dict right after load_state_dict isn't what was loaded")
        _require_same_future(first, second, hamiltonian, "after load_state_dict")
        return f"holds {', '.join(sorted(state))}"

    def pickles(self) -> str:
        """A copy in another process works, and goes on as the first does if it has state."""
        hamiltonian, first = _small(), self.make(seed=5)
        first.sample(hamiltonian, 50)
        second: LatentSampler = pickle.loads(pickle.dumps(first))
        _require(second.name == first.name, f"the copy's name is {second.name!r}, not {first.name!r}")
        if first.state_dict():
            _require_same_future(first, second, hamiltonian, "of a pickled copy")
        else:
            _sampled(second, hamiltonian, 50)
        return ""


def _parameters(make: Callable[..., LatentSampler]) -> set[str]:
    if isinstance(make, type):
        return {parameter.name for parameter in named_parameters(make)}
    return set(inspect.signature(make).parameters)


def _require_moments(found: Moments, hamiltonian: IsingHamiltonian) -> None:
    for name, tensor, length in (
        ("spins", found.spins, hamiltonian.num_spins),
        ("pairs", found.pairs, hamiltonian.graph.num_edges),
    ):
        _require(tuple(tensor.shape) == (length,), f"moments' {name} have shape {tuple(tensor.shape)}, not ({length},)")
        same = tensor.dtype == hamiltonian.h.dtype and tensor.device == hamiltonian.h.device
        where = f"{tensor.dtype} on {tensor.device}, not {hamiltonian.h.dtype} on {hamiltonian.h.device} as h is"
        _require(same, f"moments' {name} are {where}")
        inside = bool((tensor.detach().abs() <= 1 + 1e-5).all())
        _require(inside, f"moments' {name} are not all between -1 and 1")


def _require_same_future(first: LatentSampler, second: LatentSampler, hamiltonian: IsingHamiltonian, when: str) -> None:
    if first.capabilities.remote:  # hardware doesn't repeat itself; what is left is that both work
        _sampled(first, hamiltonian, 50)
        _sampled(second, hamiltonian, 50)
        return
    for _ in range(2):
        same = torch.equal(first.sample(hamiltonian, 50).spins, second.sample(hamiltonian, 50).spins)
        _require(same, f"samples {when} differ from those of the sampler it was taken from")


def _travelled(value: Any, path: str) -> Any:
    """A state as a checkpoint gives it back: tensors, and what JSON holds.

    Raises:
        AssertionError: it has other values.
    """
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        strange = [key for key in value if not isinstance(key, str)]
        _require(not strange, f"{path} has the key {strange[:1]}, which is no text")
        return {key: _travelled(part, f"{path}[{key!r}]") for key, part in value.items()}
    if isinstance(value, list):
        return [_travelled(part, f"{path}[{index}]") for index, part in enumerate(value)]
    plain = value is None or type(value) in (bool, int, float, str)
    _require(plain, f"{path} is a {type(value).__name__}; a state holds tensors, dicts, lists, numbers, texts and null")
    return json.loads(json.dumps(value))


def _same_state(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return isinstance(first, Tensor) and isinstance(second, Tensor) and torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same_state(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same_state, first, second))
    return first == second


# Statistics -----------------------------------------------------------------------------------------------------------


def _relative(p_hat: Tensor, p: Tensor) -> Tensor:
    """p_hat log(p_hat / p)."""
    return torch.special.xlogy(p_hat, p_hat) - torch.special.xlogy(p_hat, p.clamp(min=1e-300))


def _effective_number(samples: Samples, hamiltonian: IsingHamiltonian) -> float:
    """How many independent samples these are worth: Kish's number for weights, times that of a chain for their order."""
    number = float(len(samples))
    columns = torch.cat([samples.spins.double(), hamiltonian.energy(samples.spins).double().unsqueeze(1)], dim=1)
    found = [effective_sample_size(column.unsqueeze(1)) for column in columns.detach().T]
    share = min([value / number for value in found if math.isfinite(value)] + [1.0])
    if samples.weights is not None:
        number = 1 / float((samples.weights.double() ** 2).sum())
    return max(1.0, number * max(share, 1 / MAX_INFLATION))
