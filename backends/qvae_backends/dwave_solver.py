"""The line to a D-Wave solver: the real client with its faults in words, and recordings that can be played again."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import threading
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from qvae.errors import SamplerError
from qvae.files import atomic_write_text

_FORMAT, _VERSION = "qvae-annealer-recording", 1
_ROUNDING = 1e-3  # coefficients may differ so much from the recorded ones: another processor rounds differently
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


class Fault(Exception):
    """Why a submission has no answer, in words.

    Attributes:
        helps_to_repeat: the next attempt may succeed.
        has_run: the annealer may have worked, and its time is spent.
    """

    def __init__(self, words: str, helps_to_repeat: bool, has_run: bool = False) -> None:
        super().__init__(words)
        self.helps_to_repeat, self.has_run = helps_to_repeat, has_run


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

    def rewind(self, position: int) -> None:
        """Go on as after ``position`` submissions: a resumed run asks for those after its checkpoint again."""

    def close(self) -> None:
        """Release the connection."""


# The annealer ---------------------------------------------------------------------------------------------------------


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
            raise SamplerError(_no_connection(error, settings)) from None

    def _connect(self) -> None:
        from dwave.cloud.solver import StructuredSolver
        from dwave.system import DWaveSampler

        _keep_tokens_out_of_logs()
        request_seconds = min(_REQUEST_SECONDS, self._timeout)
        self._sampler = DWaveSampler(
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
        self.structure = self._sampler.solver
        if not isinstance(self.structure, StructuredSolver):
            name, kind = self.structure.name, type(self.structure).__name__
            self._disconnect()
            raise SamplerError(
                f"solver {name!r} is a {kind}, which searches for one best answer and draws no samples; name an annealer with "
                "--set sampler.options.solver=NAME, or leave the option out."
            )
        self.structure.return_matrix = True
        if self._identity not in (None, self.structure.identity):
            self._disconnect()
            raise SamplerError(
                f"the working graph of solver {self.structure.name} has changed since it was connected, and what was placed on "
                "it must be placed anew"
            )
        # A client that is made anew must not choose anew.
        self._identity, self._settings = self.structure.identity, self._settings | {"solver": self.structure.name}
        self._is_suspect = False

    def _disconnect(self) -> None:
        """In the background, since a client that has lost count of its jobs waits for them without end."""
        threading.Thread(target=partial(self._sampler.client.close, wait=False), daemon=True).start()

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
                self._disconnect()
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

    def rewind(self, position: int) -> None:
        """An annealer remembers nothing."""

    def close(self) -> None:
        """Close the client."""
        self._disconnect()


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


# The client logs its settings, the token among them, as soon as anybody turns on debugging.
_TOKEN = re.compile(r"""((?:token|x-auth-token)['"]?\s*[:=]\s*(?:SecretStr\()?['"])[^'"]+""", re.IGNORECASE)


def _without_tokens(record: logging.LogRecord) -> bool:
    record.msg, record.args = _TOKEN.sub(r"\1...", record.getMessage()), ()
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
    if isinstance(error, requests.RequestException):
        return Fault("the connection to the service broke", True)
    if code is not None:
        return Fault(f"the service failed (error {code})", True)
    if isinstance(error, cloud.SolverFailureError):
        return Fault(f"the solver failed on the job ({text[:200]})", True)
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
            "there is no D-Wave API token: run `dwave setup --auth`, or `export DWAVE_API_TOKEN=...` (the token is shown in "
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


# Recordings -----------------------------------------------------------------------------------------------------------


class RecordingSolver:
    """A solver whose submissions and answers go to a file, one JSON object a line, the solver's description first.

    Args:
        solver: that answers.
        file: where to.
        position: how many submissions the run has made. A new file may begin anywhere; one that is there goes on, if it is of
            this run so far.

    Raises:
        SamplerError: the file is no recording, of another solver or run, or can't be written.
    """

    def __init__(self, solver: Solver, file: Path, position: int) -> None:
        self._solver, self._file, self.structure = solver, file, solver.structure
        self._lost = 0.0
        if not file.exists():
            first = {"format": _FORMAT, "version": _VERSION, "start": position, "solver": _description(self.structure)}
            self._write(first)
        header, rows = _read_recording(file)
        self._start = int(header["start"])
        is_another = header["solver"]["identity"] != _description(self.structure)["identity"]
        if is_another or not self._start <= position <= self._start + len(rows) or (rows and not position):
            raise SamplerError(f"{file} is the recording of another run; name a new file in sampler.options.record.")

    @property
    def source(self) -> str:
        """That of the solver."""
        return self._solver.source

    def rewind(self, position: int) -> None:
        """Drop the answers after so many submissions."""
        lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = position - self._start
        if not 0 <= kept < len(lines):
            remedy = "name a new file in sampler.options.record"
            raise SamplerError(f"the recording {self._file} lacks answers of this run; {remedy}.")
        atomic_write_text(self._file, "".join(lines[: 1 + kept]))

    def answer(self, submission: Submission) -> Answer:
        """The solver's answer, written down."""
        try:
            found = self._solver.answer(submission)
        except Fault as fault:
            self._lost += submission.price if fault.has_run else 0.0
            raise
        self._write(
            {
                "parameters": submission.parameters,
                "qubits": _packed(submission.qubits.astype("<i4")),
                "fields": _packed(submission.fields.astype("<f8")),
                "couplers": _packed(submission.couplers.astype("<i4")),
                "couplings": _packed(submission.couplings.astype("<f8")),
                "spins": _packed(np.packbits(found.spins > 0)),
                # With what was spent on attempts whose answers were lost.
                "qpu_seconds": found.qpu_seconds + self._lost,
            }
        )
        self._lost = 0.0
        return found

    def _write(self, row: dict[str, Any]) -> None:
        try:
            with open(self._file, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise SamplerError(f"the recording {self._file} can't be written: {error.strerror}.") from error

    def close(self) -> None:
        """Release the connection."""
        self._solver.close()


class RecordedSolver:
    """The answers of a recording, in their order, without a network.

    Raises:
        SamplerError: there is no such recording.
    """

    def __init__(self, file: Path) -> None:
        from dwave.cloud.solver import StructuredSolver

        header, self._rows = _read_recording(file)
        self._file, self._start = file, int(header["start"])
        self.structure = StructuredSolver(client=None, data=header["solver"])
        self._position = 0

    @property
    def source(self) -> str:
        """There is no need of any."""
        return f"none needed: recorded in {self._file}"

    def rewind(self, position: int) -> None:
        """Go on with the answer after so many submissions."""
        self._position = position - self._start

    def answer(self, submission: Submission) -> Answer:
        """The next answer, if this is what was submitted for it."""
        if not 0 <= self._position < len(self._rows):
            raise Fault(f"the recording {self._file} ends after {len(self._rows)} submissions", False)
        row = self._rows[self._position]
        recorded = Submission(
            _unpacked(row["qubits"], "<i4"),
            _unpacked(row["fields"], "<f8"),
            _unpacked(row["couplers"], "<i4").reshape(-1, 2),
            _unpacked(row["couplings"], "<f8"),
            row["parameters"],
            row["qpu_seconds"],
        )
        if not _are_the_same(recorded, submission):
            raise Fault(
                f"submission {self._position + 1} is another one than in the recording {self._file}: play it with the "
                "configuration, the seed and the version it was made with",
                False,
            )
        self._position += 1
        count = submission.num_reads * len(submission.qubits)
        bits = np.unpackbits(_unpacked(row["spins"], "u1"))[:count].reshape(submission.num_reads, -1)
        return Answer(2 * bits.astype(np.int8) - 1, row["qpu_seconds"])

    def close(self) -> None:
        """Nothing to release."""


def _are_the_same(one: Submission, other: Submission) -> bool:
    structure = np.array_equal(one.qubits, other.qubits) and np.array_equal(one.couplers, other.couplers)
    biases = [np.asarray(each.parameters.get("flux_biases", [])) for each in (one, other)]
    plain = [json.dumps({k: v for k, v in each.parameters.items() if k != "flux_biases"}) for each in (one, other)]
    if not structure or plain[0] != plain[1] or biases[0].shape != biases[1].shape:
        return False
    values = ((one.fields, other.fields), (one.couplings, other.couplings), biases)
    return all(np.allclose(mine, theirs, rtol=0, atol=_ROUNDING) for mine, theirs in values)


def _description(structure: Any) -> dict[str, Any]:
    """What the service says of a solver; no credentials are in it."""
    return {
        "identity": structure.identity.dict(),
        "status": "ONLINE",
        "description": "",
        "avg_load": 0.0,
        "properties": structure.properties,
    }


def _read_recording(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and rows; a last line that was cut off when the run was killed is left out."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SamplerError(f"the recording {file} can't be read: {error.strerror}; name a file.") from error
    rows = []
    for position, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if position < len(lines) - 1:
                raise SamplerError(f"the recording {file} is damaged in line {position + 1}.") from None
    if not rows or not isinstance(rows[0], dict) or rows[0].get("format") != _FORMAT or rows[0].get("version") != _VERSION:
        raise SamplerError(f"{file} is no recording of an annealer that this version can read.")
    return rows[0], rows[1:]


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes())).decode()


def _unpacked(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=dtype)
