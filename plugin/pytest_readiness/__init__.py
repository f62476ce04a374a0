"""pytest-readiness: turn a smoke run into a launch decision with evidence.

The names exported here are the whole Python surface that a suite may import: the exceptions with which a
check says more than "failed", the environment for a suite's own commands, which run without pytest, and the
session for its own AWS clients.
Everything else reaches a suite through markers, fixtures and hooks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core.errors import ProfileError

if TYPE_CHECKING:
    from .adapter.environment import Environment

__all__ = [
    "ExternalOutage",
    "NothingMeasured",
    "ProfileError",
    "SafetyViolation",
    "SetupError",
    "aws_session",
    "load_environment",
]


class SafetyViolation(AssertionError):
    """A safety property was seen broken: proof at the first time, so it is never rerun.

    For example a refused token that was accepted, money that was not conserved, an answer for another tenant.
    """

    failure_class = "PLATFORM_BUG"


class ExternalOutage(AssertionError):
    """A third party is down, proved by a signal that it or the platform named; never guessed from a count."""

    failure_class = "EXTERNAL_OUTAGE"


class SetupError(RuntimeError):
    """The runner's side is at fault: a key, a credential, a permission, a name that its resolver does not
    know.
    """

    failure_class = "SETUP_ERROR"


class NothingMeasured(SetupError):
    """A check ended without having measured anything: it proves nothing about the platform, neither way."""


def load_environment(asked: str, directory: Path | None = None) -> Environment:
    """Return what the fixture ``environment`` is in a check: a frozen profile that can resolve its secrets.

    ``asked`` is what ``--env`` takes, a name or a path to a ``.toml``. Names are looked up beside the nearest
    launch plan upwards from ``directory`` (default: the working directory). ProfileError for a profile that
    is unknown, malformed or incomplete. Imports no pytest.
    """
    from .adapter.environment import Environment, load_profile, load_schema
    from .adapter.secrets import Vault
    from .core.redaction import Redactor

    start = (directory or Path.cwd()).resolve()
    root = next((path for path in (start, *start.parents) if (path / "readiness.toml").is_file()), start)
    profile = load_profile(root, start, asked, load_schema(root))
    profile.check_complete()
    return Environment(profile, Vault(profile, Redactor()))


def aws_session() -> Any:
    """Return a new botocore session for a suite's own clients, without any of an account's settings.

    botocore's descriptions of the services are read once a process, which takes longer than most checks, and
    a runner that is no EC2 instance is not asked for its role for longer than a second.
    """
    from .aws import session

    return session()
