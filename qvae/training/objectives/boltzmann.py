"""The objective of a Boltzmann prior: the surrogate, a negative phase from whatever sampler is named, and looks at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

import torch
from torch import Tensor

from qvae.config.schema import TrainingConfig
from qvae.errors import BudgetExhausted, CapabilityError, ConfigError, SamplerError
from qvae.ising.annealing import annealed_importance_sampling
from qvae.ising.exact import MAX_EXPONENTIAL_SPINS
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.models.autoencoder import Autoencoder
from qvae.models.prior import BoltzmannPrior
from qvae.sampling.abilities import Metered, Remote
from qvae.sampling.closing import close
from qvae.sampling.sampler import LatentSampler, Moments, Samples
from qvae.training import ranks
from qvae.training.objective import Clock
from qvae.training.objectives.sampler_watch import SamplerWatch
from qvae.training.objectives.sharing import check, is_of_first, moments_of_first, samples_of_all, share_of
from qvae.training.objectives.surrogate import Surrogate, surrogate
from qvae.training.objectives.variational import PositivePhase, VariationalObjective

T = TypeVar("T")


class BoltzmannObjective(VariationalObjective):
    """Maximises the surrogate of a model with a Boltzmann prior; the sampler supplies the gradient of log Z.

    Args:
        model: moved to the device in place.
        prepare: stored rows to what the model sees, with a generator: :meth:`qvae.data.dataset.Dataset.prepare_in_training`.
        config: the ``training`` section.
        sampler: draws the negative phase.
        fallback: the sampler to go on with when ``sampler`` fails, which is said aloud; None stops.
        positive: the parts of the surrogate, all but log Z.

    Raises:
        CapabilityError: a sampler can't sample the model's prior.
        ConfigError: exact gradients are asked for, of too many spins.
        SamplerError: the sampler fails, and there is no fallback.
    """

    shown = {  # noqa: RUF012
        "surrogate": ("surrogate", ".2f"),
        "reconstruction": ("reconstruction", ".2f"),
        "kl": ("kl", ".2f"),
        "held_out": ("held out", ".2f"),
        "effective_beta": ("beta", ".2f"),
        "qpu_seconds": ("QPU s", ".2f"),
    }
    headline = ("surrogate", "reconstruction")

    def __init__(
        self,
        model: Autoencoder,
        prepare: Callable[[Tensor, torch.Generator], Tensor],
        config: TrainingConfig,
        sampler: LatentSampler,
        fallback: LatentSampler | None = None,
        positive: PositivePhase = surrogate,
    ) -> None:
        super().__init__(model, prepare, config, positive)
        assert isinstance(model.prior, BoltzmannPrior)
        self.prior, self.sampler, self.fallback = model.prior, sampler, fallback
        self.is_exact = config.prior_gradient == "exact"
        if self.is_exact and self.prior.num_spins > MAX_EXPONENTIAL_SPINS:
            raise ConfigError(
                f"training.prior_gradient is exact, which takes at most {MAX_EXPONENTIAL_SPINS} latent spins, but "
                f"model.latent has {self.prior.num_spins}; take fewer spins, or prior_gradient: sampled."
            )
        # A uniform prior has nothing to learn, hence no need of a negative phase.
        self._draws = not self.is_exact and any(p.requires_grad for p in self.prior.parameters())
        self.watch: SamplerWatch = SamplerWatch(self.warn)
        self._reached = 0.0  # of the budget of a sampler that failed since
        self._has_fallen_back = False
        share_of(config.chains, sampler)  # or it is refused here
        if fallback is not None:
            check(fallback, self.prior.frozen())
        try:
            check(sampler, self.prior.frozen())
        except CapabilityError:
            raise
        except SamplerError as error:
            self._fall_back(error, step=0)

    # A step -----------------------------------------------------------------------------------------------------------

    def step(self, rows: Tensor, clock: Clock) -> Tensor:
        """Positive and negative phase, and one update; figures are means over the batch, in nats."""
        return self._sampled(lambda: VariationalObjective.step(self, rows, clock), clock)

    def _backward(self, x: Tensor, weight: float) -> Surrogate:
        """Gradients of the surrogate of prepared rows (B, D), log Z included."""
        hamiltonian = self.prior.hamiltonian()
        call = self._submit(hamiltonian) if self._draws else None
        self._zero_grad()
        terms, loss = self._loss(x, weight)
        self._laps.lap("ms_forward")
        is_remote = isinstance(self.sampler, Remote)
        if is_remote:  # the service works while the networks do
            loss.backward()
            self._laps.lap("ms_backward")
        moments = None if call is None else call()
        if moments is not None:
            self.watch.record_call(moments.info)
            self.live = self.watch.live
            if is_remote:  # others are heard at the next look: what they say may wait for the device
                self.watch.heed(moments.advice)
        self._laps.lap("ms_negative_phase")
        if not is_remote:
            loss.backward()
            self._laps.lap("ms_backward")
        if moments is not None:
            self._add_negative_phase(moments, weight)
        return terms

    def _add_negative_phase(self, moments: Moments, weight: float) -> None:
        """The gradient of weight * log Z: that of :func:`~qvae.models.prior.negative_phase`."""
        for parameter, means in ((self.prior.h, moments.spins), (self.prior.J, moments.pairs)):
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad.sub_(means, alpha=weight)

    def _submit(self, hamiltonian: IsingHamiltonian) -> Callable[[], Moments]:
        """Ask for the negative phase; a remote sampler has begun when this returns, others begin when they are called."""
        share = share_of(self.config.chains, self.sampler)
        if isinstance(self.sampler, Remote):
            hamiltonian = hamiltonian.detach()
            samples = self.sampler.submit(hamiltonian, share) if ranks.is_first() else Future()
            return lambda: moments_of_first(lambda: Moments.conditional(samples.result(), hamiltonian), hamiltonian)
        if is_of_first(self.sampler):
            return lambda: moments_of_first(lambda: self.sampler.moments(hamiltonian, share), hamiltonian)
        return lambda: self.sampler.moments(hamiltonian, share)

    # Samplers that fail -----------------------------------------------------------------------------------------------

    def _sampled(self, work: Callable[[], T], clock: Clock) -> T:
        """Work that asks the sampler, done by the fallback where the sampler fails."""
        try:
            return work()
        except BudgetExhausted:
            raise
        except SamplerError as error:
            self._reached = max(self._reached, clock.progress)
            self._fall_back(error, clock.step)
            return work()

    def _fall_back(self, error: SamplerError, step: int) -> None:
        """Go on with the fallback, aloud; without one the error stands, as does one in one of several processes."""
        if self.fallback is None or not (ranks.count() == 1 or error.is_everywhere):
            raise error
        self.warn("fallback", f"{error} Training goes on with the fallback, {self.fallback.label!r}, from step {step}.")
        close(self.sampler, lambda text: self.warn("close", text))
        self.sampler, self.fallback, self._has_fallen_back = self.fallback, None, True

    @property
    def budget_share(self) -> float:
        """Of the sampler's budget, or of that of a sampler that failed since."""
        return max(self._reached, self.sampler.budget_share if isinstance(self.sampler, Metered) else 0.0)

    @property
    def is_remote(self) -> bool:
        """Whether the sampler, or the executor, waits for a service."""
        return isinstance(self.sampler, Remote) or super().is_remote

    # Looking at the sampler -------------------------------------------------------------------------------------------

    def look(self, clock: Clock) -> dict[str, float]:
        """The sampler's effective temperature, how much its chains remember, times, and a rough log Z for the curves."""
        return self._sampled(lambda: self._look(clock), clock)

    def _look(self, clock: Clock) -> dict[str, float]:
        hamiltonian = self.prior.frozen()
        samples = samples_of_all(self.sampler, hamiltonian, share_of(self.config.chains, self.sampler))
        self.watch.record_call(samples.info)
        laps = self._laps.medians()
        self.watch.check_times(laps)
        found = self.watch.look(samples, hamiltonian, self.sampler, clock) | laps | self._circuit_time()
        if self.is_exact:
            found["log_z"] = 0.0  # the energy is -log p(z) already
        elif not hamiltonian.is_quantum:
            found["log_z"] = _rough_log_partition(hamiltonian, samples)
        return found

    def epoch_figures(self, means: Mapping[str, float], found: Mapping[str, float], clock: Clock) -> dict[str, float]:
        """Parts of the surrogate, the surrogate itself where log Z is known, schedules, and what the sampler did."""
        row = {"reconstruction": -means["log_likelihood"], "energy": means["energy"], "entropy": means["entropy"]}
        if "log_z" in found:
            row["kl"] = row["energy"] + found["log_z"] - row["entropy"]
            row["surrogate"] = row["reconstruction"] + row["kl"]
        return row | self._schedules(clock) | dict(found) | self.watch.end_epoch()

    # State ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizer, generator, the sampler's chains, and what was seen of it."""
        return super().state_dict() | {
            # A resumed run tries the chosen sampler again.
            "sampler": {} if self._has_fallen_back else self.sampler.state_dict(),
            "reached": self._reached,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; the sampler's chains and every generator included."""
        super().load_state_dict(state)
        self._reached = max(self._reached, state.get("reached", 0.0))
        if not self._has_fallen_back:
            self.sampler.load_state_dict(state["sampler"])
        self.live = self.watch.live

    def close(self) -> None:
        """Release the samplers' connections, and the executor's."""
        super().close()
        for sampler in (self.sampler, self.fallback):
            if sampler is not None:
                close(sampler, lambda text: self.warn("close", text))


def _rough_log_partition(hamiltonian: IsingHamiltonian, samples: Samples) -> float:
    """log Z to a fraction of a nat, for the training curves only: AIS from independent spins with the means of samples."""
    generator = torch.Generator(hamiltonian.h.device).manual_seed(0)
    spins = samples.equal_weights(generator).spins
    means = spins.to(hamiltonian.h).mean(0) * (len(spins) / (len(spins) + 2))
    return annealed_importance_sampling(
        hamiltonian, chains=128, temperatures=16, generator=generator, base_fields=-torch.atanh(means)
    ).value
