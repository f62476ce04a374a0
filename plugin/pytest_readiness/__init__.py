"""pytest-readiness: turn a smoke run into a launch decision with evidence.

The names exported here are the whole Python surface of a suite: the exceptions with which a check says more
than "failed", the types of the fixtures, the environment for a suite's own commands (which run without
pytest), and what its own AWS clients need. All else reaches a suite through markers, fixtures and hooks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .adapter.evidence import Eventually, Evidence
from .core.aws_errors import AwsCause, AwsFailure, aws_failure
from .core.errors import ExternalOutage, NothingMeasured, ProfileError, SafetyViolation, SetupError
from .core.redaction import Redactor
from .profile.environment import Environment, load_profile, load_schema
from .profile.secrets import Vault

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
]


def load_environment(asked: str, directory: Path | None = None) -> Environment:
    """Return what the fixture ``environment`` is in a check: a frozen profile that can resolve its secrets.

    ``asked`` is what ``--env`` takes, a name or a path to a ``.toml``. Names are looked up beside the nearest
    launch plan upwards from ``directory`` (default: the working directory). ProfileError for a profile that
    is unknown, malformed or incomplete. Imports no pytest.
    """
    start = (directory or Path.cwd()).resolve()
    root = next((path for path in (start, *start.parents) if (path / "readiness.toml").is_file()), start)
    profile = load_profile(root, start, asked, load_schema(root))
    profile.check_complete()
    return Environment(profile, Vault(profile, Redactor()))


def aws_session() -> Any:
    """Return a new botocore session for a suite's own clients, without any of an account's settings.

    botocore's descriptions of the services are read once a process, which takes longer than most checks, and
    a runner outside EC2 waits at most a second for an instance's role.
    """
    from .aws import session

    return session()
