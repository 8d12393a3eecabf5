"""Aer, or whatever Qiskit sampler, estimator or backend the user names: found, transpiled for, and run."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from qvae.errors import ExecutorError
from qvae.trust import Code

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.primitives import BaseEstimatorV2, BaseSamplerV2
    from qiskit.providers import BackendV2
    from qiskit.transpiler import PassManager

# Importing Qiskit takes a second, which listing the backends needn't; but it must see that one is missing.
for _module in ("qiskit_aer", "qiskit"):
    if importlib.util.find_spec(_module) is None:
        raise ModuleNotFoundError(f"No module named {_module!r}", name=_module)

IBM = "ibm:"
"""What a device of the saved IBM account is named by."""

DOCUMENTED = (
    "qiskit_aer:",
    "qiskit_aer.primitives:",
    "qiskit_aer.noise:",
    "qiskit.primitives:",
    "qiskit.providers.basic_provider:",
    "qiskit.providers.fake_provider:",
    "qiskit_ibm_runtime.fake_provider:",
)
"""Beginnings of import paths that a run folder or file may name without the user's word."""

ImportPath = Annotated[Any, Code((*DOCUMENTED, IBM))]
"""An option that names what runs circuits, by its import path."""


class QiskitDevice:
    """Runs Qiskit's circuits through a Qiskit sampler or estimator, transpiled for its backend.

    Args:
        backend: None for Aer's sampler; or a ``BaseSamplerV2``, ``BaseEstimatorV2`` or ``BackendV2``, or the import path
            "package.module:name" of one, of its class, or of a function that makes one; or "ibm:NAME", a device of the
            account that qiskit-ibm-runtime has saved. A class or function with a parameter ``seed`` that makes primitives is
            called in every run with a fresh one; an object is used as it is, so one with a fixed seed repeats itself. Bits
            are drawn beside an estimator by a sampler of its backend, where it tells that.
        noise_model: of Aer: a ``NoiseModel``, or a ``BackendV2`` whose noise, gates and couplings are imitated, or the import
            path of either, of its class, or of a function that makes one.

    Attributes:
        name: of the backend, in words.
        num_qubits: the most it takes; None where it doesn't say.
        estimates: whether an estimator was named, for :meth:`estimate`.
        noisy: whether gates or readout may go wrong; taken for granted of all but Qiskit's own exact simulators.
        repeats_rows: whether one run of several rows of values draws the same random numbers for each of them, as Qiskit's own
            ``StatevectorSampler`` does, which starts each from its seed.

    Raises:
        ValueError: an option is of another kind, or ``noise_model`` is set for another backend than Aer.
        ExecutorError: an import path leads nowhere, what stands there fails, or the account or its device can't be used.
    """

    def __init__(self, backend: Any = None, noise_model: Any = None) -> None:
        from qiskit.primitives import BaseEstimatorV2, BaseSamplerV2, StatevectorEstimator, StatevectorSampler
        from qiskit.providers import BackendV2
        from qiskit_aer import AerSimulator

        self._sampler: Callable[[int], BaseSamplerV2] | None = None
        self._estimator: Callable[[int], BaseEstimatorV2] | None = None
        self._target: BackendV2 | None = None
        if backend is None:
            self.name = "aer"
            made: Any = _aer_simulator(noise_model)
        elif noise_model is not None:
            raise ValueError("noise_model goes with Aer alone, but backend is set, too; leave one of them out")
        elif isinstance(backend, str) and backend.startswith(IBM):
            self.name = backend
            made = _ibm_backend(backend.removeprefix(IBM))
        else:
            self.name = backend if isinstance(backend, str) else type(backend).__name__
            make = _maker("backend", backend, (BaseSamplerV2, BaseEstimatorV2, BackendV2))
            made = make(0)
            if isinstance(made, BaseSamplerV2):
                self._sampler = make
            elif isinstance(made, BaseEstimatorV2):
                self._estimator = make
        self._target = made if isinstance(made, BackendV2) else _backend_of(made)
        if self._sampler is None and self._target is not None:
            self._sampler = _sampler_maker(self._target)
        elif isinstance(made, StatevectorEstimator):
            self._sampler = lambda seed: StatevectorSampler(seed=seed)
        self._passes = lru_cache(self._pass_manager)
        self.estimates = self._estimator is not None
        self.repeats_rows = self._sampler is not None and isinstance(self._sampler(0), StatevectorSampler)
        self.noisy = not self.repeats_rows
        if isinstance(self._target, AerSimulator):
            self.noisy = self._target.options.noise_model is not None
        self.num_qubits: int | None = None if self._target is None else self._target.num_qubits

    def transpiled(self, circuit: QuantumCircuit) -> QuantumCircuit:
        """The circuit in the gates and on the couplings of the backend, by a preset pass manager.

        Raises:
            ExecutorError: it has more qubits than the backend, or than hang together there.
        """
        if self.num_qubits is not None and circuit.num_qubits > self.num_qubits:
            raise ExecutorError(
                f"the circuit needs {circuit.num_qubits} qubits, but backend {self.name!r} has {self.num_qubits}; "
                "take a larger one or fewer qubits."
            )
        return self._passed(circuit, level=1)

    def translated(self, circuit: QuantumCircuit) -> QuantumCircuit:
        """A circuit on the backend's own qubits in its gates, none moved and none left out."""
        return self._passed(circuit, level=0, on_qubits=circuit.num_qubits)

    def _passed(self, circuit: QuantumCircuit, level: int, on_qubits: int | None = None) -> QuantumCircuit:
        from qiskit.transpiler.exceptions import TranspilerError

        try:
            return self._passes(level, on_qubits).run(circuit)
        except TranspilerError as error:
            raise ExecutorError(
                f"the circuit of {circuit.num_qubits} qubits finds no place on backend {self.name!r}, whose couplings may be "
                f"in pieces ({_described(error)}); take another backend or fewer qubits."
            ) from None

    def _pass_manager(self, level: int, on_qubits: int | None) -> PassManager:
        """Made once: that takes a second for Aer, which puts its list of gates together at each of 150 looks at it."""
        from qiskit.transpiler import generate_preset_pass_manager

        target = {} if self._target is None else {"backend": self._target}
        layout = None if on_qubits is None else list(range(on_qubits))
        # Layout and routing are drawn at random: with a fixed seed a resumed run has the same circuit.
        return generate_preset_pass_manager(level, initial_layout=layout, seed_transpiler=0, **target)

    def run(self, circuit: QuantumCircuit, values: np.ndarray, shots: int, seed: int) -> np.ndarray:
        """Measure ``shots`` times at these values of the parameters, as the circuit lists them: (P,), or (B, P) for B of them.

        Returns:
            bool, (shots, bits) or (B, shots, bits); column i is bit i of the circuit's first register.

        Raises:
            ExecutorError: the backend failed, or returned another number of shots, or it gives no bits.
        """
        return self.run_together([(circuit, values, shots)], seed)[0]

    def run_together(self, runs: Sequence[tuple[QuantumCircuit, np.ndarray, int]], seed: int) -> list[np.ndarray]:
        """Several of :meth:`run` in one call of the sampler."""
        if self._sampler is None:
            raise ExecutorError(
                f"backend {self.name!r} is an estimator that names no backend, and gives no bits; name a sampler or a backend."
            )
        try:
            results = self._sampler(seed).run(runs).result()
            found = [
                result.data[circuit.cregs[0].name].to_bool_array(order="little")
                for result, (circuit, _, _) in zip(results, runs, strict=True)
            ]
        except Exception as error:
            # A provider may fail in any way.
            raise ExecutorError(f"backend {self.name!r} failed to run the circuit: {_described(error)}.") from None
        for bits, (circuit, values, shots) in zip(found, runs, strict=True):
            if bits.shape != (*np.shape(values)[:-1], shots, circuit.num_clbits):
                raise ExecutorError(f"backend {self.name!r} returned {bits.shape[-2]} shots where {shots} were asked for.")
        return found

    def estimate(
        self, circuit: QuantumCircuit, values: np.ndarray, labels: Sequence[str], shots: int, seed: int
    ) -> np.ndarray:
        """Means of Pauli strings at B rows of parameters (B, P), in one call of the estimator.

        Args:
            circuit: transpiled, without measurements.
            values: as the circuit lists its parameters.
            labels: L strings, of the circuit before it was transpiled.
            shots: hence a standard error of 1 / sqrt(shots) at most.
            seed: of the estimator, where it takes one.

        Returns:
            (B, L).

        Raises:
            ExecutorError: the backend failed.
        """
        from qiskit.quantum_info import SparsePauliOp

        assert self._estimator is not None
        observables = [SparsePauliOp(label).apply_layout(circuit.layout) for label in labels]
        # Rows without parameters are no rows for Qiskit.
        runs = [(circuit, observables, values[:, None])] if values.shape[1] else [(circuit, observables)] * len(values)
        try:
            results = self._estimator(seed).run(runs, precision=shots**-0.5).result()
            return np.concatenate([np.reshape(result.data.evs, (-1, len(labels))) for result in results])
        except Exception as error:
            # A provider may fail in any way.
            raise ExecutorError(f"backend {self.name!r} failed to run the circuit: {_described(error)}.") from None


def _aer_simulator(noise_model: Any) -> BackendV2:
    from qiskit.providers import BackendV2
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel

    # Beyond 14 qubits Aer's threads share each gate, and on a busy machine wait for each other 20 times as long as it takes.
    options: dict[str, Any] = {"statevector_parallel_threshold": 20}
    if noise_model is None:
        return AerSimulator(**options)
    noise = _maker("noise_model", noise_model, (NoiseModel, BackendV2))(0)
    if isinstance(noise, BackendV2):
        return AerSimulator.from_backend(noise, **options)
    return AerSimulator(noise_model=noise, **options)


def _ibm_backend(name: str) -> BackendV2:
    """A device of the saved account."""
    try:
        from qiskit_ibm_runtime import QiskitRuntimeService
    except ImportError:
        raise ExecutorError(
            f"backend '{IBM}{name}' needs the module qiskit_ibm_runtime, which isn't installed: pip install qiskit-ibm-runtime."
        ) from None
    try:
        return QiskitRuntimeService().backend(name)
    except Exception as error:
        raise ExecutorError(
            f"backend '{IBM}{name}' can't be reached with the account that qiskit-ibm-runtime has saved "
            f"({_described(error)}); save one with QiskitRuntimeService.save_account, or name one of its devices."
        ) from None


def _sampler_maker(backend: BackendV2) -> Callable[[int], BaseSamplerV2]:
    """A function from seeds to samplers of this backend."""
    from qiskit.primitives import BackendSamplerV2
    from qiskit_aer import AerSimulator
    from qiskit_aer.primitives import SamplerV2

    if isinstance(backend, AerSimulator):
        # Aer's sampler draws the same samples in every run of one object, so there is one for each run.
        return lambda seed: SamplerV2.from_backend(backend, seed=seed)
    if type(backend).__name__ == "IBMBackend":
        # A real device: it has no seed, and runs through its own primitive alone.
        from qiskit_ibm_runtime import SamplerV2 as RuntimeSampler

        return lambda seed: RuntimeSampler(mode=backend)
    return lambda seed: BackendSamplerV2(backend=backend, options={"seed_simulator": seed})


def _backend_of(primitive: BaseSamplerV2 | BaseEstimatorV2) -> BackendV2 | None:
    """What it runs on, so that circuits can be transpiled for it; None where it doesn't say."""
    from qiskit.providers import BackendV2

    for attribute in ("backend", "_backend"):  # a property, a method, or Aer's private one
        found = getattr(primitive, attribute, None)
        found = found() if inspect.ismethod(found) else found
        if isinstance(found, BackendV2):
            return found
    return None


def _maker(option: str, value: Any, kinds: tuple[type, ...]) -> Callable[[int], Any]:
    """A function from seeds to objects of one of these kinds, of what the user named.

    Raises:
        ValueError: it is no import path and of no such kind.
        ExecutorError: the path leads nowhere, what it leads to fails, or makes something else.
    """
    found = _imported(option, value) if isinstance(value, str) else value
    name = f"{option} {value!r}" if isinstance(value, str) else f"the object of type {type(value).__name__} set as {option}"
    allowed = " or ".join(f"a {kind.__name__}" for kind in kinds)
    if isinstance(found, kinds):
        return lambda seed: found
    is_right_class = isinstance(found, type) and issubclass(found, kinds)
    # A function runs code that no class vouches for: where the user's word isn't asked, only such a class is called.
    may_be_function = not isinstance(value, str) or Code(DOCUMENTED).needs_word(value, None)
    if not (is_right_class or (may_be_function and callable(found) and not isinstance(found, type))):
        made_of = f"the class {found.__name__}" if isinstance(found, type) else f"of type {type(found).__name__}"
        raise ValueError(f"{name} is not {allowed}, nor something that makes one, but {made_of}")
    try:
        takes_seed = "seed" in inspect.signature(found).parameters
        made = found(seed=0) if takes_seed else found()
    except Exception as error:
        raise ExecutorError(
            f"{name} failed when called without arguments ({_described(error)}); name a function that works without."
        ) from None
    if not isinstance(made, kinds):
        raise ExecutorError(f"{name} made an object of type {type(made).__name__}; it must make {allowed}.")
    return (lambda seed: found(seed=seed)) if takes_seed else (lambda seed: made)


def _imported(option: str, path: str) -> Any:
    """What stands at "package.module:name"."""
    module, colon, attribute = path.partition(":")
    if not (module and colon and attribute):
        raise ValueError(
            f"{option} is {path!r}; it must be an import path such as 'package.module:name'"
            + (f", or '{IBM}NAME' for a device of your IBM account" if option == "backend" else "")
        )
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
        raise ExecutorError(
            f"{option} {path!r} needs the module {missing}, which can't be imported: check the path, or install the package "
            f"that has it (pip install {missing.split('.')[0].replace('_', '-')})."
        ) from error
    except Exception as error:
        raise ExecutorError(f"{option} {path!r}: importing {module} failed ({_described(error)}); mend that first.") from None
    if not hasattr(found, attribute):
        raise ExecutorError(f"{option} {path!r}: the module {module} has no {attribute}; check the path.")
    return getattr(found, attribute)


def _described(error: Exception) -> str:
    """An exception in one line; whatever could be a token is left out, since providers put them in their messages."""
    text = re.sub(r"[\w+/=.~-]{24,}", "[...]", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:300]}".rstrip(".: ")
