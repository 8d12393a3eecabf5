"""The commands that a user types: torchrun, started by the script for Slurm on this machine, and on two machines by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import free_port
from rank_jobs import SMALL

from qvae.runs.run import load_run

SCRIPT = Path(__file__).parents[2] / "docs" / "scale" / "train.slurm"
DYING = '''
import os
from qvae_backends.gibbs import GibbsSampler


class Dying(GibbsSampler):
    """Kills the second of the processes that were started first, when there is a checkpoint."""

    def _moments(self, hamiltonian, num_samples):
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1" and os.path.exists(CHECKPOINT):
            os.kill(os.getpid(), 9)
        return super()._moments(hamiltonian, num_samples)
'''
COMMANDS = {
    "scontrol": "echo localhost",
    "srun": 'exec "$@"',
    "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
}


def environment(tmp_path, **more):
    for name, script in COMMANDS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    port = str(free_port())
    slurm = {"SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "n1", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2"}
    ours = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GLOO_SOCKET_IFNAME": "lo", "PROCESSES": "2", "PORT": port}
    return (
        os.environ
        | slurm
        | ours
        | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"}
        | more
    )


def test_the_script_for_slurm_trains_and_goes_on_where_a_process_dies(tmp_path):
    (tmp_path / "dying.py").write_text(DYING.replace("CHECKPOINT", repr(str(tmp_path / "run" / "checkpoint.safetensors"))))
    settings = [*SMALL, "training.checkpoint_seconds=0.01", "sampler.name=dying:Dying", "training.chains=20"]
    command = ["bash", str(SCRIPT), "digits", "--out", "run", *(part for text in settings for part in ("--set", text))]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("2 processes train together") == 2
    assert done.stdout.count("resuming run at step") == 1
    assert done.stdout.count("run folder: run") == 1
    assert done.stderr.count("one of the processes of this training has ended") <= 1
    run = load_run(tmp_path / "run")
    assert run.evaluation is not None
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]


def test_two_machines_train_together_and_the_first_one_writes(tmp_path):
    """Both are this one, each with a torchrun and a folder of its own."""
    started = []
    settings = environment(tmp_path)
    short = [part for text in [*SMALL, "training.epochs=1"] for part in ("--set", text)]
    for machine in ("first", "second"):
        (tmp_path / machine).mkdir()
        where = ["--nnodes=2", f"--node-rank={len(started)}", "--nproc-per-node=1", "--master-addr=127.0.0.1"]
        where += [f"--master-port={settings['PORT']}", "-m", "qvae", "train", "digits", "--out", "run", *short]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([tmp_path / "torchrun", *where], cwd=tmp_path / machine, env=settings, **pipes))
    try:
        said = [process.communicate(timeout=200) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], said
    assert "2 processes train together" in said[0][0]
    assert said[1][0] == ""
    assert list((tmp_path / "second").iterdir()) == []
    assert load_run(tmp_path / "first" / "run").evaluation is not None


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (["train", "--dry-run"], {}, "--dry-run plans what one process would do; leave torchrun out."),
        (["evaluate", "run"], {}, "qvae evaluate is for one process, unlike train; leave torchrun out."),
        (["train"], {"MASTER_ADDR": None}, "lacks MASTER_ADDR"),
        (["train"], {"RANK": "2"}, "RANK is '2' and WORLD_SIZE '2': ranks count from 0"),
    ],
)
def test_wrong_use_gets_one_sentence(monkeypatch, capsys, arguments, settings, words):
    from qvae.cli.main import main

    common = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in (common | settings).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["qvae", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert words in capsys.readouterr().err
