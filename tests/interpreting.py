"""Kernels in Triton's interpreter, in a process of their own: it is chosen before Triton is first imported."""

import os
import pickle
import subprocess
import sys
from pathlib import Path


def interpreted(script, folder, calls):
    """What a file that calls :func:`answer` returns for each of these dicts of arguments."""
    source, target = folder / "calls", folder / "answers"
    source.write_bytes(pickle.dumps(calls))
    done = subprocess.run(
        [sys.executable, script, source, target],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return pickle.loads(target.read_bytes())


def answer(function):
    """In that process: every call by this function."""
    _quicken()
    _guard()
    calls = pickle.loads(Path(sys.argv[1]).read_bytes())
    Path(sys.argv[2]).write_bytes(pickle.dumps([function(**call) for call in calls]))


def _quicken():
    """What makes the interpreter serve: it patches Triton at every call of a function, and takes 400 operations for a word."""
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    patch, patched = interpreter._patch_lang, {}

    def patch_once(function):
        if id(function.__globals__) not in patched:
            patched[id(function.__globals__)] = patch(function)
            # Numpy 2.4 makes no number of an array of one element, which Triton 3.6 expects of it where loops end.
            tl.tensor.__index__ = lambda self: int(self.handle.data.item())
        return interpreter._LangPatchScope()

    def quick_philox(key, *counter):
        number, most = int(key.handle.data.item()) % 2**64, np.uint64(2**32 - 1)
        c = [part.handle.data.astype(np.uint64) for part in counter]
        low, high = number % 2**32, number >> 32
        for _ in range(10):
            first, third = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
            c = [third >> 32 ^ c[1] ^ np.uint64(low), third & most, first >> 32 ^ c[3] ^ np.uint64(high), first & most]
            low, high = (low + 0x9E3779B9) % 2**32, (high + 0xBB67AE85) % 2**32
        drawn = [tl.tensor(interpreter.TensorHandle(word.astype(np.uint32), tl.uint32), counter[0].type) for word in c]
        if not checked:
            pairs = zip(drawn, philox(key, *counter), strict=True)
            checked.extend((mine.handle.data == its.handle.data).all() for mine, its in pairs)
            assert all(checked)
        return tuple(drawn)

    interpreter._patch_lang, philox, checked = patch_once, tl.philox, []
    tl.philox = quick_philox


def _guard():
    """What is read or written outside of the tensors that a kernel is given, which may go unnoticed, is an error."""
    from triton.runtime import interpreter

    executor, builder, places = interpreter.GridExecutor, interpreter.InterpreterBuilder, []
    init, load, store = executor._init_args_hst, builder.create_masked_load, builder.create_masked_store

    def look(pointers, mask, bytes_of_one):
        used = pointers.data[mask.data]
        if used.size:
            first, stop = int(used.min()), int(used.max()) + bytes_of_one
            assert any(start <= first and stop <= end for start, end in places), "outside of all tensors"

    def note_arguments(self, *given):
        found = init(self, *given)
        places[:] = []
        for tensor in (part for part in found[0] if hasattr(part, "data_ptr") and part.numel()):
            size = 1 + sum((count - 1) * stride for count, stride in zip(tensor.shape, tensor.stride(), strict=True))
            places.append((tensor.data_ptr(), tensor.data_ptr() + size * tensor.element_size()))
        return found

    def guarded_load(self, pointers, mask, *rest):
        look(pointers, mask, pointers.get_element_ty().primitive_bitwidth // 8)
        return load(self, pointers, mask, *rest)

    def guarded_store(self, pointers, values, mask, *rest):
        look(pointers, mask, values.data.itemsize)
        return store(self, pointers, values, mask, *rest)

    executor._init_args_hst = note_arguments
    builder.create_masked_load, builder.create_masked_store = guarded_load, guarded_store
