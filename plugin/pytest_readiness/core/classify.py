"""Whose fault an exception is, told by names alone: no third-party library is imported to find out."""

from __future__ import annotations

from collections.abc import Iterator

from .aws_errors import aws_failure
from .model import FailureClass

#: Worst first: a group of exceptions is as bad as its worst member.
_RANK = (FailureClass.PLATFORM_BUG, FailureClass.SETUP_ERROR, FailureClass.EXTERNAL_OUTAGE)

_RUNNER_TYPES = frozenset({"socket.gaierror", "_pytest.fixtures.FixtureLookupError"})
#: What libpq and psycopg say of a name that does not resolve; they keep no exception of the resolver.
_RESOLVER_TELLS = ("could not translate host name", "failed to resolve host")


def classify(exc: BaseException) -> FailureClass:
    """Return the class of a failure from its chain of exceptions; what proves nothing else is PLATFORM_BUG.

    The first exception of the chain that tells decides: one that carries ``failure_class`` tells directly,
    those of the resolver, of botocore and of pytest (an unknown fixture) by type and error code. A plain
    assertion speaks of the platform, so that whatever happened to be handled when it was raised does not
    excuse it; only an explicit ``from`` does.
    """
    for link in _chain(exc):
        told = _tell(link)
        if told is not None:
            return told
    return FailureClass.PLATFORM_BUG


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        # `from None` is no reason to stop: httpcore hides the resolver's error behind it.
        link = link.__cause__ or (None if isinstance(link, AssertionError) else link.__context__)


def _tell(exc: BaseException) -> FailureClass | None:
    if isinstance(exc, BaseExceptionGroup):
        members = {classify(member) for member in exc.exceptions}
        return next(rank for rank in _RANK if rank in members)
    declared = getattr(exc, "failure_class", None)
    if isinstance(declared, str) and declared in FailureClass.__members__:
        return FailureClass(declared)
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(exc).__mro__}
    if names & _RUNNER_TYPES:
        return FailureClass.SETUP_ERROR
    if (aws := aws_failure(exc)) is not None:
        return aws.failure_class
    if any(name.endswith(".OperationalError") for name in names) and _names_resolver(str(exc)):
        return FailureClass.SETUP_ERROR
    return None


def _names_resolver(message: str) -> bool:
    return any(tell in message for tell in _RESOLVER_TELLS)
