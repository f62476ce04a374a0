"""Whose fault an exception is, decided by names: importing a third-party library is not needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .model import FailureClass

#: Worst first: a group of exceptions is as bad as its worst member.
_RANK = (FailureClass.PLATFORM_BUG, FailureClass.SETUP_ERROR, FailureClass.EXTERNAL_OUTAGE)

_RUNNER_TYPES = frozenset({"socket.gaierror", "_pytest.fixtures.FixtureLookupError"})
#: What libpq and psycopg say of a name that does not resolve; they keep no exception of the resolver.
_RESOLVER_WORDS = ("could not translate host name", "failed to resolve host")


def classify(exc: BaseException) -> FailureClass:
    """Return the class of a failure from its chain of exceptions; what proves nothing else is PLATFORM_BUG.

    The first exception of the chain with a class decides: by its ``failure_class`` where it carries one,
    those of the resolver, of botocore and of pytest (an unknown fixture) by type and error code. A plain
    assertion is about the platform, so that whatever happened to be handled when it was raised does not
    excuse it; only an explicit ``from`` does.
    """
    for link in _chain(exc):
        found = _class_of(link)
        if found is not None:
            return found
    return FailureClass.PLATFORM_BUG


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        # `from None` is no reason to stop: httpcore hides the resolver's error behind it.
        link = link.__cause__ or (None if isinstance(link, AssertionError) else link.__context__)


def _class_of(exc: BaseException) -> FailureClass | None:
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
    return any(words in message for words in _RESOLVER_WORDS)


class AwsCause(StrEnum):
    """What an AWS error shows. OTHER depends on what was asked: a name that does not exist, for example."""

    OUTAGE = "outage"
    DENIED = "denied"
    CREDENTIALS = "credentials"
    NO_CREDENTIALS = "no credentials"
    CLOCK = "clock"
    NO_REGION = "no region"
    NO_ANSWER = "no answer"
    OTHER = "other"


#: Beginnings of the error codes that the services answer with; the first cause that matches decides.
_CODES: Mapping[AwsCause, tuple[str, ...]] = {
    AwsCause.OUTAGE: (
        "Throttl",
        "TooManyRequests",
        "RequestLimitExceeded",
        "RequestThrottled",
        "LimitExceededException",
        "SlowDown",
        "ServiceUnavailable",
        "ServerException",
        "InternalFailure",
        "InternalError",
        "InternalServer",
        "InternalService",
    ),
    AwsCause.DENIED: (
        "AccessDenied",
        "UnauthorizedOperation",
        "NotAuthorized",
        "UnauthorizedAccess",
        "AuthorizationError",
        "DecryptionFailure",
    ),
    AwsCause.CREDENTIALS: (
        "AuthFailure",
        "ExpiredToken",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignature",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClient",
    ),
    AwsCause.CLOCK: ("RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"),
}
#: Exceptions of botocore that no service answered, with all that derive from them.
_KINDS: Mapping[AwsCause, frozenset[str]] = {
    AwsCause.NO_CREDENTIALS: frozenset(
        {
            "NoCredentialsError",
            "PartialCredentialsError",
            "CredentialRetrievalError",
            "TokenRetrievalError",
            "SSOError",
            "LoginError",
            "ProfileNotFound",
            "ConfigNotFound",
            "ConfigParseError",
        }
    ),
    AwsCause.NO_REGION: frozenset({"NoRegionError", "InvalidRegionError"}),
    AwsCause.NO_ANSWER: frozenset({"ConnectionError", "HTTPClientError"}),
}


@dataclass(frozen=True, slots=True)
class AwsFailure:
    """What an AWS error shows; ``code`` is the service's error code, or the name of botocore's exception."""

    cause: AwsCause
    code: str
    message: str = ""

    @property
    def failure_class(self) -> FailureClass | None:
        """EXTERNAL_OUTAGE needs a signal that AWS gave, the rest is the runner's; None where it is open."""
        if self.cause is AwsCause.OTHER:
            return None
        return FailureClass.EXTERNAL_OUTAGE if self.cause is AwsCause.OUTAGE else FailureClass.SETUP_ERROR


def aws_failure(error: BaseException) -> AwsFailure | None:
    """Return what an exception of botocore or boto3 shows; None for any other exception."""
    names = {kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "botocore.exceptions"}
    if "ClientError" in names:
        return _answered(getattr(error, "response", None))
    if not names:
        return None
    cause = next((cause for cause, kinds in _KINDS.items() if kinds & names), AwsCause.OTHER)
    return AwsFailure(cause, type(error).__name__, str(error))


def _answered(response: Any) -> AwsFailure:
    answer = response if isinstance(response, Mapping) else {}
    error = answer.get("Error", {})
    code, status = str(error.get("Code", "")), answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    cause = next((cause for cause, codes in _CODES.items() if code.startswith(codes)), AwsCause.OTHER)
    if isinstance(status, int) and status >= 500:
        cause = AwsCause.OUTAGE
    return AwsFailure(cause, code, str(error.get("Message", "")))
