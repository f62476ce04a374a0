"""pytest-readiness: turn a smoke run into a launch decision with evidence.

The names exported here are the whole Python surface of a suite: the exceptions with which a check says more
than "failed", the types of the fixtures, the environment for a suite's own commands (which run without
pytest), and what its own AWS clients need. All else reaches a suite through markers, fixtures and hooks.
"""

from __future__ import annotations

from .adapter.evidence import Eventually, Evidence
from .aws import aws_session
from .core.classify import AwsCause, AwsFailure, aws_failure
from .core.errors import (
    ExternalOutage,
    NothingMeasured,
    ProfileError,
    SafetyViolation,
    SetupError,
    three_lines,
)
from .profile.environment import Environment, load_environment

__all__ = [
    "AwsCause",
    "AwsFailure",
    "Environment",
    "Eventually",
    "Evidence",
    "ExternalOutage",
    "NothingMeasured",
    "ProfileError",
    "SafetyViolation",
    "SetupError",
    "aws_failure",
    "aws_session",
    "load_environment",
    "three_lines",
]
