"""Several processes, real ones on this machine, train as one would: same weights, shared chains, one verdict, one voice."""

import numpy as np
import pytest
import rank_jobs as jobs
import torch
from processes import together
from torch import nn

from qvae.checkpoint import load_checkpoint
from qvae.config.load import load_config
from qvae.errors import BudgetExhausted, ConfigError, RanksError, SamplerError
from qvae.runs.backends import own_seed
from qvae.training import ranks


@pytest.mark.parametrize(
    ("base", "settings", "counts"),
    [
        ("digits", ["sampler.name=exact", "model.latent.sizes=[4,4]"], (2, 4)),
        ("digits-vqvae", ["model.circuit.qubits=2", "model.circuit.layers=1", "model.variant=deterministic"], (2,)),
    ],
)
def test_several_processes_end_where_one_does(tmp_path, base, settings, counts):
    """With an exact sampler and the same random numbers; batch norm, clipping and averages are part of it."""
    (alone,) = together(tmp_path, 1, jobs.fifty_exact_steps, base, settings)
    for count in counts:
        for found in together(tmp_path, count, jobs.fifty_exact_steps, base, settings):
            for expected, value in zip(alone, found, strict=True):
                np.testing.assert_allclose(value, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(12, 3), (12, 3, 2, 5)])
def test_batch_norm_is_that_of_the_whole_batch(tmp_path, shape):
    x = 5 + torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (alone,) = together(tmp_path, 1, jobs.normalised, x)
    parts = together(tmp_path, 3, jobs.normalised, x)
    for place in (0, 3):  # of rows: the output, and the gradient of the input
        np.testing.assert_allclose(np.concatenate([part[place] for part in parts]), alone[place], rtol=1e-9, atol=1e-12)
    for place in (1, 2, 4, 5):
        for part in parts:
            np.testing.assert_allclose(part[place], alone[place], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_compiled_batch_norm_is_that_of_the_whole_batch(tmp_path, dtype, tolerance):
    pytest.importorskip("numba")
    generator = torch.Generator().manual_seed(0)
    spread, shift = torch.rand(5, generator=generator), torch.randn(5, generator=generator)
    x, g = (torch.randn(18, 5, generator=generator) for _ in range(2))
    x, g = (shift + spread * x).to(dtype), g.to(dtype)
    torch.manual_seed(0)
    whole = nn.Sequential(nn.BatchNorm1d(5), nn.SiLU())
    nn.init.normal_(whole[0].weight)
    whole.double()
    rows = x.double().requires_grad_()
    expected = whole(rows)
    expected.backward(g.double())
    parts, served = zip(*together(tmp_path, 3, jobs.normalised_and_activated, x, g), strict=True)
    assert served == (1, 1, 1)
    for place, value in enumerate((expected, rows.grad)):
        found = np.concatenate([part[place] for part in parts])
        np.testing.assert_allclose(found, value.detach().numpy(), rtol=tolerance, atol=tolerance)
    for place, value in ((2, whole[0].weight.grad), (3, whole[0].bias.grad)):  # of this process's rows, averaged elsewhere
        np.testing.assert_allclose(sum(part[place] for part in parts), value.numpy(), rtol=tolerance, atol=tolerance)
    for part in parts:
        np.testing.assert_allclose(part[4], whole[0].running_mean.numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(part[5], whole[0].running_var.numpy(), rtol=1e-5, atol=1e-5)


def test_gradients_of_matrices_may_be_sent_in_half_the_bytes(tmp_path):
    whole, in_halves = (together(tmp_path, 2, jobs.averaged, halves) for halves in (False, True))
    mean = pytest.approx(1.0005, rel=1e-6)
    assert whole == 2 * [([mean] * 3, [4 * (64 * 64 + 5000 + 64)])]
    assert in_halves == 2 * [([1.0, mean, mean], [2 * 64 * 64, 4 * (5000 + 64)])]  # 1.001 is 1 in bfloat16


MODELS = [
    ("digits", ["model.network={kind: conv, hidden: [4, 4]}", "model.posterior.levels=2", "training.validation=0.25"]),
    ("digits", ["sampler={name: gibbs, options: {seed: 7}}", "training.early_stopping=1", "training.validation=0.25"]),
    ("digits-vqvae", ["model.circuit.qubits=2", "training.optimizer={name: qng}"]),
    ("digits-vqvae", ["model.circuit.qubits=2", "model.critic={hidden: [8]}"]),
    ("digits-vqvae", ["model.variant=discrete", "model.circuit.qubits=3", "training.optimizer={name: spsa}"]),
    ("digits-vqgan", ["model.circuit.qubits=2", "model.gan.noise=2"]),
    ("digits-vqgan", ["model.generator=patch", "model.circuit.qubits=3"]),
]


def test_all_objectives_keep_the_same_weights_by_different_random_numbers(tmp_path):
    first, second = together(tmp_path, 2, jobs.trained, MODELS)
    for (weights, averages, numbers), (its_weights, its_averages, its_numbers) in zip(first, second, strict=True):
        np.testing.assert_array_equal(its_weights, weights)
        np.testing.assert_array_equal(its_averages, averages)
        assert its_numbers != numbers


def test_an_interrupt_of_one_stops_all_and_what_was_saved_goes_on_with_the_same_bits(tmp_path):
    found = together(tmp_path, 2, jobs.interrupted_and_resumed, [], 6)
    require_the_same_ends(found, 6)
    state = load_checkpoint(tmp_path / "checkpoint")
    assert len(state["ranks"]) == 1
    assert state["sampler"]["chains"].shape[1] == state["ranks"][0]["sampler"]["chains"].shape[1] == 128  # of 256
    for count in (1, 4):  # with other numbers of processes it goes on, too, and says so
        found = together(tmp_path, count, jobs.went_on, [])
        assert f"of 2 processes and goes on with {count}: with fresh chains" in found[0][0][0]
        assert len({str(numbers) for _, _, numbers in found}) == count
        for _, weights, _ in found:
            np.testing.assert_array_equal(weights, found[0][1])


def test_the_place_of_a_circuit_s_optimizer_goes_on(tmp_path):
    """The next angles' turn is the same in all processes, and in the checkpoint."""
    settings = ["model.circuit.qubits=2", "training.optimizer={name: rotosolve, options: {angles: 3}}"]
    found = together(tmp_path, 2, jobs.interrupted_and_resumed, settings, 5, "digits-vqvae")
    require_the_same_ends(found, 5)
    np.testing.assert_array_equal(found[0][1][0][0], found[1][1][0][0])


def require_the_same_ends(found, stop_at):
    for stopped_at, ((weights, numbers, row), (its_weights, its_numbers, its_row)) in found:
        assert stopped_at == stop_at
        np.testing.assert_array_equal(its_weights, weights)
        assert its_numbers == numbers
        assert drop_times(its_row) == drop_times(row)


def drop_times(row):
    return {key: value for key, value in row.items() if not key.startswith(("seconds", "ms_"))}


def test_seconds_are_those_of_the_first_process(tmp_path):
    (step, seconds), other = together(tmp_path, 2, jobs.limited)
    assert other == (step, seconds)
    assert seconds >= 0.5


def test_a_service_is_asked_by_the_first_process_for_all(tmp_path):
    (calls, _, steps, weights, _), other = together(tmp_path, 2, jobs.asked_far_away, BudgetExhausted("nothing is left"), False)
    assert (calls, steps) == (3, 2)
    assert (other[0], other[2]) == (0, 2)
    np.testing.assert_array_equal(other[3], weights)
    first, other = together(tmp_path, 2, jobs.asked_far_away, SamplerError("the line is dead."), True)
    assert any("Training goes on with the fallback" in text for text in first[1])
    assert (first[0], other[0]) == (3, 0)
    assert first[4] == other[4] == "GibbsSampler"
    np.testing.assert_array_equal(other[3], first[3])


@pytest.mark.parametrize("how", ["raises", "is killed"])
def test_a_process_that_ends_ends_the_others_in_words(tmp_path, how):
    *others, last = together(tmp_path, 3, jobs.dying, how)
    assert last is None if how == "is killed" else isinstance(last, SamplerError)
    for error in others:
        assert isinstance(error, RanksError)
        assert "has ended or can't be reached" in str(error)


def test_a_process_that_vanishes_is_missed_and_one_that_is_slow_is_waited_for(tmp_path):
    *others, vanished = together(tmp_path, 3, jobs.vanishing)
    assert vanished is None
    for waited, said in others:
        assert waited == [2]
        assert said.startswith("process 2 of this training has given no sign of life for 50 seconds")


def test_an_objective_that_forgets_the_others_is_found_out(tmp_path):
    for error in together(tmp_path, 2, jobs.forgetful):
        assert isinstance(error, RanksError)
        assert "BoltzmannObjective must call qvae.training.ranks.average_gradients" in str(error)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["training.batch_size=99"], "a batch of 99 rows can't be shared out among 2 processes"),
        (["training.chains=501"], "501 chains can't be shared out among 2 processes"),
    ],
)
def test_what_cant_be_shared_out_is_refused(tmp_path, settings, words):
    for error in together(tmp_path, 2, jobs.with_settings, settings):
        assert isinstance(error, ConfigError)
        assert words in str(error)


def test_processes_that_are_told_different_things_are_refused(tmp_path):
    for error in together(tmp_path, 2, jobs.with_other_settings, [["training.chains=10"], ["training.chains=20"]]):
        assert isinstance(error, ConfigError)
        assert "process 1 has another configuration than process 0" in str(error)


def test_all_run_in_bfloat16_or_none(tmp_path):
    """Also where only some of the machines multiply it: messages of gradients would be of two lengths."""
    assert together(tmp_path, 2, jobs.runs_in_bfloat16, [True, False]) == [False, False]
    assert together(tmp_path, 2, jobs.runs_in_bfloat16, [True, True]) == [True, True]


def test_no_two_generators_have_one_seed(monkeypatch):
    """Those of processes and of a run's purposes are all apart: else the noise of one would be the chains of another."""
    config, found = load_config("digits"), []
    of_all = [config.training.seed, *(own_seed(config, purpose) for purpose in range(20))]
    for number in range(20):
        monkeypatch.setattr(ranks, "_number", number)
        found += map(ranks.seed, of_all)
    assert len(set(found)) == len(found)


def test_each_sentence_is_said_by_one(tmp_path):
    first, second = together(tmp_path, 2, jobs.says, [["the same", "of the first"], ["the same", "of the second"]])
    assert sorted([first[0], second[0]]) == [False, True]
    assert first[1]
    assert second[1]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"RANK": "0"}, "lacks WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "2"}, "lacks RANK, MASTER_ADDR, MASTER_PORT"),
        ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}, "ranks count from 0 up to WORLD_SIZE - 1"),
        ({"RANK": "a", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}, "RANK is 'a'"),
    ],
)
def test_half_an_environment_is_refused(monkeypatch, environment, words):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RanksError, match=words):
        ranks.join()


def test_a_process_of_one_is_alone(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    ranks.join()
    assert (ranks.number(), ranks.count(), ranks.is_first(), ranks.seed(5)) == (0, 1, True, 5)
    rows = torch.arange(6)
    assert ranks.own_part(rows) is rows
    assert ranks.first_does(lambda: "here") == "here"
