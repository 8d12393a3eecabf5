"""Execution of circuits through Qiskit: on Aer, with or without noise, or on any other sampler, backend or device."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import ExecutorCapabilities, SeededExecutor
from qvae.circuits.paulis import basis_change, measured_together, string_mean
from qvae.options import checked_options
from qvae.seeding import Seed
from qvae_backends.qiskit_device import IBM, ImportPath, QiskitDevice
from qvae_backends.qiskit_mitigation import (
    extrapolation_weights,
    folded,
    measured_qubits,
    mitigated_mean,
    prepared,
    signs_of_bits,
)

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

_CIRCUITS = 64  # transpiled ones that are kept
_SHOTS = 2**22  # in one call: Aer holds each as a text, and IBM takes ten million in a job
_CONTROLLED = ["cp", "crx", "cry", "crz", "cu", "cu1", "cu3"]
_CALIBRATION = 10  # times as many shots as of a circuit: readout is calibrated once, and its error stays in all that follows


class QiskitExecutor(SeededExecutor):
    """Measures circuits through a Qiskit sampler or estimator, transpiled once for its backend; rows and bases in one call.

    Mitigation is of expectations, and costs more shots for the same statistical error; bits are always as they are read.

    Args:
        backend: None for Aer, or what :class:`~qvae_backends.qiskit_device.QiskitDevice` takes: "package.module:name" of a
            ``BaseSamplerV2``, ``BaseEstimatorV2`` or ``BackendV2``, or "ibm:NAME".
        noise_model: of Aer: "package.module:name" of a ``NoiseModel``, or of a ``BackendV2`` to imitate.
        shots: measurements in each basis that expectations need; of an estimator, those that its precision stands for.
        readout_mitigation: undo wrong readings, qubit by qubit, by two circuits that are run once for each set of qubits.
        zero_noise_scales: different odd numbers, as [1, 3]: each circuit is run with so many times its gates, and
            expectations are extrapolated to none (Richardson); None is [1], as they are.
        seed: of the seeds for each run.

    Raises:
        ValueError: an option is out of its range, or mitigation is wanted of an estimator, which has its own.
        ExecutorError: the backend or noise model can't be imported or made.
    """

    @checked_options
    def __init__(
        self,
        backend: ImportPath = None,
        noise_model: ImportPath = None,
        shots: Annotated[int, Field(ge=1)] = 1024,
        readout_mitigation: bool = False,
        zero_noise_scales: list[Annotated[int, Field(ge=1)]] | None = None,
        seed: Seed = None,
    ) -> None:
        super().__init__(seed)
        self.shots = shots
        self.readout_mitigation = readout_mitigation
        self.zero_noise_scales = [1] if zero_noise_scales is None else zero_noise_scales
        if not _are_different_and_odd(self.zero_noise_scales):
            raise ValueError(f"zero_noise_scales is {zero_noise_scales}; it must be different odd numbers, as [1, 3]")
        self._options = {"backend": backend, "noise_model": noise_model}
        self._connect()
        if self._device.estimates and (readout_mitigation or self.zero_noise_scales != [1]):
            option = "readout_mitigation" if readout_mitigation else "zero_noise_scales"
            raise ValueError(f"{option} goes with samplers, but backend is an estimator; set what it has in its own options")

    def _connect(self) -> None:
        self._device = QiskitDevice(**self._options)
        self.capabilities = ExecutorCapabilities(
            max_qubits=self._device.num_qubits, noisy=self._device.noisy, remote=self._device.name.startswith(IBM)
        )
        self._transpiled = lru_cache(_CIRCUITS)(self._transpile)
        self._measured = lru_cache(_CIRCUITS)(self._measure)
        self._signs: dict[tuple[int, ...], Tensor] = {}

    def _transpile(self, circuit: Circuit, is_measured: bool) -> QuantumCircuit:
        # Aer leaves out controlled gates whose angle is bound in a run: its issues 2323, 2391 and 2403.
        plain = circuit.to_qiskit().decompose(_CONTROLLED)
        if is_measured:
            plain.measure_all()
        return self._device.transpiled(plain)

    def _measure(self, circuit: Circuit, scale: int) -> QuantumCircuit:
        """The circuit transpiled, with measurements and ``scale`` times its gates."""
        transpiled = self._transpiled(circuit, True)
        return transpiled if scale == 1 else self._device.translated(folded(transpiled, scale))

    def _sample(self, circuit: Circuit, values: Tensor, shots: int) -> Tensor:
        return self._bits([self._measured(circuit, 1)], values, shots)[0]

    def _string_means(self, circuit: Circuit, values: Tensor, labels: list[str]) -> dict[str, Tensor]:
        if self._device.estimates:
            return self._estimated(circuit, values, labels)
        bases = measured_together(labels)
        changed = [circuit.then(basis_change(basis)) for basis in bases]
        # Transpiled all, so that what finds no place is refused before anything is spent.
        runs = [
            (weight, members, self._measured(circuit, scale))
            for scale, weight in zip(self.zero_noise_scales, extrapolation_weights(self.zero_noise_scales), strict=True)
            for circuit, members in zip(changed, bases.values(), strict=True)
        ]
        bits = self._bits([transpiled for _, _, transpiled in runs], values, self.shots)
        means = dict.fromkeys(labels, torch.zeros(len(values), dtype=torch.float64, device=values.device))
        for (weight, members, transpiled), read in zip(runs, bits, strict=True):
            for label in members:
                means[label] = means[label] + weight * self._mean(label, read, transpiled)
        return means

    def _mean(self, label: str, bits: Tensor, transpiled: QuantumCircuit) -> Tensor:
        if not self.readout_mitigation:
            return string_mean(label, bits)
        qubits = measured_qubits(transpiled)
        if qubits not in self._signs:
            shots = _CALIBRATION * self.shots
            circuits = [self._device.translated(prepared(transpiled, up)) for up in (False, True)]
            read = self._device.run_together([(circuit, np.zeros(0), shots) for circuit in circuits], self.fresh_seed())
            self._signs[qubits] = signs_of_bits(*(torch.from_numpy(each) for each in read))
        return mitigated_mean(label, bits, self._signs[qubits].to(bits.device))

    def _estimated(self, circuit: Circuit, values: Tensor, labels: list[str]) -> dict[str, Tensor]:
        transpiled = self._transpiled(circuit, False)
        rows = _rows(transpiled, values)
        known = [label for label in labels if set(label) == {"I"}]
        wanted = [label for label in labels if label not in known]
        means = {label: torch.ones(len(values), dtype=torch.float64, device=values.device) for label in known}
        if wanted:
            found = torch.from_numpy(self._device.estimate(transpiled, rows, wanted, self.shots, self.fresh_seed()))
            means.update(zip(wanted, found.to(values.device, torch.float64).unbind(1), strict=True))
        return means

    def _bits(self, circuits: list[QuantumCircuit], values: Tensor, shots: int) -> list[Tensor]:
        """What each transpiled circuit is read as for every row, int8, (B, shots, n); in one call, or few if rows are many."""
        rows = max(1, _SHOTS // (shots * len(circuits)))
        read = [self._bits_of_a_call(circuits, some, shots) for some in values.split(rows)]
        return [torch.cat(parts) for parts in zip(*read, strict=True)]

    def _bits_of_a_call(self, circuits: list[QuantumCircuit], values: Tensor, shots: int) -> list[Tensor]:
        runs: list[tuple[QuantumCircuit, np.ndarray, int]] = []
        for circuit in circuits:
            rows = _rows(circuit, values)
            # Of several rows without parameters Aer would run the first, and return zeros for the others.
            runs.append((circuit, rows, shots) if rows.shape[1] else (circuit, rows[0], len(rows) * shots))
        if self._device.repeats_rows:
            found = [self._row_by_row(*run) for run in runs]
        else:
            found = self._device.run_together(runs, self.fresh_seed())
        return [torch.from_numpy(bits).to(values.device, torch.int8).view(len(values), shots, -1) for bits in found]

    def _row_by_row(self, circuit: QuantumCircuit, rows: np.ndarray, shots: int) -> np.ndarray:
        return np.stack([self._device.run(circuit, row, shots, self.fresh_seed()) for row in np.atleast_2d(rows)])

    def __getstate__(self) -> dict[str, Any]:
        """Circuits and connections aren't pickled but made again."""
        left_out = ("_device", "_transpiled", "_measured", "_signs")
        return {key: value for key, value in super().__getstate__().items() if key not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As pickled, connected anew."""
        self.__dict__.update(state)
        self._connect()


def _rows(transpiled: QuantumCircuit, values: Tensor) -> np.ndarray:
    """Columns of the parameters that transpiling left, which drops those that no measurement sees."""
    rows: np.ndarray = values[:, [parameter.index for parameter in transpiled.parameters]].double().cpu().numpy()
    return rows


def _are_different_and_odd(scales: list[int]) -> bool:
    return len(scales) > 0 and len(set(scales)) == len(scales) and all(scale % 2 for scale in scales)
