"""Workers of a dask cluster, found by the address of its scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from qvae.errors import WorkersError, in_a_line, install_line
from qvae.workers import Workers

if TYPE_CHECKING:
    from distributed import Client

_SECONDS = 10.0  # in which a scheduler answers, and a cluster without workers gets one


def connect(address: str) -> Client:
    """A client of the scheduler at an address, such as ``tcp://host:8786``.

    Raises:
        WorkersError: dask isn't installed, or no scheduler answers there.
    """
    try:
        from distributed import Client
    except ImportError as error:
        missing = f"a cluster needs the module distributed, which can't be imported ({in_a_line(error)})"
        raise WorkersError(f"{missing}: {install_line('dask')}.") from error
    shown = without_secrets(address)
    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook has a loop of its own in this one
            thread.submit(asyncio.run, _greet(address)).result()
        return Client(address, timeout=_SECONDS, set_as_default=False)
    except Exception as error:  # of many kinds, from a fault in the address to one in a certificate
        reason = in_a_line(error) if shown == address else type(error).__name__
        remedy = "`dask scheduler` starts one and prints its address"
        raise WorkersError(f"no dask scheduler can be reached at {shown} ({reason}); {remedy}.") from None


async def _greet(address: str) -> None:
    """Try a connection: a client that finds nobody makes a noise about it when the process ends."""
    from distributed.comm import connect as connected
    from distributed.security import Security

    await (await connected(address, timeout=_SECONDS, **Security().get_connection_args("client"))).close()


def without_secrets(address: str) -> str:
    """An address for people to read: names, passwords and tokens in it are left out.

    >>> without_secrets("tls://me:secret@host:8786/x?token=1")
    'tls://host:8786/x'
    """
    return re.sub(r"//[^/@]*@", "//", address).partition("?")[0]


class Cluster(Workers):
    """Places on the workers of a dask cluster: one on each, or as many as are asked for, in turn.

    Args:
        client: of the cluster.
        number: of places; None is one for each worker that there is now.
        owned: whether the client is closed with the workers.

    Raises:
        WorkersError: there are no workers, or they have no qvae, or other versions than here.
    """

    def __init__(self, client: Client, number: int | None = None, owned: bool = True) -> None:
        self._client, self._owned = client, owned
        self._address = without_secrets(client.scheduler.address)
        try:
            alive = self._alive()
        except BaseException:
            self.close()
            raise
        self._hosts = [alive[place % len(alive)] for place in range(number or len(alive))]
        self._executors: dict[str, Executor] = {}

    def __len__(self) -> int:
        return len(self._hosts)

    def submit(self, place: int, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """As for all workers; nobody but the worker of this place takes it.

        Raises:
            WorkersError: the scheduler is gone.
        """
        host = self._hosts[place]
        if host not in self._executors:
            only_there = {"workers": [host], "allow_other_workers": False, "pure": False, "retries": 0}
            self._executors[host] = self._client.get_executor(**only_there)
        try:
            return self._executors[host].submit(function, *arguments)
        except Exception as error:
            raise self._gone(error) from None

    def wait(self, pending: Mapping[Future[Any], int], seconds: float) -> list[Future[Any]]:
        """As for all workers; what waits for a worker that is gone is cancelled, as it would wait for ever."""
        done = super().wait(pending, seconds)
        if not done:
            alive = self._answer()
            for future, place in pending.items():
                if self._hosts[place] not in alive:
                    future.cancel()
                    done.append(future)
        return done

    def renew(self, place: int) -> None:
        """The worker with the fewest places takes this one, too.

        Raises:
            WorkersError: there is none left, or the scheduler is gone.
        """
        self._hosts[place] = min(self._alive(), key=self._hosts.count)

    def close(self, now: bool = False) -> None:
        """Leave the cluster; the workers stay, and what one is at goes on to its end."""
        if self._owned:
            with contextlib.suppress(Exception):
                self._client.close(timeout=_SECONDS)

    def describe(self, place: int) -> str:
        """A place in words."""
        return f"the worker {self._hosts[place]}"

    def _alive(self) -> list[str]:
        """Addresses of the workers that there are, in order, once there is one; those that can't do the work are an error."""
        with contextlib.suppress(Exception):  # what is wrong is said below
            self._client.wait_for_workers(1, timeout=_SECONDS)
        found = sorted(self._answer())
        if not found:
            raise WorkersError(f"the cluster at {self._address} has no workers; `dask worker ADDRESS` starts one.")
        self._require_same_versions(found)
        return found

    def _answer(self) -> set[str]:
        """Addresses of the workers, in no order."""
        try:
            return set(self._client.nthreads())
        except Exception as error:
            raise self._gone(error) from None

    def _gone(self, error: Exception) -> WorkersError:
        gone = f"the scheduler at {self._address} doesn't answer any more ({in_a_line(error)})"
        return WorkersError(f"{gone}; start the cluster again, and go on from the last checkpoint.")

    def _require_same_versions(self, addresses: list[str]) -> None:
        ask = _asking_for_versions()
        here = ask()
        for address, found in self._client.run(ask, workers=addresses).items():
            for package, version in here.items():
                if found.get(package) != version:
                    there = f"has {package} {found[package]}" if package in found else f"has no {package}"
                    remedy = "install the same on both, or seeds don't repeat"
                    raise WorkersError(f"the worker {address} {there}, and here it is {package} {version}; {remedy}.")


def _asking_for_versions() -> Callable[[], dict[str, str]]:
    """A function that tells which versions there are, and travels whole, to where qvae may not be installed."""

    def versions() -> dict[str, str]:
        import contextlib
        import importlib.metadata
        import platform

        found = {"Python": ".".join(platform.python_version_tuple()[:2])}
        for package in ("qvae", "torch"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[package] = importlib.metadata.version(package).partition("+")[0]
        return found

    return versions
