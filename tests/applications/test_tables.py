"""Tasks on tables: columns go by their names, texts by the numbers that training gave them."""

import numpy as np
import pytest

import qvae
from qvae.applications.embed import embed
from qvae.data.given import given_rows
from qvae.data.given_table import KnownColumns
from qvae.errors import DataError

pytest.importorskip("pyarrow")

COLOURS = ("blue", "green", "red")


def written(path, columns):
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    data = written(folder / "train.csv", {name: rng.normal(size=60).round(3) for name in ("width", "height", "depth")})
    settings = ["training.epochs=1", "training.batch_size=20", "model.latent.sizes=[2,2]", "evaluation.num_generated=0"]
    settings += [f"data.name={data}", "model.likelihood=gaussian", "evaluation.tsne_every=0", "evaluation.probes=false"]
    return qvae.train(qvae.load_config("digits", settings), folder / "run")


def test_columns_stand_in_any_order_beside_others(run, tmp_path):
    rng = np.random.default_rng(1)
    columns = {name: rng.normal(size=5).round(3) for name in ("width", "height", "depth")}
    others = {"depth": columns["depth"], "id": list("abcde"), "width": columns["width"], "class": [1, 2, 3, 4, 5]}
    table = written(tmp_path / "rows.csv", others | {"height": columns["height"]})
    np.save(tmp_path / "rows.npy", np.column_stack(list(columns.values())))
    found, expected = (np.load(embed(run, path, out=tmp_path).files[0]) for path in (table, tmp_path / "rows.npy"))
    np.testing.assert_allclose(found["codes"], expected["codes"], rtol=1e-5)
    assert found["ids"].tolist() == list("abcde")
    with pytest.raises(DataError, match="has no column 'height', which the model was trained on"):
        embed(run, written(tmp_path / "narrow.csv", {"width": [1.0], "depth": [2.0]}))


def test_texts_are_the_numbers_of_training(tmp_path):
    table = written(tmp_path / "rows.csv", {"colour": ["red", "blue", "red"], "size": [0, 1, 2]})
    known = KnownColumns(("colour", "size"), {"colour": COLOURS})
    with given_rows(table, [(2,)], "categories", 3, known=known) as found:
        assert found.dataset.values(found.dataset.test).tolist() == [[2, 0], [0, 1], [2, 2]]
        assert found.ids == ["0", "1", "2"]
    for wrong, words in ((known, "'pink' in row 2 of column 'colour'"), (KnownColumns(), "'red' in row 1; put numbers there.")):
        table = written(tmp_path / "wrong.csv", {"colour": ["red", "pink"], "size": [0, 1]})
        with pytest.raises(DataError) as told, given_rows(table, [(2,)], "categories", 3, known=wrong):
            pass
        assert words in str(told.value)
