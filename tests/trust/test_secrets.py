"""With debugging on, no token, password or header of the user is logged."""

import logging

import pytest
from qvae_backends.dwave_solver import LeapSolver, _without_tokens

from qvae.errors import SamplerError


def test_the_client_logs_no_secret(server, monkeypatch, caplog):
    address, _ = server
    monkeypatch.setenv("DWAVE_API_PROXY", address.replace("http://", "http://me:proxy-secret@"))
    monkeypatch.setenv("DWAVE_API_HEADERS", "Authorization: header-secret\nX-Key: other-secret")
    with caplog.at_level(logging.DEBUG), pytest.raises(SamplerError) as raised:
        LeapSolver({"endpoint": address.replace("http://", "http://me:login-secret@")}, timeout=2.0)
    assert len(caplog.records) > 10
    said = "\n".join(record.getMessage() for record in caplog.records) + str(raised.value)
    for secret in ("DEV-0123", "proxy-secret", "login-secret", "header-secret", "other-secret"):
        assert secret not in said, next(line for line in said.splitlines() if secret in line)


@pytest.mark.parametrize(
    "text",
    [
        "{'token': 'SECRET', 'x': 1}",
        "proxy='http://user:SECRET@host:80'",
        "proxy='user:SECRET@host:80'",
        "endpoint=https://SECRET@host/sapi",
        "headers={'Authorization': 'SECRET', 'b': 'SECRET'}, x=1",
        "headers='Authorization: SECRET, b: c'",
    ],
)
def test_what_is_masked(text):
    record = logging.LogRecord("dwave.cloud", logging.DEBUG, "", 0, "settings: %s", (text,), None)
    assert _without_tokens(record)
    assert "SECRET" not in record.getMessage()
    assert "..." in record.getMessage()
