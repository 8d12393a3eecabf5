"""Data, problems, recordings, ledgers and states of samplers that were changed at random end in the user's own errors."""

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trust.fuzzing import few, mutated, quick, told

import qvae
from qvae.data import idx
from qvae.data.load import load_data
from qvae.ising import graphs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.measuring.problems import make_problem
from qvae.sampling.metering import Meter

HAMILTONIAN = IsingHamiltonian(torch.zeros(4), graphs.complete(4), torch.zeros(6))


# idx files ------------------------------------------------------------------------------------------------------------


@quick
@given(place=st.integers(0, 10_000), change=st.binary(min_size=1, max_size=8), cut=st.booleans(), packed=st.booleans())
def test_idx_files(place, change, cut, packed, tmp_path):
    content = bytes([0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 2, *range(20)])
    file = idx.IdxFile("some", (5, 2, 2), hashlib.md5(content).hexdigest())
    content = gzip.compress(content, mtime=0) if packed else content
    place %= len(content)
    path = tmp_path / ("some.gz" if packed else "some")
    path.write_bytes(content[:place] + change + (b"" if cut else content[place + len(change) :]))
    told(lambda: idx._read_idx(path, file))


# Problems -------------------------------------------------------------------------------------------------------------

ARRAYS = {
    "h": np.zeros(3),
    "edges": np.array([[0, 1], [1, 2]]),
    "J": np.array([0.5, -0.5]),
    "gamma": np.array(0.3),
}
STRANGE = st.sampled_from([
    np.zeros(0), np.zeros((2, 2)), np.array(["a", "b"]), np.array([np.nan, 1.0]), np.array([1j, 2]), np.array([[0, 9], [1, 2]]),
    np.array([[-1, 2], [0, 1]]), np.array([[0, 0], [1, 2]]), np.array([[0.5, 1.0], [1.0, 2.0]]), np.array(7), np.array([True]),
    np.array([[0, 1], [1, 0]]), np.array([2**62, 1]), np.zeros((3, 2, 2)), np.array(["2020-01-01"], dtype="datetime64[D]"),
    np.array([np.inf, 0.0]), np.array([[0, 1, 2], [1, 2, 0]]), np.array([-1.0, -1.0, -1.0]),
])  # fmt: skip


@quick
@given(key=st.sampled_from([*ARRAYS]), value=st.just(None) | STRANGE)
def test_problems(key, value, tmp_path):
    arrays = {name: array for name, array in (ARRAYS | {key: value}).items() if array is not None}
    np.savez(tmp_path / "problem.npz", **arrays)

    def work():
        hamiltonian = make_problem(str(tmp_path / "problem.npz")).hamiltonian
        assert all(part.isfinite().all() for part in (hamiltonian.h, hamiltonian.J, hamiltonian.gamma))
        assert (hamiltonian.gamma >= 0).all()
        qvae.load_sampler("exact", seed=0).sample(hamiltonian, 2)

    told(work)


@few
@given(content=st.binary(max_size=200), place=st.integers(0, 10_000))
def test_bytes_of_problems(content, place, tmp_path):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **ARRAYS)
    good = buffer.getvalue()
    place %= len(good)
    (tmp_path / "problem.npz").write_bytes(good[:place] + content + good[place + len(content) :])
    told(lambda: make_problem(str(tmp_path / "problem.npz")))


# Ledgers and states ---------------------------------------------------------------------------------------------------

BOOKS = {"qpu_seconds": 0.5, "submissions": 3, "max_qpu_seconds": 1.0, "betas": {"a": {"value": 1.0, "variance": 0.1}}}


@quick
@given(books=mutated(BOOKS))
def test_ledgers_are_right_or_spent(books, tmp_path):
    (tmp_path / "ledger.json").write_text(json.dumps(books))

    def work():
        meter = Meter(None)
        meter.attach(tmp_path)
        meter.pay(0.1, lambda: (None, 0.1))
        assert meter.seconds >= 0.1
        assert meter.calls >= 1

    told(work)


@pytest.mark.parametrize("name", ["gibbs", "dimod", "path_integral", "exact"])
def test_states_of_samplers(name):
    original = qvae.load_sampler(name, seed=0)
    original.sample(HAMILTONIAN, 3)
    state = original.state_dict()

    @few
    @given(state=_changed(state))
    def check(state):
        sampler = qvae.load_sampler(name, seed=0)

        def work():
            sampler.load_state_dict(state)
            assert sampler.sample(HAMILTONIAN, 3).spins.abs().eq(1).all()

        try:
            told(work)
        except (KeyError, IndexError, AttributeError, RuntimeError, ValueError, TypeError):
            pass  # which a training that goes on tells in words
        finally:
            sampler.close()

    check()


def _changed(state):
    """A state with one of its values replaced by something else."""
    strange = st.sampled_from(
        [None, 1, -1.5, "x", [], {}, torch.zeros(0), torch.full((3, 4), torch.nan), torch.zeros(3, 4, dtype=torch.int8),
         torch.ones(10**6, 4, dtype=torch.int8), torch.zeros(2, 2, 2), torch.ones(16, dtype=torch.uint8)]
    )  # fmt: skip
    keys = st.sampled_from([*state] or ["x"])
    return st.builds(lambda key, value: {**state, key: value}, keys, strange)


# Tables ---------------------------------------------------------------------------------------------------------------


@quick
@given(
    text=st.text(alphabet='ab,;\t"\n\r\0é1.5-', max_size=60) | st.binary(max_size=60).map(lambda part: part.decode("latin1")),
    categories=st.booleans(),
)
def test_csv(text, categories, tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "a.csv").write_text(f"x,y\n{text}", encoding="latin1", errors="replace", newline="")
    kind = "categories" if categories else "reals"
    told(lambda: load_data(qvae.load_config({"data": {"name": str(tmp_path / "a.csv")}}).data, kind))


# Memory ---------------------------------------------------------------------------------------------------------------

READ = """
import json, resource, sys
import qvae, numpy, torch, PIL.Image
from qvae.data.load import load_data
from qvae.errors import QvaeError
from qvae.measuring.problems import make_problem

def run(file):
    run = qvae.load_run(file)
    run.metrics, run.evaluation

def table(file):
    import pyarrow.csv, pyarrow.parquet
    load_data(qvae.load_config({"data": {"name": file}}).data, "reals")

READERS = {"run": run, "data": table, "problem": make_problem, "config": qvae.load_config,
           "replay": lambda file: qvae.load_sampler("dwave", replay=file).describe()}
for what, file in json.loads(sys.argv[1]):
    held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 2**30, -1))
    try:
        READERS[what](file)
    except (QvaeError, ImportError) as error:
        print(what, file, "is told:", error)
"""


def sparse(file, start):
    """A file of 64 GB, which takes no room on the disk."""
    file.parent.mkdir(exist_ok=True)
    with open(file, "wb") as stream:
        stream.write(start)
        stream.truncate(2**36)
    return file


def bomb(file):
    """An archive that tells of 8 TB."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("h.npy", "w", force_zip64=True) as stream:
            stream.write(header.getvalue())
        archive.infolist()[0].file_size = 2**43
    return file


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_what_is_larger_than_memory_takes_none(tmp_path, trained):
    """A gigabyte beside what Python and its libraries hold, and five seconds each, are enough to say so."""
    files = {"a.csv": b"x,y\n", "a.npy": b"", "a.parquet": b"PAR1", "a.npz": b"PK"}
    cases = [("data", sparse(tmp_path / name, start)) for name, start in files.items()]
    cases += [("problem", sparse(tmp_path / "b.npz", b"PK")), ("problem", bomb(tmp_path / "c.npz"))]
    cases += [("config", sparse(tmp_path / "a.yaml", b"a: 1\n")), ("replay", sparse(tmp_path / "a.jsonl", b"{"))]
    for name in ("metrics.jsonl", "evaluation.json", "model.safetensors", "config.yaml"):
        cases.append(("run", shutil.copytree(trained, tmp_path / f"with-{name}")))
        sparse(cases[-1][1] / name, b"{}")
    command = [sys.executable, "-c", READ, json.dumps([(what, str(file)) for what, file in cases])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5 * len(cases) + 60)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("is told:") == len(cases), done.stdout
