"""Packages of third parties, written into a folder on the path as an installed wheel would be."""

import sys
import textwrap

import pytest


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(package, module source, "name = module:Class") puts a distribution with an executor on the path."""
    installed = []

    def put(package, source, entry_points):
        module = package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[qvae.executors]\n{entry_points}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        installed.append(module)

    yield put
    for module in installed:
        sys.modules.pop(module, None)
