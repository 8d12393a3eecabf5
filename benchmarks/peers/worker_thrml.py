"""Worker of thrml: block Gibbs on jax, compiled for all sweeps of all chains."""

from __future__ import annotations

import os

if os.environ["OMP_NUM_THREADS"] == "1":  # which jax doesn't read; before it is imported
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

from collections.abc import Callable
from functools import cache
from typing import Any

import jax  # type: ignore[import-not-found]
import jax.numpy as jnp  # type: ignore[import-not-found]
import numpy as np
from protocol import Timer, serve
from thrml import Block, SamplingSchedule, SpinNode, sample_states  # type: ignore[import-not-found]
from thrml.models import IsingEBM, IsingSamplingProgram  # type: ignore[import-not-found]

_nodes: list[SpinNode]
_blocks: list[Block]
_program: IsingSamplingProgram


def load(problem: str) -> int:
    """Its energy is that of ours with the other sign; a spin is up where it is True."""
    global _nodes, _blocks, _program
    data = np.load(problem)
    _nodes = [SpinNode() for _ in data["h"]]
    edges = [(_nodes[i], _nodes[j]) for i, j in data["edges"]]
    model = IsingEBM(_nodes, edges, jnp.asarray(-data["h"]), jnp.asarray(-data["J"]), jnp.asarray(1.0))
    _blocks = [Block([_nodes[i] for i in np.flatnonzero(data["colours"] == c)]) for c in np.unique(data["colours"])]
    _program = IsingSamplingProgram(model, _blocks, [])
    _compiled.cache_clear()
    return len(_nodes)


@cache
def _compiled(samples: int, sweeps: int) -> Callable[[Any], Any]:
    """From a key to states (samples, n) after so many sweeps of random ones; called once, since that compiles it."""
    schedule = SamplingSchedule(n_warmup=sweeps, n_samples=1, steps_per_sample=1)

    def chain(key: Any) -> Any:
        key, *keys = jax.random.split(key, len(_blocks) + 1)
        start = [jax.random.bernoulli(own, shape=(len(block),)) for own, block in zip(keys, _blocks, strict=True)]
        return sample_states(key, _program, schedule, start, [], [Block(_nodes)])[0][0]

    run = jax.jit(lambda key: jax.vmap(chain)(jax.random.split(key, samples)))
    jax.block_until_ready(run(jax.random.key(0)))
    return run


def gibbs(out: str, samples: int, sweeps: int, seed: int) -> dict[str, float]:
    run = _compiled(samples, sweeps)
    with Timer() as timer:
        found = jax.block_until_ready(run(jax.random.key(seed)))
    np.savez(out, spins=2 * np.asarray(found).astype(np.int8) - 1)
    return timer.seconds()


if __name__ == "__main__":
    serve({"load": load, "gibbs": gibbs}, ["thrml", "jax"])
