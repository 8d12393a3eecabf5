"""Sweeps of block Gibbs, and what they draw bits with, by Triton's interpreter."""

import interpreting

_FEW = {"_GATHERED": (4096, 4096), "_MULTIPLIED": (4096, 4096)}
"""Many chains in a program: the interpreter takes as long for an operation on 10 numbers as for one on 1,000."""


def interpreted(folder, calls):
    """What every call gives.

    A call is a dict: hamiltonian, bits, seed, and how many ``sweeps`` each of several calls of one generator makes; if wanted,
    ``given``, more arguments of a sweep, ``is_sparse``, which has neighbours gathered, and ``sizes``, of tiles and programs. It
    gives the bits after each of these. One with ``logits`` alone gives of how many of 2^32 words each makes its rarer bit.
    """
    return interpreting.interpreted(__file__, folder, calls)


def _swept(hamiltonian, bits, sweeps, seed=1, given=None, is_sparse=False, sizes=None):
    import torch

    from qvae.ising import block_gibbs, triton_sweeps

    usual = {"_MULTIPLIED_ROWS": 128, "_GATHERED_ROWS": 512, "_PROGRAMS": 264, "_MOST_BITS": 2**30}
    for name, value in (usual | _FEW | (sizes or {})).items():
        setattr(triton_sweeps, name, value)
    block_gibbs.kernels = lambda device: triton_sweeps
    gibbs, state, generator = block_gibbs.BlockGibbs(hamiltonian), bits.clone(), torch.Generator().manual_seed(seed)
    gibbs._dense = not is_sparse
    gibbs._swept = triton_sweeps.TritonSweeps(gibbs._layout, gibbs._couplings, gibbs._bias, gibbs._weights)
    found = []
    for number in sweeps:
        assert gibbs.sweep(state, number, generator, **(given or {})) is state
        found.append(state.clone())
    return torch.stack(found)


def _rare_words(logits):
    import torch
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    from qvae.ising.triton_bits import is_up

    def tensor(numbers, kind):
        return tl.tensor(TensorHandle(numbers, kind), tl.block_type(kind, list(numbers.shape)))

    # The less likely value comes below a threshold, which bisection finds.
    low, high = torch.zeros(len(logits), dtype=torch.int64), torch.full((len(logits),), 2**32)
    for _ in range(32):
        middle = (low + high) // 2
        words = tensor(middle.numpy().astype("uint32"), tl.uint32)
        rare = torch.from_numpy(is_up(tensor(logits.numpy(), tl.float32), words).handle.data) != (logits > 0)
        low, high = torch.where(rare, middle, low), torch.where(rare, high, middle)
    return high


def _answer(logits=None, **call):
    return _swept(**call) if logits is None else _rare_words(logits)


if __name__ == "__main__":
    interpreting.answer(_answer)
