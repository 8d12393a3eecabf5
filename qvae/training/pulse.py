"""Whether the other processes of a training are still there: each says so every few seconds, in the store that all share.

One that ends closes its connections, and is missed at once. A machine that loses its power or its network closes nothing, and
messages that wait for it would wait on; torch's own limit is one of time for each message, and would end processes that are
slow as well.
"""

from __future__ import annotations

import threading
from datetime import timedelta

import torch.distributed as dist

_SECONDS = 5.0  # between two signs of life
_MISSED = 10  # of its own signs that a process gives before it misses another one: if all are stopped, none misses any
PATIENCE = _SECONDS * _MISSED
_ANSWER = timedelta(seconds=5)  # in which the store must


class Pulse:
    """Gives signs of life in a thread, and counts since when there were none of the others.

    Args:
        host: of the store.
        port: of the store.
        prefix: of the keys of this training.
        number: of this process.
        count: of all.

    Raises:
        RuntimeError: the store can't be reached.
    """

    def __init__(self, host: str, port: int, prefix: str, number: int, count: int) -> None:
        # A connection of its own, since one serves one question at a time.
        self._connection = dist.TCPStore(host, port, is_master=False, timeout=_ANSWER, wait_for_workers=False)
        self._store = dist.PrefixStore(prefix, self._connection)
        self._mine, self._others = f"pulse {number}", {other: f"pulse {other}" for other in range(count) if other != number}
        self._last = dict.fromkeys(self._others, b"")
        self._silent = dict.fromkeys(self._others, 0)
        self._stop = threading.Event()
        self._store.set(self._mine, "0")
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    @property
    def missed(self) -> int | None:
        """The process that has been silent for too long, the one that was longest; None if all are there."""
        longest = max(self._silent, key=lambda other: self._silent[other])
        return longest if self._silent[longest] >= _MISSED else None

    def stop(self) -> None:
        """Give no more signs."""
        self._stop.set()

    def _beat(self) -> None:
        given = 0
        while not self._stop.wait(_SECONDS):
            given += 1
            found = dict(self._last)
            try:
                self._store.set(self._mine, str(given))
                found = dict(zip(self._others, self._store.multi_get(list(self._others.values())), strict=True))
            except RuntimeError:  # nobody is heard where the store isn't
                pass
            for other, sign in found.items():
                self._silent[other] = self._silent[other] + 1 if sign == self._last[other] else 0
            self._last = found
