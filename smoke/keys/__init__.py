"""The life of the platform's signing keys: bootstrap, rotation and emergency revocation.

A library that the drills of phase operations drive, and the commands of `python -m smoke.keys`. What stops a
command is defined here: in three lines, what and where, what is allowed, what to do next.
"""

from pytest_readiness import SetupError


def three_lines(what: str, *, where: str = "", allowed: str = "", action: str = "") -> str:
    """The message of at most three lines."""
    lines = [f"{where}: {what}" if where else what]
    lines += [f"  allowed: {allowed}"] if allowed else []
    lines += [f"  next: {action}"] if action else []
    return "\n".join(lines)


class _ThreeLines(Exception):
    def __init__(self, what: str, *, where: str = "", allowed: str = "", action: str = "") -> None:
        super().__init__(three_lines(what, where=where, allowed=allowed, action=action))


class KeyFault(_ThreeLines, AssertionError):
    """The platform is at fault: a secret without a usable key, a service that does not follow its secret."""


class MissingSecret(KeyFault):
    """The secret does not exist, as opposed to one that holds no key."""


class MissingVersion(KeyFault):
    """The secret has no version under the requested label."""


class CommandRefused(_ThreeLines, SetupError):
    """The command was not carried out, nothing was changed: bad input, a protected environment, a lock."""


class LockHeld(CommandRefused):
    """Another run holds the lock of this secret."""


class Unproved(_ThreeLines, SetupError):
    """What this runner cannot observe, so that nothing can be concluded."""


class Conflict(Exception):
    """A staging label was not where it was expected: another process moved it first."""


class WriteForbidden(AssertionError):
    """A dry run tried to write: the program is wrong, and nothing was sent."""
