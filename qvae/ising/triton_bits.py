"""Random words and bits inside kernels of Triton, which whatever sweeps on CUDA has in common.

Triton comes with torch's builds for CUDA and is imported here: :func:`qvae.ising.compiled.kernels` says whether it can be had.

Words are Philox's (Salmon et al. 2011, doi:10.1145/2063384.2063405), a function of a call's key and of a counter: chain, row
and number of the sweep. So what a chain draws depends on nothing beside it, and there is no random state to keep.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def words(key, rows, quads, sweep, tag):  # type: ignore[no-untyped-def]
    """32 random bits for each of some rows (R,) and chains, given as quads (C/4,) of four following ones, (R, C)."""
    c0 = (quads[None, :] + tl.zeros_like(rows)[:, None]).to(tl.uint32)
    c1 = (rows[:, None] + tl.zeros_like(quads)[None, :]).to(tl.uint32)
    c2 = tl.zeros_like(c0) + sweep
    c3 = tl.zeros_like(c0) + tag
    a, b, c, d = tl.philox(key, c0, c1, c2, c3)
    # The last axes are two and two: chains 4q to 4q + 3 in their order.
    return tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (rows.shape[0], 4 * quads.shape[0]))


@triton.jit
def is_up(logit, drawn):  # type: ignore[no-untyped-def]
    """Whether a bit of this logit is 1, by 32 random bits.

    The less likely value comes with probability e / (1 + e), e = exp(-|logit|), for the smallest ones, too, and never beyond
    |logit| = 23: u + u e < e, where u is a multiple of 2^-31 and a half of it.
    """
    e = tl.exp(-tl.abs(logit))
    u = (drawn >> 1).to(tl.int32).to(tl.float32) * 4.656612873077393e-10 + 2.3283064365386963e-10
    return (logit > 0) != (u * e + u < e)


@triton.jit
def _draw_one(logit, bit):  # type: ignore[no-untyped-def]
    tl.store(bit, is_up(tl.load(logit), tl.full((), 1, tl.uint32)).to(tl.int8))


def draw_one() -> None:
    """Compile and run the smallest of kernels on the current device; raises whatever hinders Triton from it."""
    _draw_one[(1,)](torch.zeros(1, device="cuda"), torch.zeros(1, dtype=torch.int8, device="cuda"))
