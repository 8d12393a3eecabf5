"""A test tool: D-Wave's solver API on the loopback interface, answered from true Boltzmann distributions.

The real ``dwave-system`` and ``dwave-cloud-client`` talk to it; only the address differs from a run on a quantum annealer::

    with SolverServer(topology="zephyr", size=2, beta=1.5) as server:
        sampler = DWaveSampler(endpoint=server.endpoint, token=server.token, config_file=False, cache_enabled=False)

or, in a process of its own, ``python tests/solver_server.py --topology zephyr --size 4`` (the endpoint is its first line).

**What is modelled.** A forward anneal returns independent draws of p(s) ~ exp(-beta E(s)), where E has the coefficients
as submitted, after ``auto_scale`` (on unless switched off, as on a real solver), flux biases (at the client's own
conversion) and control errors. Forests and components of up to 14 qubits are drawn exactly; the rest is block Gibbs with
flips of strongly coupled clusters, on chains that persist for the same qubits and number of reads, follow a
spin-reversal transform, and start anew when a problem has changed by more than half a kT a spin. Frustrated problems of
several kT a coupling are beyond it, as they are beyond any Gibbs sampler. A reverse anneal makes one sweep from the
initial state for each microsecond spent below s = 0.5, and so returns that state when it never gets there.

**What the client makes of the faults** of :meth:`SolverServer.fail_next`, as measured with dwave-cloud-client 0.14.8.
T is ``request_timeout``, R is ``http_retry_total``; GET requests (solver list, poll, answer) are tried R + 1 times, POST
(submission) once. Exceptions are raised by ``sampleset.resolve()``; on the solver list, by the constructor.

======================= =================== ============================================ =============================
fault                   at                  raises                                       after; and then
======================= =================== ============================================ =============================
refuse (reset)          submit              requests.ConnectionError (ProtocolError)     at once
refuse (reset)          poll answer solvers requests.ConnectionError (MaxRetryError)     R + 1 resets; fewer: recovers
``down()`` (refused)    anywhere            RequestTimeout                               back-off: R=10 10 s, R=2 0.05 s
timeout                 submit              RequestTimeout                               T
timeout                 poll answer solvers RequestTimeout                               T (R + 1); fewer: recovers
401                     anywhere            SolverAuthenticationError                    at once
403 404 429 500 503     submit answer       SolverError with that error_code             at once
403 404 429             poll                SolverError                                  at once
500 503                 poll                nothing; with polling_timeout PollingTimeout asks again without a pause
403 404 429             solvers             ResourceAccessForbidden-, NotFound-,         at once
                                            LimitsExceededError (dwave.cloud.api)
500 503                 solvers             InternalServerError (dwave.cloud.api)        at once
retired                 submit              SolverError, error_code 404                  at once
retired                 solvers             SolverNotFoundError                          at once
offline                 submit              SolverOfflineError                           the job's latency
problem-failed          submit              SolverFailureError                           the job's latency
cancelled               submit              CanceledFutureError (an Exception)           the job's latency
quota                   submit              SolverFailureError ("insufficient ...")      at once
truncated               anywhere            requests.ChunkedEncodingError                at once, never tried again
wrong-content-type      anywhere            InvalidAPIResponseError                      at once
malformed               submit              InvalidAPIResponseError                      at once
malformed               poll answer         KeyError                                     at once
malformed               solvers             AttributeError                               at once
malformed-base64        answer              binascii.Error (a ValueError)                at once
malformed-bits          answer              ValueError                                   at once
malformed-reads         answer              nothing: fewer rows than were asked for
malformed-object        submit              InvalidAPIResponseError                      kills one of 5 threads, see below
malformed-object        poll                TypeError                                    at once
malformed-empty         submit              InvalidAPIResponseError                      at once
malformed-empty         poll                nothing, never, whatever the settings        ``close()`` hangs
======================= =================== ============================================ =============================

An error object in place of a submission's list kills a submission thread of the client; after five, submissions never
return, and even ``client.close(wait=False)`` hangs. ``polling_timeout`` is looked at between polls only, and a poll lasts
up to ``poll_wait_time`` (30 s); where that is longer than T, polls time out and count against R. So only a deadline of
the caller's own, on ``sampleset.done()``, bounds the wait for an answer.
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import functools
import itertools
import json
import math
import os
import random
import socket
import struct
import sys
import threading
import time
import urllib.parse
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import (  # type: ignore[import-untyped]
    breadth_first_order,
    connected_components,
    minimum_spanning_tree,
)

Array = NDArray[Any]

_EXACT_SPINS = 14
_WARM_SWEEPS = 20
_BURN_IN_SWEEPS = 400
_WARM_CHANGE = 0.5  # root mean square change of a spin's local field, in kT, that persistent chains follow
_STRONG = 1.0  # a coupling of so many kT binds two spins into a cluster that also flips as one
_CACHED_CHAINS = 16
_REVERSE_POINT = 0.5


# ---------------------------------------------------------------------------------------------- Boltzmann distributions


def _colour(num_nodes: int, edges: Array) -> Array:
    """Greedy colouring, nodes of high degree first: neighbours differ, (num_nodes,)."""
    neighbours: list[list[int]] = [[] for _ in range(num_nodes)]
    for i, j in edges.tolist():
        neighbours[i].append(j)
        neighbours[j].append(i)
    colours = np.full(num_nodes, -1)
    for node in sorted(range(num_nodes), key=lambda i: -len(neighbours[i])):
        taken = {colours[other] for other in neighbours[node]}
        colours[node] = next(colour for colour in itertools.count() if colour not in taken)
    return colours


def _components(num_nodes: int, edges: Array) -> tuple[int, Array]:
    ones = np.ones(len(edges))
    return connected_components(coo_array((ones, edges.T), shape=(num_nodes, num_nodes)), directed=False)


def _breadth_first(num_nodes: int, edges: Array) -> tuple[Array, Array]:
    """Order of visit of all nodes, parents first, and each node's parent (num_nodes for the first of a component)."""
    _, labels = _components(num_nodes, edges)
    roots = np.unique(labels, return_index=True)[1]
    # One more node, tied to all components, makes one search of many.
    rows, columns = np.concatenate([edges[:, 0], roots]), np.concatenate([edges[:, 1], np.full(len(roots), num_nodes)])
    graph = csr_array(coo_array((np.ones(len(rows)), (rows, columns)), shape=(num_nodes + 1, num_nodes + 1)))
    order, parents = breadth_first_order(graph, num_nodes, directed=False)
    return order[1:], parents[:num_nodes]


def _sample_forest(h: Array, edges: Array, J: Array, reads: int, rng: np.random.Generator) -> Array:
    """Exact draws at beta = 1 on a graph without loops: messages from the leaves, then spins from the roots."""
    n = len(h)
    order, parents = _breadth_first(n, edges)
    depths = np.zeros(n + 1, dtype=int)
    for node in order.tolist():
        depths[node] = depths[parents[node]] + 1
    coupling = np.zeros(n)
    child = np.where(depths[edges[:, 0]] > depths[edges[:, 1]], edges[:, 0], edges[:, 1])
    coupling[child] = J
    fields = np.append(h, 0.0)
    levels = [order[depths[order] == depth] for depth in range(1, depths.max() + 1)]
    for level in reversed(levels):
        up, down = fields[level] + coupling[level], fields[level] - coupling[level]
        np.add.at(fields, parents[level], 0.5 * (np.logaddexp(down, -down) - np.logaddexp(up, -up)))
    spins = np.zeros((reads, n + 1), dtype=np.int8)
    for level in levels:
        local = fields[level] + coupling[level] * spins[:, parents[level]]
        spins[:, level] = np.where(rng.random(local.shape) * (1 + np.exp(np.clip(2 * local, -500, 500))) < 1, 1, -1)
    return spins[:, :n]


@functools.cache
def _all_states(num_spins: int) -> Array:
    return (2 * ((np.arange(2**num_spins)[:, None] >> np.arange(num_spins)) & 1) - 1).astype(np.int8)


def _sample_small(h: Array, edges: Array, J: Array, reads: int, rng: np.random.Generator) -> Array:
    """Exact draws at beta = 1 by enumeration."""
    states = _all_states(len(h))
    energies = states @ h + (states[:, edges[:, 0]] * states[:, edges[:, 1]]) @ J
    cumulative = np.cumsum(np.exp(energies.min() - energies))
    return states[np.searchsorted(cumulative, rng.random(reads) * cumulative[-1])]


class _Gibbs:
    """Heat-bath sweeps at beta = 1, colour by colour, and flips of whole clusters; states are (n, chains), rows by colour."""

    def __init__(self, num_spins: int, edges: Array) -> None:
        self.num_spins, self.edges = num_spins, edges
        colours = _colour(num_spins, edges)
        self.order = np.argsort(colours, kind="stable")
        self._ends = np.argsort(self.order)[edges]
        rows, columns = self._ends.T.ravel(), self._ends[:, ::-1].T.ravel()
        entries = np.arange(2 * len(edges))
        matrix = csr_array(coo_array((entries, (rows, columns)), shape=(num_spins, num_spins)))
        self._entries, self._rows, self._columns, self._starts = matrix.data, rows, columns, matrix.indptr
        self._indices = matrix.indices
        self._blocks = list(itertools.pairwise([0, *np.cumsum(np.bincount(colours))]))
        self._strong: bytes | None = None
        self._clusters: list[tuple[Array, Array]] = []

    def update(self, h: Array, J: Array) -> None:
        """Take over the coefficients."""
        self._bias = (2 * h[self.order]).astype(np.float32)[:, None]
        data = np.concatenate([J, J])[self._entries].astype(np.float32) * 2
        self._matrices = []
        for start, stop in self._blocks:
            first, last = self._starts[start], self._starts[stop]
            parts = (data[first:last], self._indices[first:last], self._starts[start : stop + 1] - first)
            self._matrices.append(csr_array(parts, shape=(stop - start, self.num_spins)))
        self._update_clusters(np.abs(J) > _STRONG, data)

    def _update_clusters(self, strong: Array, data: Array) -> None:
        """Groups of clusters with no coupling between them: members, and where each cluster's members start."""
        if strong.tobytes() != self._strong:
            self._strong = strong.tobytes()
            _, self._labels = _components(self.num_spins, self._ends[strong])
            sizes = np.bincount(self._labels)
            between = self._labels[self._ends]
            colours = np.where(sizes > 1, _colour(len(sizes), between[between[:, 0] != between[:, 1]]), -1)
            self._clusters = []
            for colour in range(colours.max() + 1):
                members = np.flatnonzero(colours[self._labels] == colour)
                members = members[np.argsort(self._labels[members], kind="stable")]
                if len(members):
                    self._clusters.append((members, np.unique(self._labels[members], return_index=True)[1]))
        if self._clusters:
            outside = np.where(self._labels[self._rows[self._entries]] != self._labels[self._indices], data, 0)
            matrix = csr_array((outside, self._indices, self._starts), shape=(self.num_spins, self.num_spins))
            self._outside = [matrix[members] for members, _ in self._clusters]

    def sweep(self, state: Array, sweeps: int, rng: np.random.Generator, scale: float = 1.0) -> None:
        """Update all spins ``sweeps`` times in place, at inverse temperature ``scale``."""
        uniform = np.empty_like(state)
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(sweeps):
                rng.random(dtype=np.float32, out=uniform)
                for (start, stop), matrix in zip(self._blocks, self._matrices, strict=True):
                    local = matrix @ state
                    local += self._bias[start:stop]
                    state[start:stop] = self._is_accepted(local * np.float32(scale), uniform[start:stop])
                    state[start:stop] *= 2
                    state[start:stop] -= 1
                for (members, starts), matrix in zip(self._clusters, getattr(self, "_outside", ()), strict=False):
                    local = state[members] * (matrix @ state + self._bias[members])
                    change = -np.add.reduceat(local, starts, axis=0) * np.float32(scale)
                    flips = self._is_accepted(change, rng.random(change.shape, dtype=np.float32))
                    state[members] *= 1 - 2 * np.repeat(flips, np.diff([*starts, len(members)]), axis=0).astype(np.float32)

    @staticmethod
    def _is_accepted(change: Array, uniform: Array) -> Array:
        """True with probability 1 / (1 + exp(change))."""
        np.exp(change, out=change)
        change += 1
        change *= uniform
        return change < 1


class _Chains:
    """Persistent Gibbs chains of one set of qubits, which follow a problem that changes slowly."""

    def __init__(self, num_spins: int, edges: Array, reads: int) -> None:
        self._gibbs, self._reads = _Gibbs(num_spins, edges), reads
        self._last: tuple[Array, Array] | None = None

    def draw(self, h: Array, J: Array, rng: np.random.Generator) -> Array:
        gauge = None if self._last is None else self._follow(h, J, *self._last)
        self._last = h, J
        self._gibbs.update(h, J)
        if gauge is None:
            self._state = rng.integers(0, 2, (len(h), self._reads)).astype(np.float32) * 2 - 1
            for scale in np.linspace(0.1, 1.0, _BURN_IN_SWEEPS // 2):
                self._gibbs.sweep(self._state, 1, rng, scale)
            self._gibbs.sweep(self._state, _BURN_IN_SWEEPS // 2, rng)
        else:
            self._state *= gauge[self._gibbs.order, None]
            self._gibbs.sweep(self._state, _WARM_SWEEPS, rng)
        # Reads come in no order: a row is no chain, or autocorrelation along one would look like independence.
        spins = np.empty((self._reads, len(h)), dtype=np.int8)
        spins[:, self._gibbs.order] = self._state.T[rng.permutation(self._reads)]
        return spins

    def _follow(self, h: Array, J: Array, last_h: Array, last_J: Array) -> Array | None:
        """The spin reversal that takes the last problem close to this one, (n,) of +-1; None if there is none."""
        for find in (lambda *_: np.ones(len(h)), self._spin_reversal):
            gauge, (i, j) = find(h * last_h, J * last_J), self._gibbs.edges.T
            change = np.sum((h - gauge * last_h) ** 2) + 2 * np.sum((J - gauge[i] * gauge[j] * last_J) ** 2)
            if change <= _WARM_CHANGE**2 * len(h):
                return gauge.astype(np.float32)
        return None

    def _spin_reversal(self, h: Array, J: Array) -> Array:
        """The one that turns most of the products of fields and couplings before and after positive, (n,) of +-1."""
        n, edges = len(h), self._gibbs.edges
        weights = -(np.abs(J) + 1e-12)
        tree = coo_array(minimum_spanning_tree(coo_array((weights, edges.T), shape=(n, n))))
        order, parents = _breadth_first(n, np.stack([tree.row, tree.col], axis=1))
        flipped = {tuple(edge): negative for edge, negative in zip(edges.tolist(), (J < 0).tolist(), strict=True)}
        gauge = np.ones(n + 1)
        for node, parent in zip(order.tolist(), parents[order].tolist(), strict=True):
            negative = flipped.get((node, parent), flipped.get((parent, node), False))
            gauge[node] = gauge[parent] * (-1 if negative else 1)
        count, labels = _components(n, edges)
        agreement = np.bincount(labels, weights=gauge[:n] * h, minlength=count)
        return np.asarray(gauge[:n] * np.where(agreement < 0, -1, 1)[labels])


class BoltzmannSampler:
    """Draws spins from exp(-E) on any graph; see the head of this module for what is exact."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.Generator(np.random.SFC64(seed))
        self._chains: collections.OrderedDict[tuple[bytes, int], _Chains] = collections.OrderedDict()

    def sample(self, h: Array, edges: Array, J: Array, reads: int, name: bytes = b"") -> Array:
        """Spins (reads, n), int8, of E = h.s + sum J ss on ``edges`` (m, 2); ``name`` tells sets of spins apart."""
        spins = np.empty((reads, len(h)), dtype=np.int8)
        edges, J = edges[J != 0], J[J != 0]
        count, labels = _components(len(h), edges)
        sizes, links = np.bincount(labels, minlength=count), np.bincount(labels[edges[:, 0]], minlength=count)
        is_tree = links < sizes
        is_large = ~is_tree & (sizes > _EXACT_SPINS)
        for part in (is_tree, *(np.arange(count) == k for k in np.flatnonzero(~is_tree & ~is_large)), is_large):
            inside = np.flatnonzero(part[labels])
            if not len(inside):
                continue
            bonds = part[labels[edges[:, 0]]]
            place = np.cumsum(part[labels]) - 1
            arguments = (h[inside], place[edges[bonds]], J[bonds])
            if part is is_tree:
                spins[:, inside] = _sample_forest(*arguments, reads, self.rng)
            elif part is is_large:
                spins[:, inside] = self._sample_large(*arguments, reads, name + inside.tobytes())
            else:
                spins[:, inside] = _sample_small(*arguments, reads, self.rng)
        return spins

    def _sample_large(self, h: Array, edges: Array, J: Array, reads: int, name: bytes) -> Array:
        key = (name + edges.tobytes(), reads)
        chains = self._chains.pop(key, None) or _Chains(len(h), edges, reads)
        self._chains[key] = chains
        if len(self._chains) > _CACHED_CHAINS:
            self._chains.popitem(last=False)
        return chains.draw(h, J, self.rng)

    def anneal_back(
        self, h: Array, edges: Array, J: Array, reads: int, initial: Array, sweeps: int, reinitialize: bool
    ) -> Array:
        """Spins (reads, n) after ``sweeps`` heat-bath sweeps from ``initial`` (n,), or from the read before."""
        gibbs = _Gibbs(len(h), edges)
        gibbs.update(h, J)
        start = initial[gibbs.order].astype(np.float32)
        if reinitialize:
            states = np.repeat(start[:, None], reads, axis=1)
            gibbs.sweep(states, sweeps, self.rng)
        else:
            states, state = np.empty((len(h), reads), dtype=np.float32), start[:, None].copy()
            for read in range(reads):
                gibbs.sweep(state, sweeps, self.rng)
                states[:, read] = state[:, 0]
        spins = np.empty((reads, len(h)), dtype=np.int8)
        spins[:, gibbs.order] = states.T
        return spins


# --------------------------------------------------------------------------------------------------------- The solver

_PARAMETERS = (
    "anneal_schedule",
    "annealing_time",
    "answer_mode",
    "auto_scale",
    "fast_anneal",
    "flux_biases",
    "flux_drift_compensation",
    "initial_state",
    "label",
    "max_answers",
    "num_reads",
    "programming_thermalization",
    "readout_thermalization",
    "reduce_intersample_correlation",
    "reinitialize_state",
)
_SIZES = {"zephyr": 2, "pegasus": 2, "chimera": 2}


def solver_definition(topology: str, size: int, missing_qubits: int, missing_couplers: int, seed: int) -> dict[str, Any]:
    """A solver as the API describes it: the client's own mock, with qubits and couplers missing and a QPU's properties.

    Advantage2 (Zephyr) limits the coupling of a group of couplers, earlier systems that of a qubit.
    """
    from dwave.cloud.testing import mocks

    definition: dict[str, Any] = getattr(mocks, f"qpu_{topology}_solver_data")(size)
    rng, properties = random.Random(seed), definition["properties"]
    qubits = sorted(set(properties["qubits"]) - set(rng.sample(properties["qubits"], missing_qubits)))
    working = set(qubits)
    couplers = [list(coupler) for coupler in properties["couplers"] if working.issuperset(coupler)]
    for lost in rng.sample(couplers, missing_couplers):
        couplers.remove(lost)
    limit = "per_group_coupling_range" if topology == "zephyr" else "per_qubit_coupling_range"
    timing = mocks.qpu_problem_timing_data()
    properties.update(
        {
            "qubits": qubits,
            "couplers": couplers,
            "chip_id": f"local_{topology}_{size}",
            "tags": ["local"],
            "h_range": [-4.0, 4.0],
            "j_range": [-1.0, 1.0],
            "extended_j_range": [-2.0, 1.0],
            limit: [-13.0, 10.0] if topology == "zephyr" else [-18.0, 15.0],
            "num_reads_range": [1, 10000],
            "annealing_time_range": [0.5, 2000.0],
            "fast_anneal_time_range": [0.005, 2000.0],
            "default_annealing_time": timing["default_annealing_time"],
            "default_programming_thermalization": timing["default_programming_thermalization"],
            "default_readout_thermalization": timing["default_readout_thermalization"],
            "programming_thermalization_range": [0.0, 10000.0],
            "readout_thermalization_range": [0.0, 10000.0],
            "max_anneal_schedule_points": 12,
            "problem_run_duration_range": [0.0, 1000000.0],
            "problem_timing_data": timing,
            "parameters": dict.fromkeys(_PARAMETERS, "See the solver's documentation."),
        }
    )
    definition["identity"] = {
        "name": f"local_{topology}_{size}",
        "version": {"graph_id": f"{zlib.crc32(repr((qubits, couplers)).encode()):08x}"},
    }
    definition["description"] = f"A local {topology} solver with {len(qubits)} qubits"
    return definition


class _Rejected(Exception):
    """The message of a problem that fails."""


@dataclass
class _Problem:
    """A problem in spins: coefficients of the active qubits, and the way back to the variables as submitted."""

    kind: str
    lin: Array
    quad: Array
    parameters: dict[str, Any]
    active: Array  # positions among the working qubits
    couplers: Array  # positions among the working couplers
    ends: Array  # (m, 2) positions among the active qubits

    @property
    def ising(self) -> tuple[Array, Array]:
        """The fields h (n,) and couplings J (m,)."""
        lin = self.lin[self.active]
        if self.kind == "ising":
            return lin, self.quad
        quarter = np.bincount(self.ends.ravel(), weights=np.repeat(self.quad / 4, 2), minlength=len(lin))
        return lin / 2 + quarter, self.quad / 4

    def energies(self, spins: Array) -> Array:
        """Energies (reads,) of the problem as submitted, without its offset."""
        values = (spins if self.kind == "ising" else (1 + spins) / 2).T.astype(float)
        size = len(self.active)
        fields = csr_array(coo_array((self.quad, self.ends.T), shape=(size, size))) @ values
        fields += self.lin[self.active, None]
        return np.einsum("ij,ij->j", fields, values)


class _Processor:
    """What stands behind the API: checks problems, scales, anneals, and counts the time."""

    def __init__(self, definition: dict[str, Any], seed: int) -> None:
        self.properties = definition["properties"]
        self.qubits = np.array(self.properties["qubits"])
        self.couplers = np.array(self.properties["couplers"])
        self._ends = np.searchsorted(self.qubits, self.couplers)
        self.sampler = BoltzmannSampler(seed)
        self._groups = self._find_groups()

    def _find_groups(self) -> tuple[Array, Array]:
        """Couplers whose sum is limited, as pairs (group, coupler): those of a qubit, or of one side of one on Zephyr."""
        if "per_qubit_coupling_range" in self.properties:
            return self._ends.ravel(), np.repeat(np.arange(len(self._ends)), 2)
        from dwave.system.coupling_groups import coupling_groups
        from dwave.system.samplers.dwave_sampler import qpu_graph

        topology = self.properties["topology"]
        couplers = [tuple(coupler) for coupler in self.couplers.tolist()]
        position = {coupler: index for index, coupler in enumerate(couplers)}
        graph = qpu_graph(topology["type"], topology["shape"], self.qubits.tolist(), couplers)
        groups = [[position[min(e), max(e)] for e in group] for group in coupling_groups(graph)]
        return np.repeat(np.arange(len(groups)), [len(g) for g in groups]), np.fromiter(itertools.chain(*groups), dtype=int)

    def decode(self, item: Mapping[str, Any]) -> _Problem:
        """The problem of a submission."""
        data = item["data"]
        lin, quad = (np.frombuffer(base64.b64decode(data[key]), dtype="<f8") for key in ("lin", "quad"))
        is_active = ~np.isnan(lin)
        couplers = np.flatnonzero(is_active[self._ends].all(axis=1))
        place = np.cumsum(is_active) - 1
        parameters = dict(item.get("params") or {})
        return _Problem(item["type"], lin, quad, parameters, np.flatnonzero(is_active), couplers, place[self._ends[couplers]])

    def check(self, problem: _Problem) -> None:
        """Raise what a real solver refuses."""
        properties, parameters = self.properties, problem.parameters
        if unknown := sorted(set(parameters) - set(properties["parameters"])):
            raise _Rejected(f"Unknown parameter {unknown[0]}")
        if not len(problem.active) or len(problem.quad) != len(problem.couplers):
            raise _Rejected("Invalid problem data")
        fast = bool(parameters.get("fast_anneal"))
        schedule = parameters.get("anneal_schedule")
        ranges = {
            "num_reads": "num_reads_range",
            "annealing_time": "fast_anneal_time_range" if fast else "annealing_time_range",
            "programming_thermalization": "programming_thermalization_range",
            "readout_thermalization": "readout_thermalization_range",
        }
        for name, range_name in ranges.items():
            low, high = properties[range_name]
            if name in parameters and not low <= parameters[name] <= high:
                raise _Rejected(f"{name} must be in the range [{low}, {high}]; {parameters[name]} is not")
        if parameters.get("answer_mode", "raw") not in ("raw", "histogram"):
            raise _Rejected("answer_mode must be raw or histogram")
        if schedule is not None:
            self._check_schedule(schedule, parameters, fast)
        elif "initial_state" in parameters:
            raise _Rejected("initial_state needs a reverse anneal_schedule")
        if "flux_biases" in parameters and len(parameters["flux_biases"]) != properties["num_qubits"]:
            raise _Rejected("flux_biases must have one value for each of num_qubits qubits")
        self._check_coefficients(problem, fast)
        duration, limit = self.timing(problem)["qpu_access_time"], properties["problem_run_duration_range"][1]
        if duration > limit:
            raise _Rejected(f"The problem would run for {duration:.0f} us, longer than problem_run_duration_range allows")

    def _check_schedule(self, schedule: Sequence[Sequence[float]], parameters: Mapping[str, Any], fast: bool) -> None:
        times, points = zip(*schedule, strict=True)
        low, high = self.properties["fast_anneal_time_range" if fast else "annealing_time_range"]
        if "annealing_time" in parameters:
            raise _Rejected("annealing_time and anneal_schedule exclude each other")
        if not 2 <= len(schedule) <= (2 if fast else self.properties["max_anneal_schedule_points"]):
            raise _Rejected("anneal_schedule has too few or too many points")
        if times[0] != 0 or min(np.diff(times)) <= 0 or not low <= times[-1] <= high:
            raise _Rejected("anneal_schedule must start at 0, increase in time and keep to the range of annealing times")
        if points[0] not in (0, 1) or points[-1] != 1 or (points[0] == 0 and min(np.diff(points)) < 0):
            raise _Rejected("anneal_schedule must rise from s = 0 to 1, or start and end at s = 1")
        if max(abs(np.diff(points) / np.diff(times))) > 1 / low + 1e-9:
            raise _Rejected(f"anneal_schedule is steeper than {1 / low} per microsecond")
        if (points[0] == 1) != ("initial_state" in parameters):
            raise _Rejected("a reverse anneal_schedule needs an initial_state, and a forward one takes none")

    def _check_coefficients(self, problem: _Problem, fast: bool) -> None:
        h, J = problem.ising
        if not (np.isfinite(h).all() and np.isfinite(J).all()):
            raise _Rejected("h and J must be finite")
        if fast and (h != 0).any():
            raise _Rejected("h must be zero with fast_anneal")
        if problem.parameters.get("auto_scale", True):
            if "flux_biases" in problem.parameters:
                raise _Rejected("flux_biases cannot be used with auto_scale")
            return
        for name, range_name, values in self._limited(problem):
            low, high = self.properties[range_name]
            if len(values) and (values.min() < low or values.max() > high):
                worst = values[np.argmax(np.maximum(low - values, values - high))]
                raise _Rejected(f"{name} value {worst:g} is outside {range_name} [{low}, {high}]")

    def _limited(self, problem: _Problem) -> Iterator[tuple[str, str, Array]]:
        """What is limited, by which property, and the problem's values."""
        h, J = problem.ising
        yield "h", "h_range", h
        yield "J", "extended_j_range", J
        all_J = np.zeros(len(self.couplers))
        all_J[problem.couplers] = J
        groups, members = self._groups
        limit = next(name for name in ("per_group_coupling_range", "per_qubit_coupling_range") if name in self.properties)
        yield "total J", limit, np.bincount(groups, weights=all_J[members])

    def timing(self, problem: _Problem) -> dict[str, float]:
        """The timing block, in microseconds, by the published model (version 1.0) of access times."""
        model, parameters = self.properties["problem_timing_data"], problem.parameters
        schedule = parameters.get("anneal_schedule")
        anneal = parameters.get("annealing_time") or (schedule[-1][0] if schedule else model["default_annealing_time"])
        programming, delay = model["typical_programming_time"], model["qpu_delay_time_per_sample"]
        if schedule and schedule[0][1] == 1:
            reinit = "with" if parameters.get("reinitialize_state", True) else "without"
            programming += model[f"reverse_annealing_{reinit}_reinit_prog_time_delta"]
            delay += model[f"reverse_annealing_{reinit}_reinit_delay_time_delta"]
        programming += parameters.get("programming_thermalization") or model["default_programming_thermalization"]
        points = np.array(model["readout_time_model_parameters"]).reshape(2, -1)
        readout = 10 ** float(np.interp(math.log10(max(len(problem.active), 1)), *points))
        pause = parameters.get("readout_thermalization") or model["default_readout_thermalization"]
        if parameters.get("reduce_intersample_correlation"):
            low, high = model["decorrelation_time_range"]
            pause = max(pause, low + (high - low) * anneal / model["decorrelation_max_nominal_anneal_time"])
        sampling = parameters.get("num_reads", 1) * (anneal + readout + delay + pause)
        return {
            "qpu_sampling_time": sampling,
            "qpu_anneal_time_per_sample": anneal,
            "qpu_readout_time_per_sample": readout,
            "qpu_delay_time_per_sample": delay + pause,
            "qpu_programming_time": programming,
            "qpu_access_time": sampling + programming,
            "qpu_access_overhead_time": 1000.0,
            "total_post_processing_time": 1.0,
            "post_processing_overhead_time": 1.0,
        }

    def anneal(self, problem: _Problem, beta: float, noise: float) -> Array:
        """Spins (reads, n) of the active qubits."""
        h, J = problem.ising
        parameters = problem.parameters
        if parameters.get("auto_scale", True):
            ratios = [self._ratio(values, self.properties[name]) for _, name, values in self._limited(problem)]
            factor = max(ratios) or 1.0
            h, J = h / factor, J / factor
        elif "flux_biases" in parameters:
            from dwave.system.temperatures import fluxbias_to_h

            h = h + fluxbias_to_h(np.array(parameters["flux_biases"], dtype=float)[self.qubits[problem.active]])
        if noise:
            h = h + noise * self.sampler.rng.standard_normal(len(h))
            J = J + noise * self.sampler.rng.standard_normal(len(J))
        reads = parameters.get("num_reads", 1)
        arguments = (beta * h, problem.ends, beta * J, reads)
        if "initial_state" not in parameters:
            return self.sampler.sample(*arguments, name=problem.active.tobytes())
        initial = np.array(parameters["initial_state"])[self.qubits[problem.active]]
        sweeps = int(_time_below(parameters["anneal_schedule"], _REVERSE_POINT))
        return self.sampler.anneal_back(
            *arguments, np.where(initial <= 0, -1, 1), sweeps, bool(parameters.get("reinitialize_state", True))
        )

    @staticmethod
    def _ratio(values: Array, limits: Sequence[float]) -> float:
        if not len(values):
            return 0.0
        return max(values.max() / limits[1], values.min() / limits[0], 0.0)

    def answer(self, problem: _Problem, spins: Array) -> dict[str, Any]:
        """The answer as the API encodes it; a raw answer has no numbers of occurrences."""
        mode = problem.parameters.get("answer_mode", "raw" if "initial_state" in problem.parameters else "histogram")
        counts = None
        if mode == "histogram":
            spins, counts = np.unique(spins, axis=0, return_counts=True)
        energies = problem.energies(spins)
        if counts is not None:
            order = np.argsort(energies, kind="stable")
            spins, energies, counts = spins[order], energies[order], counts[order]
        kept = slice(problem.parameters.get("max_answers"))
        answer = {
            "format": "qp",
            "num_variables": self.properties["num_qubits"],
            "active_variables": _encode(self.qubits[problem.active], "<i4"),
            "energies": _encode(energies[kept], "<f8"),
            "solutions": _encode(np.packbits(spins[kept] > 0, axis=1), "u1"),
            "timing": self.timing(problem),
        }
        return answer if counts is None else answer | {"num_occurrences": _encode(counts[kept], "<i4")}


def _encode(values: Array, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode("ascii")


def _time_below(schedule: Sequence[Sequence[float]], level: float) -> float:
    """How long a piecewise linear schedule of (time, s) stays below s = ``level``."""
    total = 0.0
    for (start, a), (stop, b) in itertools.pairwise(schedule):
        low, high = min(a, b), max(a, b)
        share = float(low < level) if high == low else min(max((level - low) / (high - low), 0.0), 1.0)
        total += share * (stop - start)
    return total


# --------------------------------------------------------------------------------------------------------- The faults

_EVERYWHERE = ("submit", "poll", "answer", "solvers")
_JOBS = ("submit", "poll", "answer")
FAULTS: dict[str, tuple[str, ...]] = {
    "refuse": _EVERYWHERE,
    "timeout": _EVERYWHERE,
    "401": _EVERYWHERE,
    "403": _EVERYWHERE,
    "404": _EVERYWHERE,
    "429": _EVERYWHERE,
    "500": _EVERYWHERE,
    "503": _EVERYWHERE,
    "retired": ("submit", "solvers"),
    "offline": ("submit",),
    "problem-failed": ("submit",),
    "cancelled": ("submit",),
    "quota": ("submit",),
    "truncated": ("answer", "poll", "submit", "solvers"),
    "wrong-content-type": ("answer", "poll", "submit", "solvers"),
    "malformed": ("answer", "poll", "submit", "solvers"),
    "malformed-base64": ("answer",),
    "malformed-bits": ("answer",),
    "malformed-reads": ("answer",),
    "malformed-object": ("submit", "poll"),
    "malformed-empty": ("submit", "poll"),
}
"""Kinds of faults, and where each can happen; the first place is that of ``fail_next``."""

_STATUS_MESSAGES = {
    401: "Unauthorized",
    403: "Access forbidden",
    404: "Resource not found",
    429: "Too many requests",
    500: "Internal server error",
    503: "Service unavailable",
}
_FINAL_MESSAGES = {
    "offline": "Solver is offline",
    "problem-failed": "An error occurred while the problem was run",
    "cancelled": "",
}
_QUOTA_MESSAGE = "Problem not accepted because user has insufficient remaining solver access time in project LOCAL"


@dataclass
class _Fault:
    kind: str
    stage: str
    times: float


class _Drop(Exception):
    """End this connection without an answer, after ``wait`` for the end of the server if asked."""

    def __init__(self, hang: bool) -> None:
        self.hang = hang


class _HTTPError(Exception):
    def __init__(self, code: int, message: str | None = None) -> None:
        self.code, self.message = code, message or _STATUS_MESSAGES[code]


# ----------------------------------------------------------------------------------------------------------- The server


@dataclass
class _Job:
    item: dict[str, Any]
    problem: _Problem
    ready: float  # by the monotonic clock
    submitted_on: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    outcome: str | None = None
    message: str = ""
    answer: dict[str, Any] | None = None

    @property
    def status(self) -> str:
        waiting = self.outcome is None or (self.outcome != "CANCELLED" and time.monotonic() < self.ready)
        return "PENDING" if waiting else str(self.outcome)

    def describe(self, with_answer: bool = False) -> dict[str, Any]:
        description: dict[str, Any] = {key: self.item[key] for key in ("type", "solver", "label") if key in self.item}
        description |= {"id": self.id, "status": self.status, "submitted_on": self.submitted_on}
        if self.status == "FAILED":
            description["error_message"] = self.message
        if self.status == "COMPLETED":
            description["solved_on"] = _now()
            if with_answer:
                description["answer"] = dict(self.answer or {})
        return description


def _now() -> str:
    return datetime.now(UTC).isoformat()


class SolverServer:
    """The solver API at ``endpoint``, as a context manager.

    Args:
        topology: "zephyr", "pegasus" or "chimera", of ``size`` (its first parameter; 2 if None).
        missing_qubits: how many qubits do not work, chosen by ``seed``.
        missing_couplers: how many couplers between working qubits do not.
        beta: inverse temperature of the answers, in units of the submitted coefficients; or a function of a
            submission's parameters that returns it, to make it depend on the annealing time. May be set at any time.
        noise: standard deviation of a gaussian error on each h and J of each submission. May be set at any time.
        latency: seconds between submission and completion, in which the sampling happens. May be set at any time.
        seed: of working graph, samples and noise.
        token: what requests must carry; one is made up if None.
        port: 0 for any that is free.

    Attributes:
        submissions: what was submitted, oldest first: ``lin`` (num_qubits that work; NaN: not active) and ``quad`` (as
            many as couplers with both ends active) with the ids ``qubits`` and ``couplers`` they belong to, ``active``
            ids, ``type``, ``parameters``, ``label`` and ``time`` (of the monotonic clock).
        requests: number of requests by stage ("solvers", "submit", "poll", "answer", "cancel").
        faults: (kind, stage) of the faults that happened.
        online: False takes the solver offline: it says so, and jobs fail.
        tokens: tokens that requests carried.
    """

    def __init__(
        self,
        topology: str = "zephyr",
        size: int | None = None,
        missing_qubits: int = 2,
        missing_couplers: int = 3,
        beta: float | Callable[[dict[str, Any]], float] = 1.0,
        noise: float = 0.0,
        latency: float = 0.0,
        seed: int = 0,
        token: str | None = None,
        port: int = 0,
    ) -> None:
        self.beta, self.noise, self.latency = beta, noise, latency
        self.token = token or f"LOCAL-{random.Random(seed).getrandbits(64):016x}"
        self.definition = solver_definition(topology, size or _SIZES[topology], missing_qubits, missing_couplers, seed)
        self.solver_name: str = self.definition["identity"]["name"]
        self.online = True
        self.submissions: list[dict[str, Any]] = []
        self.requests: collections.Counter[str] = collections.Counter()
        self.faults: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self._processor = _Processor(self.definition, seed)
        self._jobs: dict[str, _Job] = {}
        self._changed = threading.Condition()
        self._planned: list[_Fault] = []
        self._chaos: tuple[float, random.Random, tuple[str, ...]] | None = None
        self._port = port
        self._http: _HTTPServer | None = None

    # -- life

    def __enter__(self) -> SolverServer:
        self._worker = ThreadPoolExecutor(1)
        self._listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._hang_up()
        self._worker.shutdown(cancel_futures=True)

    def _listen(self) -> None:
        self._http = _HTTPServer(("127.0.0.1", self._port), self)
        self._port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def _hang_up(self) -> None:
        if self._http is not None:
            self._http.close()
            self._thread.join()
            self._http = None

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Nobody listens meanwhile: connections are refused; jobs go on and are there afterwards."""
        self._hang_up()
        try:
            yield
        finally:
            self._listen()

    @property
    def endpoint(self) -> str:
        """The address, as ``DWAVE_API_ENDPOINT`` takes it."""
        return f"http://127.0.0.1:{self._port}/sapi/v2/"

    def environment(self) -> dict[str, str]:
        """Variables that lead a client here, past the user's own configuration, cache and proxy."""
        return {
            "DWAVE_API_ENDPOINT": self.endpoint,
            "DWAVE_API_TOKEN": self.token,
            "DWAVE_API_SOLVER": self.solver_name,
            "DWAVE_API_REGION": "",
            "DWAVE_API_CLIENT": "",
            "DWAVE_API_PROXY": "",
            "DWAVE_API_HEADERS": "",
            "DWAVE_METADATA_API_ENDPOINT": self.endpoint,
            "DWAVE_LEAP_API_ENDPOINT": self.endpoint,
            "DWAVE_CONFIG_FILE": os.devnull,
            "DWAVE_PROFILE": "",
            "DWAVE_CACHE_ENABLED": "false",
            "DWAVE_CACHE_HOME": "off",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    # -- faults

    def fail_next(self, kind: str, times: int | None = 1, stage: str | None = None) -> None:
        """Let the next ``times`` requests (None: all, until :meth:`recover`) at ``stage`` fail; see :data:`FAULTS`.

        An HTTP client's retry is a request of its own.
        """
        stages = FAULTS[kind]
        if stage is not None and stage not in stages:
            raise ValueError(f"{kind} can happen at {', '.join(stages)}, not at {stage}")
        # A solver that is gone is gone everywhere.
        for place in stages if kind == "retired" and stage is None else (stage or stages[0],):
            self._planned.append(_Fault(kind, place, math.inf if times is None else times))

    def chaos(self, rate: float, seed: int = 0, kinds: Sequence[str] = tuple(FAULTS)) -> None:
        """From now on let each request fail with probability ``rate``, by one of ``kinds`` that can happen there.

        All kinds include some that only the caller's own deadline ends.
        """
        self._chaos = (rate, random.Random(seed), tuple(kinds))

    def recover(self) -> None:
        """End all faults that are to come, and chaos, and bring the solver online."""
        self._planned.clear()
        self._chaos = None
        self.online = True

    def _take_fault(self, stage: str) -> str | None:
        with self._changed:
            self.requests[stage] += 1
            fault = next((fault for fault in self._planned if fault.stage == stage), None)
            if fault is not None:
                fault.times -= 1
                if not fault.times:
                    self._planned.remove(fault)
                kind: str | None = fault.kind
            else:
                kind = self._random_fault(stage)
            if kind is not None:
                self.faults.append((kind, stage))
            return kind

    def _random_fault(self, stage: str) -> str | None:
        if self._chaos is None:
            return None
        rate, rng, kinds = self._chaos
        possible = [kind for kind in kinds if stage in FAULTS[kind]]
        return rng.choice(possible) if possible and rng.random() < rate else None

    # -- requests

    def handle(self, method: str, path: str, token: str | None, body: bytes) -> tuple[str, bytes, str | None]:
        """Media type, body and fault of the answer to a request."""
        parts = urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        route = parts.path.removeprefix("/sapi/v2/").strip("/").split("/")
        stage = self._stage(method, route, query)
        fault = self._take_fault(stage) if stage != "cancel" else None
        if fault in ("refuse", "timeout"):
            raise _Drop(hang=fault == "timeout")
        if fault is not None and fault.isdigit():
            raise _HTTPError(int(fault))
        with self._changed:
            self.tokens.add(token)
        if token != self.token:
            raise _HTTPError(401)
        if fault == "retired" and stage == "submit":
            raise _HTTPError(404, "Solver does not exist or apitoken does not have access")
        if stage == "solvers":
            media, reply = self._solvers(route, query, fault == "retired")
        elif stage == "submit":
            media, reply = "problems", self._submit(json.loads(body), fault)
        elif stage == "poll":
            media, reply = "problems", self._poll(query["id"].split(","), float(query.get("timeout", 0)))
        elif stage == "cancel":
            media, reply = "problems", self._cancel(json.loads(body))
        else:
            media, reply = "problem", self._job(route[1]).describe(with_answer=True)
        if fault is not None and fault.startswith("malformed"):
            reply = _malform(reply, fault)
        return f"application/vnd.dwave.sapi.{media}+json; version=3.0.0", json.dumps(reply).encode(), fault

    @staticmethod
    def _stage(method: str, route: list[str], query: Mapping[str, str]) -> str:
        match method, route:
            case "GET", ["solvers", "remote", *_]:
                return "solvers"
            case "POST", ["problems"]:
                return "submit"
            case "GET", ["problems"] if "id" in query:
                return "poll"
            case "GET", ["problems", _]:
                return "answer"
            case "DELETE", ["problems"]:
                return "cancel"
        raise _HTTPError(404)

    def _solvers(self, route: list[str], query: Mapping[str, str], retired: bool) -> tuple[str, Any]:
        definition = self.definition | {"status": "ONLINE" if self.online else "OFFLINE", "avg_load": 0.1}
        wanted = query.get("filter", "all").replace(" ", "+").split(",")
        if wanted[0] == "none":
            definition = {name: definition[name] for name in (field[1:] for field in wanted[1:])}
        else:
            definition = {name: value for name, value in definition.items() if f"-{name}" not in wanted}
        if len(route) == 2:
            return "solver-definition-list", [] if retired else [definition]
        if retired or route[2] != self.solver_name:
            raise _HTTPError(404, "Solver does not exist or apitoken does not have access")
        return "solver-definition", definition

    def _submit(self, items: list[dict[str, Any]], fault: str | None) -> list[dict[str, Any]]:
        if fault == "quota":
            return [{"error_code": 403, "error_msg": _QUOTA_MESSAGE} for _ in items]
        return [self._submit_one(item, fault) for item in items]

    def _submit_one(self, item: dict[str, Any], fault: str | None) -> dict[str, Any]:
        now = time.monotonic()
        if item["solver"] != self.definition["identity"]:
            return {"error_code": 404, "error_msg": "Solver does not exist or apitoken does not have access"}
        problem = self._processor.decode(item)
        processor = self._processor
        job = _Job(item, problem, now + self.latency, _now())
        with self._changed:
            self._jobs[job.id] = job
            self.submissions.append(
                {
                    "lin": problem.lin,
                    "quad": problem.quad,
                    "qubits": processor.qubits,
                    "couplers": processor.couplers[problem.couplers],
                    "active": processor.qubits[problem.active],
                    "type": problem.kind,
                    "parameters": problem.parameters,
                    "label": item.get("label"),
                    "time": now,
                }
            )
        if not self.online:
            fault = "offline"
        reply = job.describe()  # the first status of a job is that it is pending, however quick it will be
        self._worker.submit(self._run, job, fault if fault in _FINAL_MESSAGES else None)
        return reply

    def _run(self, job: _Job, fault: str | None) -> None:
        outcome, message, answer = "COMPLETED", "", None
        if fault is not None:
            outcome, message = "CANCELLED" if fault == "cancelled" else "FAILED", _FINAL_MESSAGES[fault]
        else:
            try:
                self._processor.check(job.problem)
                beta = self.beta(job.problem.parameters) if callable(self.beta) else self.beta
                answer = self._processor.answer(job.problem, self._processor.anneal(job.problem, beta, self.noise))
            except Exception as error:
                outcome, message = "FAILED", str(error) if isinstance(error, _Rejected) else f"Internal error: {error!r}"
        with self._changed:
            if job.outcome is None:
                job.outcome, job.message, job.answer = outcome, message, answer
            self._changed.notify_all()

    def _job(self, job_id: str) -> _Job:
        try:
            return self._jobs[job_id]
        except KeyError:
            raise _HTTPError(404, "Problem does not exist or apitoken does not have access") from None

    def _poll(self, ids: list[str], timeout: float) -> list[dict[str, Any]]:
        """Statuses, as soon as one of the jobs is over or ``timeout`` seconds have passed."""
        jobs, deadline = [self._job(job_id) for job_id in ids], time.monotonic() + timeout
        with self._changed:
            while all(job.status == "PENDING" for job in jobs):
                now = time.monotonic()
                if now >= deadline or self._http is None:
                    break
                self._changed.wait(min([deadline, *(job.ready for job in jobs if job.outcome)]) - now)
        return [job.describe() for job in jobs]

    def _cancel(self, ids: list[str]) -> list[dict[str, Any]]:
        with self._changed:
            for job in map(self._job, ids):
                if job.status == "PENDING":
                    job.outcome = "CANCELLED"
            self._changed.notify_all()
        return [self._job(job_id).describe() for job_id in ids]


def _malform(reply: Any, fault: str) -> Any:
    """Valid JSON, but not what was promised."""
    if fault == "malformed-empty":
        return []
    if fault == "malformed-object":
        return {"error_code": 500, "error_msg": "Internal server error"}
    if isinstance(reply, list):
        return [{"unexpected": True} for _ in reply]
    if "answer" not in reply:
        return {"unexpected": True}
    answer = dict(reply["answer"])
    rows = len(base64.b64decode(answer["energies"])) // 8
    solutions = base64.b64decode(answer["solutions"])
    if fault == "malformed":
        del answer["energies"]
    elif fault == "malformed-base64":
        answer["solutions"] = "not base64"
    elif fault == "malformed-bits":
        answer["solutions"] = _encode(np.frombuffer(solutions[: len(solutions) // 2 - 1], dtype="u1"), "u1")
    elif fault == "malformed-reads":
        kept = rows // 2
        answer["energies"] = _encode(np.frombuffer(base64.b64decode(answer["energies"]), "<f8")[:kept], "<f8")
        answer["solutions"] = _encode(np.frombuffer(solutions, "u1").reshape(rows, -1)[:kept], "u1")
        if "num_occurrences" in answer:
            counts = np.frombuffer(base64.b64decode(answer["num_occurrences"]), "<i4")
            answer["num_occurrences"] = _encode(counts[:kept], "<i4")
    return reply | {"answer": answer}


class _HTTPServer(ThreadingHTTPServer):
    """Threads by connection, all of which end when it is closed."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], owner: SolverServer) -> None:
        self.owner, self.closing = owner, threading.Event()
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        # A plain close: what was promised to be reset must not be shut down in order first.
        self._connections.discard(request)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that has gone is no error here
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop listening, cut all connections and wait for their threads."""
        self.closing.set()
        self.shutdown()
        self.socket.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with self.owner._changed:
            self.owner._changed.notify_all()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _HTTPServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "deflate":
            body = zlib.decompress(body)
        fault = None
        try:
            code = 200
            media, reply, fault = self.server.owner.handle(self.command, self.path, self.headers.get("X-Auth-Token"), body)
        except _HTTPError as error:
            code, media = error.code, "application/json"
            reply = json.dumps({"error_code": error.code, "error_msg": error.message}).encode()
        except _Drop as drop:
            if drop.hang:
                self.server.closing.wait()
            # Closing with zero linger sends a reset instead of an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        self.send_response(code)
        self.send_header("Content-Type", "text/html" if fault == "wrong-content-type" else media)
        self.send_header("Content-Length", str(len(reply)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if fault == "truncated":
            reply = reply[: len(reply) // 2]
            self.close_connection = True
        self.wfile.write(reply)

    do_POST = do_DELETE = do_GET


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until standard input ends or the process is told to stop; the first line printed is the endpoint."""
    parser = argparse.ArgumentParser(description="A local server that speaks D-Wave's solver API.")
    parser.add_argument("--topology", choices=sorted(_SIZES), default="zephyr")
    for name in ("size", "missing-qubits", "missing-couplers", "seed", "port"):
        parser.add_argument(f"--{name}", type=int, default=argparse.SUPPRESS)
    for name in ("beta", "noise", "latency"):
        parser.add_argument(f"--{name}", type=float, default=argparse.SUPPRESS)
    parser.add_argument("--token", default=argparse.SUPPRESS)
    with SolverServer(**vars(parser.parse_args(arguments))) as server, contextlib.suppress(KeyboardInterrupt):
        print(server.endpoint, f"token {server.token}", f"solver {server.solver_name}", sep="\n", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
