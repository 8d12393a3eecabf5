import gzip
import hashlib
import math
import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from qvae import data as module
from qvae.config.schema import DataConfig
from qvae.data import binarize_fixed, dataset_from_arrays, epoch_permutation, load_data
from qvae.errors import DataError

MNIST = Path(__file__).parents[1].parent / "shared" / "data" / "mnist"
needs_mnist = pytest.mark.skipif(not MNIST.is_dir(), reason=f"needs the idx files of MNIST in {MNIST}")


# Digits and binarization ----------------------------------------------------------------------------------------------


def test_digits_are_split_once_and_for_all():
    from sklearn.datasets import load_digits

    dataset = load_data(DataConfig(binarize="dynamic"))
    assert dataset.train.shape == (1500, 8, 8)
    assert dataset.test.shape == (297, 8, 8)
    assert dataset.image_shape == (8, 8)
    assert dataset.binarization == "dynamic"
    together = np.concatenate([dataset.grey(dataset.train), dataset.grey(dataset.test)]) * 16
    order = np.lexsort(together.reshape(1797, -1).T)
    original = load_digits()
    expected = np.lexsort(original.images.reshape(1797, -1).T)
    assert np.array_equal(together[order], original.images[expected])
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    assert np.array_equal(labels[order], original.target[expected])
    # The split is part of the published results: it must not change with a version of NumPy or of ours.
    assert hashlib.sha256(dataset.test.numpy().astype("<i2").tobytes()).hexdigest()[:16] == "a40d71fb51d477b3"


def test_mean_image_is_that_of_the_training_images():
    dataset = load_data(DataConfig())
    assert dataset.mean_image.dtype == torch.float32
    assert torch.allclose(dataset.mean_image, dataset.grey(dataset.train).mean(0), atol=1e-5)


def test_bits_have_the_grey_level_as_their_probability():
    levels = np.array([0.0, 1 / 255, 0.1, 0.5, 0.9, 254 / 255, 1.0])
    draws = 100_000
    dataset = dataset_from_arrays(np.tile(levels, (draws, 1)), levels[None])
    bits = dataset.binarize(dataset.train, torch.Generator().manual_seed(0)).double().flatten(1)
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    error = np.sqrt(levels * (1 - levels) / draws)
    assert (np.abs(bits.mean(0).numpy() - levels) <= 5 * error + 2**-16).all()
    # Pixels share 64-bit random numbers, but are independent: the correlation of n pairs has standard error 1/sqrt(n).
    middle = bits[:, 1:-1]
    correlations = torch.corrcoef(middle.T) - torch.eye(middle.shape[1])
    assert correlations.abs().max() < 5 / math.sqrt(draws)
    again = dataset.binarize(dataset.train, torch.Generator().manual_seed(0)).flatten(1)
    assert torch.equal(again.double(), bits)


@pytest.mark.parametrize("shape", [(0, 3, 3), (1, 1, 1), (3, 5, 7), (2, 3, 4, 5)])
def test_binarize_takes_any_rows_flattened_or_not(shape):
    dataset = dataset_from_arrays(np.full((10, 3, 3), 0.5))
    images = torch.full(shape, 2**14 - 1, dtype=torch.int16)
    bits = dataset.binarize(images, torch.Generator().manual_seed(1))
    assert bits.shape == shape
    assert bits.dtype == torch.float32
    flat = dataset.binarize(images.flatten(1), torch.Generator().manual_seed(1))
    assert torch.equal(flat, bits.flatten(1))


def test_auto_binarizes_digits_at_the_threshold_and_draws_all_else(tmp_path):
    assert load_data(DataConfig()).binarization == "threshold"
    np.save(tmp_path / "grey.npy", np.full((20, 2, 2), 0.3))
    assert load_data(DataConfig(name=str(tmp_path / "grey.npy"))).binarization == "dynamic"


def test_an_evaluation_draws_the_same_bits_for_the_same_images():
    dataset = load_data(DataConfig(binarize="dynamic"))
    whole = binarize_fixed(dataset, dataset.test, seed=3)
    assert torch.equal(binarize_fixed(dataset, dataset.test[:50].flatten(1), seed=3), whole[:50].flatten(1))
    assert not torch.equal(binarize_fixed(dataset, dataset.test, seed=4), whole)


def test_fixed_binarization_depends_on_no_seed_of_the_run():
    fixed = load_data(DataConfig(binarize="fixed"))
    assert fixed.binarization == "fixed-seed"
    first = fixed.binarize(fixed.train, torch.Generator().manual_seed(0))
    torch.manual_seed(7)
    again = load_data(DataConfig(binarize="fixed"))
    assert torch.equal(again.binarize(again.train, torch.Generator().manual_seed(1)), first)
    assert torch.equal(fixed.grey(fixed.train), first)
    # Bits of mean g and variance g(1-g): the mean over all pixels lies within 5 standard errors.
    grey = load_data(DataConfig(binarize="dynamic")).train.double().add(1).div(2**15)
    error = (grey * (1 - grey)).sum().sqrt() / grey.numel()
    assert abs(first.double().mean() - grey.mean()) < 5 * error
    half = (grey > 0.4) & (grey < 0.6)
    assert 0.4 < first[half].mean() < 0.6


def test_threshold_cuts_at_a_half():
    images = np.tile(np.array([[0.0, 0.49, 0.5, 1.0]]), (10, 1))
    dataset = dataset_from_arrays(images, binarize="threshold")
    assert dataset.binarization == "threshold"
    assert dataset.binarize(dataset.train[0]).flatten().tolist() == [0, 0, 1, 1]


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    orders = [epoch_permutation(1000, epoch, seed) for epoch, seed in [(0, 0), (1, 0), (0, 1), (1, 1)]]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(1000))
    assert len({tuple(order.tolist()) for order in orders}) == 4
    torch.manual_seed(3)
    assert torch.equal(epoch_permutation(1000, 1, 0), orders[1])
    # A run that is resumed with another version finds the same order.
    assert epoch_permutation(8, epoch=2, seed=1).tolist() == [5, 6, 3, 2, 1, 0, 4, 7]


# Idx files ------------------------------------------------------------------------------------------------------------


@needs_mnist
def test_real_mnist():
    dataset = load_data(DataConfig(name="mnist", root=str(MNIST)))
    assert dataset.train.shape == (60_000, 28, 28)
    assert dataset.test.shape == (10_000, 28, 28)
    assert dataset.train_labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert dataset.test_labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    assert dataset.mean_image.mean().item() == pytest.approx(0.13066, abs=1e-5)  # the mean that everybody normalises by
    with gzip.open(MNIST / "t10k-images-idx3-ubyte.gz") as file:
        raw = np.frombuffer(file.read(), np.uint8, offset=16).reshape(10_000, 28, 28)
    assert np.array_equal((dataset.grey(dataset.test) * 255).round().numpy(), raw)


STEMS = ["train-images", "train-labels", "t10k-images", "t10k-labels"]


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def contents(monkeypatch):
    """A data set of 12 + 4 images of 3x2 pixels under the name mnist: file names and what they hold."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (12, 3, 2)), rng.integers(0, 10, 12), rng.integers(0, 256, (4, 3, 2)), np.arange(4)]
    files = tuple(
        module._IdxFile(stem, array.shape, hashlib.md5(idx(array)).hexdigest())
        for stem, array in zip(STEMS, arrays, strict=True)
    )
    monkeypatch.setitem(module._IDX_SETS, "mnist", module._IdxSet(files, ()))
    return {f"{stem}-idx{array.ndim}-ubyte": idx(array) for stem, array in zip(STEMS, arrays, strict=True)}


def write(folder, contents, packed=False, spelling=lambda name: name):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        file = folder / (spelling(name) + (".gz" if packed else ""))
        file.write_bytes(gzip.compress(content) if packed else content)


def load(root=None, **keys):
    return load_data(DataConfig(name="mnist", root=None if root is None else str(root), **keys))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("spelling", [lambda name: name, lambda name: name.replace("-idx", ".idx")])
def test_idx_files_plain_or_packed_in_both_spellings(contents, packed, spelling, tmp_path):
    write(tmp_path, contents, packed, spelling)
    dataset = load(tmp_path)
    expected = np.frombuffer(contents["train-images-idx3-ubyte"], np.uint8, offset=16).reshape(12, 3, 2)
    assert np.allclose(dataset.grey(dataset.train).numpy(), expected / 255, atol=2**-15)
    assert dataset.test_labels.tolist() == [0, 1, 2, 3]
    assert load(tmp_path, binarize="fixed").binarization == "fixed-seed"


def test_places_that_are_looked_in(contents, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataError) as caught:
        load()
    message = str(caught.value)
    for part in [tmp_path / "data" / "mnist", tmp_path / "cache" / "qvae" / "mnist", *contents]:
        assert str(part) in message
    assert "--set data.root=FOLDER" in message
    assert "--set data.download=true" in message
    write(tmp_path / "cache" / "qvae" / "mnist", contents, packed=True)
    assert len(load().train) == 12
    write(tmp_path / "data" / "mnist", contents)
    (tmp_path / "cache" / "qvae" / "mnist" / "train-labels-idx1-ubyte.gz").unlink()
    assert len(load().train) == 12


def test_a_missing_file_is_named(contents, tmp_path):
    del contents["t10k-labels-idx1-ubyte"]
    write(tmp_path, contents)
    with pytest.raises(DataError, match=rf"{tmp_path} has no t10k-labels-idx1-ubyte; name their folder"):
        load(tmp_path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kept", [0, 3, 10, 50, 87])
def test_truncated_idx_files(contents, packed, kept, tmp_path):
    contents["train-images-idx3-ubyte"] = contents["train-images-idx3-ubyte"][:kept]
    write(tmp_path, contents, packed)
    with pytest.raises(DataError, match=rf"train-images-idx3-ubyte(\.gz)? is truncated: it holds {kept} of 88 bytes"):
        load(tmp_path)


def test_a_gz_file_that_breaks_off(contents, tmp_path):
    write(tmp_path, contents, packed=True)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is truncated: it holds \d+ of 88 bytes"):
        load(tmp_path)
    file.write_bytes(b"not gzip at all")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz isn't an intact .gz file"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c[:50] + bytes([c[50] ^ 1]) + c[51:], r"has MD5 \w+, not \w+: it is damaged or another data set's"),
        (lambda c: c + b"\0", "holds more than the 88 bytes"),
        (lambda c: b"\0\0\x0d\3" + c[4:], "begins with 00000d03, not with 00000803"),
        (lambda c: idx(np.zeros(84)), "begins with 00000801, not with 00000803"),
        (lambda c: b"<html>404</html>", "begins with 3c68746d, not with 00000803"),
        (lambda c: idx(np.zeros((12, 2, 3))), r"holds values of shape \(12, 2, 3\), but train-images has \(12, 3, 2\)"),
    ],
)
def test_idx_files_that_are_not_what_they_should_be(contents, change, problem, tmp_path):
    contents["train-images-idx3-ubyte"] = change(contents["train-images-idx3-ubyte"])
    write(tmp_path, contents)
    with pytest.raises(DataError, match=problem) as caught:
        load(tmp_path)
    assert str(tmp_path / "train-images-idx3-ubyte") in str(caught.value)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(contents, tmp_path, monkeypatch):
    """A folder that a server on this machine shows as the second mirror of the data set; the first is unreachable."""
    folder = tmp_path / "mirror"
    write(folder, contents, packed=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    addresses = ("http://127.0.0.1:1/", f"http://127.0.0.1:{server.server_port}/")
    files = module._IDX_SETS["mnist"].files
    monkeypatch.setitem(module._IDX_SETS, "mnist", module._IdxSet(files, addresses))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_fills_the_cache_once(mirror, contents, tmp_path):
    with pytest.raises(DataError, match=r"data\.download=true"):
        load()
    downloaded = load(download=True)
    cache = tmp_path / "cache" / "qvae" / "mnist"
    assert sorted(file.name for file in cache.iterdir()) == sorted(f"{name}.gz" for name in contents)
    for file in mirror.iterdir():
        file.unlink()
    assert torch.equal(load(download=True).train, downloaded.train)
    assert torch.equal(load().train, downloaded.train)


def test_a_download_goes_to_the_root_and_fetches_only_what_it_lacks(mirror, contents, tmp_path):
    name = "train-images-idx3-ubyte"
    write(tmp_path / "mine", {name: contents[name]})
    (mirror / f"{name}.gz").unlink()
    assert len(load(tmp_path / "mine", download=True).train) == 12
    assert len(list((tmp_path / "mine").iterdir())) == 4


@pytest.mark.parametrize("fault", ["absent", "damaged", "truncated"])
def test_a_download_that_fails_leaves_no_file(mirror, fault, tmp_path):
    file = mirror / "t10k-images-idx3-ubyte.gz"
    content = file.read_bytes()
    file.unlink()
    if fault == "damaged":
        file.write_bytes(gzip.compress(gzip.decompress(content)[:-1] + b"\xff"))
    elif fault == "truncated":
        file.write_bytes(content[:-20])
    problem = {"absent": "File not found", "damaged": "has MD5", "truncated": "is truncated"}[fault]
    with pytest.raises(DataError, match=problem) as caught:
        load(download=True)
    message = str(caught.value)
    assert message.startswith("t10k-images-idx3-ubyte.gz can't be downloaded (http://127.0.0.1:1/")
    assert "Connection refused" in message
    assert "--set data.root=FOLDER" in message
    cache = tmp_path / "cache" / "qvae" / "mnist"
    assert sorted(file.name for file in cache.iterdir()) == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]


# Arrays ---------------------------------------------------------------------------------------------------------------

GREY = np.random.default_rng(0).random((20, 4, 6))


def from_file(path, **keys):
    return load_data(DataConfig(name=str(path), **keys))


def test_a_npy_file_is_split_once_and_for_all(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    dataset = from_file(tmp_path / "a.npy")
    assert dataset.train.shape == (18, 4, 6)
    assert dataset.test.shape == (2, 4, 6)
    assert dataset.train_labels is None
    together = torch.cat([dataset.grey(dataset.train), dataset.grey(dataset.test)])
    assert np.allclose(np.sort(together.numpy(), 0), np.sort(GREY, 0), atol=2**-15)
    assert torch.equal(from_file(tmp_path / "a.npy").test, dataset.test)


@pytest.mark.parametrize("names", ["train test train_labels test_labels", "x_train x_test y_train y_test"])
def test_a_npz_file_with_parts_and_labels(names, tmp_path):
    arrays = (GREY[:15], GREY[15:], np.arange(15, dtype=np.uint8), np.arange(5))
    np.savez(tmp_path / "a.npz", **dict(zip(names.split(), arrays, strict=True)))
    dataset = from_file(tmp_path / "a.npz")
    assert np.allclose(dataset.grey(dataset.test).numpy(), GREY[15:], atol=2**-15)
    assert dataset.train_labels.tolist() == list(range(15))
    assert dataset.test_labels.dtype == torch.int64


def test_labels_follow_their_images_into_the_held_out_part(tmp_path):
    images = np.arange(20)[:, None, None] / 32 * np.ones((20, 2, 2))
    np.savez(tmp_path / "a.npz", train=images, train_labels=np.arange(20))
    dataset = from_file(tmp_path / "a.npz")
    assert torch.equal(dataset.grey(dataset.train)[:, 0, 0] * 32, dataset.train_labels.float())
    assert torch.equal(dataset.grey(dataset.test)[:, 0, 0] * 32, dataset.test_labels.float())


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
    assert dataset.grey(dataset.train[0]).flatten().tolist() == pytest.approx(expected, abs=2**-15)


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [((10, 9), (3, 3)), ((10, 10), (1, 10)), ((10, 4, 6), (4, 6)), ((10, 4, 6, 3), (3, 4, 6)), ((10, 4, 6, 1), (4, 6)),
     ((10, 3, 4, 6), (3, 4, 6)), ((10, 1, 4, 6), (4, 6))],
)  # fmt: skip
def test_shapes_of_images(shape, image_shape):
    array = np.random.default_rng(0).random(shape)
    dataset = dataset_from_arrays(array, array)
    assert dataset.image_shape == image_shape
    assert dataset.mean_image.shape == image_shape
    pixels = array.transpose(0, 3, 1, 2) if shape == (10, 4, 6, 3) else array
    assert np.allclose(dataset.grey(dataset.train).numpy(), pixels.reshape(10, *image_shape), atol=2**-15)


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
