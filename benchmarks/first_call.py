"""How long the first sweep of a process takes: with code to be compiled, with code on disk, and with torch's kernels.

    OMP_NUM_THREADS=1 python benchmarks/first_call.py

Each line is of processes of their own, best and median of them, in seconds of the processor. The parts are of warm ones:
numba's import, and our own kernels, without numba's tables of what it knows; as a comparison, these tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

_CALL = """
import gc, time, torch
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.graphs import rbm
from qvae.ising.hamiltonian import IsingHamiltonian
hamiltonian = IsingHamiltonian(torch.zeros(64), rbm(32, 32), torch.zeros(32 * 32))
gibbs, generator = BlockGibbs(hamiltonian), torch.Generator().manual_seed(0)
state = gibbs.random_state(256, generator)
times, began = {}, time.process_time()
def lap(part):
    global began
    times[part], began = time.process_time() - began, time.process_time()
"""
_SWEEP = """
gibbs.sweep(state, 1, generator)
lap("call")
"""
_PARTS = """
gc.disable()
import numba
lap("numba's import")
import qvae.ising.fused
lap("our kernels")
from numba.core.registry import cpu_target
cpu_target.target_context.refresh()
lap("numba's tables, which no call needs")
"""
_PRINT = "import json; print(json.dumps(times))"


def times_of(script: str, processes: int, **environment: str) -> dict[str, np.ndarray]:
    """Seconds of each part that a script tells, in so many processes, (processes,) each."""
    found: dict[str, list[float]] = {}
    for _ in range(processes):
        told = subprocess.run(
            [sys.executable, "-c", _CALL + script + _PRINT], env=os.environ | environment, check=True, capture_output=True
        ).stdout
        for part, seconds in json.loads(told).items():
            found.setdefault(part, []).append(seconds)
    return {part: np.array(seconds) for part, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=7)
    processes = parser.parse_args().processes
    print("| first call | best, s | median |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as empty:
        cold = times_of(_SWEEP, 1, NUMBA_CACHE_DIR=empty)["call"]
    rows = {"code to be compiled, one process": cold}
    times_of(_SWEEP, 1)  # or the first of the next would compile
    rows["code on disk"] = times_of(_SWEEP, processes)["call"]
    rows["torch's kernels"] = times_of(_SWEEP, processes, QVAE_KERNELS="torch")["call"]
    rows |= {f"a part: {part}": seconds for part, seconds in times_of(_PARTS, processes).items()}
    for name, seconds in rows.items():
        print(f"| {name} | {seconds.min():.3f} | {np.median(seconds):.3f} |")


if __name__ == "__main__":
    main()
