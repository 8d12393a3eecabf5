"""A D-Wave quantum annealer through Leap, on its own graph or embedded, at a temperature that is measured on the way."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from qvae.errors import SamplerError
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.options import checked_options
from qvae.sampling.abilities import Metered, Remote, Structured
from qvae.sampling.info import SampleInfo
from qvae.sampling.metering import Fault, Meter, nanoseconds
from qvae.sampling.sampler import Capabilities, Samples, SeededSampler
from qvae.seeding import Seed
from qvae.trust import Address, Output
from qvae_backends.dwave_ideal import connect
from qvae_backends.dwave_parameters import (
    access_seconds,
    check_parameters,
    facts,
    is_reverse,
    largest_job,
    portions,
    solver_parameters,
)
from qvae_backends.dwave_placement import Placement, flux_biases, native_graph, placed
from qvae_backends.dwave_recording import RecordedSolver, RecordingSolver
from qvae_backends.dwave_solver import Answer, Solver, Submission
from qvae_backends.dwave_temperature import Temperature, is_temperature, temperature_advice

# Importing the client takes two seconds, which listing the samplers needn't; but it must see that it is missing.
for _module in ("dwave.cloud", "dwave.system", "minorminer"):
    if importlib.util.find_spec(_module) is None:
        raise ModuleNotFoundError(f"No module named {_module!r}", name=_module)

Positive = Annotated[float, Field(gt=0)]

_CALLS_AGAIN = 3  # at a better known temperature
_ROUNDS = 4  # of submissions for reads whose chains broke
_MORE_READS = 1.1  # than the breaks so far would ask for


class AnnealerSampler(Metered, Structured, Remote, SeededSampler):
    """Reads of a quantum annealer, scaled so that they belong to beta = 1 as well as its temperature is known.

    The token is found by D-Wave's own client, in DWAVE_API_TOKEN or in the file that ``dwave setup --auth`` writes; it is no
    option here. A prior on the solver's own graph (``model.latent.graph: native``) has one qubit for each spin; any other is
    embedded once, and the run folder keeps the embedding. Fields and couplings are submitted divided by the annealer's
    effective inverse temperature, without the solver's own scaling; what is beyond its ranges is clipped, and told.

    Args:
        solver: name of a solver; None takes the annealer with the most qubits.
        region: of the service; None is the client's default.
        profile: of the D-Wave configuration file.
        endpoint: address of another service that speaks the same protocol.
        annealing_time: of one read, in microseconds; None is the solver's default.
        fast_anneal: the fast (diabatic) protocol, whose times start at nanoseconds. It takes no fields: they are applied as
            flux biases, by D-Wave's own conversion, which may be a few percent off on another annealer.
        anneal_schedule: pairs [microseconds, anneal fraction], with pauses or quenches; one that starts at fraction 1 is a
            reverse anneal, from the last read of the call before (the first starts with all spins up).
        parameters: any other parameter of the solver.
        spin_reversal: flip a random half of the spins in the problem and back in the reads, which averages biases out.
        chain_strength: of the couplings within a chain of qubits, in the solver's units; None is the strongest in range.
        chain_breaks: of reads in which the qubits of a chain differ: ``discard`` them and read more, or ``repair`` them by
            majority, which biases the samples.
        beta: the effective inverse temperature; None measures it in every call and follows it.
        max_qpu_seconds: of the run folder, all its calls together; the call that would exceed it isn't made.
        timeout: seconds that one submission may take, in the queue and at work.
        retries: repeats of a submission after a fault that may pass.
        retry_seconds: the pause before the first repeat; each further one is twice as long.
        record: a file that gets every submission and answer.
        replay: such a file, whose answers are taken in place of an annealer's.
        seed: of the spin reversals and of ties in repaired chains.

    Raises:
        ValueError: an option is out of its range.
    """

    capabilities = Capabilities(native_beta=False, remote=True)

    @checked_options
    def __init__(
        self,
        solver: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        endpoint: Annotated[str, Address()] | None = None,
        annealing_time: Positive | None = None,
        fast_anneal: bool = False,
        anneal_schedule: Sequence[Sequence[float]] | None = None,
        parameters: Mapping[str, Any] | None = None,
        spin_reversal: bool = True,
        chain_strength: Positive | None = None,
        chain_breaks: Literal["discard", "repair"] = "discard",
        beta: Positive | None = None,
        max_qpu_seconds: Positive | None = None,
        timeout: Positive = 300.0,
        retries: Annotated[int, Field(ge=0)] = 3,
        retry_seconds: Positive = 1.0,
        record: Annotated[str, Output()] | None = None,
        replay: str | None = None,
        seed: Seed = None,
    ) -> None:
        super().__init__(seed)
        named = {"solver": solver, "region": region, "profile": profile, "endpoint": endpoint}
        self._settings = {name: value for name, value in named.items() if value is not None}
        self._parameters = solver_parameters(annealing_time, fast_anneal, anneal_schedule, parameters)
        if record is not None and replay is not None:
            raise ValueError("record and replay are both given; a recording is either made or played")
        self.spin_reversal, self.chain_strength, self.chain_breaks = spin_reversal, chain_strength, chain_breaks
        self.timeout = timeout
        self.record, self.replay = (None if file is None else Path(file).expanduser() for file in (record, replay))
        ledger = "annealer.json" if replay is None else "annealer-replay.json"  # where nothing is really spent
        self.meter = Meter(max_qpu_seconds, "max_qpu_seconds", ledger, retries, retry_seconds)
        self._beta = beta
        self.temperature = Temperature(beta)
        self._broken = 0.0  # part of the reads with broken chains, as far as seen
        self._last_read: np.ndarray | None = None
        self._line: Solver | None = None
        self._is_closed = False
        self._placement: Placement | None = None
        self._most_reads = 1  # in one submission, of this placement
        self._graph: Graph | None = None
        self._is_kept = False  # the placement, in the run folder

    # The contract -----------------------------------------------------------------------------------------------------

    def _sample(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
        """Reads of as many anneals, more where chains break.

        ``info`` holds ``wall_seconds``, ``qpu_seconds``, ``submissions``, ``device_beta`` and ``device_beta_stderr`` (the
        annealer's effective inverse temperature in the submission's units, smoothed), ``clipped`` (part of the fields and
        couplings beyond the ranges) and, where chains are longer than 1, ``chain_break_fraction`` of the reads.

        Raises:
            BudgetExhausted: the call would cost more than is left of ``max_qpu_seconds``.
            SamplerError: no answer, in spite of repeats where they help; the message says why and how to go on.
        """
        started, spent, submissions = time.perf_counter(), self.meter.own_seconds, self.meter.calls
        plain = hamiltonian.detach().to(device="cpu", dtype=torch.float64)
        info = SampleInfo()
        before = self.state_dict()
        self._keep_placement()
        try:
            spins = self._calibrated(plain, num_samples, info)
        except SamplerError:
            # A training that goes on later makes this call again, as if it hadn't been begun; what it has cost stays booked.
            self.load_state_dict(before)
            raise
        info.device_beta, info.device_beta_stderr = self.temperature.value, self.temperature.stderr
        info.qpu_seconds, info.wall_seconds = self.meter.own_seconds - spent, time.perf_counter() - started
        info.extra["submissions"] = self.meter.calls - submissions
        return Samples(torch.from_numpy(spins).to(hamiltonian.h.device), info=info, advise=temperature_advice)

    def _calibrated(self, hamiltonian: IsingHamiltonian, num_samples: int, info: SampleInfo) -> np.ndarray:
        """Reads at a temperature that was known when they were asked for; those that tell that it wasn't are thrown away."""
        for _ in range(1 + _CALLS_AGAIN):
            beta = self.temperature.value
            spins = self._read(hamiltonian, beta, num_samples, info)
            if self.temperature.confirms(beta):
                break
        return spins

    def native_graph(self, num_spins: int) -> Graph:
        """The couplers among ``num_spins`` working qubits near the middle of the solver's graph."""
        return native_graph(self._solver.structure, num_spins)

    def check(self, hamiltonian: IsingHamiltonian) -> None:
        """Connect, and place the spins on qubits, where that hasn't been done.

        Raises:
            CapabilityError: there is a transverse field, or the graph doesn't fit on the solver.
            SamplerError: there is no connection.
        """
        super().check(hamiltonian)
        if hamiltonian.num_spins and self._graph is not hamiltonian.graph:
            self._placement, self._graph = self._place(hamiltonian.graph.to("cpu")), hamiltonian.graph
            self._is_kept = False
            self._most_reads = largest_job(self._solver.structure, self._parameters, len(self._placement.qubits))

    def price(self, hamiltonian: IsingHamiltonian, num_samples: int) -> float:
        """QPU access time, by the solver's own timing model."""
        assert self._placement is not None
        size = len(self._placement.qubits)
        return sum(self._access_seconds(size, count) for count in portions(self._reads_for(num_samples), self._most_reads))

    def plan(self, hamiltonian: IsingHamiltonian, num_samples: int) -> dict[str, Any]:
        """Solver, qubits, chains, submissions, and the estimated QPU seconds of one call."""
        self.check(hamiltonian)
        assert self._placement is not None
        return {
            "solver": self._solver.structure.name,
            "qubits": len(self._placement.qubits),
            "longest chain": self._placement.longest_chain,
            "submissions": -(-self._reads_for(num_samples) // self._most_reads),
            **super().plan(hamiltonian, num_samples),
        }

    def describe(self) -> dict[str, str]:
        """Credentials' source, solver, topology, load, and what reads cost; nothing is submitted."""
        return facts(self._solver, self._parameters)

    # Reading ----------------------------------------------------------------------------------------------------------

    def _read(self, hamiltonian: IsingHamiltonian, beta: float, num_samples: int, info: SampleInfo) -> np.ndarray:
        """Spins (num_samples, n), int8, at the coefficients over ``beta``; their temperature is taken."""
        self._note_temperature()
        assert self._placement is not None
        placement, properties = self._placement, self._solver.structure.properties
        fields, couplings = hamiltonian.h.numpy() / beta, hamiltonian.J.numpy() / beta
        kept_fields = placement.clip_fields(fields, properties["h_range"])
        kept_couplings = placement.clip_couplings(couplings, properties["j_range"])
        clipped = (kept_fields != fields).sum() + (kept_couplings != couplings).sum()
        info.clipped = float(clipped) / (len(fields) + len(couplings))
        self.meter.require(self.price(hamiltonian, num_samples))
        intact: list[np.ndarray] = []
        missing, reads, broken = num_samples, 0, 0
        for _ in range(_ROUNDS):
            for count in portions(self._reads_for(missing), self._most_reads):
                spins, is_intact = self._submit(placement, kept_fields, kept_couplings, count)
                reads, broken = reads + count, broken + int((~is_intact).sum())
                intact.append(spins[is_intact] if self.chain_breaks == "discard" else spins)
            self._broken = broken / reads
            missing = num_samples - sum(map(len, intact))
            if missing <= 0:
                break
        if missing > 0:
            raise SamplerError(
                f"the chains of {broken} of {reads} reads broke, too many to discard: raise sampler.options.chain_strength, "
                "take a sparser graph (model.latent.graph: native), or set sampler.options.chain_breaks=repair, which biases "
                "the samples."
            )
        if placement.longest_chain > 1:
            info.chain_break_fraction = broken / reads
        rows = np.concatenate(intact)
        self.temperature.measure(hamiltonian, kept_fields, kept_couplings, rows)
        return rows[:num_samples]

    def _submit(
        self, placement: Placement, fields: np.ndarray, couplings: np.ndarray, reads: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """One submission: spins (reads, n), and which reads have no broken chain, (reads,)."""
        generator = self.generator(torch.device("cpu"))
        flips = np.ones(len(fields), dtype=np.int8)
        if self.spin_reversal:
            flips = 2 * torch.randint(2, (len(fields),), generator=generator, dtype=torch.int8).numpy() - 1
        strength = self.chain_strength or -min(self._solver.structure.properties["j_range"])
        qubit_fields, coupler_values = placement.spread(fields * flips, couplings * placement.edge_signs(flips), strength)
        parameters = {"num_reads": reads, "answer_mode": "raw", "auto_scale": False} | self._parameters
        parameters |= self._initial_state(placement, flips)
        if parameters.get("fast_anneal"):
            # The protocol takes no fields; flux biases act like them.
            parameters["flux_biases"] = flux_biases(self._solver.structure, placement.qubits, qubit_fields)
            qubit_fields = np.zeros_like(qubit_fields)
        price = self._access_seconds(len(placement.qubits), reads)
        submission = Submission(placement.qubits, qubit_fields, placement.couplers, coupler_values, parameters, price)
        answer = self.pay(price, lambda: self._answer(submission))
        self._last_read = answer.spins[-1] * placement.on_qubits(flips)
        spins, is_intact = placement.gather(answer.spins, generator)
        return spins * flips, is_intact

    def _initial_state(self, placement: Placement, flips: np.ndarray) -> dict[str, Any]:
        """Of a reverse anneal, in the gauge of this submission; empty for others."""
        if not is_reverse(self._parameters):
            return {}
        qubits = len(placement.qubits)
        fits = self._last_read is not None and len(self._last_read) == qubits
        state = (self._last_read if fits else np.ones(qubits, dtype=np.int8)) * placement.on_qubits(flips)
        return {"initial_state": dict(zip(placement.qubits.tolist(), state.tolist(), strict=True)), "reinitialize_state": True}

    def _answer(self, submission: Submission) -> tuple[Answer, float]:
        answer = self._solver.answer(submission)
        return answer, nanoseconds(answer.qpu_seconds)

    def _without_answer(self, fault: Fault) -> str:
        where = "the recording" if self.replay is not None else f"D-Wave solver {self._solver.structure.name}"
        return (
            f"{where} {fault.in_words}. Go on later (a training with --resume), with another solver (--set "
            "sampler.options.solver=NAME) or with --sampler gibbs."
        )

    def _access_seconds(self, num_qubits: int, reads: int) -> float:
        return access_seconds(self._solver.structure, self._parameters, num_qubits, reads)

    def _reads_for(self, num_samples: int) -> int:
        """Reads of which so many should be intact."""
        if self.chain_breaks == "repair" or not self._broken:
            return num_samples
        return math.ceil(_MORE_READS * num_samples / max(0.05, 1 - self._broken))

    # Solver and placement ---------------------------------------------------------------------------------------------

    @property
    def _solver(self) -> Solver:
        """The connection, made when it is first needed."""
        if self._line is None:
            if self._is_closed:
                raise SamplerError(f"sampler {self.label!r} is closed; make a new one.")
            line = connect(self._settings, self.timeout, self.replay, self.is_rehearsal)
            try:
                check_parameters(self._parameters, line.structure)
                if self.record is not None:
                    line = RecordingSolver(line, self.record, self.meter)
                elif self.replay is not None:
                    self._rewind(line)
            except BaseException:
                line.close()
                raise
            self._line, self._graph = line, None
            self._recall_temperature()
        return self._line

    @property
    def _mode(self) -> str:
        """Solver and anneal: each has a temperature of its own."""
        return json.dumps([str(self._solver.structure.identity), self._parameters], sort_keys=True)

    def _recall_temperature(self) -> None:
        """What the run folder knows of it."""
        known = self.meter.read().get("betas", {}).get(self._mode)
        if is_temperature(known) and not self.temperature.is_known:
            self.temperature.load_state_dict(known, is_known=True)

    def _note_temperature(self) -> None:
        """For the ledger, to which it goes with the next price."""
        if self.temperature.is_known:
            self.meter.notes["betas"] = {self._mode: self.temperature.state_dict()}

    def _place(self, graph: Graph) -> Placement:
        """Qubits for the spins: those that the run folder names, the native ones, or a new embedding."""
        structure = self._solver.structure
        return placed(structure, graph, self.kept_chains(structure.name, graph))

    def _keep_placement(self) -> None:
        if not self._is_kept and self._placement is not None and self._graph is not None:
            self.keep_chains(self._solver.structure.name, self._graph, self._placement.chains)
            self._is_kept = True

    # State ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Generator, temperature, QPU time, number of submissions, and the last read, from which a reverse anneal starts."""
        state = super().state_dict()
        state |= {"beta": self.temperature.state_dict(), "knows_beta": self.temperature.is_known, "broken": self._broken}
        state |= {"qpu_seconds": self.meter.seconds, "submissions": self.meter.calls}
        if self._last_read is not None:
            state["last_read"] = torch.from_numpy(self._last_read.copy())
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; the run folder may know of more QPU time."""
        super().load_state_dict({key: value for key, value in state.items() if key == "generator"})
        if not state:
            return
        known = {"generator", "beta", "knows_beta", "qpu_seconds", "submissions", "broken", "last_read"}
        foreign = sorted(set(state) - known)
        if foreign:
            raise SamplerError(f"sampler {self.label!r} was given the state {foreign} of another one.")
        self.temperature.load_state_dict(state["beta"], state["knows_beta"])
        self.meter.seconds = max(self.meter.seconds, state["qpu_seconds"])
        self.meter.calls, self._broken = state["submissions"], state["broken"]
        last: Tensor | None = state.get("last_read")
        self._last_read = None if last is None else last.numpy()
        self._rewind(self._line)

    def begin(self) -> None:
        """Calls are counted from 0, a recording begins anew or is played from its start, and the temperature isn't known."""
        super().begin()
        self.temperature = Temperature(self._beta)
        self._rewind(self._line)

    def _rewind(self, line: Solver | None) -> None:
        """Have the connection go on where the run does."""
        if line is not None:
            line.rewind(self.meter.calls, self.meter.seconds)
        if isinstance(line, RecordedSolver):
            self.meter.set_right(line.seconds)

    def close(self) -> None:
        """Release the connection."""
        self._is_closed = True
        if self._line is not None:
            self._line.close()
            self._line = None

    def __getstate__(self) -> dict[str, Any]:
        """The connection isn't pickled but made again."""
        return super().__getstate__() | dict.fromkeys(("_line", "_placement", "_graph"))
