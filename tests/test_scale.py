"""Files of docs/scale to copy: stand-ins for what starts the workers of a cluster start them on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SMALL

SCALE = Path(__file__).parents[1] / "docs" / "scale"
HERE = """
import json
from distributed import LocalCluster


class Here(LocalCluster):
    def __init__(self, workers, **asked):
        with open("asked.json", "w") as file:
            json.dump(asked, file)
        super().__init__(n_workers=workers, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address=None)
"""
JOBQUEUE = """
from here import Here


class SLURMCluster(Here):
    def __init__(self, cores, processes, memory, walltime):
        super().__init__(0, cores=cores, processes=processes, memory=memory, walltime=walltime)

    def scale(self, jobs):
        super().scale(jobs)
"""
KUBERNETES = """
from here import Here


def make_cluster_spec(name, image, n_workers, resources, env):
    container = {"name": "worker", "image": image, "resources": resources, "env": env}
    return {"spec": {"worker": {"replicas": n_workers, "spec": {"containers": [container]}}}}


class KubeCluster(Here):
    def __init__(self, custom_cluster_spec):
        worker = custom_cluster_spec["spec"]["worker"]
        super().__init__(worker["replicas"], **worker["spec"])
"""
FILES = {
    "here.py": HERE,
    "dask_jobqueue.py": JOBQUEUE,
    "dask_kubernetes/__init__.py": "",
    "dask_kubernetes/operator.py": KUBERNETES,
}


def done(tmp_path, script, *arguments):
    """The output of a script, with commands and modules of its own."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "qvae").write_text(f'#!/bin/bash\nexec {sys.executable} -m qvae "$@"\n')
    (tmp_path / "torchrun").write_text('#!/bin/bash\necho "threads $OMP_NUM_THREADS" "$@"\n')
    for name in ("qvae", "torchrun"):
        (tmp_path / name).chmod(0o755)
    ours = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}",
        "WORKERS": "1",
        "PROCESSES": "1000",
    }
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | ours
    found = subprocess.run(
        [*script, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.mark.parametrize("name", ["on_slurm.py", "on_kubernetes.py"])
def test_a_sweep_on_workers_of_a_cluster(tmp_path, name):
    settings = [part for text in SMALL for part in ("--set", text)]
    done(tmp_path, [sys.executable, str(SCALE / name)], "sweep", "digits", "--out", "out", *settings)
    (run,) = json.loads((tmp_path / "out" / "sweep.json").read_text())["runs"]
    assert run["status"] == "finished", run["reason"]
    asked = json.loads((tmp_path / "asked.json").read_text())
    if name == "on_slurm.py":
        assert asked == {"cores": 1, "processes": 1, "memory": "8GB", "walltime": "04:00:00"}
    else:
        assert asked["containers"][0]["volumeMounts"] == [{"name": "shared", "mountPath": "/shared"}]
        assert asked["volumes"][0]["name"] == "shared"


def test_one_machine(tmp_path):
    out = done(tmp_path, ["bash", str(SCALE / "on_one_machine.sh")], "mnist", "--out", "here")
    assert out == "threads 1 --standalone --nproc-per-node=1000 --max-restarts=3 -m qvae train mnist --out here\n"
