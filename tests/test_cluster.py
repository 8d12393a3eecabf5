"""What runs on a dask cluster besides samplers: sweeps and benchmarks."""

import json

import pytest
from conftest import SMALL

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
