"""Samplers measured on problems with a truth: speed, and errors against time at equal budget."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import qvae
from qvae.config.load import parse_backend
from qvae.config.schema import BackendSpec
from qvae.errors import CapabilityError, RunError
from qvae.files import atomic_write_text
from qvae.ising import graphs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.measuring.problems import Problem
from qvae.measuring.truth import Truth, cached_truth
from qvae.sampling.diagnostics import effective_beta, expected_total_variation, r_hat
from qvae.sampling.make import make_sampler
from qvae.sampling.registry import sampler_infos
from qvae.sampling.sampler import LatentSampler, Moments, Samples

RESULTS = "results.json"
SCHEMA = 1
REPEATS = 10
"""Independent repetitions that share a sampler's budget: 512 patterns of signs, for the test of bias."""
CHAINS = 256
"""Of a persistent sampler; it goes on with these to the end of a repetition."""
FIRST_READS = 16
"""Of a sampler that starts afresh in every call; the calls after the first bring the total to 32, 64, 128 and so on."""
MEASURE = 1000
"""Perfect samples whose accuracy is the goal of ``seconds_to_goal``."""
_BETA_ROWS = 256  # of each repetition, for the effective temperature
_R_HAT_DRAWS = 2000


# Which samplers -------------------------------------------------------------------------------------------------------


def parse_sampler(text: str) -> BackendSpec:
    """``NAME[:OPTION=VALUE,...]``, values in YAML.

    Raises:
        ConfigError: an option is not of that form.
        SamplerError: there is no such sampler, or it has no such option.
    """
    spec = parse_backend(text)
    make_seeded(spec, 0).close()  # what is wrong with a name or an option is said before anything is measured
    return spec


def make_seeded(spec: BackendSpec, seed: int) -> LatentSampler:
    """A fresh sampler for a repetition: ``seed`` is counted from the specification's own, if it has one."""
    return make_sampler(spec, int(spec.options.get("seed") or 0) + seed)


def local_samplers() -> tuple[list[BackendSpec], dict[str, str]]:
    """Every registered sampler that runs here, at its defaults; and why the others are left out, by name."""
    chosen, left_out = [], {}
    for info in sampler_infos():
        if info.capabilities is None:
            left_out[info.name] = info.reason
        elif info.capabilities.remote:
            left_out[info.name] = f"it runs remotely and may cost money: name it, with --sampler {info.name}"
        else:
            chosen.append(BackendSpec(name=info.name))
    return chosen, left_out


# One sampler on one problem -------------------------------------------------------------------------------------------


@dataclass
class _Point:
    """What a repetition has found after so many samples and seconds."""

    samples: int
    cpu_seconds: float
    wall_seconds: float
    means: Tensor
    pairs: Tensor
    energy: float
    total_variation: float | None


class _Repetition:
    """Samples drawn by one sampler from its start on, and what they add up to."""

    def __init__(self, sampler: LatentSampler, hamiltonian: IsingHamiltonian, truth: Truth) -> None:
        self.sampler, self.hamiltonian, self.truth = sampler, hamiltonian, truth
        self.is_remote = sampler.capabilities.remote
        self.is_on_cpu = hamiltonian.h.device.type == "cpu"
        self.samples, self.cpu_seconds, self.wall_seconds, self.qpu_seconds = 0, 0.0, 0.0, 0.0
        self.has_qpu_seconds = False
        self._means = torch.zeros_like(truth.moments.spins)
        self._pairs = torch.zeros_like(truth.moments.pairs)
        self._energy = 0.0
        size = 0 if truth.distribution is None else len(truth.distribution.probabilities)
        self._counts = torch.zeros(size, dtype=torch.float64)
        self.energies: list[Tensor] = []
        self.last: Samples | None = None

    @property
    def seconds(self) -> float:
        """The clock of the budget: CPU seconds of all threads, or of the wall where others do the work."""
        return self.cpu_seconds if self.is_on_cpu and not self.is_remote else self.wall_seconds

    def draw(self, count: int) -> float:
        """Draw ``count`` samples and add them; returns the seconds that the sampler took, adding not included."""
        before, wall, cpu = self.seconds, time.perf_counter(), time.process_time()
        samples = self.sampler.sample(self.hamiltonian, count)
        if not self.is_on_cpu:
            torch.cuda.synchronize(self.hamiltonian.h.device)
        self.cpu_seconds += time.process_time() - cpu
        self.wall_seconds += time.perf_counter() - wall
        if "qpu_seconds" in samples.info:
            self.qpu_seconds += float(samples.info["qpu_seconds"])
            self.has_qpu_seconds = True
        self._add(samples)
        return self.seconds - before

    def _add(self, samples: Samples) -> None:
        found, count = Moments.from_samples(samples, self.hamiltonian), len(samples)
        energies = self.hamiltonian.energy(samples.spins).double().cpu()
        weights = torch.full_like(energies, 1 / count) if samples.weights is None else samples.weights.double().cpu()
        self.samples += count
        self._means += count * found.spins.double().cpu()
        self._pairs += count * found.pairs.double().cpu()
        self._energy += count * float(weights @ energies)
        if len(self._counts):
            place = 2 ** torch.arange(samples.spins.shape[1])
            states = ((samples.spins.cpu() > 0) * place).sum(1)
            self._counts += count * torch.bincount(states, weights, minlength=len(self._counts))
        if self.sampler.capabilities.persistent and len(self.energies) < _R_HAT_DRAWS:
            self.energies.append(energies)
        self.last = samples

    def point(self) -> _Point:
        """What all samples so far say."""
        n, variation = self.samples, None
        if self.truth.distribution is not None:
            variation = 0.5 * float((self._counts / n - self.truth.distribution.probabilities.cpu()).abs().sum())
        return _Point(
            n, self.cpu_seconds, self.wall_seconds, self._means / n, self._pairs / n, self._energy / n, variation
        )


def _run(repetition: _Repetition, share: float) -> list[_Point]:
    """Points after ever twice as many samples, and the last one where the share of the budget ends; one at least."""
    advance = _persistent_calls if repetition.sampler.capabilities.persistent else _fresh_calls
    points = []
    for _ in advance(repetition, share):
        points.append(repetition.point())
    if repetition.samples > points[-1].samples:
        points.append(repetition.point())
    return points


def _persistent_calls(run: _Repetition, share: float) -> Iterator[None]:
    """Calls that continue the same chains, 1, 1, 2, 4, ...; stops between each of them while the share allows one more."""
    seconds, calls = run.draw(CHAINS), 1
    yield
    seconds = 0.0  # the first one's burn-in says nothing about those that follow
    while True:
        for _ in range(calls):
            if run.seconds + seconds >= share:
                return
            seconds = run.draw(CHAINS)
        calls *= 2
        yield


def _fresh_calls(run: _Repetition, share: float) -> Iterator[None]:
    """Calls for as many samples as there are already; the last one is as large as the share allows."""
    before, count, seconds = (0, 0.0), FIRST_READS, run.draw(FIRST_READS)
    while True:
        yield
        # What a call costs, at least, and each of its samples, from the last two calls.
        each = max(0.0, (seconds - before[1]) / (count - before[0])) if count > before[0] else seconds / count
        fixed = max(0.0, seconds - each * count)
        left = share - run.seconds - fixed
        wanted = run.samples
        affordable = wanted if each * wanted <= left else int(left / each) if each > 0 else 0
        if left < 0 or affordable < max(1, wanted // 8):
            return
        before, count = (count, seconds), affordable
        seconds = run.draw(affordable)
        if affordable < wanted:
            return


def measure_sampler(
    make: Callable[[int], LatentSampler],
    hamiltonian: IsingHamiltonian,
    truth: Truth,
    budget: float,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Measure a sampler at a budget of CPU seconds; the result is that of a sampler in :func:`run_benchmark`'s schema.

    Up to ``REPEATS`` fresh samplers share the budget, and each goes from its cold start: burn-in counts. Persistent chains
    (``CHAINS`` of them) go on from call to call, others are asked for ever larger numbers of samples, and all samples of a
    repetition are pooled. So a curve says: how far off are the averages of somebody who has spent so many seconds? What
    the sampler does not do itself, such as the sums, is not timed. The clock is that of the processor, threads added up, and
    that of the wall for remote samplers and on CUDA.

    Errors are root mean squares over moments and repetitions, less the reference's own error (in quadrature). The effective
    number of samples is Sum_i (1 - m_i^2) / Sum_i Var(m_i), the variance being that between repetitions: the number of
    perfect samples whose averages scatter as much, whatever the sampler does inside. It is taken over means and over
    correlations, and the smaller counts. A bias is what repetitions have in common: it is stated where the sum of their
    errors is longer than under every other choice of their signs (a randomization test; one perfect sampler in 512 fails).

    Args:
        make: a fresh sampler for a seed.
        hamiltonian: the problem, on the device.
        truth: of it, from :func:`~qvae.measuring.truth.find_truth`.
        budget: seconds; one call of one repetition is made, whatever it takes.
        seed: of the first repetition.
        progress: called with the part of the budget that is spent.

    Raises:
        CapabilityError: the problem is beyond the sampler's capabilities.
        SamplerError: what it returned are no samples.
    """
    runs, points, spent = [], [], 0.0
    sampler = make(REPEATS * seed)
    try:
        sampler.check(hamiltonian)
        is_remote = sampler.capabilities.remote
        if not is_remote:
            _warm_up(make, hamiltonian)
        for repeat in range(REPEATS):
            # A remote sampler keeps its connection, and what it has learnt of the device, from one repetition to the next.
            if repeat > 0 and not is_remote:
                sampler.close()
                sampler = make(REPEATS * seed + repeat)
            run = _Repetition(sampler, hamiltonian, truth)
            points.append(_run(run, budget / REPEATS))
            runs.append(run)
            spent += run.seconds
            progress(min(1.0, spent / budget))
            if spent >= budget:
                break
    finally:
        sampler.close()
    final = [found[-1] for found in points]
    steps = min(len(found) for found in points)
    # Repetitions have their doublings in common, but not how many, nor where the budget cut them off.
    shared = [[found[step] for found in points] for step in range(steps - 1)] + [final]
    curve = [_summary(group, truth) for group in shared]
    clock = "cpu" if runs[0].is_on_cpu and not is_remote else "wall"
    return {
        "clock": clock,
        "repeats": len(runs),
        "persistent": runs[0].sampler.capabilities.persistent,
        "curve": curve,
        **_rates(final, [found[0] for found in points], runs, truth),
        "seconds_to_goal": _time_to_goal(curve, truth, f"{clock}_seconds"),
        "bias": _biases(final, truth),
        **_temperature(runs, hamiltonian),
        "r_hat": _r_hat(runs),
        "qpu_seconds": sum(run.qpu_seconds for run in runs) if any(run.has_qpu_seconds for run in runs) else None,
    }


def _warm_up(make: Callable[[int], LatentSampler], hamiltonian: IsingHamiltonian) -> None:
    """Imports and compilers are paid once a process, not by the first repetition; what fails here fails again there."""
    gamma = 1.0 if hamiltonian.is_quantum else 0.0
    tiny = IsingHamiltonian(torch.zeros(4), graphs.rbm(2, 2), torch.zeros(4), gamma).to(hamiltonian.h.device)
    with contextlib.suppress(Exception):
        make(0).sample(tiny, 4)


# What the points say --------------------------------------------------------------------------------------------------


def _errors(points: Sequence[_Point], truth: Truth) -> dict[str, Tensor]:
    """Errors of every repetition, (repeats, moments)."""
    scale = truth.energy_sd or 1.0
    return {
        "means": torch.stack([point.means for point in points]) - truth.moments.spins.cpu(),
        "correlations": torch.stack([point.pairs for point in points]) - truth.moments.pairs.cpu(),
        "energy": torch.tensor([[(point.energy - truth.energy) / scale] for point in points], dtype=torch.float64),
    }


def _floors(truth: Truth, samples: float) -> dict[str, float]:
    """Root mean square errors of perfect samples."""
    spins, pairs = truth.moments.spins, truth.moments.pairs
    return {
        "means": _root_mean((1 - spins**2) / samples),
        "correlations": _root_mean((1 - pairs**2) / samples),
        "energy": samples**-0.5 if truth.energy_sd else 0.0,
    }


def _root_mean(squares: Tensor) -> float:
    return math.sqrt(max(0.0, float(squares.mean()))) if squares.numel() else 0.0


def _summary(points: Sequence[_Point], truth: Truth) -> dict[str, Any]:
    """One point of the curve: averages over repetitions."""
    count = len(points)
    samples = sum(point.samples for point in points) / count
    found: dict[str, Any] = {
        "samples": samples,
        "cpu_seconds": sum(point.cpu_seconds for point in points) / count,
        "wall_seconds": sum(point.wall_seconds for point in points) / count,
    }
    floors = _floors(truth, samples)
    references = dict(zip(floors, truth.rms_errors, strict=True))
    for key, errors in _errors(points, truth).items():
        squares = errors.square().mean(1) if errors.shape[1] else torch.zeros(count, dtype=torch.float64)
        net = float(squares.mean()) - references[key] ** 2
        found[key] = math.sqrt(max(0.0, net))
        spread = float(squares.std()) / math.sqrt(count) if count > 1 else math.nan
        # The error bar of the root of a mean square, which near 0 is the root of that of the square.
        found[f"{key}_stderr"] = _finite(spread / (2 * found[key]) if net > spread else math.sqrt(max(spread, 0.0)))
        found[f"{key}_floor"] = floors[key]
    variations = [point.total_variation for point in points if point.total_variation is not None]
    found["total_variation"] = sum(variations) / count if variations else None
    exact = truth.distribution
    found["total_variation_floor"] = expected_total_variation(exact, round(samples)) if exact is not None else None
    return found


def _rates(
    points: Sequence[_Point], first: Sequence[_Point], runs: Sequence[_Repetition], truth: Truth
) -> dict[str, Any]:
    """Speeds, and whether repetitions are repetitions of the same samples, from last points and first points."""
    samples = sum(run.samples for run in runs)
    seconds = sum(run.seconds for run in runs)
    numbers = []
    errors = _errors(points, truth)
    for key, exact in (("means", truth.moments.spins), ("correlations", truth.moments.pairs)):
        scatter = float(errors[key].var(0).sum()) if len(points) > 2 else math.nan
        perfect = float((1 - exact**2).sum())
        if scatter > 0 and perfect > 0:
            numbers.append(perfect / scatter)
    identical = len(first) > 1 and all(torch.equal(first[0].pairs, point.pairs) for point in first[1:])
    effective = min(numbers) if numbers and not identical else None
    return {
        "samples": samples,
        "cpu_seconds": sum(run.cpu_seconds for run in runs),
        "wall_seconds": sum(run.wall_seconds for run in runs),
        "samples_per_second": samples / seconds if seconds else None,
        "effective_samples_per_second": effective * len(points) / seconds if effective and seconds else None,
        "identical_repeats": identical,
    }


def _time_to_goal(curve: Sequence[Mapping[str, Any]], truth: Truth, clock: str) -> float | None:
    """Seconds to the accuracy of ``MEASURE`` perfect samples in means and correlations, interpolated along the curve."""
    goal = _floors(truth, MEASURE)
    before: tuple[float, float] | None = None
    for point in curve:
        excess = max((point[key] / goal[key] if goal[key] else 0.0) for key in ("means", "correlations"))
        here = (point[clock], excess)
        if excess <= 1:
            if before is None or not excess or not here[0] or not before[0]:
                return here[0]
            # A straight line in logarithms.
            part = math.log(before[1]) / (math.log(before[1]) - math.log(excess))
            return math.exp(math.log(before[0]) + part * (math.log(here[0]) - math.log(before[0])))
        before = here
    return None


def bias_of(errors: Tensor, reference_error: float = 0.0) -> tuple[float, bool]:
    """The root mean square of what independent errors (repeats, moments) have in common, and whether chance is ruled out.

    Its square is the mean product of two repetitions' errors, which noise leaves alone. Chance is ruled out where the sum of
    all errors is longer than under any other choice of their signs, of which there must be 128 or more, and the bias larger
    than the reference's own error.
    """
    repeats, moments = errors.shape
    if repeats < 2 or moments == 0:
        return math.nan, False
    products = errors @ errors.T / moments
    square = float(products.sum() - products.trace()) / (repeats * (repeats - 1)) - reference_error**2
    if repeats < 8:
        return math.sqrt(max(0.0, square)), False
    signs = torch.tensor([(1, *rest) for rest in itertools.product((1, -1), repeat=repeats - 1)], dtype=errors.dtype)
    lengths = ((signs @ products) * signs).sum(1)
    is_certain = bool(lengths[0] > lengths[1:].max()) and square > reference_error**2
    return math.sqrt(max(0.0, square)), is_certain


def _biases(points: Sequence[_Point], truth: Truth) -> dict[str, dict[str, Any]]:
    references = dict(zip(("means", "correlations", "energy"), truth.rms_errors, strict=True))
    found = {}
    for key, errors in _errors(points, truth).items():
        size, is_certain = bias_of(errors, references[key])
        found[key] = {"size": _finite(size), "is_certain": is_certain}
    return found


def _temperature(runs: Sequence[_Repetition], hamiltonian: IsingHamiltonian) -> dict[str, float | None]:
    """Effective inverse temperature of the last samples of every repetition."""
    spins = torch.cat([run.last.spins[:_BETA_ROWS] for run in runs if run.last is not None])
    found = effective_beta(spins, hamiltonian)
    return {"effective_beta": _finite(found.value), "effective_beta_stderr": _finite(found.stderr)}


def _r_hat(runs: Sequence[_Repetition]) -> float | None:
    """Of the energies of all chains of the first repetition; None where no chains persist."""
    if len(runs[0].energies) < 4 or len({len(row) for row in runs[0].energies}) > 1:
        return None
    return _finite(r_hat(torch.stack(runs[0].energies)))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# The benchmark --------------------------------------------------------------------------------------------------------


def run_benchmark(
    problems: Sequence[Problem],
    samplers: Sequence[BackendSpec],
    out: Path,
    budget: float = 4.0,
    reference_seconds: float | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    qpu_price: float | None = None,
    left_out: Mapping[str, str] | None = None,
    progress: Callable[[str, float], None] = lambda text, share: None,
) -> dict[str, Any]:
    """Measure every sampler on every problem, and write ``results.json``, which is returned.

    Each pair is a file in ``out/pieces``, each reference run one in ``out/truth``, written as soon as it is there. A later
    call takes what has the same settings from there, and measures the rest.

    The schema of ``results.json`` (numbers are null where they don't apply; seconds are those of ``clock`` unless named)::

        schema, qvae, created, environment, settings: {budget, reference_seconds, seed, device, qpu_price}
        left_out: {sampler: why}
        problems: [{
          spec, origin, size, spins, couplings, transverse_field, fingerprint,
          truth: {method, is_exact, means_error, correlations_error, energy_error (in sd), energy, energy_sd, r_hat,
                  cpu_seconds},
          samplers: [{
            sampler (as it was named), name, options, status: "measured" | "excluded" | "failed", reason,
            -- and of one that was measured:
            clock: "cpu" | "wall", repeats, persistent, samples, cpu_seconds, wall_seconds (sums over repetitions),
            samples_per_second, effective_samples_per_second, seconds_to_goal, identical_repeats,
            bias: {means | correlations | energy: {size, is_certain}},
            effective_beta, effective_beta_stderr, r_hat, qpu_seconds, qpu_cost,
            curve: [{samples, cpu_seconds, wall_seconds (of one repetition),
                     means, correlations, energy, each with ..._stderr and ..._floor (perfect samples of the same number),
                     total_variation, total_variation_floor}]
          }]
        }]

    Args:
        problems: from :func:`~qvae.measuring.problems.make_problem`.
        samplers: from :func:`parse_sampler` or :func:`local_samplers`.
        out: folder; made if it isn't there.
        budget: seconds for each sampler on each problem.
        reference_seconds: CPU seconds of a reference run; None is five budgets.
        seed: of samplers and reference runs.
        device: where Hamiltonians are.
        qpu_price: of an hour of QPU time, in any currency; None says nothing of money.
        left_out: samplers that take no part, with the reason.
        progress: called with what is being done and the part of all that is done.

    Raises:
        RunError: the folder can't be written.
    """
    reference_seconds = 5 * budget if reference_seconds is None else reference_seconds
    settings = {"budget": budget, "reference_seconds": reference_seconds, "seed": seed, "device": str(device)}
    try:
        (out / "pieces").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder {out} can't be made: {error.strerror}; choose another --out.") from error
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "qvae": qvae.__version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "environment": environment(torch.device(device)),
        "settings": settings | {"qpu_price": qpu_price},
        "left_out": dict(left_out or {}),
        "problems": [],
    }
    parts, done = len(problems) * (len(samplers) + 1), 0
    for problem in problems:
        hamiltonian = problem.hamiltonian

        def advance(text: str, share: float) -> None:
            progress(text, (done + share) / parts)  # noqa: B023

        advance(f"{problem.spec}: truth", 0.0)
        truth = cached_truth(
            hamiltonian,
            problem.fingerprint,
            out / "truth",
            reference_seconds,
            seed,
            lambda share, label=problem.spec: advance(f"{label}: truth", share),  # type: ignore[misc]
        )
        done += 1
        found = _describe(problem, truth)
        results["problems"].append(found)
        for spec in samplers:
            label = f"{problem.spec}: {spec.label}"
            advance(label, 0.0)
            piece = _piece(problem, spec, truth, out / "pieces", settings, lambda share, text=label: advance(text, share))  # type: ignore[misc]
            if qpu_price is not None and piece.get("qpu_seconds") is not None:
                piece["qpu_cost"] = qpu_price * piece["qpu_seconds"] / 3600
            found["samplers"].append(piece)
            done += 1
        atomic_write_text(out / RESULTS, json.dumps(results, indent=1) + "\n")
    progress("done", 1.0)
    return results


def _describe(problem: Problem, truth: Truth) -> dict[str, Any]:
    errors = dict(zip(("means_error", "correlations_error", "energy_error"), truth.rms_errors, strict=True))
    return {
        "spec": problem.spec,
        "origin": problem.origin,
        "size": problem.size,
        "spins": problem.hamiltonian.num_spins,
        "couplings": problem.hamiltonian.graph.num_edges,
        "transverse_field": problem.hamiltonian.is_quantum,
        "fingerprint": problem.fingerprint,
        "truth": {
            "method": truth.method,
            "is_exact": truth.distribution is not None,
            **errors,
            "energy": truth.energy,
            "energy_sd": truth.energy_sd,
            "r_hat": None if truth.r_hat is None else _finite(truth.r_hat),
            "cpu_seconds": truth.cpu_seconds,
        },
        "samplers": [],
    }


def _piece(
    problem: Problem,
    spec: BackendSpec,
    truth: Truth,
    folder: Path,
    settings: Mapping[str, Any],
    progress: Callable[[float], None],
) -> dict[str, Any]:
    """One sampler on one problem: from its file if that has the same settings, and was no failure."""
    identity = {"sampler": spec.label, "name": spec.name, "options": dict(spec.options)}
    key = {"schema": SCHEMA, "qvae": qvae.__version__, "problem": problem.fingerprint, **identity, **settings}
    digest = hashlib.sha256(json.dumps([problem.fingerprint, spec.label], sort_keys=True).encode()).hexdigest()[:16]
    file = folder / f"{digest}.json"
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["key"] == key and kept["result"]["status"] != "failed":
            return kept["result"]
    result = {**identity, **_outcome(problem, spec, truth, settings, progress)}
    atomic_write_text(file, json.dumps({"key": key, "result": result}) + "\n")
    return result


def _outcome(
    problem: Problem, spec: BackendSpec, truth: Truth, settings: Mapping[str, Any], progress: Callable[[float], None]
) -> dict[str, Any]:
    hamiltonian = problem.hamiltonian.to(settings["device"])
    try:
        sampler = make_seeded(spec, 0)
        excluded = sampler.capabilities.excludes(hamiltonian.num_spins, hamiltonian.is_quantum)
        sampler.close()
        if excluded:
            return {"status": "excluded", "reason": excluded}
        found = measure_sampler(partial(make_seeded, spec), hamiltonian, truth, settings["budget"], settings["seed"], progress)
    except CapabilityError as error:
        return {"status": "excluded", "reason": str(error).rstrip(".")}
    except Exception as error:
        # A third party's sampler may fail in any way; the others must be measured all the same.
        text = " ".join(str(error).split()).rstrip(".")
        return {"status": "failed", "reason": f"{type(error).__name__}: {text}" if text else type(error).__name__}
    return {"status": "measured", "reason": "", **found}


def environment(device: torch.device) -> dict[str, Any]:
    """Machine and versions, for a result's reader."""
    return {
        "qvae": qvae.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        lines: Iterable[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    return platform.processor()
