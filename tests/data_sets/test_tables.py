"""Tables from files and data frames."""

import sys

import numpy as np
import pytest
import torch

from qvae.config.schema import DataConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.data.load import load_data
from qvae.data.tables import read_table
from qvae.errors import DataError

pytest.importorskip("pyarrow")

RNG = np.random.default_rng(0)
AGE, INCOME = RNG.integers(18, 90, 30), RNG.normal(0, 2, 30)
CITY = np.array(["Bern", "Aarau", "Chur"])[np.arange(30) % 3]


def write_csv(path, columns, delimiter=","):
    rows = zip(*columns.values(), strict=True)
    lines = [delimiter.join(columns), *(delimiter.join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_parquet(path, columns):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)


def load(path, kind="reals", **keys):
    return load_data(DataConfig(name=str(path), **keys), kind)


@pytest.fixture(params=["csv", "parquet", "semicolon"])
def table(request, tmp_path):
    """Write columns to a file of each sort."""

    def write(**columns):
        if request.param == "parquet":
            write_parquet(tmp_path / "t.parquet", columns)
            return tmp_path / "t.parquet"
        write_csv(tmp_path / "t.csv", columns, ";" if request.param == "semicolon" else ",")
        return tmp_path / "t.csv"

    return write


def test_named_columns_of_a_file(table):
    file = table(age=AGE, income=INCOME, city=CITY)
    dataset = load(file, labels="city")
    assert dataset.feature_names == ("age", "income")
    assert dataset.shape == (2,)
    assert not dataset.is_image
    assert dataset.levels is None
    # Split as an array of the same numbers is, with labels in sorted order of their names.
    numbers = np.column_stack([AGE, INCOME])
    expected = dataset_from_arrays(numbers, train_labels=(np.arange(30) % 3 + 1) % 3 * 1, kind="reals")
    assert torch.equal(dataset.train, expected.train)
    assert torch.equal(dataset.test, expected.test)
    codes = {"Aarau": 0, "Bern": 1, "Chur": 2}
    order = [int(np.flatnonzero(np.float32(INCOME) == row[1].item())[0]) for row in dataset.test]
    assert dataset.test_labels.tolist() == [codes[CITY[row]] for row in order]
    assert dataset.remarks == (f"classes of {file}: 0 Aarau, 1 Bern, 2 Chur.",)
    assert dataset.class_names == ("Aarau", "Bern", "Chur")


def test_a_column_that_may_but_name_rows_is_said_to_be_learnt(table):
    file = table(id=AGE, income=INCOME)
    assert load(file).feature_names == ("id", "income")
    assert load(file).remarks == (
        f"column 'id' of {file} is learnt as any other; if it but names rows, leave it out of the file.",
    )
    assert load(table(age=AGE, income=INCOME)).remarks == ()


def test_a_square_number_of_columns_is_no_image(table):
    assert load(table(a=INCOME, b=INCOME, c=INCOME, d=INCOME)).shape == (4,)


def test_counts_in_a_table_stay_counts(table):
    file = table(visits=AGE, calls=AGE // 20)
    dataset = load(file, "counts")
    assert torch.equal(dataset.values(dataset.train).max(0).values, torch.cat([dataset.train]).float().max(0).values)
    assert set(dataset.values(dataset.train)[:, 0].tolist()) <= set(AGE.tolist())
    with pytest.raises(DataError, match="which aren't grey levels 0..255; .* model.likelihood=poisson or negative-binomial"):
        load(file, "bits")


def test_text_is_coded_in_sorted_order_for_categories(table):
    dataset = load(table(city=CITY, size=AGE % 5, open=np.where(AGE > 50, "yes", "no")), "categories")
    assert dataset.levels == 5
    assert dict(dataset.category_names) == {"city": tuple(sorted(set(CITY))), "open": ("no", "yes")}
    rows = torch.cat([dataset.train, dataset.test])
    assert torch.bincount(rows[:, 0]).tolist() == [10, 10, 10]
    assert sorted(rows[:, 2].tolist()) == sorted((AGE > 50).astype(int).tolist())


def test_truth_values_are_bits(tmp_path):
    write_parquet(tmp_path / "t.parquet", {"a": AGE > 50, "b": AGE > 30, "c": AGE % 2})
    dataset = load(tmp_path / "t.parquet", "bits")
    assert set(dataset.binarize(dataset.train).unique().tolist()) == {0, 1}


def with_gaps(values, gap):
    return [gap if row in (6, 8) else value for row, value in enumerate(values)]


@pytest.mark.parametrize("kind", ["reals", "categories"])
@pytest.mark.parametrize("values", [AGE.tolist(), INCOME.tolist(), CITY.tolist(), (AGE > 50).tolist()])
def test_missing_values_are_counted_and_found(kind, values, tmp_path):
    write_parquet(tmp_path / "t.parquet", {"a": AGE, "b": with_gaps(values, None)})
    problem = r"column 'b' of .*: train lacks 2 of 30 values, the first in row 7; fill or drop such rows"
    with pytest.raises(DataError, match=problem):
        load(tmp_path / "t.parquet", kind)
    write_csv(tmp_path / "t.csv", {"a": AGE, "b": with_gaps(values, "")})
    with pytest.raises(DataError, match=problem):
        load(tmp_path / "t.csv", kind)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_missing_values_of_data_frames(library):
    library = pytest.importorskip(library)
    frame = library.DataFrame({"a": AGE.tolist(), "b": with_gaps(CITY.tolist(), None)})
    with pytest.raises(DataError, match=r"column 'b' of arrays: train lacks 2 of 30 values, the first in row 7"):
        dataset_from_arrays(frame, kind="categories")


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (
            {"a": AGE, "b": CITY},
            r"column 'b' of .*: train holds text in 30 of 30 rows, the first 'Bern' in row 1; .*=categorical",
        ),
        ({"a": AGE, "b": with_gaps(AGE, "12a")}, "holds text in 2 of 30 rows, the first '12a' in row 7; put numbers there"),
        ({"a": AGE, "b": with_gaps(INCOME, "inf")}, r"has 2 of 60 values that are NaN or infinite, the first inf in row 7 of "),
        ({"day": ["2026-01-02"] * 30}, r"column 'day' of .* is of type datetime64\[\w+\]; drop it or turn it into numbers"),
        ({"1.5": AGE, "2": AGE}, "the first line of .* holds numbers; it must hold the names of the columns"),
    ],
)
def test_columns_that_are_no_numbers(columns, problem, tmp_path):
    write_csv(tmp_path / "t.csv", columns)
    with pytest.raises(DataError, match=problem):
        load(tmp_path / "t.csv")


def test_columns_that_hold_other_things(tmp_path):
    write_parquet(tmp_path / "t.parquet", {"a": [[1, 2]] * 30})
    with pytest.raises(DataError, match=r"holds array\(\[1, 2\]\) \(ndarray\) in row 1 among other things"):
        load(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("labels", "problem"),
    [("town", "has no column 'town' of labels; .*Allowed: age, city"), ("income", "is float64; class labels are whole")],
)
def test_labels_that_are_none(labels, problem, tmp_path):
    write_csv(tmp_path / "t.csv", {"age": AGE, "city": CITY, "income": INCOME})
    with pytest.raises(DataError, match=problem):
        load(tmp_path / "t.csv", labels=labels)


def test_files_that_are_no_tables(tmp_path):
    for suffix in ("csv", "parquet"):
        file = tmp_path / f"t.{suffix}"
        with pytest.raises(DataError, match=rf"there is no file {file}; set data.name to an existing .csv or .parquet"):
            load(file)
        file.write_bytes(b"\xff\xfe\x00\x80")
        with pytest.raises(DataError, match=rf"t.{suffix} can't be read as a .{suffix} file"):
            load(file)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(DataError, match="can't be read as a .csv file: .*Expected 2 columns, got 1"):
        load(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a,a\n1,2\n")
    with pytest.raises(DataError, match="has two columns named 'a'; rename one"):
        load(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="is empty"):
        load(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(DataError, match="can't be read as a .csv file: Empty CSV file"):
        load(tmp_path / "t.csv")


def test_without_pyarrow_the_way_to_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs pyarrow; in the clone of qvae: pip install -e '\.\[tables\]'"):
        load(tmp_path / "t.csv")


def test_a_file_that_takes_more_memory_than_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr("qvae.memory.total_memory", lambda: 10**6)
    (tmp_path / "a.csv").write_text("a,b\n" + "1,0\n" * 50_000)  # 200 kB, and 100,000 numbers
    with pytest.raises(DataError, match=r"a\.csv, read, takes .* GB of memory, more than this machine has"):
        read_table(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("a,b\n" + "1.0000000000000000000,0.0000000000000000000\n" * 5_000)
    assert len(read_table(tmp_path / "a.csv")["a"]) == 5_000
