"""The training loop: one negative phase per step, exact resume, and weights averaged for evaluation."""

from __future__ import annotations

import copy
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from qvae.config.schema import TrainingConfig
from qvae.data import Dataset, epoch_permutation
from qvae.errors import BudgetExhausted, CapabilityError, ConfigError, SamplerError
from qvae.ising.block_gibbs import multiplies_bfloat16
from qvae.ising.exact import MAX_DIAGONALIZATION_SPINS
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.partition import annealed_importance_sampling
from qvae.models.qvae import QVAE
from qvae.sampling.abilities import Metered, Remote
from qvae.sampling.chains import mixing_trouble
from qvae.sampling.diagnostics import effective_beta
from qvae.sampling.sampler import LatentSampler, Moments
from qvae.sampling.temperature import energy_matching_beta
from qvae.training.monitor import Monitor
from qvae.training.objective import negative_phase, surrogate

T = TypeVar("T")

_CALIBRATION_IMAGES = 4096  # enough that batch-norm statistics add less noise to the likelihood than the test set has
_LOOKS = 8  # at the sampler in a short run, where they cost about 3 %
_STEPS_BETWEEN_LOOKS = 2000  # in a long one, where they cost less than 1 %
_STEPS_BETWEEN_TIMINGS = 50  # so seldom that waiting for the device costs nothing


class Observer(Protocol):
    """Watches a model train, outside the training's clock; its state travels in the checkpoint."""

    def is_due(self, epoch: int) -> bool:
        """Whether to be called at the end of ``epoch``; it always is at the last one."""
        ...

    def observe(self, model: QVAE, epoch: int, loss: str) -> None:
        """Look at the model as it trains, and leave it as it was; ``loss`` says what the training display would."""

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class Trainer:
    """Maximises the surrogate of ``model`` on ``dataset`` with Adam; the sampler supplies the gradient of log Z.

    Args:
        model: moved to the device in place.
        dataset: training images, binarized as they are used.
        config: the ``training`` section.
        sampler: draws the negative phase.
        monitor: takes the metrics; None keeps silent.
        save: called with ``state_dict()``'s owner every ``checkpoint_seconds``, at the end and at an interrupt.
        observer: called at the end of the epochs that it asks for.
        fallback: the sampler to go on with when ``sampler`` fails, which is said aloud; None stops.

    Everything random comes from generators whose state is in :meth:`state_dict`: a run that is saved, loaded and
    continued ends, on the CPU, with the same bits as one that was never interrupted.
    """

    def __init__(
        self,
        model: QVAE,
        dataset: Dataset,
        config: TrainingConfig,
        sampler: LatentSampler,
        monitor: Monitor | None = None,
        save: Callable[[Trainer], None] = lambda trainer: None,
        observer: Observer | None = None,
        fallback: LatentSampler | None = None,
    ) -> None:
        self.config, self.dataset, self.sampler, self.save = config, dataset, sampler, save
        self.observer, self.fallback = observer, fallback
        self.device = choose_device(config.device)
        self.bf16 = use_bfloat16(config.precision, self.device)
        self.is_exact = config.prior_gradient == "exact"
        if self.is_exact and model.prior.num_spins > MAX_DIAGONALIZATION_SPINS:
            raise ConfigError(
                f"training.prior_gradient is exact, which takes at most {MAX_DIAGONALIZATION_SPINS} latent spins, but "
                f"model.latent has {model.prior.num_spins}; take fewer spins, or prior_gradient: sampled."
            )
        self.model = model.to(self.device).train()
        self.monitor = monitor or Monitor()
        self.images = dataset.train.flatten(1).to(self.device)
        self.steps_per_epoch = max(1, len(self.images) // config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.step, self.seconds = 0, 0.0
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        named = dict(model.named_parameters())
        prior_names = [name for name in named if name.startswith("prior.")]
        network_names = [name for name in named if not name.startswith("prior.")]
        prior, self.networks = [named[name] for name in prior_names], [named[name] for name in network_names]
        self._names = [*network_names, *prior_names]
        groups = [
            {"params": self.networks, "peak": config.learning_rate},
            {"params": prior, "peak": config.prior_learning_rate},
        ]
        self.optimizer = torch.optim.Adam(groups, lr=0.0, fused=True)
        self.parameters = [*self.networks, *prior]
        self.average = [p.detach().clone() for p in self.parameters]
        self._resumed_at = self._saved_at = 0.0
        self._milliseconds: dict[str, list[float]] = {}
        self._budget_is_spent = self._has_fallen_back = False
        self._before: tuple[Tensor, list[Tensor]] | None = None
        self._reached = 0.0  # progress by the budget of a sampler that failed since
        hamiltonian = model.prior.hamiltonian().detach()
        if fallback is not None:
            fallback.check(hamiltonian)
        try:
            sampler.check(hamiltonian)
        except CapabilityError:
            raise
        except SamplerError as error:
            self._fall_back(error)

    # The loop ---------------------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Train to the end of the epochs, of ``max_seconds`` or of the sampler's budget; saves on the way and at the end.

        Raises:
            SamplerError: the sampler failed, and there is no fallback; the state before the step in flight is saved.
            TrainingDiverged: the surrogate is no longer finite; the last checkpoint is from before that.
            KeyboardInterrupt: at Ctrl-C, after the step in flight is done and the state saved.
        """
        self._resumed_at = time.perf_counter() - self.seconds
        self._saved_at = time.perf_counter()
        with self.monitor.display(), _interrupts_deferred(self.monitor.say) as interrupted:
            if self.step % self.steps_per_epoch == 0 and self.monitor.has_open_epoch:
                self._end_of_epoch()  # of a run whose sampler failed when it was looked at there
            while not self.is_finished:
                for images in self._batches():
                    self._with_sampler(partial(self._train_step, images))
                    self.seconds = time.perf_counter() - self._resumed_at
                    if self.step % self.steps_per_epoch == 0 or self.is_finished:
                        self._end_of_epoch()
                    self.monitor.advance(self.progress, self.seconds)
                    if interrupted.is_set() or time.perf_counter() - self._saved_at > self.config.checkpoint_seconds:
                        self._save()
                    if interrupted.is_set():
                        raise KeyboardInterrupt
                    if self.is_finished:
                        break
        self._save()

    @property
    def is_finished(self) -> bool:
        """Whether the epochs, the seconds or the sampler's budget are used up."""
        limit = self.config.max_seconds
        return self._budget_is_spent or self.step >= self.total_steps or (limit is not None and self.seconds >= limit)

    def _with_sampler(self, work: Callable[[], T]) -> T | None:
        """Work that asks the sampler; None where its budget doesn't allow it, which ends the training."""
        try:
            return work()
        except BudgetExhausted as end:
            self._budget_is_spent = True
            self.monitor.warn("budget", f"{str(end).rstrip('.')}; training ends here")
            return None
        except SamplerError as error:
            if self.fallback is None:
                self._undo_step()
                self._save()  # a sampler that fails costs the step in flight and no more
                raise
            self._fall_back(error)
            return self._with_sampler(work)

    def _undo_step(self) -> None:
        """Take back what a step that failed has drawn, so that a training that goes on makes it as if for the first time."""
        if self._before is not None:
            state, buffers = self._before
            self.generator.set_state(state)
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)

    def _fall_back(self, error: SamplerError) -> None:
        """Go on with the fallback, aloud; without one the error stands."""
        if self.fallback is None:
            raise error
        name = self.fallback.name or type(self.fallback).__name__
        self.monitor.warn("fallback", f"{error} Training goes on with the fallback, {name!r}, from step {self.step}.")
        self._reached = self.progress
        self.sampler.close()
        self.sampler, self.fallback, self._has_fallen_back = self.fallback, None, True

    def _batches(self) -> Iterator[Tensor]:
        """Binary batches of the rest of the current epoch."""
        epoch, position = divmod(self.step, self.steps_per_epoch)
        order = epoch_permutation(len(self.images), epoch, self.config.seed).to(self.device)
        for rows in order.split(self.config.batch_size)[position : self.steps_per_epoch]:
            if self.sampler.capabilities.remote:
                self._before = self.generator.get_state(), [buffer.clone() for buffer in self.model.buffers()]
            yield self.dataset.binarize(self.images.index_select(0, rows), self.generator)

    def _train_step(self, images: Tensor) -> None:
        lap = self._start_laps() if self.step % _STEPS_BETWEEN_TIMINGS == 0 else lambda part: None
        self._set_learning_rates()
        hamiltonian = self.model.prior.hamiltonian()
        weight = self.kl_weight  # before a remote sampler begins to spend the budget that it follows
        negative = None if self.is_exact else self._submit(hamiltonian.detach())
        self.optimizer.zero_grad()
        terms = surrogate(self.model, images, self.generator, self.bf16, self.is_exact)
        lap("ms_forward")
        terms.loss(weight).backward()
        lap("ms_backward")
        if negative is not None:  # last, so that a remote sampler has had the time of both passes
            moments = negative()
            (weight * negative_phase(hamiltonian, moments)).backward()
            self.monitor.record_call(moments.info)
        lap("ms_negative_phase")
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.networks, self.config.clip_norm)
        self.optimizer.step()
        self.step += 1
        self._before = None
        self._average_weights()
        lap("ms_optimizer")
        self.monitor.record(terms)

    def _start_laps(self) -> Callable[[str], None]:
        """A function that books the time since its last call under the name of a part of the step."""
        last = self._now()

        def lap(part: str) -> None:
            nonlocal last
            now = self._now()
            self._milliseconds.setdefault(part, []).append(1e3 * (now - last))
            last = now

        return lap

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _submit(self, hamiltonian: IsingHamiltonian) -> Callable[[], Moments]:
        """Ask for the negative phase; a remote sampler works while the networks do."""
        if isinstance(self.sampler, Remote):
            samples = self.sampler.submit(hamiltonian, self.config.chains)
            return lambda: Moments.conditional(samples.result(), hamiltonian)
        return lambda: self.sampler.moments(hamiltonian, self.config.chains)

    # Schedules --------------------------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Part of the training that is done: in steps, in seconds or of the sampler's budget, whichever is furthest."""
        by_clock = self.seconds / self.config.max_seconds if self.config.max_seconds else 0.0
        by_budget = self.sampler.budget_share if isinstance(self.sampler, Metered) else 0.0
        return min(1.0, max(self.step / self.total_steps, by_clock, by_budget, self._reached))

    @property
    def kl_weight(self) -> float:
        """Weight of the KL part at this step."""
        start, warmup = self.config.kl_start, self.config.kl_warmup
        return 1.0 if self.progress >= warmup else start + (1 - start) * self.progress / warmup

    def _set_learning_rates(self) -> None:
        factor = min(1.0, (self.step + 1) / (self.config.warmup_steps + 1))
        if self.config.schedule == "cosine":
            factor *= 0.5 * (1 + math.cos(math.pi * self.progress))
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["peak"]

    # Weights for evaluation -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _average_weights(self) -> None:
        # Early weights are far from good ones: the window grows to its full length with the steps.
        decay = min(self.config.average_decay, self.step / (self.step + 10))
        get_ema_multi_avg_fn(decay)(self.average, self.parameters, self.step)

    @torch.no_grad()
    def averaged_model(self) -> QVAE:
        """A copy of the model for evaluation: averaged weights, batch-norm statistics retaken on discrete latents.

        The statistics of training belong to other weights and to relaxed latents, which the model itself never sees.
        """
        model = copy.deepcopy(self.model)
        named = dict(model.named_parameters())
        for name, value in zip(self._names, self.average, strict=True):
            named[name].copy_(value)
        # Any order but that of the file, where classes may stand together.
        chosen = epoch_permutation(len(self.images), 0, 0)[:_CALIBRATION_IMAGES].to(self.device)
        recalibrate(model, self.dataset, self.images.index_select(0, chosen), self.config.batch_size)
        return model

    # Looking at the sampler -------------------------------------------------------------------------------------------

    @property
    def _look_interval(self) -> int:
        return max(1, min(_STEPS_BETWEEN_LOOKS, self.total_steps // _LOOKS))

    @property
    def num_looks(self) -> int:
        """How often a training looks at its sampler, at most: with one more call each time, at the end of an epoch."""
        return min(self.config.epochs, self.total_steps // self._look_interval + 1)

    def _end_of_epoch(self) -> None:
        epoch = -(-self.step // self.steps_per_epoch)
        observed = self.observer is not None and (self.is_finished or self.observer.is_due(epoch))
        looks = self.step // self._look_interval
        before = max(0, self.step - self.steps_per_epoch) // self._look_interval
        # Not where an observer looks: a look moves the chains, and the film must not change the training.
        due = (looks > before or self.is_finished) and not self._budget_is_spent
        diagnosis = (self._with_sampler(self._diagnose) if due else None) or {}
        rates = {"learning_rate": self.optimizer.param_groups[0]["lr"], "kl_weight": self.kl_weight}
        loss = self.monitor.end_epoch(epoch, self.step, self.seconds, rates | diagnosis)
        if observed and self.observer is not None:
            with self._clock_stopped():
                self.observer.observe(self.model, epoch, loss)

    def _diagnose(self) -> dict[str, float]:
        """The sampler's effective temperature, how much its chains remember, and a rough log Z for the curves."""
        hamiltonian = self.model.prior.hamiltonian().detach()
        samples = self.sampler.sample(hamiltonian, self.config.chains)
        self.monitor.record_call(samples.info)
        if (trouble := mixing_trouble(samples.info)) is not None:
            self.monitor.warn("mixing", trouble)
        spins = samples.spins
        beta = effective_beta(spins, hamiltonian)
        found = {"effective_beta": beta.value, "effective_beta_stderr": beta.stderr}
        if not self.sampler.capabilities.native_beta:
            matched = energy_matching_beta(spins, hamiltonian, torch.Generator(self.device).manual_seed(self.step))
            found |= {"energy_beta": matched.value, "energy_beta_stderr": matched.stderr}
        found |= {part: float(np.median(times)) for part, times in self._milliseconds.items()}
        self._milliseconds.clear()
        if self.sampler.capabilities.persistent:
            found["chain_memory"] = self.monitor.chain_memory(spins)
        if self.is_exact:
            found["log_z"] = 0.0  # the energy is -log p(z) already
        elif not hamiltonian.is_quantum:
            found["log_z"] = _rough_log_partition(hamiltonian, spins)
        return found

    # State ------------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        self.monitor.check_finite(self.parameters)
        with self._clock_stopped():
            self.save(self)
        self._saved_at = time.perf_counter()

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        """What happens in the block isn't training: ``max_seconds`` doesn't count it."""
        paused = time.perf_counter()
        yield
        self._resumed_at += time.perf_counter() - paused

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as tensors and values that JSON can hold."""
        moments = self.optimizer.state_dict()["state"]
        return {
            "step": self.step,
            "seconds": self.seconds,
            "reached": self.progress if self._has_fallen_back else 0.0,
            "model": self.model.state_dict(),
            "average": list(self.average),
            "optimizer": {str(index): dict(state) for index, state in moments.items()},
            "generator": self.generator.get_state(),
            "global_random": _global_random_state(),
            # A resumed run tries the chosen sampler again.
            "sampler": {} if self._has_fallen_back else self.sampler.state_dict(),
            "monitor": self.monitor.state_dict(),
            "observer": self.observer.state_dict() if self.observer is not None else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state; the sampler's chains and every generator included."""
        self.step, self.seconds = state["step"], state["seconds"]
        self._reached = max(self._reached, state.get("reached", 0.0))
        self.model.load_state_dict(state["model"])
        for mine, saved in zip(self.average, state["average"], strict=True):
            mine.copy_(saved)
        moments = {int(index): values for index, values in state["optimizer"].items()}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.generator.set_state(state["generator"])
        _restore_global_random_state(state["global_random"])
        if not self._has_fallen_back:
            self.sampler.load_state_dict(state["sampler"])
        self.monitor.load_state_dict(state["monitor"])
        if self.observer is not None:
            self.observer.load_state_dict(state.get("observer", {}))


def choose_device(name: str) -> torch.device:
    """The device of a configuration; ``auto`` is CUDA where there is one.

    Raises:
        ConfigError: CUDA is asked for, but there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"training.device is {name!r}, but this machine has {torch.cuda.device_count()} CUDA devices; "
            "use `--set training.device=cpu` or a device that exists."
        )
    return device


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether the networks run in bfloat16; ``auto`` where the machine multiplies it natively."""
    if precision != "auto":
        return precision == "bfloat16"
    return multiplies_bfloat16(device)


@torch.no_grad()
def recalibrate(model: QVAE, dataset: Dataset, images: Tensor, batch_size: int) -> None:
    """Retake batch-norm statistics on ``images`` (N, D) with discrete latents; leaves the model in evaluation mode."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    generator = torch.Generator(images.device).manual_seed(0)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    model.train()
    for batch in images.split(batch_size) if norms else ():
        if len(batch) > 1:
            code = model.posterior_sample(dataset.binarize(batch, generator), relaxed=False, generator=generator)
            model.decoder(code.latents)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _rough_log_partition(hamiltonian: IsingHamiltonian, spins: Tensor) -> float:
    """log Z to a fraction of a nat, for the training curves only: AIS from independent spins with the means of ``spins``."""
    generator = torch.Generator(hamiltonian.h.device).manual_seed(0)
    means = spins.to(hamiltonian.h).mean(0) * (len(spins) / (len(spins) + 2))
    return annealed_importance_sampling(
        hamiltonian, chains=64, temperatures=25, generator=generator, base_fields=-torch.atanh(means)
    ).value


@contextmanager
def _interrupts_deferred(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set an event, so that a step is never cut in two; a second Ctrl-C interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def remember(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        say("stopping after the step in flight; once more stops at once, and goes on from the last checkpoint")

    previous = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _global_random_state() -> dict[str, Any]:
    """Global generators, which a third party's sampler may draw from."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "python": [version, list(internal), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
    }


def _restore_global_random_state(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    name, keys, position, has_gauss, cached = state["numpy"]
    torch.set_rng_state(state["torch"])
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
