"""The local solver server, through the real client: its distributions, what it refuses, its clock and its faults."""

import binascii
import itertools
import math
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dwave.system", reason="the client of the solver API is an extra: pip install -e '.[dwave]'")

import dimod
import networkx as nx
import requests
import solver_server
from dwave.cloud import exceptions
from dwave.cloud.api.exceptions import (
    InternalServerError,
    ResourceAccessForbiddenError,
    ResourceLimitsExceededError,
    ResourceNotFoundError,
)
from dwave.embedding import chain_breaks
from dwave.system import DWaveSampler, FixedEmbeddingComposite
from dwave.system.temperatures import h_to_fluxbias
from solver_server import FAULTS, SolverServer

SIGMAS = 5.0
READS = 4000  # a problem may run for a second, which is about 7,000 reads
RAW = {"answer_mode": "raw", "auto_scale": False}


@pytest.fixture(scope="module")
def shared():
    with SolverServer(size=1, missing_qubits=0, missing_couplers=0) as server:
        yield server


@pytest.fixture
def server(shared):
    """A server in its first state, but for its random numbers."""
    shared.recover()
    shared.beta, shared.noise, shared.latency = 1.0, 0.0, 0.0
    shared.submissions.clear()
    shared.faults.clear()
    return shared


@pytest.fixture
def connect():
    """Samplers that end with the test, also when a job of theirs never does."""
    samplers = []

    def make(server, **config):
        settings = {"http_retry_total": 2, "request_timeout": 30, "polling_timeout": 60, **config}
        sampler = DWaveSampler(endpoint=server.endpoint, token=server.token, config_file=False, cache_enabled=False, **settings)
        samplers.append(sampler)
        return sampler

    yield make
    for sampler in samplers:
        sampler.client.close(wait=False)


@pytest.fixture
def no_enumeration(monkeypatch):
    """Small problems through the chains, where enumeration can tell what they should give."""
    monkeypatch.setattr(solver_server, "_EXACT_SPINS", 0)


def loopy_problem(sampler, size=8, scale=0.5, seed=0):
    """Random h and J on the first ``size`` qubits of a search through the graph, and all couplers between them."""
    graph, rng = sampler.to_networkx_graph(), np.random.default_rng(seed)
    nodes = [0, *(child for _, child in nx.bfs_edges(graph, 0))][:size]
    edges = [edge for edge in sampler.edgelist if set(edge) <= set(nodes)]
    assert len(edges) >= size
    return {v: scale * rng.standard_normal() for v in nodes}, {e: scale * rng.standard_normal() for e in edges}


def enumerate_problem(h, J):
    """All states, as rows in the order of ``sorted(h)``, and their energies."""
    nodes = sorted(h)
    states = np.array(list(itertools.product((-1, 1), repeat=len(nodes))))
    place = {v: i for i, v in enumerate(nodes)}
    energies = states @ [h[v] for v in nodes]
    for (u, v), coupling in J.items():
        energies = energies + coupling * states[:, place[u]] * states[:, place[v]]
    return states, energies


def assert_boltzmann(sampleset, h, J, beta):
    """Distribution (McDiarmid's bound, fails once in 1e6 times) and mean energy of independent reads."""
    _, energies = enumerate_problem(h, J)
    p = np.exp(-beta * (energies - energies.min()))
    p /= p.sum()
    assert list(sampleset.variables) == sorted(h)
    spins, reads = sampleset.record.sample, len(sampleset)
    index = ((1 + spins.astype(int)) // 2) @ 2 ** np.arange(len(h))[::-1]
    distance = 0.5 * np.abs(np.bincount(index, minlength=len(p)) / reads - p).sum()
    expected = 0.5 * np.sqrt(2 * p * (1 - p) / (math.pi * reads)).sum()
    assert distance < expected + math.sqrt(math.log(1e6) / (2 * reads))
    mean = p @ energies
    spread = math.sqrt(p @ (energies - mean) ** 2 / reads)
    assert abs(sampleset.record.energy.mean() - mean) < SIGMAS * spread


# -- distributions


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_samples_the_distribution_at_beta(server, connect, beta):
    sampler = connect(server)
    h, J = loopy_problem(sampler)
    server.beta = beta
    assert_boltzmann(sampler.sample_ising(h, J, num_reads=READS, **RAW), h, J, beta)


@pytest.mark.parametrize("scale", [0.3, 0.8], ids=["weak", "with clusters"])
def test_chains_sample_the_distribution(server, connect, no_enumeration, scale):
    sampler = connect(server)
    h, J = loopy_problem(sampler, scale=scale)
    assert (max(map(abs, J.values())) > solver_server._STRONG) == (scale == 0.8)
    for _ in range(2):
        sampleset = sampler.sample_ising(h, J, num_reads=READS, **RAW)
    assert_boltzmann(sampleset, h, J, 1.0)


def test_chains_follow_a_problem_that_changes_and_its_spin_reversals(server, connect, no_enumeration, monkeypatch):
    sampler, rng = connect(server), np.random.default_rng(0)
    h, J = loopy_problem(sampler)
    server.beta = 2.0
    h, J = ({key: value / 2 for key, value in part.items()} for part in (h, J))
    sampler.sample_ising(h, J, num_reads=READS, **RAW).resolve()
    monkeypatch.setattr(solver_server, "_WARM_SWEEPS", 1)
    monkeypatch.setattr(solver_server, "_BURN_IN_SWEEPS", 0)  # so that chains that start anew are far off
    for _ in range(4):
        gauge = {v: rng.choice([-1, 1]) for v in h}
        h = {v: gauge[v] * (h[v] + 0.01 * rng.standard_normal()) for v in h}
        J = {(u, v): gauge[u] * gauge[v] * (J[u, v] + 0.01 * rng.standard_normal()) for u, v in J}
        assert_boltzmann(sampler.sample_ising(h, J, num_reads=READS, **RAW), h, J, 2.0)


def test_chains_start_anew_on_another_problem(server, connect, no_enumeration, monkeypatch):
    sampler = connect(server)
    h, J = loopy_problem(sampler)
    monkeypatch.setattr(solver_server, "_WARM_SWEEPS", 0)
    sampler.sample_ising(h, J, num_reads=READS, **RAW).resolve()
    h, J = loopy_problem(sampler, seed=1)
    assert_boltzmann(sampler.sample_ising(h, J, num_reads=READS, **RAW), h, J, 1.0)


def test_an_embedded_problem_has_its_distribution_where_no_chain_is_broken(server, connect):
    minorminer = pytest.importorskip("minorminer")
    sampler, rng = connect(server), np.random.default_rng(0)
    variables = range(10)
    h = {v: 0.3 * rng.standard_normal() for v in variables}
    J = {pair: 0.3 * rng.standard_normal() for pair in itertools.combinations(variables, 2)}
    embedding = minorminer.find_embedding(list(J), sampler.edgelist, random_seed=0)
    assert sum(map(len, embedding.values())) > 14
    server.beta = 2.0
    embedded = FixedEmbeddingComposite(sampler, embedding)
    for _ in range(3):  # weak chains, to see broken ones; flips of whole chains mix them all the same
        sampleset = embedded.sample_ising(
            h, J, num_reads=READS, chain_strength=0.8, chain_break_method=chain_breaks.discard, **RAW
        )
    assert 0.3 * READS < len(sampleset) < READS
    assert_boltzmann(sampleset, h, J, 2.0)


def transfer_matrix_energies(fields, couplings, is_closed):
    """Mean and standard deviation of the energy at beta = 1, by derivatives of log Z, of a chain or a ring of spins."""
    spins = np.array([-1, 1])

    def log_z(beta):
        total, logs = np.eye(2) if is_closed else np.ones((1, 2)), 0.0
        for index, h in enumerate(fields):
            total = total * np.exp(-beta * h * spins)
            if index < len(couplings):
                total = total @ np.exp(-beta * couplings[index] * np.outer(spins, spins))
            logs += np.log(total.max())
            total = total / total.max()
        return logs + np.log(np.trace(total) if is_closed else total.sum())

    step = 1e-4
    low, middle, high = (log_z(1 + k * step) for k in (-1, 0, 1))
    return (low - high) / (2 * step), math.sqrt((low - 2 * middle + high) / step**2)


def test_a_long_chain_has_its_exact_energy(server, connect):
    sampler, rng = connect(server), np.random.default_rng(0)
    # Depth-first search finds a long path; what it leaves out are chains of one qubit.
    path = max(nx.shortest_path(nx.dfs_tree(sampler.to_networkx_graph(), 0), 0).values(), key=len)
    assert len(path) > 30
    h, J = rng.standard_normal(len(path)), 0.9 * rng.choice([-1, 1], len(path) - 1)
    mean, deviation = transfer_matrix_energies(h, J, is_closed=False)
    couplings = dict(zip(itertools.pairwise(path), J, strict=True))
    sampleset = sampler.sample_ising(dict(zip(path, h, strict=True)), couplings, num_reads=READS, **RAW)
    assert abs(sampleset.record.energy.mean() - mean) < SIGMAS * deviation / math.sqrt(READS)
    assert abs(sampleset.record.energy.std() / deviation - 1) < SIGMAS / math.sqrt(READS)


def test_a_large_ring_has_its_exact_energy(server, connect):
    sampler, rng = connect(server), np.random.default_rng(0)
    graph = sampler.to_networkx_graph()
    path = max(nx.shortest_path(nx.dfs_tree(graph, 0), 0).values(), key=len)
    end = max(index for index in range(15, len(path)) if graph.has_edge(path[0], path[index]))
    ring = path[: end + 1]
    h, J = 0.5 * rng.standard_normal(len(ring)), 0.9 * rng.choice([-1, 1], len(ring))
    mean, deviation = transfer_matrix_energies(h, J, is_closed=True)
    couplings = dict(zip(zip(ring, [*ring[1:], ring[0]], strict=True), J, strict=True))
    sampleset = sampler.sample_ising(dict(zip(ring, h, strict=True)), couplings, num_reads=READS, **RAW)
    assert abs(sampleset.record.energy.mean() - mean) < SIGMAS * deviation / math.sqrt(READS)


def test_components_are_independent(server, connect):
    sampler = connect(server)
    h, J = loopy_problem(sampler)
    alone = {v: 0.7 for v in sampler.nodelist if v not in h}
    sampleset = sampler.sample_ising(h | alone, J, num_reads=READS, **RAW)
    columns = [sampleset.variables.index(v) for v in sorted(h)]
    spins = sampleset.record.sample[:, columns]
    part = dimod.SampleSet.from_samples_bqm((spins, sorted(h)), dimod.BQM.from_ising(h, J))
    assert_boltzmann(part, h, J, 1.0)
    rest = sampleset.record.sample[:, [sampleset.variables.index(v) for v in alone]]
    assert abs(rest.mean() + math.tanh(0.7)) < SIGMAS / math.sqrt(rest.size)


def test_a_qubo_is_sampled_in_its_own_variables(server, connect):
    sampler = connect(server)
    (u, v), *_ = sampler.edgelist
    sampleset = sampler.sample_qubo({(u, u): 0.4, (v, v): -0.9, (u, v): 1.1}, num_reads=READS, **RAW)
    states = np.array(list(itertools.product((0, 1), repeat=2)))
    energies = states @ [0.4, -0.9] + 1.1 * states.prod(1)
    p = np.exp(-energies) / np.exp(-energies).sum()
    index = sampleset.record.sample.astype(int) @ [2, 1]
    assert np.abs(np.bincount(index, minlength=4) / READS - p).max() < SIGMAS * 0.5 / math.sqrt(READS)
    assert sampleset.record.energy == pytest.approx(energies[index])


def test_noise_is_an_error_of_each_submission(server, connect):
    sampler, reads = connect(server), 400
    alone = dict.fromkeys(nx.maximal_independent_set(sampler.to_networkx_graph(), seed=0), 0.0)
    pair = dict.fromkeys(sampler.edgelist[0], 0.0)
    for noise, field_spread in ((0.0, 0.0), (1.0, 0.63)):  # the standard deviation of tanh of a normal variable
        server.noise = noise
        spins = [sampler.sample_ising(alone, {}, num_reads=reads, **RAW).record.sample for _ in range(20)]
        means = np.concatenate([rows.mean(0) for rows in spins])
        assert means.std() == pytest.approx(math.hypot(field_spread, 1 / math.sqrt(reads)), abs=0.1)
        spins = [sampler.sample_ising(pair, {}, num_reads=reads, **RAW).record.sample for _ in range(20)]
        covariance = np.mean([abs(np.cov(rows.T)[0, 1]) for rows in spins])
        assert (covariance > 2 / math.sqrt(reads)) == (noise > 0)


def test_beta_may_depend_on_the_parameters(server, connect):
    sampler = connect(server)
    server.beta = lambda parameters: {1.0: 0.5, 100.0: 2.0}[parameters["annealing_time"]]
    h, J = loopy_problem(sampler)
    for annealing_time, beta in ((1.0, 0.5), (100.0, 2.0)):
        sampleset = sampler.sample_ising(h, J, num_reads=3000, annealing_time=annealing_time, **RAW)
        assert_boltzmann(sampleset, h, J, beta)


def test_the_same_seed_gives_the_same_answers(connect):
    answers = []
    for _ in range(2):
        with SolverServer(size=1, seed=3) as server:
            sampler = connect(server)
            h, J = dict.fromkeys(sampler.nodelist, 0.1), dict.fromkeys(sampler.edgelist, 0.2)
            answers.append([sampler.sample_ising(h, J, num_reads=20, **RAW).record.sample for _ in range(2)])
    assert np.array_equal(answers[0], answers[1])
    assert not np.array_equal(*answers[0])


# -- answers


def test_raw_answers_have_one_row_a_read_and_right_energies(server, connect):
    sampler = connect(server)
    h, J = loopy_problem(sampler)
    bqm = dimod.BQM.from_ising(h, J, offset=1.5)
    sampleset = sampler.sample(bqm, num_reads=100, label="a label", **RAW)
    assert sampleset.record.sample.shape == (100, 8)
    assert (sampleset.record.num_occurrences == 1).all()
    assert sampleset.record.energy == pytest.approx(bqm.energies(sampleset))
    assert sampleset.info["problem_label"] == "a label"
    assert len(sampler.sample(bqm, **RAW)) == 1


def test_histograms_are_sorted_and_count_the_reads(server, connect):
    sampler = connect(server)
    h, J = loopy_problem(sampler)
    sampleset = sampler.sample_ising(h, J, num_reads=500, auto_scale=False)
    assert sampleset.record.num_occurrences.sum() == 500
    assert len(np.unique(sampleset.record.sample, axis=0)) == len(sampleset) < 256
    assert (np.diff(sampleset.record.energy) >= 0).all()
    assert sampleset.record.energy == pytest.approx(dimod.BQM.from_ising(h, J).energies(sampleset))
    assert len(sampler.sample_ising(h, J, num_reads=500, max_answers=3)) == 3


def test_the_submission_is_on_record(server, connect):
    sampler = connect(server)
    h, J = loopy_problem(sampler)
    sampler.sample_ising(h, J, num_reads=7, **RAW).resolve()
    (entry,) = server.submissions
    assert entry["parameters"] == {"num_reads": 7, **RAW}
    assert {q: b for q, b in zip(entry["qubits"], entry["lin"], strict=True) if not np.isnan(b)} == h
    assert {tuple(c): b for c, b in zip(entry["couplers"].tolist(), entry["quad"], strict=True)} == J
    assert entry["active"].tolist() == sorted(h)
    assert entry["time"] <= time.monotonic()


def test_auto_scale_uses_the_whole_range_unless_switched_off(server, connect):
    sampler = connect(server)
    qubit = sampler.nodelist[0]
    for parameters, field in (({}, 4.0), ({"auto_scale": False}, 0.5)):
        sampleset = sampler.sample_ising({qubit: 0.5}, {}, num_reads=READS, answer_mode="raw", **parameters)
        mean = sampleset.record.sample.mean()
        assert abs(mean + math.tanh(field)) < SIGMAS / math.sqrt(READS) / math.cosh(field)
    assert "auto_scale" not in server.submissions[0]["parameters"]


def test_a_fast_anneal_takes_fields_as_flux_biases(server, connect):
    sampler = connect(server)
    qubit, *_ = sampler.nodelist
    biases = [0.0] * sampler.properties["num_qubits"]
    biases[qubit] = h_to_fluxbias(0.5)
    parameters = {"num_reads": READS, "fast_anneal": True, "annealing_time": 0.007, **RAW}
    sampleset = sampler.sample_ising({qubit: 0.0}, {}, flux_biases=biases, **parameters)
    assert abs(sampleset.record.sample.mean() + math.tanh(0.5)) < SIGMAS / math.sqrt(READS)
    with pytest.raises(exceptions.SolverFailureError, match="h must be zero"):
        sampler.sample_ising({qubit: 0.5}, {}, **parameters).resolve()


def test_a_reverse_anneal_starts_from_its_initial_state(server, connect):
    sampler, rng = connect(server), np.random.default_rng(0)
    h, J = loopy_problem(sampler)
    initial = {v: int(rng.choice([-1, 1])) for v in h}
    start = [initial[v] for v in sorted(h)]

    def anneal(lowest, microseconds, **parameters):
        schedule = [[0, 1], [1, lowest], [1 + microseconds, lowest], [2 + microseconds, 1]]
        parameters = {"anneal_schedule": schedule, "initial_state": initial, "auto_scale": False, **parameters}
        return sampler.sample_ising(h, J, **parameters)

    # Raw answers are the default of a reverse anneal.
    assert (anneal(0.6, 10, num_reads=20).record.sample == start).all()
    assert_boltzmann(anneal(0.4, 50, num_reads=READS), h, J, 1.0)
    # A ferromagnet against its field stays where it is for a sweep, but not for two hundred.
    h, J, initial = dict.fromkeys(h, 0.3), dict.fromkeys(J, -1.0), dict.fromkeys(h, 1)
    again, in_turn = (anneal(0.4, 1, num_reads=200, reinitialize_state=answer).record.sample for answer in (True, False))
    assert again[100:].mean() > 0.5
    assert in_turn[100:].mean() < -0.5


# -- the solver


@pytest.mark.parametrize("topology", ["zephyr", "pegasus", "chimera"])
def test_what_is_missing_is_missing(connect, topology):
    def working(**options):
        with SolverServer(topology=topology, size=2, **options) as server:
            sampler = connect(server)
            assert sampler.properties["topology"]["type"] == topology
            assert sampler.solver.name == server.solver_name
            return sampler, set(sampler.nodelist), set(sampler.edgelist)

    _, all_nodes, all_edges = working(missing_qubits=0, missing_couplers=0)
    sampler, nodes, edges = working(missing_qubits=4, missing_couplers=5, seed=1)
    assert nodes < all_nodes
    assert len(all_nodes - nodes) == 4
    assert len({e for e in all_edges if set(e) <= nodes} - edges) == 5
    assert sampler.properties["num_qubits"] >= len(all_nodes)
    assert {tuple(sorted(edge)) for edge in sampler.to_networkx_graph().edges} == edges
    assert working(missing_qubits=4, missing_couplers=5, seed=2)[1:] != (nodes, edges)
    lost_qubit = min(all_nodes - nodes)
    lost_coupler = min({e for e in all_edges if set(e) <= nodes} - edges)
    for problem in (({lost_qubit: 1.0}, {}), ({}, {lost_coupler: 1.0})):
        with pytest.raises(dimod.exceptions.BinaryQuadraticModelStructureError):
            sampler.sample_ising(*problem)


def test_what_a_solver_refuses(server, connect):
    sampler = connect(server)
    u, v = sampler.edgelist[0]

    def refused(message, h=None, J=None, **parameters):
        with pytest.raises(exceptions.SolverFailureError, match=message):
            sampler.sample_ising(h or {u: 0.0}, J or {}, **{"auto_scale": False, **parameters}).resolve()

    assert {len(sampler.sample_ising({u: 4.0}, {(u, v): -2.0}, **RAW))} == {1}
    refused("h value 4.1 is outside h_range", {u: 4.1})
    refused("J value 1.01 is outside extended_j_range", J={(u, v): 1.01})
    refused("J value -2.1 is outside", J={(u, v): -2.1})
    refused("num_reads", num_reads=10001)
    refused("would run for", num_reads=10000, annealing_time=100.0)
    refused("annealing_time", annealing_time=0.1)
    refused("annealing_time", annealing_time=0.001, fast_anneal=True)
    refused("Unknown parameter", x_unknown=1)
    refused("answer_mode", answer_mode="other")
    refused("exclude each other", annealing_time=1.0, anneal_schedule=[[0, 0], [20, 1]])
    refused("steeper", anneal_schedule=[[0, 0], [10, 0.1], [10.1, 1]])
    refused("needs an initial_state", anneal_schedule=[[0, 1], [10, 0.5], [20, 1]])
    refused("auto_scale", auto_scale=True, flux_biases=[0.0] * sampler.properties["num_qubits"])
    with pytest.raises(KeyError, match="not a parameter"):
        sampler.sample_ising({u: 0.0}, {}, nonsense=1)


@pytest.mark.parametrize(("topology", "limit"), [("zephyr", "per_group"), ("pegasus", "per_qubit")])
def test_the_total_coupling_is_limited(connect, topology, limit):
    with SolverServer(topology=topology, size=3) as server:
        sampler = connect(server)
        qubit = max(sampler.adjacency, key=lambda v: len(sampler.adjacency[v]))
        around = [(qubit, other) for other in sampler.adjacency[qubit]]
        assert len(sampler.sample_ising({}, dict.fromkeys(around[:6], -2.0), **RAW)) == 1
        with pytest.raises(exceptions.SolverFailureError, match=f"total J value -[0-9]+ is outside {limit}_coupling_range"):
            sampler.sample_ising({}, dict.fromkeys(around, -2.0), **RAW).resolve()


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"num_reads": 100},
        {"num_reads": 100, "annealing_time": 50.0},
        {"num_reads": 10, "anneal_schedule": [[0, 0], [50, 1]], "readout_thermalization": 30.0},
        {"num_reads": 10, "programming_thermalization": 5.0, "reduce_intersample_correlation": True},
        {"num_reads": 10, "fast_anneal": True, "annealing_time": 0.02},
        {"num_reads": 10, "anneal_schedule": [[0, 1], [5, 0.4], [10, 1]], "reinitialize_state": True},
        {"num_reads": 10, "anneal_schedule": [[0, 1], [5, 0.4], [10, 1]], "reinitialize_state": False},
    ],
    ids=str,
)
def test_access_time_is_the_clients_estimate(server, connect, parameters):
    sampler = connect(server)
    if parameters.get("anneal_schedule", [[0, 0]])[0][1] == 1:
        parameters = {**parameters, "initial_state": dict.fromkeys(sampler.nodelist, 1)}
    sampleset = sampler.sample_ising(dict.fromkeys(sampler.nodelist, 0.0), {}, auto_scale=False, **parameters)
    estimate = sampler.solver.estimate_qpu_access_time(len(sampler.nodelist), **parameters)
    assert sampleset.info["timing"]["qpu_access_time"] == pytest.approx(estimate, rel=1e-12)


# -- time


def test_a_job_is_pending_for_the_latency(server, connect):
    sampler = connect(server)
    server.latency = 0.4
    start = time.monotonic()
    answers = [sampler.sample_ising({sampler.nodelist[0]: 1.0}, {}, **RAW) for _ in range(2)]
    for answer in answers:
        answer.wait_id()
    assert not any(answer.done() for answer in answers)
    for answer in answers:
        answer.resolve()
        assert time.monotonic() - start >= 0.4
    server.latency = 1000.0
    waiting = sampler.sample_ising({sampler.nodelist[0]: 1.0}, {}, **RAW)
    waiting.wait_id()
    waiting._future.cancel()
    with pytest.raises(exceptions.CanceledFutureError):
        waiting.resolve()


# -- faults

OK = None
EXPECTED = {
    ("refuse", "submit"): requests.ConnectionError,
    ("refuse", "poll"): OK,
    ("refuse", "answer"): OK,
    ("timeout", "submit"): exceptions.RequestTimeout,
    ("timeout", "poll"): OK,
    ("timeout", "answer"): OK,
    **{(code, stage): exceptions.SolverError for code in ("403", "404", "429") for stage in ("submit", "poll", "answer")},
    **{("401", stage): exceptions.SolverAuthenticationError for stage in ("submit", "poll", "answer")},
    **{(code, stage): exceptions.SolverError for code in ("500", "503") for stage in ("submit", "answer")},
    **{(code, "poll"): OK for code in ("500", "503")},
    ("retired", "submit"): exceptions.SolverError,
    ("offline", "submit"): exceptions.SolverOfflineError,
    ("problem-failed", "submit"): exceptions.SolverFailureError,
    ("cancelled", "submit"): exceptions.CanceledFutureError,
    ("quota", "submit"): exceptions.SolverFailureError,
    **{("truncated", stage): requests.exceptions.ChunkedEncodingError for stage in ("submit", "poll", "answer")},
    **{("wrong-content-type", stage): exceptions.InvalidAPIResponseError for stage in ("submit", "poll", "answer")},
    ("malformed", "submit"): exceptions.InvalidAPIResponseError,
    ("malformed", "poll"): KeyError,
    ("malformed", "answer"): KeyError,
    ("malformed-base64", "answer"): binascii.Error,
    ("malformed-bits", "answer"): ValueError,
    ("malformed-object", "submit"): exceptions.InvalidAPIResponseError,
    ("malformed-object", "poll"): TypeError,
    ("malformed-empty", "submit"): exceptions.InvalidAPIResponseError,
}
NEVER = [("malformed-empty", "poll"), ("malformed-reads", "answer")]
LIST = {
    "refuse": OK,
    "timeout": OK,
    "401": exceptions.SolverAuthenticationError,
    "403": ResourceAccessForbiddenError,
    "404": ResourceNotFoundError,
    "429": ResourceLimitsExceededError,
    "500": InternalServerError,
    "503": InternalServerError,
    "retired": exceptions.SolverNotFoundError,
    "truncated": requests.exceptions.ChunkedEncodingError,
    "wrong-content-type": exceptions.InvalidAPIResponseError,
    "malformed": AttributeError,
}


def test_the_tables_are_complete():
    places = {(kind, stage) for kind, stages in FAULTS.items() for stage in stages}
    assert places == {*EXPECTED, *NEVER, *((kind, "solvers") for kind in LIST)}
    assert all(kind in solver_server.__doc__ for kind in FAULTS)


def small_job(sampler):
    return sampler.sample_ising({sampler.nodelist[0]: 0.1}, {}, num_reads=16, **RAW)


@pytest.mark.parametrize(("kind", "stage"), EXPECTED)
def test_what_a_fault_raises(server, connect, kind, stage):
    sampler = connect(server, request_timeout=0.5) if kind == "timeout" else connect(server)
    server.fail_next(kind, stage=stage)
    if EXPECTED[kind, stage] is OK:
        assert len(small_job(sampler)) == 16
    else:
        with pytest.raises(EXPECTED[kind, stage]) as raised:
            small_job(sampler).resolve()
        assert type(raised.value) is EXPECTED[kind, stage]
        if kind.isdigit() and kind != "401":
            assert raised.value.error_code == int(kind)
        # Once means once.
        server.recover()
        assert len(small_job(sampler)) == 16
    assert server.faults == [(kind, stage)]


@pytest.mark.parametrize("kind", LIST)
def test_what_a_fault_of_the_solver_list_raises(server, connect, kind):
    server.fail_next(kind, stage="solvers")
    settings = {"request_timeout": 0.5} if kind == "timeout" else {}
    if LIST[kind] is OK:
        connect(server, **settings)
    else:
        with pytest.raises(LIST[kind]) as raised:
            connect(server, **settings)
        assert type(raised.value) is LIST[kind]
    assert server.faults == [(kind, "solvers")]


@pytest.mark.parametrize(
    ("kind", "stage", "error", "count"),
    [
        ("refuse", "answer", requests.ConnectionError, 3),
        ("timeout", "poll", exceptions.RequestTimeout, 3),
        ("500", "poll", exceptions.PollingTimeout, None),
    ],
)
def test_faults_that_last_raise_after_the_clients_retries(server, connect, kind, stage, error, count):
    sampler = connect(server, request_timeout=0.5, polling_timeout=1.0)
    server.fail_next(kind, times=None, stage=stage)
    with pytest.raises(error):
        small_job(sampler).resolve()
    assert count is None or server.faults == [(kind, stage)] * count


def test_too_few_reads_raise_nothing(server, connect):
    server.fail_next("malformed-reads")
    assert len(small_job(connect(server))) == 8


def test_an_empty_status_is_never_resolved(server, connect):
    sampler = connect(server, polling_timeout=0.2)
    server.fail_next("malformed-empty", stage="poll")
    job = small_job(sampler)
    job.wait_id()
    time.sleep(0.5)
    assert not job.done()
    assert server.faults == [("malformed-empty", "poll")]


def test_a_solver_that_retires_or_goes_offline_for_good(server, connect):
    sampler = connect(server)
    server.fail_next("retired", times=None)
    for _ in range(2):
        with pytest.raises(exceptions.SolverError, match="does not exist"):
            small_job(sampler).resolve()
    with pytest.raises(exceptions.SolverNotFoundError):
        connect(server)
    with pytest.raises(exceptions.SolverNotFoundError):
        connect(server, solver=server.solver_name)
    server.recover()
    server.online = False
    with pytest.raises(exceptions.SolverOfflineError):
        small_job(sampler).resolve()
    with pytest.raises(exceptions.SolverNotFoundError):
        connect(server, solver={"online": True})


def test_nobody_listens_and_then_somebody_does(server, connect):
    sampler = connect(server)
    with server.down():
        with pytest.raises(exceptions.RequestTimeout):
            small_job(sampler).resolve()
        with pytest.raises(exceptions.RequestTimeout):
            connect(server)
    assert len(small_job(sampler)) == 16


def test_faults_are_named_and_placed(server):
    with pytest.raises(KeyError):
        server.fail_next("nonsense")
    with pytest.raises(ValueError, match="quota can happen at submit"):
        server.fail_next("quota", stage="poll")


def test_chaos_comes_at_its_rate_and_ends(server, connect):
    lasting = ("timeout", "malformed-empty", "malformed-object", "malformed-reads")
    sampler = connect(server)
    server.requests.clear()
    server.chaos(0.3, seed=1, kinds=[kind for kind in FAULTS if kind not in lasting])
    outcomes = []
    for _ in range(60):
        try:
            outcomes.append(len(small_job(sampler)))
        except Exception as error:
            outcomes.append(type(error))
    requested, failed = server.requests.total(), len(server.faults)
    assert abs(failed / requested - 0.3) < SIGMAS * math.sqrt(0.3 * 0.7 / requested)
    assert 16 in outcomes
    assert len(set(outcomes)) > 5
    server.recover()
    assert len(small_job(sampler)) == 16
    assert len(server.faults) == failed


# -- life and secrets


def test_only_the_token_opens(server, connect):
    with pytest.raises(exceptions.SolverAuthenticationError):
        DWaveSampler(endpoint=server.endpoint, token="another-token", config_file=False, cache_enabled=False)
    connect(server)
    assert {"another-token", server.token} <= server.tokens
    with SolverServer(size=1, token="a-marked-token") as other:
        assert other.token == "a-marked-token"
        connect(other)


def test_the_environment_leads_a_client_here(server, monkeypatch):
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    with DWaveSampler() as sampler:
        assert sampler.client.config.endpoint == server.endpoint
        assert not sampler.client.config.cache.enabled
        assert sampler.solver.name == server.solver_name
        assert len(small_job(sampler)) == 16


def test_leaving_ends_all_threads_and_the_port(connect):
    def serving():
        return {thread for thread in threading.enumerate() if "serve_forever" in thread.name or "request" in thread.name}

    before = serving()
    with SolverServer(size=1, latency=1000) as server, socket.create_connection(("127.0.0.1", server._port)) as idle:
        server.fail_next("timeout", stage="poll")
        sampler = connect(server, http_retry_total=0)
        job = small_job(sampler)
        job.wait_id()
        assert len(serving() - before) >= 3
        address = idle.getpeername()
    with pytest.raises(requests.RequestException):
        job.resolve()
    assert serving() <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_the_command_line(connect):
    command = [sys.executable, str(Path(solver_server.__file__)), "--topology", "chimera", "--size", "1", "--token", "T-1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        endpoint = process.stdout.readline().strip()
        reply = requests.get(endpoint + "solvers/remote/", headers={"X-Auth-Token": "T-1"}, timeout=30)
        process.stdin.close()
        assert process.wait(timeout=30) == 0
    assert reply.json()[0]["identity"]["name"] == "local_chimera_1"
