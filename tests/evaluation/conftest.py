"""A cache of classifiers that is empty, and training that takes no time."""

import pytest

from qvae.evaluation import classifier


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "qvae" / "classifiers"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(classifier, "_STEPS", 25)
