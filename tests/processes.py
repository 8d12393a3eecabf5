"""Processes that train together on this machine, started as torchrun would: for tests."""

import contextlib
import multiprocessing
import os
import pickle
import random
import socket
import time
import traceback

from qvae.training import ranks

_IMPORTED = [  # once, by the process from which the others are forked
    "qvae.workflow", "qvae_backends.exact", "qvae_backends.gibbs", "qvae_backends.statevector", "torch._dynamo",
]  # fmt: skip
_SECONDS = 200  # until processes that don't come back are ended


def free_port():
    """A port to listen at, below those that the system gives to connections, which may take one before it is listened at."""
    while True:
        port = random.SystemRandom().randrange(15_000, 30_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("localhost", port))
            return port


def together(tmp_path, count, job, *arguments, env=None):
    """What ``job(*arguments)``, a function of a module, gives in each of ``count`` processes: its value, or what it raised.

    None stands for a process that ended without either.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    common |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"} | (env or {})
    files = [tmp_path / f"given-by-{number}" for number in range(count)]
    processes = []
    for number in range(count):
        settings = {"RANK": str(number), "LOCAL_RANK": str(number)} | common
        processes.append(context.Process(target=_work, args=(files[number], settings, tmp_path, job, arguments)))
    for file, process in zip(files, processes, strict=True):
        file.unlink(missing_ok=True)
        process.start()
    deadline = time.monotonic() + _SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    late = [process for process in processes if process.is_alive()]
    for process in late:
        process.kill()
        process.join()
    found = [pickle.loads(file.read_bytes()) if file.exists() else None for file in files]
    assert not late, f"{len(late)} processes hang; the others gave {found}"
    return found


def _work(file, settings, tmp_path, job, arguments):
    import torch

    os.environ.update(settings)
    os.chdir(tmp_path)
    torch.set_num_threads(1)
    try:
        ranks.join()
        value = job(*arguments)
    except (Exception, KeyboardInterrupt) as error:
        if not isinstance(error, KeyboardInterrupt):
            traceback.print_exc()
        value = error.with_traceback(None)
        value.__cause__ = value.__context__ = None
    file.write_bytes(pickle.dumps(value))
