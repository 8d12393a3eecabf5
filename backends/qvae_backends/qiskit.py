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
from qvae.options import checked_options
from qvae.seeding import Seed
from qvae_backends.qiskit_device import IBM, ImportPath, QiskitDevice

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

_CIRCUITS = 64  # transpiled ones that are kept
_CONTROLLED = ["cp", "crx", "cry", "crz", "cu", "cu1", "cu3"]


class QiskitExecutor(SeededExecutor):
    """Measures circuits through a Qiskit sampler, transpiled once for its backend; expectations are means of shots.

    Args:
        backend: None for Aer, or what :class:`~qvae_backends.qiskit_device.QiskitDevice` takes: "package.module:name" of a
            ``BaseSamplerV2`` or ``BackendV2``, or "ibm:NAME".
        noise_model: of Aer: "package.module:name" of a ``NoiseModel``, or of a ``BackendV2`` to imitate.
        shots: measurements in each basis that expectations need.
        seed: of the seeds for each run.

    Raises:
        ValueError: an option is out of its range.
        ExecutorError: the backend or noise model can't be imported or made.
    """

    @checked_options
    def __init__(
        self,
        backend: ImportPath = None,
        noise_model: ImportPath = None,
        shots: Annotated[int, Field(ge=1)] = 1024,
        seed: Seed = None,
    ) -> None:
        super().__init__(seed)
        self.shots = shots
        self._options = {"backend": backend, "noise_model": noise_model}
        self._connect()

    def _connect(self) -> None:
        self._device = QiskitDevice(**self._options)
        self.capabilities = ExecutorCapabilities(
            max_qubits=self._device.num_qubits, noisy=self._device.noisy, remote=self._device.name.startswith(IBM)
        )
        self._transpiled = lru_cache(_CIRCUITS)(self._transpile)

    def _transpile(self, circuit: Circuit) -> QuantumCircuit:
        # Aer leaves out controlled gates whose angle is bound in a run: its issues 2323, 2391 and 2403.
        measured = circuit.to_qiskit().decompose(_CONTROLLED)
        measured.measure_all()
        return self._device.transpiled(measured)

    def _sample(self, circuit: Circuit, values: Tensor, shots: int) -> Tensor:
        transpiled = self._transpiled(circuit)
        # Transpiling drops parameters that no measurement sees.
        rows = values[:, [parameter.index for parameter in transpiled.parameters]].double().cpu().numpy()
        if rows.shape[1] == 0:
            # Of several rows without parameters Aer would run the first, and return zeros for the others.
            bits = self._device.run(transpiled, rows[0], len(rows) * shots, self.fresh_seed())
        elif self._device.repeats_rows:
            bits = np.stack([self._device.run(transpiled, row, shots, self.fresh_seed()) for row in rows])
        else:
            bits = self._device.run(transpiled, rows, shots, self.fresh_seed())
        return torch.from_numpy(bits).to(values.device, torch.int8).view(len(rows), shots, circuit.num_qubits)

    def __getstate__(self) -> dict[str, Any]:
        """Circuits and connections aren't pickled but made again."""
        return {key: value for key, value in super().__getstate__().items() if key not in ("_device", "_transpiled")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As pickled, connected anew."""
        self.__dict__.update(state)
        self._connect()
