"""Cluster updates of world lines on CUDA by one kernel of Triton; see :class:`qvae.ising.world_lines.WorldLines`.

A program has some chains, which nothing couples to others, and goes with them through all sweeps, colours and rows. It keeps
bits of 32 slices of a line in one word.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from qvae.ising.products import Block
from qvae.ising.triton_bits import is_up, words

_ROWS, _CHAINS, _COLUMNS = (16, 128), (8, 16), 128  # of a tile; slices and chains of a product together
_NEIGHBOURS = 64  # that a product takes at once
_PROGRAMS = 4  # for each multiprocessor


@triton.jit
def _dense_fields(  # type: ignore[no-untyped-def]
    fields,
    state,
    above,
    below,
    row,
    mine,
    low,
    high,
    width,
    word,
    num_words,
    count,
    R: tl.constexpr,
    C: tl.constexpr,
    S: tl.constexpr,
    K: tl.constexpr,
):
    """Sums over neighbours in the slices of a word, for rows (R,), written to ``fields`` (slices, R, C)."""
    r, k, column = tl.arange(0, R), tl.arange(0, K), tl.arange(0, S * C)
    place = state + word * C + column % C
    target = fields + r[:, None] * C + (column // C * (R * C) + column % C)[None, :]
    for first in range(0, count, S):
        slices = (first + column // C).to(tl.uint32)
        sums = tl.zeros((R, S * C), tl.float32)
        for begin in range(0, high - low, K):
            other = low + begin + k
            seen = tl.load(place[None, :] + other[:, None] * (num_words * C), mask=(other < high)[:, None], other=0)
            bits = ((seen >> slices[None, :]) & 1).to(above.dtype.element_ty)
            entry = row[:, None] * width + (begin + k)[None, :]
            sums = tl.dot(tl.load(above + entry, mask=mine[:, None], other=0), bits, sums)
            sums = tl.dot(tl.load(below + entry, mask=mine[:, None], other=0), bits, sums)
        tl.store(target + first * (R * C), sums)


@triton.jit
def _sparse_fields(  # type: ignore[no-untyped-def]
    fields,
    state,
    begin,
    stop,
    columns,
    values,
    low,
    word,
    num_words,
    count,
    R: tl.constexpr,
    C: tl.constexpr,
    S: tl.constexpr,
):
    """As :func:`_dense_fields`, of entries ``begin`` to ``stop`` (R,) of compressed rows."""
    r, c = tl.arange(0, R)[:, None, None], tl.arange(0, C)[None, None, :]
    s = tl.arange(0, S)[None, :, None]
    longest = tl.max(stop - begin, 0)
    for first in range(0, count, S):
        slices = (first + s).to(tl.uint32)
        sums = tl.zeros((R, S, C), tl.float32)
        for e in range(0, longest):
            there = begin + e < stop
            other = low + tl.load(columns + begin + e, mask=there, other=0).to(tl.int32)
            weight = tl.load(values + begin + e, mask=there, other=0.0)
            seen = tl.load(state + (other * num_words + word)[:, None, None] * C + c)
            sums += tl.where(((seen >> slices) & 1) != 0, weight[:, None, None], 0.0)
        tl.store(fields + (first + s) * (R * C) + r * C + c, sums)


@triton.jit
def _filled(up, joined, incoming, count):  # type: ignore[no-untyped-def]
    """Bits of slices, each that of the next slice where it is joined to it; ``incoming`` is next to the last one."""
    up |= joined & (incoming << (count - 1))
    for shift in tl.static_range(5):
        up |= joined & (up >> (1 << shift))
        joined &= joined >> (1 << shift)
    return up


@triton.jit
def _pack(  # type: ignore[no-untyped-def]
    state,
    bits,
    chain,
    there,
    n,
    slices,
    chains,
    num_words,
    R: tl.constexpr,
    C: tl.constexpr,
):
    """Bits of some chains (C,) as words."""
    c = tl.arange(0, C)
    for first in range(0, n, R):
        row = first + tl.arange(0, R)
        mask = (row < n)[:, None] & there[None, :]
        source = bits + row.to(tl.int64)[:, None] * slices * chains + chain[None, :]
        for word in range(num_words):
            packed = tl.zeros((R, C), tl.uint32)
            for j in range(0, tl.minimum(32, slices - 32 * word)):
                bit = tl.load(source + (32 * word + j) * chains.to(tl.int64), mask=mask, other=0)
                packed |= bit.to(tl.uint32) << j
            tl.store(state + (row * num_words + word)[:, None] * C + c[None, :], packed, mask=(row < n)[:, None])


@triton.jit
def _unpack(  # type: ignore[no-untyped-def]
    state,
    bits,
    chain,
    there,
    n,
    slices,
    chains,
    num_words,
    R: tl.constexpr,
    C: tl.constexpr,
):
    c = tl.arange(0, C)
    for first in range(0, n, R):
        row = first + tl.arange(0, R)
        mask = (row < n)[:, None] & there[None, :]
        target = bits + row.to(tl.int64)[:, None] * slices * chains + chain[None, :]
        for word in range(num_words):
            packed = tl.load(state + (row * num_words + word)[:, None] * C + c[None, :], mask=(row < n)[:, None], other=0)
            for j in range(0, tl.minimum(32, slices - 32 * word)):
                bit = (packed >> j) & 1
                tl.store(target + (32 * word + j) * chains.to(tl.int64), bit.to(tl.int8), mask=mask)


# Of these Triton would compile anew for a 1 or a multiple of 16.
_CHANGING = ["n", "slices", "chains", "num_sweeps", "num_blocks"]
_STRIDES = ["base_row", "base_chain", "beta_chain", "pinned_row", "pinned_chain"]


@triton.jit(do_not_specialize=[*_CHANGING, *_STRIDES])
def sweep_lines(  # type: ignore[no-untyped-def]
    bits,
    n,
    slices,
    chains,
    num_sweeps,
    key,
    borders,
    num_blocks,
    level,
    cut,
    base,
    base_row,
    base_chain,
    beta,
    beta_chain,
    pinned,
    pinned_row,
    pinned_chain,
    above,
    below,
    scale,
    width,
    starts,
    columns,
    values,
    states,
    fields,
    bonds,
    R: tl.constexpr,
    C: tl.constexpr,
    S: tl.constexpr,
    K: tl.constexpr,
    DENSE: tl.constexpr,
):
    """Update all world lines ``num_sweeps`` times.

    A line is gone through once, slice by slice: is it cut after this one, and if so, what sign has the segment that ends here?
    That of the first cut waits for what comes before it across the end of imaginary time.

    Args:
        bits: (n, slices, chains), int8, read and written.
        key: of this call's random words, (1,), int64.
        borders: of the blocks in the order of their updates, as of :func:`_borders`.
        level: (n,).
        cut: 2^32 exp(-2K), (n,).
        base, pinned: of rows and chains, by their strides; added to the logits of slice 0 is ``pinned``.
        beta: of chains, by its stride.
        above, below, scale: dense couplings, scale (above + below), (n, width) each; scale (n,).
        starts, columns, values: sparse ones.
        states: room for each program's words (n, words, C), uint32.
        fields: for its sums over neighbours, (up to 32 slices, R, C), float32.
        bonds: for its words of bonds and signs, (words, 2, R, C), uint32.
    """
    num_words = (slices + 31) // 32
    program = tl.program_id(0).to(tl.int64)
    state = states + program * n * num_words * C
    fields += program * ((tl.minimum(slices, 32) + S - 1) // S * S) * (R * C)
    bonds += program * num_words * (2 * R * C)
    r, c = tl.arange(0, R), tl.arange(0, C)
    tile = r[:, None] * C + c[None, :]
    secret = tl.load(key)
    for part in range(tl.program_id(0), (chains + C - 1) // C, tl.num_programs(0)):
        chain = part * C + c
        there = chain < chains
        quads = part * (C // 4) + tl.arange(0, C // 4)
        _pack(state, bits, chain, there, n, slices, chains, num_words, R, C)
        own_beta = tl.load(beta + chain * beta_chain, mask=there, other=0.0)[None, :]
        tl.debug_barrier()
        for sweep in range(num_sweeps):
            for block in range(num_blocks):
                border = borders + 6 * block
                start, stop = tl.load(border), tl.load(border + 1)
                low, high = tl.load(border + 2), tl.load(border + 3)
                for first_row in range(start, stop, R):
                    row = first_row + r
                    mine = row < stop
                    both = mine[:, None] & there[None, :]
                    far = row.to(tl.int64)[:, None]
                    free = tl.load(base + far * base_row + chain[None, :] * base_chain, mask=both, other=0.0)
                    slope = own_beta + tl.zeros((R, C), tl.float32)
                    offset = free + slope * (tl.load(level + row, mask=mine, other=0.0)[:, None] - free)
                    if DENSE:
                        slope *= tl.load(scale + row, mask=mine, other=0.0)[:, None]
                        begin, end = row, row
                    else:
                        place = starts + tl.load(border + 4) + row - start
                        entry = tl.load(border + 5)
                        begin = entry + tl.load(place, mask=mine, other=0).to(tl.int32)
                        end = entry + tl.load(place + 1, mask=mine, other=0).to(tl.int32)
                    limit = tl.load(cut + row, mask=mine, other=0).to(tl.uint32)[:, None]

                    total = tl.load(pinned + far * pinned_row + chain[None, :] * pinned_chain, mask=both, other=0.0)
                    head = tl.zeros((R, C), tl.float32)  # of the first segment's logit, up to its cut
                    first = tl.full((R, C), -1, tl.int32)  # the slice of that cut
                    kept = tl.zeros((R, C), tl.uint32)  # its random word
                    own = state + row[:, None] * (num_words * C) + c[None, :]
                    for word in range(num_words):
                        count = tl.minimum(32, slices - 32 * word)
                        if DENSE:
                            _dense_fields(
                                *(fields, state, above, below, row, mine, low, high, width, word, num_words, count, R, C, S, K)
                            )
                        else:
                            _sparse_fields(fields, state, begin, end, columns, values, low, word, num_words, count, R, C, S)
                        line = tl.load(own + word * C, mask=mine[:, None], other=0)
                        after = tl.load(own + (word + 1) % num_words * C, mask=mine[:, None], other=0) & 1
                        kinks = line ^ ((line >> 1) | (after << (count - 1)))
                        joined, up = tl.zeros((R, C), tl.uint32), tl.zeros((R, C), tl.uint32)
                        tl.debug_barrier()
                        for j in range(0, count):
                            k = 32 * word + j
                            total += offset + slope * tl.load(fields + j * (R * C) + tile)
                            bond = words(secret, row, quads, sweep, 2 * k) >= limit
                            drawn = words(secret, row, quads, sweep, 2 * k + 1)
                            is_joined = bond & (((kinks >> j) & 1) == 0)
                            alone = first < 0
                            kept = tl.where(alone, drawn, kept)
                            sign = is_up(total, drawn) & ~(alone | is_joined)
                            heads = alone & ~is_joined
                            head = tl.where(heads, total, head)
                            first = tl.where(heads, k, first)
                            total = tl.where(is_joined, total, 0.0)
                            joined |= is_joined.to(tl.uint32) << j
                            up |= sign.to(tl.uint32) << j
                        tl.store(bonds + word * (2 * R * C) + tile, joined)
                        tl.store(bonds + word * (2 * R * C) + R * C + tile, up)
                        tl.debug_barrier()
                    incoming = is_up(total + head, kept).to(tl.uint32)
                    across = incoming
                    for back in range(num_words):
                        word = num_words - 1 - back
                        joined = tl.load(bonds + word * (2 * R * C) + tile)
                        up = tl.load(bonds + word * (2 * R * C) + R * C + tile)
                        up |= tl.where((first >> 5) == word, across << (first & 31), 0)
                        up = _filled(up, joined, incoming, tl.minimum(32, slices - 32 * word))
                        tl.store(own + word * C, up, mask=mine[:, None])
                        incoming = up & 1
                    tl.debug_barrier()
        _unpack(state, bits, chain, there, n, slices, chains, num_words, R, C)
        tl.debug_barrier()


class TritonLines:
    """Updates of all world lines, colour by colour, of one Hamiltonian's values; nothing waits for the device.

    Dense couplings are multiplied as sums of two numbers in float16, each row scaled by its largest one: they are right to a
    4,000,000th of it.

    Args:
        blocks: of the rows.
        weights: of each block, (size, high - low) where the graph is dense, else of its entries.
        bags: of each block of a sparse graph the columns of its entries, from ``low``, and where each row begins.
        bias: of each row, (n, 1).
        cut: exp(-2K) of each row, (n,).
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        weights: Sequence[Tensor],
        bags: Sequence[tuple[Tensor, Tensor]] | None,
        bias: Tensor,
        cut: Tensor,
    ) -> None:
        self._blocks, self._level, self._is_dense = tuple(blocks), bias.flatten(), bags is None
        self._cut = (cut.double() * 2.0**32).round().clamp(max=2**32 - 1).to(torch.int64)
        largest = max((b.stop - b.start for b in blocks), default=1)
        self._rows = min(max(_ROWS[0], triton.next_power_of_2(largest)), _ROWS[1])
        self._none, nowhere = bias.new_zeros(1, 1), torch.zeros(1, dtype=torch.int64, device=bias.device)
        self._width = 0
        if bags is None:
            self._sizes = (0,) * len(blocks)
            widest = max((b.high - b.low for b in blocks), default=0)
            self._width = -(-max(1, widest) // _NEIGHBOURS) * _NEIGHBOURS
            full = bias.new_zeros(len(bias), self._width)
            for block, matrix in zip(blocks, weights, strict=True):
                full[block.start : block.stop, : block.high - block.low] = matrix
            scale = full.abs().amax(1, keepdim=True).clamp_(min=1e-30)
            above = full.div_(scale).half()
            self._dense = above, full.sub_(above).half(), scale
            self._sparse = nowhere, nowhere, self._none
        else:
            self._sizes = tuple(len(columns) for columns, _ in bags)
            self._dense = self._none.half(), self._none.half(), self._none
            columns, starts = (torch.cat(parts) for parts in zip(*bags, strict=True))
            self._sparse = starts, columns, torch.cat(list(weights))

    def sweep(
        self,
        bits: Tensor,
        num_sweeps: int,
        generator: torch.Generator,
        beta: float | Tensor,
        base: Tensor | None,
        order: Sequence[int],
        pinned: Tensor | None,
    ) -> None:
        """As :meth:`qvae.ising.world_lines.WorldLines.sweep`; of contiguous int8, and ``pinned`` are logits of slice 0."""
        (n, slices, chains), device = bits.shape, bits.device
        key = torch.empty(1, dtype=torch.int64, device=device).random_(-(2**63), None, generator=generator)
        if not bits.numel():
            return
        processors = _multiprocessors(device)
        width = _CHAINS[0] if chains <= _CHAINS[0] * processors else _CHAINS[1]
        programs = min(-(-chains // width), _PROGRAMS * processors)
        together = min(_COLUMNS // width, max(2, triton.next_power_of_2(slices)), 32)
        num_words = -(-slices // 32)
        visible = -(-min(slices, 32) // together) * together
        rows = self._rows
        states = torch.empty(programs * n * num_words * width, dtype=torch.uint32, device=device)
        fields = torch.empty(programs * visible * rows * width, device=device)
        bonds = torch.empty(programs * num_words * 2 * rows * width, dtype=torch.uint32, device=device)
        bases = (self._none if base is None else base.float()).expand(n, chains)
        pins = (self._none if pinned is None else pinned.float()).expand(n, chains)
        betas = beta.float() if isinstance(beta, Tensor) else bits.new_full((), beta, dtype=torch.float32)
        betas = betas.to(device).expand(chains)
        tables = _borders(self._blocks, self._sizes, tuple(order), device), len(order)
        with torch.cuda.device_of(bits):  # a kernel runs on the current device, whatever it is given
            sweep_lines[(programs,)](
                *(bits, n, slices, chains, num_sweeps, key, *tables, self._level, self._cut),
                *(bases, *bases.stride(), betas, *betas.stride(), pins, *pins.stride()),
                *(*self._dense, self._width, *self._sparse, states, fields, bonds),
                *(rows, width, together, _NEIGHBOURS, self._is_dense),
                num_warps=min(8, max(4, rows * width // 128)),
                num_stages=1,
            )


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@functools.lru_cache(256)
def _borders(blocks: tuple[Block, ...], sizes: tuple[int, ...], order: tuple[int, ...], device: torch.device) -> Tensor:
    """For each block in its turn: start, stop, low, high, and where its ``starts`` and its entries begin, (order, 6)."""
    entries = [sum(sizes[:number]) for number in range(len(sizes))]
    found = [(b.start, b.stop, b.low, b.high, b.start + i, entries[i]) for i, b in enumerate(blocks)]
    return torch.tensor([found[number] for number in order] or [(0,) * 6], dtype=torch.int32).to(device)
