"""Work done in forks of this process, which are killed at some moment, or their workers at several."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from qvae.runs.folder import METRICS

_TOLD_AFTER = 5.0  # seconds after a process's end, which torchrun sees much sooner, until the others are sent SIGTERM
_MINUTE = 60.0  # in which whatever is left of a disturbed work must have ended, or gone on


def in_a_fork(work: Callable[[], Any], kill_after: float | None = None) -> bool:
    """Do it in a process of its own; whether it came to its end before it was killed.

    Raises:
        RuntimeError: it failed by itself.
    """
    child = os.fork()
    if not child:
        _do(work)
    deadline = None if kill_after is None else time.monotonic() + kill_after
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if deadline is not None and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            deadline = None
        time.sleep(0.001)
    return _came_to_its_end(status)


def in_forks(work: Callable[[], Any], processes: int, kill_after: float | None, choose: random.Random) -> bool:
    """As :func:`in_a_fork`, in processes that train together, of which one is killed.

    Raises:
        RuntimeError: it failed by itself, or a process was there a minute after another one's end.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(processes)}
    alive = []
    for number in range(processes):
        child = os.fork()
        if not child:
            os.environ.update(place, RANK=str(number), LOCAL_RANK=str(number))
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                work()
            except BaseException:
                os._exit(1)
            os._exit(0)
        alive.append(child)
    deadline = math.inf if kill_after is None else time.monotonic() + kill_after
    failed_at, is_killed, is_told = math.inf, False, False
    while alive:
        for child in list(alive):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                alive.remove(child)
                failed_at = min(failed_at, time.monotonic()) if status else failed_at
        now = time.monotonic()
        if alive and now > deadline:
            os.kill(choose.choice(alive), signal.SIGKILL)
            is_killed, deadline = True, math.inf
        if not is_told and now > failed_at + _TOLD_AFTER:
            is_told = True
            for child in alive:
                os.kill(child, signal.SIGTERM)
        if alive and now > failed_at + _MINUTE:
            for child in alive:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            raise RuntimeError("a process was there a minute after another one's end")
        time.sleep(0.001)
    if failed_at < math.inf and not is_killed:
        raise RuntimeError("the work failed")
    return not is_killed


def in_a_family(
    work: Callable[[], Any], folder: Path, seconds: float, kill_after: float | None, choose: random.Random
) -> tuple[bool, int]:
    """As :func:`in_a_fork`, where the work has workers: now one of them is killed, now the process that they work for.

    Another kill follows as soon as trainings in the folder have gone on, and a random while later.

    Args:
        work: with workers that :mod:`multiprocessing` spawns.
        folder: of the work.
        seconds: that it takes.
        kill_after: seconds until the first kill; None is never.
        choose: of everything random.

    Returns:
        tuple: whether it came to its end, and the number of kills.

    Raises:
        RuntimeError: it failed by itself, didn't go on for a minute and three times its seconds, or left a worker for a minute.
    """
    child = os.fork()
    if not child:
        _do(work)
    family, kills, ended, written = set[int](), 0, (0, 0), _written(folder)
    alive = time.monotonic()  # its last sign of life
    kill_at, goes_on = (math.inf if kill_after is None else alive + kill_after), True
    while not ended[0]:
        now, workers = time.monotonic(), _workers(child)
        family |= workers
        if _written(folder) != written:
            written, alive = _written(folder), now
            if not goes_on:
                kill_at, goes_on = now + choose.uniform(0, seconds / 10), True
        if now > kill_at:
            os.kill(choose.choice([child, *2 * sorted(workers)]), signal.SIGKILL)
            kills, alive, kill_at, goes_on = kills + 1, now, math.inf, False
        if now > alive + 3 * seconds + _MINUTE:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise RuntimeError(f"nothing has happened for {now - alive:.0f} seconds")
        time.sleep(0.02)
        ended = os.waitpid(child, os.WNOHANG)
    alive = time.monotonic()
    while any(map(_is_worker, family)):
        if time.monotonic() > alive + _MINUTE:
            raise RuntimeError("a worker was there a minute after the work's end")
        time.sleep(0.02)
    return _came_to_its_end(ended[1]), kills


def _written(folder: Path) -> int:
    """When trainings in a folder last wrote a line, in nanoseconds."""
    with contextlib.suppress(OSError):
        return max((file.stat().st_mtime_ns for file in folder.rglob(METRICS)), default=0)
    return 0


def _do(work: Callable[[], Any]) -> NoReturn:
    """The work, in a fork."""
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _came_to_its_end(status: int) -> bool:
    if os.WIFSIGNALED(status):
        return False
    if status:
        raise RuntimeError("the work failed, see above")
    return True


def _workers(process: int) -> set[int]:
    """The spawned processes of a process, without the one that keeps account of what they share."""
    children: set[int] = set()
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{process}/task").glob("*/children"):
            children |= set(map(int, file.read_text().split()))
    return set(filter(_is_worker, children))


def _is_worker(process: int) -> bool:
    with contextlib.suppress(OSError):
        return b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False
