"""Which sampler, with which settings, gives a prior's gradient the accuracy it needs at the least cost on this machine."""

from __future__ import annotations

import itertools
import json
import math
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qvae.config.load import load_config
from qvae.config.schema import BackendSpec, Config
from qvae.data import Dataset, binarize_fixed, epoch_permutation, load_data
from qvae.errors import ConfigError, QvaeError, SamplerError
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.measuring.samplers import bias_of, local_samplers, make_seeded
from qvae.measuring.truth import Truth, find_truth
from qvae.models.qvae import QVAE
from qvae.reporting.page import Table
from qvae.sampling.registry import sampler_options
from qvae.sampling.sampler import LatentSampler, Moments, pair_moments
from qvae.training.trainer import Trainer

IMAGES = 4096
"""Training images whose codes give the positive phase's noise."""
ADAM_STEP = 0.1
"""Size of a parameter's step in units of the learning rate: Adam's, where the gradient is a tenth of its own noise."""
_REPEATS = 8
_MOST_STEPS = 60  # of drift before a measurement: longer than chains that are of use remember
_MOST_CHAINS = 16  # times the configured number
_TRAINING_SHARE, _TRUTH_SHARE = 0.2, 0.25  # of all the time, and of what is left then
_GRIDS: tuple[Mapping[str, Sequence[Any]], ...] = (
    {"sweeps": (1, 5, 20, 80)},
    {"tempering": (8,), "sweeps": (5, 20)},
    {"annealing": (5, 20), "persistent": (False,)},
    {"num_sweeps": (20, 100, 400)},
)
"""Settings tried of whatever sampler has these options; one that has none of them is tried at its defaults."""
_EQUAL = 1.2  # times the lowest cost, which timing doesn't tell from it: the most accurate of these is recommended


@dataclass(frozen=True)
class Candidate:
    """A sampler with settings, and what it was measured to do to the gradient.

    Attributes:
        spec: the sampler and its options.
        chains: samples a step that it needs; a multiple of the configured number.
        milliseconds: cost of a step's call for so many, estimated in proportion from the configured number: CPU time of all
            threads, or time of the wall on CUDA.
        noise: variance of its gradient in units of the variance that is allowed, at ``chains``.
        bias: square of its bias in the same units; None where a single call says nothing of it.
        reaches: whether both together are at most 1.
        repeats: repetitions that this rests on.
        why: it was not measured, a clause; empty if it was.
    """

    spec: BackendSpec
    chains: int
    milliseconds: float = math.nan
    noise: float = math.nan
    bias: float | None = None
    reaches: bool = False
    repeats: int = 0
    why: str = ""

    @property
    def total(self) -> float:
        """Noise and bias together, in units of what is allowed."""
        return self.noise + (self.bias or 0.0)


@dataclass
class Recommendation:
    """The candidates, the best of them first, and how they were judged."""

    prior: str
    allowed: str
    truth: str
    candidates: list[Candidate]
    configured: BackendSpec
    config: str
    warnings: list[str] = field(default_factory=list)
    overrides: Sequence[str] = ()

    @property
    def best(self) -> Candidate | None:
        """The cheapest that reaches the accuracy, the most accurate of those that cost about the same; else None."""
        able = [candidate for candidate in self.candidates if candidate.reaches]
        limit = _EQUAL * min((candidate.milliseconds for candidate in able), default=0.0)
        return min((c for c in able if c.milliseconds <= limit), key=lambda candidate: candidate.total, default=None)


def recommend(
    source: str,
    seconds: float = 60.0,
    overrides: Sequence[str] = (),
    progress: Callable[[str, float], None] = lambda text, share: None,
) -> Recommendation:
    """Measure the local samplers on the prior of a run, or on one trained for a moment with a configuration.

    How accurate must the negative phase be? A step's gradient of h_i and J_ij is g = <phi>_data - <phi>_model, with phi = s_i
    or s_i s_j. Its first part is a mean over a batch of B images and has the variance Var_x(E_q[phi]) / B; the second is a
    sampler's estimate, off by noise and bias. Their mean square adds up:
    E|g_hat - g|^2 = sum_phi Var_x(E_q[phi]) / B + sum_phi Var(phi_hat) + sum_phi bias^2. The sampler is accurate enough when
    its two terms are no more than the first: steps are then at most sqrt(2) as noisy as with an exact negative phase, and a
    better sampler would buy less than a larger batch. Noise falls with the number of chains, a bias does not; where noise is
    the only trouble, more chains are counted in, at proportional cost.

    Persistent chains are judged where they stand in training: on a prior that has moved in every call. Each repetition walks
    h and J along their own direction, a growing prior being what chains lag behind most, by ``ADAM_STEP`` learning rates a
    step (root mean square), and is measured when it arrives at the prior, whose truth is known. The lag is part of the bias.

    Args:
        source: a run folder, a YAML file, or the name of a shipped configuration.
        seconds: in all; a single operation inside a sampler may run over it.
        overrides: ``a.b=c`` on top of the configuration.
        progress: called with what is being done and the part of the time that is spent.

    Raises:
        ConfigError, DataError, RunError, SamplerError: something is wrong with what was asked for.
    """
    started = time.perf_counter()

    def tell(text: str) -> None:
        progress(text, min(1.0, (time.perf_counter() - started) / seconds))

    tell("the prior")
    model, config, dataset, prior, warnings = _prior(source, _TRAINING_SHARE * seconds, overrides)
    device, model = model.prior.h.device, model.to("cpu")
    hamiltonian = model.prior.hamiltonian().detach()
    tell("the noise of the positive phase")
    left = seconds - (time.perf_counter() - started)
    truth = find_truth(hamiltonian, _TRUTH_SHARE * max(0.0, left), 0, lambda share: tell("the truth"), time.perf_counter)
    allowed, how = _allowed_variance(model, dataset, config.training.batch_size, truth)
    if _square(truth) > 0.25 * allowed:
        warnings.append("the truth is known hardly better than the gradient must be: give more --seconds")
    configured = config.sampler
    step = ADAM_STEP * config.training.prior_learning_rate
    waiting, candidates = _settings(configured, hamiltonian), []
    for number, spec in enumerate(waiting):
        tell(spec.label)
        left = seconds - (time.perf_counter() - started)
        share = max(0.0, left) / (len(waiting) - number)
        candidates.append(_judge(spec, hamiltonian.to(device), truth, allowed, config.training.chains, step, share))
    candidates.sort(key=lambda found: (not found.reaches, found.milliseconds if found.reaches else found.total))
    size = len(truth.moments.spins) + len(truth.moments.pairs)
    about = f"a standard deviation of {math.sqrt(allowed / size):.2g} for each of {size} parameters, {how}"
    tell("done")
    path = str(Path(source, "config.yaml")) if Path(source).is_dir() else source
    return Recommendation(prior, about, truth.method, candidates, configured, path, warnings, overrides)


# The prior and what it needs ------------------------------------------------------------------------------------------


def _prior(source: str, seconds: float, overrides: Sequence[str]) -> tuple[QVAE, Config, Dataset | None, str, list[str]]:
    """The model, its configuration and data, and what the prior is, in words."""
    if Path(source).is_dir():
        from qvae.run import load_run

        run = load_run(source, overrides)
        try:
            return run.model, run.config, run.dataset, f"the trained prior of {source}", []
        except QvaeError as error:
            trouble = f"the images can't be read ({str(error).rstrip('.')}), so the prior's own spread stands for theirs"
            return run.model, run.config, None, f"the trained prior of {source}", [trouble]
    config = load_config(source, overrides)
    dataset = load_data(config.data)
    torch.manual_seed(config.training.seed)
    try:
        model = QVAE(config.model, dataset.mean_image)
    except ValueError as error:
        raise ConfigError(f"model: {error}; or give the folder of a run.") from error
    sampler = _training_sampler(config, model)
    quick = {"max_seconds": seconds, "epochs": 10**6, "tensorboard": False}
    trainer = Trainer(model, dataset, config.training.model_copy(update=quick), sampler)
    trainer.fit()
    sampler.close()
    text = f"a prior trained with {source} for {trainer.seconds:.0f} s ({trainer.step} steps)"
    warning = "this prior was trained for a moment; one trained to the end is harder to sample: give its run folder"
    return trainer.averaged_model(), config, dataset, text, [warning]


def _training_sampler(config: Config, model: QVAE) -> LatentSampler:
    """The configured sampler, or a local one where that is remote: this training is only for measuring."""
    configured = make_seeded(config.sampler, config.training.seed)
    if not configured.capabilities.remote:
        return configured
    configured.close()
    hamiltonian = model.prior.hamiltonian()
    for spec in local_samplers()[0]:
        sampler = make_seeded(spec, config.training.seed)
        able = sampler.capabilities
        if able.persistent and able.excludes(hamiltonian.num_spins, hamiltonian.is_quantum) is None:
            return sampler
    raise SamplerError("no local sampler can train this prior; give the folder of a run.")


def _allowed_variance(model: QVAE, dataset: Dataset | None, batch_size: int, truth: Truth) -> tuple[float, str]:
    """The positive phase's variance, summed over h and J, and what it rests on."""
    if dataset is None:
        spread = (1 - truth.moments.spins**2).sum() + (1 - truth.moments.pairs**2).sum()
        return float(spread) / batch_size, f"as noisy as {batch_size} samples of the prior"
    rows = epoch_permutation(len(dataset.train), 0, 0)[:IMAGES]
    images = binarize_fixed(dataset, dataset.train.flatten(1)[rows], 0)
    generator = torch.Generator().manual_seed(0)
    means = torch.cat([2 * model.code_means(batch, generator) - 1 for batch in images.split(1024)]).double()
    hamiltonian = model.prior.hamiltonian().detach().to("cpu")
    count = len(means)
    pairs = pair_moments(means, means, hamiltonian) / count
    variance = (means.var(0, correction=0)).sum() + (pair_moments(means**2, means**2, hamiltonian) / count - pairs**2).sum()
    return float(variance) / batch_size, f"as noisy as a batch of {batch_size} images (from the codes of {count})"


def _square(truth: Truth) -> float:
    return float(truth.spins_error.square().sum() + truth.pairs_error.square().sum())


# Candidates -----------------------------------------------------------------------------------------------------------


def _settings(configured: BackendSpec, hamiltonian: IsingHamiltonian) -> list[BackendSpec]:
    """What is tried: the configured sampler as it is, and every local one that takes the prior with a few settings each."""
    found: list[BackendSpec] = [configured]
    for spec in local_samplers()[0]:
        if make_seeded(spec, 0).capabilities.excludes(hamiltonian.num_spins, hamiltonian.is_quantum) is not None:
            continue
        grids = [grid for grid in _GRIDS if set(grid) <= set(sampler_options(spec.name))]
        # What is made for a transverse field has no more to offer without one: its defaults will do.
        if make_seeded(spec, 0).capabilities.transverse_field and not hamiltonian.is_quantum:
            grids = []
        products = (dict(zip(grid, values, strict=True)) for grid in grids for values in itertools.product(*grid.values()))
        found += [BackendSpec(name=spec.name, options=options) for options in products] or [spec]
    # The defaults written out are the defaults: the first of equals is kept, which is the configured one.
    keys = [json.dumps([spec.name, sampler_options(spec.name) | dict(spec.options)], default=str) for spec in found]
    return [spec for place, spec in enumerate(found) if keys.index(keys[place]) == place]


class _OutOfTime(BaseException):
    """A candidate's share of the time is used up; no ``Exception``, which code that it interrupts may catch."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise _OutOfTime in the block after so many seconds, where the system has alarms; elsewhere do nothing."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _judge(
    spec: BackendSpec, hamiltonian: IsingHamiltonian, truth: Truth, allowed: float, chains: int, step: float, share: float
) -> Candidate:
    errors: list[Tensor] = []
    calls: list[float] = []
    why = ""
    try:
        # A candidate that has been measured twice keeps what it has when its time is over.
        with _time_limit(max(share, 0.2)):
            for error in _repetitions(spec, hamiltonian, truth, chains, step, share, calls):
                errors.append(error)
    except _OutOfTime:
        why = "" if errors else "a single call takes longer than its share of the time"
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")
    if not errors:
        return Candidate(spec, chains, why=why or "no time was left for it")
    return _candidate(spec, torch.stack(errors), calls, truth, allowed, chains)


def _candidate(
    spec: BackendSpec, errors: Tensor, calls: Sequence[float], truth: Truth, allowed: float, chains: int
) -> Candidate:
    """Noise and bias from errors (repetitions, parameters), and the number of chains at which they are small enough."""
    parameters = errors.shape[1]
    reference = math.sqrt(_square(truth) / max(1, parameters))
    size, _ = bias_of(errors, reference)
    total = max(0.0, float(errors.square().sum(1).mean()) - _square(truth)) / allowed if allowed else 0.0
    bias = None if math.isnan(size) else min(total, size**2 * parameters / allowed) if allowed else 0.0
    noise = total - (bias or 0.0)
    factor = 1
    while noise / factor + (bias or 0.0) > 1 and factor < _MOST_CHAINS:
        factor *= 2
    reaches = noise / factor + (bias or 0.0) <= 1
    if not reaches:
        factor = 1
    milliseconds = 1e3 * factor * statistics.median(calls)
    return Candidate(spec, chains * factor, milliseconds, noise / factor, bias, reaches, len(errors))


def _repetitions(
    spec: BackendSpec,
    hamiltonian: IsingHamiltonian,
    truth: Truth,
    chains: int,
    step: float,
    share: float,
    calls: list[float],
) -> Iterator[Tensor]:
    """Errors (n + m,) of the moments of fresh samplers that have followed the prior on its way; fills in ``calls``' seconds."""
    steps, started = 0, time.perf_counter()
    values = torch.cat([hamiltonian.h, hamiltonian.J])
    rate = step / max(1e-12, float(values.square().mean().sqrt()))
    exact = Moments(truth.moments.spins, truth.moments.pairs)
    for repeat in range(_REPEATS):
        sampler = make_seeded(spec, 1000 + repeat)
        # A persistent sampler's first call is longer than those that training is made of.
        seconds: list[float] = []
        try:
            if repeat == 0 and sampler.capabilities.persistent:
                # How long a first call and one that follows take says how many of them there is time for.
                costs = [_call(sampler, hamiltonian, chains)[2] for _ in range(3)]
                steps = max(1, min(_MOST_STEPS, int((share / _REPEATS - costs[0]) / max(costs[1:]))))
            for left in range(steps, 0, -1):
                scale = 1 - rate * left
                moved = hamiltonian.replace(hamiltonian.h * scale, hamiltonian.J * scale)
                seconds.append(_call(sampler, moved, chains)[1])
            moments, cost, _ = _call(sampler, hamiltonian, chains)
        finally:
            sampler.close()
        calls.extend([*seconds[1:], cost] if seconds else [cost])
        yield torch.cat([moments.spins.double().cpu() - exact.spins, moments.pairs.double().cpu() - exact.pairs])
        spent = time.perf_counter() - started
        if sampler.capabilities.exact or spent + spent / (repeat + 1) > share:
            return


def _call(sampler: LatentSampler, hamiltonian: IsingHamiltonian, chains: int) -> tuple[Moments, float, float]:
    """Moments, their cost in seconds, of the processor or of the wall where a GPU works, and the wall's in any case."""
    wall, cpu = time.perf_counter(), time.process_time()
    moments = sampler.moments(hamiltonian, chains)
    if hamiltonian.h.device.type == "cuda":
        torch.cuda.synchronize(hamiltonian.h.device)
        return moments, time.perf_counter() - wall, time.perf_counter() - wall
    return moments, time.process_time() - cpu, time.perf_counter() - wall


# In words -------------------------------------------------------------------------------------------------------------


def recommendation_table(found: Recommendation) -> Table:
    """The candidates: cost of a step, and the error of its gradient in units of what is allowed."""
    rows = [
        (
            candidate.spec.label,
            str(candidate.chains),
            f"{candidate.milliseconds:.3g}",
            _share(candidate.noise),
            "-" if candidate.bias is None else _share(candidate.bias),
            "yes" if candidate.reaches else "no",
            str(candidate.repeats),
        )
        for candidate in found.candidates
        if candidate.repeats
    ]
    note = (
        f"Measured on {found.prior}; milliseconds are those of the processor, all threads added up (on CUDA the wall's). "
        f"Allowed: {found.allowed}. Noise and bias squared are in units of that variance and must not exceed 1 together; what "
        f"was repeated once has its bias in its noise. Truth: {found.truth}."
    )
    reasons: dict[str, list[str]] = {}
    for candidate in found.candidates:
        if candidate.why:
            reasons.setdefault(candidate.why, []).append(candidate.spec.label)
    note += "".join(f" Not measured: {', '.join(labels)} ({why})." for why, labels in reasons.items())
    return Table(("sampler", "chains", "ms a step", "noise", "bias²", "enough", "repeats"), rows, note)


def _share(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def recommendation_text(found: Recommendation) -> list[str]:
    """Which and why, in sentences, and as the last one the command."""
    best = found.best
    if best is None:
        measured = [c for c in found.candidates if c.repeats]
        if not measured:
            return ["Nothing could be measured in the time; give more --seconds."]
        nearest = min(measured, key=lambda candidate: candidate.total)
        sentence = (
            f"No sampler reaches the accuracy with up to {_MOST_CHAINS} times the chains. The nearest is {nearest.spec.label}, "
            f"with {nearest.total:.1f} times the allowed variance: train with it and a lower training.prior_learning_rate, or "
            "on a smaller prior."
        )
        return [sentence, _command(found, nearest)]
    text = (
        f"{best.spec.label} with {best.chains} samples is the cheapest that is accurate enough: {best.milliseconds:.3g} ms a "
        f"step, at {best.total:.2f} of the allowed variance."
    )
    sentences = [text]
    configured = next((c for c in found.candidates if c.spec == found.configured), best)
    if configured.spec is best.spec:
        sentences.append("It is the configured one.")
    elif configured.reaches:
        label, milliseconds = configured.spec.label, configured.milliseconds
        sentences.append(f"The configured {label} is accurate enough, too, at {milliseconds:.3g} ms.")
    elif configured.repeats:
        sentences.append(f"The configured {configured.spec.label} makes {configured.total:.1f} times the allowed variance.")
    others: dict[str, Candidate] = {}
    for candidate in found.candidates:  # the cheapest first
        if candidate.reaches and candidate.spec.name != best.spec.name:
            others.setdefault(candidate.spec.name, candidate)
    if others:
        costs = [f"{c.spec.label} at {c.milliseconds:.3g} ms" for c in others.values()]
        sentences.append(f"The best of the other backends that reach it: {', '.join(costs)}.")
    return [" ".join(sentences), _command(found, best)]


def _command(found: Recommendation, candidate: Candidate) -> str:
    replaced = ("sampler.", "training.chains=")
    kept = [f"--set {text}" for text in found.overrides if not text.startswith(replaced)]
    settings = [f"--set sampler.options.{key}={json.dumps(value)}" for key, value in candidate.spec.options.items()]
    return " ".join(
        [
            f"qvae train {found.config} --sampler {candidate.spec.name}",
            *kept,
            *settings,
            f"--set training.chains={candidate.chains}",
        ]
    )
