"""Recordings of an annealer: every submission and answer in a file, which can be played again without a network."""

from __future__ import annotations

import base64
import json
import secrets
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from qvae.errors import SamplerError
from qvae.files import append_text, atomic_write_text
from qvae.memory import require_memory
from qvae.sampling.metering import Fault, Meter, is_amount, nanoseconds
from qvae_backends.dwave_parameters import rehearse
from qvae_backends.dwave_solver import Answer, Solver, Submission

_FORMAT, _VERSION = "qvae-annealer-recording", 1
_BOOKS = "recordings"  # the section of the books that names those which a run has begun
_UNPACKED = 4  # times its size, read and parsed
_ROUNDING = 1e-3  # coefficients may differ so much from the recorded ones: another processor rounds differently


class RecordingSolver:
    """A solver whose submissions and answers go to a file, one JSON object a line, the solver's description first.

    Args:
        solver: that answers.
        file: where to.
        meter: of the run, which says how many submissions it has made. A new file may begin anywhere; one that is there goes on
            if the run's books name it, or, where it keeps none, if it has that many.

    Raises:
        SamplerError: the file is no recording, of another solver or run, or can't be written.
    """

    def __init__(self, solver: Solver, file: Path, meter: Meter) -> None:
        self._solver, self._file, self.structure = solver, file, solver.structure
        self._lost = 0.0
        if not file.exists():
            first = {"format": _FORMAT, "version": _VERSION, "start": meter.calls, "seconds": meter.seconds}
            first["id"] = secrets.token_hex(8)
            self._write(first | {"solver": _description(self.structure)})
        header, rows = _read_recording(file)
        self._start, name = int(header["start"]), header.get("id")
        is_own = meter.calls > 0 and self._start <= meter.calls <= self._start + len(rows)
        if rows and meter.folder is not None and name is not None:
            # Where a kill came between an answer and its entry in the books, their number says nothing.
            is_own = name in meter.read().get(_BOOKS, {})
        is_another = header["solver"].get("identity") != _description(self.structure)["identity"]
        if is_another or not (is_own or (not rows and meter.calls == self._start)):
            raise SamplerError(f"{file} is the recording of another run; name a new file in sampler.options.record.")
        if name is not None:
            meter.notes[_BOOKS] = {name: str(file)}

    @property
    def source(self) -> str:
        return self._solver.source

    def rewind(self, position: int, spent: float) -> None:
        """Drop the answers after so many submissions; what was paid for them, and for lost ones, goes to the last one kept.

        Schedules follow the budget: when this is played again, as much of it is spent there as was when the run went on.
        """
        header, rows = _read_recording(self._file)
        kept = position - self._start
        if not 0 <= kept <= len(rows):
            remedy = "name a new file in sampler.options.record"
            raise SamplerError(f"the recording {self._file} lacks answers of this run; {remedy}.")
        last = [header, *rows][kept]
        key = "qpu_seconds" if kept else "seconds"
        last[key] = nanoseconds(last.get(key, 0.0) + max(0.0, spent - _seconds(header, rows[:kept])))
        self._lost = 0.0
        atomic_write_text(self._file, "".join(json.dumps(row) + "\n" for row in (header, *rows[:kept])))

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
            append_text(self._file, json.dumps(row) + "\n")
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

        self._header, self._rows = _read_recording(file)
        self._file = file
        try:
            self._start = int(self._header["start"])
            self.structure = StructuredSolver(client=None, data=self._header["solver"])
            rehearse(self)
        except Exception as error:  # whatever the client does with a damaged description
            raise SamplerError(f"the recording {file} is damaged: it describes no solver ({type(error).__name__}).") from None
        self._position = 0

    @property
    def source(self) -> str:
        """There is no need of any."""
        return f"none needed: recorded in {self._file}"

    def rewind(self, position: int, spent: float) -> None:
        """Go on with the answer after so many submissions."""
        self._position = position - self._start

    @property
    def seconds(self) -> float:
        """What the recorded run had spent by this place."""
        return _seconds(self._header, self._rows[: max(0, self._position)])

    def answer(self, submission: Submission) -> Answer:
        """The next answer, if this is what was submitted for it."""
        if not 0 <= self._position < len(self._rows):
            raise Fault(f"the recording {self._file} ends after {len(self._rows)} submissions", False)
        row = self._rows[self._position]
        try:
            is_the_same = _are_the_same(_recorded(row, submission), submission)
            found = _answer(row, submission) if is_the_same else None
        except (KeyError, TypeError, ValueError, AttributeError, zlib.error):
            raise Fault(f"submission {self._position + 1} of the recording {self._file} is damaged", False) from None
        if found is None:
            raise Fault(
                f"submission {self._position + 1} is another one than in the recording {self._file}: play it with the "
                "configuration, the seed and the version it was made with",
                False,
            )
        self._position += 1
        return found

    def close(self) -> None:
        """Nothing to release."""


def _recorded(row: dict[str, Any], wanted: Submission) -> Submission:
    """A row's submission, read no further than needed to tell it from the one that is wanted."""
    spins, edges = len(wanted.qubits), len(wanted.couplers)
    return Submission(
        _unpacked(row["qubits"], "<i4", spins),
        _unpacked(row["fields"], "<f8", spins),
        _unpacked(row["couplers"], "<i4", 2 * edges + 1).reshape(-1, 2),
        _unpacked(row["couplings"], "<f8", edges),
        dict(row["parameters"]),
        float(row["qpu_seconds"]),
    )


def _answer(row: dict[str, Any], submission: Submission) -> Answer:
    """A row's reads."""
    count = submission.num_reads * len(submission.qubits)
    bits = np.unpackbits(_unpacked(row["spins"], "u1", -(-count // 8)))[:count].reshape(submission.num_reads, -1)
    return Answer(2 * bits.astype(np.int8) - 1, float(row["qpu_seconds"]))


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
    if file.exists() and not file.is_file():
        raise SamplerError(f"the recording {file} can't be read: it is no file; name a file.")
    try:
        if file.exists():
            require_memory(_UNPACKED * file.stat().st_size, f"reading {file}", "make a shorter one", SamplerError)
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise SamplerError(f"the recording {file} can't be read: {reason}; name a file.") from error
    rows = []
    for position, line in enumerate(lines):
        try:
            rows.append(_row(line, is_first=not position))
        except (ValueError, RecursionError):
            if not position:
                raise SamplerError(f"{file} is no recording of an annealer that this version can read.") from None
            if position < len(lines) - 1:
                raise SamplerError(f"the recording {file} is damaged in line {position + 1}.") from None
    if not rows:
        raise SamplerError(f"{file} is no recording of an annealer that this version can read.")
    return rows[0], rows[1:]


def _row(line: str, is_first: bool) -> dict[str, Any]:
    """A line of a recording; raises a ValueError of one that is none, whose parts are looked at when they are used."""
    row = json.loads(line)
    if not isinstance(row, dict) or not is_amount(row.get("seconds", 0.0)):
        raise ValueError("no mapping")
    if is_first:
        start, is_known = row.get("start"), row.get("format") == _FORMAT and row.get("version") == _VERSION
        good = is_known and isinstance(start, int) and is_amount(start) and isinstance(row.get("solver"), dict)
    else:
        good = is_amount(row.get("qpu_seconds"))
    if not good:
        raise ValueError("not the parts of a recording")
    return row


def _seconds(header: dict[str, Any], rows: list[dict[str, Any]]) -> float:
    """What the run had spent after so many rows; a recording of version 0.1.0 doesn't say with what it began."""
    return nanoseconds(header.get("seconds", 0.0) + sum(nanoseconds(row["qpu_seconds"]) for row in rows))


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes())).decode()


def _unpacked(text: str, dtype: str, most: int) -> np.ndarray:
    """No more than ``most`` numbers and one, however many a short text may stand for."""
    size = (most + 1) * np.dtype(dtype).itemsize
    return np.frombuffer(zlib.decompressobj().decompress(base64.b64decode(text), size), dtype=dtype)
