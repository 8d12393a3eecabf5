"""World lines swept by Triton's interpreter."""

import interpreting

_FEW = {"_ROWS": (2, 4), "_CHAINS": (4096, 4096), "_COLUMNS": 2 * 4096, "_NEIGHBOURS": 2}
"""Tiles of few rows and many chains: the interpreter takes as long for an operation on 10 numbers as for one on 1,000."""


def interpreted(folder, calls):
    """The bits that every call gives.

    A call is a dict: hamiltonian, slices, bits, sweeps, seed; if wanted, ``given``, more arguments of a sweep, and ``tiles``,
    other sizes of these.
    """
    return interpreting.interpreted(__file__, folder, calls)


def _swept(hamiltonian, slices, bits, sweeps, seed, given=None, tiles=None):
    import torch

    from qvae.ising import block_gibbs, triton_lines
    from qvae.ising.world_lines import WorldLines

    for name, value in (_FEW | (tiles or {})).items():
        setattr(triton_lines, name, value)
    block_gibbs._DENSE_SPINS = 0  # what counts is how many of all couplings there are
    lines = WorldLines(hamiltonian, slices)
    swept = bits.clone()
    given = {"beta": 1.0, "base": None, "order": range(lines.gibbs.num_blocks), "pinned": None} | (given or {})
    kernel = triton_lines.TritonLines(*lines.gibbs.couplings, lines._cut.flatten())
    kernel.sweep(swept, sweeps, torch.Generator().manual_seed(seed), **given)
    return swept


if __name__ == "__main__":
    interpreting.answer(_swept)
