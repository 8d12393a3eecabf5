"""What is seen of a sampler while it trains a prior: its temperature, the memory of its chains, and what its calls cost."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.diagnostics import Estimate, effective_beta
from qvae.sampling.info import Advice
from qvae.sampling.sampler import LatentSampler, Samples
from qvae.sampling.temperature import energy_matching_beta
from qvae.training.objective import Clock
from qvae.training.objectives.held_out import HeldOutWatch

_OF_CALLS = ("device_beta", "device_beta_stderr", "chain_break_fraction", "clipped")  # of a sampler's info, averaged
_OF_CIRCUITS = ("qubits", "depth", "two_qubit_gates", "fidelity", "free_energy_gap")  # of those that have a circuit
_AVERAGED = frozenset(_OF_CALLS + _OF_CIRCUITS)
_STUCK_LOOKS = 3  # in a row with stuck chains, after which a user is told
_SLOW_SHARE, _SLOW_MILLISECONDS = 0.9, 20.0  # of a step, from which on a user is told that the sampler takes them
_UNDETERMINED = 0.5  # standard error of an inverse temperature of 1, from which on it says nothing: the prior is nearly uniform
_STUCK = 0.5  # correlation of chains with themselves since the last look


class SamplerWatch(HeldOutWatch):
    """Figures of a sampler's calls over an epoch, and of a look at its samples now and then.

    Args:
        warn: takes the kind of a trouble and a clause about it.
    """

    def __init__(self, warn: Callable[[str, str], None]) -> None:
        super().__init__(warn)
        self._calls: dict[str, list[float]] = {}
        self._qpu_seconds = 0.0
        self._previous_spins: Tensor | None = None
        self._stuck = 0

    def record_call(self, info: Mapping[str, Any]) -> None:
        """Add what a call measured and cost."""
        for key, value in info.items():
            if key == "qpu_seconds":
                self._calls.setdefault("qpu_seconds_per_call", []).append(value)
                self._qpu_seconds += value
            elif key in _AVERAGED and isinstance(value, numbers.Real):  # a backend's own may be anything
                self._calls.setdefault(key, []).append(float(value))

    def heed(self, advice: Sequence[Advice]) -> None:
        """Hand on what the maker of samples says about trouble."""
        for part in advice:
            self._warn(part.kind, part.text)

    @property
    def live(self) -> dict[str, float]:
        """What was spent so far, where calls cost something."""
        return {"qpu_seconds": self._qpu_seconds} if self._qpu_seconds else {}

    def end_epoch(self) -> dict[str, float]:
        """Means over the epoch's calls, and what they cost in all."""
        found = {key: sum(values) / len(values) for key, values in self._calls.items()}
        if "qpu_seconds_per_call" in found:
            found["qpu_seconds"] = self._qpu_seconds
        self._calls.clear()
        return found

    def look(
        self, samples: Samples, hamiltonian: IsingHamiltonian, sampler: LatentSampler, clock: Clock
    ) -> dict[str, float]:
        """Effective temperature of samples and, of persistent chains, how much they remember of the last look."""
        self.heed(samples.advice)
        beta = effective_beta(samples, hamiltonian)
        if beta.stderr > _UNDETERMINED:
            beta = Estimate(math.nan, math.nan)
        self._check_temperature(beta.value, beta.stderr, clock.epoch)
        found = {"effective_beta": beta.value, "effective_beta_stderr": beta.stderr}
        if math.isnan(beta.value):  # in a transverse field, where a sampler may have a measurement of its own
            found |= {name: samples.info[name] for name in found if name in samples.info}
        if not sampler.capabilities.native_beta:
            generator = torch.Generator(hamiltonian.h.device).manual_seed(clock.step)
            matched = energy_matching_beta(samples, hamiltonian, generator)
            found |= {"energy_beta": matched.value, "energy_beta_stderr": matched.stderr}
        if sampler.capabilities.persistent:
            found["chain_memory"] = self.chain_memory(samples.spins)
            self._check_memory(found["chain_memory"], clock.epoch)
        return found

    def chain_memory(self, spins: Tensor) -> float:
        """Correlation of persistent chains with themselves at the last look, averaged over spins: 0 mixes, 1 is stuck.

        Weights have no say here: a chain remembers, however little it weighs.
        """
        now, before = spins.float(), self._previous_spins
        self._previous_spins = spins.clone()
        if before is None or before.shape != spins.shape:
            return math.nan
        past = before.to(now)
        covariance = (now * past).mean(0) - now.mean(0) * past.mean(0)
        variance = 0.5 * (now.var(0, correction=0) + past.var(0, correction=0))
        return float(covariance.sum() / variance.sum().clamp_min(1e-12))

    # Trouble ----------------------------------------------------------------------------------------------------------

    def check_times(self, milliseconds: Mapping[str, float]) -> None:
        """Say it where nearly all of a step goes into the sampler; takes milliseconds of a step's parts."""
        sampling, whole = milliseconds.get("ms_negative_phase", 0.0), sum(milliseconds.values())
        if sampling > max(_SLOW_MILLISECONDS, _SLOW_SHARE * whole):
            self._warn(
                "slow",
                f"the sampler takes {sampling:.0f} of the {whole:.0f} ms of a step: `qvae samplers recommend` finds the "
                "quickest that is accurate enough for this prior, and a smaller training.chains asks for fewer samples",
            )

    def _check_temperature(self, beta: float, error: float, epoch: int) -> None:
        # Infinite where no spin ever opposes its field: the end state of an optimizer.
        if math.isinf(beta) or abs(beta - 1) > 0.1 + 4 * error:
            self._warn(
                "temperature",
                f"the sampler's effective inverse temperature is {beta:.2f} instead of 1 (epoch {epoch}): "
                "its samples belong to another prior; check the sampler's options",
            )

    def _check_memory(self, memory: float, epoch: int) -> None:
        self._stuck = self._stuck + 1 if memory > _STUCK else 0
        if self._stuck == _STUCK_LOOKS:
            self._warn(
                "mixing",
                f"the sampler's chains have stopped mixing (correlation {memory:.2f} with themselves since the last look, "
                f"epoch {epoch}): raise sampler.options.sweeps, or lower training.prior_learning_rate, or, with gibbs, set "
                "sampler.options.annealing=5 and sampler.options.persistent=false",
            )

    # State ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The open epoch's calls, what was spent, and what the signs of trouble depend on."""
        return super().state_dict() | {
            "calls": {key: list(values) for key, values in self._calls.items()},
            "qpu_seconds": self._qpu_seconds,
            "previous_spins": self._previous_spins,
            "stuck": self._stuck,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state)
        self._calls = {key: list(values) for key, values in state.get("calls", {}).items()}
        self._qpu_seconds = state.get("qpu_seconds", 0.0)
        self._previous_spins, self._stuck = state["previous_spins"], state["stuck"]
