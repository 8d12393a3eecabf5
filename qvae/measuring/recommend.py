"""Which sampler, with which settings, gives a prior's gradient the accuracy it needs at the least cost on this machine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from qvae.config.backends import BackendSpec
from qvae.config.load import load_config
from qvae.config.schema import Config
from qvae.data.dataset import Dataset, epoch_permutation, prepare_fixed
from qvae.errors import ConfigError, QvaeError, SamplerError
from qvae.evaluation.rows import device_of
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.measuring.candidates import Candidate, judge, settings_to_try, squared_error
from qvae.measuring.specs import local_samplers, make_seeded
from qvae.measuring.truth import Truth, find_truth
from qvae.models.autoencoder import Autoencoder
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.measured import MeasuredCode, MeasuredPosterior, basis_bits
from qvae.models.prior import BoltzmannPrior, boltzmann_prior
from qvae.progress import Report
from qvae.runs.assemble import make_dataset, make_model, positive_phase
from qvae.runs.models import held_by
from qvae.runs.run import load_run
from qvae.sampling.closing import close
from qvae.sampling.registered import SAMPLERS
from qvae.sampling.sampler import LatentSampler, pair_moments
from qvae.training.objectives.labelled import boltzmann_objective
from qvae.training.trainer import Trainer

IMAGES = 4096
"""Training images whose codes give the positive phase's noise."""
ADAM_STEP = 0.1
"""Size of a parameter's step in units of the learning rate: Adam's, where the gradient is a tenth of its own noise."""
_TRAINING_SHARE, _TRUTH_SHARE = 0.2, 0.25  # of all the time, and of what is left then
_EQUAL = 1.2  # times the lowest cost, which timing doesn't tell from it: the most accurate of these is recommended


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
    report: Report = lambda share, figures: None,
    trust: Iterable[str] = (),
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
        report: told the part of the time that is spent, and what is being done.
        trust: of what the samplers of a file or run name, as in :func:`~qvae.config.load.load_config`.

    Raises:
        ConfigError, DataError, RunError, SamplerError: something is wrong with what was asked for.
    """
    started, source = time.perf_counter(), os.path.expanduser(source)

    def tell(text: str) -> None:
        report(min(1.0, (time.perf_counter() - started) / seconds), text)

    tell("the prior")
    model, config, dataset, prior, warnings = _prior(source, _TRAINING_SHARE * seconds, overrides, trust)
    device, model = device_of(model), model.to("cpu")
    hamiltonian = boltzmann_prior(model).frozen()
    tell("the noise of the positive phase")
    left = seconds - (time.perf_counter() - started)
    truth = find_truth(hamiltonian, _TRUTH_SHARE * max(0.0, left), 0, lambda share: tell("the truth"), time.perf_counter)
    allowed, how = _allowed_variance(model, dataset, config.training.batch_size, truth)
    if squared_error(truth) > 0.25 * allowed:
        warnings.append("the truth is known hardly better than the gradient must be: give more --seconds")
    configured = config.sampler
    step = ADAM_STEP * config.training.prior_learning_rate
    waiting, candidates = settings_to_try(configured, hamiltonian), []
    for number, spec in enumerate(waiting):
        tell(spec.label)
        left = seconds - (time.perf_counter() - started)
        share = max(0.0, left) / (len(waiting) - number)
        candidates.append(judge(spec, hamiltonian.to(device), truth, allowed, config.training.chains, step, share))
    candidates.sort(key=lambda found: (not found.reaches, found.milliseconds if found.reaches else found.total))
    size = len(truth.moments.spins) + len(truth.moments.pairs)
    about = f"a standard deviation of {math.sqrt(allowed / size):.2g} for each of {size} parameters, {how}"
    tell("done")
    path = str(Path(source, "config.yaml")) if Path(source).is_dir() else source
    return Recommendation(prior, about, truth.method, candidates, configured, path, warnings, overrides)


def _prior(
    source: str, seconds: float, overrides: Sequence[str], trust: Iterable[str]
) -> tuple[Autoencoder, Config, Dataset | None, str, list[str]]:
    """The model, its configuration and data, and what the prior is, in words."""
    if Path(source).is_dir():
        run = load_run(source, overrides, trust=trust)
        _require_sampled(run.config)
        SAMPLERS.require_words(run.config.sampler, run.config.trust)
        try:
            return run.model, run.config, run.dataset, f"the trained prior of {source}", []
        except QvaeError as error:
            trouble = f"the images can't be read ({str(error).rstrip('.')}), so the prior's own spread stands for theirs"
            return run.model, run.config, None, f"the trained prior of {source}", [trouble]
    config = load_config(source, overrides, trust=trust)
    _require_sampled(config)
    SAMPLERS.require_words(config.sampler, config.trust)
    dataset = make_dataset(config)
    torch.manual_seed(config.training.seed)
    try:
        model = make_model(config.model, Statistics.of(dataset), held=held_by(config.model, dataset)[0])
    except ConfigError as error:
        raise ConfigError(f"{str(error).rstrip('.')}; or give the folder of a run.") from error
    sampler = _training_sampler(config, model)
    quick = config.training.model_copy(update={"max_seconds": seconds, "epochs": 10**6, "tensorboard": False})
    try:
        prepare, positive = dataset.prepare_in_training, positive_phase(config.model)
        objective = boltzmann_objective(model, prepare, quick, sampler, positive=positive)
        trainer = Trainer(objective, dataset, quick)
        trainer.fit()
    finally:
        close(sampler)
    text = f"a prior trained with {source} for {trainer.seconds:.0f} s ({trainer.step} steps)"
    warning = "this prior was trained for a moment; one trained to the end is harder to sample: give its run folder"
    return cast(Autoencoder, trainer.averaged_model()), config, dataset, text, [warning]


def _require_sampled(config: Config) -> None:
    discrete = config.model.discrete
    if config.model.kind != "qvae" and (discrete is None or discrete.prior != "boltzmann"):
        raise ConfigError(
            "samplers are recommended for Boltzmann priors: of model.kind qvae, or of a vqvae with model.variant=discrete and "
            "model.discrete.prior=boltzmann."
        )


def _training_sampler(config: Config, model: Autoencoder) -> LatentSampler:
    """The configured sampler, or a local one where that is remote: this training is only for measuring."""
    configured = make_seeded(config.sampler, config.training.seed)
    if not configured.capabilities.remote:
        return configured
    configured.close()
    hamiltonian = boltzmann_prior(model).frozen()
    for spec in local_samplers()[0]:
        sampler = make_seeded(spec, config.training.seed)
        able = sampler.capabilities
        if able.persistent and able.excludes(hamiltonian.num_spins, hamiltonian.is_quantum) is None:
            return sampler
    raise SamplerError("no local sampler can train this prior; give the folder of a run.")


def _allowed_variance(model: Autoencoder, dataset: Dataset | None, batch_size: int, truth: Truth) -> tuple[float, str]:
    """The positive phase's variance, summed over h and J, and what it rests on."""
    if dataset is None:
        spread = (1 - truth.moments.spins**2).sum() + (1 - truth.moments.pairs**2).sum()
        return float(spread) / batch_size, f"as noisy as {batch_size} samples of the prior"
    rows = epoch_permutation(len(dataset.train), 0, 0)[:IMAGES]
    images = prepare_fixed(dataset, dataset.train.flatten(1)[rows], 0)
    generator = torch.Generator().manual_seed(0)
    hamiltonian = cast(BoltzmannPrior, model.prior).hamiltonian().detach().to("cpu")
    is_factorial = not isinstance(model.posterior, MeasuredPosterior)
    variance = (_factorial_variance if is_factorial else _measured_variance)(model, images, hamiltonian, generator)
    return variance / batch_size, f"as noisy as a batch of {batch_size} images (from the codes of {len(images)})"


def _factorial_variance(model: Autoencoder, images: Tensor, hamiltonian: IsingHamiltonian, generator: torch.Generator) -> float:
    """sum over phi of Var_x(E_q[phi]), where E_q[s_i s_j] = E_q[s_i] E_q[s_j]: pairs of (N, n) means are never held."""
    means = torch.cat([2 * model.code_means(batch, generator) - 1 for batch in images.split(1024)]).double()
    pairs, squares = (pair_moments(each, each, hamiltonian) / len(means) for each in (means, means**2))
    return float(means.var(0, correction=0).sum() + (squares - pairs**2).sum())


@torch.no_grad()
def _measured_variance(model: Autoencoder, images: Tensor, hamiltonian: IsingHamiltonian, generator: torch.Generator) -> float:
    """The same where q is a circuit's distribution, by sums over all basis states."""
    spins = 2.0 * basis_bits(hamiltonian.num_spins).double() - 1
    first, second = hamiltonian.edges.T
    phi = torch.cat([spins, spins[:, first] * spins[:, second]], dim=1)
    found = []
    for batch in images.split(1024):
        code = model.posterior_sample(batch, relaxed=False, generator=generator)
        assert isinstance(code, MeasuredCode)
        found.append(code.log_probabilities().exp().double() @ phi)
    return float(torch.cat(found).var(0, correction=0).sum())
