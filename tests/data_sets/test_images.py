"""Folders of PNG and JPEG files."""

import numpy as np
import pytest
import torch
from PIL import Image

from qvae.config.load import load_config
from qvae.config.schema import DataConfig
from qvae.data.load import load_data
from qvae.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 5, 7), np.uint8)
COLOUR = RNG.integers(0, 256, (20, 5, 7, 3), np.uint8)


def write(folder, arrays, suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for row, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{row:02}.{suffix}")


def load(folder, kind="bits", **keys):
    return load_data(DataConfig(name=str(folder), **keys), kind)


def rows_of(dataset):
    """All images as bytes, in the order of the numbers in them."""
    rows = torch.cat([dataset.values(dataset.train), dataset.values(dataset.test)])
    pixels = (rows * 255).round().numpy().astype(np.uint8).reshape(len(rows), -1)
    return pixels[np.lexsort(pixels.T)]


def test_grey_files_are_grey_images(tmp_path):
    write(tmp_path, GREY)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".00.png").write_bytes(b"of a file manager")
    dataset = load(tmp_path)
    assert dataset.train.shape == (18, 5, 7)
    assert dataset.train_labels is None
    flat = GREY.reshape(20, -1)
    assert np.array_equal(rows_of(dataset), flat[np.lexsort(flat.T)])
    assert torch.equal(load(tmp_path).test, dataset.test)
    assert load(tmp_path, "reals").levels == 256


@pytest.mark.parametrize("place", [19, 3])
def test_one_colour_file_makes_all_colour(place, tmp_path):
    write(tmp_path, [*GREY[:place], COLOUR[19], *GREY[place + 1 :]])
    dataset = load(tmp_path, "reals")
    assert dataset.shape == (3, 5, 7)
    stored = torch.cat([dataset.train, dataset.test])
    assert any(torch.equal(row, torch.tensor(COLOUR[19]).permute(2, 0, 1)) for row in stored)
    assert sum(bool((row[0] == row[1]).all() and (row[0] == row[2]).all()) for row in stored) == 19
    assert any("eight colours" in remark for remark in load(tmp_path).remarks)


def test_dark_files_are_grey_levels_nevertheless(tmp_path):
    write(tmp_path, GREY // 16)
    assert load(tmp_path).mean().max() < 16 / 255


def test_subfolders_are_classes(tmp_path):
    write(tmp_path / "dog", np.full((12, 4, 4), 200, np.uint8))
    write(tmp_path / "cat", np.full((18, 4, 4), 100, np.uint8), "jpg")
    dataset = load(tmp_path)
    assert torch.equal(dataset.train_labels, (dataset.values(dataset.train)[:, 0, 0] > 0.5).long())
    assert torch.equal(dataset.test_labels, (dataset.values(dataset.test)[:, 0, 0] > 0.5).long())
    assert len(dataset.test) == 3
    assert dataset.remarks == (f"classes of {tmp_path}: 0 cat, 1 dog.",)
    assert dataset.class_names == ("cat", "dog")


@pytest.mark.parametrize("classes", [False, True])
def test_train_and_test_are_parts(classes, tmp_path):
    for part, count in (("train", 6), ("test", 2)):
        for number, name in enumerate("ab" if classes else [""]):
            write(tmp_path / part / name, np.full((count, 4, 4), 100 * number + count, np.uint8))
    dataset = load(tmp_path)
    assert len(dataset.train) == (12 if classes else 6)
    assert len(dataset.test) == (4 if classes else 2)
    assert np.isin(rows_of(dataset), [6, 106, 2, 102]).all()
    assert (dataset.test_labels is not None and dataset.test_labels.tolist() == [0, 0, 1, 1]) == classes


def test_images_of_several_sizes(tmp_path):
    write(tmp_path, [*GREY[:12], *GREY[12:, :4]])
    with pytest.raises(DataError, match=r"holds images of 2 sizes, .*: 5x7 \(12\), 4x7 \(8\); set data.size=\[HEIGHT, WIDTH\]"):
        load(tmp_path)
    assert load(tmp_path, size=[6, 8]).shape == (6, 8)


def test_a_smaller_image_is_of_all_pixels(tmp_path):
    """A fine checkerboard becomes grey, and no row of its pixels alone."""
    board = (np.indices((16, 24)).sum(0) % 2 * 255).astype(np.uint8)
    write(tmp_path, [board] * 20)
    inner = load(tmp_path, "reals", size=[4, 6]).train[:, 1:-1, 1:-1].float()
    assert inner.shape[1:] == (2, 4)
    assert ((inner - 127.5).abs() < 2).all()


def test_files_that_are_no_images(tmp_path):
    with pytest.raises(DataError, match=rf"there is no folder {tmp_path}/none; set data.name to an existing folder of images"):
        load(tmp_path / "none")
    with pytest.raises(DataError, match="holds no .png, .jpg, .jpeg files"):
        load(tmp_path)
    write(tmp_path, GREY)
    whole = (tmp_path / "07.png").read_bytes()
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        (tmp_path / "07.png").write_bytes(content)
        with pytest.raises(DataError, match=r"07.png can't be read as an image .*; save it again or remove it"):
            load(tmp_path)
    Image.fromarray(np.full((5, 7), 40_000, np.uint16)).save(tmp_path / "07.png")
    with pytest.raises(DataError, match="07.png has more than 8 bits a channel"):
        load(tmp_path)


def test_a_folder_of_other_files_is_not_searched_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("qvae.data.images._OTHERS", 5)
    for number in range(20):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(DataError, match="holds more than 5 files that are no images; set data.name to their own folder"):
        load_data(DataConfig(name=str(tmp_path)))


def test_images_beside_classes(tmp_path):
    write(tmp_path, GREY[:2])
    write(tmp_path / "a", GREY)
    with pytest.raises(DataError, match="holds 00.png beside the classes a; put it into one of them"):
        load(tmp_path)
    write(tmp_path / "set" / "train" / "a", GREY)
    write(tmp_path / "set" / "test" / "b", GREY)
    with pytest.raises(DataError, match="holds b beside the classes a"):
        load(tmp_path / "set")


def test_too_few(tmp_path):
    write(tmp_path, GREY[:9])
    with pytest.raises(DataError, match="holds 9 images; at least 10 are needed"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("data.size=[5]", "data.size is [5]; "),
        ("data.size=[5, 0]", "data.size[1] is 0; it must be 1 or more"),
        ("data.size=[5, 5]", "data.size is [5, 5]; it resizes the files of a folder, but name is 'digits'"),
        ("data.labels=city", "data.labels is 'city', a column of a .csv or .parquet table, but name is 'digits'"),
        ("data.layout=hwc", """data.layout is "hwc"; did you mean"""),
    ],
)
def test_keys_that_do_not_fit(override, problem):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert problem in str(caught.value)


def test_what_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    for name in ("faces", "./mnist", "a.npy", "~/b.parquet", str(tmp_path / "gone")):
        assert DataConfig(name=name).is_path
    assert not DataConfig(name="mnist").is_path
    with pytest.raises(ConfigError, match="did you mean 'mnist'"):
        load_config(None, ["data.name=mnits"])
