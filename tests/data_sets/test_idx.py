import gzip
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from qvae.config.schema import DataConfig
from qvae.data import idx as idx_files
from qvae.data.load import load_data
from qvae.errors import DataError

MNIST = Path(__file__).parents[2].parent / "shared" / "data" / "mnist"
needs_mnist = pytest.mark.skipif(not MNIST.is_dir(), reason=f"needs the idx files of MNIST in {MNIST}")


@needs_mnist
def test_real_mnist():
    dataset = load_data(DataConfig(name="mnist", root=str(MNIST)))
    assert dataset.train.shape == (60_000, 28, 28)
    assert dataset.test.shape == (10_000, 28, 28)
    assert dataset.train_labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert dataset.test_labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    assert dataset.mean().mean().item() == pytest.approx(0.13066, abs=1e-5)  # the mean that everybody normalises by
    with gzip.open(MNIST / "t10k-images-idx3-ubyte.gz") as file:
        raw = np.frombuffer(file.read(), np.uint8, offset=16).reshape(10_000, 28, 28)
    assert np.array_equal((dataset.values(dataset.test) * 255).round().numpy(), raw)


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
        idx_files.IdxFile(stem, array.shape, hashlib.md5(idx(array)).hexdigest())
        for stem, array in zip(STEMS, arrays, strict=True)
    )
    monkeypatch.setitem(idx_files.IDX_SETS, "mnist", idx_files.IdxSet(files, ()))
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
    assert np.allclose(dataset.values(dataset.train).numpy(), expected / 255, atol=2**-15)
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
    files = idx_files.IDX_SETS["mnist"].files
    monkeypatch.setitem(idx_files.IDX_SETS, "mnist", idx_files.IdxSet(files, addresses))
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
