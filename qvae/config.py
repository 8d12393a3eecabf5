"""The configuration of a run: every key, its type, its default and its range; the defaults are the shipped `digits`."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from qvae.errors import ConfigError, nearest

Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors.

    A validator of one key says in its ValueError what the value must be; a validator of a whole section begins with the
    key at fault, so that :func:`load_config` can put the section's path before it.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


DATA_SETS = ("digits", "mnist", "fashion-mnist")


class DataConfig(Section):
    """Which images, where they are, and how they become bits."""

    name: str = "digits"
    """digits | mnist | fashion-mnist | a path to .npy or .npz"""
    root: str | None = None
    """folder of the idx files; None looks in ./data/<name> and in the user's cache"""
    download: bool = False
    """fetch missing idx files from their public mirrors"""
    binarize: Literal["auto", "dynamic", "fixed", "threshold"] = "auto"
    """dynamic draws pixels anew at every use; fixed draws them once from a fixed seed; threshold cuts at 0.5;
    auto is threshold for digits, whose sixteen grey levels are mostly noise when drawn, and dynamic for all else"""

    @field_validator("name")
    @classmethod
    def _is_known_or_a_path(cls, name: str) -> str:
        if name not in DATA_SETS and Path(name).suffix not in (".npy", ".npz"):
            raise ValueError(f"{nearest(name, DATA_SETS)}, or a path that ends in .npy or .npz")
        return name

    @property
    def binarization(self) -> Literal["dynamic", "fixed", "threshold"]:
        """``binarize`` with ``auto`` resolved."""
        if self.binarize != "auto":
            return self.binarize
        return "threshold" if self.name == "digits" else "dynamic"


class LatentConfig(Section):
    """The graph of the latent Boltzmann machine and its transverse field."""

    graph: Literal["rbm", "complete", "chimera", "pegasus", "zephyr", "native", "edges"] = "rbm"
    """native: working qubits of the sampler's own hardware, which the run then keeps"""
    sizes: list[Positive] = [32, 32]
    """rbm: its layers; complete, native, edges: [spins]; chimera: [m], [m, n], [m, n, t]; pegasus: [m]; zephyr: [m], [m, t]"""
    edges: list[tuple[int, int]] = []
    """for graph: edges; none at all makes the factorized prior"""
    gamma: Annotated[float, Field(ge=0)] | list[Annotated[float, Field(ge=0)]] = 0.0
    """transverse field: one number, or one for each spin"""
    train_gamma: bool = False
    """learn gamma, too, each spin's own; needs training.prior_gradient: exact"""

    @model_validator(mode="after")
    def _sizes_edges_and_gamma_fit(self) -> LatentConfig:
        fewest, most, meaning = _SIZES[self.graph]
        if not fewest <= len(self.sizes) <= most:
            raise ValueError(f"sizes is {self.sizes}; graph {self.graph!r} takes {meaning}")
        if self.graph == "pegasus" and self.sizes[0] < 2:
            raise ValueError(f"sizes is {self.sizes}; a Pegasus graph begins at [2]")
        if self.edges and self.graph != "edges":
            raise ValueError(f"edges is given, but graph {self.graph!r} has its own; drop them or set graph to 'edges'")
        if isinstance(self.gamma, list) and len(self.gamma) != self.num_spins:
            spins = f"one for each of {self.num_spins} spins"
            raise ValueError(f"gamma holds {len(self.gamma)} numbers; give one number, or {spins}")
        self._check_edges()
        return self

    def _check_edges(self) -> None:
        seen = set()
        for position, (i, j) in enumerate(self.edges):
            low, high = min(i, j), max(i, j)
            if low < 0 or high >= self.sizes[0]:
                raise ValueError(f"edges[{position}] is [{i}, {j}]; spins are numbered 0 to {self.sizes[0] - 1}")
            if i == j or (low, high) in seen:
                raise ValueError(f"edges[{position}] is [{i}, {j}]; it must join two spins, and each pair only once")
            seen.add((low, high))

    @property
    def num_spins(self) -> int:
        """Number of latent spins that the graph has."""
        if self.graph == "chimera":
            m, n, t = [*self.sizes, *[self.sizes[0], 4][len(self.sizes) - 1 :]]
            return 2 * m * n * t
        if self.graph == "pegasus":
            return 8 * (3 * self.sizes[0] - 1) * (self.sizes[0] - 1)
        if self.graph == "zephyr":
            m, t = [*self.sizes, 4][:2]
            return 4 * t * m * (2 * m + 1)
        return sum(self.sizes)


_SIZES = {
    "rbm": (2, 2, "two numbers, the spins of its layers, such as [32, 32]"),
    "complete": (1, 1, "one number of spins, such as [16]"),
    "chimera": (1, 3, "one to three numbers: [m], [m, n] or [m, n, t]"),
    "pegasus": (1, 1, "one number: [m]"),
    "zephyr": (1, 2, "one or two numbers: [m] or [m, t]"),
    "native": (1, 1, "one number of spins, such as [256]"),
    "edges": (1, 1, "one number of spins, such as [16]"),
}


class PosteriorConfig(Section):
    """The approximating posterior q(z|x)."""

    levels: Positive = 1
    """1 is factorial; each further level sees the levels before it"""


class RelaxationConfig(Section):
    """How discrete latents are smoothed so that gradients pass."""

    kind: Literal["gumbel", "overlapping", "spike-exponential"] = "gumbel"
    temperature: Annotated[float, Field(gt=0)] = 0.5
    """of gumbel"""
    beta: Annotated[float, Field(gt=0, le=100)] = 8.0
    """inverse width of the exponentials of the other two"""


class NetworkConfig(Section):
    """Encoder and decoder."""

    kind: Literal["mlp", "conv"] = "mlp"
    hidden: list[Positive] = [256, 256]
    """mlp: widths of the hidden layers; conv: channels of the stride-2 layers; from the image to the latents"""
    decoder_hidden: list[Positive] | None = None
    """the decoder's, from the latents to the image; None takes those of ``hidden`` backwards"""
    batch_norm: bool = True

    @model_validator(mode="after")
    def _convolutions_have_layers(self) -> NetworkConfig:
        for key in ("hidden", "decoder_hidden"):
            if self.kind == "conv" and getattr(self, key) == []:
                raise ValueError(f"{key} is empty; conv needs the channels of one layer or more")
        return self


class ModelConfig(Section):
    """The variational autoencoder."""

    kind: Literal["qvae"] = "qvae"
    latent: LatentConfig = LatentConfig()
    posterior: PosteriorConfig = PosteriorConfig()
    relaxation: RelaxationConfig = RelaxationConfig()
    network: NetworkConfig = NetworkConfig()

    @model_validator(mode="after")
    def _levels_have_spins(self) -> ModelConfig:
        levels, spins = self.posterior.levels, self.latent.num_spins
        if levels > spins:
            raise ValueError(f"posterior.levels is {levels}; it must be at most {spins}, the number of latent spins")
        return self


class SamplerConfig(Section):
    """A registered sampler and its options."""

    name: str = "gibbs"
    options: dict[str, Any] = {}


class GenerationConfig(Section):
    """What draws latents when the model generates."""

    sampler: SamplerConfig | None = None
    """None: the sampler of the negative phase, at the options of training"""

    @model_validator(mode="after")
    def _sampler_is_named(self) -> GenerationConfig:
        if self.sampler is not None and "name" not in self.sampler.model_fields_set:
            raise ValueError("sampler.name is missing; name the sampler that has these options, or set sampler to null")
        return self


class TrainingConfig(Section):
    """The optimisation."""

    epochs: Positive = 200
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    """stop after so many seconds of training; learning rates then follow the clock, and steps depend on the machine"""
    batch_size: Annotated[int, Field(ge=2)] = 256
    seed: Seed = 0
    device: str = "auto"
    """auto | cpu | cuda | cuda:N"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the networks; auto is bfloat16 where the machine multiplies it natively"""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    prior_learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """steps over which the learning rates rise from zero"""
    kl_warmup: Annotated[float, Field(ge=0, le=1)] = 0.3
    """part of the training over which the KL part's weight rises to 1; without it the prior switches latents off early"""
    kl_start: Annotated[float, Field(ge=0, le=1)] = 0.0
    """the KL part's weight at the start of the warm-up; one above 0 keeps codes small early, and samples nearer to the data"""
    clip_norm: Annotated[float, Field(gt=0)] | None = 10.0
    """largest norm of the networks' gradient"""
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """of the moving average of the weights that evaluation uses; 0 turns it off"""
    prior_gradient: Literal["sampled", "exact"] = "sampled"
    """sampled: the bound whose negative phase the sampler draws; exact: log p(z) by diagonalization, of 10 spins at most"""
    chains: Positive = 256
    """samples in the negative phase of a step"""
    fallback: str | None = None
    """a sampler, at its defaults, to go on with when the chosen one fails; None stops, and the run can be resumed"""
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    tensorboard: bool = False

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ValueError("it must be auto, cpu, cuda or cuda:N with the number of a device")
        return device


class EvaluationConfig(Section):
    """The likelihood at the end, and what is looked at on the way."""

    importance_samples: Positive = 100
    num_test: Positive | None = None
    """test images used; None for all of them"""
    log_z_chains: Annotated[int, Field(ge=2)] = 500
    log_z_temperatures: Annotated[int, Field(ge=2)] = 2000
    num_generated: Annotated[int, Field(ge=0)] = 10_000
    """samples in the Frechet distance; 0 leaves it out"""
    inception_weights: str | None = None
    """file of the Inception weights, for the distance that goes by its name; None leaves it out"""
    probes: bool = True
    """read the labels from the code by a linear and an MLP probe"""
    tsne_every: Annotated[int, Field(ge=0)] = 10
    """epochs between two maps of the latent film; 0 leaves out film and map"""
    seed: Seed = 0


class Config(Section):
    """A whole run."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    sampler: SamplerConfig = SamplerConfig()
    generation: GenerationConfig = GenerationConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _prior_can_be_trained(self) -> Config:
        exact = self.training.prior_gradient == "exact"
        if self.model.latent.train_gamma and not exact:
            raise ValueError(
                "model.latent.train_gamma is true, but the Q-ELBO can't train gamma: its bound of log p(z) holds gamma in "
                "log Z alone and only ever pulls it to 0; set training.prior_gradient to exact (10 spins at most), or "
                "train_gamma to false"
            )
        if exact and self.model.posterior.levels > 1:
            raise ValueError(
                f"model.posterior.levels is {self.model.posterior.levels}; training.prior_gradient: exact takes 1"
            )
        return self


# Loading --------------------------------------------------------------------------------------------------------------


def load_config(source: str | Path | Mapping[str, Any] | None = None, overrides: Iterable[str] = ()) -> Config:
    """Read a configuration; keys that it leaves out have the defaults of :class:`Config`.

    Args:
        source: a YAML file, the name of a shipped configuration, or nested keys; None for the shipped `digits`.
        overrides: ``section.key=value`` each, the value in YAML; they win over the source, the last over the first.

    Raises:
        ConfigError: the source isn't there or isn't YAML, a key is unknown or given twice, a value has the wrong type
            or is out of range, or keys contradict each other. Every fault has a line, which says where it came from.

    >>> load_config({"training": {"epochs": 5}}, ["sampler.options.sweeps=20"]).sampler
    SamplerConfig(name='gibbs', options={'sweeps': 20})
    """
    origin, tree = _read(source)
    assignments = [_Assignment.parse(text) for text in overrides]
    for assignment in assignments:
        if assignment.keys == ("sampler", "name"):
            _forget_options_of_another_sampler(tree, assignment.value)
        assignment.apply_to(tree)
    try:
        # JSON's strict mode takes no text for a number and no 1 for true, but takes lists for tuples.
        return Config.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        faults = [fault for fault in error.errors() if not _is_of_another_branch(fault)]
        raise ConfigError("\n".join(_in_our_words(fault, origin, assignments) for fault in faults)) from None


def _forget_options_of_another_sampler(tree: dict[str, Any], name: Any) -> None:
    """Options belong to the sampler they were written for: a change of hardware is one word, not an error."""
    section = tree.get("sampler")
    if isinstance(section, dict) and section.get("name", SamplerConfig().name) != name:
        section.pop("options", None)


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Nested keys from ``a.b=value`` each, the value in YAML: the options of a sampler on the command line.

    Raises:
        ConfigError: a text isn't of that form or its value isn't YAML.

    >>> parse_assignments(["sweeps=20", "schedule.end=1e-3"])
    {'sweeps': 20, 'schedule': {'end': 0.001}}
    """
    tree: dict[str, Any] = {}
    for text in assignments:
        _Assignment.parse(text).apply_to(tree)
    return tree


def dump_config(config: Config) -> str:
    """Every key of a configuration as YAML, in the order of the schema; :func:`load_config` reads it back."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, width=120)


def shipped_configs() -> list[str]:
    """Names of the configurations that come with the package.

    >>> "digits" in shipped_configs()
    True
    """
    files = (resources.files("qvae") / "configs").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def _read(source: str | Path | Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Where the keys come from, as a clause for messages, and the keys."""
    if isinstance(source, Mapping):
        return "in the keys given", _plain(source, "in the keys given")
    name = "digits" if source is None else str(source)
    path = Path(os.path.expanduser(name))
    if source is not None and os.path.isfile(path):
        origin = f"in {path}"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the configuration {path} can't be read: {error}.") from None
    elif name in shipped_configs():
        origin = f"in the shipped {name}.yaml"
        text = (resources.files("qvae") / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        allowed = nearest(path.stem, shipped_configs())
        raise ConfigError(f"there is no configuration {name!r}: {allowed}, or a path to a YAML file.")
    keys = _parse_yaml(text, origin)
    if not isinstance(keys, dict | None):
        sections = ", ".join(Config.model_fields)
        raise ConfigError(f"a configuration holds sections ({sections}), but there is {_short(keys)} {origin}.")
    return origin, _plain(keys or {}, origin)


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-3 as a number, as everybody expects, and refuses a key that stands there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As usual, after a look for keys that would silently replace earlier ones."""
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                problem = f"key {key.value!r} stands there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """YAML with sections over several lines, and lists on one."""


_exponent = re.compile(r"[-+]?(\d[\d_]*(\.\d*)?|\.\d+)[eE][-+]?\d+$")
for _side in (_Loader, _Dumper):  # the dumper then puts quotes around the text "1e-3"
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _exponent, list("-+.0123456789"))
_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def _parse_yaml(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"this isn't valid YAML {origin}{place}: {error.problem or error.context}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"this isn't valid YAML {origin}: {' '.join(str(error).split())}.") from None


def _plain(value: Any, origin: str, path: tuple[str, ...] = ()) -> Any:
    """A copy that JSON can hold."""
    if len(path) > 20:
        raise ConfigError(f"{'.'.join(path[:3])} is nested too deep or holds itself; give plain values ({origin}).")
    if isinstance(value, Mapping):
        return {str(key): _plain(part, origin, (*path, str(key))) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, origin, (*path, str(index))) for index, part in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{'.'.join(path)} is {value}; it must be a finite number ({origin}).")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    what = f"{'.'.join(path)} is a {type(value).__name__}"
    raise ConfigError(f"{what}; it must be a number, a text (in quotes if need be) or a list ({origin}).")


@dataclass(frozen=True)
class _Assignment:
    """One ``section.key=value``."""

    text: str
    keys: tuple[str, ...]
    value: Any

    @classmethod
    def parse(cls, text: str) -> _Assignment:
        path, equals, value = text.partition("=")
        keys = tuple(key.strip() for key in path.split("."))
        if not equals or not all(keys):
            raise ConfigError(f"--set {text} isn't of the form key=value, as in --set training.epochs=50.")
        origin = f"in --set {text}"
        return cls(text, keys, _plain(_parse_yaml(value, origin), origin, keys))

    def apply_to(self, tree: dict[str, Any]) -> None:
        """Put the value into nested keys, in place."""
        for depth, key in enumerate(self.keys[:-1]):
            if tree.get(key) is None:
                tree[key] = {}
            if not isinstance(tree[key], dict):
                what = f"{'.'.join(self.keys[: depth + 1])} is {_short(tree[key])}"
                raise ConfigError(f"--set {self.text} can't be applied: {what}, which holds no keys.")
            tree = tree[key]
        tree[self.keys[-1]] = self.value

    def touches(self, keys: tuple[str, ...]) -> bool:
        """Whether the value at ``keys`` was set by this, in whole or in part."""
        return all(mine == theirs for mine, theirs in zip(self.keys, keys, strict=False))


# Pydantic's findings in our words -------------------------------------------------------------------------------------

_TYPES = {
    "model_type": "keys with values",
    "dict_type": "keys with values",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a pair of spin indices",
    "missing": "a pair of spin indices",
    "too_long": "a pair of spin indices",
}
_RANGES = {"greater_than_equal": "{ge:g} or more", "greater_than": "more than {gt:g}", "less_than": "less than {lt:g}"}


def _in_our_words(error: ErrorDetails, origin: str, assignments: list[_Assignment]) -> str:
    """One sentence: the dotted key, what is wrong, what is allowed, and where it came from."""
    keys, index, section, field = _locate(error["loc"])
    for assignment in assignments:
        if assignment.touches(keys):
            origin = f"in --set {assignment.text}"
    path, kind, context = ".".join(keys) + index, error["type"], error.get("ctx", {})
    if kind == "value_error" and section is not None:
        return f"{'.'.join([*keys, str(context['error'])])} ({origin})."
    if kind == "extra_forbidden":
        return f"{path} is no key of the configuration; {_similar_keys(keys)} ({origin})."
    if kind == "literal_error" and field is not None:
        remedy = nearest(str(error["input"]), get_args(field.annotation))
    elif kind in _RANGES:
        remedy = f"it must be {_RANGES[kind].format(**context)}"
    elif kind in _TYPES:
        or_list = " or a list of numbers" if isinstance(error["loc"][-1], str) and error["loc"][-1] not in keys else ""
        or_null = " or null" if field is not None and not index and type(None) in get_args(field.annotation) else ""
        remedy = f"it must be {_TYPES[kind]}{or_list}{or_null}"
    else:
        remedy = str(context.get("error", error["msg"]))
    return f"{path} is {_short(error['input'])}; {remedy} ({origin})."


def _locate(loc: tuple[int | str, ...]) -> tuple[tuple[str, ...], str, type[Section] | None, FieldInfo | None]:
    """Keys without the names of a union's branches, an index such as ``[0]``, and the section or field there."""
    section: type[Section] | None = Config
    field, keys, index = None, [], ""
    for part in loc:
        if section is not None:
            keys.append(str(part))
            field = section.model_fields.get(str(part))
            section = _section_of(field)
        elif isinstance(part, int):
            index += f"[{part}]"
    return tuple(keys), index, section, field


def _section_of(field: FieldInfo | None) -> type[Section] | None:
    """The section that a field holds, if it holds one."""
    annotation = field.annotation if field is not None else None
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def _is_of_another_branch(error: ErrorDetails) -> bool:
    """Whether this error of a union only says that the value isn't of the branch that it wasn't meant for."""
    is_list = isinstance(error["input"], list)
    branch = str(error["loc"][-1]) if error["loc"] else ""
    return (branch.startswith("list[") and not is_list) or (branch == "constrained-float" and is_list)


def _similar_keys(keys: tuple[str, ...]) -> str:
    """What an unknown key may have been meant for: its neighbours, or the same name in another section."""
    known = list(_all_keys(Config))
    elsewhere = [".".join(path) for path in known if path[-1] == keys[-1]]
    if elsewhere:
        return f"did you mean {' or '.join(repr(path) for path in elsewhere)}?"
    return nearest(keys[-1], [path[-1] for path in known if path[:-1] == keys[:-1]])


def _all_keys(section: type[Section], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in section.model_fields.items():
        yield (*above, name)
        inner = _section_of(field)
        if inner is not None:
            yield from _all_keys(inner, (*above, name))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
