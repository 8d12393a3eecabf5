"""An annealer in the loop, through D-Wave's client and the local server of the tests: temperature, time and faults.

    python benchmarks/annealer.py temperatures     # likelihood at effective inverse temperatures 0.5, 1 and 2, and uncorrected
    python benchmarks/annealer.py step             # a step beside that of gibbs, and the client's own time
    python benchmarks/annealer.py pipelining       # a job of T and a step of T take little more than T together
    python benchmarks/annealer.py faults --count 1000

The server draws from true Boltzmann distributions; no QPU is involved. It runs in a process of its own, but for the faults.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qvae
from qvae.config.schema import TrainingConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.errors import SamplerError
from qvae.ising.graphs import Graph
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.qvae import QVAE
from qvae.sampling.sampler import LatentSampler
from qvae.training.objectives.boltzmann import BoltzmannObjective
from qvae.training.trainer import Trainer
from qvae.workflow import resume

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))


@contextlib.contextmanager
def server(**options: Any) -> Iterator[None]:
    """The local server in a process of its own, which the environment names."""
    from solver_server import SolverServer

    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, str(TESTS / "solver_server.py"), *flags]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    endpoint, token, solver = (process.stdout.readline().split()[-1] for _ in range(3))
    with SolverServer() as pattern:  # for the names of the variables
        environment = pattern.environment()
    for name, value in environment.items():
        os.environ[name] = endpoint if value == environment["DWAVE_API_ENDPOINT"] else value
    os.environ |= {"DWAVE_API_TOKEN": token, "DWAVE_API_SOLVER": solver}
    try:
        yield
    finally:
        process.communicate()


# Temperature ----------------------------------------------------------------------------------------------------------


def temperatures(arguments: argparse.Namespace) -> None:
    settings = [
        f"training.epochs={arguments.epochs}",
        "model.latent.graph=native",
        f"model.latent.sizes=[{arguments.spins}]",
        "evaluation.num_generated=0",
        "evaluation.probes=false",
        "evaluation.tsne_every=0",
    ]
    print("| negative phase | log-likelihood, nats | estimated beta | seeds |\n|---|---|---|---|")
    for beta in arguments.beta:
        with server(topology="zephyr", size=3, beta=beta, seed=1):
            for option, words in ((None, "corrected"), (1.0, "as if it were 1")):
                chosen = ["sampler.name=dwave", *([] if option is None else [f"sampler.options.beta={option}"])]
                print(row(f"annealer at beta {beta:g}, {words}", [*settings, *chosen], arguments.seeds), flush=True)
    # The same graph, trained classically.
    with server(topology="zephyr", size=3, seed=1):
        annealer = qvae.load_sampler("dwave")
        edges = annealer.native_graph(arguments.spins).edges.tolist()
        annealer.close()
    settings = [text for text in settings if "graph" not in text] + ["model.latent.graph=edges", f"model.latent.edges={edges}"]
    print(row("gibbs", settings, arguments.seeds))


def row(name: str, settings: list[str], seeds: int) -> str:
    found, betas = [], []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            run = qvae.train(qvae.load_config("digits", [*settings, f"training.seed={seed}"]), Path(folder, "run"))
            assert run.evaluation is not None
            found.append(run.evaluation["log_likelihood"])
            last = run.metrics[-1]
            known = "device_beta_stderr" in last
            betas.append(f"{last['device_beta']:.3f} ± {last['device_beta_stderr']:.3f}" if known else "-")
    spread = statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else float("nan")
    return f"| {name} | {statistics.mean(found):.2f} ± {spread:.2f} | {betas[-1]} | {seeds} |"


# Time -----------------------------------------------------------------------------------------------------------------


def trainer(sampler: LatentSampler, graph: Graph, hidden: int, batch: int) -> Trainer:
    torch.manual_seed(0)
    images = np.random.default_rng(0).random((4 * batch, 28, 28), dtype=np.float32)
    data = dataset_from_arrays(images)
    latent = {"graph": "native", "sizes": [graph.num_spins]}
    model_config = qvae.load_config({"model": {"latent": latent, "network": {"hidden": [hidden, hidden]}}}).model
    model = QVAE.from_config(model_config, Statistics.of(data), graph)
    config = TrainingConfig(epochs=10**6, batch_size=batch, chains=256)
    return Trainer(BoltzmannObjective(model, data.prepare_in_training, config, sampler), data, config)


def milliseconds(training: Trainer, steps: int) -> float:
    batches = training._batches()
    images = next(batches)
    for _ in range(5):
        training._train_step(images)
    started = time.perf_counter()
    for _ in range(steps):
        training._train_step(images)
    return 1e3 * (time.perf_counter() - started) / steps


def step(arguments: argparse.Namespace) -> None:
    """A step with the annealer beside that of ``gibbs``, and the time that the client takes for the same submissions."""
    with server(topology="zephyr", size=3, beta=3.0):
        annealer = qvae.load_sampler("dwave", seed=0)
        graph = annealer.native_graph(256)
        ours = trainer(annealer, graph, 512, 256)
        theirs = trainer(qvae.load_sampler("gibbs", sweeps=5, seed=0), graph, 512, 256)
        rounds = [(milliseconds(theirs, arguments.steps), milliseconds(ours, arguments.steps)) for _ in range(3)]
        gibbs, dwave = (min(times) for times in zip(*rounds, strict=True))
        line, answered = annealer._solver, []
        answer = line.answer
        line.answer = lambda submission: answered.append(submission) or answer(submission)
        ours._train_step(next(ours._batches()))
        started = time.perf_counter()
        for _ in range(arguments.steps):
            answer(answered[-1])
        client = 1e3 * (time.perf_counter() - started) / arguments.steps
        annealer.close()
    print(f"gibbs {gibbs:.1f} ms a step, annealer {dwave:.1f} ms, client and server alone {client:.1f} ms a job")
    print(f"(annealer - client) / gibbs = {(dwave - client) / gibbs:.2f}; annealer / gibbs = {dwave / gibbs:.2f}")


def pipelining(arguments: argparse.Namespace) -> None:
    """A job that takes as long as the step's own work, together."""
    with server(topology="zephyr", size=3, beta=3.0, latency=0.0):
        annealer = qvae.load_sampler("dwave", seed=0)
        graph = annealer.native_graph(64)
        annealer.close()
    gibbs = milliseconds(trainer(qvae.load_sampler("gibbs", sweeps=1, seed=0), graph, 2048, 256), arguments.steps)
    with server(topology="zephyr", size=3, beta=3.0, latency=gibbs / 1e3):
        annealer = qvae.load_sampler("dwave", seed=0)
        both = milliseconds(trainer(annealer, graph, 2048, 256), arguments.steps)
        hamiltonian = trainer(annealer, graph, 64, 256).model.prior.hamiltonian().detach()
        started = time.perf_counter()
        for _ in range(arguments.steps):
            annealer.sample(hamiltonian, 256)
        job = 1e3 * (time.perf_counter() - started) / arguments.steps
        annealer.close()
    print(f"step alone {gibbs:.1f} ms, job alone {job:.1f} ms, together {both:.1f} ms")
    print(f"{both / max(gibbs, job):.2f} of the longer of the two, {both / (gibbs + job):.2f} of their sum")


# Faults ---------------------------------------------------------------------------------------------------------------


def faults(arguments: argparse.Namespace) -> None:
    """Trainings under random faults until so many were injected: each finishes, or stops in words and goes on."""
    from solver_server import SolverServer

    settings = ["sampler.name=dwave", "model.latent.graph=native", "model.latent.sizes=[12]", "training.chains=32"]
    settings += ["sampler.options.timeout=0.5", "sampler.options.retry_seconds=0.01", "training.epochs=20"]
    settings += ["evaluation.num_generated=0", "evaluation.probes=false", "evaluation.tsne_every=0"]
    said: dict[str, int] = {}
    finished = stopped = 0
    longest = 0.0
    with SolverServer(topology="zephyr", size=2) as annealer, tempfile.TemporaryDirectory() as folder:
        os.environ |= annealer.environment()
        annealer.chaos(arguments.rate, seed=0)
        while len(annealer.faults) < arguments.count:
            path = Path(folder, str(finished))
            started = time.perf_counter()
            try:
                if (path / "checkpoint.safetensors").exists():
                    run = resume(path)
                else:
                    run = qvae.train(qvae.load_config("digits", settings), path)
                assert run.metrics[-1]["step"] == 20 * 5
                finished += 1
            except SamplerError as error:
                stopped += 1
                cause = re.split(r"[;(]", re.sub(r"^.*?: ", "", str(error)))[0].split(". Go on")[0]
                said[cause] = said.get(cause, 0) + 1
                if (path / "checkpoint.safetensors").exists():
                    qvae.load_run(path)
            longest = max(longest, time.perf_counter() - started)
    print(f"{len(annealer.faults)} faults: {finished} trainings finished, {stopped} stops in words; longest {longest:.0f} s")
    for cause, count in sorted(said.items(), key=lambda item: -item[1]):
        print(f"  {count:4d}  {cause}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    part = commands.add_parser("temperatures")
    part.add_argument("--beta", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    part.add_argument("--epochs", type=int, default=100)
    part.add_argument("--spins", type=int, default=64)
    part.add_argument("--seeds", type=int, default=2)
    part.set_defaults(work=temperatures)
    for name, work in (("step", step), ("pipelining", pipelining)):
        part = commands.add_parser(name)
        part.add_argument("--steps", type=int, default=50)
        part.set_defaults(work=work)
    part = commands.add_parser("faults")
    part.add_argument("--count", type=int, default=1000)
    part.add_argument("--rate", type=float, default=0.1)
    part.set_defaults(work=faults)
    arguments = parser.parse_args()
    arguments.work(arguments)


if __name__ == "__main__":
    main()
