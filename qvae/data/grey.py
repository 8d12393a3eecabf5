"""Grey levels as 15-bit codes, and bits drawn from them: fifteen random bits make a pixel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qvae.ising.compiled import kernels, random_words

WHITE = 2**15  # grey levels are multiples of 1/32768


def codes_of_levels(rows: Tensor, levels: int) -> Tensor:
    """Codes, int16, of numbers 0..levels-1 that mean black to white: whole numbers, or any between for two levels.

    A grey level g in [0, 1] is coded as the integer round(32768 g) - 1: half the memory of float32, and a pixel is drawn
    by one comparison with 15 random bits.
    """
    return (rows.float().double().mul_(WHITE / (levels - 1)).round_() - 1).to(torch.int16)


def cut(codes: Tensor) -> Tensor:
    """Codes of white where the grey level is 0.5 or more, and of black elsewhere."""
    return codes_of_bits(codes >= WHITE // 2 - 1)


def levels_of_codes(codes: Tensor) -> Tensor:
    """Grey levels in [0, 1], float32."""
    return (codes.float() + 1) / WHITE


def draw(codes: Tensor, generator: torch.Generator | None) -> Tensor:
    """Bits as float32: 1 with the probability of the grey level."""
    # Four pixels from each 64-bit number: three times as fast as torch.rand and a comparison of floats.
    count = codes.numel()
    noise = torch.empty(-(-count // 4), dtype=torch.int64, device=codes.device).random_(generator=generator)
    noise = noise.bitwise_and_(0x7FFF_7FFF_7FFF_7FFF).view(torch.int16)[:count].view(codes.shape)
    return torch.le(noise, codes, out=torch.empty(codes.shape, device=codes.device))


def draw_quickly(codes: Tensor, generator: torch.Generator | None) -> Tensor:
    """As :func:`draw`; rows (N, D) by a compiled pass where there is one, which draws other bits from the same seed."""
    fused = kernels(codes.device, "data.fused") if codes.ndim == 2 and codes.is_contiguous() else None
    if fused is None:
        return draw(codes, generator)
    bits = torch.empty(codes.shape)
    fused.draw(codes.numpy(), *random_words(generator), bits.numpy())
    return bits


def draw_once(codes: Tensor, seed: list[int]) -> Tensor:
    """Codes of bits drawn from a seed, the same for all versions of NumPy and PyTorch."""
    generator = np.random.PCG64(np.random.SeedSequence(seed))
    noise = generator.random_raw(-(-codes.numel() // 4)).astype("<u8").view("<i2")[: codes.numel()]
    return codes_of_bits(torch.from_numpy((noise & 0x7FFF).astype(np.int16)).view(codes.shape) <= codes)


def codes_of_bits(bits: Tensor) -> Tensor:
    """Codes of black and white."""
    return bits.to(torch.int16).mul_(WHITE).sub_(1)
