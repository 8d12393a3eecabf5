"""Recordings, books and embeddings of an annealer that were changed at random end in the user's own errors."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trust.fuzzing import few, mutated, told

import qvae
from qvae.ising import graphs
from qvae.ising.hamiltonian import IsingHamiltonian

HAMILTONIAN = IsingHamiltonian(torch.full((4,), 0.1), graphs.complete(4), torch.full((6,), 0.1))


@pytest.fixture
def recorded(annealer, tmp_path):
    """A run's folder with books, an embedding and a recording of two calls."""
    folder = tmp_path / "run"
    folder.mkdir()
    sampler = annealer(record=str(folder / "recording.jsonl"))
    sampler.attach(folder)
    for _ in range(2):
        sampler.sample(HAMILTONIAN, 20)
    return folder


def played(folder):
    sampler = qvae.load_sampler("dwave", replay=str(folder / "recording.jsonl"), seed=1, retries=0)
    try:
        sampler.attach(folder)
        sampler.describe()
        sampler.begin()
        for _ in range(2):
            sampler.sample(HAMILTONIAN, 20)
    finally:
        sampler.close()


def test_as_it_was_it_plays(recorded):
    played(recorded)


def test_lines_of_a_recording(recorded):
    file = recorded / "recording.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    lists = ("qubits", "couplers")  # which are long
    shown = [{key: value for key, value in rows[0]["solver"]["properties"].items() if key not in lists}, *rows[1:]]

    @few
    @given(place=st.integers(0, len(rows) - 1), data=st.data())
    def lines(place, data):
        changed = data.draw(mutated(shown[place]))
        if not place:
            solver = rows[0]["solver"]
            kept = {key: solver["properties"][key] for key in lists}
            changed = rows[0] | {"solver": solver | {"properties": changed | kept if isinstance(changed, dict) else changed}}
        file.write_text("".join(json.dumps(changed if number == place else row) + "\n" for number, row in enumerate(rows)))
        told(lambda: played(recorded))

    lines()


def test_the_first_line_of_a_recording(recorded):
    file = recorded / "recording.jsonl"
    first, *others = file.read_text().splitlines()
    tree = json.loads(first)
    properties = tree["solver"].pop("properties")

    @few
    @given(data=st.data())
    def lines(data):
        changed = data.draw(mutated(tree))
        if isinstance(changed, dict) and isinstance(changed.get("solver"), dict):
            changed = changed | {"solver": {"properties": properties} | changed["solver"]}
        file.write_text("\n".join([json.dumps(changed), *others]) + "\n")
        told(lambda: played(recorded))

    lines()


@few
@given(content=st.binary(min_size=1, max_size=6), place=st.integers(0, 10**6))
def test_bytes_of_a_recording(recorded, content, place):
    file = recorded / "recording.jsonl"
    good = file.with_suffix(".good")
    if not good.exists():
        good.write_bytes(file.read_bytes())
    known = good.read_bytes()
    place %= len(known)
    file.write_bytes(known[:place] + content + known[place + len(content) :])
    told(lambda: played(recorded))


@pytest.mark.parametrize("name", ["embedding.json", "annealer-replay.json"])
def test_books_and_embeddings(recorded, name):
    played(recorded)
    tree = json.loads((recorded / name).read_text())

    @few
    @given(tree=mutated(tree))
    def files(tree):
        (recorded / name).write_text(json.dumps(tree))
        told(lambda: played(recorded))

    files()
