"""World lines swept by Triton's interpreter in a process of its own: it is chosen before Triton is first imported."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

_FEW = {"_ROWS": (2, 4), "_CHAINS": (4096, 4096), "_COLUMNS": 2 * 4096, "_NEIGHBOURS": 2}
"""Tiles of few rows and many chains: the interpreter takes as long for an operation on 10 numbers as for one on 1,000."""


def interpreted(folder, calls):
    """The bits that every call gives.

    A call is a dict: hamiltonian, slices, bits, sweeps, seed; if wanted, ``given``, more arguments of a sweep, and ``tiles``,
    other sizes of these.
    """
    source, target = folder / "calls", folder / "bits"
    source.write_bytes(pickle.dumps(calls))
    done = subprocess.run(
        [sys.executable, __file__, source, target],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return pickle.loads(target.read_bytes())


def _quicken():
    """What makes the interpreter serve: it patches Triton at every call of a function, and takes 400 operations for a word."""
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    patch, patched = interpreter._patch_lang, {}

    def patch_once(function):
        if id(function.__globals__) not in patched:
            patched[id(function.__globals__)] = patch(function)
            # Numpy 2.4 makes no number of an array of one element, which Triton 3.6 expects of it where loops end.
            tl.tensor.__index__ = lambda self: int(self.handle.data.item())
        return interpreter._LangPatchScope()

    def quick_philox(key, *counter):
        number, most = int(key.handle.data.item()) % 2**64, np.uint64(2**32 - 1)
        c = [part.handle.data.astype(np.uint64) for part in counter]
        low, high = number % 2**32, number >> 32
        for _ in range(10):
            first, third = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
            c = [third >> 32 ^ c[1] ^ np.uint64(low), third & most, first >> 32 ^ c[3] ^ np.uint64(high), first & most]
            low, high = (low + 0x9E3779B9) % 2**32, (high + 0xBB67AE85) % 2**32
        drawn = [tl.tensor(interpreter.TensorHandle(word.astype(np.uint32), tl.uint32), counter[0].type) for word in c]
        if not checked:
            pairs = zip(drawn, philox(key, *counter), strict=True)
            checked.extend((mine.handle.data == its.handle.data).all() for mine, its in pairs)
            assert all(checked)
        return tuple(drawn)

    interpreter._patch_lang, philox, checked = patch_once, tl.philox, []
    tl.philox = quick_philox


def _swept(hamiltonian, slices, bits, sweeps, seed, given=None, tiles=None):
    import torch

    from qvae.ising import triton_lines
    from qvae.ising.world_lines import WorldLines

    for name, value in (_FEW | (tiles or {})).items():
        setattr(triton_lines, name, value)
    lines = WorldLines(hamiltonian, slices)
    swept = bits.clone()
    given = {"beta": 1.0, "base": None, "order": range(lines.gibbs.num_blocks), "pinned": None} | (given or {})
    kernel = triton_lines.TritonLines(*lines.gibbs.couplings, lines._cut.flatten())
    kernel.sweep(swept, sweeps, torch.Generator().manual_seed(seed), **given)
    return swept


def main():
    from qvae.ising import block_gibbs

    _quicken()
    block_gibbs._DENSE_SPINS = 0  # what counts is how many of all couplings there are
    calls = pickle.loads(Path(sys.argv[1]).read_bytes())
    Path(sys.argv[2]).write_bytes(pickle.dumps([_swept(**call) for call in calls]))


if __name__ == "__main__":
    main()
