"""Codes in files, with the rows' names: those of the model, in any format, whatever rows stand beside them."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import qvae
from qvae.applications import embed as module
from qvae.applications.embed import _write_parquet, codes, embed
from qvae.data.arrays import dataset_from_arrays
from qvae.errors import ConfigError


@pytest.fixture
def images(small_run):
    dataset = qvae.load_run(small_run).dataset
    return dataset.values(dataset.test).numpy()[:40]


def test_codes_are_the_means_of_the_posterior(command, small_run, images):
    np.savez("rows.npz", images=images, ids=[f"digit {number}" for number in range(40)])
    code, out, err = command("apply", "embed", small_run, "--input", "rows.npz", "--out", "here")
    assert (code, err, out.split()) == (0, "", ["wrote", "here/codes.npz"])
    found = np.load("here/codes.npz")
    model = qvae.load_run(small_run).model
    with torch.no_grad():
        bits = torch.from_numpy(images >= 0.5).flatten(1).float()  # digits are cut, not drawn
        logits = model.posterior.levels[0](model.encoder(bits))
    np.testing.assert_allclose(found["codes"], torch.sigmoid(logits), rtol=1e-5)
    assert found["ids"].tolist()[39] == "digit 39"


def test_parquet_holds_the_same(command, small_run, images):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    np.save("rows.npy", images)
    assert command("apply", "embed", small_run, "--input", "rows.npy", "--out", "here")[0] == 0
    for name in ("codes.parquet", "codes-2.parquet"):
        assert command("apply", "embed", small_run, "--input", "rows.npy", "--out", "here", "--format", "parquet")[0] == 0
        table = parquet.read_table(f"here/{name}")
        assert table.column_names == ["id", *(f"z{number}" for number in range(8))]
        assert table.column("id").to_pylist() == [str(number) for number in range(40)]
        columns = np.stack([table.column(f"z{number}").to_numpy() for number in range(8)], axis=1)
        np.testing.assert_array_equal(columns, np.load("here/codes.npz")["codes"])


def test_a_folder_gives_its_files_names(command, small_run, images, tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        Image.fromarray((255 * images[number]).astype(np.uint8)).save(tmp_path / "pictures" / f"{number}.png")
    assert command("apply", "embed", small_run, "--input", "pictures")[0] == 0
    assert np.load(small_run / "codes.npz")["ids"].tolist() == ["0.png", "1.png", "2.png"]


def test_a_wrong_format_or_place_gets_a_sentence(small_run, images, tmp_path):
    np.save(tmp_path / "rows.npy", images)
    run = qvae.load_run(small_run)
    with pytest.raises(ConfigError, match="format is 'csv'"):
        embed(run, tmp_path / "rows.npy", "csv")
    with pytest.raises(qvae.QvaeError, match=r"rows\.npy can't be made a folder"):
        embed(run, tmp_path / "rows.npy", out=tmp_path / "rows.npy")


def test_rows_that_are_written_a_few_at_a_time_keep_their_names(tmp_path):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parts = [np.arange(size * 2, dtype=np.float32).reshape(size, 2) + 10 * size for size in (2, 3, 1)]
    _write_parquet(tmp_path / "codes.parquet", list("abcdef"), iter(parts))
    table = parquet.read_table(tmp_path / "codes.parquet")
    assert table.column("id").to_pylist() == list("abcdef")
    columns = np.stack([table.column(name).to_numpy() for name in ("z0", "z1")], axis=1)
    np.testing.assert_array_equal(columns, np.concatenate(parts))


def test_grey_rows_are_encoded_as_they_are_and_in_their_order(monkeypatch):
    """Five rows, two at a time; the encoder makes twice as much of each, and adds its seed."""

    class Twice(torch.nn.Linear):
        def code_means(self, rows, generator):
            return 2 * rows.double() + generator.initial_seed()

    batches = module.batches
    monkeypatch.setattr(module, "batches", lambda rows: batches(rows, 2))
    grey = np.random.default_rng(0).random((5, 1, 3)).astype(np.float32)
    dataset = dataclasses.replace(dataset_from_arrays(grey, grey, name="mine"), binarization="dynamic")
    found = list(codes(Twice(1, 1), dataset, 7, qvae.Progress()))
    assert [(part.shape, part.dtype) for part in found] == [((2, 3), np.float32)] * 2 + [((1, 3), np.float32)]
    np.testing.assert_allclose(np.concatenate(found), 2 * dataset.values(dataset.test).flatten(1).numpy() + 7, rtol=1e-6)
    assert np.unique(np.concatenate(found)).size > 10  # no bits
