"""Memory of a task stays flat in the number of its inputs: no array that it makes grows with them."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import qvae
from qvae.applications import compress, denoise, detect, embed, inpaint
from qvae.coding import bits_back

QUICK = {"completions": 1, "draws": 16, "steps": 1}


def storages(tree):
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Largest(TorchDispatchMode):
    """The size of the largest memory that a tensor is made in while the block runs, views of others left out."""

    bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        old = {storage.data_ptr() for storage in storages(arguments)}
        self.bytes = max([self.bytes, *(each.nbytes() for each in storages(made) if each.data_ptr() not in old)])
        return made


TASKS = {
    "embed": (embed.embed, {}),
    "detect": (detect.detect, {"samples": 3}),
    "denoise": (denoise.denoise, QUICK),
    "inpaint": (inpaint.inpaint, QUICK),
    "compress": (compress.compress, {}),
}


@pytest.mark.parametrize("name", TASKS)
def test_nothing_grows_with_the_number_of_inputs(name, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(bits_back, "MOST_ROWS", 100)  # of a file's blocks, in place of thousands
    run, (task, options) = qvae.load_run(trained), TASKS[name]
    assert len(run.dataset.train)  # read now, in whole
    sizes = []
    for rows in (300, 700):
        shape = (rows, 8, 8)
        given = tmp_path / f"{rows}.npy"
        np.save(given, (np.random.default_rng(0).random(shape) < 0.4).astype(np.float32))
        if name == "inpaint":
            np.save(tmp_path / "mask.npy", np.eye(8, dtype=np.uint8))
            options = {**QUICK, "mask": tmp_path / "mask.npy"}
        with Largest() as largest:
            task(run, given, out=tmp_path / str(rows), **options)
        sizes.append(largest.bytes)
    assert sizes[0] == sizes[1]
