"""The conformance suite itself: right samplers pass, and each fault is found by the check that is named after it."""

import math
import re
from concurrent.futures import Future

import numpy as np
import pytest
import torch

from qvae.ising.exact import exact_distribution
from qvae.sampling.abilities import Remote
from qvae.sampling.registry import load_sampler
from qvae.sampling.sampler import Capabilities, LatentSampler, Moments, Samples, SeededSampler
from qvae.testing import ConformanceError, check_sampler, run_checks
from qvae.testing.problems import problems
from qvae.testing.trial import EXACT_TOLERANCE, Trial


class Perfect(SeededSampler):
    """Right in all respects, from the exact distribution at ``beta``."""

    beta = 1.0

    def _sample(self, hamiltonian, num_samples):
        scaled = hamiltonian.replace(self.beta * hamiltonian.h, self.beta * hamiltonian.J)
        return Samples(exact_distribution(scaled).sample(num_samples, self.generator(hamiltonian.h.device)))


class Correlated(Perfect):
    """Each row repeats the last with probability 1/2: states of one slowly moving chain."""

    def _sample(self, hamiltonian, num_samples):
        spins = super()._sample(hamiltonian, num_samples).spins
        generator = self.generator(spins.device)
        moves = torch.rand(num_samples, generator=generator) < 0.5
        rows = torch.where(moves, torch.arange(num_samples), 0).cummax(0).values
        return Samples(spins[rows])


class Weighted(SeededSampler):
    """Uniform spins with importance weights."""

    def _sample(self, hamiltonian, num_samples):
        shape = (num_samples, hamiltonian.num_spins)
        spins = 2 * torch.randint(0, 2, shape, generator=self.generator(torch.device("cpu"))).to(torch.int8) - 1
        return Samples(spins, torch.softmax(-hamiltonian.energy(spins).detach(), 0))


class Small(Perfect):
    capabilities = Capabilities(max_spins=5)


class Warm(Perfect):
    """At its own temperature, and says so."""

    beta = 0.5
    capabilities = Capabilities(native_beta=False)


class Cold(Warm):
    """As an annealer is."""

    beta = 3.0


class Live(Perfect):
    """Its state is its own memory, of which a checkpoint writes a copy."""

    def __init__(self, seed=None):
        super().__init__(seed)
        self.numbers = torch.tensor([seed or 0, 0])

    def generator(self, device):
        seed, calls = self.numbers.tolist()
        self.numbers[1] += 1
        return torch.Generator(device).manual_seed(1000 * seed + calls)

    def state_dict(self):
        return {"numbers": self.numbers}

    def load_state_dict(self, state):
        self.numbers = state["numbers"]


# Faulty ones ----------------------------------------------------------------------------------------------------------


class Flipped(Perfect):
    beta = -1.0


class Hot(Perfect):
    beta = 0.7


class SortedAndHot(Hot):
    """Sorted rows look correlated; that must not excuse everything."""

    def _sample(self, hamiltonian, num_samples):
        spins = super()._sample(hamiltonian, num_samples).spins
        order = np.lexsort(spins.numpy().T) if spins.shape[1] else np.arange(num_samples)
        return Samples(spins[torch.from_numpy(order)])


class Rolled(Warm):
    """At a temperature of its own, with its columns in another order."""

    beta = 1.0

    def _sample(self, hamiltonian, num_samples):
        return Samples(super()._sample(hamiltonian, num_samples).spins.roll(1, 1))


class Swapped(Warm):
    """Only the last two of its columns are."""

    def _sample(self, hamiltonian, num_samples):
        spins = super()._sample(hamiltonian, num_samples).spins
        return Samples(torch.cat([spins[:, :-2], spins[:, -2:].flip(1)], dim=1))


class Upside(Warm):
    beta = -1.0


class Rescaling(Warm):
    """Each problem at a temperature of its own, as if its largest number were made as large as the hardware allows."""

    def _sample(self, hamiltonian, num_samples):
        largest = float(torch.cat([hamiltonian.h, hamiltonian.J]).abs().max())
        return super()._sample(hamiltonian.replace(hamiltonian.h / largest, hamiltonian.J / largest), num_samples)


class Biased(Warm):
    """Mends its own spins towards +1 where nothing else does."""

    def _sample(self, hamiltonian, num_samples):
        free = hamiltonian.h == 0
        return super()._sample(hamiltonian.replace(torch.where(free, -0.5, hamiltonian.h)), num_samples)


class Bits(Perfect):
    def _sample(self, hamiltonian, num_samples):
        return Samples((1 + super()._sample(hamiltonian, num_samples).spins) // 2)


class Floats(Perfect):
    def _sample(self, hamiltonian, num_samples):
        return Samples(super()._sample(hamiltonian, num_samples).spins.float())


class Arrays(Perfect):
    def _sample(self, hamiltonian, num_samples):
        return Samples(super()._sample(hamiltonian, num_samples).spins.numpy())


class Transposed(Perfect):
    def _sample(self, hamiltonian, num_samples):
        return Samples(super()._sample(hamiltonian, num_samples).spins.T.contiguous())


class OneShort(Perfect):
    def _sample(self, hamiltonian, num_samples):
        return Samples(super()._sample(hamiltonian, num_samples).spins[: max(1, num_samples - 1)])


class Unnormalized(Weighted):
    def _sample(self, hamiltonian, num_samples):
        samples = super()._sample(hamiltonian, num_samples)
        return Samples(samples.spins, 2 * samples.weights)


class IgnoresWeights(Weighted):
    def _sample(self, hamiltonian, num_samples):
        return Samples(super()._sample(hamiltonian, num_samples).spins)


class OneMode(Perfect):
    """Stuck in the mode in which the first spin is up."""

    def _sample(self, hamiltonian, num_samples):
        spins = super()._sample(hamiltonian, num_samples).spins
        return Samples(spins * spins[:, :1] if not bool(hamiltonian.h.any()) else spins)


class Dependent(Perfect):
    """Right moments of uncoupled spins, two of which go together all the same: only the total variation tells."""

    def _sample(self, hamiltonian, num_samples):
        spins = super()._sample(hamiltonian, num_samples).spins
        if hamiltonian.num_spins == 4 and not hamiltonian.graph.num_edges:
            spins[spins[:, 0].argsort(), 2] = spins[:, 2].sort().values
        return Samples(spins)


class Spoils(Perfect):
    def _sample(self, hamiltonian, num_samples):
        samples = super()._sample(hamiltonian, num_samples)
        hamiltonian.edges.copy_(hamiltonian.edges.flip(1))
        return samples


class SameAgain(Perfect):
    def _sample(self, hamiltonian, num_samples):
        return Samples(exact_distribution(hamiltonian).sample(num_samples, torch.Generator().manual_seed(self.seed)))


class Seedless(Perfect):
    """Takes a seed and forgets it."""

    def generator(self, device):
        return torch.default_generator


class DeafToSeeds(Perfect):
    def __init__(self, seed=None):
        super().__init__(7)


class NeedsSingle(Perfect):
    def _sample(self, hamiltonian, num_samples):
        torch.zeros(hamiltonian.num_spins) @ hamiltonian.h
        return super()._sample(hamiltonian, num_samples)


class WrongPairs(Perfect):
    def _moments(self, hamiltonian, num_samples):
        found = super()._moments(hamiltonian, num_samples)
        return Moments(found.spins, found.pairs.flip(0))


class NotExact(Perfect):
    capabilities = Capabilities(exact=True)

    def _moments(self, hamiltonian, num_samples):
        return super()._moments(hamiltonian, num_samples)


class DropsTheField(Perfect):
    """Says that it samples quantum states, but samples classical ones."""

    capabilities = Capabilities(transverse_field=True)

    def _sample(self, hamiltonian, num_samples):
        plain = hamiltonian.replace()
        plain.is_quantum = False
        return super()._sample(plain, num_samples)


class Unguarded(Perfect):
    capabilities = Capabilities(max_spins=9)

    def check(self, hamiltonian):
        pass


class NumpyState(Perfect):
    def state_dict(self):
        return {"calls": np.int64(3)}


class ForgetsState(Perfect):
    def load_state_dict(self, state):
        pass


class Unpicklable(Perfect):
    def __init__(self, seed=None):
        super().__init__(seed)
        self.connection = lambda: None


class Breaks(Perfect):
    def close(self):
        raise RuntimeError("no such connection")


def optimizer():
    """dwave's simulated annealing at its own schedule, taken for a sampler."""
    sampler = load_sampler("dimod", parameters={"num_sweeps": 200}, seed=0)
    sampler.capabilities = Capabilities()
    return sampler


# Tests ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [Perfect, Correlated, Weighted, Small, Warm, Cold], ids=lambda s: s.__name__)
def test_right_samplers_pass(sampler):
    report = check_sampler(sampler)
    assert not report.failures
    assert str(report).startswith("passed  sign convention")


def test_an_object_is_checked_by_its_copies():
    sampler = Perfect(seed=3)
    report = check_sampler(sampler, num_samples=500)
    assert sampler.state_dict() == {}
    assert {r.outcome for r in report.results if "seed" in r.name} == {"skipped"}


def test_a_state_may_be_a_sampler_s_own_memory():
    (result,) = [result for result in run_checks(Live, num_samples=50) if result.name == "state"]
    assert (result.outcome, result.detail) == ("passed", "holds numbers")


def test_options_go_to_the_sampler():
    with pytest.raises(ConformanceError):
        check_sampler("gibbs", num_samples=500, sweeps=1, burn_in=0, persistent=False)


def test_beyond_its_limits_and_its_temperature_nothing_is_asked():
    outcomes = {result.name: result for result in run_checks(Small, num_samples=200)}
    assert outcomes["distribution, Chimera cell"].outcome == "skipped"
    assert outcomes["distribution, complete graph of 5"].outcome == "passed"
    assert outcomes["refusal of more spins than it can take"].detail == "refuses 6 spins"
    assert outcomes["one temperature"].outcome == "skipped"
    warm = {result.name: result for result in run_checks(Warm, num_samples=4000)}["one temperature"]
    assert abs(float(re.search(r"effective beta ([\d.]+)", warm.detail)[1]) - 0.5) < 0.03


FAULTS = [
    (Flipped, "sign convention", "h = +1 makes <s> = +"),
    (Hot, "distribution, RBM 3x3", "standard errors off where"),
    (SortedAndHot, "distribution, RBM 3x3", "standard errors off where"),
    (optimizer, "distribution, antiferromagnetic pair", "standard errors off where"),
    (Rolled, "one temperature", "must be above 0"),
    (Swapped, "distribution, no couplings", "standard errors off where"),
    (Upside, "one temperature", "must be above 0"),
    (Rescaling, "one temperature", "one temperature for all is needed"),
    (Biased, "distribution, frustrated triangle", "standard errors off where"),
    (Bits, "distribution, single spin", "spins hold [0]; they must be -1 or +1"),
    (Floats, "distribution, single spin", "spins are torch.float32, not torch.int8"),
    (Arrays, "distribution, single spin", "spins are a ndarray, not a torch.Tensor"),
    (Transposed, "distribution, no couplings", "shape (4, 4000), not (num_samples, n) = (4000, 4)"),
    (OneShort, "any number of samples", "shape (36, 5), not (num_samples, n) = (37, 5)"),
    (Unnormalized, "distribution, single spin", "weights sum to 2, not to 1"),
    (IgnoresWeights, "distribution, single spin", "standard errors off where"),
    (OneMode, "distribution, ferromagnetic pair", "<s_0> +1.000, exactly"),
    (Dependent, "distribution, no couplings", "not the Gibbs distribution"),
    (Spoils, "distribution, ferromagnetic pair", "sample changed the Hamiltonian's edges"),
    (SameAgain, "fresh randomness in every call", "derive a fresh seed for each call"),
    (Seedless, "same seed, same samples", "two samplers with seed=5 returned different samples"),
    (DeafToSeeds, "another seed, other samples", "returned the same samples"),
    (NeedsSingle, "float64 Hamiltonian", "raised RuntimeError"),
    (WrongPairs, "moments, RBM 3x3", "standard errors off where"),
    (NotExact, "moments, RBM 3x3", "called exact, but off by"),
    (DropsTheField, "distribution, RBM 3x3, transverse field", "standard errors off where"),
    (Unguarded, "refusal of more spins than it can take", "sample took IsingHamiltonian(10 spins"),
    (Unguarded, "refusal of a transverse field it can't take", "sample took IsingHamiltonian(1 spins"),
    (NumpyState, "state", "state_dict()['calls'] is a int64"),
    (ForgetsState, "state", "isn't what was loaded"),
    (Unpicklable, "pickle", "raised"),
    (Breaks, "close", "raised RuntimeError: no such connection"),
]


@pytest.mark.parametrize(("sampler", "check", "message"), FAULTS, ids=lambda part: getattr(part, "__name__", ""))
def test_faults_are_found(sampler, check, message):
    with pytest.raises(ConformanceError) as error:
        check_sampler(sampler)
    (found,) = [result for result in error.value.report.failures if result.name == check]
    assert message in found.detail
    assert f"{check}: {found.detail}" in str(error.value)


def test_the_name_of_a_third_partys_exception_is_shown_and_the_rest_still_runs():
    class Fails(LatentSampler):
        def _sample(self, hamiltonian, num_samples):
            raise KeyError("qubits")

    report = list(run_checks(Fails, num_samples=50))
    assert report[0].detail == "raised KeyError: 'qubits'"
    assert report[-1].name == "close"
    assert report[-1].outcome == "passed"


def case(name):
    return next(problem for problem in problems(False) if problem.name == name)


def test_what_is_allowed_of_a_distribution_follows_from_the_number_of_samples():
    """McDiarmid's bound: beyond what is expected of so many samples, the root of log(1/level) / 2 N."""
    with pytest.raises(AssertionError) as told:
        Trial(Dependent(seed=1), 4000, 10.0).distribution(case("no couplings"))
    numbers = [float(text) for text in re.findall(r"\d+\.?\d*", str(told.value).partition("; effective")[0])]
    distance, expected, number = numbers[:3]
    allowed = float(re.search(r"([\d.]+) allowed", str(told.value))[1])
    assert number == 800  # sorted rows look correlated, which excuses a factor of five
    assert allowed == pytest.approx(expected + math.sqrt(10.0 / (2 * number)), abs=0.002)
    assert distance > allowed


def test_moments_of_an_exact_sampler_may_be_off_by_rounding_alone():
    class Off(Perfect):
        capabilities = Capabilities(exact=True)
        error = 0.0

        def _moments(self, hamiltonian, num_samples):
            spins, pairs = exact_distribution(hamiltonian).moments()
            return Moments((spins + self.error).to(hamiltonian.h), pairs.to(hamiltonian.h))

    sampler = Off(seed=1)
    problem = case("frustrated triangle")
    assert Trial(sampler, 10, 10.0).moments(problem).startswith("largest error")
    sampler.error = 3 * EXACT_TOLERANCE
    with pytest.raises(AssertionError, match="called exact, but off by 3"):
        Trial(sampler, 10, 10.0).moments(problem)


@pytest.mark.parametrize(("other", "is_one"), [(1.0, True), (1.05, True), (1.5, False)])
def test_temperatures_of_two_problems_may_differ_by_a_tenth(other, is_one):
    class Drifting(Warm):
        """Where spins are coupled, at another temperature."""

        def _sample(self, hamiltonian, num_samples):
            factor = other if hamiltonian.graph.num_edges else 1.0
            return super()._sample(hamiltonian.replace(hamiltonian.h * factor, hamiltonian.J * factor), num_samples)

    trial, cases = Trial(Drifting(seed=1), 20_000, 5.0), [case("no couplings"), case("RBM 3x3")]
    if is_one:
        assert trial.temperature(cases).startswith("effective beta 0.5")
        assert all(abs(beta / 0.5 - 1) < 0.1 for beta in trial.betas.values())
    else:
        with pytest.raises(AssertionError, match="one temperature for all is needed"):
            trial.temperature(cases)


def test_what_comes_later_has_the_form_of_what_was_asked_for():
    class Later(Remote, Perfect):
        columns = 5

        def describe(self):
            return {}

        def submit(self, hamiltonian, num_samples):
            found = Future()
            found.set_result(Samples(torch.ones(num_samples, self.columns, dtype=torch.int8)))
            return found

    assert Trial(Later(seed=1), 10, 10.0).submit() == ""
    Later.columns = 4
    with pytest.raises(AssertionError, match=r"submit's samples have shape \(20, 4\), not \(20, 5\)"):
        Trial(Later(seed=1), 10, 10.0).submit()
