"""Data from memory and from memory-mapped files: the same data set, whatever holds the numbers."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

from qvae.config.schema import DataConfig
from qvae.data import arrays as module
from qvae.data.arrays import dataset_from_arrays
from qvae.data.dataset import prepare_fixed
from qvae.data.load import load_data
from qvae.data.memory import from_map_style
from qvae.data.split import is_mapped
from qvae.errors import DataError

GREY = np.random.default_rng(0).random((30, 4, 6)).astype(np.float32)
REALS = np.random.default_rng(1).normal(size=(30, 3)).astype(np.float32)


class Pairs(torch.utils.data.Dataset):
    """A data set of someone's own; items are (row, label)."""

    def __len__(self):
        return 30

    def __getitem__(self, index):
        return torch.tensor(GREY[index]), index % 3


class Pictures(Pairs):
    """As of torchvision: pictures of Pillow's."""

    def __getitem__(self, index):
        return Image.fromarray(GREY[index]), index % 3


@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a[::-1].copy()[::-1],
        lambda a: a.astype(">f4"),
        lambda a: a.astype(np.longdouble),
        np.asfortranarray,
        lambda a: np.repeat(a, 2, 0)[::2],
        lambda a: a.tolist(),
        list,
        torch.tensor,
        lambda a: torch.tensor(a, dtype=torch.float64, requires_grad=True),
        lambda a: [torch.tensor(row) for row in a],
        lambda a: TensorDataset(torch.tensor(a)),
        lambda a: Pictures(),
    ],
)
@pytest.mark.parametrize("kind", ["bits", "reals"])
def test_whatever_holds_the_numbers(convert, kind):
    expected, found = (dataset_from_arrays(data, data, kind=kind) for data in (GREY, convert(GREY)))
    assert found.train.dtype == expected.train.dtype
    assert torch.equal(found.train, expected.train)
    assert found.train.is_contiguous()


def test_one_column_is_no_image_of_one_pixel():
    assert dataset_from_arrays(REALS[:, :1], kind="reals").shape == (1,)


def test_bfloat16_tensors():
    data = torch.tensor(GREY).bfloat16()
    assert torch.equal(dataset_from_arrays(data, data, kind="reals").train, data.float())


def test_a_dataset_of_pytorch_with_labels():
    dataset = dataset_from_arrays(Pairs(), Pairs())
    assert torch.equal(dataset.train, dataset_from_arrays(GREY, GREY).train)
    assert dataset.test_labels.tolist() == [index % 3 for index in range(30)]
    assert len(dataset_from_arrays(Pairs()).test_labels) == 3


def test_a_dataset_of_pytorch_larger_than_memory_is_mapped_from_a_file(monkeypatch):
    monkeypatch.setattr("qvae.data.memory.total_memory", lambda: GREY.nbytes)
    assert is_mapped(from_map_style(Pairs(), "train")[0])
    dataset = dataset_from_arrays(Pairs(), Pairs(), kind="reals")
    assert torch.equal(dataset.train, torch.tensor(GREY))
    assert dataset.train_labels.tolist() == [index % 3 for index in range(30)]
    with pytest.raises(DataError, match="has rows of different shapes or types"):
        dataset_from_arrays(Odd(), Odd())

    def full(*place):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(DataError, match="has no room .No space left on device.; name another folder in the variable TMPDIR"):
        dataset_from_arrays(Pairs(), Pairs())


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_data_frame_is_a_table(library):
    library = pytest.importorskip(library)
    frame = library.DataFrame({"a": REALS[:, 0], "b": REALS[:, 1], "c": REALS[:, 2]})
    dataset = dataset_from_arrays(frame, frame[["c", "a", "b"]], train_labels=library.Series(range(30)), kind="reals")
    assert dataset.feature_names == ("a", "b", "c")
    assert torch.equal(dataset.train, torch.tensor(REALS))
    assert torch.equal(dataset.test, dataset.train)
    assert dataset.train_labels.tolist() == list(range(30))
    with pytest.raises(DataError, match="must have the same columns; only one has b"):
        dataset_from_arrays(frame, frame[["a", "c"]], kind="reals")


class Stream(IterableDataset):
    """No length, no items by index."""

    def __iter__(self):
        return iter(GREY)


class Odd(Pairs):
    def __getitem__(self, index):
        return GREY[index][: 1 + index % 2], 0


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (Stream(), "is a Stream; give an array, a tensor, .* or a torch Dataset with a length"),
        ("grey.npy", "is a str; a file or folder is named by data.name"),
        (Odd(), "has rows of different shapes or types"),
        ([[1, 2], [3]], "has rows of different shapes or types"),
        ({"a": [1.0] * 20, "b": [1.0] * 19}, "has columns of 19 and of 20 rows"),
        (np.ma.masked_greater(GREY, 0.5), "has masked values"),
    ],
)
def test_what_is_no_array(data, problem):
    with pytest.raises(DataError, match=problem):
        dataset_from_arrays(data)


@pytest.mark.parametrize("key", [{"kind": "real"}, {"layout": "NHWC"}, {"binarize": "fix"}])
def test_a_word_that_means_nothing_is_refused(key):
    ((name, word),) = key.items()
    with pytest.raises(DataError, match=rf"{name} is '{word}'; .*Allowed: "):
        dataset_from_arrays(GREY, **key)


@pytest.mark.parametrize("kind", ["bits", "reals"])
def test_callers_and_data_sets_do_not_share_memory(kind):
    tensor, labels = torch.tensor(GREY), np.arange(30)
    before = tensor.clone()
    dataset = dataset_from_arrays(tensor, tensor, labels, labels, kind=kind)
    kept = dataset.train.clone()
    tensor.zero_()
    labels[:] = 0
    assert torch.equal(dataset.train, kept)
    assert dataset.train_labels.tolist() == list(range(30))
    dataset.train.zero_()
    assert torch.equal(dataset.test, kept)
    assert not torch.equal(tensor, before)


# Memory maps ----------------------------------------------------------------------------------------------------------

BYTES = np.random.default_rng(2).integers(0, 256, (30, 5, 7, 3), np.uint8)
MAPPED = [
    ("bits", GREY), ("bits", GREY.astype(np.float64)), ("bits", BYTES), ("bits", GREY > 0.5),
    ("bits", (GREY > 0.5).astype(int)), ("bits", BYTES[:, 0, :, 0].astype(np.int64)), ("bits", BYTES.reshape(30, -1)[:, :100]),
    ("reals", REALS), ("reals", BYTES), ("counts", BYTES[:, 0, :, 0].astype(np.int64)), ("categories", BYTES[:, 0, :, 0]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "array"), MAPPED)
@pytest.mark.parametrize("binarize", ["dynamic", "threshold"])
def test_a_mapped_file_gives_the_same_as_memory(kind, array, binarize, tmp_path):
    np.save(tmp_path / "a.npy", array)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    found, expected = (dataset_from_arrays(a[:20], a[20:], binarize=binarize, kind=kind) for a in (mapped, array))
    assert found.train.dtype == torch.from_numpy(array).dtype
    assert found.shape == expected.shape
    assert found.binarization == expected.binarization
    assert torch.equal(found.mean(), expected.mean())
    assert torch.equal(found.standard_deviation(), expected.standard_deviation())
    rows = torch.tensor([7, 3, 11])
    for part in ("train", "test"):
        mine, theirs = getattr(found, part), getattr(expected, part)
        assert torch.equal(found.values(mine), expected.values(theirs))
        mine, theirs = (prepare_fixed(d, a.index_select(0, rows % len(a)), 5) for d, a in ((found, mine), (expected, theirs)))
        assert torch.equal(mine, theirs)


def test_a_large_file_stays_on_the_disk_and_its_end_is_held_out(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", GREY)
    monkeypatch.setattr(module, "_largest_read", lambda: GREY.nbytes)
    dataset = load_data(DataConfig(name=str(tmp_path / "a.npy")))
    assert dataset.train.dtype == torch.float32
    assert torch.allclose(dataset.values(dataset.train), torch.tensor(GREY[:27]), atol=2**-15)
    assert torch.allclose(dataset.values(dataset.test), torch.tensor(GREY[27:]), atol=2**-15)
    assert any("its last 3 rows are the test set" in remark for remark in dataset.remarks)
    with pytest.raises(DataError, match="data.binarize=fixed draws all bits beforehand; set data.binarize to dynamic or"):
        load_data(DataConfig(name=str(tmp_path / "a.npy"), binarize="fixed"))


def test_a_mapped_file_of_a_type_that_must_be_converted(tmp_path):
    np.save(tmp_path / "a.npy", GREY.astype(">f4"))
    with pytest.raises(DataError, match=r"is of type >f4 and too large to be converted in memory; save it as one of bool"):
        dataset_from_arrays(np.load(tmp_path / "a.npy", mmap_mode="r"))


def test_what_is_computed_from_a_map_is_no_map(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    half = np.load(tmp_path / "a.npy", mmap_mode="r").astype(np.float64) / 2
    dataset = dataset_from_arrays(half)
    half[:] = 0
    assert dataset.train.dtype == torch.int16
    assert dataset.mean().min() > 0


LARGE = """
import resource, sys
import numpy as np
from qvae.config.schema import DataConfig
from qvae.data import arrays
from qvae.data.dataset import prepare_fixed
from qvae.data.load import load_data
from qvae.data.memory import from_map_style
from qvae.data.split import is_mapped

arrays._largest_read = lambda: 2**20
held = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (held + 100 * 2**20,) * 2)
try:
    np.ones((200, 2**20), np.uint8)
    sys.exit("the limit isn't kept")
except MemoryError:
    pass
dataset = load_data(DataConfig(name=sys.argv[1]), "reals")
assert dataset.train.shape == (180_000, 32, 32), dataset.train.shape
assert dataset.mean()[0, 0] == (255 / 180_000 + 0.5) / 256
seen = prepare_fixed(dataset, dataset.train[[0, 5, 179_999]], 0)
assert seen[1, 0, 0] >= 255 / 256 > seen[0].max()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
def test_a_file_larger_than_the_memory_that_may_be_used(tmp_path):
    array = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.uint8, (200_000, 32, 32))  # 200 MB of a sparse file
    array[5, 0, 0] = 255
    array.flush()
    del array
    done = subprocess.run([sys.executable, "-c", LARGE, str(tmp_path / "large.npy")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
