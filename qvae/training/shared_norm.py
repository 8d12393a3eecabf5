"""Batch norm over the whole batch where several processes have a part of it each: on any device, by one message a layer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qvae.models.passes import Sharing
from qvae.training import ranks


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose statistics, in training, are those of all processes' rows; alone it is torch's own.

    torch's ``SyncBatchNorm`` does so on CUDA only.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Rows (B, C) or (B, C, ...) of this process, normalised; as many in each process."""
        if not self.training or ranks.count() == 1:
            return super().forward(x)
        found, mean, variance = _Normalised.apply(x, self.weight, self.bias, self.eps)
        self._remember(mean, variance, ranks.count() * x.numel() // x.shape[1])
        return found

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, rows: int) -> None:
        """Take statistics into the running ones, the variance without its bias, as torch does."""
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (rows / (rows - 1)), momentum)

    @property
    def sharing(self) -> Sharing | None:
        """How compiled passes, which do the same with a SiLU behind it, reach the other processes."""
        return None if ranks.count() == 1 else Sharing(ranks.count(), _moments_of_all, ranks.average)

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def _moments_of_all(here: Tensor) -> Tensor:
    """Means and variances (2, C) of all processes' rows, from those of each one's, which are as many."""
    means, variances = ranks.all_of(here).unbind(1)
    mean = means.mean(0)
    return torch.stack([mean, (variances + (means - mean).square()).mean(0)])


def share_batch_norm(model: nn.Module) -> None:
    """Put a shared batch norm in the place of each one of a model, with the same parameters and buffers."""
    for name, module in model.named_children():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            share_batch_norm(module)
            continue
        shared = SharedBatchNorm(module.num_features, module.eps, module.momentum)
        shared.weight, shared.bias = module.weight, module.bias
        for buffer, value in module.named_buffers():
            setattr(shared, buffer, value)
        setattr(model, name, shared.train(module.training))


class _Normalised(torch.autograd.Function):
    """Rows by the mean and variance of all processes' rows, and these two; with torch's kernels for one process's part.

    With s = weight / sqrt(variance + eps) and x^ the rows before weight and bias, the gradient in rows is
    s (g - <g> - x^ <g x^>), whose means are over all processes' rows: each process's loss depends on all of them
    (Ioffe and Szegedy 2015, arXiv:1502.03167, section 3).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        # Statistics have the type of those that are to be kept, also of rows in bfloat16.
        here = torch.batch_norm_update_stats(x, torch.zeros_like(weight), torch.zeros_like(weight), 0.0)
        mean, variance = _moments_of_all(torch.stack(here))
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance = ctx.saved_tensors
        fixed, eps = (mean, variance, None, None, False), ctx.eps  # as in evaluation: as if neither depended on the rows
        in_x, in_weight, in_bias = torch.ops.aten.native_batch_norm_backward(gradient, x, weight, *fixed, eps, (True,) * 3)
        factor = -weight * torch.rsqrt(variance + eps) / (x.numel() // x.shape[1])
        by_slope, by_mean = factor * ranks.average(torch.stack([in_weight, in_bias]))
        in_x += F.batch_norm(x, mean, variance, by_slope, by_mean, eps=eps)
        return in_x, in_weight, in_bias, None
