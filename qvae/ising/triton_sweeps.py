"""Sweeps of block Gibbs on CUDA: one kernel for all sweeps of a call.

Triton is imported here, which comes with torch's builds for CUDA: :func:`qvae.ising.compiled.kernels` says whether it is there.

Chains don't depend on each other. So a program of the kernel takes a few of them through all sweeps, and nothing but its own
threads need wait for one another.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from qvae.ising.graphs import by_row
from qvae.ising.products import Block, in_parts
from qvae.ising.triton_bits import is_up, words

_PROGRAMS = 264  # two for each multiprocessor of a large GPU
_GATHERED, _MULTIPLIED = (4, 32), (8, 64)  # chains of a program, from and to
_GATHERED_ROWS, _MULTIPLIED_ROWS = 512, 128  # of a tile, at most
_WARPS, _STAGES = (16, 8), 1  # of a program that gathers, and of one that multiplies
_COLUMNS = 128  # of a tile of weights, at most
_AT_ONCE = 4  # couplings of a row that are asked for together
_MOST_BITS = 2**30  # of a state: the kernel's addresses are words of 32 bits
_FEWEST_ROWS = 16  # that the device's products take
_LARGEST = 65504.0  # of float16


@dataclass(frozen=True)
class Layout:
    """Which rows are updated at once, tile by tile, and where the kernel finds their couplings; whatever values these have.

    A dense tile's weights stand row by row, with 0 up to whole tiles. In a sparse tile the first couplings of all its rows
    stand side by side, then the second ones, and so on; where a row has fewer than others, a 0 with row 0.

    Attributes:
        rows: of a tile, at most.
        table: of each tile its first row, the row after its block's last, where its couplings begin, and the first of its
            neighbours' rows and how many these are, or 0 and how many couplings a row has; (tiles, 5), int32.
        starts: the first tile of each block, and the end, (blocks + 1,), int32.
        shapes: of each dense block's weights in whole tiles; None where neighbours are gathered.
        columns: the row that each coupling is with, where they are gathered, int32.
        places: of these among the couplings in both directions of every edge, after which a 0 stands.
    """

    rows: int
    table: Tensor
    starts: Tensor
    shapes: Sequence[tuple[int, int]] | None
    columns: Tensor
    places: Tensor

    @classmethod
    def dense(cls, blocks: Sequence[Block], device: torch.device) -> Layout:
        """Of products of matrices."""
        rows, starts, shapes, place = _rows_of_tile(blocks, _MULTIPLIED_ROWS), [0], list[tuple[int, int]](), 0
        table = list[tuple[int, ...]]()
        for b in blocks:
            shape = _up_to(rows, b.stop - b.start), _up_to(rows, b.high - b.low)
            table += [(first, b.stop, place + (first - b.start) * shape[1], b.low, b.high - b.low) for first in b.firsts(rows)]
            starts.append(len(table))
            shapes.append(shape)
            place += shape[0] * shape[1]
        nothing = torch.zeros(0, dtype=torch.int64, device=device)
        return cls(rows, *_tables(table, starts, device), shapes, nothing, nothing)

    @classmethod
    def sparse(cls, blocks: Sequence[Block], rows: Tensor, columns: Tensor) -> Layout:
        """From the ends (2m,) of both directions of every edge."""
        size, device, num_rows = _rows_of_tile(blocks, _GATHERED_ROWS), rows.device, blocks[-1].stop if blocks else 0
        own, order, begins = (x.cpu() for x in by_row(rows, columns, num_rows))
        degrees, table, starts, place = begins.diff(), list[tuple[int, ...]](), [0], 0
        first_place = torch.zeros(num_rows, dtype=torch.int64)  # of each row's couplings
        for b in blocks:
            for first in b.firsts(size):
                tile = slice(first, min(first + size, b.stop))
                most = _up_to(_AT_ONCE, int(degrees[tile].max()))
                table.append((first, b.stop, place, 0, most))
                first_place[tile] = place + torch.arange(tile.stop - first)
                place += most * size
            starts.append(len(table))
        row = torch.repeat_interleave(torch.arange(num_rows), degrees)
        place_of = first_place[row] + size * (torch.arange(len(own)) - begins[:-1][row])
        neighbours = torch.zeros(place, dtype=torch.int32).index_copy_(0, place_of, own.int())
        places = torch.full((place,), len(own)).index_copy_(0, place_of, order)
        return cls(size, *_tables(table, starts, device), None, neighbours.to(device), places.to(device))


def _rows_of_tile(blocks: Sequence[Block], most: int) -> int:
    largest = max([b.stop - b.start for b in blocks] + [_FEWEST_ROWS])
    return min(most, triton.next_power_of_2(largest))


def _up_to(size: int, number: int) -> int:
    return -(-number // size) * size


def _tables(table: list[tuple[int, ...]], starts: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    numbers = torch.tensor(table, dtype=torch.int32, device=device).reshape(-1, 5)
    return numbers, torch.tensor(starts, dtype=torch.int32, device=device)


class TritonSweeps:
    """Heat-bath updates, block by block, of one Hamiltonian's values, of bits in int8.

    Dense blocks are products of matrices, each weight as the sum of two float16 numbers, which is right to 2^-22 of it or
    to 3e-8; neighbours in sparse blocks are gathered. A call takes one random word from its generator, from which all chains
    draw. Nothing waits for the device.

    Args:
        layout: of the couplings.
        couplings: of both directions of every edge, (2m,).
        bias: of each row, (n, 1).
        weights: of each block, (size, high - low), where the layout is dense.
    """

    def __init__(self, layout: Layout, couplings: Tensor, bias: Tensor, weights: Sequence[Tensor]) -> None:
        self._layout, self._level = layout, bias.flatten()
        if layout.shapes is None:
            self._values = torch.cat([-4.0 * couplings, bias.new_zeros(1)])[layout.places]
            self._others = layout.columns
        else:
            held = [own.clamp(-_LARGEST, _LARGEST) for own in weights]
            # A coupling adds w/2 to a logit where the other spin is up, and -w/2 where it is down, whatever is left of w.
            lost = [(own - rest).sum(1) for own, rest in zip(weights, held, strict=True)]
            self._level = torch.cat([*lost, bias.new_zeros(0)]).mul_(0.5).add_(self._level)
            parts = [_padded(rest, shape).flatten() for rest, shape in zip(held, layout.shapes, strict=True)]
            exact = torch.cat([*parts, bias.new_zeros(0)])
            self._values = exact.half()
            self._others = (exact - self._values).half()

    def sweep(
        self,
        state: Tensor,
        num_sweeps: int,
        generator: torch.Generator,
        beta: float | Tensor,
        base: Tensor | None,
        order: Sequence[int],
    ) -> None:
        """As :meth:`qvae.ising.block_gibbs.BlockGibbs.sweep`; of a contiguous state in int8."""
        chains, layout = state.shape[1], self._layout
        if (parts := -(-state.numel() // _MOST_BITS)) > 1:
            for own, own_beta in in_parts(state, beta, parts):
                self.sweep(own, num_sweeps, generator, own_beta, base, order)
            return
        is_dense = layout.shapes is not None
        together = chains_of_program(chains, *(_MULTIPLIED if is_dense else _GATHERED))
        width = _up_to(together, chains)
        swept = _padded(state, (len(state), width))
        if isinstance(beta, Tensor):
            beta = _padded(beta.to(state.device, torch.float32).expand(1, chains), (1, width)).contiguous()
        with torch.cuda.device_of(state):  # a kernel runs on the current device, whatever it is given
            _sweep[(width // together,)](
                swept,
                torch.empty(1, dtype=torch.int64, device=state.device).random_(-(2**63), None, generator=generator),
                self._level,
                self._level if base is None else base.flatten().float(),
                beta,
                layout.table,
                layout.starts,
                _on(state.device, tuple(order)),
                self._values,
                self._others,
                *(len(order), num_sweeps, width),
                DENSE=is_dense,
                HAS_BASE=base is not None,
                PER_CHAIN=isinstance(beta, Tensor),
                ROWS=layout.rows,
                COLUMNS=min(layout.rows, _COLUMNS),
                CHAINS=together,
                AT_ONCE=_AT_ONCE,
                num_warps=_WARPS[is_dense],
                num_stages=_STAGES,
            )
        if swept is not state:
            state.copy_(swept[:, :chains])


def chains_of_program(chains: int, fewest: int, most: int) -> int:
    """How many of the chains a program takes: few, unless there are enough for programs on the whole device."""
    return min(most, max(fewest, triton.next_power_of_2(-(-chains // _PROGRAMS))))


def _padded(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """With rows and columns of 0 after its own; itself where it has this shape."""
    if matrix.shape == shape:
        return matrix
    return torch.nn.functional.pad(matrix, (0, shape[1] - matrix.shape[1], 0, shape[0] - matrix.shape[0]))


@functools.lru_cache(64)
def _on(device: torch.device, numbers: tuple[int, ...]) -> Tensor:
    """Kept, since a copy to the device waits for it."""
    return torch.tensor(numbers, dtype=torch.int32, device=device)


# The kernel -----------------------------------------------------------------------------------------------------------


@triton.jit
def _product(state, width, chains, first, rest, low, high, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Weights (ROWS, high - low) times bits (high - low, chains), from where the tile's weights begin."""
    sums = tl.zeros((ROWS, chains.shape[0]), tl.float32)
    stride = (high - low + ROWS - 1) // ROWS * ROWS
    own = tl.arange(0, ROWS)[:, None] * tl.multiple_of(stride, 16)
    for start in range(0, high - low, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        place = own + column[None, :]
        bits = tl.load(state + (low + column)[:, None] * width + chains[None, :], mask=(low + column)[:, None] < high, other=0)
        bits = bits.to(tl.float16)
        sums = tl.dot(tl.load(first + place), bits, sums)
        sums = tl.dot(tl.load(rest + place), bits, sums)
    return sums


@triton.jit
def _sum_of_neighbours(state, width, chains, values, columns, most, ROWS: tl.constexpr, AT_ONCE: tl.constexpr):  # type: ignore[no-untyped-def]
    sums = tl.zeros((ROWS, chains.shape[0]), tl.float32)
    for first in range(0, most, AT_ONCE):
        for number in tl.static_range(AT_ONCE):  # which don't wait for each other
            place = (first + number) * ROWS + tl.arange(0, ROWS)
            value, column = tl.load(values + place), tl.load(columns + place)
            bits = tl.load(state + column[:, None] * width + chains[None, :])
            sums += tl.where(bits != 0, value[:, None], 0.0)
    return sums


@triton.jit
def _sweep(  # type: ignore[no-untyped-def]
    state,
    key,
    level,
    base,
    beta,
    tiles,
    starts,
    order,
    values,
    others,
    num_updates,
    num_sweeps,
    width,
    DENSE: tl.constexpr,
    HAS_BASE: tl.constexpr,
    PER_CHAIN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHAINS: tl.constexpr,
    AT_ONCE: tl.constexpr,
):
    """Draw the bits of some chains so many times, of logits from base, at beta 0, to sums of neighbours + level.

    Args:
        state: bits (n, width), int8, read and written; a program has CHAINS of the columns.
        key: the call's random word.
        level, base: (n,).
        beta: a number, or (width,).
        tiles, starts: of :class:`Layout`.
        order: the blocks in the order of their updates, (num_updates,).
        values, others: first and second part of the weights; or couplings, and the rows that these are with.
    """
    chains = tl.program_id(0) * CHAINS + tl.arange(0, CHAINS)
    quads = tl.program_id(0) * (CHAINS // 4) + tl.arange(0, CHAINS // 4)
    word = tl.load(key)
    cold = tl.load(beta + chains)[None, :] if PER_CHAIN else beta
    for sweep in range(num_sweeps):
        for update in range(num_updates):
            block = tl.load(order + update)
            for tile in range(tl.load(starts + block), tl.load(starts + block + 1)):
                first, stop = tl.load(tiles + 5 * tile), tl.load(tiles + 5 * tile + 1)
                place = tl.multiple_of(tl.load(tiles + 5 * tile + 2), 16)  # or the compiler reads number by number
                low, number = tl.load(tiles + 5 * tile + 3), tl.load(tiles + 5 * tile + 4)
                rows = first + tl.arange(0, ROWS)
                if DENSE:
                    logits = _product(state, width, chains, values + place, others + place, low, low + number, ROWS, COLUMNS)
                else:
                    logits = _sum_of_neighbours(state, width, chains, values + place, others + place, number, ROWS, AT_ONCE)
                logits += tl.load(level + rows, mask=rows < stop, other=0.0)[:, None]
                if HAS_BASE:
                    free = tl.load(base + rows, mask=rows < stop, other=0.0)[:, None]
                    logits = free + cold * (logits - free)
                else:
                    logits = cold * logits
                bits = is_up(logits, words(word, rows, quads, sweep, update)).to(tl.int8)
                tl.store(state + rows[:, None] * width + chains[None, :], bits, mask=rows[:, None] < stop)
            tl.debug_barrier()  # what other threads have written is read next
