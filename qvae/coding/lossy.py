"""Codes for rows that are known by them alone: the encoder's most probable bits, or cheaper ones near them."""

from __future__ import annotations

import torch
from torch import Tensor

from qvae.ising.block_gibbs import BlockGibbs
from qvae.models.qvae import QVAE

_SWEEPS = 20  # a code settles in a few


@torch.no_grad()
def chosen_codes(model: QVAE, rows: Tensor, thrift: float = 0.0) -> Tensor:
    """Bits (B, n) of rows (B, D), as the likelihood takes them.

    They maximise sum_i z_i l_i + thrift log p(z), with l the posterior's logits, one colour of the graph at a time (iterated
    conditional modes, Besag 1986). At 0 they are the most probable code; the more thrift, the fewer bits and the more is lost.
    """
    logits = _most_probable(model, rows)
    if not thrift:
        return (logits > 0).to(logits)
    gibbs = BlockGibbs(model.prior.frozen())
    state, pulls = gibbs.from_spins(logits.sign()), logits.T[gibbs.order]
    for _ in range(_SWEEPS):
        before = state.clone()
        for block in range(gibbs.num_blocks):
            part = gibbs.rows(block)
            state[part] = (pulls[part] + thrift * gibbs.logits(state, block) > 0).to(state)
        if torch.equal(before, state):
            break
    return (1 + gibbs.to_spins(state).to(logits)) / 2


def _most_probable(model: QVAE, rows: Tensor) -> Tensor:
    """Logits (B, n) of bits, those of a level given the most probable ones of the levels before."""
    features, levels, logits = model.encoder(model.likelihood.features(rows)), list[Tensor](), list[Tensor]()
    for depth in range(len(model.posterior.levels)):
        logits.append(model.posterior.level_logits(depth, features, levels))
        levels.append((logits[-1] > 0).to(rows))
    return torch.cat(logits, 1)
