"""Gradients of a model's parameters by Jordan's algorithm, in the place of backpropagation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils import parameters_to_vector

from qvae.circuits.gradients.jordan import GradientEstimate, jordan_gradient


def jordan_backward(
    model: nn.Module,
    loss: Callable[[Callable[..., Tensor]], Tensor],
    bound: float,
    curvature: float,
    at_once: int = 2,
    **settings: Any,
) -> list[GradientEstimate]:
    """Adds measured gradients to ``grad`` of all parameters, as ``loss.backward()`` adds exact ones; any optimizer goes on.

    Each circuit has registers for a few parameters, and the others are held. As :func:`jordan_gradient` says, a simulator
    pays for all points of their grids, so that it shows quantum gradient descent and doesn't speed it up.

    Args:
        model: any small one, without random numbers in it, best in float64, which leaves room for more qubits; parameters that
            need no gradient are left out.
        loss: from a function that the model computes to a number, as ``lambda predict: mse_loss(predict(x), y)``.
        bound, curvature: of the loss, as :func:`jordan_gradient` has them.
        at_once: parameters in one circuit.
        settings: of :func:`jordan_gradient`: ``executor``, ``qubits``, ``degree``, ``repetitions``, ``phase_error``.

    Returns:
        An estimate for each circuit, in the order of the parameters.

    Raises:
        CircuitError, ExecutorError: as :func:`jordan_gradient`.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    start = parameters_to_vector(named.values()).detach()

    def by_name(vector: Tensor) -> dict[str, Tensor]:
        parts = vector.split([parameter.numel() for parameter in named.values()])
        return {name: part.view_as(parameter) for part, (name, parameter) in zip(parts, named.items(), strict=True)}

    def loss_of(vector: Tensor) -> Tensor:
        own = by_name(vector)
        return loss(lambda *inputs: functional_call(model, own, inputs))

    def loss_of_block(points: Tensor, first: int) -> Tensor:
        rows = start.repeat(len(points), 1)
        rows[:, first : first + points.shape[1]] = points
        return vmap(loss_of)(rows)

    estimates = []
    for first in range(0, len(start), at_once):
        block = start[first : first + at_once]
        estimates.append(jordan_gradient(partial(loss_of_block, first=first), block, bound, curvature, **settings))
    for name, gradient in by_name(torch.cat([estimate.gradient for estimate in estimates]).to(start)).items():
        earlier = named[name].grad
        named[name].grad = gradient.clone() if earlier is None else earlier + gradient
    return estimates
