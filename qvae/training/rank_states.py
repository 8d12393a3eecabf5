"""What of a training's state each of several processes has for itself, and a checkpoint that is given to as many, or others.

The same serves a checkpoint that goes on on another kind of device, whose generators have other states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qvae.training import ranks

_COMMON = {"model", "step", "seconds", "average", "early_stopping", "observer", "watch", "reached", "plays", "optimizers"}
_OBJECTIVES = {"first"}  # states of objectives inside of objectives


def own_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Generators, chains and figures: all but the weights, what optimizers remember, and what is decided together.

    >>> own_state({"model": {}, "optimizer": {}, "generator": 1, "first": {"circuit_optimizer": {}, "generator": 2}})
    {'generator': 1, 'first': {'generator': 2}}
    """
    found = {key: value for key, value in state.items() if key not in _COMMON and not key.endswith("optimizer")}
    return {key: own_state(value) if key in _OBJECTIVES else value for key, value in found.items()}


def fitting(
    saved: Mapping[str, Any], here: Callable[[], Mapping[str, Any]], device: str, say: Callable[[str], None]
) -> Mapping[str, Any]:
    """The state that this process goes on with.

    Args:
        saved: of any number of processes, on any kind of device.
        here: gives the state as it is now. What of it is this process's own stays, if it goes on with another number or kind.
        device: the kind that it goes on on.
        say: is told so.
    """
    others, difference = saved.get("ranks", []), ""
    if 1 + len(others) != ranks.count():
        difference = f"is of {1 + len(others)} process{'es' * bool(others)} and goes on with {ranks.count()}"
    elif saved.get("device", "cpu") != device:
        difference = f"goes on with {device}, where it was not saved"
    if difference:
        say(
            f"this checkpoint {difference}: with fresh chains and other random numbers, so that it doesn't repeat what "
            "those would have done"
        )
        fresh = {key: value for key, value in own_state(here()).items() if key != "monitor"}  # an open epoch's figures go on
        return _with_own(saved, fresh)
    return _with_own(saved, others[ranks.number() - 1]) if not ranks.is_first() else saved


def _with_own(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    nested = {key: _with_own(common[key], own[key]) for key in _OBJECTIVES & own.keys() & common.keys()}
    return {**common, **own, **nested}
