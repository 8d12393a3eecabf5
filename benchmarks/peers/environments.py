"""An environment for each peer: a venv with pinned requirements, built once and again when the requirements change."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from protocol import PeerError, Worker

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """A package, which its environment and its requirements are named after, and the script that works there."""

    name: str
    script: str

    def start(self, environments: Path, threads: int) -> Worker:
        """Build the environment if need be, and start the worker.

        Raises:
            PeerError: either failed.
        """
        return Worker(self._build(environments / self.name), HERE / self.script, threads)

    def _build(self, folder: Path) -> Path:
        """The environment's interpreter."""
        requirements = HERE / f"requirements-{self.name}.txt"
        stamp, wanted = folder / "requirements.txt", requirements.read_text()
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        if stamp.exists() and stamp.read_text() == wanted and python.exists():
            return python
        print(f"building {folder}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            venv.create(folder, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise PeerError(f"couldn't make its environment: {error}") from error
        command = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
            raise PeerError(f"couldn't be installed: {reasons[0][:160]}")
        stamp.write_text(wanted)
        return python


SAMPLERS = (
    Peer("dwave-samplers", "worker_dwave_samplers.py"),
    Peer("dwave-pytorch-plugin", "worker_plugin.py"),
    Peer("rbms", "worker_rbms.py"),
    Peer("openjij", "worker_openjij.py"),
    Peer("thrml", "worker_thrml.py"),
)
CIRCUITS = (
    Peer("tensorcircuit-ng", "worker_tensorcircuit.py"),
    Peer("pennylane", "worker_pennylane.py"),
    Peer("pyqtorch", "worker_pyqtorch.py"),
    Peer("torchquantum-ng", "worker_torchquantum.py"),
    Peer("deepquantum", "worker_deepquantum.py"),
)
PEERS = {peer.name: peer for peer in (*SAMPLERS, *CIRCUITS)}
