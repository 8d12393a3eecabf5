"""Random words as compiled sweeps draw them, to standard output without end: for test batteries of generators.

    python benchmarks/streams.py | dieharder -g 200 -a
    python benchmarks/streams.py --of triton | dieharder -g 200 -a

Every call takes two words, on CUDA one, of torch's generator, from which the streams of 256 chains start; then 20,480 words are
drawn of each chain, ten sweeps of 2,048 spins, side by side as rows of bits are drawn. Those of CUDA are Philox's, computed
here by numba at the counters of the kernel. Needs numba.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
import torch
from numba import njit

from qvae.ising import fused
from qvae.ising.compiled import random_words

CHAINS, SPINS, SWEEPS = 256, 2048, 10
WORDS = SPINS * SWEEPS
_u32, _u64 = np.uint32, np.uint64


@njit
def draw(s: Any, words: Any) -> None:
    for row in range(words.shape[0]):
        for c in range(words.shape[1]):
            words[row, c], s[0, c], s[1, c], s[2, c], s[3, c] = fused.next_word(s[0, c], s[1, c], s[2, c], s[3, c])


@njit
def philox(key: Any, c0: Any, c1: Any, c2: Any, c3: Any) -> Any:
    """Four words of a counter, in ten rounds (Salmon et al. 2011, doi:10.1145/2063384.2063405)."""
    k0, k1, low = _u64(key) & _u64(0xFFFFFFFF), _u64(key) >> _u64(32), _u64(0xFFFFFFFF)
    x0, x1, x2, x3 = _u64(c0), _u64(c1), _u64(c2), _u64(c3)
    for _ in range(10):
        one, other = _u64(0xD2511F53) * x0, _u64(0xCD9E8D57) * x2
        x0, x1, x2, x3 = (other >> _u64(32)) ^ x1 ^ k0, other & low, (one >> _u64(32)) ^ x3 ^ k1, one & low
        k0, k1 = (k0 + _u64(0x9E3779B9)) & low, (k1 + _u64(0xBB67AE85)) & low
    return _u32(x0), _u32(x1), _u32(x2), _u32(x3)


@njit
def draw_by_counters(key: Any, words: Any) -> None:
    """As :func:`qvae.ising.triton_bits.words` in sweeps of one block."""
    for sweep in range(SWEEPS):
        for row in range(SPINS):
            for quad in range(CHAINS // 4):
                place = words[sweep * SPINS + row]
                first = 4 * quad
                place[first], place[first + 1], place[first + 2], place[first + 3] = philox(key, quad, row, sweep, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--of", choices=["numba", "triton"], default="numba", help="whose kernels")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(options.seed)
    streams, words = np.empty((4, CHAINS), np.uint32), np.empty((WORDS, CHAINS), np.uint32)
    while True:
        if options.of == "triton":
            draw_by_counters(_u64(random_words(generator)[0]), words)
        else:
            fused.seed(streams, *random_words(generator), 0)
            draw(streams, words)
        try:
            sys.stdout.buffer.write(words.data)
        except BrokenPipeError:
            return


if __name__ == "__main__":
    main()
