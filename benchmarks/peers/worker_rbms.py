"""Worker of rbms: block Gibbs of its Bernoulli-Bernoulli RBM."""

from __future__ import annotations

import os

import numpy as np
import torch
from protocol import Timer, serve
from rbms.bernoulli_bernoulli.classes import BBRBM  # type: ignore[import-not-found]
from rbms.sampling.gibbs import sample_state  # type: ignore[import-not-found]

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
_rbm: BBRBM


def load(problem: str) -> int:
    """Spins s = 2z - 1 of energy h.s + s.J.s are bits of energy -b.z - z.W.z with W = -4 J and b = -2 h + 2 sum J."""
    global _rbm
    data = np.load(problem)
    n1, n2 = data["sizes"]
    J, h = data["J"].reshape(n1, n2), data["h"]
    weights, visible, hidden = -4 * J, 2 * (J.sum(1) - h[:n1]), 2 * (J.sum(0) - h[n1:])
    _rbm = BBRBM(*(torch.tensor(x, dtype=torch.float32) for x in (weights, visible, hidden)))
    return len(h)


def gibbs(out: str, samples: int, sweeps: int, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    with Timer() as timer:
        chains = _rbm.init_chains(samples)
        chains = sample_state(sweeps, chains, _rbm)
    bits = torch.cat([chains["visible"], chains["hidden"]], dim=1)
    np.savez(out, spins=(2 * bits - 1).to(torch.int8).numpy())
    return timer.seconds()


if __name__ == "__main__":
    serve({"load": load, "gibbs": gibbs}, ["rbms", "torch"])
