import pickle

import numpy as np
import pytest
import torch

from qvae.config.schema import DataConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.data.load import load_data
from qvae.errors import DataError

GREY = np.random.default_rng(0).random((20, 4, 6))


def from_file(path, **keys):
    return load_data(DataConfig(name=str(path), **keys))


def test_a_npy_file_is_split_once_and_for_all(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    dataset = from_file(tmp_path / "a.npy")
    assert dataset.train.shape == (18, 4, 6)
    assert dataset.test.shape == (2, 4, 6)
    assert dataset.train_labels is None
    together = torch.cat([dataset.values(dataset.train), dataset.values(dataset.test)])
    assert np.allclose(np.sort(together.numpy(), 0), np.sort(GREY, 0), atol=2**-15)
    assert torch.equal(from_file(tmp_path / "a.npy").test, dataset.test)


@pytest.mark.parametrize("names", ["train test train_labels test_labels", "x_train x_test y_train y_test"])
def test_a_npz_file_with_parts_and_labels(names, tmp_path):
    arrays = (GREY[:15], GREY[15:], np.arange(15, dtype=np.uint8), np.arange(5))
    np.savez(tmp_path / "a.npz", **dict(zip(names.split(), arrays, strict=True)))
    dataset = from_file(tmp_path / "a.npz")
    assert np.allclose(dataset.values(dataset.test).numpy(), GREY[15:], atol=2**-15)
    assert dataset.train_labels.tolist() == list(range(15))
    assert dataset.test_labels.dtype == torch.int64


def test_labels_follow_their_images_into_the_held_out_part(tmp_path):
    images = np.arange(20)[:, None, None] / 32 * np.ones((20, 2, 2))
    np.savez(tmp_path / "a.npz", train=images, train_labels=np.arange(20))
    dataset = from_file(tmp_path / "a.npz")
    assert torch.equal(dataset.values(dataset.train)[:, 0, 0] * 32, dataset.train_labels.float())
    assert torch.equal(dataset.values(dataset.test)[:, 0, 0] * 32, dataset.test_labels.float())


def test_a_npz_file_with_one_array_of_any_name(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", galaxies=GREY)
    assert len(from_file(tmp_path / "a.npz").train) == 18


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 51, 255], np.uint8), [0, 0.2, 1]),
        (np.array([0, 51, 255], np.int64), [0, 0.2, 1]),
        (np.array([0, 1, 1], np.uint8), [0, 1, 1]),
        (np.array([False, True, True]), [0, 1, 1]),
        (np.array([0, 0.25, 1], np.float16), [0, 0.25, 1]),
        (np.array([0, 0.25, 1], ">f8"), [0, 0.25, 1]),
    ],
)
def test_types_of_values(values, expected):
    dataset = dataset_from_arrays(np.tile(values, (10, 1)))
    assert dataset.values(dataset.train[0]).flatten().tolist() == pytest.approx(expected, abs=2**-15)


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [((10, 64), (8, 8)), ((10, 49), (49,)), ((10, 65), (65,)), ((10, 4, 6), (4, 6)),
     ((10, 4, 6, 3), (3, 4, 6)), ((10, 4, 6, 1), (4, 6)),
     ((10, 3, 4, 6), (3, 4, 6)), ((10, 1, 4, 6), (4, 6))],
)  # fmt: skip
def test_shapes_of_images(shape, image_shape):
    array = np.random.default_rng(0).random(shape)
    dataset = dataset_from_arrays(array, array)
    assert dataset.shape == image_shape
    assert dataset.mean().shape == image_shape
    pixels = array.transpose(0, 3, 1, 2) if shape == (10, 4, 6, 3) else array
    assert np.allclose(dataset.values(dataset.train).numpy(), pixels.reshape(10, *image_shape), atol=2**-15)


def with_value(value, dtype=float):
    array = GREY.astype(dtype)
    array[3, 1, 2] = array[7, 0, 0] = value
    return array


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (with_value(np.nan), r"train has 2 of 480 values that are NaN or infinite, the first nan at \[3, 1, 2\]"),
        (with_value(np.inf), "values that are NaN or infinite, the first inf"),
        (with_value(-0.5), r"train has 2 of 480 values outside \[0, 1\], the first -0.5 at \[3, 1, 2\]; scale them"),
        (GREY * 255, r"values outside \[0, 1\], the first .*; divide by 255 or save them as uint8"),
        (with_value(300, int), r"train has 2 of 480 values outside 0..255, the first 300 at \[3, 1, 2\]"),
        (with_value(-1, int), "outside 0..255, the first -1"),
        (np.zeros((0, 28, 28)), r"train is empty: its shape is \(0, 28, 28\)"),
        (np.zeros((9, 3, 3)), "holds 9 images; at least 10 are needed"),
        (np.zeros(50), r"train has the shape \(50,\); images have \(N, D\)"),
        (np.array(0.5), r"train has the shape \(\); images have"),
        (np.zeros((10, 4, 4, 2)), "images have"),
        (np.zeros((10, 2, 2, 2, 2)), "images have"),
        (np.zeros((10, 4), complex), "train is of type complex128; images are floats"),
        (np.full((10, 4), "0.5"), "train is of type <U3; images are floats"),
        (np.zeros((10, 4), "M8[s]"), "images are floats"),
    ],
)
def test_arrays_that_are_no_images(array, problem, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=problem) as caught:
        from_file(tmp_path / "a.npy")
    assert str(tmp_path / "a.npy") in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"train": GREY, "tst": GREY}, "holds train, tst; an .npz holds one array, or train among these: train"),
        ({"test": GREY, "test_labels": np.arange(20)}, "holds test, test_labels; an .npz holds one array"),
        ({}, "holds nothing; an .npz holds"),
        ({"train": GREY, "test": GREY[:, :2]}, r"have the shapes \(4, 6\) and \(2, 6\); they must be of one shape"),
        ({"train": GREY[:1], "test": GREY}, "holds 1 training and 20 test images; at least 2 and 1"),
        ({"train": GREY, "test": GREY[:0]}, "test is empty"),
        ({"train": GREY, "test": -GREY}, r"test has 480 of 480 values outside \[0, 1\]"),
        ({"train": GREY, "train_labels": np.arange(19)}, r"train_labels is int64 of shape \(19,\); it must be"),
        ({"train": GREY, "train_labels": np.full(20, 0.5)}, "train_labels is float64"),
    ],
)
def test_archives_that_do_not_fit_together(arrays, problem, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=problem):
        from_file(tmp_path / "a.npz")


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


def test_pickles_are_never_read(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([Trap(), Trap()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", train=np.array([Trap()], dtype=object))
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Trap()))
    for name in ["objects.npy", "objects.npz", "plain.npy"]:
        with pytest.raises(DataError, match=r"pickled objects are never read"):
            from_file(tmp_path / name)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_damaged_array_files(suffix, tmp_path):
    file = tmp_path / f"a.{suffix}"
    with pytest.raises(DataError, match=rf"there is no file {file}"):
        from_file(file)
    file.mkdir()
    with pytest.raises(DataError, match="can't be read: Is a directory"):
        from_file(file)
    file.rmdir()
    (np.save if suffix == "npy" else np.savez)(file, GREY)
    content = file.read_bytes()
    for kept in [0, 5, 40, 200, len(content) - 1]:
        file.write_bytes(content[:kept])
        with pytest.raises(DataError, match=r"isn't an intact \.npy or \.npz file|holds no array of plain numbers"):
            from_file(file)


# Layout ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "layout", "found"),
    [((20, 1, 3, 3), "auto", (3, 3)), ((20, 1, 3, 3), "nchw", (3, 3)), ((20, 1, 3, 3), "nhwc", (3, 1, 3)),
     ((20, 3, 5, 3), "auto", (3, 5, 3)), ((20, 3, 5, 3), "nhwc", (3, 3, 5)), ((20, 3, 5, 1), "nhwc", (3, 5)),
     ((20, 4, 6, 3), "nhwc", (3, 4, 6)), ((20, 3, 4, 6), "nchw", (3, 4, 6))],
)  # fmt: skip
def test_an_array_that_could_be_either_is_read_as_nchw_or_as_told(shape, layout, found, tmp_path):
    array = np.random.default_rng(0).random(shape)
    np.savez(tmp_path / "a.npz", train=array, test=array)
    dataset = from_file(tmp_path / "a.npz", layout=layout)
    assert dataset.shape == found
    channels_first = array if layout != "nhwc" else array.transpose(0, 3, 1, 2)
    assert np.allclose(dataset.values(dataset.train).numpy().ravel(), channels_first.ravel(), atol=2**-15)
    guessed = layout == "auto"
    assert any("data.layout=nhwc reads (H, W, C)" in remark for remark in dataset.remarks) == guessed


@pytest.mark.parametrize(("shape", "layout"), [((20, 4, 6, 3), "nchw"), ((20, 3, 4, 6), "nhwc")])
def test_a_layout_that_does_not_fit(shape, layout):
    with pytest.raises(DataError, match=rf"images have .* with C = 1 or 3, and data.layout is {layout}"):
        dataset_from_arrays(np.zeros(shape), layout=layout)


# Archives and names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("X", "y"), ("data", "target")])
def test_a_pair_of_rows_and_labels_under_usual_names_is_split(names, tmp_path):
    images = np.arange(20)[:, None, None] / 32 * np.ones((20, 2, 3))
    np.savez(tmp_path / "a.npz", **dict(zip(names, (images, np.arange(20)), strict=True)))
    dataset = from_file(tmp_path / "a.npz")
    assert len(dataset.train) == 18
    assert torch.equal(dataset.values(dataset.test)[:, 0, 0] * 32, dataset.test_labels.float())


def test_two_names_of_one_thing_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", train=GREY, images=GREY)
    with pytest.raises(DataError, match=r"holds train and images, which mean the same; leave one of them"):
        from_file(tmp_path / "a.npz")


def test_feature_names_make_a_table_of_an_array():
    names = [f"f{i}" for i in range(9)]
    dataset = dataset_from_arrays(np.full((20, 9), 0.5), feature_names=names)
    assert dataset.shape == (9,)
    assert dataset.feature_names == tuple(names)
    assert dataset_from_arrays(np.full((20, 81), 0.5)).shape == (9, 9)
    with pytest.raises(DataError, match=r"train has 9 feature names, but its shape is \(20, 8\)"):
        dataset_from_arrays(np.zeros((20, 8)), feature_names=names)
    with pytest.raises(DataError, match="in row 5 of column 'f2'"):
        dataset_from_arrays(np.where(np.arange(180).reshape(20, 9) == 38, np.nan, 0.5), feature_names=names)


def test_rows_that_are_held_out_are_from_everywhere_in_a_sorted_file():
    rows = np.linspace(0, 1, 200).reshape(200, 1)
    held_out = dataset_from_arrays(rows, feature_names=["x"])
    places = (199 * held_out.values(held_out.test)).round().flatten().tolist()
    assert len(set(places)) == 20
    assert min(places) < 50
    assert 50 < sorted(places)[10] < 150
    assert sorted(places) != list(range(180, 200))
