"""What a pool of workers costs and gains over one: sweeps a second, overhead of a call, and what travels.

    python benchmarks/pool.py
    python benchmarks/pool.py --workers 1 2 4 --address tcp://HOST:8786

Calls with each number of workers take turns, so that a drift of the machine hits all of them. Where others work on it, too,
times of the wall say more of them than of a pool; so the processor's time is shown as well, that of the slowest worker and that
of this process, and the sweeps a second that both would make one after the other.
"""

from __future__ import annotations

import argparse
import os
import pickle
import time

import numpy as np
import torch
from qvae_backends.pool_worker import Answer, Order

import qvae
from qvae.cluster import Cluster, connect
from qvae.sampling.sampler import LatentSampler
from qvae.workers import Processes, Workers


def measured(
    pools: dict[int, LatentSampler], workers: dict[int, Workers], hamiltonian: qvae.IsingHamiltonian, asked: argparse.Namespace
) -> None:
    """Print a line for each pool, from calls in turns."""
    wall: dict[int, list[float]] = {number: [] for number in pools}
    here = dict.fromkeys(pools, 0.0)
    for pool in pools.values():
        pool.moments(hamiltonian, asked.chains)  # processes start, and chains have their burn-in
    before = {number: processor_times(found) for number, found in workers.items()}
    for _ in range(asked.rounds):
        for number, pool in pools.items():
            began, cpu = time.perf_counter(), time.process_time()
            pool.moments(hamiltonian, asked.chains)
            wall[number].append(time.perf_counter() - began)
            here[number] += (time.process_time() - cpu) / asked.rounds
    print("workers  sweeps/s  processor time of a call, ms: slowest worker, here  sweeps/s by that")
    for number, found in workers.items():
        there = float((processor_times(found) - before[number]).max()) / asked.rounds
        rate, by_processor = asked.sweeps / np.median(wall[number]), asked.sweeps / (there + here[number])
        print(f"{number:7}  {rate:8.1f}  {1e3 * there:45.1f}  {1e3 * here[number]:4.1f}  {by_processor:16.1f}")


def processor_times(workers: Workers) -> np.ndarray:
    """Seconds of the processor that each worker has taken so far."""
    pending = {workers.submit(place, time.process_time): place for place in range(len(workers))}
    return np.array(list(workers.outcomes(pending).values()))


def messages(hamiltonian: qvae.IsingHamiltonian, chains: int) -> None:
    """Print how many bytes travel to a worker and back in a call that goes on."""
    values = (hamiltonian.h, hamiltonian.J, hamiltonian.gamma)
    there = len(pickle.dumps(Order("0" * 16, 1, values, chains, True)))
    moments = len(pickle.dumps(Answer((hamiltonian.h, hamiltonian.J), {}, [])))
    spins = len(pickle.dumps(Answer((torch.ones(chains, hamiltonian.num_spins, dtype=torch.int8), None), {}, [])))
    print(f"to a worker {there:,} bytes; back {moments:,} of moments, or {spins:,} of {chains:,} samples")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--side", type=int, default=128, help="spins on each side of an RBM")
    parser.add_argument("--chains", type=int, default=4000)
    parser.add_argument("--sweeps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--address", help="of a dask cluster; processes of this machine if left out")
    asked = parser.parse_args()
    normal = torch.Generator().manual_seed(0)
    h, J = (0.1 * torch.randn(count, generator=normal) for count in (2 * asked.side, asked.side**2))
    hamiltonian = qvae.IsingHamiltonian(h, qvae.graphs.rbm(asked.side, asked.side), J)
    spec = {"name": "gibbs", "options": {"sweeps": asked.sweeps}}
    found: dict[int, Workers] = {}
    for number in asked.workers:  # processes with a thread each, however many there are
        found[number] = Cluster(connect(asked.address), number) if asked.address else Processes(number, threads=1)
    pools = {number: qvae.load_sampler("pool", of=spec, executor=workers, seed=0) for number, workers in found.items()}
    try:
        size = f"RBM {asked.side} + {asked.side}, {asked.chains:,} chains, {asked.sweeps} sweeps a call"
        print(f"{size}; load of the machine {os.getloadavg()[0]:.1f}")
        measured(pools, found, hamiltonian, asked)
        messages(hamiltonian, asked.chains)
    finally:
        for number, pool in pools.items():
            pool.close()
            found[number].close(now=True)


if __name__ == "__main__":
    main()
