"""A pool of samplers: right on every kind of workers, its chains go on, and what is lost is replaced and said."""

import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import torch
from conftest import SMALL
from qvae_backends import pool_worker

import qvae
from qvae.config.load import load_config
from qvae.errors import SamplerError, WorkersError
from qvae.ising import graphs
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.measuring.specs import local_samplers
from qvae.sampling.info import Advice
from qvae.sampling.registered import SAMPLERS
from qvae.testing import check_sampler
from qvae.trust import Trust
from qvae.workers import Workers


@pytest.fixture
def rbm():
    generator = torch.Generator().manual_seed(0)
    h, J = (torch.randn(count, generator=generator) / 2 for count in (8, 16))
    return IsingHamiltonian(h, graphs.rbm(4, 4), J)


@pytest.fixture
def pool(cluster):
    """Make pools on the cluster; they are closed at the end."""
    made = []

    def make(**options):
        where = {} if {"address", "executor"} & set(options) else {"address": cluster.scheduler_address}
        made.append(qvae.load_sampler("pool", **({"workers": 2, "seed": 1} | where | options)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_conformance_on_a_cluster(cluster):
    check_sampler("pool", num_samples=400, address=cluster.scheduler_address, workers=2)


@pytest.fixture(scope="module")
def processes():
    """A pool of two processes, which take a while to start."""
    one = qvae.load_sampler("pool", workers=2, seed=1, of="gibbs:sweeps=1")
    yield one
    one.close()


def test_workers_anywhere_draw_the_same(processes, pool, rbm):
    remote, third = pool(of="gibbs:sweeps=1"), pool(of="gibbs:sweeps=1", seed=2)
    for number in (101, 7, 64):
        assert torch.equal(processes.sample(rbm, number).spins, remote.sample(rbm, number).spins)
    third.load_state_dict(processes.state_dict())
    expected = processes.moments(rbm, 64)
    assert torch.equal(expected.pairs, third.moments(rbm, 64).pairs)
    assert expected.info["sweeps"] == 1


def test_moments_are_those_of_all_workers(pool, rbm):
    exact = exact_distribution(rbm).moments()[1]
    in_float64 = rbm.to(dtype=torch.float64)
    assert torch.allclose(pool(of="exact").moments(in_float64, 5).pairs, exact, atol=1e-12)
    assert torch.allclose(pool(workers=3).moments(rbm, 20_000).pairs.double(), exact, atol=0.05)


def test_a_transverse_field(pool, rbm):
    quantum = IsingHamiltonian(rbm.h, rbm.graph, rbm.J, 0.5)
    one = pool(of={"name": "path_integral", "options": {"slices": 16}})
    assert one.capabilities.transverse_field
    assert torch.allclose(one.moments(quantum, 4000).spins.double(), exact_distribution(quantum).moments()[0], atol=0.05)


def test_each_worker_has_chains_of_its_own_that_go_on(pool, rbm):
    frozen = rbm.replace(20 * torch.ones(8), torch.zeros(16))
    one = pool(of="gibbs:sweeps=1")
    first = one.sample(rbm, 100)
    assert first.info["sweeps"] == 201
    assert [share["sweeps"] for share in first.info["shares"]] == [201, 201]
    assert not torch.equal(*first.spins.split(50))
    assert one.sample(frozen, 100).info["sweeps"] == 1  # no burn-in, and other values
    assert bool((one.sample(frozen, 100).spins == -1).all())
    other = IsingHamiltonian(rbm.h, graphs.rbm(4, 4), rbm.J)
    assert one.sample(other, 100).info["sweeps"] == 201


def test_chains_travel_with_an_executor_that_has_no_places(pool, rbm):
    with ThreadPoolExecutor(2) as executor:
        one = pool(executor=executor, of="gibbs:sweeps=1")
        assert [one.sample(rbm, 10).info["sweeps"] for _ in range(2)] == [201, 1]
        assert one.sample(IsingHamiltonian(rbm.h, graphs.rbm(4, 4), rbm.J), 10).info["sweeps"] == 201
        exact = exact_distribution(rbm).moments()[1]
        assert torch.allclose(one.moments(rbm, 20_000).pairs.double(), exact, atol=0.05)
        second = pool(executor=executor, of="gibbs:sweeps=1", seed=2)
        second.load_state_dict(one.state_dict())
        assert torch.equal(one.sample(rbm, 50).spins, second.sample(rbm, 50).spins)
        assert not pool_worker._shares
    with pytest.raises(SamplerError, match="takes no work any more .* give another one"):
        one.sample(rbm, 10)


def test_a_client_is_left_open_and_workers_forget(cluster, pool, rbm):
    with cluster.get_client() as client:
        one = pool(executor=client)
        one.sample(rbm, 10)
        keys = {share.key for share in one._shares}
        assert keys <= held(client)
        one.close()
        assert client.status == "running"
        assert not keys & held(client)


def held(client):
    """Keys of all shares on a cluster's workers."""
    return {key for keys in client.run(lambda: list(pool_worker._shares)).values() for key in keys}


def test_population_annealing_counts_workers_by_their_z(pool, rbm):
    one = pool(of={"name": "gibbs", "options": {"annealing": 10, "persistent": False}})
    samples = one.sample(rbm, 2001)
    shares = samples.info["shares"]
    weights = torch.tensor([1001, 1000]) * torch.tensor([share["log_z"] for share in shares]).double().exp()
    assert torch.allclose(samples.weights[[0, 1001]].double() * torch.tensor([1001, 1000]), weights / weights.sum())
    exact = exact_distribution(rbm).log_z
    assert abs(samples.info["log_z"] - exact) < 5 * samples.info["log_z_stderr"] < 0.2
    assert not torch.equal(samples.weights[:1], samples.weights[-1:])


def test_moments_count_workers_by_their_samples_and_their_z(rbm, monkeypatch):
    found = [(torch.full((8,), value), torch.full((16,), -value)) for value in (0.5, -0.25)]
    one = qvae.load_sampler("pool", of="gibbs", workers=2)
    for logs, share in ((None, 0.75), ((0.0, 1.0), 3 / (3 + math.e))):
        told = zip(logs or (0, 0), (0.1, 0.4), strict=True)
        infos = [{} if logs is None else {"log_z": log, "log_z_stderr": error} for log, error in told]
        answers = [pool_worker.Answer(moments, info, []) for moments, info in zip(found, infos, strict=True)]
        monkeypatch.setattr(one, "_drawn", lambda *arguments, answers=answers, **options: ([3, 1], answers))
        moments = one.moments(rbm, 4)
        mean = 0.5 * share - 0.25 * (1 - share)
        assert torch.allclose(moments.spins, torch.full((8,), mean))
        assert torch.allclose(moments.pairs, torch.full((16,), -mean))
        if logs is None:
            assert "log_z" not in moments.info
            continue
        assert moments.info["log_z"] == pytest.approx(math.log((3 + math.e) / 4))  # the mean of Z over all samples
        assert moments.info["log_z_stderr"] == pytest.approx(math.hypot(0.1 * share, 0.4 * (1 - share)))


def test_samples_keep_the_weights_that_they_have_among_those_of_their_worker(rbm, monkeypatch):
    """Three of weights of their own, of one worker, and one of another: three quarters are the first one's, whatever its Z."""
    spins, weights = torch.ones(4, 8, dtype=torch.int8), torch.tensor([0.5, 0.3, 0.2])
    spins[3] = -1
    one = qvae.load_sampler("pool", of="gibbs", workers=2)
    for log_z, share in ((None, 0.75), (1.0, 3 / (3 + math.e))):
        infos = [{} if log_z is None else {"log_z": log, "log_z_stderr": 0.1} for log in (0.0, log_z)]
        found = (spins[:3], weights), (spins[3:], None)
        answers = [pool_worker.Answer(drawn, info, []) for drawn, info in zip(found, infos, strict=True)]
        monkeypatch.setattr(one, "_drawn", lambda *arguments, answers=answers, **options: ([3, 1], answers))
        samples = one.sample(rbm, 4)
        assert torch.equal(samples.spins, spins)
        assert samples.weights.tolist() == pytest.approx([*(share * weights).tolist(), 1 - share])


def test_advice_is_of_the_options_that_the_user_has(pool, rbm):
    stuck = IsingHamiltonian(torch.zeros(8), rbm.graph, 3 * torch.ones(16))
    (advice,) = pool(of="gibbs:burn_in=4").sample(stuck, 400).advice
    assert "raise sampler.options.of.options.burn_in" in advice.text


# Loss ---------------------------------------------------------------------------------------------------------------------


def test_a_seed_of_the_sampler_inside_is_refused_and_a_remark_is_made_once(rbm):
    with pytest.raises(SamplerError, match="of has a seed, which all workers would have; set that of the pool"):
        qvae.load_sampler("pool", of={"name": "gibbs", "options": {"seed": 0}})
    with ThreadPoolExecutor(1) as threads:
        with pytest.raises(SamplerError, match="address and executor are both given"):
            qvae.load_sampler("pool", executor=threads, address="tcp://host:1")
        sampler = qvae.load_sampler("pool", workers=1, seed=1, executor=threads)
        sampler._remarks.append(Advice("workers", "one was replaced"))
        said = [[advice.kind for advice in sampler.sample(rbm, 5).advice] for _ in range(2)]
        sampler.close()
    assert said == [["workers"], []]


def test_answers_that_came_back_are_kept_while_others_are_asked_for_again(rbm):
    """The second worker's first answer is lost; the first worker isn't asked twice."""
    with ThreadPoolExecutor(2) as threads:
        sampler = qvae.load_sampler("pool", workers=2, seed=1, executor=threads)
        asked, order, answers = [], sampler._order, sampler._answers
        lost = iter([True, False])
        sampler._order = lambda place, *rest: asked.append(place) or order(place, *rest)
        sampler._answers = lambda outcomes: {
            place: answer for place, answer in answers(outcomes).items() if place == 0 or not next(lost)
        }
        assert len(sampler.sample(rbm, 7)) == 7
        assert asked == [0, 1, 1]
        sampler.close()


def test_a_process_that_is_killed_is_replaced_and_said(processes, rbm):
    processes.sample(rbm, 100)
    os.kill(processes._workers._pids[1], signal.SIGKILL)
    samples = processes.sample(rbm, 100)
    text = "worker 2 of 2 was lost, and its chains: fresh ones stand in for them"
    assert [advice.text for advice in samples.advice] == [text]
    assert [share["sweeps"] for share in samples.info["shares"]] == [1, 201]
    os.kill(processes._workers._pids[0], signal.SIGKILL)
    assert [bool(share["state"]) for share in processes.state_dict()["shares"]] == [False, True]
    assert len(processes.sample(rbm, 100).advice) == 1
    assert not processes.sample(rbm, 100).advice


def test_a_worker_of_a_cluster_that_is_killed_is_replaced_and_said(pool, cluster, rbm):
    one = pool(of="gibbs:sweeps=1")
    one.sample(rbm, 100)
    victim = one._workers._hosts[0]
    with cluster.get_client() as client:
        os.kill(client.run(os.getpid, workers=[victim])[victim], signal.SIGKILL)
        samples = one.sample(rbm, 100)
        assert [advice.kind for advice in samples.advice] == ["lost worker"]
        assert victim in samples.advice[0].text
        assert [share["sweeps"] for share in samples.info["shares"]] == [201, 1]
        client.wait_for_workers(2, timeout=30)  # its nanny starts another one


class Here(Workers):
    """One place, in this process, that may be out of reach."""

    gone = False

    def __len__(self):
        return 1

    def submit(self, place, function, *arguments):
        if self.gone:
            raise WorkersError("the scheduler is gone.")
        future = Future()
        future.set_result(function(*arguments))
        return future

    def renew(self, place):
        raise AssertionError

    close = renew


def test_a_cluster_that_is_gone_costs_the_chains_and_not_the_checkpoint(rbm):
    workers = Here()
    one = qvae.load_sampler("pool", executor=workers, of="gibbs:sweeps=1", seed=1)
    one.sample(rbm, 10)
    assert one.state_dict()["shares"][0]["state"]
    workers.gone = True
    assert one.state_dict()["shares"][0]["state"] == {}
    with pytest.raises(SamplerError, match="'pool' failed: the scheduler is gone"):
        one.sample(rbm, 10)
    workers.gone = False
    samples = one.sample(rbm, 10)
    assert samples.info["sweeps"] == 201
    assert samples.advice[0].text == "the workers couldn't be reached any more, so that all chains begin anew"
    workers.gone = True
    one.close()


def test_a_worker_that_forgot_its_share_begins_anew(pool, cluster, rbm):
    one = pool(of="gibbs:sweeps=1")
    one.sample(rbm, 100)
    with cluster.get_client() as client:
        client.run(pool_worker._shares.clear)
        client.run(lambda: pool_worker._shares.clear())
    samples = one.sample(rbm, 100)
    assert [share["sweeps"] for share in samples.info["shares"]] == [201, 201]
    assert "chains: fresh ones" in samples.advice[0].text


def test_workers_end_with_their_parent_however_it_ends(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, qvae
            if __name__ == "__main__":
                pool = qvae.load_sampler("pool", workers=2)
                pool.sample(qvae.IsingHamiltonian([0.0], [], []), 4)
                print(*pool._workers._pids.values(), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    ended = time.monotonic() + 20
    while time.monotonic() < ended and any(_lives(pid) for pid in pids):
        time.sleep(0.05)
    assert not any(_lives(pid) for pid in pids)


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_script_without_its_main_is_told_what_to_do(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import qvae\nqvae.load_sampler('pool', workers=1).sample(qvae.IsingHamiltonian([0.0], [], []), 4)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert "put what it runs under `if __name__ == '__main__':`" in done.stderr.splitlines()[-1]


# State --------------------------------------------------------------------------------------------------------------------


def test_a_state_of_other_workers_is_told(pool, rbm):
    one = pool()
    one.sample(rbm, 10)
    three = pool(workers=3)
    three.load_state_dict(one.state_dict())
    samples = three.sample(rbm, 30)
    text = "the state is of 2 workers, but there are 3: all chains begin anew"
    assert [advice.text for advice in samples.advice] == [text]
    assert len(samples.info["shares"]) == 3


def test_a_training_goes_on_bit_by_bit(cluster, tmp_path):
    where = f"sampler.options.address={cluster.scheduler_address}"
    settings = [*SMALL, "sampler.name=pool", "sampler.options.workers=2", where, "training.checkpoint_seconds=0.001"]

    def stop(model, figures):
        if figures["epoch"] == 2:
            raise KeyboardInterrupt

    config = load_config("digits", settings)
    whole = qvae.train(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        qvae.train(config, tmp_path / "parts", observers=[stop])
    parts = qvae.resume(tmp_path / "parts")
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True))


# Faults -------------------------------------------------------------------------------------------------------------------


def refused(**options):
    with pytest.raises(SamplerError) as caught:
        qvae.load_sampler("pool", **options)
    return str(caught.value)


def test_options_that_make_no_sense():
    assert "no installed sampler is called 'gibs'" in refused(of="gibs")
    assert "no option 'sweep'" in refused(of="gibbs:sweep=3")
    assert "of has a seed, which all workers would have" in refused(of="gibbs:seed=3")
    assert "of is pool, which works elsewhere by itself" in refused(of="pool")
    assert "leave one of them out" in refused(address="tcp://localhost:1", executor=ThreadPoolExecutor(1))
    assert "executor is a str, which has no submit" in refused(executor="me")
    with pytest.raises(qvae.QvaeError, match=r"of is \{'of': 1\}; it must be a name, or \{name"):
        qvae.load_sampler("pool", of={"of": 1})
    assert "of can't be sent to a worker" in refused(of={"name": "dimod", "options": {"parameters": {"seed": _hook}}})


def _hook():
    raise AssertionError


_hook.__qualname__ = "nobody.finds.me"


def test_an_address_where_nobody_answers(monkeypatch, rbm):
    pytest.importorskip("distributed", reason="needs the extra: pip install -e '.[dask]'")
    monkeypatch.setattr("qvae.cluster._SECONDS", 1.0)
    one = qvae.load_sampler("pool", address="tcp://me:secret-word@127.0.0.1:9")
    with pytest.raises(SamplerError, match="no dask scheduler can be reached at tcp://127.0.0.1:9") as caught:
        one.check(rbm)
    assert "secret-word" not in str(caught.value)
    with pytest.raises(SamplerError, match="no dask scheduler can be reached at nowhere"):
        qvae.load_sampler("pool", address="nowhere").sample(rbm, 4)


def test_a_cluster_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SamplerError, match=r"needs the module distributed, .*: pip install -e '\.\[dask\]'"):
        qvae.load_sampler("pool", address="tcp://localhost:1").sample(IsingHamiltonian([0.0], [], []), 4)


def test_a_samplers_error_comes_through(pool):
    one = pool(of="exact")
    assert one.capabilities.max_spins == 20
    with pytest.raises(SamplerError, match="'pool' can't sample 21 spins: it takes at most 20"):
        one.sample(IsingHamiltonian(torch.zeros(21), [], []), 4)


def test_a_strangers_file_needs_words_for_the_sampler_inside(tmp_path):
    file = tmp_path / "theirs.yaml"
    file.write_text(
        "sampler: {name: pool, options: {of: {name: dimod, options: {sampler: theirs.run}}, address: 'tcp://it:1'}}\n"
    )
    for words, missing in (([], "run the code at theirs.run"), (["theirs.run"], "send your credentials to tcp://it:1")):
        config = load_config(file, trust=words)
        with pytest.raises(SamplerError, match=f"would {missing}, which a file says"):
            SAMPLERS.require_words(config.sampler, config.trust)
    config = load_config({"sampler": {"name": "pool", "options": {"of": "theirs:Sampler"}}})
    with pytest.raises(SamplerError, match="would run the code at theirs:Sampler, which a file says"):
        SAMPLERS.require_words(config.sampler, Trust())


def test_workers_must_have_the_versions_of_here(pool, monkeypatch):
    here = os.getpid()
    for found, text in (
        ({"Python": "3.8", "qvae": "1"}, "has Python 3.8, and here it is Python 3.99; install the same on both"),
        ({"Python": "3.99"}, "has no qvae, and here it is qvae 1; install the same on both"),
    ):

        def versions(there=found):
            return {"Python": "3.99", "qvae": "1"} if os.getpid() == here else there

        monkeypatch.setattr("qvae.cluster._asking_for_versions", lambda versions=versions: versions)
        with pytest.raises(SamplerError, match=f"the worker tcp://.* {text}"):
            pool().sample(IsingHamiltonian([0.0], [], []), 4)


def test_a_benchmark_of_all_samplers_leaves_it_out():
    chosen, left_out = local_samplers()
    assert "pool" not in [spec.name for spec in chosen]
    assert left_out["pool"] == "it works through another one: name both, as in --sampler pool:of=gibbs"


def test_processes_of_another_executor(rbm):
    with ProcessPoolExecutor(1, __import__("multiprocessing").get_context("spawn")) as executor:
        one = qvae.load_sampler("pool", executor=executor, workers=2, seed=3)
        first = one.sample(rbm, 20).spins
    with ThreadPoolExecutor(1) as executor:
        assert torch.equal(first, qvae.load_sampler("pool", executor=executor, workers=2, seed=3).sample(rbm, 20).spins)
    assert len(pickle.dumps(one)) > 100
