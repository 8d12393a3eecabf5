"""Every sampler measured on every problem, in a folder where a later call goes on: results.json and its pieces."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import qvae
from qvae.cluster import Cluster, connect
from qvae.config.backends import BackendSpec
from qvae.errors import CapabilityError
from qvae.files import atomic_write_text, read_plain
from qvae.measuring.accuracy import finite_or_none
from qvae.measuring.folder import PIECES, RESULTS, TRUTH, benchmark_folder
from qvae.measuring.machine import environment
from qvae.measuring.problems import Problem
from qvae.measuring.samplers import measure_sampler
from qvae.measuring.specs import make_seeded
from qvae.measuring.truth import Truth, cached_truth
from qvae.progress import Report
from qvae.sampling.sampler import LatentSampler
from qvae.workers import Workers

SCHEMA = 1


def run_benchmark(
    problems: Sequence[Problem],
    samplers: Sequence[BackendSpec],
    out: Path,
    budget: float = 4.0,
    reference_seconds: float | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    qpu_price: float | None = None,
    left_out: Mapping[str, str] | None = None,
    report: Report = lambda share, figures: None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Measure every sampler on every problem, and write ``results.json``, which is returned.

    Each pair is a file in ``out/pieces``, each reference run one in ``out/truth``, written as soon as it is there. A later
    call takes what has the same settings from there, and measures the rest.

    The schema of ``results.json`` (numbers are null where they don't apply; seconds are those of ``clock`` unless named)::

        schema, qvae, created, environment, settings: {budget, reference_seconds, seed, device, qpu_price}
            (and workers: how many, where there are some)
        left_out: {sampler: why}
        problems: [{
          spec, origin, size, spins, couplings, transverse_field, fingerprint,
          truth: {method, is_exact, means_error, correlations_error, energy_error (in sd), energy, energy_sd, r_hat,
                  cpu_seconds},
          samplers: [{
            sampler (as it was named), name, options, status: "measured" | "excluded" | "failed", reason,
            -- and of one that was measured:
            clock: "cpu" | "wall", repeats, persistent, samples, cpu_seconds, wall_seconds (sums over repetitions),
            samples_per_second, effective_samples_per_second, seconds_to_goal, identical_repeats,
            bias: {means | correlations | energy: {size, is_certain}},
            effective_beta, effective_beta_stderr, r_hat, qpu_seconds, qpu_cost,
            curve: [{samples, cpu_seconds, wall_seconds (of one repetition),
                     means, correlations, energy, each with ..._stderr and ..._floor (perfect samples of the same number),
                     total_variation, total_variation_floor}]
          }]
        }]

    Args:
        problems: from :func:`~qvae.measuring.problems.make_problem`.
        samplers: from :func:`~qvae.measuring.specs.parse_sampler` or :func:`~qvae.measuring.specs.local_samplers`.
        out: folder; made if it isn't there.
        budget: seconds for each sampler on each problem.
        reference_seconds: CPU seconds of a reference run; None is five budgets.
        seed: of samplers and reference runs.
        device: where Hamiltonians are.
        qpu_price: of an hour of QPU time, in any currency; None says nothing of money.
        left_out: samplers that take no part, with the reason.
        report: told the part of all that is done, and what is being done.
        cluster: address of the scheduler of a dask cluster, among whose workers each sampler's samples are shared out; None is
            this process. Reference runs are made here.

    Raises:
        WorkersError: the cluster can't be reached, or can't do the work.
        RunError: the folder can't be written, is another process's, or holds files that aren't of a benchmark.
    """
    reference_seconds = 5 * budget if reference_seconds is None else reference_seconds
    settings = {"budget": budget, "reference_seconds": reference_seconds, "seed": seed, "device": str(device)}
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "qvae": qvae.__version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "environment": environment(torch.device(device)),
        "settings": {},
        "left_out": dict(left_out or {}),
        "problems": [],
    }
    parts, done = len(problems) * (len(samplers) + 1), 0
    with benchmark_folder(out) as folder, _workers(cluster) as workers:
        if workers is not None:
            settings["workers"] = len(workers)
        results["settings"] = settings | {"qpu_price": qpu_price}
        for problem in problems:
            hamiltonian = problem.hamiltonian

            def advance(text: str, share: float) -> None:
                report((done + share) / parts, text)  # noqa: B023

            advance(f"{problem.spec}: truth", 0.0)
            truth = cached_truth(
                hamiltonian,
                problem.fingerprint,
                folder / TRUTH,
                reference_seconds,
                seed,
                lambda share, label=problem.spec: advance(f"{label}: truth", share),  # type: ignore[misc]
            )
            done += 1
            found = _describe(problem, truth)
            results["problems"].append(found)
            for spec in samplers:
                label = f"{problem.spec}: {spec.label}"
                advance(label, 0.0)
                make = partial(make_seeded, spec, workers=workers)
                told = partial(advance, label)
                piece = _piece(problem, spec, make, truth, folder / PIECES, settings, told)
                if qpu_price is not None and piece.get("qpu_seconds") is not None:
                    piece["qpu_cost"] = qpu_price * piece["qpu_seconds"] / 3600
                found["samplers"].append(piece)
                done += 1
            atomic_write_text(folder / RESULTS, json.dumps(results, indent=1) + "\n")
    report(1.0, "done")
    return results


@contextlib.contextmanager
def _workers(address: str | None) -> Iterator[Workers | None]:
    """The workers of the cluster at an address, if there is one, for all samplers."""
    if address is None:
        yield None
        return
    workers = Cluster(connect(address))
    try:
        yield workers
    finally:
        workers.close()


def _describe(problem: Problem, truth: Truth) -> dict[str, Any]:
    errors = dict(zip(("means_error", "correlations_error", "energy_error"), truth.rms_errors, strict=True))
    return {
        "spec": problem.spec,
        "origin": problem.origin,
        "size": problem.size,
        "spins": problem.hamiltonian.num_spins,
        "couplings": problem.hamiltonian.graph.num_edges,
        "transverse_field": problem.hamiltonian.is_quantum,
        "fingerprint": problem.fingerprint,
        "truth": {
            "method": truth.method,
            "is_exact": truth.distribution is not None,
            **errors,
            "energy": truth.energy,
            "energy_sd": truth.energy_sd,
            "r_hat": None if truth.r_hat is None else finite_or_none(truth.r_hat),
            "cpu_seconds": truth.cpu_seconds,
        },
        "samplers": [],
    }


def _piece(
    problem: Problem,
    spec: BackendSpec,
    make: Callable[[int], LatentSampler],
    truth: Truth,
    folder: Path,
    settings: Mapping[str, Any],
    progress: Callable[[float], None],
) -> dict[str, Any]:
    """One sampler on one problem: from its file if that has the same settings, and was no failure."""
    identity = {"sampler": spec.label, "name": spec.name, "options": dict(spec.options)}
    key = {"schema": SCHEMA, "qvae": qvae.__version__, "problem": problem.fingerprint, **identity, **settings}
    digest = hashlib.sha256(json.dumps([problem.fingerprint, spec.label], sort_keys=True).encode()).hexdigest()[:16]
    file = folder / f"{digest}.json"
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(read_plain(file))
        if kept["key"] == key and kept["result"]["status"] != "failed":
            return kept["result"]
    result = {**identity, **_outcome(problem, make, truth, settings, progress)}
    atomic_write_text(file, json.dumps({"key": key, "result": result}) + "\n")
    return result


def _outcome(
    problem: Problem,
    make: Callable[[int], LatentSampler],
    truth: Truth,
    settings: Mapping[str, Any],
    progress: Callable[[float], None],
) -> dict[str, Any]:
    hamiltonian = problem.hamiltonian.to(settings["device"])
    try:
        sampler = make(0)
        excluded = sampler.capabilities.excludes(hamiltonian.num_spins, hamiltonian.is_quantum)
        sampler.close()
        if excluded:
            return {"status": "excluded", "reason": excluded}
        found = measure_sampler(make, hamiltonian, truth, settings["budget"], settings["seed"], progress)
    except CapabilityError as error:
        return {"status": "excluded", "reason": str(error).rstrip(".")}
    except Exception as error:
        # A third party's sampler may fail in any way; the others must be measured all the same.
        text = " ".join(str(error).split()).rstrip(".")
        return {"status": "failed", "reason": f"{type(error).__name__}: {text}" if text else type(error).__name__}
    return {"status": "measured", "reason": "", **found}
