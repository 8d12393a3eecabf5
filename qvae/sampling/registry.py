"""Samplers by name, over the entry-point group ``qvae.samplers``: listed without an import, loaded one at a time."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from qvae.errors import SamplerError, nearest

if TYPE_CHECKING:
    from qvae.sampling.sampler import Capabilities, LatentSampler

GROUP = "qvae.samplers"


@dataclass(frozen=True)
class SamplerInfo:
    """A registered sampler as ``qvae samplers`` shows it.

    Attributes:
        name: under which it is loaded.
        package: the distribution that registers it; both of them where two claim the name.
        version: of the package.
        capabilities: of the class; None if it can't be loaded.
        reason: why it can't be loaded and what to do, as a clause; empty if it can.
    """

    name: str
    package: str
    version: str
    capabilities: Capabilities | None
    reason: str = ""


class _Unavailable(Exception):
    """Why a registered sampler can't be loaded, as a clause with the remedy."""


def list_samplers() -> list[str]:
    """Names of all registered samplers, whether or not their packages can be imported.

    >>> "gibbs" in list_samplers()
    True
    """
    return sorted(_registered())


def load_sampler(name: str, /, **options: Any) -> LatentSampler:
    """The sampler registered as ``name``, made with ``options``.

    Raises:
        SamplerError: no sampler has this name or two packages claim it, a module that it needs isn't installed, or an
            option is unknown, missing or has a value that the sampler refuses.

    >>> load_sampler("exact", seed=0).capabilities.max_spins
    20
    """
    cls = _load(name)
    known = sampler_options(name)
    unknown = [option for option in options if option not in known] if _takes_only_named(cls) else []
    if unknown:
        raise SamplerError(f"sampler {name!r} has no option {unknown[0]!r}: {nearest(unknown[0], known)}.")
    missing = [option for option, default in known.items() if default is inspect.Parameter.empty and option not in options]
    if missing:
        raise SamplerError(f"sampler {name!r} needs a value for its option {missing[0]!r}: set sampler.options.{missing[0]}.")
    try:
        sampler = cls(**options)
    except ImportError as error:
        raise SamplerError(f"sampler {name!r} {_import_reason(_registered()[name][0], error)}.") from error
    except (TypeError, ValueError) as error:
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        given = ", ".join(f"{option}={value!r}" for option, value in options.items())
        culprit = "" if not given or any(option in text for option in options) else f" (it was given {given})"
        raise SamplerError(f"sampler {name!r} refuses its options: {text}{culprit}.") from error
    sampler.name = name
    return sampler


def sampler_options(name: str) -> dict[str, Any]:
    """The options of a sampler and their defaults; ``inspect.Parameter.empty`` stands for one that must be given.

    Raises:
        SamplerError: as :func:`load_sampler`.

    >>> sorted(sampler_options("exact"))
    ['seed']
    """
    return {option.name: option.default for option in named_parameters(_load(name))}


def sampler_infos() -> list[SamplerInfo]:
    """All registered samplers with what they can do, or why they can't be loaded; imports every backend."""
    infos = []
    for name, entries in sorted(_registered().items()):
        package = " and ".join(_package(entry) for entry in entries)
        version = " and ".join(_version(entry) for entry in entries)
        try:
            infos.append(SamplerInfo(name, package, version, _resolve(name, entries).capabilities))
        except _Unavailable as error:
            infos.append(SamplerInfo(name, package, version, None, str(error)))
    return infos


def capable_samplers(num_spins: int, quantum: bool) -> list[str]:
    """Names of the samplers that take so many spins, with a transverse field if ``quantum``; unavailable ones left out."""
    infos = sampler_infos()
    return [info.name for info in infos if info.capabilities and info.capabilities.excludes(num_spins, quantum) is None]


def _registered() -> dict[str, list[EntryPoint]]:
    """Entry points by name: more than one where packages collide, one where a package is merely found twice."""
    found: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        found.setdefault(entry.name, {}).setdefault((_package(entry), entry.value), entry)
    return {name: list(entries.values()) for name, entries in found.items()}


def _load(name: str) -> type[LatentSampler]:
    registered = _registered()
    if name not in registered:
        raise SamplerError(f"no installed sampler is called {name!r}: {nearest(name, registered)}.")
    try:
        return _resolve(name, registered[name])
    except _Unavailable as error:
        raise SamplerError(f"sampler {name!r} {error}.") from error.__cause__


def _resolve(name: str, entries: list[EntryPoint]) -> type[LatentSampler]:
    """The class behind a name."""
    from qvae.sampling.sampler import Capabilities, LatentSampler

    if len(entries) > 1:
        claims = " and ".join(f"{_package(entry)} ({entry.value})" for entry in entries)
        remedy = "uninstall one of them" if len({_package(entry) for entry in entries}) > 1 else "rename one of them there"
        raise _Unavailable(f"is registered twice, by {claims}; {remedy}")
    entry = entries[0]
    origin = f"{entry.value} of package {_package(entry)}"
    try:
        cls = entry.load()
    except ImportError as error:
        raise _Unavailable(_import_reason(entry, error)) from error
    except Exception as error:
        # A third party's module may fail in any way; the other samplers must go on working.
        text = " ".join(str(error).split()).rstrip(".")
        raise _Unavailable(f"can't be loaded, since {origin} raised {type(error).__name__}: {text}") from error
    if not (isinstance(cls, type) and issubclass(cls, LatentSampler)):
        raise _Unavailable(f"is no sampler: {origin} is not a subclass of qvae.LatentSampler")
    if inspect.isabstract(cls):
        raise _Unavailable(f"is unfinished: {origin} doesn't implement {', '.join(sorted(cls.__abstractmethods__))}")
    if not isinstance(cls.capabilities, Capabilities):
        raise _Unavailable(f"is unfinished: the class attribute capabilities of {origin} is not a qvae.Capabilities")
    return cls


def _import_reason(entry: EntryPoint, error: ImportError) -> str:
    """What couldn't be imported, and the pip line that puts it right."""
    package = _package(entry)
    missing = error.name if isinstance(error, ModuleNotFoundError) and error.name else None
    text = " ".join(str(error).split()).rstrip(".")
    what = f"needs the module {missing}, which isn't installed" if missing else f"can't be imported ({text})"
    extra = _extra(entry)
    if missing and missing.split(".")[0] == entry.module.split(".")[0]:
        remedy = f"pip install --force-reinstall {package}"
    elif extra:
        remedy = f"pip install '{package}[{extra}]'"
    elif missing:
        remedy = f"pip install {missing.split('.')[0]}"
    else:
        remedy = f"pip install --upgrade {package}"
    return f"{what}: {remedy}"


def _extra(entry: EntryPoint) -> str | None:
    """The extra with what a sampler needs: the entry point's own, else the package's extra of the sampler's name."""
    if entry.extras:
        return ",".join(entry.extras)
    provided = entry.dist.metadata.get_all("Provides-Extra") if entry.dist else None
    return entry.name if entry.name in (provided or []) else None


def _package(entry: EntryPoint) -> str:
    return (entry.dist and entry.dist.name) or entry.module.split(".")[0]


def _version(entry: EntryPoint) -> str:
    return (entry.dist and entry.dist.version) or "of unknown version"


def named_parameters(cls: type) -> Iterator[inspect.Parameter]:
    """Named parameters of ``__init__``, and of the parents' wherever ``**kwargs`` hands the rest on to them."""
    seen: set[str] = set()
    for parent in _initializers(cls):
        for parameter in list(inspect.signature(parent.__init__).parameters.values())[1:]:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and parameter.name not in seen:
                seen.add(parameter.name)
                yield parameter


def _initializers(cls: type) -> Iterator[Any]:
    for parent in cls.__mro__[:-1]:
        if "__init__" in parent.__dict__:
            yield parent
            if not _has_kwargs(parent):
                return


def _has_kwargs(cls: Any) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls.__init__).parameters.values())


def _takes_only_named(cls: type) -> bool:
    first = next(_initializers(cls), None)
    return first is None or not _has_kwargs(first)
