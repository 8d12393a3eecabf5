"""Random words as compiled sweeps draw them, to standard output without end: for test batteries of generators.

    python benchmarks/streams.py | dieharder -g 200 -a

Every call seeds the streams of 256 chains from two words of torch's generator; then 20,480 words are drawn of each chain, ten
sweeps of 2,048 spins, side by side as the passes over rows of bits draw them. Needs numba.
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

CHAINS, WORDS = 256, 20_480


@njit
def draw(s: Any, words: Any) -> None:
    for row in range(words.shape[0]):
        for c in range(words.shape[1]):
            words[row, c], s[0, c], s[1, c], s[2, c], s[3, c] = fused.next_word(s[0, c], s[1, c], s[2, c], s[3, c])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    generator = torch.Generator().manual_seed(parser.parse_args().seed)
    streams, words = np.empty((4, CHAINS), np.uint32), np.empty((WORDS, CHAINS), np.uint32)
    while True:
        fused.seed(streams, *random_words(generator), 0)
        draw(streams, words)
        try:
            sys.stdout.buffer.write(words.data)
        except BrokenPipeError:
            return


if __name__ == "__main__":
    main()
