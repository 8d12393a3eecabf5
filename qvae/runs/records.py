"""What the JSON files of a run hold, by a schema each: whatever else stands there is damage, told in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qvae.errors import RunError
from qvae.files import read_plain

Count = Annotated[int, Field(ge=0, lt=2**63)]
Finite = Annotated[float, Field(ge=-1e30, le=1e30)]
"""A number that can be drawn."""
_MOST_BYTES = 2**26
_TIMES = ("ms_forward", "ms_backward", "ms_optimizer")

R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """A mapping of which the keys that are used have their types; others may stand there.

    A key that may be left out has a default, which isn't put in its place; ``together`` names those that must follow it.
    """

    model_config = ConfigDict(extra="allow", strict=True)
    together: ClassVar[Mapping[str, Sequence[str]]] = {}

    @model_validator(mode="after")
    def _keys_are_together(self) -> Self:
        for key, others in self.together.items():
            missing = [other for other in others if getattr(self, other, None) is None or other not in self.model_fields_set]
            if getattr(self, key, None) is not None and key in self.model_fields_set and missing:
                raise ValueError(f"{key} has no {missing[0]}")
        return self


class Distance(Record):
    """A Frechet distance."""

    value: float
    num_images: Count
    num_reference: Count
    stderr: float | None
    bias: float | None
    num_features: Count | None = None


class Classifier(Record):
    """Whose features distances are on."""

    weights: str
    test_accuracy: float | None


class Balls(Record):
    """How samples lie among data."""

    precision: float
    recall: float
    density: float
    coverage: float
    neighbours: Count
    num_samples: Count


class Quality(Record):
    """What samples are worth."""

    coverage: Balls
    floor: Balls
    classes: dict[str, float]
    training_classes: dict[str, float]
    nearest: float
    nearest_of_test: float


class AmongCodes(Record):
    """How samples lie among codes."""

    coverage: Balls
    floor: Balls


class Frechet(Record):
    """All distances of a run, or why there are none."""

    together: ClassVar = {"distances": ["classifier"]}
    classifier: Classifier = None  # type: ignore[assignment]
    distances: Annotated[dict[str, Distance], Field(min_length=1)] = {}
    reason: str = ""
    inception: Annotated[dict[str, Distance], Field(min_length=1)] = {}
    quality: Quality = None  # type: ignore[assignment]
    among_codes: AmongCodes = None  # type: ignore[assignment]


class Probe(Record):
    """What a classifier reads from features."""

    features: str
    dimensions: Count
    linear: float
    mlp: float
    stderr: float


class Latents(Record):
    """What the latents hold."""

    together: ClassVar = {"probes": ["probe_images"]}
    units: Count
    alive: Count
    alive_threshold: float
    information: float | None
    probes: list[Probe] = []
    probe_images: Count = 0


class LogZDetails(Record):
    """What the method of log Z has to say of itself."""

    warning: str | None = None


class StringSetRecord(Record):
    """Figures of a set of strings."""

    number: Count
    valid: float | None
    different: float
    new: float
    diversity: float
    length: float


class StringsRecord(Record):
    """What generated strings are worth."""

    symbols: Annotated[float, Field(gt=0)]
    ngram: float
    ngram_stderr: float | None
    ngram_order: Count
    reconstructed: float
    edits: float
    check: str | None
    sets: dict[str, StringSetRecord]
    samples_reason: str | None


class ExecutorLossRecord(Record):
    """What a circuit lost on an executor, as a row of the report."""

    executor: str
    num_rows: Count
    reconstruction: Finite | None
    reconstruction_stderr: float | None
    exact: Finite | None
    exact_stderr: float | None
    loss: Finite | None
    loss_stderr: float | None
    samples: Distance | None
    exact_samples: Distance | None


_OF_LIKELIHOOD = ("elbo", "log_likelihood", "importance_samples", "log_z", "log_z_method")
_ERRORS = ("elbo_stderr", "log_likelihood_stderr", "log_z_stderr")


class Evaluated(Record):
    """``evaluation.json``; distances and latents came after 0.1.0. An autoencoder has reconstructions in place of an ELBO; a
    generator of data themselves has neither, and no latents."""

    together: ClassVar = {
        "q_elbo": ["golden_thompson_gap", "golden_thompson_gap_stderr"],
        "elbo_per_feature": ["log_likelihood_per_feature", "num_features"],
        "log_likelihood_per_feature": ["elbo_per_feature"],
    }
    elbo: Finite = None  # type: ignore[assignment]
    elbo_stderr: float | None = None
    log_likelihood: float = None  # type: ignore[assignment]
    log_likelihood_stderr: float | None = None
    importance_samples: Count = 0
    log_z: float = 0.0
    log_z_stderr: float | None = None
    log_z_method: str = ""
    reconstruction: Finite | None = None
    reconstruction_stderr: float | None = None
    num_test: Count
    binarization: str
    test_images_are_all: bool
    log_z_details: LogZDetails
    seconds: dict[str, float]
    likelihood: str = ""
    num_features: Count = 0
    elbo_per_feature: float = 0.0
    log_likelihood_per_feature: float = 0.0
    log_likelihood_is_bound: bool = False
    q_elbo: float | None = None
    golden_thompson_gap: float | None = None
    golden_thompson_gap_stderr: float | None = None
    frechet: Frechet = Frechet()
    latents: Latents | None = None
    strings: StringsRecord = None  # type: ignore[assignment]
    executors: list[ExecutorLossRecord] = []

    @model_validator(mode="after")
    def _is_of_a_likelihood_or_of_reconstructions(self) -> Self:
        if "reconstruction" in self.model_fields_set:
            needed: tuple[str, ...] = ("reconstruction_stderr",)
        else:
            needed = (*_OF_LIKELIHOOD, *_ERRORS)
        missing = [key for key in needed if key not in self.model_fields_set]
        if missing:
            raise ValueError(f"there is no {missing[0]}")
        return self


class Epoch(Record):
    """A line of ``metrics.jsonl``: figures of an epoch by their names, null where one isn't a finite number."""

    together: ClassVar = {
        "qpu_seconds": ["qpu_seconds_per_call"],
        **dict.fromkeys(_TIMES, _TIMES),
    }
    __pydantic_extra__: dict[str, Finite | None]
    epoch: Count
    step: Count
    seconds: Finite


class Environment(Record):
    """``environment.json``: versions, the device and when the run was started."""

    packages: dict[str, str] = {}


def read_record(file: Path, kind: type[R]) -> dict[str, Any]:
    """What a JSON file of a run holds.

    Raises:
        RunError: it can't be read, or isn't of this kind.
    """
    try:
        return parse_record(file_bytes(file), kind)
    except ValueError as error:
        raise RunError(f"{file} is damaged: {_first_fault(error)}; remove it, or restore it from a copy.") from None


def parse_record(text: str | bytes, kind: type[R]) -> dict[str, Any]:
    """The same of a JSON text; raises a ValueError where it isn't of this kind."""
    return kind.model_validate_json(text).model_dump(exclude_unset=True)


def file_bytes(file: Path) -> bytes:
    """All of a file of a run that is read whole.

    Raises:
        RunError: it can't be read, or is larger than such a file can be.
    """
    try:
        content = read_plain(file, _MOST_BYTES + 1)
    except OSError as error:
        raise RunError(f"{file} can't be read: {error.strerror or error}.") from None
    if len(content) > _MOST_BYTES:
        raise RunError(f"{file} holds more than {_MOST_BYTES / 1e6:,.0f} MB, as no such file does; remove it.")
    return content


def _first_fault(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}" if where else fault["msg"]
