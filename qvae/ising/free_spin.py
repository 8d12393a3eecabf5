"""One spin alone, in a field and a transverse field: closed forms in P slices of imaginary time, and its world lines."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class FreeSpin:
    """One spin in a field f and a transverse field gamma in P slices: powers of M = e^(-f sz/2P) e^(gamma sx/P) e^(-f sz/2P).

    M = exp(-e (z sz - x sx)) with cosh e = cosh(f/P) cosh(gamma/P) and a unit vector (z, x). Tensors in float64; without
    ``slices``, M is the limit of infinitely many, exp(-f sz + gamma sx), in one step.
    """

    def __init__(self, field: Tensor, gamma: Tensor, slices: int | Tensor | None = None) -> None:
        if slices is None:
            up, across = field, gamma
            self.rate = size = torch.hypot(up, across)
        else:
            # (z, x) sinh e = (cosh b sinh a, sinh b), over cosh a cosh b, which may be too large for a float.
            a, b = field / slices, gamma / slices
            up, across = torch.tanh(a), torch.tanh(b) / torch.cosh(a)
            size = torch.hypot(up, across)
            log_sinh = torch.log(size) + _log_cosh(a) + _log_cosh(b)
            self.rate = torch.where(log_sinh > 20, log_sinh + math.log(2), torch.asinh(torch.exp(log_sinh.clamp(max=20))))
        self.slices = 1 if slices is None else slices
        self.z, self.x = torch.where(size > 0, up / size, 0.0), torch.where(size > 0, across / size, 0.0)

    def mean(self) -> Tensor:
        """<sz>."""
        return -self.z * torch.tanh(self.slices * self.rate)

    def log_trace(self) -> Tensor:
        """log Tr M^P."""
        exponent = self.slices * self.rate
        return exponent + torch.log1p(torch.exp(-2 * exponent))

    def log_return(self, spin: Tensor, power: int | None = None) -> Tensor:
        """log <s|M^power|s>, or of M^P."""
        exponent = (self.slices if power is None else power) * self.rate
        # 1 - |z| from x, which it may be far smaller than.
        small = self.x.square() / (1 + self.z.abs())
        growing = torch.where(spin * self.z > 0, small, 2 - small)
        return torch.logaddexp(exponent + torch.log(growing / 2), torch.log(1 - growing / 2) - exponent)

    def log_passage(self, power: int) -> Tensor:
        """log <s|M^power|-s>."""
        exponent = power * self.rate
        return exponent + torch.log(self.x * -torch.expm1(-2 * exponent) / 2)


def log_2cosh(x: Tensor) -> Tensor:
    """log(2 cosh x) without overflow."""
    size = x.abs()
    return size + torch.log1p(torch.exp(-2 * size))


def _log_cosh(x: Tensor) -> Tensor:
    return log_2cosh(x) - math.log(2)


def fields_of_means(means: Tensor, gamma: Tensor) -> Tensor:
    """Fields h with <s> = -(h/e) tanh e, e^2 = h^2 + gamma^2, by bisection."""
    # At this size, 1 - |<s>| is 1e-4 or tanh's rounding.
    high = 10 + 100 * gamma
    low = -high
    for _ in range(60):
        middle = (low + high) / 2
        size = torch.hypot(middle, gamma).clamp(min=1e-300)
        too_high = -middle / size * torch.tanh(size) < means
        low, high = torch.where(too_high, low, middle), torch.where(too_high, middle, high)
    return (low + high) / 2


def pinned_mean(field: Tensor, gamma: Tensor, spin: Tensor) -> Tensor:
    """Mean over imaginary time of one spin from s to s: -d/df log <s|exp(-f sz + gamma sx)|s>."""
    size = torch.hypot(field, gamma).clamp(min=1e-12)
    z, t = field / size, torch.tanh(size)
    slope = z * t - spin * ((gamma / size).square() * t / size + z.square())
    mean = -slope / (1 - spin * z * t).clamp(min=1e-15)
    return torch.where(gamma > 0, mean.clamp(-1, 1), spin)


def free_lines(
    field: Tensor, gamma: Tensor, slices: int, chains: int, generator: torch.Generator, pinned: Tensor | None = None
) -> Tensor:
    """Independent world lines of spins without couplings, bits (n, P, chains), int8.

    Slice by slice: s^k follows s^(k-1) with weight <s^(k-1)|M|s^k> <s^k|M^(P-k)|s^0>.

    Args:
        field: (n, 1) or (n, chains), float64.
        gamma: (n, 1), float64.
        slices: P.
        chains: their number.
        generator: on the fields' device.
        pinned: spins of slice 0 where they are given, (n, chains).
    """
    spin = FreeSpin(field, gamma, slices)
    up, down = torch.ones_like(field), -torch.ones_like(field)
    bits = torch.empty(len(field), slices, chains, dtype=torch.int8, device=field.device)

    def draw(logit: Tensor) -> Tensor:
        uniform = torch.rand(len(field), chains, generator=generator, device=field.device)
        return uniform < torch.sigmoid(logit)

    first = draw(spin.log_return(up) - spin.log_return(down)) if pinned is None else pinned > 0
    bits[:, 0] = previous = first
    step = (spin.log_return(up, 1), spin.log_return(down, 1), spin.log_passage(1))
    for k in range(1, slices):
        home = (spin.log_return(up, slices - k), spin.log_return(down, slices - k), spin.log_passage(slices - k))
        to_up = torch.where(previous, step[0], step[2]) + torch.where(first, home[0], home[2])
        to_down = torch.where(previous, step[2], step[1]) + torch.where(first, home[2], home[1])
        bits[:, k] = previous = draw(to_up - to_down)
    return bits
