"""The line to a D-Wave solver, through the service's own client, with its faults in words."""

from __future__ import annotations

import logging
import os
import re
import threading
import weakref
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from qvae.errors import SamplerError
from qvae.sampling.metering import Fault

_NO_TOKEN = "there is no D-Wave API token"
_REQUEST_SECONDS = 30.0  # for one answer of the server to one request


@dataclass(frozen=True)
class Submission:
    """A problem on qubits, in the solver's units.

    Attributes:
        qubits: their labels, (k,).
        fields: on them, (k,).
        couplers: pairs of labels, (e, 2).
        couplings: on them, (e,).
        parameters: of the solver, ``num_reads`` among them.
        price: the QPU seconds that it should take.
    """

    qubits: np.ndarray
    fields: np.ndarray
    couplers: np.ndarray
    couplings: np.ndarray
    parameters: dict[str, Any]
    price: float

    @property
    def num_reads(self) -> int:
        """Samples that are asked for."""
        return int(self.parameters["num_reads"])


@dataclass(frozen=True)
class Answer:
    """Reads, -1 or +1, int8, (num_reads, k) in the order of the submission's qubits, and the QPU time they took."""

    spins: np.ndarray
    qpu_seconds: float


class Solver(Protocol):
    """What answers submissions: an annealer, or a recording of one.

    Attributes:
        structure: the client's ``StructuredSolver``: nodes, edges, properties, parameters and estimates of QPU time.
    """

    structure: Any

    @property
    def source(self) -> str:
        """Where the credentials came from, for a person to read."""
        ...

    def answer(self, submission: Submission) -> Answer:
        """The reads of one submission; raises :class:`Fault`."""
        ...

    def rewind(self, position: int, spent: float) -> None:
        """Go on as after ``position`` submissions: a resumed run asks for those after its checkpoint again.

        By now the run has ``spent`` so many seconds, those for answers that are asked for again among them.
        """

    def close(self) -> None:
        """Release the connection."""


# The annealer ---------------------------------------------------------------------------------------------------------


class NoToken(SamplerError):
    """There is no token, or none that the client finds."""


class LeapSolver:
    """A solver of D-Wave's service through its own client, which finds the token in the environment or in its own file.

    Args:
        settings: ``solver``, ``region``, ``profile`` and ``endpoint`` of the client, those that were given.
        timeout: seconds that a submission may take, its time in the queue included.

    Raises:
        SamplerError: there is no token, it isn't accepted, or the service or the solver can't be reached.
    """

    def __init__(self, settings: dict[str, Any], timeout: float) -> None:
        self._settings, self._timeout = settings, timeout
        self._profile = settings.get("profile") or os.environ.get("DWAVE_PROFILE") or "defaults"
        self._identity: Any = None
        self._is_suspect = False
        try:
            self._connect()
        except Exception as error:
            text = _no_connection(error, settings)
            raise (NoToken if text.startswith(_NO_TOKEN) else SamplerError)(text) from None

    def _connect(self) -> None:
        from dwave.cloud.solver import StructuredSolver
        from dwave.system import DWaveSampler

        _keep_tokens_out_of_logs()
        request_seconds = min(_REQUEST_SECONDS, self._timeout)
        sampler = DWaveSampler.__new__(DWaveSampler)  # whose client is known even where it fails on its way
        try:
            DWaveSampler.__init__(
                sampler,
                **self._settings,
                # A solver that is named may be any; else the client takes the annealer with the most qubits.
                **({"client": "base"} if "solver" in self._settings else {}),
                request_timeout=request_seconds,
                http_retry_total=2,
                # The server must answer a long poll before the request counts as failed.
                poll_wait_time=int(min(5, request_seconds / 2)),
                poll_pause=0.05,
                polling_timeout=self._timeout,
                # A solver that went away must not be found in a cache.
                cache_enabled=False,
            )
        finally:
            if hasattr(sampler, "client"):
                # One that nobody closes would keep the 17 threads of its client.
                self._release = weakref.finalize(self, _close, sampler.client)
                self._release.atexit = False
        self.structure = sampler.solver
        if not isinstance(self.structure, StructuredSolver):
            name, kind = self.structure.name, type(self.structure).__name__
            self._release()
            raise SamplerError(
                f"solver {name!r} is a {kind}, which searches for one best answer and draws no samples; name an annealer with "
                "--set sampler.options.solver=NAME, or leave the option out."
            )
        self.structure.return_matrix = True
        if self._identity not in (None, self.structure.identity):
            self._release()
            raise SamplerError(
                f"the working graph of solver {self.structure.name} has changed since it was connected, and what was placed on "
                "it must be placed anew"
            )
        # A client that is made anew must not choose anew.
        self._identity, self._settings = self.structure.identity, self._settings | {"solver": self.structure.name}
        self._is_suspect = False

    @property
    def source(self) -> str:
        """Where the credentials came from."""
        if os.environ.get("DWAVE_API_TOKEN"):
            return "the environment variable DWAVE_API_TOKEN"
        return f"profile {self._profile!r} of the D-Wave configuration file"

    def answer(self, submission: Submission) -> Answer:
        """Submit, and wait for the reads."""
        future = None
        try:
            if self._is_suspect:
                self._release()
                self._connect()
            future = self.structure.sample_ising(
                dict(zip(submission.qubits.tolist(), submission.fields.tolist(), strict=True)),
                dict(zip(map(tuple, submission.couplers.tolist()), submission.couplings.tolist(), strict=True)),
                **submission.parameters,
            )
            # Our own clock: of some answers that make no sense the client waits for another for ever.
            if not future.wait(self._timeout):
                future.cancel()
                raise Fault(f"no answer within {self._timeout:g} s", helps_to_repeat=True, has_run=True)
            return _decoded(future, submission)
        except Fault:
            self._is_suspect = True  # nonsense may have ended the client's threads: the next attempt takes a new one
            raise
        except Exception as error:
            self._is_suspect = True
            fault = _fault(error)
            # A job that was accepted has run, whatever became of its answer, unless the solver says otherwise.
            is_accepted = future is not None and future.id is not None
            fault.has_run = fault.has_run or (is_accepted and not isinstance(error, _not_run()))
            raise fault from None

    def rewind(self, position: int, spent: float) -> None:
        """An annealer remembers nothing."""

    def close(self) -> None:
        """Close the client."""
        self._release()


def _close(client: Any) -> None:
    """In the background, since a client that has lost count of its jobs waits for them without end."""
    threading.Thread(target=partial(client.close, wait=False), daemon=True).start()


def _decoded(future: Any, submission: Submission) -> Answer:
    try:
        found = future.result()
        rows = np.repeat(found["solutions"], found.get("num_occurrences", 1), axis=0)[:, submission.qubits]
        access = 1e-6 * float(found["timing"]["qpu_access_time"])
    except _client_errors():
        raise
    except Exception as error:  # whatever decoding of nonsense leads to
        raise Fault(f"the answer can't be read ({type(error).__name__})", True, has_run=True) from None
    expected = (submission.num_reads, len(submission.qubits))
    if rows.shape != expected or not np.isin(rows, (-1, 1)).all():
        words = f"the answer holds {rows.shape[0]} reads of {rows.shape[1]} qubits where {expected} were asked for"
        raise Fault(words, True, has_run=True)
    return Answer(rows.astype(np.int8), access)


# The client logs its settings as soon as anybody turns on debugging: the token, headers that may hold another, and addresses
# of service and proxy, which may hold a user's name and password.
_TOKEN = re.compile(r"""((?:token|x-auth-token)['"]?\s*[:=]\s*(?:SecretStr\()?['"])[^'"]+""", re.IGNORECASE)
_HEADERS = re.compile(r"""(headers?['"]?\s*[:=]\s*)(\{[^}]*\}|'[^']*'|"[^"]*"|[^\s,]+)""", re.IGNORECASE)
_LOGIN = re.compile(r"(//|proxy['\"]?\s*[:=]\s*['\"])[^/\s'\"@]+@", re.IGNORECASE)


def _without_tokens(record: logging.LogRecord) -> bool:
    text = _TOKEN.sub(r"\1...", record.getMessage())
    text = _HEADERS.sub(r"\1...", text)
    record.msg, record.args = _LOGIN.sub(r"\1...@", text), ()
    return True


def _keep_tokens_out_of_logs() -> None:
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("dwave.") and _without_tokens not in logging.getLogger(name).filters:
            logging.getLogger(name).addFilter(_without_tokens)


# Faults in words ------------------------------------------------------------------------------------------------------


def _not_run() -> tuple[type[Exception], ...]:
    from dwave.cloud import exceptions as cloud

    return (cloud.SolverOfflineError, cloud.SolverFailureError, cloud.CanceledFutureError)


def _client_errors() -> tuple[type[Exception], ...]:
    import requests
    from dwave.cloud import exceptions as cloud
    from dwave.cloud.api.exceptions import RequestError

    return (
        RequestError,
        requests.RequestException,
        cloud.PollingTimeout,
        cloud.CanceledFutureError,
        cloud.UseAfterCloseError,
        cloud.ProblemUploadError,
        cloud.InvalidProblemError,
    )


def _fault(error: Exception) -> Fault:
    """What a user can understand of an exception of the client; its text may quote the request, so little of it is kept."""
    import requests
    from dwave.cloud import exceptions as cloud
    from dwave.cloud.api import exceptions as api

    if isinstance(error, SamplerError):
        return Fault(str(error).rstrip("."), False)
    text = " ".join(str(error).split())
    code = getattr(error, "error_code", None)
    lower = text.lower()
    if isinstance(error, cloud.SolverAuthenticationError | api.ResourceAuthenticationError) or code in (401, 403):
        return Fault("the token is not accepted: it may have been replaced, or lack the right to this solver", False)
    if isinstance(error, cloud.SolverOfflineError) or "offline" in lower:
        return Fault("the solver is offline", False)
    if isinstance(error, cloud.SolverNotFoundError | api.ResourceNotFoundError) or code == 404:
        return Fault("the solver is no longer there: it was retired or renamed", False)
    if any(word in lower for word in ("quota", "insufficient remaining solver access time", "remaining solver access")):
        return Fault("the account's solver access time is used up", False)
    if code == 429 or isinstance(error, api.ResourceLimitsExceededError):
        return Fault("the service has too many requests of this account (429)", True)
    if isinstance(error, cloud.PollingTimeout):
        return Fault("the job was not done in time", True, has_run=True)
    if isinstance(error, cloud.CanceledFutureError):
        return Fault("the job was cancelled", True)
    if isinstance(error, KeyError | ValueError | TypeError) and not isinstance(error, requests.RequestException):
        return Fault(f"the solver doesn't take the submission ({text[:200]})", False)
    if isinstance(error, api.RequestTimeout):
        return Fault("the service didn't answer a request in time, or refused the connection", True)
    if isinstance(error, cloud.InvalidAPIResponseError):
        return Fault("the service's answer can't be read", True, has_run=True)
    if code is not None:
        return Fault(f"the service failed (error {code})", True)
    if isinstance(error, cloud.SolverFailureError):
        return Fault(f"the solver failed on the job ({text[:200]})", True)
    if isinstance(error, requests.RequestException):  # as the two above are, too
        return Fault("the connection to the service broke", True)
    return Fault(f"the client failed ({type(error).__name__})", True)


def _no_connection(error: Exception, settings: dict[str, Any]) -> str:
    """One sentence with the remedy."""
    if isinstance(error, SamplerError):
        return str(error)
    token = os.environ.get("DWAVE_API_TOKEN", "")
    if token != token.strip() or not token.isascii():
        return "DWAVE_API_TOKEN holds characters that no token has (a space or a line's end?); copy it again from Leap."
    text = " ".join(str(error).split())
    if isinstance(error, ValueError) and "token" in text.lower():
        return (
            f"{_NO_TOKEN}: run `dwave setup --auth`, or `export DWAVE_API_TOKEN=...` (the token is shown in "
            "Leap); to train without an annealer, take `--sampler gibbs`."
        )
    fault = _fault(error)
    if "ConfigFile" in type(error).__name__ or (isinstance(error, ValueError) and "profile" in text.lower()):
        return f"the D-Wave configuration file or its profile {settings.get('profile')!r} can't be read; see `dwave config ls`."
    if "no longer there" in str(fault) or type(error).__name__ == "SolverNotFoundError":
        named = settings.get("solver")
        which = f"no solver {named!r} is" if named else "no annealer is"
        remedy = "`dwave solvers --list` shows those that are, sampler.options.solver names one"
        return f"{which} online and open to this account: {remedy}."
    remedy = "check it with `dwave ping`" if "token" in str(fault) else "check the connection with `dwave ping`"
    return f"the D-Wave service can't be used: {fault}; {remedy}, or take `--sampler gibbs`."
