"""Rows for a trained model: every form they may have means the same, and what is wrong with others is told."""

import numpy as np
import pytest
import torch
from PIL import Image

from qvae.data.given import given_rows
from qvae.errors import DataError

SHAPE = (4, 5)


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (7, *SHAPE)).astype(np.uint8)


def values(path, shapes=(SHAPE,), kind="bits", **keys):
    with given_rows(path, shapes, kind, **keys) as found:
        return found.dataset.values(found.dataset.test).numpy()


def test_all_forms_of_images_mean_the_same(grey, tmp_path):
    (tmp_path / "folder").mkdir()
    for number, image in enumerate(grey):
        Image.fromarray(image).save(tmp_path / "folder" / f"{number}.png")
    np.save(tmp_path / "bytes.npy", grey)
    np.save(tmp_path / "flat.npy", grey.reshape(7, -1) / 255)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(grey / 255))
    np.savez_compressed(tmp_path / "archive.npz", images=grey[:, None], mask=grey[0] > 9)
    for name in ("folder", "bytes.npy", "flat.npy", "fortran.npy", "archive.npz"):
        np.testing.assert_allclose(values(tmp_path / name), grey / 255, atol=2**-15, err_msg=name)
    np.testing.assert_allclose(values(tmp_path / "folder" / "3.png"), grey[3:4] / 255, atol=2**-15)
    np.save(tmp_path / "one.npy", grey[0])
    assert values(tmp_path / "one.npy").shape == (1, *SHAPE)


def test_colour_may_stand_first_or_last(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, 3, *SHAPE)).astype(np.uint8)
    np.save(tmp_path / "last.npy", np.moveaxis(images, 1, 3))
    (tmp_path / "folder").mkdir()
    Image.fromarray(np.moveaxis(images[0], 0, 2)).save(tmp_path / "folder" / "a.png")
    np.testing.assert_allclose(values(tmp_path / "last.npy", [(3, *SHAPE)], "reals"), (images + 0.5) / 256, rtol=1e-6)
    np.testing.assert_allclose(values(tmp_path / "folder", [(3, *SHAPE)], "reals")[0], (images[0] + 0.5) / 256, rtol=1e-6)


def test_names_masks_and_dark_pictures(grey, tmp_path):
    np.savez(tmp_path / "a.npz", x=grey, ids=np.array(list("abcdefg")), mask=np.ones(SHAPE, bool))
    with given_rows(tmp_path / "a.npz", [SHAPE], "bits") as found:
        assert (found.ids, len(found), found.are_pictures) == (list("abcdefg"), 7, False)
        assert found.extra["mask"].all()
        assert isinstance(found.extra["mask"], np.memmap)
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    Image.fromarray(grey[0] // 100).save(tmp_path / "folder" / "deep" / "dark.png")
    with given_rows(tmp_path / "folder", [SHAPE], "bits") as found:
        assert found.ids == ["deep/dark.png"]
        assert found.dataset.values(found.dataset.test).max() < 0.01  # files have 256 levels, however dark


def test_bits_are_drawn_or_cut(tmp_path):
    np.save(tmp_path / "a.npy", np.full((200, *SHAPE), 0.6))
    for cuts, mean in ((True, 1.0), (False, 0.6)):
        with given_rows(tmp_path / "a.npy", [SHAPE], "bits", cuts=cuts) as found:
            bits = found.dataset.prepare(found.dataset.test, torch.Generator().manual_seed(0))
        assert float(bits.mean()) == pytest.approx(mean, abs=5 * (0.24 / 4000) ** 0.5)


@pytest.mark.parametrize(
    ("kind", "array", "words"),
    [
        ("bits", np.full((3, *SHAPE), 1.5), "outside [0, 1]"),
        ("bits", np.full((3, *SHAPE), 17), "divide grey levels by their white (by 17?)."),
        ("bits", np.full((3, *SHAPE), 300), "the first 300 at [0, 0, 0]; give whole numbers in 0..255."),
        ("bits", np.full((3, *SHAPE), np.nan), "NaN"),
        ("bits", np.zeros((0, *SHAPE)), "is empty"),
        ("bits", np.zeros((3, 5, 4)), "shape (3, 5, 4), but this model takes (N, 4, 5) or (N, 2, 5)"),
        ("bits", np.array([["a"]]), "shape (1, 1)"),
        ("bits", np.array([None]), "pickled objects are never read"),
        ("counts", np.full((3, *SHAPE), 0.5), "aren't whole, the first 0.5 at [0, 0, 0]; give counts as whole numbers from 0."),
        ("categories", np.full((3, *SHAPE), 4), "of unknown categories, 4 and above"),
    ],
)
def test_what_a_model_can_t_take_is_told(kind, array, words, tmp_path):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError) as told:
        values(tmp_path / "a.npy", [SHAPE, (2, 5)], kind, levels=4 if kind == "categories" else None)
    assert words in str(told.value)
    assert "model.likelihood" not in str(told.value)  # which a trained model has already


def test_damage_and_absence_are_told(grey, tmp_path):
    np.savez(tmp_path / "a.npz", images=grey)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "short.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "changed.npz").write_bytes(content.replace(grey[2].tobytes(), grey[1].tobytes()))
    np.savez(tmp_path / "two.npz", images=grey, x=grey)
    np.savez(tmp_path / "ids.npz", images=grey, ids=np.arange(3))
    (tmp_path / "empty").mkdir()
    Image.fromarray(grey[0].T).save(tmp_path / "turned.png")
    Image.fromarray(np.full(SHAPE, 40_000, np.uint16)).save(tmp_path / "deep.png")  # as 8 bits all of it would be white
    for name, words in {
        "deep.png": "has more than 8 bits a channel",
        "none.png": "there is no file",
        "short.npz": "isn't an intact",
        "changed.npz": "isn't an intact",
        "two.npz": "rows are its only array, or one of",
        "ids.npz": "7 rows, but ids of shape (3,)",
        "empty": "holds no .png",
        "none.npz": "there is no file",
        "turned.png": "is 5 x 4 pixels, but this model takes 4 x 5",
    }.items():
        with pytest.raises(DataError) as told:
            values(tmp_path / name)
        assert words in str(told.value), name


@pytest.mark.parametrize("code", [">i2", "<u2", ">u2", "<u4", "<u8", ">f8", "g"])
def test_numbers_of_any_type_are_taken(code, tmp_path, monkeypatch):
    monkeypatch.setattr("qvae.data.dataset._CHUNK", 5)  # pieces of a row
    counts = np.arange(20).reshape(4, 5) * 1700
    np.save(tmp_path / "a.npy", counts.astype(code))
    np.savez(tmp_path / "turned.npz", rows=counts.astype(code)[::-1])
    np.testing.assert_array_equal(values(tmp_path / "a.npy", [(5,)], "counts"), counts)
    np.testing.assert_array_equal(values(tmp_path / "turned.npz", [(5,)], "counts"), counts[::-1])


@pytest.mark.parametrize("name", ["images", "rows", "x", "X", "data", "train", "test"])
def test_rows_have_any_usual_name_among_other_arrays(name, grey, tmp_path):
    np.savez(tmp_path / "a.npz", other=grey[:2], **{name: grey})
    with given_rows(tmp_path / "a.npz", [SHAPE], "bits") as found:
        assert (len(found), list(found.extra), found.ids) == (7, ["other"], [str(number) for number in range(7)])


def test_grey_levels_are_told_from_other_numbers(grey, tmp_path):
    """Bytes of images are 256 levels as reals, too; a table's bytes are numbers, and so are floats."""
    np.save(tmp_path / "bytes.npy", grey)
    np.save(tmp_path / "flat.npy", grey.reshape(7, -1))
    np.testing.assert_allclose(values(tmp_path / "bytes.npy", kind="reals"), (grey + 0.5) / 256, rtol=1e-6)
    np.testing.assert_array_equal(values(tmp_path / "flat.npy", [(20,)], "reals"), grey.reshape(7, -1))
    np.save(tmp_path / "most.npy", np.full((3, *SHAPE), 3))
    assert values(tmp_path / "most.npy", kind="categories", levels=4).max() == 3


def test_pictures_of_two_sizes_are_refused_even_if_each_is_known(grey, tmp_path):
    (tmp_path / "both").mkdir()
    for number, image in enumerate((grey[0], grey[1].T)):
        Image.fromarray(image).save(tmp_path / "both" / f"{number}.png")
    with pytest.raises(DataError, match=r"1.png is 5 x 4 pixels, but this model takes 4 x 5 or 5 x 4, all of one size"):
        values(tmp_path / "both", [SHAPE, SHAPE[::-1]])
