"""Checks that pass, fail or are skipped, each with what was measured, and the report of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from qvae.errors import QvaeError


@dataclass(frozen=True)
class CheckResult:
    """One check: its name, its outcome, and what was measured or what went wrong."""

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.outcome}  {self.name}" + (f": {self.detail}" if self.detail else "")


@dataclass(frozen=True)
class ConformanceReport:
    """All checks of a backend, in the order they ran."""

    results: list[CheckResult] = field(default_factory=list)

    @property
    def failures(self) -> list[CheckResult]:
        """The checks that failed."""
        return [result for result in self.results if result.outcome == "failed"]

    def __str__(self) -> str:
        return "\n".join(str(result) for result in self.results)


class ConformanceError(AssertionError):
    """A backend failed checks; ``report`` holds all of them."""

    def __init__(self, report: ConformanceReport) -> None:
        self.report = report
        failures = "\n".join(f"  {result.name}: {result.detail}" for result in report.failures)
        super().__init__(f"{len(report.failures)} of {len(report.results)} checks failed:\n{failures}")


class Skipped(Exception):
    """A check that doesn't apply, with the reason."""


def run_check(name: str, check: Callable[..., str], *arguments: Any) -> CheckResult:
    """The outcome of a check that returns what it measured, or raises Skipped or AssertionError."""
    try:
        return CheckResult(name, "passed", check(*arguments))
    except Skipped as reason:
        return CheckResult(name, "skipped", str(reason))
    except AssertionError as error:
        return CheckResult(name, "failed", str(error))
    except Exception as error:
        # A backend under test may fail in any way; the rest of the report is still wanted.
        culprit = error if _is_ours(error) else error.__cause__ or error
        return CheckResult(name, "failed", f"raised {type(culprit).__name__}: {' '.join(str(culprit).split())}")


def _is_ours(error: Exception) -> bool:
    """Whether it doesn't merely name the backend that raised another one, which is what its author wants to see."""
    return not isinstance(error, QvaeError) or error.__cause__ is None or isinstance(error.__cause__, QvaeError)


def require(condition: bool, message: str) -> None:
    """Fail the check with ``message`` unless the condition holds."""
    if not condition:
        raise AssertionError(message)
