"""An archive that grows: what comes back is what was written, and a failure leaves nothing."""

import numpy as np
import pytest

from qvae.applications.archive import archive


def test_rows_written_in_pieces_come_back(tmp_path):
    rows, names = np.random.default_rng(0).random((11, 2, 3)).astype(np.float32), np.array(["a", "bcd"])
    with archive(tmp_path / "a.npz") as out:
        out.append(rows=rows[:4])
        out.append(rows=rows[4:], names=names)
    found = np.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(found["rows"], rows)
    np.testing.assert_array_equal(found["names"], names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz"]


def test_what_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "a.npz").write_text("before")
    with pytest.raises(AttributeError), archive(tmp_path / "a.npz") as out:
        out.append(rows=None)
    assert (tmp_path / "a.npz").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz"]
