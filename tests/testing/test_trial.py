"""Each check of samplers by itself: what it must refuse, what it must let pass, and the numbers it tells."""

import math
import re
from concurrent.futures import Future

import pytest
import torch

from qvae.errors import CapabilityError, SamplerError
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.abilities import Remote
from qvae.sampling.diagnostics import Estimate
from qvae.sampling.sampler import Capabilities, Moments, Samples, SeededSampler
from qvae.testing.problems import Problem, problems, small
from qvae.testing.results import Skipped
from qvae.testing.samplers import run_checks
from qvae.testing.trial import Trial, _effective_number, _relative


class Perfect(SeededSampler):
    """From the exact distribution, at ``beta``."""

    beta = 1.0
    called: tuple = ()

    def _sample(self, hamiltonian, num_samples):
        self.called = (*self.called, num_samples)
        scaled = hamiltonian.replace(self.beta * hamiltonian.h, self.beta * hamiltonian.J)
        return Samples(exact_distribution(scaled).sample(num_samples, self.generator(hamiltonian.h.device)))


def with_(**abilities):
    class Able(Perfect):
        capabilities = Capabilities(**abilities)

    return Able


def trial(sampler, num_samples=2000, log_level=10.0):
    return Trial(sampler(seed=1), num_samples, log_level)


def case(name, quantum=False):
    return next(problem for problem in problems(quantum) if problem.name == name)


def test_the_checks_and_what_they_allow_each():
    """76 spins and couplings are told from the exact ones on two sides, of samples and of moments; 9 distributions."""
    assert sum(p.hamiltonian.num_spins + p.hamiltonian.graph.num_edges for p in problems(False)) == 76
    found = list(run_checks(Perfect, num_samples=300))
    names = [
        "single spin",
        "no couplings",
        "ferromagnetic pair",
        "antiferromagnetic pair",
        "frustrated triangle",
        "strong fields",
        "complete graph of 5",
        "Chimera cell",
        "RBM 3x3",
    ]
    assert [result.name for result in found] == [
        "sign convention",
        "one temperature",
        *(f"distribution, {name}" for name in names),
        "moments, RBM 3x3",
        "no spins",
        "any number of samples",
        "fresh randomness in every call",
        "float64 Hamiltonian",
        "CUDA Hamiltonian",
        "submit",
        "refusal of more spins than it can take",
        "refusal of a transverse field it can't take",
        "same seed, same samples",
        "another seed, other samples",
        "state",
        "pickle",
        "close",
    ]
    outcomes = {result.name: (result.outcome, result.detail) for result in found}
    assert outcomes["distribution, RBM 3x3"][1].endswith(
        f"of {math.sqrt(2 * math.log((4 * 76 + 9) / 1e-3)):.1f} standard errors"
    )
    assert outcomes["submit"] == ("skipped", "it isn't remote")
    assert outcomes["refusal of more spins than it can take"] == ("skipped", "it sets no limit")
    assert outcomes["one temperature"] == ("skipped", "it says that it samples at beta = 1")
    assert [name for name, (outcome, _) in outcomes.items() if outcome == "failed"] == []


def test_what_is_compared_of_a_sampler_of_few_spins_or_with_moments_of_its_own(monkeypatch):
    """The largest problem it takes stands for averages of samples; moments of its own are looked at everywhere."""
    limits = {"max_spins": 5, "max_quantum_spins": 3, "transverse_field": True}
    seen = []

    class Small(with_(**limits)):
        def _sample(self, hamiltonian, num_samples):
            raise SamplerError("not today.")

    class Knows(Small):
        def _moments(self, hamiltonian, num_samples):
            raise SamplerError("not today.")

    class Noted(Trial):
        def sign_convention(self):
            seen.append((self.num_samples, self.log_level))
            return ""

    monkeypatch.setattr("qvae.testing.samplers.Trial", Noted)
    found = [result.name for result in run_checks(Small) if result.name.startswith("moments")]
    assert found == ["moments, strong fields, transverse field"]  # the last of up to 3 spins
    assert len([result for result in run_checks(Knows, num_samples=7) if result.name.startswith("moments")]) == 18
    # Of up to 5 spins: 1, 4, 3, 3, 6, 5 and 15 numbers; of up to 3 with a field 1, 3, 3, 6 and 5.
    level = math.log((4 * (37 + 18) + 7 + 5) / 1e-3)
    assert seen == [(4000, pytest.approx(level)), (7, pytest.approx(level))]


class OtherCouplings(Perfect):
    def _sample(self, hamiltonian, num_samples):
        return super()._sample(hamiltonian.replace(hamiltonian.h, -hamiltonian.J), num_samples)


class OtherFields(Perfect):
    capabilities = Capabilities(max_spins=1)

    def _sample(self, hamiltonian, num_samples):
        return super()._sample(hamiltonian.replace(-hamiltonian.h, hamiltonian.J), num_samples)


def mends(condition, change):
    """A sampler that answers some calls in another way."""

    class Mends(Perfect):
        def sample(self, hamiltonian, num_samples):
            if condition(hamiltonian, num_samples):
                return change(hamiltonian, num_samples)
            return super().sample(hamiltonian, num_samples)

    return Mends


def wrong(*_):
    raise ValueError("no such call")


class SingleMoments(Perfect):
    def _moments(self, hamiltonian, num_samples):
        found = super()._moments(hamiltonian, num_samples)
        return Moments(found.spins.float(), found.pairs.float())


class NoEmptyMoments(Perfect):
    def moments(self, hamiltonian, num_samples):
        return wrong() if hamiltonian.num_spins == 0 else super().moments(hamiltonian, num_samples)


class TakesTooMany(with_(max_spins=4)):
    def sample(self, hamiltonian, num_samples):
        return self._sample(hamiltonian, num_samples)


class AveragesTooMany(with_(max_spins=4)):
    def moments(self, hamiltonian, num_samples):
        return self._moments(hamiltonian, num_samples)

    def _moments(self, hamiltonian, num_samples):
        return Moments.from_samples(self._sample(hamiltonian, num_samples), hamiltonian)


class OneMore(with_(max_spins=4)):
    """Takes a spin more than it says."""

    def check(self, hamiltonian):
        if hamiltonian.num_spins > 5:
            super().check(hamiltonian)


class TakesTooManyQuantum(with_(max_spins=6, max_quantum_spins=3, transverse_field=True)):
    def check(self, hamiltonian):
        if hamiltonian.num_spins > 6:
            super().check(hamiltonian)


class Recalls(with_(exact=True)):
    """The same whenever it is asked, which an exact one may be."""

    def generator(self, device):
        return torch.Generator().manual_seed(1)


class RecallsSamples(Perfect):
    generator = Recalls.generator


@pytest.mark.parametrize(
    ("sampler", "check", "error", "message"),
    [
        (OtherCouplings, Trial.sign_convention, AssertionError, r"J = \+1 makes <s_0 s_1> positive, but E = J s_0 s_1 favours"),
        (OtherFields, Trial.sign_convention, AssertionError, r"h = \+1 makes <s> = \+0.7\d, but E = h s favours s = -1"),
        (with_(max_spins=1), Trial.sign_convention, None, ""),
        (mends(lambda h, n: h.num_spins == 0, wrong), Trial.no_spins, ValueError, "no such call"),
        (NoEmptyMoments, Trial.no_spins, ValueError, "no such call"),
        (mends(lambda h, n: n == 1, wrong), Trial.any_number, ValueError, "no such call"),
        (mends(lambda h, n: n == 37, wrong), Trial.any_number, ValueError, "no such call"),
        (mends(lambda h, n: n == 5, wrong), Trial.any_number, ValueError, "no such call"),
        (SingleMoments, Trial.float64, SamplerError, "torch.float32 on cpu, not torch.float64 on cpu as h is"),
        (RecallsSamples, Trial.fresh_randomness, AssertionError, "two calls returned the same samples"),
        (Recalls, Trial.fresh_randomness, Skipped, "it is exact"),
        (TakesTooMany, Trial.too_many_spins, AssertionError, r"sample took IsingHamiltonian\(5 spins"),
        (OneMore, Trial.too_many_spins, AssertionError, r"sample took IsingHamiltonian\(5 spins"),
        (AveragesTooMany, Trial.too_many_spins, AssertionError, r"moments took IsingHamiltonian\(5 spins"),
        (TakesTooManyQuantum, Trial.too_many_spins, AssertionError, r"sample took IsingHamiltonian\(4 spins.*, which its"),
        (with_(max_spins=4, max_quantum_spins=2), Trial.too_many_spins, None, "refuses 5 spins"),
        (with_(max_spins=4, transverse_field=True), Trial.too_many_spins, None, "refuses 5 spins"),
        (
            with_(max_spins=4, max_quantum_spins=2, transverse_field=True),
            Trial.too_many_spins,
            None,
            "refuses 5 spins and 3 spins with a transverse field",
        ),
        (with_(transverse_field=True), Trial.transverse_field, Skipped, "it takes transverse fields"),
        (Perfect, Trial.transverse_field, None, ""),
        (Perfect, Trial.cuda, Skipped, "there is no CUDA device here"),
    ],
)
def test_each_check_refuses_its_fault(sampler, check, error, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if error is None:
        assert check(trial(sampler)) == message
    else:
        with pytest.raises(error, match=message):
            check(trial(sampler))


def test_a_gpu_s_hamiltonian_is_sampled_and_averaged(monkeypatch):
    asked = []

    class Asked(Perfect):
        def sample(self, hamiltonian, num_samples):
            asked.append(("sample", hamiltonian.h.dtype, num_samples))
            return super().sample(hamiltonian, num_samples)

        def _moments(self, hamiltonian, num_samples):
            asked.append(("moments", hamiltonian.h.dtype, num_samples))
            return Moments.from_samples(self._sample(hamiltonian, num_samples), hamiltonian)

    # Double precision on the processor stands for a GPU.
    move = IsingHamiltonian.to
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(IsingHamiltonian, "to", lambda self, place=None, **how: move(self, dtype=torch.float64))
    assert trial(Asked).cuda() == ""
    assert asked == [("sample", torch.float64, 20), ("moments", torch.float64, 20)]


def test_what_chains_need_before_they_are_looked_at():
    for persistent, calls in ((False, 1), (True, 11)):
        tried = trial(with_(persistent=persistent))
        tried.distribution(case("single spin"))
        assert tried.sampler.called == (2000,) * calls


def test_moments_are_allowed_what_so_many_effective_samples_are():
    """Of a correlated chain fewer count: the share that the distribution's check found is kept for the moments."""

    class Twice(Perfect):
        def _sample(self, hamiltonian, num_samples):
            spins = super()._sample(hamiltonian, num_samples).spins
            return Samples(spins, torch.tensor([1.0, 0.0]).repeat(num_samples // 2) * 2 / num_samples)

    tried, problem = trial(Twice), case("single spin")
    tried.distribution(problem)
    (share,) = tried.efficiency.values()
    assert 0.1 <= share < 0.501  # half of the weights are 0
    mean = -math.tanh(0.7)

    def told(effective, spins):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tried.sampler, "moments", lambda *_: Moments(torch.tensor([spins]), torch.zeros(0)))
            tried.efficiency = {problem.name: effective} if effective else {}
            return tried.moments(problem)

    # N KL(p_hat || p) in units of standard errors, by hand.
    p, p_hat = (1 + mean) / 2, (1 + mean + 0.05) / 2
    divergence = p_hat * math.log(p_hat / p) + (1 - p_hat) * math.log((1 - p_hat) / (1 - p))
    for effective in (0.25, 1.0, None):
        sigmas = math.sqrt(2 * 2000 * (effective or 1.0) * divergence)
        assert told(effective, mean + 0.05) == f"largest deviation {sigmas:.1f} of {math.sqrt(20):.1f} standard errors"
    assert told(None, mean) == "largest deviation 0.0 of 4.5 standard errors"
    with pytest.raises(
        AssertionError, match=r"wrong moments: <s_0> -0.454, exactly -0.604, .* standard errors off where 4.5 are"
    ):
        told(None, mean + 0.15)


def test_the_moment_that_is_named_is_the_worst_with_the_spins_of_its_edge():
    problem = case("complete graph of 5")
    exact = exact_distribution(problem.hamiltonian)
    spins, pairs = exact.moments()
    tried = trial(Perfect)
    off = pairs.clone()
    off[7] += 0.3 if off[7] < 0 else -0.3
    i, j = exact.graph.edges[7].tolist()
    with pytest.raises(AssertionError, match=re.escape(f"<s_{i} s_{j}> {off[7]:+.3f}, exactly {pairs[7]:+.3f}, ")):
        tried._moment_deviation(Moments(spins, off), exact, 2000.0)
    off = spins.clone()
    off[4] += 0.3 if off[4] < 0 else -0.3
    with pytest.raises(AssertionError, match=re.escape(f"<s_4> {off[4]:+.3f}, exactly {spins[4]:+.3f}, ")):
        tried._moment_deviation(Moments(off, pairs), exact, 2000.0)


def test_a_sampler_that_says_it_is_exact_is_off_by_its_largest_error():
    class Knows(with_(exact=True)):
        factor = 1.0

        def _moments(self, hamiltonian, num_samples):
            spins, pairs = exact_distribution(hamiltonian).moments()
            return Moments((spins - self.factor * 3e-7).to(hamiltonian.h), (pairs - self.factor * 8e-7).to(hamiltonian.h))

    found = trial(Knows).moments(case("antiferromagnetic pair"))
    assert float(found.removeprefix("largest error ")) == pytest.approx(8e-7, abs=1e-7)
    found = trial(Knows).moments(case("single spin"))  # which has no pairs
    assert float(found.removeprefix("largest error ")) == pytest.approx(3e-7, abs=1e-7)
    Knows.factor = 2.0
    with pytest.raises(AssertionError, match="called exact, but off by 1.6e-06; 1e-06 is allowed"):
        trial(Knows).moments(case("antiferromagnetic pair"))


def test_relative_entropy_terms():
    found = _relative(torch.tensor([0.5, 0.0, 1.0, 0.25]).double(), torch.tensor([0.25, 0.5, 0.0, 0.25]).double())
    assert found[:2].tolist() == pytest.approx([0.5 * math.log(2), 0])
    assert float(found[2]) == pytest.approx(300 * math.log(10))  # never infinite, so that the message holds a number
    assert float(found[3]) == 0


def test_how_many_independent_samples_these_are_worth():
    hamiltonian = IsingHamiltonian([0.0, 0.0], [(0, 1)], [0.0])
    spins = 2 * torch.randint(0, 2, (4000, 2), generator=torch.Generator().manual_seed(3)).to(torch.int8) - 1
    assert _effective_number(Samples(spins), hamiltonian) == pytest.approx(4000, rel=0.1)
    weights = torch.tensor([1.0, 0.0]).repeat(2000) / 2000
    assert _effective_number(Samples(spins, weights), hamiltonian) == pytest.approx(2000, rel=0.1)  # Kish's number
    assert _effective_number(Samples(spins.repeat_interleave(2, 0)[:4000]), hamiltonian) == pytest.approx(2000, rel=0.15)
    # One slow spin is enough, but excuses no more than a factor of 5.
    slow = torch.cat([spins[:, :1], spins[:, 1:].sort(0).values], 1)
    assert _effective_number(Samples(slow), hamiltonian) == 800
    assert _effective_number(Samples(spins[:1]), hamiltonian) == 1


def test_a_sampler_of_a_temperature_of_its_own_is_compared_at_that_temperature():
    class Warm(with_(native_beta=False)):
        beta = 0.5

    problem, tried = case("RBM 3x3"), trial(Warm)
    with pytest.raises(Skipped, match="form right; it has no temperature at which it could be compared"):
        tried.distribution(problem)
    tried.betas = {problem.name: 0.5}
    assert tried.distribution(problem).startswith("total variation 0.")
    scaled = tried._at_its_temperature(problem)
    assert torch.equal(scaled.h, 0.5 * problem.hamiltonian.h)
    assert torch.equal(scaled.J, 0.5 * problem.hamiltonian.J)
    quantum = case("RBM 3x3, transverse field", True)
    tried.betas = {quantum.name: 0.25}
    assert torch.equal(tried._at_its_temperature(quantum).gamma, 0.25 * quantum.hamiltonian.gamma)
    tried.betas = {problem.name: 1.0}
    with pytest.raises(AssertionError, match="wrong moments"):
        tried.distribution(problem)


def test_problems_beyond_its_limits_tell_no_temperature():
    class Warm(with_(native_beta=False, max_spins=4)):
        beta = 0.5

    tried = trial(Warm)
    assert tried.temperature([case("no couplings"), case("RBM 3x3")]).startswith("effective beta 0.")
    assert tried.betas.keys() == {"no couplings", "RBM 3x3"}

    class Frozen(with_(native_beta=False)):
        def _sample(self, hamiltonian, num_samples):
            return Samples(-torch.ones(num_samples, hamiltonian.num_spins, dtype=torch.int8))

    one = Problem("one", IsingHamiltonian([1.0], [], []))
    with pytest.raises(AssertionError, match="no problem tells the temperature: no spin ever stands against its field"):
        trial(Frozen).temperature([one])


@pytest.fixture
def estimated(monkeypatch):
    """Temperatures are as given, one problem after the other, of samples that are each worth so many."""

    def replace(*estimates, share=1.0):
        found = iter(Estimate(*each) for each in estimates)
        monkeypatch.setattr("qvae.testing.trial.effective_beta", lambda *_: next(found))
        monkeypatch.setattr("qvae.testing.trial._effective_number", lambda samples, _: len(samples) * share)

    return replace


def test_one_temperature_is_the_mean_by_precision(estimated):
    """Of errors that correlation doubles, 0.02 and 0.04, whose weights are as 4 to 1; what can't be estimated tells nothing."""
    cases = [case(name) for name in ("single spin", "no couplings", "RBM 3x3", "strong fields")]
    tried = trial(with_(native_beta=False), num_samples=100)
    estimated((0.5, 0.01), (0.55, 0.02), (math.nan, 0.1), (9.0, math.inf), share=0.25)
    assert tried.temperature(cases) == "effective beta 0.510 ± 0.018"
    assert tried.betas == {each.name: pytest.approx(0.51) for each in cases}
    # Beyond 3 errors of its own a problem is compared at its own temperature.
    for second, own in ((0.515, 0.5005769), (0.516, 0.516)):
        estimated((0.5, 0.001), (second, 0.005))
        tried.temperature(cases[:2])
        assert tried.betas == {"single spin": pytest.approx((25 * 0.5 + second) / 26), "no couplings": pytest.approx(own)}


@pytest.mark.parametrize(("second", "is_one"), [(1.185, True), (1.195, False), (0.815, True), (0.805, False)])
def test_how_far_temperatures_may_be_apart(second, is_one, estimated):
    """A tenth, and sqrt(2 * 10) = 4.5 errors of 0.02: up to 0.19."""
    cases = [case("single spin"), case("no couplings")]
    tried = trial(with_(native_beta=False), num_samples=100)
    estimated((1.0, 1e-5), (second, 0.02))
    if is_one:
        tried.temperature(cases)
    else:
        text = rf"effective beta {second:.3f} ± 0.020 of no couplings, but 1.000 of all problems: one temperature"
        with pytest.raises(AssertionError, match=text):
            tried.temperature(cases)


def test_submitted_samples_are_asked_for_by_number():
    class Later(Remote, Perfect):
        rows = 20

        def describe(self):
            return {}

        def submit(self, hamiltonian, num_samples):
            assert (hamiltonian.num_spins, num_samples) == (5, 20)
            found = Future()
            found.set_result(Samples(torch.ones(self.rows, 5, dtype=torch.int8)))
            return found

    assert trial(Later).submit() == ""
    Later.rows = 19
    with pytest.raises(AssertionError, match=r"submit's samples have shape \(19, 5\), not \(20, 5\)"):
        trial(Later).submit()


def test_the_small_system_and_those_with_fields_are_as_they_were_written():
    """Where samplers go wrong: edges in no order, coefficients of both signs, fields of every spin that differ."""
    assert small().h.tolist() == pytest.approx([0.3, -0.2, 0.0, 0.1, 0.2])
    assert small().J.tolist() == pytest.approx([(2 * k - 9) / 18 for k in range(10)])
    quantum = problems(True)
    assert [problem.name for problem in quantum[9:]] == [f"{problem.name}, transverse field" for problem in quantum[:9]]
    for plain, field in zip(quantum[:9], quantum[9:], strict=True):
        number = plain.hamiltonian.num_spins
        assert not plain.hamiltonian.is_quantum
        expected = [0.3 + 0.9 * k / max(1, number - 1) for k in range(number)]
        assert field.hamiltonian.gamma.tolist() == pytest.approx(expected)
        assert torch.equal(field.hamiltonian.h, plain.hamiltonian.h)
        assert torch.equal(field.hamiltonian.J, plain.hamiltonian.J)
    with pytest.raises(CapabilityError):
        with_(max_spins=4)(seed=1).sample(small(), 1)
