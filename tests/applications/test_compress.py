"""Compressed files: rows come back with a copy of the run, and what is damaged, foreign or another's gets a sentence."""

import os
import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import qvae
from qvae.applications.compress import compress, sentences
from qvae.applications.decompress import decompress
from qvae.coding import bits_back
from qvae.coding.bits_back import Bits
from qvae.coding.container import Header, identity
from qvae.coding.lossy import chosen_codes
from qvae.config.load import dump_config
from qvae.errors import CapabilityError, ConfigError, DataError, RunError
from qvae.ising.exact import exact_distribution, state_numbers
from qvae.runs.assemble import assemble

pytest.importorskip("constriction", reason="needs the extra: pip install -e '.[compress]'")



def untrained(folder, settings, source="digits"):
    """A run whose model knows no more of its data than how often each number is in them."""
    config = qvae.load_config(source, ["model.latent.sizes=[3,3]", "model.network.hidden=[8,8]", *settings])
    folder.mkdir()
    trainer = assemble(folder, config).trainer
    trainer.save(trainer)
    (folder / "config.yaml").write_text(dump_config(config))
    return qvae.load_run(folder)


@pytest.fixture
def images(small_run):
    dataset = qvae.load_run(small_run).dataset
    return (dataset.values(dataset.test).numpy()[:60] >= 0.5).astype(np.uint8)


def test_rows_come_back_by_a_copy_of_the_run_and_the_bits_are_said(command, small_run, images, tmp_path, monkeypatch):
    monkeypatch.setattr("qvae.coding.bits_back.MOST_ROWS", 25)  # three blocks
    np.savez("rows.npz", images=images, ids=[f"digit {number}" for number in range(60)])
    code, out, err = command("apply", "compress", small_run, "--input", "rows.npz", "--out", "packed")
    assert (code, err) == (0, "")
    size = (tmp_path / "packed.qvz").stat().st_size
    each, bound = (float(text) for text in re.findall(r"(\d+\.\d\d)", out)[:2])
    assert f"{size:,} bytes for 60 rows" in out
    assert each == pytest.approx(8 * size / 60, abs=0.01)
    beyond, odds, start, rest = (float(text) for text in re.findall(r"(-?\d+\.\d\d)", out)[2:])
    assert each == pytest.approx(bound + beyond + odds + start + rest, abs=0.03)
    shutil.copytree(small_run, "elsewhere")
    assert command("apply", "decompress", "elsewhere", "--input", "packed.qvz", "--out", "back")[0] == 0
    found = np.load("back.npz")
    assert found["rows"].dtype == np.uint8
    np.testing.assert_array_equal(found["rows"], images)
    assert found["ids"].tolist()[59] == "digit 59"


def test_nothing_is_written_over_or_outside_of_the_folder(small_run, images, tmp_path):
    """A lossy copy never takes the place of the originals, whatever rows are called."""
    originals = tmp_path / "mine"
    originals.mkdir()
    Image.fromarray(255 * images[0]).save(originals / "0.png")
    before, run = (originals / "0.png").read_bytes(), qvae.load_run(small_run)
    (file,) = compress(run, originals, lossy=True, out=tmp_path / "mine.qvz").files
    with pytest.raises(RunError, match="or a folder of its name is there already"):
        decompress(run, file, tmp_path / "mine.npz")
    assert (originals / "0.png").read_bytes() == before
    assert not (tmp_path / "mine.npz").exists()
    for name in (str(tmp_path / "outside.png"), "../outside.png"):
        np.savez(tmp_path / "rows.npz", images=images[:1], ids=[name])
        (file,) = compress(run, tmp_path / "rows.npz").files
        assert [made.suffix for made in decompress(run, file).files] == [".npz"]
    assert not list(tmp_path.rglob("outside.png"))


def test_a_folder_of_pictures_comes_back_with_its_names(small_run, images, tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(5):
        Image.fromarray(255 * images[number]).save(tmp_path / "pictures" / f"{number}.png")
    run = qvae.load_run(small_run)
    (file,) = compress(run, tmp_path / "pictures").files
    assert file.name == "compressed.qvz"
    arrays, pictures = decompress(run, file).files
    found = np.load(arrays)
    np.testing.assert_array_equal(found["rows"], images[:5])
    for number in range(5):
        np.testing.assert_array_equal(np.asarray(Image.open(pictures / f"{number}.png")), 255 * images[number])
    assert found["ids"].tolist() == [f"{number}.png" for number in range(5)]


def test_a_table_of_counts_comes_back(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="needs the extra: pip install -e '.[tables]'")
    monkeypatch.setattr("qvae.coding.bits_back.MOST_ROWS", 25)  # three blocks
    table = np.random.default_rng(0).poisson(2, (150, 3))
    header, rows = "a,b,c", tmp_path / "rows.csv"
    np.savetxt(tmp_path / "table.csv", table, "%d", ",", header=header, comments="")
    run = untrained(tmp_path / "run", [f"data.name={tmp_path / 'table.csv'}", "model.likelihood=poisson"])
    given = table[:60].copy()
    given[0, 0] = 2**24
    np.savetxt(rows, np.column_stack([np.arange(60), given]), "row %d,%d,%d,%d", header=f"id,{header}", comments="")
    packed = compress(run, rows)
    assert re.search(r"minus the ELBO, is \d+\.\d\d", packed.sentences[0])
    (file,) = decompress(qvae.load_run(tmp_path / "run"), packed.files[0]).files
    found = np.load(file)
    assert found["rows"].dtype == np.int32
    np.testing.assert_array_equal(found["rows"], given)
    assert found["ids"][59] == "row 59"
    np.save(tmp_path / "more.npy", given + 1)
    with pytest.raises(DataError, match=r"above 16,777,216, the first 16777217 at \[0, 0\]; divide them\.$"):
        compress(run, tmp_path / "more.npy")


def test_strings_come_back_as_lines(tmp_path):
    rng = np.random.default_rng(0)
    strings = ["".join(rng.choice(list("abé"), rng.integers(1, 7))) for _ in range(150)]
    (tmp_path / "names.txt").write_text("\n".join(strings), encoding="utf-8")
    run = untrained(tmp_path / "run", [], tmp_path / "names.txt")
    assert run.config.model.likelihood == "recurrent-strings"
    (file,) = compress(run, tmp_path / "names.txt", out=tmp_path / "names.qvz").files
    assert strings[0].encode() not in file.read_bytes()
    assert file.stat().st_size < len("\n".join(strings))
    (back,) = decompress(run, file).files
    assert (back.name, back.read_text(encoding="utf-8")) == ("decompressed.txt", "".join(f"{line}\n" for line in strings))
    assert len(compress(run, tmp_path / "names.txt", out=tmp_path / "again.qvz").sentences) == 2
    (tmp_path / "odd.txt").write_text("a\n\n a\nb \r\nbe\u0301\n", encoding="utf-8", newline="")
    first, second, *_ = compress(run, tmp_path / "odd.txt").sentences
    assert first.endswith("odd.txt: 1 empty line was left out")
    assert second.endswith("odd.txt: 3 lines changed: blanks at the ends go, and letters are composed")
    (short,) = compress(run, tmp_path / "names.txt", lossy=True).files
    (alike,) = decompress(run, short, tmp_path / "alike.txt").files
    assert len(alike.read_text(encoding="utf-8").split("\n")) == 151


def test_a_picture_of_the_file_s_name_is_in_nobody_s_way(small_run, images, tmp_path):
    np.save(tmp_path / "rows.npy", images)
    (tmp_path / "rows.png").write_text("mine")
    (file,) = compress(qvae.load_run(small_run), tmp_path / "rows.npy", out=tmp_path / "rows.qvz").files
    (back,) = decompress(qvae.load_run(small_run), file, tmp_path / "rows.npz").files
    assert (tmp_path / "rows.png").read_text() == "mine"
    assert np.load(back)["ids"].tolist() == [str(number) for number in range(60)]


def test_files_of_the_first_version_are_read(small_run, file, images, tmp_path):
    content = file.read_bytes()
    assert content[8:10] == b"\x02\x00"
    file.write_bytes(content[:8] + b"\x01\x00" + content[10:])
    (back,) = decompress(qvae.load_run(small_run), file, tmp_path / "back.npz").files
    np.testing.assert_array_equal(np.load(back)["rows"], images)


@pytest.mark.parametrize("lossy", [False, True])
def test_a_chain_of_another_length_is_told_by_the_file(lossy, small_run, images, tmp_path, monkeypatch):
    """As of a later version: rows come back with the chain that they were pushed by."""
    np.save(tmp_path / "rows.npy", images)
    monkeypatch.setattr(bits_back, "MOST_ROWS", 25)  # three blocks
    run, name = qvae.load_run(small_run), "CodeCoder" if lossy else "RowCoder"
    with monkeypatch.context() as patch:
        patch.setattr(getattr(bits_back, name).__init__, "__defaults__", (16,))
        patch.setattr(bits_back.Coder.__init__, "__defaults__", (16,))
        (file,) = compress(run, tmp_path / "rows.npy", lossy=lossy).files
    assert b'"temperatures":16' in file.read_bytes()
    found = np.load(decompress(run, file).files[0])
    assert found["ids"].tolist() == [str(number) for number in range(60)]
    if lossy:
        with torch.no_grad():
            codes = chosen_codes(run.model, torch.from_numpy(images).flatten(1).float())
            np.testing.assert_allclose(found["rows"], run.model.decode(codes), atol=1e-6)
    else:
        np.testing.assert_array_equal(found["rows"], images)


def test_codes_alone_take_fewer_bits_the_more_thrift(small_run, images, tmp_path):
    np.save(tmp_path / "rows.npy", images.astype(np.float32) * 0.9)  # grey levels will do
    run = qvae.load_run(small_run)
    run.model.prior.h.data += 0.7  # three epochs leave the prior nearly flat
    sizes = []
    for thrift in (0.0, 3.0):
        (file,) = compress(run, tmp_path / "rows.npy", lossy=True, thrift=thrift, out=tmp_path / f"{thrift}.qvz").files
        sizes.append(file.stat().st_size)
        found = np.load(decompress(run, file, out=tmp_path / f"{thrift}.npz").files[0])["rows"]
        if not thrift:
            with torch.no_grad():
                features = run.model.encoder(torch.from_numpy(images).flatten(1).float())
                bits = (run.model.posterior.level_logits(0, features, []) > 0).float()
                np.testing.assert_allclose(found, run.model.decode(bits), atol=1e-6)
    assert sizes[1] < sizes[0]
    with pytest.raises(ConfigError, match="add --lossy"):
        compress(run, tmp_path / "rows.npy", thrift=1.0)
    with pytest.raises(ConfigError, match="thrift is -1"):
        compress(run, tmp_path / "rows.npy", lossy=True, thrift=-1.0)


@pytest.mark.parametrize("most", [4096, 25])
def test_what_codes_cost_is_their_probability_under_the_prior(most, small_run, images, tmp_path, monkeypatch):
    """Against the sum over all 256 states of eight spins, in one block and in three."""
    monkeypatch.setattr("qvae.coding.bits_back.MOST_ROWS", most)
    np.save(tmp_path / "rows.npy", images.astype(np.float32))
    run = qvae.load_run(small_run)
    outcome = compress(run, tmp_path / "rows.npy", lossy=True, out=tmp_path / "codes.qvz")
    with torch.no_grad():
        features = run.model.encoder(torch.from_numpy(images).flatten(1).float())
        spins = torch.where(run.model.posterior.level_logits(0, features, []) > 0, 1.0, -1.0)
        exact = exact_distribution(run.model.prior.frozen())
    bits = -exact.probabilities[state_numbers(spins > 0)].log2().mean()
    assert f"their codes' -log2 p(z) is {float(bits):.2f}" in outcome.sentences[0]


def test_grey_levels_are_not_cut_unasked(small_run, images, tmp_path):
    np.save(tmp_path / "rows.npy", images * 0.9)
    with pytest.raises(DataError, match=r"holds grey levels.*--lossy"):
        compress(qvae.load_run(small_run), tmp_path / "rows.npy")
    assert not list(small_run.glob("compressed*"))


@pytest.fixture
def file(small_run, images, tmp_path):
    np.savez(tmp_path / "rows.npz", images=images, ids=[f"digit {number}" for number in range(60)])
    return compress(qvae.load_run(small_run), tmp_path / "rows.npz", out=tmp_path / "rows.qvz").files[0]


def test_every_byte_that_changes_and_every_cut_is_told(small_run, file, tmp_path, monkeypatch):
    def no_rows(*given):
        raise AssertionError("the rows were decoded before the file was looked at")

    run, content, other = qvae.load_run(small_run), file.read_bytes(), tmp_path / "other.qvz"
    for place in [*range(0, 200, 7), *range(200, len(content), 37), len(content) - 1]:
        monkeypatch.setattr("qvae.coding.bits_back.Coder.decode", no_rows)
        changed = bytearray(content)
        changed[place] ^= 0x10
        for broken in (bytes(changed), content[:place]):
            other.write_bytes(broken)
            with pytest.raises(DataError, match=r"truncated|damaged|no file of|format version"):
                decompress(run, other, out=tmp_path / "back.npz")
    assert not (tmp_path / "back.npz").exists()
    monkeypatch.undo()
    other.write_bytes(content + b"more")
    with pytest.raises(DataError, match="its end isn't what it was"):
        decompress(run, other)


def test_what_a_stranger_wrote_with_good_checksums_is_told_too(small_run, file, tmp_path):
    run, content, other = qvae.load_run(small_run), file.read_bytes(), tmp_path / "other.qvz"
    length = struct.unpack("<I", content[10:14])[0]
    text = content[14 : 14 + length]

    def sealed(body):
        return body + struct.pack("<I", zlib.crc32(body))

    names = 14 + length + 4
    nameless = text.replace(b'"has_names":true', b'"has_names":false').replace(b'"rows":60', b'"rows":9999999')
    counts = [text.replace(b'"rows":60', b'"rows":' + count) for count in (b"9999999999", b"-1")]
    for wrong in (*counts, nameless, b"[" * 9999, b"{}"):
        other.write_bytes(content[:10] + struct.pack("<I", len(wrong)) + sealed(wrong) + content[names:])
        with pytest.raises(DataError, match="its header isn't what it was"):
            decompress(run, other)
    bomb = zlib.compress(b"[" + b" " * 10**7 + b"]")
    other.write_bytes(content[:names] + struct.pack("<I", len(bomb)) + sealed(bomb))
    with pytest.raises(DataError, match="its names"):
        decompress(run, other)
    blocks = names + 8 + struct.unpack("<I", content[names : names + 4])[0]
    head, words = content[blocks : blocks + 9], content[blocks + 9 : -8]
    assert sealed(head + words + content[-8:-4]) == content[blocks:]
    other.write_bytes(content[:blocks] + sealed(head + words + bytes(4)))
    with pytest.raises(DataError, match="block 1 of 1 isn't what it was"):
        decompress(run, other)


def test_other_models_versions_and_files_are_told(small_run, file, tmp_path):
    run, content, other = qvae.load_run(small_run), file.read_bytes(), tmp_path / "other.qvz"
    own = identity(run.model)
    run.model.prior.h.data[0] += 1e-6
    assert identity(run.model) != own
    with pytest.raises(DataError, match=f"compressed by another model \\({own[:8]}\\)"):
        decompress(run, file)
    other.write_bytes(content[:8] + b"\x03\x00" + content[10:])
    with pytest.raises(DataError, match="format version 3"):
        decompress(run, other)
    for strange in (b"", b"PK\x03\x04 something else entirely"):
        other.write_bytes(strange)
        with pytest.raises(DataError, match="no file of `qvae apply compress`"):
            decompress(run, other)
    with pytest.raises(DataError, match="there is no file"):
        decompress(run, tmp_path / "none.qvz")
    with pytest.raises(DataError, match="can't be read"):
        decompress(run, tmp_path)
    with pytest.raises(DataError, match="a device or pipe; name a file"):
        decompress(run, Path(os.devnull))


def test_a_model_is_known_by_its_kind_and_by_names_types_shapes_and_values_of_its_weights():
    class Model(torch.nn.Module):
        def __init__(self, **weights):
            super().__init__()
            for name, weight in weights.items():
                self.register_buffer(name, weight)

    class Other(Model):
        pass

    a, b = torch.tensor([1.0, 2.0]), torch.zeros(2, 3)
    models = [
        Model(a=a, b=b), Other(a=a, b=b), Model(a=a, c=b), Model(a=a, b=b.int()), Model(a=a, b=b.T), Model(a=a.flip(0), b=b),
        Model(a=a), Model(a=-a, b=b),
    ]  # fmt: skip
    assert len({identity(model) for model in models}) == len(models)
    assert identity(Model(b=b.clone(), a=a.clone())) == identity(models[0])  # in whatever order they are


def test_names_that_could_not_be_read_again_are_refused(small_run, images, tmp_path):
    run = qvae.load_run(small_run)
    for letters, is_read in ((4092, True), (4093, False)):  # with quotes and brackets 4096 bytes
        np.savez(tmp_path / "rows.npz", images=images[:1], ids=["x" * letters])
        if is_read:
            (file,) = compress(run, tmp_path / "rows.npz").files
            assert np.load(decompress(run, file).files[0])["ids"].tolist() == ["x" * letters]
        else:
            with pytest.raises(DataError, match="above 4,096 bytes each; give shorter ids"):
                compress(run, tmp_path / "rows.npz", out=tmp_path / "long.qvz")
    assert not list(tmp_path.glob("long*"))


def test_a_machine_that_computes_otherwise_is_told(small_run, file, monkeypatch):
    run = qvae.load_run(small_run)
    decoder = type(run.model.decoder)
    forward = decoder.forward
    monkeypatch.setattr(decoder, "forward", lambda self, latents: forward(self, latents) + 0.05)
    with pytest.raises(DataError, match="this machine computes otherwise"):
        decompress(run, file)


def test_what_cannot_be_coded_or_written_is_told_first(small_run, images, tmp_path):
    np.save(tmp_path / "rows.npy", images)
    run = qvae.load_run(small_run)
    (tmp_path / "there.qvz").write_text("mine")
    with pytest.raises(RunError, match="is there already"):
        compress(run, tmp_path / "rows.npy", out=tmp_path / "there.qvz")
    run.model.prior._template.is_quantum = True
    with pytest.raises(CapabilityError, match="transverse field"):
        compress(run, tmp_path / "rows.npy")


def test_what_a_file_is_made_of_is_told_a_row():
    taken = Bits(data=40, ideal=38.0, prior=25, posterior=20, start=6)
    assert sentences(taken, 24.0, 2, 56) == [
        "7 bytes for 2 rows: 28.00 bits each; the model's bound on them, minus the ELBO, is 21.00",
        "beyond it, a row: 0.50 bits for the chain in place of the prior's log Z, 1.00 for odds of one in a million at the "
        "least, 3.00 to start with, 2.50 of the file itself",
    ]
    codes = Bits(prior=25, start=6)
    assert sentences(codes, 24.0, 1, 40)[0] == "5 bytes for 1 row: 40.00 bits each; their codes' -log2 p(z) is 24.00"


def test_a_chain_is_no_longer_than_a_row_may_take():
    given = {"identity": "a", "rows": 1, "shape": (2,), "is_lossy": False, "has_names": False}
    assert Header(**given, temperatures=4096).temperatures == 4096
    with pytest.raises(ValueError, match="temperatures"):
        Header(**given, temperatures=4097)
