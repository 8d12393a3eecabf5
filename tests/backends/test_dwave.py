"""The annealer, through D-Wave's own client and a local server that speaks its protocol."""

import json
import os
import pickle
import re

import numpy as np
import pytest
import torch

import qvae
from qvae.errors import BudgetExhausted, CapabilityError, SamplerError
from qvae.ising import graphs
from qvae.ising.exact import exact_distribution, spin_states
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.conditional import sample_given
from qvae.sampling.diagnostics import effective_beta, expected_total_variation, total_variation
from qvae.sampling.sampler import Moments
from qvae.workflow import resume

pytest.importorskip("dwave.system", reason="needs the extra: pip install -e '.[dwave]'")

from solver_server import FAULTS


def problem(graph, strength=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = 0.4 * torch.randn(graph.num_spins, generator=generator)
    return IsingHamiltonian(h, graph, strength * torch.randn(graph.num_edges, generator=generator))


def deviation(samples, hamiltonian):
    """The largest deviation of the moments from the exact ones, in standard errors of as many perfect samples."""
    exact = torch.cat(exact_distribution(hamiltonian).moments())
    found = Moments.from_samples(samples, hamiltonian.to(dtype=torch.float64))
    error = ((1 - exact**2) / len(samples)).sqrt().clamp_min(1e-4)
    return float(((torch.cat([found.spins, found.pairs]) - exact).abs() / error).max())


def is_gibbs(samples, hamiltonian):
    """Total variation within what as many perfect samples show, with a false alarm in a million."""
    exact = exact_distribution(hamiltonian)
    allowed = expected_total_variation(exact, len(samples)) + np.sqrt(np.log(1e6) / (2 * len(samples)))
    return total_variation(samples, exact) < allowed


# Distribution and temperature -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_native_samples_belong_to_beta_1_at_any_temperature_of_the_annealer(annealer, server, beta):
    server.beta = beta
    sampler = annealer()
    hamiltonian = problem(sampler.native_graph(10), 0.3)
    for _ in range(5):
        info = sampler.sample(hamiltonian, 2000).info
    assert abs(info["device_beta"] - beta) < 4 * info["device_beta_stderr"] + 0.01 * beta
    samples = sampler.sample(hamiltonian, 10_000)
    # The temperature is known to a percent or two, which shifts moments by as much of themselves.
    assert deviation(samples, hamiltonian) < 5 + 0.03 * np.sqrt(10_000)
    assert is_gibbs(samples, hamiltonian)
    assert samples.info["clipped"] == 0.0


def test_held_spins_condition_the_others(annealer, server):
    """They leave fields behind on their neighbours, which the annealer is sent in their place."""
    server.beta = 1.0
    sampler = annealer()
    hamiltonian = problem(sampler.native_graph(10), 0.6)
    held, values = [7, 2], torch.tensor([1, -1])
    for _ in range(5):  # the temperature is then known to a percent or two
        sample_given(sampler, hamiltonian, 2000, held, values.tolist())
    samples = sample_given(sampler, hamiltonian, 10_000, held, values.tolist())
    assert (samples.spins[:, held] == values).all()
    states, p = spin_states(10), exact_distribution(hamiltonian).log_probabilities.exp()
    p = torch.where((states[:, held] == values).all(1), p, 0.0)
    means = (p / p.sum()) @ states.double()
    error = ((1 - means**2).clamp_min(1e-6) / 10_000).sqrt()
    found = samples.spins.double().mean(0)
    assert ((found - means).abs() / error).max() < 5 + 0.03 * np.sqrt(10_000)


def test_without_the_correction_the_samples_are_of_another_temperature(annealer, server):
    hamiltonian = problem(annealer().native_graph(10))
    uncorrected = annealer(beta=1.0)
    found = effective_beta(uncorrected.sample(hamiltonian, 5000), hamiltonian)
    assert abs(found.value - 2.0) < 5 * found.stderr


def test_a_guess_that_is_far_off_is_corrected_before_samples_are_given_away(annealer, server):
    server.beta = 15.0
    sampler = annealer()
    hamiltonian = problem(sampler.native_graph(10))
    samples = sampler.sample(hamiltonian, 2000)
    assert samples.info["submissions"] > 1
    assert abs(effective_beta(samples, hamiltonian).value - 1) < 0.2


def test_what_is_out_of_range_is_clipped_and_told(annealer, server):
    sampler = annealer(beta=1.0)
    hamiltonian = problem(sampler.native_graph(20), strength=2.0)
    share = float((hamiltonian.J.abs() > 1).sum() + (hamiltonian.h.abs() > 4).sum()) / (20 + len(hamiltonian.J))
    samples = sampler.sample(hamiltonian, 10)
    assert samples.info.clipped == pytest.approx(share)
    (advice,) = samples.advice
    assert advice.kind == "clipped"
    assert re.match(r"\d+% of the fields and couplings are beyond .* is only 1\.00: .*; anneal more slowly", advice.text)
    sent = server.submissions[-1]
    assert sent["parameters"]["auto_scale"] is False
    assert np.nanmax(np.abs(sent["quad"])) == 1.0


def test_the_temperature_is_told_from_what_was_sent_also_where_that_was_clipped(annealer, server):
    server.beta = 1.0
    sampler = annealer()
    hamiltonian = problem(sampler.native_graph(10), strength=1.5)
    for _ in range(3):
        info = sampler.sample(hamiltonian, 1000).info
    assert info["clipped"] > 0.2
    assert abs(info["device_beta"] - 1) < 4 * info["device_beta_stderr"] + 0.01


def test_a_temperature_near_the_control_errors_is_told(annealer, server):
    sampler = annealer(beta=30.0)
    samples = sampler.sample(problem(sampler.native_graph(10)), 10)
    assert [advice.kind for advice in samples.advice] == ["cold"]
    assert "is 30: what is submitted" in samples.advice[0].text
    assert Moments.from_samples(samples, problem(sampler.native_graph(10))).advice == samples.advice
    assert not annealer(beta=2.0).sample(problem(sampler.native_graph(10), 0.2), 10).advice


def test_spin_reversals_change_what_is_sent_and_not_what_comes_back(annealer, server):
    sampler = annealer(beta=2.0)
    hamiltonian = problem(sampler.native_graph(8))
    found = [sampler.sample(hamiltonian, 4000) for _ in range(3)]
    assert all(is_gibbs(samples, hamiltonian) for samples in found)
    sent = [np.nan_to_num(s["lin"]) for s in server.submissions]
    assert not np.array_equal(sent[0], sent[1])
    np.testing.assert_allclose(np.abs(sent[0]), np.abs(sent[1]))
    annealer(beta=2.0, spin_reversal=False).sample(hamiltonian, 10)
    plain = np.nan_to_num(server.submissions[-1]["lin"])
    np.testing.assert_allclose(np.sort(plain[plain != 0]), np.sort(hamiltonian.h.double().numpy() / 2), rtol=1e-6)


# Embedding ------------------------------------------------------------------------------------------------------------


def test_discarding_broken_chains_is_unbiased_and_repairing_them_is_not(annealer, server):
    hamiltonian = problem(graphs.complete(7), 0.6)
    options = {"beta": 2.0, "chain_strength": 0.4}
    discarded = annealer(**options).sample(hamiltonian, 8000)
    repaired = annealer(**options, chain_breaks="repair").sample(hamiltonian, 8000)
    assert 0.2 < discarded.info["chain_break_fraction"] < 0.9
    assert deviation(discarded, hamiltonian) < 5
    assert deviation(repaired, hamiltonian) > 8
    assert is_gibbs(discarded, hamiltonian)
    assert len(discarded) == len(repaired) == 8000


def test_chains_that_all_break_are_said_with_the_remedy(annealer, server):
    with pytest.raises(SamplerError, match="chain_strength"):
        annealer(beta=2.0, chain_strength=1e-3).sample(problem(graphs.complete(12)), 200)


def test_fields_and_couplings_are_spread_as_the_library_does(annealer, server):
    import dimod
    from dwave.embedding import EmbeddedStructure

    sampler = annealer()
    hamiltonian = problem(graphs.complete(6))
    sampler.check(hamiltonian)
    placement, structure = sampler._placement, sampler._solver.structure
    fields, couplings = hamiltonian.h.double().numpy(), hamiltonian.J.double().numpy()
    on_qubits, on_couplers = placement.spread(fields, couplings, 0.7)
    model = dimod.BinaryQuadraticModel(
        dict(enumerate(fields)),
        {tuple(edge): J for edge, J in zip(hamiltonian.edges.tolist(), couplings, strict=True)},
        0.0,
        "SPIN",
    )
    embedding = EmbeddedStructure([(u, v) for u, v in structure.edges if u < v], dict(enumerate(placement.chains)))
    expected = embedding.embed_bqm(model, chain_strength=0.7)
    assert dict(zip(placement.qubits.tolist(), on_qubits, strict=True)) == pytest.approx(dict(expected.linear))
    assert len(placement.couplers) == expected.num_interactions
    for (u, v), value in zip(placement.couplers.tolist(), on_couplers, strict=True):
        assert expected.get_quadratic(u, v) == pytest.approx(value)


@pytest.mark.parametrize("graph", [graphs.rbm(12, 12), graphs.complete(12), graphs.edge_list([(0, 1), (1, 2), (0, 2)], 5)])
def test_every_graph_finds_its_place_and_keeps_it(annealer, server, tmp_path, graph):
    first = annealer()
    first.attach(tmp_path)
    hamiltonian = problem(graph)
    first.sample(hamiltonian, 5)
    first.close()
    saved = json.loads((tmp_path / "embedding.json").read_text())
    again = annealer()
    again.attach(tmp_path)
    # The same qubits are taken, since the file says so and not since the search finds them again.
    moved = saved["chains"][::-1] if graph.num_edges == 12 * 11 // 2 else saved["chains"]
    (tmp_path / "embedding.json").write_text(json.dumps(saved | {"chains": moved}))
    again.check(hamiltonian)
    assert again._placement.chains == moved


def test_a_saved_embedding_on_qubits_that_are_gone_is_made_again(annealer, server, tmp_path):
    hamiltonian = problem(graphs.complete(4))
    chains = [[q] for q in (0, 1, 2, 3)]  # not coupled
    text = {"solver": server.solver_name, "edges": hamiltonian.edges.tolist(), "chains": chains}
    (tmp_path / "embedding.json").write_text(json.dumps(text))
    sampler = annealer()
    sampler.attach(tmp_path)
    sampler.check(hamiltonian)
    assert sampler._placement.chains != chains


def test_what_does_not_fit_is_refused_with_the_remedy(annealer, server):
    with pytest.raises(CapabilityError, match="don't fit.*native"):
        annealer().check(problem(graphs.complete(300)))
    with pytest.raises(CapabilityError, match="hang together"):
        annealer().native_graph(10_000)
    with pytest.raises(CapabilityError, match="transverse field"):
        annealer().check(IsingHamiltonian([0.0], [], [], gamma=1.0))


# Modes ----------------------------------------------------------------------------------------------------------------


def test_anneals_are_those_that_were_asked_for(annealer, server):
    hamiltonian = problem(graphs.edge_list([(0, 1)], 2))
    annealer(annealing_time=50.0).sample(hamiltonian, 5)
    assert server.submissions[-1]["parameters"]["annealing_time"] == 50.0
    annealer(annealing_time=0.02, fast_anneal=True).sample(hamiltonian, 5)
    assert server.submissions[-1]["parameters"]["fast_anneal"] is True
    pause = [[0, 0], [10, 0.4], [30, 0.4], [40, 1]]
    annealer(anneal_schedule=pause).sample(hamiltonian, 5)
    assert server.submissions[-1]["parameters"]["anneal_schedule"] == pause
    annealer(parameters={"reduce_intersample_correlation": True}).sample(hamiltonian, 5)
    assert server.submissions[-1]["parameters"]["reduce_intersample_correlation"] is True


def test_a_reverse_anneal_starts_from_the_last_read(annealer, server):
    # It never goes below the fraction at which spins move, so the state that it starts from is the one that it returns.
    sampler = annealer(anneal_schedule=[[0, 1], [5, 0.9], [10, 1]], beta=2.0)
    hamiltonian = problem(sampler.native_graph(12))
    assert bool((sampler.sample(hamiltonian, 20).spins == 1).all())
    forward = annealer(beta=2.0)
    forward.sample(hamiltonian, 20)
    last = forward.sample(hamiltonian, 20).spins[-1]
    sampler.load_state_dict(forward.state_dict())
    assert bool((sampler.sample(hamiltonian, 20).spins == last).all())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"annealing_time": 1e9}, "annealing_time takes.*microseconds, but solver"),
        ({"annealing_time": 1e-4, "fast_anneal": True}, "with fast_anneal"),
        ({"parameters": {"anealing_offsets": []}}, "did you mean"),
        ({"anneal_schedule": [[0, 0], [5, 0.3]]}, "refuses its options.*anneal_schedule"),
        ({"anneal_schedule": [[0, 0], [5, 1]], "annealing_time": 3.0}, "both given"),
        ({"chain_breaks": "mend"}, "discard or repair"),
        ({"beta": -1.0}, "above 0"),
        ({"record": "a", "replay": "b"}, "both given"),
        ({"parameters": {"num_reads": 5}}, "drop it"),
        ({"token": "x"}, "no option 'token'"),
    ],
)
def test_options_that_can_t_be_are_refused_in_words(annealer, server, options, words):
    with pytest.raises(SamplerError, match=words):
        annealer(**options).check(problem(graphs.edge_list([(0, 1)], 2)))
    assert not server.submissions


# Cost -----------------------------------------------------------------------------------------------------------------


def test_the_plan_is_what_a_call_costs(annealer, server):
    sampler = annealer(beta=2.0)
    hamiltonian = problem(sampler.native_graph(30), 0.2)
    plan = sampler.plan(hamiltonian, 500)
    assert not server.submissions
    assert plan["qpu_seconds"] == pytest.approx(sampler.sample(hamiltonian, 500).info["qpu_seconds"], rel=0.02)
    assert plan["qubits"] == 30
    assert plan["longest chain"] == 1


def test_more_reads_than_a_job_may_take_are_several_jobs(annealer, server):
    sampler = annealer(beta=2.0, annealing_time=500.0)
    hamiltonian = problem(sampler.native_graph(6))
    plan = sampler.plan(hamiltonian, 4000)
    samples = sampler.sample(hamiltonian, 4000)
    assert samples.info["submissions"] == plan["submissions"] == len(server.submissions) > 1
    assert len(samples) == 4000


def test_the_budget_is_never_exceeded(annealer, server, tmp_path):
    sampler = annealer(beta=2.0, max_qpu_seconds=0.2)
    sampler.attach(tmp_path)
    hamiltonian = problem(sampler.native_graph(6))
    calls = int(0.2 / sampler.plan(hamiltonian, 100)["qpu_seconds"])
    for _ in range(calls):
        sampler.sample(hamiltonian, 100)
    with pytest.raises(BudgetExhausted, match="max_qpu_seconds"):
        sampler.sample(hamiltonian, 100)
    assert 0.1 < sampler.meter.seconds <= 0.2
    assert 0.5 < sampler.budget_share <= 1
    sampler.close()
    # Of the folder, so that another process doesn't begin anew.
    again = annealer(beta=2.0, max_qpu_seconds=0.2)
    again.attach(tmp_path)
    with pytest.raises(BudgetExhausted):
        again.sample(hamiltonian, 100)


# Faults ---------------------------------------------------------------------------------------------------------------

_FINAL = {"401", "403", "404", "retired", "offline", "quota"}


@pytest.mark.parametrize(("kind", "stage"), [(kind, stage) for kind in FAULTS for stage in FAULTS[kind] if stage != "solvers"])
def test_faults_that_pass_are_waited_for_and_others_said(annealer, server, kind, stage):
    sampler = annealer(timeout=1.0, retries=1)
    hamiltonian = problem(graphs.edge_list([(0, 1)], 2))
    sampler.check(hamiltonian)
    server.fail_next(kind, stage=stage)
    if kind not in _FINAL:
        assert len(sampler.sample(hamiltonian, 10)) == 10
        server.fail_next(kind, times=None, stage=stage)
    words = r"gave no samples.*: .*\. Go on later \(a training with --resume\), .*--sampler gibbs"
    with pytest.raises(SamplerError, match=words) as caught:
        sampler.sample(hamiltonian, 10)
    assert server.token not in str(caught.value)
    server.recover()
    assert len(sampler.sample(hamiltonian, 10)) == 10


def test_each_fault_says_whether_it_helps_to_repeat_and_whether_time_was_spent():
    import requests
    from dwave.cloud import exceptions as cloud
    from qvae_backends.dwave_solver import _fault

    def failed(code):
        error = cloud.SolverError("of the server")
        error.error_code = code
        return error

    for error, words, helps, spent in (
        (cloud.SolverAuthenticationError("no"), "the token is not accepted", False, False),
        (failed(403), "the token is not accepted", False, False),
        (cloud.SolverOfflineError("no"), "the solver is offline", False, False),
        (cloud.SolverFailureError("the solver is Offline"), "the solver is offline", False, False),
        (cloud.SolverNotFoundError("no"), "the solver is no longer there", False, False),
        (cloud.SolverFailureError("over quota"), "access time is used up", False, False),
        (cloud.SolverFailureError("insufficient remaining solver access time"), "access time is used up", False, False),
        (failed(404), "the solver is no longer there", False, False),
        (SamplerError("of ours."), "of ours", False, False),
        (failed(429), "too many requests", True, False),
        (cloud.PollingTimeout("no"), "the job was not done in time", True, True),
        (cloud.CanceledFutureError(), "the job was cancelled", True, False),
        (ValueError("no such qubit"), "doesn't take the submission (no such qubit)", False, False),
        (cloud.InvalidAPIResponseError("no"), "the service's answer can't be read", True, True),
        (requests.ConnectionError("no"), "the connection to the service broke", True, False),
        (failed(500), "the service failed (error 500)", True, False),
        (cloud.SolverFailureError("burnt"), "the solver failed on the job (burnt)", True, False),
        (RuntimeError("a secret"), "the client failed (RuntimeError)", True, False),
    ):
        fault = _fault(error)
        assert words in str(fault)
        assert (fault.helps_to_repeat, fault.has_run) == (helps, spent), words


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if "solvers" in FAULTS[kind]])
def test_a_service_that_can_t_be_used_is_said_at_once(annealer, server, kind):
    server.fail_next(kind, times=None, stage="solvers")
    with pytest.raises(SamplerError, match=r"gibbs|dwave ping|dwave solvers"):
        annealer(timeout=1.0).describe()


def test_a_missing_token_names_both_remedies(annealer, server, monkeypatch):
    monkeypatch.delenv("DWAVE_API_TOKEN")
    with pytest.raises(SamplerError, match=r"dwave setup --auth.*DWAVE_API_TOKEN"):
        annealer().describe()


def test_a_wrong_token_is_said_and_not_shown(annealer, server, monkeypatch):
    monkeypatch.setenv("DWAVE_API_TOKEN", "wrong-secret")
    with pytest.raises(SamplerError, match="token is not accepted") as caught:
        annealer().describe()
    assert "wrong-secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_unknown_solver_is_said(annealer, server):
    with pytest.raises(SamplerError, match="no solver 'Advantage9' is online and open"):
        annealer(solver="Advantage9").describe()


@pytest.mark.parametrize("named", [{}, {"solver": "mine", "region": "eu-central-1"}])
def test_a_solver_that_is_named_may_be_of_any_kind_and_else_the_client_takes_an_annealer(named, monkeypatch):
    from dwave.system import DWaveSampler
    from qvae_backends.dwave_solver import LeapSolver

    seen = []

    def connect(self, **settings):
        seen.append(settings)
        raise RuntimeError

    monkeypatch.setattr(DWaveSampler, "__init__", connect)
    with pytest.raises(SamplerError):
        LeapSolver(named, 7.0)
    assert named.items() <= seen[0].items()
    assert seen[0].get("client") == ("base" if named else None)
    assert (seen[0]["polling_timeout"], seen[0]["cache_enabled"]) == (7.0, False)


def test_a_submission_returns_at_once(annealer, server):
    server.latency = 0.5
    sampler = annealer()
    hamiltonian = problem(graphs.edge_list([(0, 1)], 2))
    sampler.check(hamiltonian)
    future = sampler.submit(hamiltonian, 10)
    assert not future.done()
    assert len(future.result(timeout=20)) == 10


# Recordings and state -------------------------------------------------------------------------------------------------


def test_a_recording_plays_without_a_network_and_only_what_was_recorded(annealer, server, tmp_path, monkeypatch):
    file = tmp_path / "recording.jsonl"
    first = annealer(record=str(file))
    hamiltonian = problem(graphs.complete(5))
    recorded = [first.sample(hamiltonian, 50).spins for _ in range(3)]
    first.close()
    for name in server.environment():
        monkeypatch.delenv(name)
    played = annealer(replay=str(file))
    assert all(torch.equal(played.sample(hamiltonian, 50).spins, spins) for spins in recorded)
    with pytest.raises(SamplerError, match="ends after"):
        played.sample(hamiltonian, 50)
    with pytest.raises(SamplerError, match="another one than in the recording"):
        annealer(replay=str(file)).sample(problem(graphs.complete(5), seed=9), 50)
    with pytest.raises(SamplerError, match="can't be read"):
        annealer(replay=str(tmp_path / "none")).describe()
    (tmp_path / "other").write_text("nothing\n")
    with pytest.raises(SamplerError, match="no recording"):
        annealer(replay=str(tmp_path / "other")).describe()


def test_a_recording_is_not_written_over(annealer, server, tmp_path):
    file = tmp_path / "recording.jsonl"
    first = annealer(record=str(file))
    first.sample(problem(graphs.complete(4)), 5)
    first.close()
    with pytest.raises(SamplerError, match="another run"):
        annealer(record=str(file)).describe()


def test_state_and_pickle_go_on(annealer, server, tmp_path):
    first = annealer(record=str(tmp_path / "r"))
    hamiltonian = problem(graphs.complete(5))
    first.sample(hamiltonian, 200)
    state = first.state_dict()
    expected = first.sample(hamiltonian, 200).spins
    first.close()
    second = annealer(replay=str(tmp_path / "r"))
    second.load_state_dict(state)
    copied = pickle.loads(pickle.dumps(second))
    assert torch.equal(second.sample(hamiltonian, 200).spins, expected)
    assert torch.equal(copied.sample(hamiltonian, 200).spins, expected)
    with pytest.raises(SamplerError, match="of another one"):
        second.load_state_dict({"chains": torch.zeros(1)})


def test_the_conformance_suite_passes(server):
    from qvae.testing import run_checks

    results = list(run_checks("dwave", timeout=5.0, seed=1))
    assert not [result for result in results if result.outcome == "failed"]


# Runs -----------------------------------------------------------------------------------------------------------------

RUN = [
    "sampler.name=dwave",
    "sampler.options.retry_seconds=0.01",
    "sampler.options.retries=1",
    "sampler.options.timeout=2.0",
    "model.latent.graph=native",
    "model.latent.sizes=[12]",
    "model.network.hidden=[16]",
    "training.epochs=3",
    "training.chains=32",
    "evaluation.importance_samples=5",
    "evaluation.num_test=40",
    "evaluation.num_generated=100",
    "evaluation.probes=false",
    "evaluation.tsne_every=0",
]


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def test_a_native_run_opens_and_goes_on_without_a_token(server, tmp_path, monkeypatch, whole_reports):
    run = qvae.train(qvae.load_config("digits", RUN), tmp_path / "run")
    assert run.model.prior.num_spins == 12
    last = run.metrics[-1]
    assert last["qpu_seconds"] > 0
    assert abs(last["device_beta"] - 2) < 5 * last["device_beta_stderr"] + 0.1
    assert {"qpu_seconds_per_call", "energy_beta", "energy_beta_stderr", "clipped"} <= set(last)
    assert run.evaluation["frechet"]["distances"]["samples of the prior"]["value"] > 0
    for name in server.environment():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DWAVE_CONFIG_FILE", os.devnull)
    opened = qvae.load_run(tmp_path / "run")
    assert torch.equal(weights(opened), weights(run))
    longer = resume(tmp_path / "run", ["training.epochs=4", "sampler.name=gibbs"])
    assert longer.metrics[-1]["epoch"] == 4


def test_a_recorded_training_is_repeated_bit_by_bit(server, tmp_path, monkeypatch):
    recording = tmp_path / "recording.jsonl"
    first = qvae.train(qvae.load_config("digits", [*RUN, f"sampler.options.record={recording}"]), tmp_path / "a")
    for name in server.environment():
        monkeypatch.delenv(name, raising=False)
    second = qvae.train(qvae.load_config("digits", [*RUN, f"sampler.options.replay={recording}"]), tmp_path / "b")
    assert torch.equal(weights(first), weights(second))
    assert first.evaluation["frechet"] == second.evaluation["frechet"]


def test_a_budget_ends_training_with_a_checkpoint_and_an_evaluation(server, tmp_path):
    run = qvae.train(qvae.load_config("digits", [*RUN, "sampler.options.max_qpu_seconds=0.3"]), tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert 0 < run.metrics[-1]["step"] < 15
    assert run.metrics[-1]["kl_weight"] == 1.0  # schedules follow the budget
    assert "samples_reason" not in run.evaluation["frechet"]  # something was kept back for them
    assert json.loads((tmp_path / "run" / "annealer.json").read_text())["qpu_seconds"] <= 0.3
    assert "QPU time are spent" in (tmp_path / "run" / "report.html").read_text()
    longer = resume(tmp_path / "run", ["sampler.options.max_qpu_seconds=30"])
    assert longer.metrics[-1]["step"] == 15
    assert longer.metrics[-1]["qpu_seconds"] < 30


def test_a_solver_that_goes_offline_costs_the_step_in_flight(server, tmp_path):
    from qvae.training.trainer import Trainer

    step = Trainer._train_step

    def until_the_seventh(trainer, images):
        if trainer.step == 7:
            server.fail_next("offline", times=None)
        step(trainer, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_step", until_the_seventh)
        with pytest.raises(SamplerError, match="the solver is offline"):
            qvae.train(qvae.load_config("digits", RUN), tmp_path / "run")
    server.recover()
    assert qvae.load_run(tmp_path / "run").model is not None
    run = resume(tmp_path / "run")
    assert run.metrics[-1]["step"] == 15


def test_a_fallback_goes_on_and_says_so(server, tmp_path):
    server.fail_next("problem-failed", times=None)
    run = qvae.train(qvae.load_config("digits", [*RUN, "training.fallback=gibbs"]), tmp_path / "run")
    assert run.metrics[-1]["step"] == 15
    report = (tmp_path / "run" / "report.html").read_text()
    assert "goes on with the fallback" in report


def test_chaos_ends_in_words_or_not_at_all(server, tmp_path):
    """Random faults in a tenth of all requests: every run is finished, or stopped in one sentence and can be resumed."""
    server.chaos(0.1, seed=3)
    settings = [*RUN, "sampler.options.timeout=0.5"]
    said, folder = [], tmp_path / "run"
    for _ in range(60):
        try:
            if (folder / "checkpoint.safetensors").exists():
                resume(folder)
            else:
                qvae.train(qvae.load_config("digits", settings), folder)
            break
        except SamplerError as error:
            said.append(str(error))
    assert qvae.load_run(folder).metrics[-1]["step"] == 15
    assert server.faults
    assert all("gibbs" in text or "dwave" in text for text in said)
    assert not [text for text in said if server.token in text]


# The command line -----------------------------------------------------------------------------------------------------


def sets(settings):
    return [part for setting in settings for part in ("--set", setting)]


def test_check_and_dry_run_submit_nothing(server, command):
    code, out, _ = command("samplers", "check", "dwave")
    assert code == 0
    assert "zephyr" in out
    assert "QPU access time" in out
    budget = "sampler.options.max_qpu_seconds=0.5"
    code, out, _ = command("train", "digits", "--dry-run", *sets([*RUN, budget]))
    assert code == 0
    assert "QPU seconds of the training" in out
    assert "budget of the training" in out
    assert not server.submissions
    assert not os.path.exists("runs")


def test_without_a_token_one_sentence(server, command, monkeypatch):
    monkeypatch.delenv("DWAVE_API_TOKEN")
    code, _, err = command("train", "digits", "--sampler", "dwave")
    assert code == 2
    assert "dwave setup --auth" in err
    assert err.count("\n") == 1


FAMILIES = [(None, "zephyr"), ("Advantage_system6.4", "pegasus"), ("DW_2000Q_6", "chimera")]


@pytest.mark.parametrize(("solver", "family"), FAMILIES)
def test_a_dry_run_without_a_token_is_planned_on_an_ideal_graph(solver, family, server, command, monkeypatch):
    monkeypatch.delenv("DWAVE_API_TOKEN")
    named = [] if solver is None else [f"sampler.options.solver={solver}"]
    small = [*RUN, "model.latent.graph=native", "model.latent.sizes=[12]", "sampler.options.annealing_time=50", *named]
    code, out, err = command("train", "digits", "--dry-run", *sets(small))
    assert (code, err) == (0, "")
    assert f"ideal {family} graph" in " ".join(out.split())
    assert "QPU seconds of the training" in out


def test_the_token_is_written_nowhere(server, command, tmp_path, caplog):
    caplog.set_level("DEBUG")
    settings = sets([*RUN, f"sampler.options.record={tmp_path / 'recording.jsonl'}"])
    printed = [*command("samplers", "check", "dwave"), *command("train", "digits", "--dry-run", *settings)]
    printed += command("train", "digits", "--out", tmp_path / "run", *settings)
    printed += command("generate", tmp_path / "run", "--label", "3")
    server.fail_next("401", times=None)
    printed += command("evaluate", tmp_path / "run")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"report.html", "recording.jsonl", "checkpoint.safetensors"} <= {file.name for file in files}
    assert not [file for file in files if server.token.encode() in file.read_bytes()]
    assert server.token not in "".join(map(str, printed))
    assert server.token not in caplog.text
