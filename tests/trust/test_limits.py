"""Files as large as they may be are read whole, and larger ones are refused: none is read in part."""

import pytest

from qvae.config import load
from qvae.config.load import load_config
from qvae.errors import ConfigError, RunError
from qvae.runs import records


def test_a_file_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_MOST_BYTES", 10)
    file = tmp_path / "evaluation.json"
    file.write_bytes(b"0123456789")
    assert records.file_bytes(file) == b"0123456789"
    file.write_bytes(b"0123456789+")
    with pytest.raises(RunError, match="evaluation.json holds more than 0 MB, as no such file does; remove it."):
        records.file_bytes(file)


def test_a_configuration(tmp_path, monkeypatch):
    text = "training: {epochs: 123}"
    (tmp_path / "c.yaml").write_text(text)
    monkeypatch.setattr(load, "_MOST_CHARACTERS", len(text))
    assert load_config(tmp_path / "c.yaml").training.epochs == 123
    monkeypatch.setattr(load, "_MOST_CHARACTERS", len(text) - 1)
    with pytest.raises(ConfigError, match=f"a configuration has {len(text) - 1} at most"):
        load_config(tmp_path / "c.yaml")
