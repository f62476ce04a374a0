"""Errors that a person can act on, and exceptions with which a check says more than "failed"."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from .formats import printable

#: The default next action for a bad value.
CORRECT = "correct it and run again"
#: What to do about an error of the file system, if that is not to correct permissions.
_REMEDIES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or raise the quota",
    errno.EFBIG: "raise the limit of this process for the size of a file (ulimit -f)",
}


def remedy(problem: OSError, otherwise: str = "correct the permissions there") -> str:
    """Return what a person can do about a file that cannot be written."""
    return _REMEDIES.get(problem.errno or 0, otherwise)


def three_lines(what: str, *, where: str = "", allowed: str = "", action: str = "") -> str:
    """Return an error for people: what was wrong and where, what is allowed, what to do next."""
    lines = [f"{where}: {what}" if where else what]
    lines += [f"  {name}: {text}" for name, text in (("allowed", allowed), ("next", action)) if text]
    # Names and values from a file can hold line breaks of their own.
    return printable("\n".join(" ".join(line.splitlines()) for line in lines))


class ReadinessError(Exception):
    """Bad input or an unusable resource, explained in at most three lines.

    ``what`` is the fault, ``where`` its place (file and key), ``allowed`` the legal values, ``action`` the
    next step. Raised inside a check, it counts as the runner's fault, not the platform's.
    """

    failure_class = "SETUP_ERROR"

    def __init__(self, what: str, *, where: str = "", allowed: str = "", action: str = "") -> None:
        self.what, self.where, self.allowed, self.action = what, where, allowed, action
        super().__init__(three_lines(what, where=where, allowed=allowed, action=action))


def together(mistakes: Sequence[ReadinessError]) -> ReadinessError:
    """Return one error that lists all of these, one per line; a single error is returned unchanged.

    It names a next step if this is the same for all, and more than correcting them.
    """
    first, *others = {str(mistake): mistake for mistake in mistakes}.values()
    if not others:
        return first
    texts = [
        f"{each.where}: {each.what}" + (f" (allowed: {each.allowed})" if each.allowed else "")
        for each in (first, *others)
    ]
    lines = [printable(" ".join(text.splitlines())) for text in texts]
    advice = [f"correct these {len(lines)} mistakes"]
    if first.action not in ("", CORRECT) and all(each.action == first.action for each in others):
        advice.append(printable(first.action))
    combined = type(first)(first.what, where=first.where)
    combined.args = ("\n".join([*lines, f"  next: {': '.join(advice)}"]),)
    return combined


class PlanError(ReadinessError):
    """The launch plan (readiness.toml) is malformed."""


class ProfileError(ReadinessError):
    """An environment profile or its schema is malformed or incomplete."""


class LedgerError(ReadinessError):
    """The ledger cannot be read, is damaged, or its chain is broken."""


class SafetyViolation(AssertionError):
    """A safety property was violated. Once is proof, so the check is never rerun.

    For example a refused token that was accepted, money that was not conserved, an answer for another tenant.
    ``breaks`` names the service and the broken rule ("the api: tokens expire"): all checks that fail with the
    same text are one cause. Any other exception of a check may also have this attribute.
    """

    failure_class = "PLATFORM_BUG"

    def __init__(self, *text: object, breaks: str = "") -> None:
        super().__init__(*text)
        self.breaks = breaks


class ExternalOutage(AssertionError):
    """A third party is down, proved by a signal from it or from the platform; never guessed from a count."""

    failure_class = "EXTERNAL_OUTAGE"


class SetupError(RuntimeError):
    """The runner is at fault: a missing key, credential or permission, or a name that it cannot resolve."""

    failure_class = "SETUP_ERROR"


class NothingMeasured(RuntimeError):
    """A check recorded no measurement: it proves nothing about the platform."""

    failure_class = "CHECK_ERROR"
