"""How the benchmark talks to a peer in an interpreter of its own: one line of JSON each way, arrays in .npz files.

A worker is started once and asked for one piece of work at a time, so that ours and a peer's alternate in one run. It times
its own work, in CPU seconds and on the clock, and writes the spins it drew into a file; what they are worth is computed on
our side. This module runs on both sides: it needs the standard library and numpy alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Job = Callable[..., Any]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class PeerError(Exception):
    """A peer can't be installed, can't be started or failed; the message is one line."""


class Timer:
    """CPU and wall seconds of a ``with`` block."""

    def __enter__(self) -> Timer:
        self.wall, self.cpu = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()

    def seconds(self) -> dict[str, float]:
        return {"cpu": self.cpu, "wall": self.wall}


class Worker:
    """A peer's script, running in the interpreter of its environment until :meth:`close`.

    Args:
        python: the interpreter.
        script: it ends in :func:`serve`.
        threads: numerical threads it may use.

    Raises:
        PeerError: it doesn't start.
    """

    def __init__(self, python: Path, script: Path, threads: int) -> None:
        environment = os.environ | dict.fromkeys(THREADS, str(threads))
        environment.pop("PYTHONPATH", None)  # or our packages would be found in a peer's environment
        command = [str(python), str(script)]
        # A file, since nobody would empty a pipe while the worker works.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment
        )
        self.versions: dict[str, str] = self._answer()

    def ask(self, job: str, **arguments: Any) -> Any:
        """What the job returns, as JSON has it.

        Raises:
            PeerError: the job failed or the worker died.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"job": job, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer, which isn't coming, says why
        return self._answer()

    def close(self) -> None:
        """Ends when its input does."""
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise PeerError(f"its worker died: {(self._errors.read().strip().splitlines() or ['no message'])[-1][:200]}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer["result"]


def serve(jobs: dict[str, Job], packages: list[str]) -> None:
    """A worker's main loop: says the versions of ``packages``, then does jobs until its input ends."""
    from importlib.metadata import version

    # Peers print; what they print must not get among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    answer({"result": {package: version(package) for package in packages}})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer({"result": jobs[request["job"]](**request["arguments"])})
        except Exception as error:
            traceback.print_exc()
            text = " ".join(str(error).split())
            answer({"error": f"{type(error).__name__}: {text[:200]}"})
