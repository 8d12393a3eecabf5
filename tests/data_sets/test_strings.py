"""Strings as they are taken from text files and lists: rules, refusals, and the way to numbers and back."""

import numpy as np
import pytest

import qvae
from qvae.config.schema import DataConfig
from qvae.data.alphabet import MOST_CHARACTERS, Alphabet
from qvae.data.fingerprint import fingerprint
from qvae.data.load import load_data
from qvae.data.strings import dataset_from_strings
from qvae.errors import DataError

NAMES = ["anna", "bob", "ida", "otto", "eve", "ada", "nan", "dod", "toto", "vivi", "aa", "b"]


def written(folder, content):
    (folder / "names.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_data(DataConfig(name=str(folder / "names.txt")), "strings")


def all_strings(dataset):
    return sorted(dataset.alphabet.decode(dataset.train) + dataset.alphabet.decode(dataset.test))


def test_a_file_becomes_rows_and_comes_back(tmp_path):
    dataset = written(tmp_path, "\n".join(NAMES))
    assert all_strings(dataset) == sorted(NAMES)
    assert dataset.alphabet.characters == "abdeinotv"
    assert (dataset.kind, dataset.levels, dataset.shape, len(dataset.test)) == ("strings", 10, (4,), 1)
    assert dataset.prepare(dataset.train).equal(dataset.train.float())
    assert dataset.remarks == ()


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_whatever_ends_the_lines_blanks_around_them_and_a_byte_order_mark_are_no_part(tmp_path, ends):
    text = "\ufeff" + ends.join(["  anna\t", *NAMES[1:], ""])
    dataset = written(tmp_path, text)
    assert all_strings(dataset) == sorted(NAMES)
    assert dataset.remarks == ()


def test_empty_lines_and_repeated_strings_are_told(tmp_path):
    dataset = written(tmp_path, "\n\n".join(10 * ["one"]) + "\n \n")
    assert dataset.remarks[0].endswith("10 empty lines were left out")
    assert dataset.remarks[1].endswith("1 of 1 test strings are among the training strings, too")


def test_letters_that_can_be_written_in_two_ways_are_one(tmp_path):
    dataset = written(tmp_path, "\n".join(["ren\u00e9", "rene\u0301", *NAMES]))
    assert all_strings(dataset).count("ren\u00e9") == 2


def test_line_separators_of_unicode_are_characters_like_others(tmp_path):
    dataset = written(tmp_path, "\n".join([*NAMES, "a\u2028b"]))
    assert "a\u2028b" in all_strings(dataset)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"anna\nren\xe9\n", r"names.txt is no UTF-8 in line 2 \(byte 0xe9\); save it as UTF-8"),
        ("anna\n" + 501 * "a", "line 2 of .*names.txt has 501 characters; a string has 500 at most"),
        ("anna\na\tb\n", r"line 2 of .*names.txt holds the control character '\\t'; a table belongs into a .csv file"),
        (b"\x00\x01\n", r"line 1 of .*names.txt holds the control character '\\x00'; take it out"),
        ("\n \n", "names.txt holds no strings: each line must be one"),
        ("anna\nbob", "names.txt holds 2 rows; at least 10 are needed"),
        ("\n".join(chr(0x4E00 + k) for k in range(MOST_CHARACTERS + 1)), "1,024 different characters, more than 1,023"),
    ],
)
def test_what_is_no_list_of_strings_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        written(tmp_path, content)


def test_a_file_that_is_missing_is_told(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*none.txt; set data.name to an existing .txt file"):
        load_data(DataConfig(name=str(tmp_path / "none.txt")), "strings")


def test_data_and_likelihood_must_fit(tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    with pytest.raises(DataError, match="holds strings, but the model's likelihood takes bits; set model.likelihood=strings"):
        load_data(DataConfig(name=str(tmp_path / "names.txt")), "bits")
    with pytest.raises(DataError, match="takes strings, one a line of a .txt file; set data.name to one"):
        load_data(DataConfig(name="digits"), "strings")


def test_a_large_alphabet_has_larger_numbers():
    letters = [chr(0x4E00 + k) for k in range(300)]
    dataset = dataset_from_strings(letters, test=["\u4e00\u4e01"])
    assert dataset.train.dtype.itemsize == 4
    assert dataset.shape == (2,)
    assert dataset.alphabet.decode(dataset.train) == letters


def test_lists_of_texts_are_taken_and_others_not():
    dataset = dataset_from_strings(NAMES, test=["odo", "", "anna"], name="mine")
    assert dataset.alphabet.decode(dataset.test) == ["odo", "anna"]
    assert dataset.remarks[0] == "mine: 1 empty line was left out"
    with pytest.raises(DataError, match="string 2 of mine is of type int; it must be a text"):
        dataset_from_strings(["a", 5], name="mine")
    with pytest.raises(DataError, match="is one text; give a list of strings"):
        dataset_from_strings("anna")
    with pytest.raises(DataError, match=r"line 1 of mine holds the control character '\\ud800'"):
        dataset_from_strings(["\ud800"], name="mine")


def test_rows_of_known_characters_only():
    letters = Alphabet("abc")
    with pytest.raises(DataError, match="x.txt has 'abcab', of 5 characters; the model takes 4 at most"):
        letters.encode(["a", "abcab"], 4, "x.txt")
    with pytest.raises(DataError, match="x.txt has 'ad', whose 'd' the model doesn't know; leave such strings out"):
        letters.encode(["ad"], 4, "x.txt")
    assert letters.decode(np.array([[1, 0, 3], [0, 1, 1]])) == ["a", ""]


@pytest.mark.parametrize("count", [3, 255, 256, 300])
def test_each_character_of_a_large_alphabet_is_itself(count):
    letters = Alphabet("".join(map(chr, range(0x4E00, 0x4E00 + count))))
    rows = letters.encode([letters.characters, letters.characters[::-1]], count)
    assert rows.tolist() == [list(range(1, count + 1)), list(range(count, 0, -1))]
    assert letters.decode(rows) == [letters.characters, letters.characters[::-1]]


def test_another_alphabet_is_another_data_set():
    first, second = (dataset_from_strings([letter * k for k in range(1, 12)]) for letter in "ab")
    assert first.train.equal(second.train)
    assert fingerprint(first) != fingerprint(second)


def test_a_text_file_is_trained_on_with_the_settings_for_strings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = qvae.load_config("names.txt", ["training.epochs=3"])
    assert (config.data.name, config.model.likelihood, config.training.epochs) == ("names.txt", "recurrent-strings", 3)
    assert config.model == qvae.load_config("strings").model
    circuit = qvae.load_config("names.txt", model="vqvae")
    assert (circuit.data.name, circuit.model.kind, circuit.model.likelihood) == ("names.txt", "vqvae", "recurrent-strings")
