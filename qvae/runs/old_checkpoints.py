"""Files of earlier versions in today's form."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qvae.config.schema import LatentConfig
from qvae.ising.graphs import edge_order


def upgraded(state: dict[str, Any], latent: LatentConfig) -> dict[str, Any]:
    """A checkpoint's or a model's state as today's version keeps it; one of today comes back as it is.

    Version 0.1.0 kept what is seen of a sampler among the metrics, and couplings in the order of the configuration's edges.

    Args:
        state: of a checkpoint or a model file.
        latent: the section of its configuration.
    """
    if "monitor" in state and "watch" not in state:
        state = state | {"watch": state["monitor"]}
    if latent.edges and "prior.J" in state.get("model", {}) and "prior._extra_state" not in state["model"]:
        state = state | _in_todays_order(state, edge_order(latent.edges))
    return state


def _in_todays_order(state: dict[str, Any], order: Tensor) -> dict[str, Any]:
    """What a state holds of the couplings: their values, their averages and what the optimizer remembers of them."""
    model = state["model"]
    found: dict[str, Any] = {"model": model | {"prior.J": model["prior.J"][order]}}
    if "average" in state:
        average, optimizer = list(state["average"]), dict(state["optimizer"])
        place = len(average) - (2 if "prior.log_gamma" in model else 1)  # the prior's parameters are the last: h, J, log_gamma
        average[place] = average[place][order]
        moments = optimizer.get(str(place), {})
        optimizer[str(place)] = {name: value[order] if value.ndim else value for name, value in moments.items()}
        found |= {"average": average, "optimizer": optimizer}
    return found
