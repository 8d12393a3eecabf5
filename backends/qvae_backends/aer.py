"""A variational Gibbs state as a quantum circuit, sampled on Qiskit Aer or any other Qiskit sampler or backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field

from qvae.circuits.circuit import Circuit
from qvae.circuits.gibbs_ansatz import (
    ExactGibbsState,
    GibbsAnsatz,
    Solution,
    follow_imaginary_time,
    minimise_free_energy,
)
from qvae.circuits.gibbs_circuit import gibbs_circuit
from qvae.errors import ExecutorError, SamplerError, nearest
from qvae.ising.exact import state_numbers
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.options import checked_options
from qvae.sampling.info import Advice, SampleInfo
from qvae.sampling.sampler import Capabilities, Moments, Samples, SeededSampler
from qvae.seeding import Seed
from qvae_backends.qiskit_device import ImportPath, QiskitDevice

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

TRAINERS: dict[str, tuple[Callable[[GibbsAnsatz, IsingHamiltonian, Solution | None], Solution], int]] = {
    "simulator": (minimise_free_energy, 10),
    "varqite": (follow_imaginary_time, 8),
}
"""Ways to train the angles, each with the most spins it takes."""
_COLDEST, _BETAS = 4.0, 81  # the grid of inverse temperatures from 0 on, at one of which shots are most likely


class AerSampler(SeededSampler):
    """Trains a circuit on a state vector to prepare the Gibbs state, then measures it through a Qiskit sampler.

    The circuit is the :class:`~qvae.circuits.gibbs_ansatz.GibbsAnsatz`, two qubits a spin. Its angles go on from one call to
    the next on the same graph, so that a prior in training, which moves a little in every step, needs few iterations. On
    complete graphs and one core the first call takes 1 s at 6 spins, 4 s at 8 and 150 s at 10, the next ones 0.05 s, 0.3 s and
    10 s; at couplings of standard deviation 0.5 the z-basis distribution is then, without shot noise, about 3e-4, 2e-3 and
    4e-3 nats from the exact one (Kullback-Leibler). ``info`` tells how far off it is.

    Args:
        layers: of the ansatz, 1 or more. One layer is half the circuit, with about ten times the divergence.
        trainer: ``simulator`` minimises the free energy, for which it needs the exact entropy; ``varqite`` follows
            imaginary time from what a quantum computer could measure, and is less accurate.
        shots: measurements in a call, of which the samples are a random choice, or repetitions if they are too few;
            moments are those of all shots. None measures once for each sample.
        backend: None for Aer, or what :class:`~qvae_backends.qiskit_device.QiskitDevice` takes: "package.module:name" of a
            ``BaseSamplerV2`` or ``BackendV2``, or "ibm:NAME".
        noise_model: of Aer: "package.module:name" of a ``NoiseModel``, or of a ``BackendV2`` to imitate.
        seed: of the seeds for each call.

    Raises:
        ValueError: an option is out of its range.
        SamplerError: the backend or noise model can't be imported or made.
    """

    capabilities = Capabilities(transverse_field=True, max_spins=10)

    @checked_options
    def __init__(
        self,
        layers: Annotated[int, Field(ge=1)] = 2,
        trainer: str = "simulator",
        shots: Annotated[int, Field(ge=1)] | None = None,
        backend: ImportPath = None,
        noise_model: ImportPath = None,
        seed: Seed = None,
    ) -> None:
        super().__init__(seed)
        if trainer not in TRAINERS:
            raise ValueError(f"trainer is {trainer!r}; {nearest(trainer, TRAINERS)}")
        self.layers, self.trainer, self.shots = layers, trainer, shots
        self._options = {"backend": backend, "noise_model": noise_model}
        self._connect()
        spins, reason = TRAINERS[trainer][1], ""
        qubits = self._device.num_qubits
        if qubits is not None and qubits // 2 < spins:
            spins, reason = qubits // 2, f"backend {self._device.name!r} has {qubits} qubits, and a spin takes two"
        self.capabilities = replace(type(self).capabilities, max_spins=spins, limited_by=reason)
        self._ansatz: GibbsAnsatz | None = None
        self._circuit: Any = None
        self._solution: Solution | None = None
        self._saved: dict[str, Any] | None = None

    def _connect(self) -> None:
        with _sampler_errors():
            self._device = QiskitDevice(**self._options)

    def _sample(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
        """Measurements of the trained circuit.

        ``info`` holds ``method``; of the trained state, without noise and shots, ``free_energy`` (nats), ``free_energy_gap``
        (above the exact one: a bound of its KL divergence from the exact distribution) and ``fidelity`` (to the exact Gibbs
        state, 0 to 1); ``iterations`` of the trainer; ``qubits``; ``depth`` and ``two_qubit_gates`` after transpiling;
        ``effective_beta`` of the shots and its standard error, ``effective_beta_stderr``, which noise makes smaller than 1;
        ``shots``, ``training_seconds`` and ``wall_seconds``. ``advice`` tells a temperature far from 1.

        Raises:
            SamplerError: the backend fails or is too small.
        """
        measured = self._measured(hamiltonian, num_samples)
        shots = len(measured)
        if shots == num_samples:
            return measured
        order = torch.randperm(shots, generator=self.generator(torch.device("cpu"))).repeat(-(-num_samples // shots))
        return Samples(measured.spins[order[:num_samples]], info=measured.info, advise=_advice)

    def _moments(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Moments:
        """Moments of all shots; ``info`` as from :meth:`sample`."""
        return Moments.from_samples(self._measured(hamiltonian, num_samples), hamiltonian)

    def circuit(self, hamiltonian: IsingHamiltonian) -> Circuit:
        """The ansatz for a Hamiltonian on this graph, in standard gates."""
        return gibbs_circuit(GibbsAnsatz(hamiltonian.graph.to("cpu"), self.layers))

    def _measured(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
        """All shots of one call."""
        started = time.perf_counter()
        ansatz = self._ansatz_for(hamiltonian)
        train, _ = TRAINERS[self.trainer]
        solution = self._solution = train(ansatz, hamiltonian, self._solution)
        trained = time.perf_counter()
        shots = self.shots or num_samples
        seed = int(torch.randint(2**31 - 1, (), generator=self.generator(torch.device("cpu"))))
        with _sampler_errors():
            bits = self._device.run(self._circuit, solution.angles.cpu().numpy(), shots, seed)
        spins = 2 * torch.from_numpy(bits).to(hamiltonian.h.device, torch.int8) - 1
        info = {
            "method": f"{self.layers} layers, {self.trainer}, {self._device.name}",
            **_quality(ansatz, solution),
            **_temperature(ansatz, solution, spins),
            "iterations": solution.iterations,
            "qubits": 2 * ansatz.num_spins,
            "depth": self._circuit.depth(),
            "two_qubit_gates": self._circuit.num_nonlocal_gates(),
            "shots": shots,
            "training_seconds": trained - started,
            "wall_seconds": time.perf_counter() - started,
        }
        return Samples(spins, info=info, advise=_advice)

    def _ansatz_for(self, hamiltonian: IsingHamiltonian) -> GibbsAnsatz:
        """The ansatz on the Hamiltonian's graph and device, with its circuit and warm start, made anew where they differ."""
        graph, device = hamiltonian.graph, hamiltonian.h.device
        if self._ansatz is None or self._ansatz.bell.device != device or not _same(self._ansatz.graph, graph):
            saved = self._warm_start()
            self._ansatz = GibbsAnsatz(graph, self.layers, device)
            with _sampler_errors():
                self._circuit = self._device.transpiled(measured_spins(self._ansatz))
            self._solution = self._restored_solution(saved, graph, device)
            self._saved = None
        return self._ansatz

    # State ------------------------------------------------------------------------------------------------------------

    def _warm_start(self) -> dict[str, Any] | None:
        if self._solution is None or self._ansatz is None:
            return self._saved
        tensors = {name: getattr(self._solution, name).cpu() for name in ("coefficients", "angles", "memory")}
        graph = self._ansatz.graph
        about = {"trainer": self.trainer, "layers": self.layers, "num_spins": graph.num_spins, "edges": graph.edges.cpu()}
        return about | tensors

    def _restored_solution(self, saved: dict[str, Any] | None, graph: Graph, device: torch.device) -> Solution | None:
        """A saved warm start, if it is of this ansatz and trainer; a fresh start is as good, but slower."""
        if saved is None or (saved["trainer"], saved["layers"]) != (self.trainer, self.layers):
            return None
        if not _same(Graph(saved["num_spins"], saved["edges"]), graph):
            return None
        return Solution(*(saved[name].to(device) for name in ("coefficients", "angles", "memory")))

    def state_dict(self) -> dict[str, Any]:
        """The generator, and the warm start: angles, the coefficients they belong to, and the trainer's memory."""
        warm = self._warm_start()
        return super().state_dict() | ({} if warm is None else {"warm_start": warm})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with this generator and warm start, which is used if the next call is for the same graph.

        Raises:
            SamplerError: the state is of another sampler.
        """
        super().load_state_dict({key: value for key, value in state.items() if key != "warm_start"})
        self._ansatz, self._circuit, self._solution, self._saved = None, None, None, state.get("warm_start")

    def __getstate__(self) -> dict[str, Any]:
        """Circuits and connections aren't pickled but made again; the warm start travels as in :meth:`state_dict`."""
        forgotten = dict.fromkeys(("_device", "_ansatz", "_circuit", "_solution"))
        return super().__getstate__() | forgotten | {"_saved": self._warm_start()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As pickled, with a new device."""
        self.__dict__.update(state)
        self._connect()


def measured_spins(ansatz: GibbsAnsatz) -> QuantumCircuit:
    """The ansatz's circuit for Qiskit, whose spins are measured into the register ``spins``."""
    from qiskit import ClassicalRegister

    n = ansatz.num_spins
    circuit = gibbs_circuit(ansatz).to_qiskit()
    circuit.add_register(ClassicalRegister(n, "spins"))
    circuit.measure(range(n), range(n))
    return circuit


@contextmanager
def _sampler_errors() -> Iterator[None]:
    """What fails in running circuits is to this sampler's users a sampler that fails."""
    try:
        yield
    except ExecutorError as error:
        raise SamplerError(str(error)) from None


def _quality(ansatz: GibbsAnsatz, solution: Solution) -> dict[str, Any]:
    """How close the trained state is to the exact one, without shots."""
    matrix = ansatz.matrix(solution.coefficients)
    exact = ExactGibbsState(matrix)
    found = float(ansatz.free_energy(solution.angles, matrix))
    fidelity = exact.fidelity(ansatz.state(solution.angles))
    return {"free_energy": found, "free_energy_gap": found - exact.free_energy, "fidelity": fidelity}


def _temperature(ansatz: GibbsAnsatz, solution: Solution, spins: torch.Tensor) -> dict[str, float]:
    """At which inverse temperature the exact state makes these spins (shots, n) most likely, and its standard error."""
    levels, basis = torch.linalg.eigh(ansatz.matrix(solution.coefficients))
    betas = torch.linspace(0, _COLDEST, _BETAS, dtype=levels.dtype, device=levels.device)
    weights = torch.softmax(-levels.unsqueeze(1) * betas, 0)
    counts = torch.bincount(state_numbers(spins > 0), minlength=len(levels)).to(levels)
    likelihood = counts @ (basis.square() @ weights).clamp(min=1e-300).log()
    best = min(max(int(likelihood.argmax()), 1), _BETAS - 2)
    # The parabola through the best of the grid and its neighbours.
    step, (low, middle, high) = float(betas[1]), likelihood[best - 1 : best + 2].tolist()
    curvature = 2 * middle - low - high
    if curvature <= 0:
        return {}
    shift = max(-1.0, min(1.0, (high - low) / (2 * curvature)))
    return {"effective_beta": float(betas[best]) + shift * step, "effective_beta_stderr": step / curvature**0.5}


def _advice(info: SampleInfo) -> list[Advice]:
    """A temperature far from 1."""
    beta, error = info.effective_beta, info.effective_beta_stderr
    if beta is None or error is None or abs(beta - 1) <= 0.1 + 4 * error:
        return []
    text = (
        f"the circuit's samples have an effective inverse temperature of {beta:.2f} instead of 1, as noise makes it: they "
        "belong to another prior; take a backend with less noise, fewer layers or fewer spins"
    )
    return [Advice("temperature", text)]


def _same(first: Graph, second: Graph) -> bool:
    return first is second or (first.num_spins == second.num_spins and torch.equal(first.edges.cpu(), second.edges.cpu()))
