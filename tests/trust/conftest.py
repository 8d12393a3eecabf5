"""What a stranger's folder must not reach: a file outside, a server, a token."""

import http.server
import threading

import pytest
import yaml

TOKEN = "DEV-0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def canary(tmp_path):
    """A file that mustn't come to be."""
    return tmp_path / "canary" / "was-here"


@pytest.fixture
def server(monkeypatch):
    """The address of a server, and the headers of every request that it got."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(dict(self.headers))
            self.send_error(404)

        do_POST = do_HEAD = do_GET

        def log_message(self, *words):
            pass

    monkeypatch.setenv("DWAVE_API_TOKEN", TOKEN)
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}/sapi/v2/", seen
    listening.shutdown()
    listening.server_close()


@pytest.fixture
def hostile(small_run):
    """Change the configuration of a run: ``hostile(sampler={...})`` replaces keys of sections; returns the folder."""

    def change(keep_samples=False, **sections):
        file = small_run / "config.yaml"
        tree = yaml.safe_load(file.read_text())
        for name, keys in sections.items():
            tree[name] |= keys
        file.write_text(yaml.safe_dump(tree))
        if not keep_samples:
            (small_run / "prior_samples.safetensors").unlink(missing_ok=True)
        return small_run

    return change
