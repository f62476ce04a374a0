"""Whose fault an AWS error is: one table, told by names, without importing botocore."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .model import FailureClass


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
    told = answer.get("Error", {})
    code, status = str(told.get("Code", "")), answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    cause = next((cause for cause, codes in _CODES.items() if code.startswith(codes)), AwsCause.OTHER)
    if isinstance(status, int) and status >= 500:
        cause = AwsCause.OUTAGE
    return AwsFailure(cause, code, str(told.get("Message", "")))
