"""What a training step does besides products: by compiled passes that know their derivatives, where these serve.

All compute what torch's own functions do, to the rounding of float32. Those serve everywhere else: on other devices, in
float64, where no gradients are wanted, inside of functional transforms, on many threads, and where there are no compiled
kernels (:mod:`qvae.ising.compiled`). They also give gradients that are to be differentiated again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qvae.errors import CapabilityError
from qvae.ising.compiled import kernels, random_word_tensor
from qvae.ising.tape import run

_MOST_THREADS = 2  # a pass takes one; torch shares its own out, and on more is as quick


def load_passes(device: torch.device) -> ModuleType | None:
    """:mod:`qvae.models.fused`, whose first import takes time, or None where torch's functions serve."""
    return kernels(device, "models.fused")


def _passes(x: Tensor, *others: Tensor, halves: bool = False) -> ModuleType | None:
    """The compiled passes, if they take these: rows x (B, C) in float32 or, with ``halves``, in bfloat16; others in float32."""
    if torch.get_num_threads() > _MOST_THREADS or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return None
    if x.ndim != 2 or not _is_plain(x, torch.bfloat16 if halves and x.dtype == torch.bfloat16 else torch.float32):
        return None
    for other in others:
        if not _is_plain(other, torch.float32):
            return None
    return load_passes(x.device)


def _is_plain(x: Tensor, dtype: torch.dtype) -> bool:
    return x.dtype == dtype and x.is_contiguous() and type(x) in (Tensor, nn.Parameter)


def _array(x: Tensor) -> np.ndarray:
    """The numbers of a tensor, in its memory; of bfloat16 their words."""
    if x.requires_grad:
        x = x.detach()
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()


def _again(function: Callable[..., Tensor], gradient: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated themselves, by torch's own ``function`` of the inputs."""
    wanted = [x for x in inputs if x.requires_grad]
    with torch.enable_grad():
        found = iter(torch.autograd.grad(function(*inputs), wanted, gradient, create_graph=True))
    return tuple(next(found) if x.requires_grad else None for x in inputs)


# Batch norm and SiLU --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sharing:
    """How processes that have a part of a batch each find what is of all its rows.

    Attributes:
        processes: as many.
        moments: means and variances of the columns of this process's rows, (2, C), to those of all rows.
        average: of numbers over all processes.
    """

    processes: int
    moments: Callable[[Tensor], Tensor]
    average: Callable[[Tensor], Tensor]


def normalised_silu(x: Tensor, norm: nn.Module, activation: nn.Module) -> Tensor | None:
    """SiLU of batch norm of rows x (B, C), in training; None where these modules are to be called one after the other.

    A batch norm over several processes says in ``sharing`` how.
    """
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or type(activation) is not nn.SiLU:
        return None
    sharing: Sharing | None = getattr(norm, "sharing", None)
    if type(norm) is not nn.BatchNorm1d and sharing is None:
        return None
    if _is_watched(norm) or _is_watched(activation):
        return None
    mean, variance, batches = norm.running_mean, norm.running_var, norm.num_batches_tracked
    if mean is None or variance is None or batches is None:
        return None
    if not (norm.training and norm.affine and x.requires_grad) or x.shape[0] < 2:
        return None
    passes = _passes(x, norm.weight, norm.bias, mean, variance, halves=True)
    if passes is None:
        return None
    batches.add_(1)
    momentum = 1 / float(batches) if norm.momentum is None else norm.momentum
    return _NormalisedSiLU.apply(x, norm.weight, norm.bias, mean, variance, momentum, norm.eps, sharing, passes)


def _is_watched(module: nn.Module) -> bool:
    """Whether someone wants to know when it is called."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)


class _NormalisedSiLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
        sharing: Sharing | None,
        passes: ModuleType,
    ) -> Tensor:
        out, slope = torch.empty_like(x), torch.empty_like(x, dtype=torch.float32)
        rows, moments = _array(x), weight.new_empty(2, x.shape[1])
        run(passes.moments, rows, *_array(moments))
        ctx.eps, ctx.sharing, ctx.passes, of_batch = eps, sharing, passes, x.shape[0]
        if sharing is not None:
            of_batch, moments = sharing.processes * x.shape[0], sharing.moments(moments)
        written = map(_array, (running_mean, running_var, out, slope))
        mean, rate = _array(moments)
        run(passes.normalise_and_activate, rows, mean, rate, _array(weight), _array(bias), of_batch, eps, momentum, *written)
        ctx.save_for_backward(x, weight, bias, slope, moments)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, slope, moments = ctx.saved_tensors
        if torch.is_grad_enabled():
            if ctx.sharing is not None:
                raise CapabilityError(
                    "batch norm over several processes has no second derivatives; train in one process, or set "
                    "model.network.batch_norm=false."
                )
            by_torch = functools.partial(_silu_by_torch, eps=ctx.eps)
            in_inputs = _again(by_torch, gradient, x, weight, bias)
        else:
            in_x, sums = torch.empty_like(x), torch.empty_like(moments)
            arrays = (*map(_array, (x, gradient.contiguous(), slope)), *_array(moments))
            run(ctx.passes.gradient_sums, *arrays, *_array(sums))
            # Of a process's share of the rows, what comes to it of the sums over all.
            shared = sums if ctx.sharing is None else ctx.sharing.average(sums)
            run(ctx.passes.pull_back, *arrays, _array(weight), *_array(shared), x.shape[0], _array(in_x))
            in_inputs = in_x, *sums.unbind()
        return *in_inputs, *6 * (None,)


def _silu_by_torch(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.silu(F.batch_norm(x, None, None, weight, bias, training=True, eps=eps))


# A bias ---------------------------------------------------------------------------------------------------------------


def plus_bias(x: Tensor, bias: Tensor) -> Tensor:
    """x + bias of rows x (B, C), in float32 or better whatever the precision of x."""
    passes = _passes(x, bias, halves=True) if x.requires_grad and bias.requires_grad else None
    return _plus_bias_by_torch(x, bias) if passes is None else _PlusBias.apply(x, bias, passes)


def _plus_bias_by_torch(x: Tensor, bias: Tensor) -> Tensor:
    return at_least_single(x) + bias


def at_least_single(values: Tensor) -> Tensor:
    """In float32 where autocast made less of it; what a model in float64 computes stays as it is."""
    return values if values.dtype == torch.float64 else values.float()


class _PlusBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, passes: ModuleType) -> Tensor:
        out = torch.empty_like(x, dtype=torch.float32)
        run(passes.add_bias, _array(x), _array(bias), _array(out))
        ctx.save_for_backward(x, bias)
        ctx.passes = passes
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, bias = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_again(_plus_bias_by_torch, gradient, x, bias), None
        in_x, in_bias = torch.empty_like(x), torch.empty_like(bias)
        run(ctx.passes.sum_and_store, _array(gradient.contiguous()), _array(in_bias), _array(in_x))
        return in_x, in_bias, None


# Functions of logits --------------------------------------------------------------------------------------------------


def bernoulli_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    """sum_d x_d l_d - softplus(l_d) of logits l and numbers x from 0 to 1, (B, D) both or broadcast to it, (B,)."""
    logits, x = torch.broadcast_tensors(logits, x)
    passes = _passes(logits, x) if logits.requires_grad and not x.requires_grad else None
    if passes is None:
        return _log_prob_by_torch(logits, x)
    return _RowSums.apply(passes.bernoulli, _log_prob_by_torch, logits, x)


def _log_prob_by_torch(logits: Tensor, x: Tensor) -> Tensor:
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """Entropy of independent bits with these ``logits`` (B, n), in nats, (B,)."""
    passes = _passes(logits) if logits.requires_grad else None
    if passes is None:
        return _entropy_by_torch(logits)
    return _RowSums.apply(passes.entropy, _entropy_by_torch, logits)


def _entropy_by_torch(logits: Tensor) -> Tensor:
    return (F.softplus(logits) - logits * torch.sigmoid(logits)).sum(-1)


class _RowSums(torch.autograd.Function):
    """Sums over rows of a function of each number, (B,); the slope at each number, (B, D), comes from the same pass."""

    @staticmethod
    def forward(ctx: Any, kernel: Any, by_torch: Callable[..., Tensor], x: Tensor, *others: Tensor) -> Tensor:
        total, slope = x.new_empty(x.shape[0]), torch.empty_like(x)
        run(kernel, *map(_array, (x, *others, total, slope)))
        ctx.save_for_backward(slope, x, *others)
        ctx.by_torch = by_torch
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        slope, *inputs = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, None, *_again(ctx.by_torch, gradient, *inputs)
        return None, None, gradient.unsqueeze(1) * slope, *(None for _ in inputs[1:])


def spin_means(logits: Tensor) -> Tensor:
    """E[s] = tanh(l / 2) of spins s = 2 z - 1 whose bits z have logits l (B, n)."""
    passes = _passes(logits) if logits.requires_grad else None
    if passes is None:
        return torch.tanh(logits / 2)
    return _Squashed.apply(logits, passes.tanh_of_half, torch.ops.aten.tanh_backward, 0.5)


def binary_concrete(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """sigmoid((l + log u - log(1 - u)) / temperature) of logits l (B, n), u uniform: Maddison et al. 2017, arXiv:1611.00712.

    The compiled pass, which serves without gradients, too, takes two random words from the generator, from which a stream for
    each column starts.
    """
    passes = _passes(logits)
    if passes is None:
        return torch.sigmoid((logits + torch.logit(open_uniform(logits, generator))) / temperature)
    words, factor = random_word_tensor(generator).numpy(), 1 / temperature

    def kernel(read: np.ndarray, written: np.ndarray) -> None:
        passes.binary_concrete(read, factor, words, written)

    return _Squashed.apply(logits, kernel, torch.ops.aten.sigmoid_backward, factor)


def open_uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform on the open interval (0, 1): neither logarithm of it is infinite."""
    tiny = torch.finfo(torch.float32).eps / 2
    return torch.rand(like.shape, generator=generator, device=like.device).clamp_(tiny, 1 - tiny)


class _Squashed(torch.autograd.Function):
    """Sigmoids or tangents, whose ``derivative`` follows from their value, of numbers times a ``factor``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Any, derivative: Callable[[Tensor, Tensor], Tensor], factor: float) -> Tensor:
        out = torch.empty_like(x)
        run(kernel, _array(x), _array(out))
        ctx.save_for_backward(out)
        ctx.derivative, ctx.factor = derivative, factor
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = ctx.saved_tensors
        return ctx.derivative(gradient, out) * ctx.factor, None, None, None
