"""Batch norm over the whole batch where several processes have a part of it each: on any device, by one message a layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

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
        dims = [dim for dim in range(x.ndim) if dim != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        # Moments about a number near the mean, which all processes know: those about 0 would lose digits.
        pivot = self.running_mean.clone().view(shape)
        centred = x.to(pivot.dtype) - pivot
        moments = _Average.apply(torch.stack([centred.mean(dims), centred.square().mean(dims)]))
        mean, variance = moments[0], moments[1] - moments[0].square()
        self._remember(mean.detach() + pivot.view(-1), variance.detach(), ranks.count() * x.numel() // x.shape[1])
        scale = self.weight * torch.rsqrt(variance + self.eps)
        found = (centred - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)
        return found.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, rows: int) -> None:
        """Take statistics into the running ones, the variance without its bias, as torch does."""
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (rows / (rows - 1)), momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        pass


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


class _Average(torch.autograd.Function):
    """The average over processes, whose gradient is averaged, too: each process's loss depends on all others' rows."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return ranks.average(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return ranks.average(gradients[0])
