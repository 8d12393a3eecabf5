"""What training in two processes gains over one, each with one thread, and what four machines would gain by a model of it.

    python benchmarks/ranks.py digits
    python benchmarks/ranks.py digits --set model.network.hidden=[1024,1024] --set training.batch_size=1000

A step's time is given twice, of the slower process: that of the processor, which leaves out the time for which a process waits
for messages while its core is idle, and that of the wall's clock, which on a machine with other work measures that work, too.

The model of N machines: each computes for the time of its part of the batch, which is the part of a step that doesn't shrink
(by two measurements, of a whole batch and of half of one) and the rest over N; then all gradients go round in a ring,
2 (N - 1) / N times their bytes through each machine's line, which waits 2 (N - 1) times for it; a small message goes to
all, N - 1 times its bytes and waits. Nothing of this overlaps, as nothing does in the trainer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

import qvae
from qvae.memory import keep_freed_memory
from qvae.runs.assemble import assemble
from qvae.training import ranks

_TURN = 20  # steps that are timed together
_LINES = {"10 Gbit/s, 50 us": (1.25e9, 50e-6), "100 Gbit/s, 5 us": (12.5e9, 5e-6)}
"""Bytes and seconds of a message between two machines."""


@dataclass
class Messages:
    """Of a step: bytes of those that are summed in a ring, and of those that each process sends to all."""

    summed: list[int]
    gathered: list[int]

    def __str__(self) -> str:
        number, size = len(self.summed) + len(self.gathered), sum(self.summed) + sum(self.gathered)
        return f"{number}, {size / 1e6:.2f} MB"


def measured(config: qvae.Config, steps: int) -> dict[str, Any]:
    """Milliseconds of a step in the slowest process, of the processor and by the wall's clock, and the step's messages."""
    keep_freed_memory()  # as the command line does
    ranks.join()
    torch.set_num_threads(1)
    trainer = assemble(Path("runs/none").absolute(), config).trainer
    sizes: dict[str, list[int]] = {"summed": [], "gathered": []}
    reduce, gather = dist.all_reduce, dist.all_gather

    def counting_reduce(tensor: torch.Tensor, **how: Any) -> object:
        sizes["summed"].append(tensor.nbytes)
        return reduce(tensor, **how)

    def counting_gather(found: list[torch.Tensor], tensor: torch.Tensor, **how: Any) -> object:
        sizes["gathered"].append(tensor.nbytes)
        return gather(found, tensor, **how)

    dist.all_reduce, dist.all_gather = counting_reduce, counting_gather
    turns: list[tuple[float, float]] = []
    began = _clocks()
    for step in trainer.trial(steps):
        trainer._judge(False)  # as in every step of a training
        if step % _TURN == 0:
            now = _clocks()
            turns.append(((now[0] - began[0]) / _TURN * 1e3, (now[1] - began[1]) / _TURN * 1e3))
            began = now
    dist.all_reduce, dist.all_gather = reduce, gather
    slowest, wall = ranks.highest(np.median(turns[1:], axis=0).tolist())
    of_step = {kind: found[: len(found) // steps] for kind, found in sizes.items()}
    return {"ms": slowest, "wall": wall, "messages": of_step, "ms_messages": _alone(**of_step)}


def _clocks() -> tuple[float, float]:
    """Seconds of the processor, and of the wall's clock."""
    return time.process_time(), time.perf_counter()


def _alone(summed: list[int], gathered: list[int]) -> float:
    """Median wall's milliseconds of messages of these sizes, one after the other."""
    tensors = {size: torch.zeros(max(1, size // 4)) for size in (*summed, *gathered)}
    room = {size: [torch.zeros_like(tensors[size]) for _ in range(ranks.count())] for size in gathered}
    seconds = []
    for _ in range(30):
        began = time.perf_counter()
        for size in summed:
            dist.all_reduce(tensors[size])
        for size in gathered:
            dist.all_gather(room[size], tensors[size])
        seconds.append(time.perf_counter() - began)
    return 1e3 * float(np.median(seconds))


def predicted(whole: float, half: float, messages: Messages, machines: int, line: tuple[float, float]) -> float:
    """Milliseconds of a step on so many machines, by the model above."""
    shrinking = max(0.0, 2 * (whole - half))
    bandwidth, latency = line
    others = machines - 1
    sent = 2 * others / machines * sum(messages.summed) + others * sum(messages.gathered)
    waits = 2 * others * len(messages.summed) + others * len(messages.gathered)
    return whole - shrinking + shrinking / machines + 1e3 * (sent / bandwidth + waits * latency)


def _in_processes(count: int, arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", __file__, "--measure", *arguments]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="digits")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings = [*options.settings, "training.max_seconds=null", "training.epochs=100000"]
    config = qvae.load_config(options.config, settings)
    if options.measure:
        found = measured(config, options.steps)
        if ranks.is_first():
            print(json.dumps(found), flush=True)
        ranks.part()
        return
    arguments = [options.config, f"--steps={options.steps}", *(f"--set={text}" for text in options.settings)]
    batch, chains = config.training.batch_size, config.training.chains
    one = _in_processes(1, arguments)
    half = _in_processes(1, [*arguments, f"--set=training.batch_size={batch // 2}", f"--set=training.chains={chains // 2}"])
    two = _in_processes(2, arguments)
    twice = _in_processes(2, [*arguments, f"--set=training.batch_size={2 * batch}", f"--set=training.chains={2 * chains}"])
    messages = Messages(**two["messages"])
    print(f"{options.config}: batch {batch}, {chains} chains; milliseconds a step, of the processor and by the wall's clock")
    print(f"one process {one['ms']:.2f}, {one['wall']:.2f}; with half of the batch {half['ms']:.2f}, {half['wall']:.2f}")
    for name, found, images in (("the same batch", two, 1), ("twice the batch", twice, 2)):
        gains = " and ".join(f"{images * one[clock] / found[clock]:.2f}" for clock in ("ms", "wall"))
        print(f"two processes, {name} {found['ms']:.2f}, {found['wall']:.2f}: {gains} times the images a second")
    print(f"messages of a step: {messages}, {two['ms_messages']:.2f} ms by the wall's clock on loopback")
    for name, line in _LINES.items():
        step = predicted(one["ms"], half["ms"], messages, 4, line)
        print(f"four machines, {name}: {step:.2f} ms by the model, {one['ms'] / step:.2f} times the images a second")


if __name__ == "__main__":
    main()
