"""Executors by name; the registry's own behaviour is tested with that of samplers, which is the same code."""

import pytest

from qvae.circuits.registry import executor_infos, executor_options, list_executors, load_executor
from qvae.errors import ExecutorError
from qvae.testing import check_executor

DENSE = """
    import torch
    from qvae.testing.dense import dense_state
    from qvae.circuits.executor import SeededExecutor

    class Dense(SeededExecutor):
        def _sample(self, circuit, values, shots):
            states = torch.stack([torch.from_numpy(dense_state(circuit, row)) for row in values])
            drawn = torch.multinomial(states.abs() ** 2, shots, replacement=True, generator=self.generator(values.device))
            return (drawn.unsqueeze(-1) >> torch.arange(circuit.num_qubits) & 1).to(torch.int8)
"""


def info_of(name):
    (info,) = [info for info in executor_infos() if info.name == name]
    return info


def test_a_third_partys_class_and_line_are_enough(install):
    install("dense-executor", DENSE, "dense = dense_executor:Dense")
    assert "dense" in list_executors()
    assert (info_of("dense").package, info_of("dense").version, info_of("dense").reason) == ("dense-executor", "1.0", "")
    assert executor_options("dense") == {"seed": None}
    assert load_executor("dense", seed=3).name == "dense"
    check_executor("dense", num_samples=500)
    # By its import path, before it is packaged.
    assert load_executor("dense_executor:Dense").shots == 1024


def test_our_own():
    assert {"statevector", "qiskit"} <= set(list_executors())
    able = info_of("statevector").capabilities
    assert (able.exact, able.differentiable, able.noisy) == (True, True, False)


def test_messages_speak_of_executors(install):
    install("broken", "class Thing: ...", "thing = broken:Thing")
    install("unfinished", "from qvae.circuits.executor import Executor\nclass Thing(Executor): ...", "half = unfinished:Thing")
    install("needy", "import absent_module", "needy = needy:Needy")
    for name, message in (
        ("statevektor", "no installed executor is called 'statevektor': did you mean 'statevector'"),
        ("thing", "executor 'thing' is no executor: broken:Thing of package broken is not a subclass of"),
        ("half", "executor 'half' is unfinished: unfinished:Thing of package unfinished doesn't implement _sample"),
        ("needy", "executor 'needy' needs the module absent_module, which isn't installed: install the package that has it"),
    ):
        with pytest.raises(ExecutorError, match=message):
            load_executor(name)
    assert info_of("needy").capabilities is None
    with pytest.raises(ExecutorError, match="executor 'statevector' has no option 'sed': did you mean 'seed'"):
        load_executor("statevector", sed=1)
    with pytest.raises(ExecutorError, match="refuses its options: seed is -1; it must be a whole number, 0 or more"):
        load_executor("statevector", seed=-1)
