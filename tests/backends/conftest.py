"""A local annealer for all tests of this room, and samplers that use it."""

import pytest

QUICK = {"timeout": 5.0, "retries": 2, "retry_seconds": 0.01, "seed": 1}


@pytest.fixture(scope="session")
def _server():
    pytest.importorskip("dwave.system", reason="needs the extra: pip install -e '.[dwave]'")
    from solver_server import SolverServer

    with SolverServer(topology="zephyr", size=3, missing_qubits=6, beta=2.0, token="DEV-marked-token-0f9e8d7c6b5a") as server:
        yield server


@pytest.fixture
def server(_server, monkeypatch):
    """One server for all, as good as new, which the environment names."""
    _server.recover()
    _server.beta, _server.latency = 2.0, 0.0
    _server.submissions.clear()
    for name, value in _server.environment().items():
        monkeypatch.setenv(name, value)
    return _server


@pytest.fixture
def annealer(server):
    """Make samplers with quick repeats; they are closed at the end."""
    import qvae

    made = []

    def make(**options):
        made.append(qvae.load_sampler("dwave", **(QUICK | options)))
        return made[-1]

    yield make
    for sampler in made:
        sampler.close()
