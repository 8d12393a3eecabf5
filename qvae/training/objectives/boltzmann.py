"""The objective of a Boltzmann prior: the surrogate, a negative phase from whatever sampler is named, and looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from qvae.config.schema import TrainingConfig
from qvae.errors import BudgetExhausted, CapabilityError, ConfigError, SamplerError
from qvae.ising.annealing import annealed_importance_sampling
from qvae.ising.exact import MAX_EXPONENTIAL_SPINS
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.models.prior import negative_phase
from qvae.models.qvae import QVAE
from qvae.sampling.abilities import Metered, Remote
from qvae.sampling.closing import close
from qvae.sampling.sampler import LatentSampler, Moments, Samples
from qvae.training.averaging import retake_batch_norm
from qvae.training.devices import choose_device, use_bfloat16
from qvae.training.laps import Laps
from qvae.training.objective import Clock, Objective, load_optimizer_state, optimizer_state
from qvae.training.objectives.sampler_watch import SamplerWatch
from qvae.training.objectives.surrogate import Surrogate, surrogate
from qvae.training.schedules import kl_weight, learning_rate_factor

T = TypeVar("T")


class BoltzmannObjective(Objective):
    """Maximises the surrogate of a model by Adam; the sampler supplies the gradient of log Z.

    Args:
        model: moved to the device in place.
        prepare: stored rows to what the model sees, with a generator: :meth:`qvae.data.dataset.Dataset.prepare`.
        config: the ``training`` section.
        sampler: draws the negative phase.
        fallback: the sampler to go on with when ``sampler`` fails, which is said aloud; None stops.

    Raises:
        CapabilityError: a sampler can't sample the model's prior.
        ConfigError: exact gradients are asked for, of too many spins.
        SamplerError: the sampler fails, and there is no fallback.
    """

    model: QVAE
    figures = ("log_likelihood", "energy", "entropy")
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
        model: QVAE,
        prepare: Callable[[Tensor, torch.Generator], Tensor],
        config: TrainingConfig,
        sampler: LatentSampler,
        fallback: LatentSampler | None = None,
    ) -> None:
        super().__init__(model, choose_device(config.device))
        self.prepare, self.config, self.sampler, self.fallback = prepare, config, sampler, fallback
        self.bf16 = use_bfloat16(config.precision, self.device)
        self.is_exact = config.prior_gradient == "exact"
        if self.is_exact and model.prior.num_spins > MAX_EXPONENTIAL_SPINS:
            raise ConfigError(
                f"training.prior_gradient is exact, which takes at most {MAX_EXPONENTIAL_SPINS} latent spins, but "
                f"model.latent has {model.prior.num_spins}; take fewer spins, or prior_gradient: sampled."
            )
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        of_prior = {id(parameter) for parameter in model.prior.parameters()}
        named = dict(model.named_parameters())
        self._networks = {name: p for name, p in named.items() if id(p) not in of_prior}
        self._prior = {name: p for name, p in named.items() if id(p) in of_prior}
        self._peaks = (config.learning_rate, config.prior_learning_rate)
        groups = [{"params": list(group.values())} for group in (self._networks, self._prior)]
        self.optimizer = torch.optim.Adam(groups, lr=0.0, fused=True)
        self._buffers = list(model.buffers())
        self._buffers_before = [buffer.clone() for buffer in self._buffers]
        self.watch = SamplerWatch(self.warn)
        self._laps = Laps(self.device)
        self._reached = 0.0  # of the budget of a sampler that failed since
        self._has_fallen_back = False
        if fallback is not None:
            fallback.check(model.prior.frozen())
        try:
            sampler.check(model.prior.frozen())
        except CapabilityError:
            raise
        except SamplerError as error:
            self._fall_back(error, step=0)

    # A step -----------------------------------------------------------------------------------------------------------

    def step(self, rows: Tensor, clock: Clock) -> Tensor:
        """Positive and negative phase, and one update; figures are means over the batch, in nats."""
        return self._sampled(lambda: self._step(rows, clock), clock)

    def _step(self, rows: Tensor, clock: Clock) -> Tensor:
        with self._undone_on_failure():
            self._laps.start(clock.step)
            self._set_learning_rates(clock)
            terms = self._backward(self.prepare(rows, self.generator), kl_weight(self.config, clock))
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._networks.values(), self.config.clip_norm)
        self.optimizer.step()
        self._laps.lap("ms_optimizer")
        with torch.no_grad():
            return torch.stack([terms.log_likelihood, terms.energy, terms.entropy]).mean(1)

    def _backward(self, x: Tensor, weight: float) -> Surrogate:
        """Gradients of the surrogate of prepared rows (B, D), log Z included."""
        hamiltonian = self.model.prior.hamiltonian()
        call = None if self.is_exact else self._submit(hamiltonian)
        self.optimizer.zero_grad()
        terms = surrogate(self.model, x, self.generator, self.bf16, self.is_exact)
        loss = terms.loss(weight)
        self._laps.lap("ms_forward")
        if self.is_remote:  # the service works while the networks do
            loss.backward()
            self._laps.lap("ms_backward")
            loss = torch.zeros((), device=self.device)
        if call is not None:
            moments = call()
            self.watch.record_call(moments.info)
            self.live = self.watch.live
            if self.is_remote:  # others are heard at the next look: what they say may wait for the device
                self.watch.heed(moments.advice)
            loss = torch.add(loss, negative_phase(hamiltonian, moments), alpha=weight)
        self._laps.lap("ms_negative_phase")
        if loss.requires_grad:
            loss.backward()
        if not self.is_remote:
            self._laps.lap("ms_backward")
        return terms

    def _submit(self, hamiltonian: IsingHamiltonian) -> Callable[[], Moments]:
        """Ask for the negative phase; a remote sampler has begun when this returns, others begin when they are called."""
        if isinstance(self.sampler, Remote):
            hamiltonian = hamiltonian.detach()
            samples = self.sampler.submit(hamiltonian, self.config.chains)
            return lambda: Moments.conditional(samples.result(), hamiltonian)
        return lambda: self.sampler.moments(hamiltonian, self.config.chains)

    def _set_learning_rates(self, clock: Clock) -> None:
        factor = learning_rate_factor(self.config, clock)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = factor * peak

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

    @contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        """Take back what a step has drawn and moved if it fails, so that it can be made again as if for the first time."""
        state = self.generator.get_state()
        if self._buffers:
            torch._foreach_copy_(self._buffers_before, self._buffers)  # one pass: this is part of every step
        try:
            yield
        except BaseException:
            self.generator.set_state(state)
            for buffer, before in zip(self._buffers, self._buffers_before, strict=True):
                buffer.copy_(before)
            raise

    def _fall_back(self, error: SamplerError, step: int) -> None:
        """Go on with the fallback, aloud; without one the error stands."""
        if self.fallback is None:
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
        """Whether the sampler waits for a service."""
        return isinstance(self.sampler, Remote)

    # Looking at the sampler -------------------------------------------------------------------------------------------

    def look(self, clock: Clock) -> dict[str, float]:
        """The sampler's effective temperature, how much its chains remember, times, and a rough log Z for the curves."""
        return self._sampled(lambda: self._look(clock), clock)

    def _look(self, clock: Clock) -> dict[str, float]:
        hamiltonian = self.model.prior.frozen()
        samples = self.sampler.sample(hamiltonian, self.config.chains)
        self.watch.record_call(samples.info)
        laps = self._laps.medians()
        self.watch.check_times(laps)
        found = self.watch.look(samples, hamiltonian, self.sampler, clock) | laps
        if self.is_exact:
            found["log_z"] = 0.0  # the energy is -log p(z) already
        elif not hamiltonian.is_quantum:
            found["log_z"] = _rough_log_partition(hamiltonian, samples)
        return found

    @torch.no_grad()
    def validate(self, rows: Tensor, found: Mapping[str, float], clock: Clock) -> dict[str, float]:
        """The surrogate of held-out rows at the weights as they are, where log Z is known; says it when it rises."""
        if "log_z" not in found:
            return {}
        generator = torch.Generator(self.device).manual_seed(0)  # the same draws at every look
        self.model.eval()
        parts = [
            surrogate(self.model, self.prepare(batch, generator), generator, self.bf16, self.is_exact).loss() * len(batch)
            for batch in rows.split(self.config.batch_size)
        ]
        self.model.train()
        held_out = float(torch.stack(parts).sum()) / len(rows) + found["log_z"]
        self.watch.check_held_out(held_out, clock.epoch)
        return {"held_out": held_out}

    def epoch_figures(self, means: Mapping[str, float], found: Mapping[str, float], clock: Clock) -> dict[str, float]:
        """Parts of the surrogate, the surrogate itself where log Z is known, schedules, and what the sampler did."""
        row = {"reconstruction": -means["log_likelihood"], "energy": means["energy"], "entropy": means["entropy"]}
        if "log_z" in found:
            row["kl"] = row["energy"] + found["log_z"] - row["entropy"]
            row["surrogate"] = row["reconstruction"] + row["kl"]
        rates = {"learning_rate": self.optimizer.param_groups[0]["lr"], "kl_weight": kl_weight(self.config, clock)}
        return row | rates | dict(found) | self.watch.end_epoch()

    # Weights ----------------------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, nn.Parameter]:
        """All of them, the prior's last."""
        return self._networks | self._prior

    def settle(self, model: nn.Module, rows: Tensor, batch_size: int) -> None:
        """Retake batch-norm statistics on discrete latents: training's are of relaxed ones, which the model never sees."""
        assert isinstance(model, QVAE)
        generator = torch.Generator(self.device).manual_seed(0)

        def run(batch: Tensor) -> None:
            code = model.posterior_sample(self.prepare(batch, generator), relaxed=False, generator=generator)
            model.decoder(code.latents)

        retake_batch_norm(model, rows.split(batch_size), run)

    # State ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizer, generator, the sampler's chains, and what was seen of it."""
        return {
            "model": self.model.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "generator": self.generator.get_state(),
            # A resumed run tries the chosen sampler again.
            "sampler": {} if self._has_fallen_back else self.sampler.state_dict(),
            "reached": self._reached,
            "watch": self.watch.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; the sampler's chains and every generator included."""
        self.model.load_state_dict(state["model"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.generator.set_state(state["generator"])
        self._reached = max(self._reached, state.get("reached", 0.0))
        if not self._has_fallen_back:
            self.sampler.load_state_dict(state["sampler"])
        self.watch.load_state_dict(state["watch"])
        self.live = self.watch.live

    def close(self) -> None:
        """Release the samplers' connections."""
        for sampler in (self.sampler, self.fallback):
            if sampler is not None:
                close(sampler, lambda text: self.warn("close", text))


def _rough_log_partition(hamiltonian: IsingHamiltonian, samples: Samples) -> float:
    """log Z to a fraction of a nat, for the training curves only: AIS from independent spins with the means of samples."""
    generator = torch.Generator(hamiltonian.h.device).manual_seed(0)
    spins = samples.equal_weights(generator).spins
    means = spins.to(hamiltonian.h).mean(0) * (len(spins) / (len(spins) + 2))
    return annealed_importance_sampling(
        hamiltonian, chains=64, temperatures=25, generator=generator, base_fields=-torch.atanh(means)
    ).value
