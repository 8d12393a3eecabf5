import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from qvae import checkpoint
from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.errors import RunError
from qvae.files import clear_abandoned


def make_state():
    a = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    return {
        "model": {"layer.weight": a, "tied": a, "layer": {"weight": a + 1}, "transposed": a.T, "view": a[1:, 2:]},
        "types": [
            a.to(torch.bfloat16),
            a.double(),
            a.half(),
            torch.tensor([-1, 1], dtype=torch.int8),
            torch.tensor([True, False]),
            torch.arange(3),
            torch.tensor(3.5),
            torch.zeros(0, 3),
            torch.zeros(0),
            torch.zeros(1).expand(5),
            torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        ],
        "random": {"torch": torch.get_rng_state(), "numpy": np.random.default_rng(1).bit_generator.state},
        "tuple": (1, (a[0], 2.5), [None, True, "x"], ()),
        0: {"infinite": float("inf"), "third": 1 / 3, "tensor": "no tensor", "dict": []},
        "empty": {},
    }


def assert_same(left, right):
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        assert left == right


def test_everything_comes_back(tmp_path):
    state = make_state()
    save_checkpoint(tmp_path / "c.safetensors", state)
    found = load_checkpoint(tmp_path / "c.safetensors")
    assert_same(found, state)
    assert os.listdir(tmp_path) == ["c.safetensors"]
    found["model"]["tied"].add_(1)  # what is loaded can be written to, and no longer shares memory
    assert_same(found["model"]["layer.weight"], state["model"]["layer.weight"])


def test_the_state_of_a_numpy_generator_survives(tmp_path):
    generator = np.random.default_rng(5)
    generator.random(3)
    save_checkpoint(tmp_path / "c", {"rng": generator.bit_generator.state})
    expected = generator.random(5)
    generator.bit_generator.state = load_checkpoint(tmp_path / "c")["rng"]
    assert np.array_equal(generator.random(5), expected)


def test_the_state_of_an_optimizer_survives(tmp_path):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path / "c", optimizer.state_dict())
    assert_same(load_checkpoint(tmp_path / "c"), optimizer.state_dict())


def test_other_readers_see_the_weights_by_name(tmp_path):
    save_checkpoint(tmp_path / "c", {"model": {"decoder.0.weight": torch.ones(2)}, "step": 3})
    with safe_open(tmp_path / "c", "pt") as file:
        assert list(file.keys()) == ["model.decoder.0.weight"]


@pytest.mark.parametrize("value", [np.int64(3), np.zeros(2), object(), {1, 2}, {(1, 2): 3}])
def test_what_a_checkpoint_does_not_hold(value, tmp_path):
    with pytest.raises(TypeError, match=r"sampler\.x"):
        save_checkpoint(tmp_path / "c", {"sampler": {"x": value}})
    assert not os.listdir(tmp_path)


def test_any_changed_bit_and_any_missing_byte_is_noticed(tmp_path):
    file = tmp_path / "c"
    save_checkpoint(file, make_state())
    good = file.read_bytes()
    choose = random.Random(0)
    for _ in range(300):
        changed = bytearray(good)
        changed[choose.randrange(len(good))] ^= 1 << choose.randrange(8)
        file.write_bytes(changed)
        with pytest.raises(RunError):
            load_checkpoint(file)
    for length in [0, 1, 7, 8, 9, 100, *(choose.randrange(len(good)) for _ in range(50)), len(good) - 1]:
        file.write_bytes(good[:length])
        with pytest.raises(RunError, match=rf"\({length:,} bytes\) is truncated or no checkpoint .* restore it"):
            load_checkpoint(file)


def test_exchanged_tensors_are_noticed(tmp_path):
    """Each tensor is intact and the file is well-formed, but the values stand under each other's names."""
    file = tmp_path / "c"
    save_checkpoint(file, {"aaa": torch.zeros(2), "bbb": torch.ones(2)})
    content = file.read_bytes()
    cut = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:cut])
    header["aaa"], header["bbb"] = header["bbb"], header["aaa"]
    exchanged = json.dumps(header).encode()
    file.write_bytes(len(exchanged).to_bytes(8, "little") + exchanged + content[cut:])
    with pytest.raises(RunError, match="was damaged or changed since it was written"):
        load_checkpoint(file)


def test_a_checkpoint_of_a_newer_version(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_VERSION", 2)
    save_checkpoint(tmp_path / "c", {})
    monkeypatch.undo()
    with pytest.raises(RunError, match="has format version 2, but this qvae reads version 1; update qvae"):
        load_checkpoint(tmp_path / "c")


def test_files_that_are_no_checkpoint(tmp_path):
    with pytest.raises(RunError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none")
    with pytest.raises(RunError, match="is a folder, not a checkpoint"):
        load_checkpoint(tmp_path)
    (tmp_path / "text").write_text("model: qvae\n" * 1000)
    with pytest.raises(RunError, match="truncated or no checkpoint"):
        load_checkpoint(tmp_path / "text")
    torch.save({"model": torch.zeros(3)}, tmp_path / "pickle")
    with pytest.raises(RunError, match="truncated or no checkpoint"):
        load_checkpoint(tmp_path / "pickle")
    save_file({"a": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(RunError, match="a safetensors file, but not a checkpoint of qvae"):
        load_checkpoint(tmp_path / "other")


def test_no_permission_to_read(tmp_path, monkeypatch):
    def refuse(*args):  # a file's mode would not stop root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("qvae.files.os.open", refuse)
    with pytest.raises(RunError, match="can't be read: Permission denied"):
        load_checkpoint(tmp_path / "c")


def test_a_failed_save_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "c", {"step": 1})

    def no_space(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qvae.files.os.fsync", no_space)
    with pytest.raises(RunError, match=r"No space left on device for its 0\.4\d* MB; the file .* before is intact"):
        save_checkpoint(tmp_path / "c", {"step": 2, "weights": torch.zeros(100_000)})
    assert load_checkpoint(tmp_path / "c") == {"step": 1}


KILLS = 40
SAVE_AND_KILL = f"""
import os, random, signal, sys, time
import torch
from qvae.checkpoint import load_checkpoint, save_checkpoint
torch.set_num_threads(1)
file, choose = sys.argv[1], random.Random(0)

def state(step):
    return {{"step": step, "weights": [torch.full((n,), step) for n in (1, 1000, 300_000)]}}

save_checkpoint(file, state(0))
for _ in range({KILLS}):
    before, child = os.stat(file).st_mtime_ns, os.fork()
    if child == 0:
        step = load_checkpoint(file)["step"]
        while True:
            step += 1
            save_checkpoint(file, state(step))
    while os.stat(file).st_mtime_ns == before and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    time.sleep(choose.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = load_checkpoint(file)
    assert all((weights == found["step"]).all() for weights in found["weights"])
print(found["step"])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_moment_leaves_a_good_checkpoint(tmp_path):
    command = [sys.executable, "-c", SAVE_AND_KILL, tmp_path / "c"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= KILLS  # each child saved at least once before it was killed
    litter = [name for name in os.listdir(tmp_path) if name != "c"]
    assert all(name.startswith(".c.") and name.endswith(".part") for name in litter)
    for name in litter:  # as old as that of a process which was killed a while ago
        os.utime(tmp_path / name, (0, 0))
    clear_abandoned(tmp_path)
    assert os.listdir(tmp_path) == ["c"]
