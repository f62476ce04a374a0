"""What stops a key command, told in three lines: what and where, what is allowed, what to do next."""

from __future__ import annotations

from pytest_readiness import SetupError


def told(what: str, *, where: str = "", allowed: str = "", action: str = "") -> str:
    """The message of at most three lines."""
    lines = [f"{where}: {what}" if where else what]
    lines += [f"  allowed: {allowed}"] if allowed else []
    lines += [f"  next: {action}"] if action else []
    return "\n".join(lines)


class KeyFault(AssertionError):
    """The platform is at fault: a secret without a usable key, a service that does not follow its secret."""

    def __init__(self, what: str, *, where: str = "", allowed: str = "", action: str = "") -> None:
        super().__init__(told(what, where=where, allowed=allowed, action=action))


class MissingSecret(KeyFault):
    """The secret does not exist at all, which is something else than holding no key."""


class MissingVersion(KeyFault):
    """The secret has no version under the label that was asked for."""


class Refused(SetupError):
    """The command was not carried out, nothing was changed: bad input, a protected environment, a lock."""

    def __init__(self, what: str, *, where: str = "", allowed: str = "", action: str = "") -> None:
        super().__init__(told(what, where=where, allowed=allowed, action=action))


class LockHeld(Refused):
    """Another run holds the lock of this secret."""


class Unproved(SetupError):
    """What this runner cannot see, so that neither good nor bad can be said of it."""

    def __init__(self, what: str, *, where: str = "", allowed: str = "", action: str = "") -> None:
        super().__init__(told(what, where=where, allowed=allowed, action=action))


class Conflict(Exception):
    """A staging label was not where it was expected: somebody else moved it first."""


class WriteForbidden(AssertionError):
    """A dry run was about to write: the program is wrong, and nothing was sent."""
