"""An annealer's effective inverse temperature: fixed by the user, or measured in every call and followed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.diagnostics import effective_beta
from qvae.sampling.info import Advice, SampleInfo
from qvae.sampling.metering import is_amount
from qvae.sampling.temperature import BetaFilter

_FIRST_BETA = 3.0  # a guess until samples tell; what is off is seen in the first calls
_OFF = 0.1  # relative error of the temperature from which on a call is made again
_FEWEST_READS = 16
_COLD = 25.0  # inverse temperature from which on couplings are submitted near the control errors
_CLIPPED = 0.02  # part of the fields and couplings beyond the ranges from which on a user is told


class Temperature:
    """By which fields and couplings are divided, so that reads belong to beta = 1, in the units of the submission.

    Args:
        fixed: the inverse temperature; None measures it.
    """

    def __init__(self, fixed: float | None) -> None:
        self.is_fixed = fixed is not None
        self._beta = BetaFilter(_FIRST_BETA if fixed is None else fixed)
        self.is_known = False

    @property
    def value(self) -> float:
        """The latest estimate."""
        return self._beta.value

    @property
    def stderr(self) -> float | None:
        """Of the estimate; None if there is nothing to estimate."""
        return None if self.is_fixed else self._beta.stderr

    def measure(self, hamiltonian: IsingHamiltonian, fields: np.ndarray, couplings: np.ndarray, rows: np.ndarray) -> None:
        """Take the temperature of reads (reads, n) of what was submitted."""
        if self.is_fixed or len(rows) < _FEWEST_READS:  # whose scatter doesn't tell the error
            return
        submitted = hamiltonian.replace(torch.from_numpy(fields), torch.from_numpy(couplings))
        measured = effective_beta(torch.from_numpy(rows), submitted)
        if measured.value == math.inf and not self.is_known:
            self._beta = BetaFilter(2 * self._beta.value)  # no spin ever stands against its field: far colder than guessed
        elif math.isfinite(measured.value):
            self._beta.update(measured)
            self.is_known = True

    def confirms(self, beta: float) -> bool:
        """Whether reads that were asked for at ``beta`` still look right, after what they told."""
        return self.is_fixed or abs(self.value / beta - 1) <= _OFF + 2 * self._beta.stderr / beta

    def state_dict(self) -> dict[str, Any]:
        """The estimate and its variance."""
        return self._beta.state_dict()

    def load_state_dict(self, state: dict[str, Any], is_known: bool) -> None:
        """Go on from there, unless it is fixed."""
        if not self.is_fixed:
            self._beta.load_state_dict(state)
            self.is_known = is_known


def is_temperature(state: Any) -> bool:
    """Whether this is the state of one that was measured: whoever wrote it may have meant harm."""
    return isinstance(state, dict) and all(is_amount(state.get(key)) for key in ("value", "variance")) and state["value"] > 0


def temperature_advice(info: SampleInfo) -> list[Advice]:
    """What the temperature and the ranges of the hardware mean for samples."""
    found, beta = [], info.device_beta or 0.0
    if (info.clipped or 0.0) > _CLIPPED:
        text = (
            f"{info.clipped:.0%} of the fields and couplings are beyond the hardware's ranges and were clipped, since its "
            f"effective inverse temperature is only {beta:.2f}: so hot a sampler can't be corrected; anneal more slowly "
            "(sampler.options.annealing_time), or take a smaller prior"
        )
        found.append(Advice("clipped", text))
    if beta > _COLD:
        text = (
            f"the annealer's effective inverse temperature is {beta:.0f}: what is submitted is so many times smaller, near its "
            "control errors; anneal faster (sampler.options.annealing_time or fast_anneal)"
        )
        found.append(Advice("cold", text))
    return found
