"""Worker of tensorcircuit-ng on jax: jit over vmap, in complex64."""

from __future__ import annotations

import os

if os.environ["OMP_NUM_THREADS"] == "1":  # which jax doesn't read; before it is imported
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

from typing import Any

import jax  # type: ignore[import-not-found]
import jax.numpy as jnp  # type: ignore[import-not-found]
import numpy as np
import tensorcircuit as tc  # type: ignore[import-not-found]
from circuit_worker import Step, serve_circuits

tc.set_backend("jax")
tc.set_dtype("complex64")


def prepare(case: dict[str, Any], x: np.ndarray, w: np.ndarray, dual: np.ndarray) -> Step:
    n, basis = case["qubits"], np.arange(2 ** case["qubits"])
    signs = np.stack([1 - 2 * (basis >> (n - 1 - q) & 1) for q in range(n)]).astype(np.float32)  # qubit 0 is the highest bit

    def values(x: Any, w: Any) -> Any:
        circuit, angles = tc.Circuit(n), jnp.concatenate([x, w])
        for name, qubits, parameter in case["gates"]:
            getattr(circuit, name)(*qubits, **({} if parameter is None else {"theta": angles[parameter]}))
        # Quicker than its expectation_ps(z=[q]) for every qubit, forward and backward.
        state = circuit.state()
        return signs @ (jnp.real(state) ** 2 + jnp.imag(state) ** 2)

    @jax.jit
    def both(x: Any, w: Any, dual: Any) -> tuple[Any, Any, Any]:
        found, pulled = jax.vjp(jax.vmap(values, (0, None)), x, w)
        return (found, *pulled(dual))

    numbers = [jnp.asarray(array) for array in (x, w, dual)]
    return lambda: jax.block_until_ready(both(*numbers))


if __name__ == "__main__":
    serve_circuits(prepare, ["tensorcircuit-ng", "jax"])
