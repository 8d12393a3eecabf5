"""Checkpoints and models of earlier versions in today's form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qvae.config.latent import LatentConfig
from qvae.ising.graphs import edge_order


def upgraded(state: dict[str, Any], latent: LatentConfig) -> dict[str, Any]:
    """What a checkpoint or a model's file holds as it would be saved today; what is of today comes back as it is.

    Version 0.1.0 kept what is seen of a sampler among the metrics, and couplings in the order in which a configuration, or
    hardware, names their edges.
    """
    if "monitor" in state and "watch" not in state:
        state = state | {"watch": state["monitor"]}
    edges: Any = latent.edges if latent.graph == "edges" else state.get("edges", ())
    if len(edges) == 0 or "prior._extra_state" in state.get("model", {}):
        return state
    order = edge_order(edges)
    found = state | {"model": state["model"] | {"prior.J": state["model"]["prior.J"][order]}}
    if "average" in state:  # networks first, then h, J and perhaps log_gamma of the prior
        place = len(state["average"]) - (2 if "prior.log_gamma" in state["model"] else 1)
        average, optimizer = list(state["average"]), dict(state["optimizer"])
        average[place] = average[place][order]
        if str(place) in optimizer:
            optimizer[str(place)] = {key: _in_order(value, order) for key, value in optimizer[str(place)].items()}
        found |= {"average": average, "optimizer": optimizer}
    return found


def _in_order(value: Any, order: Tensor) -> Any:
    """What an optimizer remembers of each coupling, in another order; numbers stay."""
    is_of_couplings = isinstance(value, torch.Tensor) and value.ndim == 1 and len(value) == len(order)
    return value[order] if is_of_couplings else value
