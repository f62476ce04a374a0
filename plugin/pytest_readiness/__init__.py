"""pytest-readiness: turn a smoke run into a launch decision with evidence.

The names exported here are the complete Python API for a suite: exceptions with which a check says more than
"failed", the types of the fixtures, the environment for a suite's own commands (which run without pytest),
and helpers for its own AWS clients. Everything else reaches a suite through markers, fixtures and hooks.

Everything except the exceptions is imported on first use, because pytest imports this package in every run,
even one that has nothing to do with a launch plan.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .core.errors import (
    ExternalOutage,
    NothingMeasured,
    ProfileError,
    SafetyViolation,
    SetupError,
    three_lines,
)

if TYPE_CHECKING:
    from .adapter.evidence import Eventually, Evidence
    from .aws import aws_session
    from .core.classify import AwsCause, AwsFailure, aws_failure
    from .profile import Environment, load_environment

__all__ = [
    "AwsCause", "AwsFailure", "Environment", "Eventually", "Evidence", "ExternalOutage", "NothingMeasured",
    "ProfileError", "SafetyViolation", "SetupError", "aws_failure", "aws_session", "load_environment",
    "three_lines",
]  # fmt: skip
_MODULES = {
    ".adapter.evidence": ("Eventually", "Evidence"),
    ".aws": ("aws_session",),
    ".core.classify": ("AwsCause", "AwsFailure", "aws_failure"),
    ".profile": ("Environment", "load_environment"),
}


def __getattr__(name: str) -> object:
    """Import each exported name on first use (PEP 562)."""
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(module, __name__), name)
    return globals()[name]
