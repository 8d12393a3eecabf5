"""What runs on a dask cluster besides samplers: sweeps and benchmarks."""

import json
from concurrent.futures import Future

import pytest
from conftest import SMALL

from qvae import cluster as module
from qvae.cluster import Cluster
from qvae.errors import WorkersError
from qvae.sweep import sweep


def test_a_sweep(cluster, tmp_path, monkeypatch):
    (run,) = sweep("digits", {}, tmp_path / "out", overrides=SMALL, cluster=cluster.scheduler_address)
    assert run.status == "finished", run.reason
    monkeypatch.setattr("qvae.sweep.os.path.isfile", lambda file: False)
    with pytest.raises(WorkersError, match="the worker tcp://.* doesn't see .*; choose an --out that all of them share"):
        sweep("digits", {}, tmp_path / "other", overrides=SMALL, cluster=cluster.scheduler_address)


def test_a_benchmark(cluster, command, tmp_path):
    what = ["--problem", "glass:n=4", "--sampler", "gibbs:seed=3", "--sampler", "exact", "--budget", 0.05, "--out", "out"]
    code, out, error = command("benchmark", "samplers", *what, "--cluster", cluster.scheduler_address)
    assert code == 0, error
    text = (tmp_path / "out" / "results.json").read_text()
    assert cluster.scheduler_address not in text + out
    found = json.loads(text)
    assert found["settings"]["workers"] == 2
    rows = found["problems"][0]["samplers"]
    assert [(row["sampler"], row["status"], row["clock"]) for row in rows] == [
        ("gibbs:seed=3", "measured", "wall"),
        ("exact", "measured", "wall"),
    ]
    assert "on 2 workers of a cluster" in (tmp_path / "out" / "report.html").read_text()


class Client:
    """A cluster that does nothing: its workers, who was asked for an executor, and what runs where."""

    scheduler = type("Scheduler", (), {"address": "tcp://user:word@host:1"})()

    def __init__(self, **versions):
        self.alive, self.versions, self.asked, self.submitted, self.is_closed = ["b", "a"], versions, [], [], False

    def wait_for_workers(self, number, timeout):
        pass

    def nthreads(self):
        return dict.fromkeys(self.alive, 1)

    def run(self, function, workers):
        return {worker: function() | self.versions for worker in workers}

    def get_executor(self, **options):
        self.asked.append(options)
        client, host = self, options["workers"]

        class Executor:
            def submit(self, function, *arguments):
                client.submitted.append((*host, function, arguments))
                return Future()

        return Executor()

    def close(self, timeout):
        self.is_closed = True


def test_places_are_workers_in_turn_and_nobody_else_does_their_work():
    client = Client()
    workers = Cluster(client, 3)
    assert [workers.describe(place) for place in range(3)] == ["the worker a", "the worker b", "the worker a"]
    for place in (0, 1, 2):
        workers.submit(place, len, "text")
    assert client.submitted == [("a", len, ("text",)), ("b", len, ("text",)), ("a", len, ("text",))]
    own = {"allow_other_workers": False, "pure": False, "retries": 0}
    assert client.asked == [{"workers": [host]} | own for host in ("a", "b")]  # one for each worker
    assert len(Cluster(client)) == 2
    client.alive = ["b", "c"]
    workers.renew(0)
    assert workers.describe(0) == "the worker c"  # b has a place already
    workers.close()
    assert client.is_closed
    Cluster(other := Client(), owned=False).close()
    assert not other.is_closed


def test_what_waits_for_a_worker_that_is_gone_is_cancelled():
    client = Client()
    workers = Cluster(client)
    pending = {workers.submit(place, len, ""): place for place in range(2)}
    assert workers.wait(pending, 0.0) == []
    client.alive = ["a"]
    (gone,) = workers.wait(pending, 0.0)
    assert pending[gone] == 1
    assert [future.cancelled() for future in pending] == [False, True]


def test_workers_of_other_versions_or_none_are_refused(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    with pytest.raises(WorkersError, match="the worker a has torch 0.1, and here it is torch .*; install the same on both"):
        Cluster(Client(torch="0.1"))
    none = Client()
    none.alive = []
    with pytest.raises(WorkersError, match="the cluster at tcp://.*host:1 has no workers") as told:
        Cluster(none)
    assert "word" not in str(told.value)
    assert none.is_closed


def test_a_scheduler_that_is_gone_is_told(monkeypatch):
    client = Client()
    workers = Cluster(client)

    def gone(*given, **options):
        raise OSError("timed out")

    told = r"the scheduler at tcp://.*host:1 doesn't answer any more \(OSError: timed out\); start the cluster again, and go on"
    client.nthreads = gone
    with pytest.raises(WorkersError, match=told):
        workers.renew(0)
    with pytest.raises(WorkersError, match=told):
        workers.wait({}, 0.0)
    monkeypatch.setattr(client, "get_executor", lambda **own: type("Gone", (), {"submit": gone})())
    with pytest.raises(WorkersError, match=told) as error:
        workers.submit(0, len, "")
    assert "word" not in str(error.value)
