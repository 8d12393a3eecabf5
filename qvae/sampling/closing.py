"""Letting go of samplers, which are somebody else's code: one that fails at it costs a warning and no work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from qvae.errors import in_a_line

_log = logging.getLogger(__name__)


class Closable(Protocol):
    """Whatever holds connections."""

    def close(self) -> None:
        """Release them."""


def close(used: Closable, warn: Callable[[str], None] = _log.warning) -> None:
    """Close ``used``, unless it is its user's own, and have ``warn`` told if that fails; unless it is given, the log is."""
    if getattr(used, "is_lent", False):
        return
    try:
        used.close()
    except (Exception, SystemExit) as error:
        name = getattr(used, "label", type(used).__name__)
        warn(f"{name} couldn't be closed ({in_a_line(error)}); its work is done all the same")
