"""The annealer over the life of a run: temperatures, budgets, recordings, and solvers that change or go away."""

import copy
import json
import os
import shutil

import numpy as np
import pytest
import torch

import qvae
from qvae.errors import BudgetExhausted, SamplerError
from qvae.ising import graphs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.runs.run import load_run
from qvae.sampling.diagnostics import Estimate, effective_beta
from qvae.sampling.temperature import BetaFilter
from qvae.training.trainer import Trainer
from qvae.workflow import report, resume

pytest.importorskip("dwave.system", reason="needs the extra: pip install -e '.[dwave]'")

from qvae_backends.dwave_recording import RecordedSolver, RecordingSolver

RUN = [
    "sampler.name=dwave",
    "sampler.options.retry_seconds=0.01",
    "sampler.options.retries=1",
    "sampler.options.timeout=5.0",
    "model.latent.graph=native",
    "model.latent.sizes=[12]",
    "model.network.hidden=[16]",
    "training.epochs=3",
    "training.chains=32",
    "evaluation.importance_samples=2",
    "evaluation.num_test=20",
    "evaluation.num_generated=50",
    "evaluation.probes=false",
    "evaluation.tsne_every=0",
]


def problem(graph, strength=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = 0.3 * torch.randn(graph.num_spins, generator=generator)
    return IsingHamiltonian(h, graph, strength * torch.randn(graph.num_edges, generator=generator))


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def before_step(monkeypatch, number, action):
    """Call ``action`` before the training step of that number, once."""
    step, due = Trainer._train_step, [True]

    def patched(trainer, images):
        if trainer.step == number and due:
            due.clear()
            action()
        step(trainer, images)

    monkeypatch.setattr(Trainer, "_train_step", patched)


# Credentials ----------------------------------------------------------------------------------------------------------


def test_a_token_in_the_configuration_file_can_be_checked(server, command, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("DWAVE_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "dwave.conf"
    defaults = f"[defaults]\ntoken = {server.token}\nendpoint = {server.endpoint}\n"
    file.write_text(f"{defaults}[mine]\nsolver = {server.solver_name}\n")
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(file))
    for options in ([], ["--set", "profile=mine"]):
        code, out, err = command("samplers", "check", "dwave", *options)
        assert code == 0, err
        assert "configuration file" in out


# Temperature ----------------------------------------------------------------------------------------------------------


def test_a_single_read_does_not_wipe_out_what_is_known_of_the_temperature(annealer):
    sampler = annealer()
    hamiltonian = problem(sampler.native_graph(10), 0.5)
    for _ in range(10):
        info = sampler.sample(hamiltonian, 500).info
    assert abs(info["device_beta"] - 2) < 0.3
    for _ in range(10):  # as `qvae generate RUN --num 1` does
        info = sampler.sample(hamiltonian, 1).info
        assert abs(info["device_beta"] - 2) < max(0.5, 4 * info["device_beta_stderr"])
        assert info["device_beta_stderr"] > 1e-3


def test_measurements_below_zero_count_or_the_estimate_is_biased():
    generator = np.random.default_rng(0)
    found = []
    for _ in range(100):
        beta = BetaFilter(3.0)
        for _ in range(100):
            beta.update(Estimate(generator.normal(0.5, 1.0), 1.0))
        found.append((beta.value - 0.5) / beta.stderr)
    assert abs(np.mean(found)) < 0.5


def test_generation_by_another_anneal_has_a_temperature_of_its_own(annealer, server, tmp_path):
    server.beta = lambda parameters: 1.0 if parameters.get("annealing_time", 20) < 5 else 4.0
    training = annealer(annealing_time=1.0)
    training.attach(tmp_path)
    hamiltonian = problem(training.native_graph(10), 0.2)
    for _ in range(60):
        training.sample(hamiltonian, 256)
    training.close()
    generating = annealer(annealing_time=50.0)
    generating.attach(tmp_path)
    samples = generating.sample(hamiltonian, 500)
    found = effective_beta(samples, hamiltonian)
    assert abs(found.value - 1) < 0.25 + 4 * found.stderr
    assert abs(samples.info["device_beta"] - 4) < 5 * samples.info["device_beta_stderr"]


def test_the_error_bar_holds_after_the_temperature_has_jumped(annealer, server):
    sampler = annealer()
    hamiltonian = problem(sampler.native_graph(10), 0.2)
    for _ in range(40):
        sampler.sample(hamiltonian, 256)
    server.beta = 1.0
    info = sampler.sample(hamiltonian, 256).info
    assert abs(info["device_beta"] - 1) < 5 * info["device_beta_stderr"]


# Cost -----------------------------------------------------------------------------------------------------------------


def test_a_call_that_the_budget_does_not_cover_is_not_begun(annealer, server):
    sampler = annealer(beta=2.0, annealing_time=500.0, max_qpu_seconds=1.5)
    hamiltonian = problem(sampler.native_graph(6))
    plan = sampler.plan(hamiltonian, 4000)
    assert plan["submissions"] > 1
    assert plan["qpu_seconds"] > 1.5
    with pytest.raises(BudgetExhausted):
        sampler.sample(hamiltonian, 4000)
    assert not server.submissions


def test_samplers_of_one_run_folder_share_its_budget(annealer, tmp_path):
    samplers = [annealer(beta=2.0, max_qpu_seconds=0.1) for _ in range(2)]
    for sampler in samplers:
        sampler.attach(tmp_path)
    hamiltonian = problem(samplers[0].native_graph(6))
    spent = 0.0
    for _ in range(10):
        for sampler in samplers:
            try:
                spent += sampler.sample(hamiltonian, 50).info["qpu_seconds"]
            except BudgetExhausted:
                continue
    assert 0.05 < spent <= 0.1


@pytest.mark.parametrize(("kind", "stage"), [("truncated", "answer"), ("500", "answer"), ("429", "poll"), ("401", "answer")])
def test_jobs_whose_answers_are_lost_are_booked(annealer, server, kind, stage):
    sampler = annealer(beta=2.0, max_qpu_seconds=0.05)
    hamiltonian = problem(graphs.edge_list([(0, 1)], 2))
    price = sampler.plan(hamiltonian, 10)["qpu_seconds"]
    server.fail_next(kind, times=None, stage=stage)
    for _ in range(5):
        with pytest.raises(SamplerError):
            sampler.sample(hamiltonian, 10)
    assert len(server.submissions) * price <= 0.05 + 1e-9


@pytest.mark.parametrize("kind", ["offline", "quota", "retired"])
def test_the_price_of_a_job_that_never_ran_is_given_back(annealer, server, tmp_path, kind):
    sampler = annealer(beta=2.0, max_qpu_seconds=0.05)
    sampler.attach(tmp_path)
    hamiltonian = problem(graphs.edge_list([(0, 1)], 2))
    sampler.sample(hamiltonian, 10)
    ledger = json.loads((tmp_path / sampler.meter.ledger).read_text())
    assert 0 < ledger["qpu_seconds"] == sampler.meter.seconds < 0.05
    server.fail_next(kind, times=None, stage="submit")
    for _ in range(3):
        with pytest.raises(SamplerError):
            sampler.sample(hamiltonian, 10)
    assert json.loads((tmp_path / sampler.meter.ledger).read_text())["qpu_seconds"] == ledger["qpu_seconds"]
    assert sampler.meter.seconds == ledger["qpu_seconds"]


def test_a_budgeted_run_keeps_enough_for_the_samples_of_its_evaluation(server, tmp_path, whole_reports):
    config = qvae.load_config("digits", [*RUN, "training.epochs=50", "sampler.options.max_qpu_seconds=0.5"])
    run = qvae.train(config, tmp_path / "run")
    assert "samples_reason" not in run.evaluation["frechet"]


def test_a_report_spends_nothing_and_loses_nothing(server, tmp_path, monkeypatch, whole_reports):
    run = qvae.train(qvae.load_config("digits", RUN), tmp_path / "run")
    picture = run.path / "figures" / "samples.png"
    assert picture.exists()
    server.submissions.clear()
    report(load_run(run.path))
    assert not server.submissions  # nobody asked for paid samples
    monkeypatch.delenv("DWAVE_API_TOKEN")
    report(load_run(run.path))
    assert picture.exists()


# Recordings -----------------------------------------------------------------------------------------------------------


def test_a_recorded_run_that_failed_and_went_on_can_be_played(server, tmp_path, monkeypatch):
    recording = tmp_path / "recording.jsonl"
    with monkeypatch.context() as patch:
        before_step(patch, 7, lambda: server.fail_next("offline"))
        with pytest.raises(SamplerError, match="offline"):
            qvae.train(qvae.load_config("digits", [*RUN, f"sampler.options.record={recording}"]), tmp_path / "a")
    first = resume(tmp_path / "a")
    second = qvae.train(qvae.load_config("digits", [*RUN, f"sampler.options.replay={recording}"]), tmp_path / "b")
    assert torch.equal(weights(first), weights(second))


def test_a_repeat_that_was_billed_is_billed_in_the_replay(server, tmp_path, monkeypatch):
    recording, budget = tmp_path / "recording.jsonl", ["training.epochs=50", "sampler.options.max_qpu_seconds=0.4"]
    with monkeypatch.context() as patch:
        before_step(patch, 3, lambda: server.fail_next("malformed-bits", stage="answer"))
        first = qvae.train(qvae.load_config("digits", [*RUN, *budget, f"sampler.options.record={recording}"]), tmp_path / "a")
    second = qvae.train(qvae.load_config("digits", [*RUN, *budget, f"sampler.options.replay={recording}"]), tmp_path / "b")
    assert torch.equal(weights(first), weights(second))


class Killed(KeyboardInterrupt):
    """Nobody expects it, as nobody does a kill."""


@pytest.mark.parametrize("after", [3, 17])
@pytest.mark.parametrize("is_written", [False, True])
def test_a_recording_with_a_budget_can_be_played_after_a_kill(server, tmp_path, monkeypatch, after, is_written):
    """What the kill has cost is spent in the replay, too: schedules follow the budget. The first epoch ends at call 6."""
    recording, budget = tmp_path / "recording.jsonl", ["training.epochs=50", "sampler.options.max_qpu_seconds=0.4"]
    config = qvae.load_config("digits", [*RUN, *budget, f"sampler.options.record={recording}"])
    answer, calls = RecordingSolver.answer, []

    def killed(solver, submission):
        calls.append(submission)
        if len(calls) == after:
            if is_written:
                answer(solver, submission)
            raise Killed
        return answer(solver, submission)

    monkeypatch.setattr(Trainer, "_end_epoch", _saving_end_epoch(Trainer._save))
    with monkeypatch.context() as patch:
        patch.setattr(RecordingSolver, "answer", killed)
        with pytest.raises(Killed):
            qvae.train(config, tmp_path / "a")
    first = resume(tmp_path / "a") if after > 6 else qvae.train(config, tmp_path / "a")
    second = qvae.train(qvae.load_config("digits", [*RUN, *budget, f"sampler.options.replay={recording}"]), tmp_path / "b")
    assert torch.equal(weights(first), weights(second))
    assert second.metrics[-1]["step"] == first.metrics[-1]["step"]


def test_a_kill_between_the_first_answer_and_its_entry_in_the_books(server, tmp_path, monkeypatch):
    """Found by `benchmarks/kills.py`: the books say that nothing was answered, and the recording says one."""
    recording = tmp_path / "recording.jsonl"
    config = qvae.load_config("digits", [*RUN, f"sampler.options.record={recording}"])
    answer = RecordingSolver.answer

    def killed(solver, submission):
        answer(solver, submission)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RecordingSolver, "answer", killed)
        with pytest.raises(Killed):
            qvae.train(config, tmp_path / "a")
    with pytest.raises(SamplerError, match="the recording of another run"):
        qvae.train(config, tmp_path / "b")
    first = qvae.train(config, tmp_path / "a")
    second = qvae.train(qvae.load_config("digits", [*RUN, f"sampler.options.replay={recording}"]), tmp_path / "c")
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("is_answered", [False, True])
def test_two_kills_one_soon_after_the_other(server, tmp_path, monkeypatch, is_answered):
    """Found by `benchmarks/kills.py`: the second comes before the books know that the run has gone back to its checkpoint."""
    recording = tmp_path / "recording.jsonl"
    config = qvae.load_config("digits", [*RUN, f"sampler.options.record={recording}"])
    answer, calls = RecordingSolver.answer, []

    def killed(solver, submission):
        calls.append(submission)
        if len(calls) not in (12, 13):
            return answer(solver, submission)
        if len(calls) == 12 or is_answered:
            answer(solver, submission)
        raise Killed

    monkeypatch.setattr(Trainer, "_end_epoch", _saving_end_epoch(Trainer._save))
    with monkeypatch.context() as patch:
        patch.setattr(RecordingSolver, "answer", killed)
        for work in (lambda: qvae.train(config, tmp_path / "a"), lambda: resume(tmp_path / "a")):
            with pytest.raises(Killed):
                work()
    first = resume(tmp_path / "a")
    second = qvae.train(qvae.load_config("digits", [*RUN, f"sampler.options.replay={recording}"]), tmp_path / "b")
    assert torch.equal(weights(first), weights(second))


def test_a_run_does_not_go_on_with_another_s_recording(server, tmp_path):
    one, other = (f"sampler.options.record={tmp_path / name}" for name in ("one.jsonl", "other.jsonl"))
    qvae.train(qvae.load_config("digits", [*RUN, one]), tmp_path / "a")
    qvae.train(qvae.load_config("digits", [*RUN, other, "training.epochs=1"]), tmp_path / "b")
    before = (tmp_path / "one.jsonl").read_bytes()
    with pytest.raises(SamplerError, match="the recording of another run"):
        resume(tmp_path / "b", ["training.epochs=2", one])
    assert (tmp_path / "one.jsonl").read_bytes() == before


def test_a_replay_goes_on_after_a_kill(server, tmp_path, monkeypatch):
    recording, budget = tmp_path / "recording.jsonl", ["training.epochs=50", "sampler.options.max_qpu_seconds=0.4"]
    first = qvae.train(qvae.load_config("digits", [*RUN, *budget, f"sampler.options.record={recording}"]), tmp_path / "a")
    answer, calls = RecordedSolver.answer, []

    def killed(solver, submission):
        calls.append(submission)
        if len(calls) == 12:
            raise Killed
        return answer(solver, submission)

    monkeypatch.setattr(Trainer, "_end_epoch", _saving_end_epoch(Trainer._save))
    with monkeypatch.context() as patch:
        patch.setattr(RecordedSolver, "answer", killed)
        with pytest.raises(Killed):
            qvae.train(qvae.load_config("digits", [*RUN, *budget, f"sampler.options.replay={recording}"]), tmp_path / "b")
    assert torch.equal(weights(first), weights(resume(tmp_path / "b")))


def test_a_run_that_goes_on_may_start_a_recording(server, tmp_path):
    qvae.train(qvae.load_config("digits", [*RUN, "training.epochs=1"]), tmp_path / "run")
    run = resume(tmp_path / "run", ["training.epochs=2", f"sampler.options.record={tmp_path / 'new.jsonl'}"])
    assert run.metrics[-1]["epoch"] == 2


def test_a_recorded_run_opens_from_another_folder(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = qvae.load_config("digits", [*RUN, "training.epochs=1", "sampler.options.record=recording.jsonl"])
    qvae.train(config, tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(load_run(tmp_path / "run").prior_spins(5)) == 5
    assert not list((tmp_path / "elsewhere").iterdir())


def test_generating_after_a_kill_leaves_the_recording_whole(server, tmp_path, monkeypatch):
    """The ledger may be older than the checkpoint by what was sampled in a second."""
    recording = tmp_path / "recording.jsonl"
    config = qvae.load_config("digits", [*RUN, f"sampler.options.record={recording}"])

    class Killed(KeyboardInterrupt):
        pass

    def kill():
        shutil.copytree(tmp_path / "run", tmp_path / "killed")
        shutil.copy(recording, tmp_path / "killed.jsonl")
        raise Killed

    save = Trainer._save
    with monkeypatch.context() as patch:
        before_step(patch, 10, kill)
        patch.setattr(Trainer, "_end_epoch", _saving_end_epoch(save))
        with pytest.raises(Killed):
            qvae.train(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    shutil.move(tmp_path / "killed", tmp_path / "run")
    shutil.copy(tmp_path / "killed.jsonl", recording)
    load_run(tmp_path / "run").prior_spins(5)
    first = resume(tmp_path / "run")
    plain = [setting for setting in RUN if "record" not in setting]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_end_epoch", _saving_end_epoch(save))
        second = qvae.train(qvae.load_config("digits", [*plain, f"sampler.options.replay={recording}"]), tmp_path / "b")
    assert torch.equal(weights(first), weights(second))


def _saving_end_epoch(save):
    end = Trainer._end_epoch

    def patched(trainer):
        end(trainer)
        save(trainer)

    return patched


# Solvers --------------------------------------------------------------------------------------------------------------


def test_a_repeat_goes_to_the_solver_of_before(annealer, server, monkeypatch):
    """After a fault the client is made anew: where no solver is named, it may find another one."""
    monkeypatch.setenv("DWAVE_API_SOLVER", "")
    sampler = annealer()
    hamiltonian = problem(graphs.complete(5))
    sampler.sample(hamiltonian, 10)
    other = copy.deepcopy(server.definition)
    other["identity"]["name"] = "another_annealer"
    monkeypatch.setattr(server, "definition", other)
    monkeypatch.setattr(server, "solver_name", "another_annealer")
    server.fail_next("500", stage="submit")
    with pytest.raises(SamplerError, match="no longer there|no solver|offline"):
        sampler.sample(hamiltonian, 10)


def test_a_native_run_whose_qubit_has_died_says_so(server, tmp_path, monkeypatch):
    everything = len(server.definition["properties"]["qubits"])
    quick = ["training.epochs=1", "evaluation.log_z_chains=2", "evaluation.log_z_temperatures=2"]
    config = qvae.load_config("digits", [*RUN, *quick, f"model.latent.sizes=[{everything}]"])
    run = qvae.train(config, tmp_path / "run")
    dead = json.loads((run.path / "embedding.json").read_text())["chains"][0][0]
    definition = copy.deepcopy(server.definition)
    properties = definition["properties"]
    properties["qubits"].remove(dead)
    properties["couplers"] = [pair for pair in properties["couplers"] if dead not in pair]
    monkeypatch.setattr(server, "definition", definition)
    (run.path / "prior_samples.safetensors").unlink()
    with pytest.raises(SamplerError) as caught:
        load_run(run.path).prior_spins(5)
    assert "model.latent.graph: native" not in str(caught.value)  # it is native already
    assert "gibbs" in str(caught.value)


def test_a_run_with_a_fallback_goes_on_while_the_service_is_down(server, tmp_path):
    qvae.train(qvae.load_config("digits", [*RUN, "training.epochs=1", "training.fallback=gibbs"]), tmp_path / "run")
    server.fail_next("503", times=None, stage="solvers")
    run = resume(tmp_path / "run", ["training.epochs=2"])
    assert run.metrics[-1]["epoch"] == 2
