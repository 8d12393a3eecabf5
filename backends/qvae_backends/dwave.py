"""A D-Wave quantum annealer through Leap, on its own graph or embedded, at a temperature that is measured on the way."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qvae.errors import BudgetExhausted, CapabilityError, SamplerError, nearest
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.diagnostics import effective_beta
from qvae.sampling.sampler import Capabilities, Samples, SeededSampler, whole_number
from qvae.sampling.temperature import BetaFilter
from qvae_backends.dwave_placement import Placement, embed, native_qubits
from qvae_backends.dwave_solver import Answer, Fault, LeapSolver, RecordedSolver, RecordingSolver, Solver, Submission

# Importing the client takes two seconds, which listing the samplers needn't; but it must see that it is missing.
for _module in ("dwave.cloud", "dwave.system", "minorminer"):
    if importlib.util.find_spec(_module) is None:
        raise ModuleNotFoundError(f"No module named {_module!r}", name=_module)

EMBEDDING, LEDGER = "embedding.json", "annealer.json"
_FIRST_BETA = 3.0  # a guess until samples tell; what is off is seen in the first calls
_OFF = 0.1  # relative error of the temperature from which on a call is made again
_CALLS_AGAIN = 3
_FEWEST_READS = 16
_ROUNDS = 4  # of submissions for reads whose chains broke
_MORE_READS = 1.1  # than the breaks so far would ask for


class AnnealerSampler(SeededSampler):
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

    def __init__(
        self,
        solver: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        endpoint: str | None = None,
        annealing_time: float | None = None,
        fast_anneal: bool = False,
        anneal_schedule: Sequence[Sequence[float]] | None = None,
        parameters: Mapping[str, Any] | None = None,
        spin_reversal: bool = True,
        chain_strength: float | None = None,
        chain_breaks: str = "discard",
        beta: float | None = None,
        max_qpu_seconds: float | None = None,
        timeout: float = 300.0,
        retries: int = 3,
        retry_seconds: float = 1.0,
        record: str | None = None,
        replay: str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        named = {"solver": solver, "region": region, "profile": profile, "endpoint": endpoint}
        self._settings = {name: value for name, value in named.items() if value is not None}
        for name, text in named.items():
            if text is not None and not isinstance(text, str):
                raise ValueError(f"{name} is {text!r}; it must be a text")
        if not isinstance(spin_reversal, bool):
            raise ValueError(f"spin_reversal is {spin_reversal!r}; it must be true or false")
        self._parameters = _solver_parameters(annealing_time, fast_anneal, anneal_schedule, parameters)
        if chain_breaks not in ("discard", "repair"):
            raise ValueError(f"chain_breaks is {chain_breaks!r}; it must be discard or repair")
        for option, value in (("chain_strength", chain_strength), ("beta", beta), ("max_qpu_seconds", max_qpu_seconds)):
            if value is not None:
                _positive(option, value)
        if record is not None and replay is not None:
            raise ValueError("record and replay are both given; a recording is either made or played")
        self.spin_reversal, self.chain_strength, self.chain_breaks = spin_reversal, chain_strength, chain_breaks
        self.fixed_beta, self.max_qpu_seconds = beta, max_qpu_seconds
        self.timeout, self.retries = _positive("timeout", timeout), whole_number("retries", retries, least=0)
        self.retry_seconds = _positive("retry_seconds", retry_seconds)
        self.record, self.replay = (None if file is None else Path(file).expanduser() for file in (record, replay))
        self.qpu_seconds = 0.0
        self._own_seconds = self._kept_back = 0.0
        self._beta = BetaFilter(_FIRST_BETA if beta is None else beta)
        self._knows_beta = False
        self._broken = 0.0  # part of the reads with broken chains, as far as seen
        self._submissions = 0
        self._last_read: np.ndarray | None = None
        self._folder: Path | None = None
        self._line: Solver | None = None
        self._is_closed = False
        self._placement: Placement | None = None
        self._kept_placement: Placement | None = None
        self._most_reads = 1  # in one submission, of this placement
        self._graph: Graph | None = None

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
        started, spent, submissions = time.perf_counter(), self._own_seconds, self._submissions
        plain = hamiltonian.detach().to(device="cpu", dtype=torch.float64)
        info: dict[str, Any] = {}
        before = self.state_dict()
        try:
            spins, clipped = self._calibrated(plain, num_samples, info)
        except SamplerError:
            # A training that goes on later makes this call again, as if it hadn't been begun; what it has cost stays booked.
            self.load_state_dict(before)
            raise
        info |= {"device_beta": self._beta.value, "clipped": clipped, "wall_seconds": time.perf_counter() - started}
        info |= {"qpu_seconds": self._own_seconds - spent, "submissions": self._submissions - submissions}
        if self.fixed_beta is None:
            info["device_beta_stderr"] = self._beta.stderr
        return Samples(torch.from_numpy(spins).to(hamiltonian.h.device), info=info)

    def _calibrated(self, hamiltonian: IsingHamiltonian, num_samples: int, info: dict[str, Any]) -> tuple[np.ndarray, float]:
        """Reads at a temperature that was known when they were asked for; those that tell that it wasn't are thrown away."""
        for _ in range(1 + _CALLS_AGAIN):
            beta = self._beta.value
            spins, clipped = self._read(hamiltonian, beta, num_samples, info)
            if self.fixed_beta is not None or abs(self._beta.value / beta - 1) <= _OFF + 2 * self._beta.stderr / beta:
                break
        return spins, clipped

    def submit(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Future[Samples]:
        """As :meth:`sample`, in a thread; one call at a time."""
        future: Future[Samples] = Future()

        def work() -> None:
            try:
                future.set_result(self.sample(hamiltonian, num_samples))
            except BaseException as error:
                future.set_exception(error)

        # A daemon: an interrupted training doesn't wait for the service.
        threading.Thread(target=work, daemon=True).start()
        return future

    def native_graph(self, num_spins: int) -> Graph:
        """The couplers among ``num_spins`` working qubits near the middle of the solver's graph."""
        qubits = native_qubits(self._solver.structure, num_spins)
        spin = {qubit: index for index, qubit in enumerate(qubits)}
        pairs = [(spin[u], spin[v]) for u, v in self._solver.structure.edges if u < v and u in spin and v in spin]
        return Graph(num_spins, sorted(tuple(sorted(pair)) for pair in pairs))

    def attach(self, folder: Path) -> None:
        """Take the run's folder: the embedding, the temperatures, the budget and the QPU time so far are kept there."""
        self._folder = folder
        found = _read_json(folder / LEDGER)
        self.qpu_seconds = max(self.qpu_seconds, float(found.get("qpu_seconds", 0.0)))
        self._submissions = max(self._submissions, int(found.get("submissions", 0)))
        if self.max_qpu_seconds is None:
            self.max_qpu_seconds = found.get("max_qpu_seconds")

    def keep_back(self, hamiltonian: IsingHamiltonian, num_samples: int) -> None:
        """Of the budget, what so many samples at the end will take, but no more than half of it."""
        if self.max_qpu_seconds is not None:
            price = self.plan(hamiltonian, num_samples)["qpu_seconds"]
            self._kept_back = min((1 + _OFF) * price, self.max_qpu_seconds / 2)

    def check(self, hamiltonian: IsingHamiltonian) -> None:
        """Connect, and place the spins on qubits, where that hasn't been done.

        Raises:
            CapabilityError: there is a transverse field, or the graph doesn't fit on the solver.
            SamplerError: there is no connection.
        """
        super().check(hamiltonian)
        if hamiltonian.num_spins and self._graph is not hamiltonian.graph:
            self._placement, self._graph = self._place(hamiltonian.graph.to("cpu")), hamiltonian.graph
            self._most_reads = self._largest_job(len(self._placement.qubits))

    def plan(self, hamiltonian: IsingHamiltonian, num_samples: int) -> dict[str, Any]:
        """Solver, qubits, chains, and the estimated QPU seconds of one call."""
        self.check(hamiltonian)
        assert self._placement is not None
        reads, largest = self._reads_for(num_samples), self._most_reads
        return {
            "solver": self._solver.structure.name,
            "qubits": len(self._placement.qubits),
            "longest chain": self._placement.longest_chain,
            "submissions": -(-reads // largest),
            "qpu_seconds": self._estimate(reads),
            **({} if self.max_qpu_seconds is None else {"budget": self.max_qpu_seconds - self._kept_back}),
        }

    def describe(self) -> dict[str, str]:
        """Credentials' source, solver, topology, load, and what reads cost; nothing is submitted."""
        structure = self._solver.structure
        topology = structure.properties.get("topology", {})
        shape = ", ".join(map(str, topology.get("shape", ())))
        found = {
            "credentials": self._solver.source,
            "solver": structure.name,
            "topology": f"{topology.get('type', 'unknown')} [{shape}]",
            "working qubits": f"{len(structure.nodes):,}",
            "working couplers": f"{len(structure.edges) // 2:,}",
            "load of the queue": "unknown" if structure.avg_load is None else f"{structure.avg_load:.0%}",
            "field and coupling ranges": f"{structure.properties['h_range']} and {structure.properties['j_range']}",
        }
        for reads in (1, 256):
            seconds = self._access_seconds(len(structure.nodes), reads)
            found[f"{reads} read{'s' if reads > 1 else ''} of all qubits"] = f"{seconds * 1e3:.1f} ms of QPU access time"
        return found

    @property
    def budget_share(self) -> float:  # type: ignore[override]
        """Part of ``max_qpu_seconds``, less what is kept back, that is spent."""
        if self.max_qpu_seconds is None:
            return 0.0
        return min(1.0, self.qpu_seconds / (self.max_qpu_seconds - self._kept_back))

    # Reading ----------------------------------------------------------------------------------------------------------

    def _read(
        self, hamiltonian: IsingHamiltonian, beta: float, num_samples: int, info: dict[str, Any]
    ) -> tuple[np.ndarray, float]:
        """Spins (num_samples, n), int8, at the coefficients over ``beta``, and which part of these had to be clipped."""
        assert self._placement is not None
        placement, properties = self._placement, self._solver.structure.properties
        fields, couplings = hamiltonian.h.numpy() / beta, hamiltonian.J.numpy() / beta
        kept_fields = placement.clip_fields(fields, properties["h_range"])
        kept_couplings = placement.clip_couplings(couplings, properties["j_range"])
        clipped = (kept_fields != fields).sum() + (kept_couplings != couplings).sum()
        if self.max_qpu_seconds is not None:
            self._book(0.0)  # and learn what others have spent
            self._require_budget(self._estimate(self._reads_for(num_samples)))  # or a part would be paid and thrown away
        intact: list[np.ndarray] = []
        missing, reads, broken = num_samples, 0, 0
        for _ in range(_ROUNDS):
            for count in _portions(self._reads_for(missing), self._most_reads):
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
            info["chain_break_fraction"] = broken / reads
        rows = np.concatenate(intact)
        if self.fixed_beta is None:
            self._measure(hamiltonian, kept_fields, kept_couplings, rows)
        return rows[:num_samples], float(clipped) / (len(fields) + len(couplings))

    def _measure(self, hamiltonian: IsingHamiltonian, fields: np.ndarray, couplings: np.ndarray, rows: np.ndarray) -> None:
        """Take the temperature of reads, in the submission's own units."""
        if len(rows) < _FEWEST_READS:  # whose scatter doesn't tell the error
            return
        submitted = hamiltonian.replace(torch.from_numpy(fields), torch.from_numpy(couplings))
        measured = effective_beta(torch.from_numpy(rows), submitted)
        if measured.value == math.inf and not self._knows_beta:
            self._beta = BetaFilter(2 * self._beta.value)  # no spin ever stands against its field: far colder than guessed
        elif math.isfinite(measured.value):
            self._beta.update(measured)
            self._knows_beta = True

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
            parameters["flux_biases"] = self._flux_biases(placement, qubit_fields)
            qubit_fields = np.zeros_like(qubit_fields)
        price = self._access_seconds(len(placement.qubits), reads)
        submission = Submission(placement.qubits, qubit_fields, placement.couplers, coupler_values, parameters, price)
        answer = self._answer(submission)
        self._last_read = answer.spins[-1] * placement.on_qubits(flips)
        spins, is_intact = placement.gather(answer.spins, generator)
        return spins * flips, is_intact

    def _initial_state(self, placement: Placement, flips: np.ndarray) -> dict[str, Any]:
        """Of a reverse anneal, in the gauge of this submission; empty for others."""
        if not _is_reverse(self._parameters):
            return {}
        qubits = len(placement.qubits)
        fits = self._last_read is not None and len(self._last_read) == qubits
        state = (self._last_read if fits else np.ones(qubits, dtype=np.int8)) * placement.on_qubits(flips)
        return {"initial_state": dict(zip(placement.qubits.tolist(), state.tolist(), strict=True)), "reinitialize_state": True}

    def _flux_biases(self, placement: Placement, qubit_fields: np.ndarray) -> list[float]:
        """Of all qubits that the solver counts, by the library's conversion, whose constants are those of one annealer."""
        from dwave.system.temperatures import h_to_fluxbias

        biases = np.zeros(int(self._solver.structure.properties["num_qubits"]))
        biases[placement.qubits] = h_to_fluxbias(qubit_fields)
        return biases.tolist()

    def _answer(self, submission: Submission) -> Answer:
        """The solver's answer within the budget, with repeats where they help."""
        pause = self.retry_seconds
        for attempt in range(self.retries + 1):
            # Booked before it is spent, so that neither another process nor a kill makes the run exceed its budget.
            self._book(submission.price, is_new=True)
            try:
                answer = self._solver.answer(submission)
            except Fault as fault:
                if not fault.has_run:
                    self._book(-submission.price)
                if not fault.helps_to_repeat or attempt == self.retries:
                    raise SamplerError(self._in_words(fault, attempt)) from None
                time.sleep(pause)
                pause *= 2
            else:
                self._submissions += 1
                self._book(_nanoseconds(answer.qpu_seconds) - submission.price)
                return answer
        raise AssertionError("unreachable")

    def _in_words(self, fault: Fault, repeats: int) -> str:
        where = "the recording" if self.replay is not None else f"D-Wave solver {self._solver.structure.name}"
        tried = f", after {repeats + 1} attempts" if repeats else ""
        return (
            f"{where} gave no samples{tried}: {fault}. Go on later (a training with --resume), with another solver (--set "
            "sampler.options.solver=NAME) or with --sampler gibbs."
        )

    # Cost -------------------------------------------------------------------------------------------------------------

    def _access_seconds(self, num_qubits: int, reads: int) -> float:
        """QPU access time of one submission, by the solver's own timing model; 0 where it publishes none."""
        known = {name: self._parameters[name] for name in _PRICED if name in self._parameters}
        if _is_reverse(self._parameters):
            known |= {"initial_state": [(0, 1)], "reinitialize_state": True}
        try:
            return _nanoseconds(1e-6 * float(self._solver.structure.estimate_qpu_access_time(num_qubits, reads, **known)))
        except (KeyError, ValueError):
            return 0.0

    def _estimate(self, reads: int) -> float:
        assert self._placement is not None
        size = len(self._placement.qubits)
        return sum(self._access_seconds(size, count) for count in _portions(reads, self._most_reads))

    def _require_budget(self, price: float) -> None:
        if self.max_qpu_seconds is None:
            return
        if self.qpu_seconds + price + self._kept_back > self.max_qpu_seconds:
            kept = f", {self._kept_back:.3f} s are kept back for the samples at the end" if self._kept_back else ""
            raise BudgetExhausted(
                f"{self.qpu_seconds:.3f} of {self.max_qpu_seconds:g} s of QPU time are spent{kept}, and the next call would "
                f"take about {price:.3f} s: raise sampler.options.max_qpu_seconds to go on."
            )

    def _book(self, seconds: float, is_new: bool = False) -> None:
        """Add to what was spent, here and in the run folder, where other samplers of the run book, too.

        Raises:
            BudgetExhausted: it ``is_new`` and not covered.
        """
        folder = self._folder if self._folder is not None and self._folder.is_dir() else None
        with contextlib.nullcontext() if folder is None else _locked(folder):
            ledger = {} if folder is None else _read_json(folder / LEDGER)
            self.qpu_seconds = float(ledger.get("qpu_seconds", self.qpu_seconds))
            if is_new:
                self._require_budget(seconds)
            self.qpu_seconds = _nanoseconds(self.qpu_seconds + seconds)
            self._own_seconds = _nanoseconds(self._own_seconds + seconds)
            if folder is None:
                return
            ledger |= {"qpu_seconds": self.qpu_seconds, "submissions": self._submissions}
            if self.max_qpu_seconds is not None:
                ledger["max_qpu_seconds"] = self.max_qpu_seconds
            if self._knows_beta:
                ledger.setdefault("betas", {})[self._mode] = self._beta.state_dict()
            _write_json(folder / LEDGER, ledger)
            self._keep_embedding()

    def _largest_job(self, num_qubits: int) -> int:
        """Reads that the solver takes in one submission, by number and by duration."""
        properties = self._solver.structure.properties
        most = int(properties.get("num_reads_range", [1, 10_000])[1])
        longest = 1e-6 * properties.get("problem_run_duration_range", [0, math.inf])[1]
        while most > 1 and self._access_seconds(num_qubits, most) > longest:
            most = max(1, int(most * 0.9))
        return most

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
                raise SamplerError(f"sampler {self.name or 'dwave'!r} is closed; make a new one.")
            line: Solver = RecordedSolver(self.replay) if self.replay is not None else LeapSolver(self._settings, self.timeout)
            try:
                _check_parameters(self._parameters, line.structure)
                if self.record is not None:
                    line = RecordingSolver(line, self.record, self._submissions)
                elif self.replay is not None:
                    line.rewind(self._submissions)
            except BaseException:
                line.close()
                raise
            self._line, self._graph = line, None
            self._remember_beta()
        return self._line

    @property
    def _mode(self) -> str:
        """Solver and anneal: each has a temperature of its own."""
        return json.dumps([str(self._solver.structure.identity), self._parameters], sort_keys=True)

    def _remember_beta(self) -> None:
        if self._folder is None or self.fixed_beta is not None or self._knows_beta:
            return
        known = _read_json(self._folder / LEDGER).get("betas", {}).get(self._mode)
        if known is not None:
            self._beta.load_state_dict(known)
            self._knows_beta = True

    def _place(self, graph: Graph) -> Placement:
        """Qubits for the spins: those that the run folder names, the native ones, or a new embedding."""
        structure = self._solver.structure
        saved = _read_json(self._folder / EMBEDDING) if self._folder is not None else {}
        is_known = saved.get("solver") == structure.name and saved.get("edges") == graph.edges.tolist()
        if is_known:
            placement = Placement.on(structure, graph, saved["chains"])
            if placement is not None:
                return placement
        placement = embed(structure, graph)
        if placement is None:
            remedy = (
                "some of its qubits or couplers have gone since; go on with another sampler, as --sampler gibbs"
                if is_known
                else "take fewer spins, the solver's own graph (model.latent.graph: native) or another sampler, as gibbs"
            )
            raise CapabilityError(
                f"{graph.num_spins} spins with {graph.num_edges} couplings don't fit on solver {structure.name} "
                f"({len(structure.nodes)} qubits): {remedy}."
            )
        return placement

    def _keep_embedding(self) -> None:
        if self._folder is None or self._placement is None or self._graph is None or self._kept_placement is self._placement:
            return
        chains = [list(map(int, chain)) for chain in self._placement.chains]
        content = {"solver": self._solver.structure.name, "edges": self._graph.edges.tolist(), "chains": chains}
        _write_json(self._folder / EMBEDDING, content)
        self._kept_placement = self._placement

    # State ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Generator, temperature, QPU time, number of submissions, and the last read, from which a reverse anneal starts."""
        state = super().state_dict()
        state |= {"beta": self._beta.state_dict(), "qpu_seconds": self.qpu_seconds, "submissions": self._submissions}
        state |= {"broken": self._broken, "knows_beta": self._knows_beta}
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
            raise SamplerError(f"sampler {self.name or 'dwave'!r} was given the state {foreign} of another one.")
        if self.fixed_beta is None:
            self._beta.load_state_dict(state["beta"])
            self._knows_beta = state["knows_beta"]
        self.qpu_seconds = max(self.qpu_seconds, state["qpu_seconds"])
        self._submissions, self._broken = state["submissions"], state["broken"]
        last: Tensor | None = state.get("last_read")
        self._last_read = None if last is None else last.numpy()
        if self._line is not None:
            self._line.rewind(self._submissions)

    def close(self) -> None:
        """Release the connection."""
        self._is_closed = True
        if self._line is not None:
            self._line.close()
            self._line = None

    def __getstate__(self) -> dict[str, Any]:
        """The connection isn't pickled but made again."""
        return super().__getstate__() | dict.fromkeys(("_line", "_placement", "_kept_placement", "_graph"))


# Parameters of the solver ---------------------------------------------------------------------------------------------

_PRICED = ("annealing_time", "anneal_schedule", "programming_thermalization", "readout_thermalization")
_OURS = ("num_reads", "answer_mode", "auto_scale", "initial_state", "reinitialize_state")


def _solver_parameters(
    annealing_time: float | None,
    fast_anneal: bool,
    anneal_schedule: Sequence[Sequence[float]] | None,
    parameters: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The options that go to the solver as they are."""
    found: dict[str, Any] = {}
    if annealing_time is not None:
        found["annealing_time"] = _positive("annealing_time", annealing_time)
    if anneal_schedule is not None:
        if annealing_time is not None:
            raise ValueError("annealing_time and anneal_schedule are both given; the schedule has its own time")
        found["anneal_schedule"] = _schedule(anneal_schedule)
    if not isinstance(fast_anneal, bool):
        raise ValueError(f"fast_anneal is {fast_anneal!r}; it must be true or false")
    if fast_anneal:
        found["fast_anneal"] = True
    if parameters is not None and not isinstance(parameters, Mapping):
        raise ValueError(f"parameters is {parameters!r}; it must be a mapping of the solver's parameters to values")
    for name, value in (parameters or {}).items():
        if name in _OURS or name in found:
            raise ValueError(f"parameters has {name!r}, which has its own option or is set for each submission; drop it")
        found[name] = value
    return found


def _schedule(points: Sequence[Sequence[float]]) -> list[list[float]]:
    try:
        pairs = [[float(t), float(s)] for t, s in points]
    except (TypeError, ValueError):
        pairs = []
    times, fractions = [t for t, _ in pairs], [s for _, s in pairs]
    fits = len(pairs) >= 2 and times[0] == 0 and fractions[0] in (0, 1) and fractions[-1] == 1
    if not fits or times != sorted(set(times)) or not all(0 <= s <= 1 for s in fractions):
        raise ValueError(
            f"anneal_schedule is {points!r}; it must be pairs [microseconds, fraction] with rising times from 0, fractions of "
            "0 to 1, from 0 (or 1 in a reverse anneal) to 1, as [[0, 0], [20, 0.4], [120, 0.4], [140, 1]]"
        )
    return pairs


def _is_reverse(parameters: dict[str, Any]) -> bool:
    schedule = parameters.get("anneal_schedule")
    return schedule is not None and schedule[0][1] == 1


def _check_parameters(parameters: dict[str, Any], structure: Any) -> None:
    """What the solver has no parameter for, or no such time, is refused before anything is submitted."""
    known = set(structure.parameters)
    for name in parameters:
        if name not in known:
            raise SamplerError(f"solver {structure.name} has no parameter {name!r}: {nearest(name, known)}.")
    is_fast = parameters.get("fast_anneal", False)
    key = "fast_anneal_time_range" if is_fast else "annealing_time_range"
    shortest, longest = structure.properties.get(key, [0, math.inf])
    schedule = parameters.get("anneal_schedule")
    duration = parameters.get("annealing_time") if schedule is None else schedule[-1][0]
    if duration is not None and not shortest <= duration <= longest:
        option = "annealing_time" if schedule is None else "anneal_schedule"
        raise SamplerError(
            f"sampler.options.{option} takes {duration:g} microseconds, but solver {structure.name} takes {shortest:g} to "
            f"{longest:g}{' with fast_anneal' if is_fast else ''}."
        )
    points = structure.properties.get("max_anneal_schedule_points", math.inf)
    if schedule is not None and len(schedule) > points:
        raise SamplerError(f"sampler.options.anneal_schedule has {len(schedule)} points, but {structure.name} takes {points}.")


def _positive(option: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{option} is {value!r}; it must be a number above 0")
    return float(value)


def _nanoseconds(seconds: float) -> float:
    """Rounded, so that sums don't depend on the order: schedules follow the budget, and a replay must have the same bits."""
    return round(seconds, 9)


def _portions(total: int, largest: int) -> list[int]:
    """``total`` in as few parts of at most ``largest`` as can be.

    >>> _portions(25, 10)
    [10, 10, 5]
    """
    whole, rest = divmod(total, largest)
    return [largest] * whole + [rest] * (rest > 0)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone with the run folder's ledger, among processes too where the system has such locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(folder / f".{LEDGER}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_json(file: Path, content: dict[str, Any]) -> None:
    """Whole or not at all; unlike checkpoints it isn't waited for until the disk has it, since this is part of a step."""
    temporary = file.with_name(f".{file.name}.part")
    temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    os.replace(temporary, file)


def _read_json(file: Path) -> dict[str, Any]:
    """A file that this sampler wrote into a run folder; empty where there is none, or it was damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
