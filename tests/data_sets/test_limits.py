"""The last that is taken and the first that isn't: levels by the numbers in rows, and how many, how long and how large."""

import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from qvae.config.schema import DataConfig
from qvae.data import arrays, fingerprint, given, idx, images, memory
from qvae.data.alphabet import Alphabet
from qvae.data.arrays import dataset_from_arrays
from qvae.data.classes import classes_of, places_of_labels, with_classes
from qvae.data.corruption import Corruption
from qvae.data.kinds import Numbers, in_place, scale
from qvae.data.opened import opened_image
from qvae.data.sound import read_wav, spectrogram, window_of, write_wavs
from qvae.data.split import Split, hold_out, is_mapped, require_fit
from qvae.data.strings import cleaned, dataset_from_strings, read_lines
from qvae.data.tables import read_table, short, to_labels
from qvae.errors import ConfigError, DataError

BYTE, WHOLE, REAL = np.uint8, np.int64, np.float64
APART = "scaled apart"
NO_GREY = "aren't grey levels 0..255; divide grey levels by their white"
COUNTS = "takes them for real ones"


@pytest.mark.parametrize(
    ("kind", "parts", "is_image", "expected"),
    [
        # Grey levels: bits, floats to 1, bytes of images from 128 and other whole numbers from 250 on.
        ("bits", [([0, 1], BYTE)], True, 2),
        ("bits", [([0, 2], BYTE)], True, NO_GREY),
        ("bits", [([0, 127], BYTE)], True, NO_GREY),
        ("bits", [([0, 128], BYTE)], True, 256),
        ("bits", [([0, 128], BYTE)], False, NO_GREY),
        ("bits", [([0, 128], WHOLE)], True, NO_GREY),
        ("bits", [([0, 249], WHOLE)], True, NO_GREY),
        ("bits", [([0, 250], WHOLE)], True, 256),
        ("bits", [([0, 250], WHOLE)], False, 256),
        ("bits", [([0, 255], WHOLE)], True, 256),
        ("bits", [([0, 256], WHOLE)], True, "outside 0..255"),
        ("bits", [([0.0, 1.0], REAL)], False, 2),
        ("bits", [([0.0, 1.01], REAL)], False, "divide by 255 or save them as uint8, or set model.likelihood=gaussian"),
        ("bits", [([0.0, 255.0], REAL)], False, r"uint8, or set model.likelihood=poisson \(counts\)"),
        ("bits", [([0.0, 255.5], REAL)], False, r"scale them to \[0, 1\], or set model.likelihood=gaussian"),
        ("bits", [([-1.0, 3.0], REAL)], False, r"scale them to \[0, 1\], or set model.likelihood=gaussian"),
        ("bits", [([0, 250], BYTE), ([0, 2], BYTE)], True, 256),
        ("bits", [([0, 250], BYTE), ([0, 1], BYTE)], True, APART),
        # Real numbers: whole ones from 0 to 255 in images are grey levels if all are bytes, or one is 250 or more.
        ("reals", [([0, 1], WHOLE)], True, "nothing but 0 and 1"),
        ("reals", [([0, 1], WHOLE), ([0, 2], WHOLE)], False, COUNTS),
        ("reals", [([0, 3], BYTE)], True, 256),
        ("reals", [([0, 3], BYTE), ([0, 3], WHOLE)], True, COUNTS),
        ("reals", [([0, 3], BYTE)], False, COUNTS),
        ("reals", [([0, 249], WHOLE)], True, COUNTS),
        ("reals", [([0, 250], WHOLE)], True, 256),
        ("reals", [([0, 255], WHOLE)], True, 256),
        ("reals", [([0, 256], WHOLE)], True, COUNTS),
        ("reals", [([-1, 250], WHOLE)], True, COUNTS),
        ("reals", [([0.0, 0.5], REAL)], True, None),
        ("reals", [([0.0, 1.0], REAL), ([0.0, 99.5], REAL)], True, None),
        ("reals", [([0.0, 1.0], REAL), ([0.0, 100.0], REAL)], True, APART),
        ("reals", [([0.0, 1.01], REAL), ([0.0, 100.0], REAL)], True, None),
        ("reals", [([-0.1, 1.0], REAL), ([0.0, 100.0], REAL)], True, None),
        # Counts and categories.
        ("counts", [([0, 2], WHOLE)], True, None),
        ("counts", [([0, 1], WHOLE), ([0, 2], WHOLE)], True, None),
        ("counts", [([0.5, 1.0], REAL)], True, "=gaussian for real numbers, bernoulli for grey levels"),
        ("counts", [([0.5, 1.5], REAL)], True, r"set model.likelihood=gaussian for real numbers\.$"),
        ("categories", [([0, 0], WHOLE)], False, 2),
        ("categories", [([0, 1], WHOLE), ([0, 4], WHOLE)], False, 5),
        ("categories", [([0, 127], BYTE)], True, 128),
        ("categories", [([0, 128], BYTE)], True, 256),
        ("categories", [([0, 128], BYTE)], False, 129),
        ("categories", [([0, 128], BYTE), ([0, 3], WHOLE)], True, 129),
    ],
)
def test_levels_of_numbers(kind, parts, is_image, expected):
    numbers = [Numbers.of(np.array(values, dtype), f"part {k}", kind) for k, (values, dtype) in enumerate(parts)]
    if isinstance(expected, str) and expected != COUNTS:
        with pytest.raises(DataError, match=expected):
            scale(kind, numbers, is_image)
        return
    levels, remarks = scale(kind, numbers, is_image)
    assert levels == (None if expected == COUNTS else expected)
    assert [COUNTS in remark for remark in remarks] == ([True] if expected == COUNTS else [])


def test_numbers_of_a_table_are_grey_levels_of_no_image():
    table = Numbers.of(np.array([[0, 255]]), "table", "bits", ("a", "b"))
    with pytest.raises(DataError, match="table holds whole numbers up to 255"):
        scale("bits", [table], False)


def test_which_of_two_parts_is_dark_and_which_is_bright():
    parts = [Numbers.of(np.array(values), name, "bits") for values, name in (([0, 255], "train"), ([0, 1], "test"))]
    with pytest.raises(DataError, match="^test ends at 1 and train at 255, so they are scaled apart"):
        scale("bits", parts, True)


def test_rows_from_memory_are_copied_and_those_of_a_file_stay(tmp_path):
    rows = np.ones((3, 2), np.float32)
    found = in_place(rows, "mine")
    rows[:] = 5
    assert found.tolist() == [[1, 1]] * 3
    np.save(tmp_path / "a.npy", rows)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r+")
    found = in_place(mapped, "mine")
    mapped[0] = 7
    assert found[0].tolist() == [7, 7]
    with pytest.raises(DataError, match="in ascending order"):
        in_place(mapped[::-1], "mine")


@pytest.mark.parametrize(("count", "held_out"), [(10, 1), (19, 1), (20, 2), (25, 2)])
def test_a_tenth_is_held_out_with_its_labels(count, held_out):
    rows = np.arange(count)[:, None]
    split = hold_out(rows, np.arange(count), "mine")
    assert (len(split.train), len(split.test)) == (count - held_out, held_out)
    assert split.test_labels.tolist() == split.test[:, 0].tolist()
    assert split.train_labels.tolist() == split.train[:, 0].tolist()


def test_the_least_there_may_be_of_rows():
    require_fit(Split(np.zeros((2, 3)), np.zeros((1, 3))), "mine")
    for train, test in ((1, 1), (2, 0)):
        with pytest.raises(DataError, match=f"mine holds {train} training and {test} test rows; at least 2 and 1 are needed"):
            require_fit(Split(np.zeros((train, 3)), np.zeros((test, 3))), "mine")


def test_a_model_is_told_of_a_hundred_classes():
    data = dataset_from_arrays(np.zeros((101, 2)), np.zeros((1, 2)), np.arange(101) * 3)
    with pytest.raises(DataError, match="arrays has 101 classes; a model can be told 100 at most: leave some out"):
        classes_of(data, "leave some out")
    data = dataset_from_arrays(np.zeros((10, 2)), np.zeros((1, 2)), np.array([7, 5, -2, 5, 7, 7, 7, 7, 7, 7]))
    assert classes_of(data, "") == (-2, 5, 7)
    assert places_of_labels(data)[:4].tolist() == [2, 1, 0, 1]
    assert with_classes(torch.tensor([[0.5, 1], [2, 3]]), torch.tensor([4, 0])).tolist() == [[0.5, 1, 4], [2, 3, 0]]
    data = dataset_from_arrays(np.zeros((300, 2)), np.zeros((1, 2)), np.arange(300) % 100)
    assert len(classes_of(data, "")) == 100
    bare = dataset_from_arrays(np.zeros((10, 2)))
    assert classes_of(bare, "") == ()
    with pytest.raises(DataError, match="has no labels of its training rows; train a model that isn't told any"):
        places_of_labels(bare)


def test_strings_as_long_and_as_various_as_they_may_be():
    assert cleaned(["a" * 500, " b "], "mine") == ["a" * 500, "b"]
    many = [chr(0x4E00 + k) for k in range(1023)]
    assert dataset_from_strings(many).levels == 1024
    for empty, word in ((1, "1 empty line was left out"), (2, "2 empty lines were left out")):
        data = dataset_from_strings([f"{k}" for k in range(10)] + [" "] * empty, name="mine")
        assert data.remarks == (f"mine: {word}",)
    # 255 characters and the end fit a byte.
    for count, dtype in ((255, np.uint8), (256, np.int32)):
        letters = Alphabet("".join(chr(0x4E00 + k) for k in range(count)))
        rows = letters.encode([letters.characters[-3:]], 3)
        assert (rows.dtype, rows.tolist()) == (dtype, [[count - 2, count - 1, count]])
    assert Alphabet("ab").encode(["abab"], 4).tolist() == [[1, 2, 1, 2]]


def test_strings_that_would_fill_the_memory(monkeypatch):
    asked = []
    monkeypatch.setattr("qvae.data.strings.require_memory", lambda size, *words: asked.append(size))
    dataset_from_strings([chr(0x4E00 + k) * 3 for k in range(255)])
    dataset_from_strings([chr(0x4E00 + k) * 3 for k in range(256)])
    assert asked == [255 * 3, 256 * 3 * 4]


def test_windows_and_the_loudest_samples(tmp_path):
    # The middle of 16 and 32 is 22.6 by their logarithms, of 707 samples a second.
    assert [window_of(rate) for rate in (1, 500, 700, 714, 8000)] == [16, 16, 16, 32, 256]
    assert spectrogram(torch.zeros(2, 256), 256).shape == (2, 129, 5)
    (file,) = write_wavs(tmp_path, torch.tensor([[1.5, 1.0, -1.0, -2.0, 0.25]]), 100)
    clip, rate = read_wav(file)
    assert (file.name, rate) == ("0000.wav", 100)
    assert (clip * 2**15).tolist() == [2**15 - 1, 2**15 - 1, -(2**15), -(2**15), 2**13]


def test_how_many_other_files_are_looked_at(tmp_path, monkeypatch):
    """So many, and two more for each image."""
    monkeypatch.setattr(images, "_OTHERS", 3)
    for number in range(4):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(DataError, match="files that are no images|holds no .png"):
        images.image_files(tmp_path)
    (tmp_path / "0.png").touch()
    monkeypatch.setattr(images.Path, "rglob", lambda folder, _: iter(sorted(folder.iterdir())))  # the image first
    (tmp_path / "1a.txt").touch()  # six files with the image: the last has the number 5 = 3 + 2
    assert images.image_files(tmp_path) == [tmp_path / "0.png"]
    (tmp_path / "1b.txt").touch()
    with pytest.raises(DataError, match="holds more than 3 files that are no images"):
        images.image_files(tmp_path)


def test_five_sizes_are_too_many_to_be_named(tmp_path):
    for number, width in enumerate((3, 3, 4, 5, 6)):
        Image.new("L", (width, 2)).save(tmp_path / f"{number}.png")
    files = images.image_files(tmp_path)
    with pytest.raises(DataError, match=r"4 sizes, height x width: 2x3 \(2\), 2x4 \(1\), 2x5 \(1\), 2x6 \(1\); set"):
        images._common_form(files, tmp_path, None)
    Image.new("L", (7, 2)).save(tmp_path / "5.png")
    with pytest.raises(DataError, match=r"5 sizes, .* 2x6 \(1\), \.\.\.; set data.size"):
        images._common_form(images.image_files(tmp_path), tmp_path, None)


def test_half_of_the_memory_is_for_rows_and_more_goes_into_a_file(monkeypatch):
    class Data:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return (np.full(8, index, np.uint8),)

    seen = []
    monkeypatch.setattr(memory, "_in_a_file", lambda *given: seen.append(given[2]))
    monkeypatch.setattr(memory, "total_memory", lambda: 64)
    rows, labels = memory.from_map_style(Data(), "mine")
    assert (rows[:, 0].tolist(), labels, seen) == ([0, 1, 2, 3], None, [])
    monkeypatch.setattr(memory, "total_memory", lambda: 63)
    memory.from_map_style(Data(), "mine")
    assert seen == [False]
    for item, count in (((), 0), ((1, 2, 3), 3)):
        with pytest.raises(DataError, match=f"mine has items of {count} parts; they must be a row, or a row and its label"):
            memory._parts_of(item, "mine")


def test_as_much_damage_as_there_may_be():
    blank = torch.full((24,), 9.0)
    for damage in ("salt-and-pepper", "dropped", "hidden"):
        Corruption(damage, 0.999, "bits", (4, 6), blank)
        with pytest.raises(ConfigError, match="it must be below 1"):
            Corruption(damage, 1.0, "bits", (4, 6), blank)
    Corruption("gaussian", 5.0, "reals", (4, 6), blank)
    for amount, shape in ((1, (4, 6)), (2, (24,)), (2, (3, 4)), (2, (4, 3))):
        with pytest.raises(ConfigError, match=rf"no squares with sides of {amount} pixels"):
            Corruption("coarse", amount, "bits", shape, blank)
    squares = Corruption("coarse", 2, "bits", (4, 6), blank)(torch.arange(24.0)[None], torch.Generator())
    assert squares.view(4, 6)[:, ::2].tolist() == [[3.5, 5.5, 7.5]] * 2 + [[15.5, 17.5, 19.5]] * 2
    # sqrt(0.1) of 4 and 6 is 1.26 and 1.9; of next to nothing one pixel is left.
    for amount, size in ((0.1, 2), (1e-6, 1), (0.95, 24)):
        hidden = Corruption("hidden", amount, "bits", (4, 6), blank)(torch.zeros(200, 24), torch.Generator().manual_seed(0))
        assert (hidden == 9).sum(1).tolist() == [size] * 200
        places = (hidden == 9).float().mean(0)
        assert (places > 0).all()  # any place is as good as another, the last too


def test_values_and_tables_are_read_as_they_are_written(tmp_path):
    assert short("a" * 38) == repr("a" * 38)
    assert short("a" * 39) == "'" + "a" * 36 + "..."
    for delimiter in ",;\t":
        (tmp_path / "a.csv").write_text(f"a{delimiter}b\n1{delimiter}2\n")
        assert {name: column.tolist() for name, column in read_table(tmp_path / "a.csv").items()} == {"a": [1], "b": [2]}


# Files and folders that fail -------------------------------------------------------------------------------------------


def test_what_unpacks_to_more_than_the_disk_holds(monkeypatch, tmp_path):
    np.savez(tmp_path / "a.npz", rows=np.zeros(1000))
    size = zipfile.ZipFile(tmp_path / "a.npz").getinfo("rows.npy").file_size
    for free in (size, size - 1):
        monkeypatch.setattr(given.shutil, "disk_usage", lambda folder, free=free: SimpleNamespace(free=free))
        if free == size:
            assert given.mapped_arrays(tmp_path / "a.npz", tmp_path)["rows"].shape == (1000,)
        else:
            with pytest.raises(DataError, match=r"rows.npy in .*a.npz unpacks to 0.0 GB, but 0.0 GB are free"):
                given.mapped_arrays(tmp_path / "a.npz", tmp_path)


def test_files_that_can_t_be_read_or_written(tmp_path, monkeypatch):
    def refuse(*given, **options):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.txt").write_text("anna\n")
    (tmp_path / "file").touch()
    file = idx.IDX_SETS["mnist"].files[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idx.Path, "open", refuse)
        with pytest.raises(DataError, match="images can't be read: Permission denied"):
            idx._read_idx(tmp_path / "images", file)
    with pytest.raises(DataError, match=r"file/x can't be made \(Not a directory\); download to another by data.root"):
        idx._download(DataConfig(name="mnist", root=str(tmp_path / "file" / "x")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idx.Path, "read_bytes", refuse)
        with pytest.raises(DataError, match=r"a.txt can't be read: Permission denied"):
            read_lines(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"file/x can't be written to: Not a directory; name another folder"):
        write_wavs(tmp_path / "file" / "x", torch.zeros(1, 4), 100)
    with pytest.raises(DataError, match=r"there is no file .*none.png; name an existing image"):
        opened_image(tmp_path / "none.png")


def test_columns_of_frames_that_are_none():
    class Frame:
        def __init__(self, columns):
            self.columns = columns

        def to_numpy(self):
            raise AssertionError("a frame is taken by its columns")

        def __getitem__(self, name):
            return SimpleNamespace(to_numpy=lambda: np.arange(20) + len(name))

    data = dataset_from_arrays(Frame(["a", "bb"]), Frame(["a", "bb"]), kind="counts")
    assert (data.feature_names, data.train[0].tolist()) == (("a", "bb"), [1, 2])
    with pytest.raises(DataError, match="arrays: train has two columns named 'a'; rename one"):
        dataset_from_arrays(Frame(["a", "b", "a"]))
    with pytest.raises(DataError, match="arrays: train has no columns of features"):
        dataset_from_arrays({})
    numbers, names = to_labels(np.array([3, 1], np.uint8), "labels")
    assert (numbers.dtype, numbers.tolist(), names) == (np.int64, [3, 1], [])
    numbers, names = to_labels(np.array(["b", "a", "b"]), "labels")
    assert (numbers.tolist(), names) == ([1, 0, 1], ["a", "b"])
    mixed = dataset_from_arrays({"a": np.array([1, 2.5] * 10, object)}, kind="reals")  # numbers that pandas keeps as objects
    assert sorted(set(mixed.train.flatten().tolist())) == [1, 2.5]


def test_rows_in_a_file_are_all_alike():
    class Data(list):
        pass

    rows = [np.zeros(3), np.zeros(3)]
    for odd in (np.zeros(4), np.zeros(3, np.float32)):
        with pytest.raises(DataError, match="mine has rows of different shapes or types; all must be alike"):
            memory._in_a_file(Data([*rows, odd]), rows[0], False, "mine")
    found, labels = memory._in_a_file(Data([(row + k, k) for k, row in enumerate(rows)]), rows[0], True, "mine")
    assert (found.tolist(), labels.tolist()) == ([[0.0] * 3, [1.0] * 3], [0, 1])


def test_a_fingerprint_sees_as_many_rows_as_it_may(monkeypatch):
    rows = torch.arange(24, dtype=torch.uint8).view(8, 3)
    for most, seen in ((24, 8), (23, 4), (12, 4), (11, 3), (3, 1), (1, 1)):
        monkeypatch.setattr(fingerprint, "_MOST_BYTES", most)
        assert len(fingerprint._spread(rows)) == seen
    assert fingerprint._spread(rows[:0]).shape == (0, 3)


def test_a_mirror_is_waited_for_half_a_minute_and_read_no_further_than_a_file_reaches(monkeypatch, tmp_path):
    asked, file = [], idx.IDX_SETS["mnist"].files[0]

    class Reply:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def read(self, most):
            asked.append(most)
            return b"no idx file"

    monkeypatch.setattr(idx.urllib.request, "urlopen", lambda url, timeout: asked.append((url, timeout)) or Reply())
    with pytest.raises(DataError, match="can't be downloaded"):
        idx._fetch(file, ("http://a/", "http://b/"), tmp_path)
    urls = [f"http://{host}/{file.names[0]}.gz" for host in "ab"]
    assert asked == [part for url in urls for part in ((url, 30.0), file.size + 2**16)]
    assert list(tmp_path.iterdir()) == []


def test_a_clip_shorter_than_a_window_is_refused_whatever_its_frames(tmp_path):
    write_wavs(tmp_path, torch.zeros(1, 15), 100)
    (file,) = tmp_path.glob("*.wav")
    with pytest.raises(DataError, match=r"0000.wav has 15 samples, but this model takes 12 samples, as the clips that"):
        given._unpacked_clips([file], (9, 4), tmp_path, None)
    write_wavs(tmp_path, torch.zeros(1, 16), 100)
    assert given._unpacked_clips([file], (9, 5), tmp_path, 100).shape == (1, 9, 5)
    with pytest.raises(DataError, match="has 100 samples a second, but this model takes 8,000, as the clips"):
        given._unpacked_clips([file], (9, 5), tmp_path, 8000)
    with pytest.raises(DataError, match=r"holds sound, but this model takes rows of shape \(5,\), no spectrograms"):
        given._unpacked_clips([file], (5,), tmp_path, None)


def test_a_file_that_fills_a_quarter_of_the_memory_stays_on_the_disk(monkeypatch, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 8)))
    size = (tmp_path / "a.npy").stat().st_size
    for memory_size, is_mapped_there in ((4 * size, False), (4 * size - 1, True)):
        monkeypatch.setattr(arrays, "total_memory", lambda memory_size=memory_size: memory_size)
        assert is_mapped(arrays.read_arrays(tmp_path / "a.npy")["train"]) is is_mapped_there


def test_pictures_are_taken_as_they_are_looked_at(tmp_path):
    """A camera that was turned says so beside the pixels: 6 is a quarter to the right."""
    stored = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert np.asarray(images.upright_image(tmp_path / "a.png", True)).tolist() == [[40, 10], [50, 20], [60, 30]]
    assert images._common_form([tmp_path / "a.png"], tmp_path, None) == ((3, 2), True)
    read = images._read([tmp_path / "a.png"], (3, 2), True)
    assert read[0].tolist() == [[40, 10], [50, 20], [60, 30]]
