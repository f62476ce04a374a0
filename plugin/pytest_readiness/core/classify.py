"""Decides who is at fault for an exception, by names, without importing third-party libraries."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .errors import SafetyViolation
from .formats import text_of
from .model import FailureClass
from .network import chain, frames, is_database, is_of_the_runner, is_passing_trouble, is_transport

#: Classes that an exception or a hook may name, worst first: the worst decides for a group of exceptions.
#: FLAKE is observed on a rerun and never declared.
DECLARED = (
    FailureClass.PLATFORM_BUG,
    FailureClass.CHECK_ERROR,
    FailureClass.SETUP_ERROR,
    FailureClass.EXTERNAL_OUTAGE,
)

#: ``pytest.fail``, and functions that call it for a check: ``pytest.raises`` and ``pytest.warns``.
_FAIL = ("_pytest.outcomes", "_pytest.raises", "_pytest.recwarn")
#: Directories of libraries: their assertions are about themselves.
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
#: Modules of libraries that assert for their callers: unittest, numpy.testing, hamcrest, playwright's expect.
_ASSERTS = re.compile(r"assert|expect|test|hamcrest", re.IGNORECASE)


def classify(exc: BaseException) -> FailureClass:
    """Return the class of a failure from its chain of exceptions.

    PLATFORM_BUG needs proof: an assertion, an exception that declares it, or a failure of the transport that
    is not the runner's fault. The first exception of the chain with a class decides: by its ``failure_class``
    if it has one, by type and error code if its library is known. Everything else is CHECK_ERROR: the check's
    own code did not handle it.
    """
    suspect = False
    for link in chain(exc):
        found = _class_of(link)
        if found is not None:
            return found
        suspect = suspect or _claims(link) or is_transport(link) or is_database(link)
    return FailureClass.PLATFORM_BUG if suspect else FailureClass.CHECK_ERROR


def is_passing(exc: BaseException) -> bool:
    """Tell whether a failure may be transient: transport errors only."""
    if isinstance(exc, BaseExceptionGroup):
        return all(map(is_passing, exc.exceptions))
    if classify(exc) in (FailureClass.SETUP_ERROR, FailureClass.CHECK_ERROR):
        return False
    return any(is_passing_trouble(link) or is_database(link) for link in chain(exc))


def worst(failures: Sequence[BaseException]) -> BaseException:
    """Return the failure that decides among several: a safety violation, else by class, else the first."""

    def rank(failure: BaseException) -> tuple[bool, int]:
        return not isinstance(failure, SafetyViolation), DECLARED.index(classify(failure))

    return min(failures, key=rank)


def place_of(exc: BaseException, root: str) -> str:
    """Return file and line in the project at ``root`` that raised an exception or called what did, or ""."""
    found = ""
    for module, path, line in frames(exc):
        own = path.startswith(f"{root}/") and not _is_library(path)
        if own and not module.startswith("pytest_readiness"):
            found = f"{path.removeprefix(f'{root}/')}:{line}"
    if not found and isinstance(exc, BaseExceptionGroup):
        return next(filter(None, (place_of(member, root) for member in exc.exceptions)), "")
    return found


def failure_of(exc: BaseException, root: str) -> str:
    """Return in one line the exception that a hook of the project at ``root`` raised, and where."""
    said = " ".join(text_of(exc).split())
    place = place_of(exc, root)
    return ": ".join(filter(None, (type(exc).__name__, said))) + (f" ({place})" if place else "")


def _class_of(exc: BaseException) -> FailureClass | None:
    if isinstance(exc, BaseExceptionGroup):
        members = {classify(member) for member in exc.exceptions}
        return next(rank for rank in DECLARED if rank in members)
    declared = _declared(exc)
    if declared is not None:
        return declared
    if is_of_the_runner(exc):
        return FailureClass.SETUP_ERROR
    if (aws := aws_failure(exc)) is not None:
        return aws.failure_class or FailureClass.CHECK_ERROR
    return None


def _declared(exc: BaseException) -> FailureClass | None:
    try:
        named = getattr(exc, "failure_class", None)
    except Exception:
        return None
    return FailureClass(named) if isinstance(named, str) and named in DECLARED else None


def _claims(exc: BaseException) -> bool:
    """Tell whether an exception asserts something about the platform, by its type and by who raised it."""
    if isinstance(exc, AssertionError):
        return type(exc) is not AssertionError or not _is_of_a_library(exc)
    if type(exc).__name__ != "Failed":
        return False
    callers = [module for module, _, _ in frames(exc) if not module.startswith(_FAIL)]
    # pytest itself fails tests that it cannot run, such as a coroutine without a plugin for it
    return bool(callers) and not callers[-1].startswith(("_pytest.", "pytest_timeout"))


def _is_of_a_library(exc: BaseException) -> bool:
    raised = [*frames(exc)][-1:]
    return any(
        _is_library(path) and (module.startswith("_pytest.") or not _ASSERTS.search(module))
        for module, path, _ in raised
    )


def _is_library(path: str) -> bool:
    return path.startswith(("<frozen", *_LIBRARIES)) or "site-packages" in path


class AwsCause(StrEnum):
    """The cause of an AWS error. OTHER depends on the request, such as a name that does not exist."""

    OUTAGE = "outage"
    THROTTLED = "throttled"
    DENIED = "denied"
    CREDENTIALS = "credentials"
    NO_CREDENTIALS = "no credentials"
    UNKNOWN_KEY = "unknown key"
    CLOCK = "clock"
    NO_REGION = "no region"
    WRONG_REGION = "wrong region"
    NO_ANSWER = "no answer"
    OTHER = "other"


#: Prefixes of the services' error codes; the first cause that matches decides.
_CODES: Mapping[AwsCause, tuple[str, ...]] = {
    AwsCause.THROTTLED: (
        "Throttl", "TooManyRequests", "RequestLimitExceeded", "RequestThrottled", "LimitExceededException",
        "SlowDown",
    ),
    AwsCause.OUTAGE: (
        "ServiceUnavailable", "ServerException", "InternalFailure", "InternalError", "InternalServer",
        "InternalService",
    ),
    AwsCause.DENIED: (
        "AccessDenied", "UnauthorizedOperation", "NotAuthorized", "UnauthorizedAccess", "AuthorizationError",
        "DecryptionFailure",
    ),
    AwsCause.CREDENTIALS: (
        "AuthFailure", "ExpiredToken", "IncompleteSignature", "InvalidSecurity", "InvalidSignature",
        "MissingAuthenticationToken", "SignatureDoesNotMatch", "TokenRefreshRequired",
    ),
    AwsCause.UNKNOWN_KEY: ("InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClient"),
    AwsCause.CLOCK: ("RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"),
    AwsCause.WRONG_REGION: ("AuthorizationHeaderMalformed", "OptInRequired", "PermanentRedirect"),
}  # fmt: skip
#: Causes recognised by the message, because one code has several: a wrong signature, for example.
_MESSAGES: Mapping[AwsCause, re.Pattern[str]] = {
    AwsCause.CLOCK: re.compile(r"[Ss]ignature (?:has )?expired|[Ss]ignature not yet current"),
    AwsCause.WRONG_REGION: re.compile(r"scoped to a valid region|scoped to correct region"),
}
#: botocore's own exceptions without an answer of a service, including derived ones.
_KINDS: Mapping[AwsCause, frozenset[str]] = {
    AwsCause.NO_CREDENTIALS: frozenset(
        {
            "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
            "TokenRetrievalError", "SSOError", "LoginError", "ProfileNotFound", "ConfigNotFound",
            "ConfigParseError",
        }
    ),
    AwsCause.NO_REGION: frozenset({"NoRegionError", "InvalidRegionError"}),
    AwsCause.WRONG_REGION: frozenset({"UnknownRegionError", "UnknownEndpointError", "EndpointProviderError"}),
    AwsCause.NO_ANSWER: frozenset({"ConnectionError", "HTTPClientError"}),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AwsFailure:
    """The cause of an AWS error; ``code`` is the service's error code, or botocore's exception."""

    cause: AwsCause
    code: str
    message: str = ""

    @property
    def failure_class(self) -> FailureClass | None:
        """EXTERNAL_OUTAGE if AWS said so, else SETUP_ERROR; None if it depends on the request."""
        if self.cause is AwsCause.OTHER:
            return None
        outage = self.cause in (AwsCause.OUTAGE, AwsCause.THROTTLED)
        return FailureClass.EXTERNAL_OUTAGE if outage else FailureClass.SETUP_ERROR


def aws_failure(error: BaseException) -> AwsFailure | None:
    """Return the cause of a botocore or boto3 exception; None for any other exception."""
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
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    cause = next((cause for cause, codes in _CODES.items() if code.startswith(codes)), AwsCause.OTHER)
    cause = next((said for said, text in _MESSAGES.items() if text.search(message)), cause)
    if isinstance(status, int) and status >= 500 and cause is not AwsCause.THROTTLED:
        cause = AwsCause.OUTAGE
    return AwsFailure(cause, code, message)
