"""What goes to an annealer, what comes back and what is written of it: by hand, with a solver that answers as it is told."""

import json
import logging
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qvae.errors import SamplerError
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.info import SampleInfo
from qvae.sampling.metering import Fault, Meter

pytest.importorskip("dwave.system", reason="needs the extra: pip install -e '.[dwave]'")

from dwave.cloud import exceptions as cloud
from qvae_backends import dwave, dwave_parameters, dwave_placement, dwave_recording, dwave_solver
from qvae_backends.dwave_ideal import IdealSolver, connect
from qvae_backends.dwave_solver import Answer, NoToken, Submission
from qvae_backends.dwave_temperature import Temperature, is_temperature, temperature_advice

LINE = [(10, 11), (11, 12), (12, 13)]


class Told:
    """A solver of four qubits in a line, which keeps what it is given and returns what it is told, or all spins up."""

    source = "a test"

    def __init__(self, *answers):
        identity = SimpleNamespace(dict=lambda: {"name": "line"})
        self.structure = SimpleNamespace(
            nodes={10, 11, 12, 13}, edges={*LINE, *((v, u) for u, v in LINE)}, name="line", identity=identity, avg_load=0.25,
            parameters={"annealing_time": "", "num_reads": "", "anneal_schedule": "", "fast_anneal": ""},
            properties={"h_range": [-4.0, 4.0], "j_range": [-2.0, 1.0], "num_reads_range": [1, 1000], "num_qubits": 20},
            estimate_qpu_access_time=lambda qubits, reads, **known: 1e6 * (0.5 + 0.01 * reads),
        )  # fmt: skip
        self.answers, self.given, self.rewound, self.is_closed = list(answers), [], [], False

    def answer(self, submission):
        self.given.append(submission)
        found = self.answers.pop(0) if self.answers else None
        if isinstance(found, Exception):
            raise found
        spins = np.ones((submission.num_reads, len(submission.qubits)), np.int8) if found is None else np.array(found, np.int8)
        return Answer(spins, 0.25)

    def rewind(self, position, spent):
        self.rewound.append((position, spent))

    def close(self):
        self.is_closed = True


@pytest.fixture
def annealer(monkeypatch):
    """A sampler on a solver that answers as it is told."""

    def make(*answers, **options):
        solver = Told(*answers)
        monkeypatch.setattr(dwave, "connect", lambda *arguments: solver)
        return dwave.AnnealerSampler(**({"seed": 1, "retry_seconds": 1e-6, "beta": 2.0} | options)), solver

    return make


def pairs(submission):
    return dict(zip(map(tuple, submission.couplers.tolist()), submission.couplings.tolist(), strict=True))


PAIR = IsingHamiltonian([0.5, -1.0], [(0, 1)], [0.75])
STAR = IsingHamiltonian([0.5, -1.0, 0.25], [(0, 1), (0, 2)], [0.3, 0.1])


def test_fields_and_couplings_are_sent_over_the_temperature_in_the_gauge_in_which_reads_come_back(annealer):
    sampler, solver = annealer([[1, -1], [1, 1], [-1, -1]], annealing_time=7.0)
    found = sampler.sample(PAIR, 3)
    (sent,) = solver.given
    flips = np.sign(sent.fields) * np.array([1, -1])
    assert sent.fields.tolist() == (flips * [0.25, -0.5]).tolist()
    (coupling,) = sent.couplings.tolist()
    assert coupling == 0.375 * flips[0] * flips[1]
    assert found.spins.tolist() == ([[1, -1], [1, 1], [-1, -1]] * flips).tolist()
    assert sent.parameters == {"num_reads": 3, "answer_mode": "raw", "auto_scale": False, "annealing_time": 7.0}
    assert sent.price == 0.53
    info = found.info
    assert (info.qpu_seconds, info.extra["submissions"], info.clipped, info.device_beta) == (0.25, 1, 0.0, 2.0)
    assert info.chain_break_fraction is None
    gauges = set()
    for _ in range(12):
        sampler.sample(PAIR, 1)
        flips = np.sign(solver.given[-1].fields) * np.array([1, -1])
        assert solver.given[-1].couplings.tolist() == [0.375 * flips[0] * flips[1]]
        gauges.add(tuple(flips))
    assert len(gauges) == 4
    plain, solver = annealer(spin_reversal=False)
    plain.sample(PAIR, 1)
    assert solver.given[0].fields.tolist() == [0.25, -0.5]


def test_what_is_beyond_the_ranges_is_clipped_and_counted(annealer):
    sampler, solver = annealer(spin_reversal=False, beta=0.1)
    found = sampler.sample(IsingHamiltonian([0.5, -0.3], [(0, 1)], [-0.15]), 1)
    assert solver.given[0].fields.tolist() == pytest.approx([4.0, -3.0])
    assert solver.given[0].couplings.tolist() == [-1.0]  # as it may be turned to +1, the end of the range
    assert found.info.clipped == pytest.approx(2 / 3)


def test_broken_chains_are_read_again_until_there_are_enough(annealer, monkeypatch):
    """Of the first two reads one is broken; then, as half of them break, 1.1 x 1 / 0.5 are asked for, of which one is.

    The first spin has two qubits, each of which has a coupler to the one of either other spin.
    """
    couplers = [(10, 11), (10, 12), (11, 12), (11, 13), (12, 13)]
    placement = dwave_placement.Placement(STAR.graph, [[11, 12], [10], [13]], couplers)
    monkeypatch.setattr(dwave, "placed", lambda structure, graph, chains: placement)
    sampler, solver = annealer(
        [[1, 1, 1, 1], [1, -1, 1, 1]], [[1, 1, -1, -1], [1, 1, -1, 1], [-1, 1, 1, 1]], spin_reversal=False, chain_strength=1.5
    )  # fmt: skip
    found = sampler.sample(STAR, 2)
    assert [each.num_reads for each in solver.given] == [2, 3]
    assert solver.given[0].qubits.tolist() == [11, 12, 10, 13]
    assert solver.given[0].fields.tolist() == [0.125, 0.125, -0.5, 0.125]
    between = {(10, 11): 0.075, (10, 12): 0.075, (11, 13): 0.025, (12, 13): 0.025}
    assert pairs(solver.given[0]) == pytest.approx(between | {(11, 12): -1.5})
    assert found.spins.tolist() == [[1, 1, 1], [1, -1, -1]]
    assert found.info.chain_break_fraction == pytest.approx(2 / 5)
    assert sampler.state_dict()["broken"] == pytest.approx(2 / 5)
    assert (found.info.qpu_seconds, found.info.extra["submissions"]) == (0.5, 2)
    other, solver = annealer(spin_reversal=False)
    other.load_state_dict(sampler.state_dict())
    other.sample(STAR, 7)
    assert [each.num_reads for each in solver.given] == [13]  # 1.1 x 7 / 0.6
    assert pairs(solver.given[0])[11, 12] == -2.0  # the strongest in range
    none, solver = annealer(*(np.tile([1, -1, 1, 1], (reads, 1)) for reads in (1, 22, 22, 22)))
    with pytest.raises(SamplerError, match="the chains of 67 of 67 reads broke"):
        none.sample(STAR, 1)
    assert len(solver.given) == 4


def test_a_reverse_anneal_starts_from_the_last_read_in_the_gauge_of_the_submission(annealer):
    schedule = [[0.0, 1.0], [5.0, 0.5], [10.0, 1.0]]
    sampler, solver = annealer([[1, 1], [1, -1]], anneal_schedule=schedule)
    for _ in range(3):
        sampler.sample(PAIR, 2)
    gauges = [np.sign(each.fields) * np.array([1, -1]) for each in solver.given]
    reads = [np.array([1, -1]) * gauges[0], np.array([1, 1]) * gauges[1]]  # the last of each call, as spins
    for submission, gauge, state in zip(solver.given, gauges, [np.ones(2), *reads], strict=True):
        parameters = submission.parameters
        assert list(parameters["initial_state"].values()) == (state * gauge).tolist()
        assert list(parameters["initial_state"]) == submission.qubits.tolist()
        assert (parameters["anneal_schedule"], parameters["reinitialize_state"]) == (schedule, True)


def test_fast_anneals_take_fields_as_flux_biases(annealer, monkeypatch):
    monkeypatch.setattr("dwave.system.temperatures.h_to_fluxbias", lambda fields: 1e-3 * np.asarray(fields))
    sampler, solver = annealer(spin_reversal=False, fast_anneal=True)
    sampler.sample(PAIR, 1)
    (sent,) = solver.given
    biases = np.zeros(20)
    biases[sent.qubits] = [0.25e-3, -0.5e-3]
    assert sent.parameters["flux_biases"] == pytest.approx(biases.tolist())
    assert not sent.fields.any()


def test_reads_beyond_a_job_s_are_shared_out_and_paid_by_job(annealer):
    sampler, solver = annealer()
    solver.structure.properties["num_reads_range"] = [1, 4]
    plan = sampler.plan(PAIR, 10)
    assert (plan["submissions"], plan["qubits"], plan["longest chain"], plan["solver"]) == (3, 2, 1, "line")
    assert plan["qpu_seconds"] == pytest.approx(0.54 + 0.54 + 0.52)
    assert solver.given == []
    assert len(sampler.sample(PAIR, 10)) == 10
    assert [each.num_reads for each in solver.given] == [4, 4, 2]
    short = {"problem_run_duration_range": [0, 0.545e6]}
    solver.structure.properties |= short | {"num_reads_range": [1, 10]}
    assert dwave_parameters.largest_job(solver.structure, {}, 2) == 4  # 10, 9, 8, 7, 6, 5 and 4 take 0.54 s at most


def test_what_is_known_of_a_solver_is_said(annealer):
    sampler, solver = annealer(annealing_time=7.0)
    assert sampler.describe() == {
        "credentials": "a test", "solver": "line", "topology": "unknown []", "working qubits": "4", "working couplers": "3",
        "load of the queue": "25%", "field and coupling ranges": "[-4.0, 4.0] and [-2.0, 1.0]",
        "1 read of all qubits": "510.0 ms of QPU access time", "256 reads of all qubits": "3060.0 ms of QPU access time",
    }  # fmt: skip
    solver.structure.properties["annealing_time_range"] = [8.0, 9.0]
    with pytest.raises(SamplerError, match="annealing_time takes 7 microseconds, but solver line takes 8 to 9"):
        dwave_parameters.check_parameters({"annealing_time": 7.0}, solver.structure)
    solver.structure.properties["max_anneal_schedule_points"] = 2
    with pytest.raises(SamplerError, match="anneal_schedule has 3 points, but line takes 2"):
        dwave_parameters.check_parameters({"anneal_schedule": [[0, 0], [1, 0.5], [8, 1]]}, solver.structure)


def test_a_connection_that_does_not_take_the_options_is_released_and_a_closed_sampler_says_so(annealer):
    sampler, solver = annealer(parameters={"flux_drift": 1})
    with pytest.raises(SamplerError, match="has no parameter 'flux_drift'"):
        sampler.sample(PAIR, 1)
    assert solver.is_closed
    sampler, solver = annealer()
    sampler.sample(PAIR, 1)
    sampler.close()
    assert solver.is_closed
    with pytest.raises(SamplerError, match="is closed; make a new one"):
        sampler.sample(PAIR, 1)


# Qubits ---------------------------------------------------------------------------------------------------------------


def test_spins_stand_on_qubits_around_the_middle_in_ascending_order():
    """Of seven in a line and a pair apart: from the middle on to where the most neighbours are, the lower one first."""
    line = [(u, u + 1) for u in range(20, 26)]
    structure = SimpleNamespace(edges={*line, (3, 4)}, nodes={*range(20, 27), 3, 4}, name="line")
    assert dwave_placement.native_qubits(structure, 1) == [23]
    assert dwave_placement.native_qubits(structure, 4) == [20, 21, 22, 23]
    structure.edges |= {(23, 26), (24, 26)}
    assert dwave_placement.native_qubits(structure, 6) == [20, 21, 22, 23, 24, 26]  # which has two neighbours by then
    assert dwave_placement.native_graph(structure, 7).num_edges == 8
    with pytest.raises(SamplerError, match="has 7 qubits that hang together, but 8 spins"):
        dwave_placement.native_qubits(structure, 8)


# Temperature ----------------------------------------------------------------------------------------------------------


def test_a_temperature_is_guessed_measured_and_confirmed():
    generator = torch.Generator().manual_seed(0)
    fields, none = np.array([0.2, -0.4]), np.zeros(0)
    hamiltonian = IsingHamiltonian([1.0, 1.0], [], []).to(dtype=torch.float64)
    temperature = Temperature(None)
    cold = np.sign(-fields) * np.ones((100, 1))
    temperature.measure(hamiltonian, fields, none, cold[:15])  # too few to tell anything
    assert (temperature.value, temperature.is_known) == (3.0, False)
    temperature.measure(hamiltonian, fields, none, cold)
    assert (temperature.value, temperature.is_known) == (6.0, False)  # colder than can be told: twice the guess
    means = torch.tanh(-1.5 * torch.from_numpy(fields))
    spins = (2 * torch.bernoulli((1 + means).expand(4000, 2) / 2, generator=generator) - 1).numpy()
    for _ in range(3):  # a filter doesn't jump
        temperature.measure(hamiltonian, fields, none, spins)
    assert temperature.is_known
    assert abs(temperature.value - 1.5) < 5 * temperature.stderr
    off = 0.1 * temperature.value + 2 * temperature.stderr
    assert temperature.confirms(temperature.value)
    assert not temperature.confirms(temperature.value + 1.3 * off)
    assert not temperature.confirms(temperature.value - 1.3 * off)
    again = Temperature(None)
    again.load_state_dict(temperature.state_dict(), is_known=False)
    assert (again.value, again.stderr, again.is_known) == (temperature.value, temperature.stderr, False)
    fixed = Temperature(2.0)
    fixed.load_state_dict(temperature.state_dict(), is_known=True)
    fixed.measure(hamiltonian, fields, none, spins)
    assert (fixed.value, fixed.stderr, fixed.confirms(99.0)) == (2.0, None, True)


def test_what_may_be_a_temperature_and_what_is_said_of_one():
    assert is_temperature({"value": 1.0, "variance": 0.0})
    for value, variance in ((0.0, 1.0), (-1.0, 1.0), (1.0, -1.0), ("1", 1.0), (float("nan"), 1.0)):
        assert not is_temperature({"value": value, "variance": variance})
    both = ["clipped", "cold"]
    for clipped, beta, kinds in ((0.02, 25.0, []), (0.021, 1.0, both[:1]), (None, 25.1, both[1:]), (0.5, 30.0, both)):
        info = SampleInfo()
        info.clipped, info.device_beta = clipped, beta
        assert [said.kind for said in temperature_advice(info)] == kinds


def test_a_call_at_a_temperature_that_turns_out_wrong_is_made_again_at_the_better_one(annealer, monkeypatch):
    """Three times at most, each at what was known before it."""
    sampler, _ = annealer(beta=None)
    betas, known = [], iter([2.0, 1.5, 1.2, 1.0, 0.9])

    def read(hamiltonian, beta, num_samples, info):
        betas.append(beta)
        sampler.temperature._beta.value = next(known)
        return beta

    monkeypatch.setattr(sampler, "_read", read)
    monkeypatch.setattr(Temperature, "confirms", lambda self, beta: beta == 1.5)
    assert sampler._calibrated(PAIR, 1, SampleInfo()) == 1.5
    assert betas == [3.0, 2.0, 1.5]
    monkeypatch.setattr(Temperature, "confirms", lambda self, beta: False)
    betas.clear()
    known = iter([2.0, 1.5, 1.0, 0.9])
    sampler._calibrated(PAIR, 1, SampleInfo())
    assert betas == [1.2, 2.0, 1.5, 1.0]


# Recordings -----------------------------------------------------------------------------------------------------------


def submission(price=0.5, **changes):
    """Two spins and their coupling, as they are asked for three reads."""
    usual = {
        "qubits": np.array([10, 11]), "fields": np.array([0.25, -0.5]), "couplers": np.array([[10, 11]]),
        "couplings": np.array([0.375]), "parameters": {"num_reads": 3},
    }  # fmt: skip
    return Submission(**(usual | changes), price=price)


def test_a_recording_holds_what_was_sent_read_and_spent(tmp_path):
    reads = [[1, -1], [1, 1], [-1, -1]]
    solver = Told(Fault("lost", True, has_run=True), Fault("never ran", True), reads, [[-1, 1]] * 3)
    recording = dwave_recording.RecordingSolver(solver, tmp_path / "r.jsonl", Meter(None))
    for _ in range(2):
        with pytest.raises(Fault):
            recording.answer(submission())
    recording.answer(submission())
    recording.answer(submission(parameters={"num_reads": 3, "flux_biases": [0.5]}))
    header, first, second = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
    assert (header["start"], header["seconds"], header["solver"]["identity"]) == (0, 0.0, {"name": "line"})
    assert (first["qpu_seconds"], second["qpu_seconds"]) == (0.75, 0.25)  # what a lost job took goes to the next answer
    for row, wanted, expected in ((first, submission(), reads), (second, submission(), [[-1, 1]] * 3)):
        found = dwave_recording._recorded(row, wanted)
        for name in ("qubits", "fields", "couplers", "couplings"):
            assert getattr(found, name).tolist() == getattr(wanted, name).tolist()
        assert dwave_recording._answer(row, wanted).spins.tolist() == expected
    recording.rewind(1, 2.0)
    header, first = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
    assert first["qpu_seconds"] == 2.0  # what was spent until then
    with pytest.raises(SamplerError, match="lacks answers of this run"):
        recording.rewind(3, 2.0)
    recording.rewind(0, 2.5)
    assert json.loads((tmp_path / "r.jsonl").read_text())["seconds"] == 2.5
    recording.close()
    assert solver.is_closed


def test_a_recording_that_begins_in_the_middle_of_a_run_counts_from_there(tmp_path):
    meter, file = Meter(None), tmp_path / "r.jsonl"
    meter.calls, meter.seconds = 2, 0.5
    recording = dwave_recording.RecordingSolver(Told(None, None), file, meter)
    for _ in range(2):
        recording.answer(submission())
    for position in (1, 5):
        with pytest.raises(SamplerError, match="lacks answers of this run"):
            recording.rewind(position, 1.0)
    for position, spent, start, seconds in ((4, 1.5, 0.5, [0.25, 0.75]), (3, 1.5, 0.5, [1.0]), (2, 1.75, 1.75, [])):
        recording.rewind(position, spent)
        header, *rows = map(json.loads, file.read_text().splitlines())
        assert (header["start"], header["seconds"]) == (2, start)
        assert [row["qpu_seconds"] for row in rows] == seconds


def test_what_a_lost_job_took_is_recorded_once_where_the_run_goes_back(tmp_path):
    solver = Told(None, Fault("lost", True, has_run=True), None)
    recording = dwave_recording.RecordingSolver(solver, tmp_path / "r.jsonl", Meter(None))
    recording.answer(submission())
    with pytest.raises(Fault):
        recording.answer(submission())
    recording.rewind(1, 0.75)
    recording.answer(submission())
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()[1:]]
    assert [row["qpu_seconds"] for row in rows] == [0.75, 0.25]


def test_another_submission_is_told_from_the_one_that_was_recorded():
    same, near = submission(), submission(fields=np.array([0.2509, -0.5]))
    assert dwave_recording._are_the_same(same, near)  # another processor rounds differently
    for other in (
        submission(fields=np.array([0.2511, -0.5])),
        submission(couplings=np.array([-0.375])),
        submission(parameters={"num_reads": 4}),
        submission(parameters={"num_reads": 3, "flux_biases": [0.1]}),
        submission(qubits=np.array([10, 12])),
        submission(couplers=np.array([[10, 12]])),
    ):
        assert not dwave_recording._are_the_same(same, other)
    text = dwave_recording._packed(np.arange(1000, dtype="<i4"))
    assert dwave_recording._unpacked(text, "<i4", 5).tolist() == [0, 1, 2, 3, 4, 5]  # no more than one too many


def test_a_recording_ends_where_it_ends_and_begins_where_it_begins(tmp_path):
    played = object.__new__(dwave_recording.RecordedSolver)
    recording = dwave_recording.RecordingSolver(Told(), tmp_path / "r.jsonl", Meter(None))
    recording.answer(submission())
    played._file, (played._header, played._rows) = "r", dwave_recording._read_recording(tmp_path / "r.jsonl")
    played._start = 5
    for position in (4, 6):
        played.rewind(position, 0.0)
        with pytest.raises(Fault, match="ends after 1 submissions"):
            played.answer(submission())
    played.rewind(5, 0.0)
    assert played.seconds == 0.0
    assert played.answer(submission()).spins.tolist() == [[1, 1]] * 3
    assert played.seconds == 0.25


def test_what_is_played_is_booked_apart_from_what_is_really_spent():
    ledgers = [dwave.AnnealerSampler(replay=file).meter.ledger for file in (None, "r.jsonl")]
    assert ledgers == ["annealer.json", "annealer-replay.json"]


@pytest.mark.parametrize(
    "text",
    [
        "token='SECRET'", "X-Auth-Token: 'SECRET'", "token=SecretStr('SECRET')", "headers={'a': 'SECRET', 'b': 1}",
        "header: 'SECRET'", "proxy='SECRET@host'", "http://user:SECRET@host/path",
    ],
)  # fmt: skip
def test_nothing_secret_of_the_client_s_settings_is_logged(text):
    record = logging.LogRecord("dwave.cloud", 10, "", 0, "settings: %s, reads: 5", (text,), None)
    assert dwave_solver._without_tokens(record)
    assert "SECRET" not in record.getMessage()
    assert record.getMessage().startswith("settings: ")
    assert record.getMessage().endswith("reads: 5")


# Without a token ------------------------------------------------------------------------------------------------------


def test_only_a_rehearsal_does_without_a_token(monkeypatch):
    def refuse(settings, timeout):
        raise NoToken("no token")

    monkeypatch.setattr("qvae_backends.dwave_ideal.LeapSolver", refuse)
    with pytest.raises(NoToken):
        connect({}, 1.0, None, is_rehearsal=False)
    solver = connect({"solver": "Advantage_system6.4"}, 1.0, None, is_rehearsal=True)
    assert isinstance(solver, IdealSolver)
    assert solver.structure.properties["topology"] == {"type": "pegasus", "shape": [16]}
    assert solver.structure.name.startswith("ideal pegasus graph of 5,760 qubits")
    with pytest.raises(Fault) as told:
        solver.answer(submission())
    assert not told.value.helps_to_repeat


# The service ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "token", "settings", "words"),
    [
        (SamplerError("as it is."), "good", {}, "as it is."),
        (RuntimeError("any"), "a token\n", {}, "DWAVE_API_TOKEN holds characters that no token has"),
        (RuntimeError("any"), "tök\u00e9n", {}, "DWAVE_API_TOKEN holds characters that no token has"),
        (ValueError("API token not defined"), "", {}, "there is no D-Wave API token: run `dwave setup --auth`"),
        (ValueError("no profile of that name"), "good", {"profile": "mine"}, "or its profile 'mine' can't be read; see `dwave"),
        (cloud.SolverNotFoundError("x"), "good", {"solver": "Advantage9"}, "no solver 'Advantage9' is online and open"),
        (cloud.SolverNotFoundError("x"), "good", {}, "no annealer is online and open to this account: `dwave solvers --list`"),
        (cloud.SolverAuthenticationError("x"), "good", {}, "the token is not accepted: .*; check it with `dwave ping`, or"),
        (RuntimeError("x"), "good", {}, r"the client failed \(RuntimeError\); check the connection with `dwave ping`, or take"),
    ],
)
def test_a_service_that_can_not_be_used_is_said_with_the_remedy(error, token, settings, words, monkeypatch):
    monkeypatch.setenv("DWAVE_API_TOKEN", token)
    assert re.search(words, dwave_solver._no_connection(error, settings))


def test_configuration_files_that_can_not_be_read_are_said(monkeypatch):
    monkeypatch.setenv("DWAVE_API_TOKEN", "good")
    from dwave.cloud.exceptions import ConfigFileReadError

    assert "the D-Wave configuration file or its profile None can't be read" in dwave_solver._no_connection(
        ConfigFileReadError("no such file"), {}
    )


@pytest.fixture
def connecting(monkeypatch):
    """The client's own connection, which finds a solver of this kind, and is told apart."""
    from dwave.system import DWaveSampler

    made = []

    def make(structure):
        def connect(self, **settings):
            made.append(settings)
            self.client, self.solver = SimpleNamespace(close=lambda wait: None), structure

        monkeypatch.setattr(DWaveSampler, "__init__", connect)
        return made

    return make


def test_what_draws_no_samples_is_refused(connecting):
    connecting(SimpleNamespace(name="hybrid"))
    with pytest.raises(SamplerError, match="solver 'hybrid' is a SimpleNamespace, which searches for one best answer .*NAME"):
        dwave_solver.LeapSolver({}, 5.0)


def test_requests_are_given_half_of_a_short_time_and_a_client_that_is_made_anew_chooses_the_same(connecting):
    structure = IdealSolver("chimera").structure
    settings = connecting(structure)
    solver = dwave_solver.LeapSolver({}, 6.0)
    assert {key: settings[0][key] for key in ("request_timeout", "poll_wait_time", "polling_timeout", "http_retry_total")} == {
        "request_timeout": 6.0, "poll_wait_time": 3, "polling_timeout": 6.0, "http_retry_total": 2,
    }  # fmt: skip
    assert "client" not in settings[0]
    assert structure.return_matrix
    solver._connect()
    assert (settings[1]["solver"], settings[1]["client"]) == (structure.name, "base")
    dwave_solver.LeapSolver({}, 100.0)
    assert (settings[2]["request_timeout"], settings[2]["poll_wait_time"]) == (30.0, 5)
    connecting(IdealSolver("pegasus").structure)
    with pytest.raises(SamplerError, match="the working graph of solver ideal pegasus .* has changed since it was connected"):
        solver._connect()


def test_credentials_are_said_to_come_from_where_they_do(connecting, monkeypatch):
    connecting(IdealSolver("chimera").structure)
    monkeypatch.delenv("DWAVE_API_TOKEN", raising=False)
    monkeypatch.delenv("DWAVE_PROFILE", raising=False)
    assert dwave_solver.LeapSolver({}, 5.0).source == "profile 'defaults' of the D-Wave configuration file"
    monkeypatch.setenv("DWAVE_PROFILE", "mine")
    assert "profile 'mine'" in dwave_solver.LeapSolver({}, 5.0).source
    assert "profile 'other'" in dwave_solver.LeapSolver({"profile": "other"}, 5.0).source
    monkeypatch.setenv("DWAVE_API_TOKEN", "DEV-secret")
    assert dwave_solver.LeapSolver({}, 5.0).source == "the environment variable DWAVE_API_TOKEN"


class Job:
    """What the client returns for a submission."""

    def __init__(self, result, has_id=True, is_done=True):
        self.id, self.is_done, self.is_cancelled, self._result = ("a job" if has_id else None), is_done, False, result

    def wait(self, seconds):
        return self.is_done

    def cancel(self):
        self.is_cancelled = True

    def result(self):
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


@pytest.fixture
def leap():
    """The line to the service, without a service: what it submits, and the job that it gets."""

    def make(job):
        solver, given = object.__new__(dwave_solver.LeapSolver), []
        solver._timeout, solver._is_suspect, solver._identity, solver._settings = 5.0, False, None, {}
        solver._release = lambda: None
        solver.structure = SimpleNamespace(sample_ising=lambda *fields, **options: given.append((*fields, options)) or job)
        return solver, given

    return make


def test_an_answer_has_a_row_for_each_read_in_the_order_of_the_qubits(leap):
    """Equal reads may come once, with how often; of qubits that weren't asked for the service says 3."""
    solutions = np.array([[3, 1, -1, 3], [3, -1, -1, 3]])
    job = Job({"solutions": solutions, "num_occurrences": [2, 1], "timing": {"qpu_access_time": 250_000.0}})
    solver, given = leap(job)
    asked = submission(qubits=np.array([2, 1]), couplers=np.array([[1, 2]]))
    found = solver.answer(asked)
    assert found.spins.tolist() == [[-1, 1], [-1, 1], [-1, -1]]
    assert found.spins.dtype == np.int8
    assert found.qpu_seconds == 0.25
    assert given == [({2: 0.25, 1: -0.5}, {(1, 2): 0.375}, {"num_reads": 3})]
    assert not solver._is_suspect


def of_the_server(code):
    error = cloud.SolverError("of the server")
    error.error_code = code
    return error


@pytest.mark.parametrize(
    ("job", "words", "has_run"),
    [
        (Job(None, is_done=False), "no answer within 5 s", True),
        (Job(of_the_server(500)), "the service failed (error 500)", True),
        (Job(of_the_server(500), has_id=False), "the service failed (error 500)", False),
        (Job(cloud.SolverFailureError("burnt")), "the solver failed on the job (burnt)", False),  # which it says itself
        (Job(cloud.CanceledFutureError()), "the job was cancelled", False),
        (Job({"solutions": [[1, 1, 1]]}), "the answer can't be read", True),
        (Job({"solutions": np.ones((2, 3)), "timing": {"qpu_access_time": 1.0}}), "2 reads of 2 qubits where", True),
        (Job({"solutions": np.zeros((3, 3)), "timing": {"qpu_access_time": 1.0}}), "the answer holds 3 reads", True),
    ],
)
def test_a_job_that_was_accepted_is_taken_to_have_run(job, words, has_run, leap):
    solver, _ = leap(job)
    with pytest.raises(Fault) as told:
        solver.answer(submission(qubits=np.array([1, 2])))
    assert words in str(told.value)
    assert told.value.has_run == has_run
    assert job.is_cancelled == (not job.is_done)
    assert solver._is_suspect  # the next attempt takes a new client
