"""What stands between the suite and AWS, told apart: the runner's setup, or AWS itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_readiness import ExternalOutage, SetupError

POLICY = "docs/iam-policy.json"
#: IAM's prefix of an action where it is not the client's name.
_PREFIXES = {"elbv2": "elasticloadbalancing"}
_DENIED = (
    "AccessDenied",
    "UnauthorizedOperation",
    "NotAuthorized",
    "UnauthorizedAccess",
    "AuthorizationError",
)
_CREDENTIALS = (
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
)
_CLOCK = ("RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed")
_OUTAGE = (
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
)
_NO_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "SSOError",
    "LoginError",
    "ProfileNotFound",
    "ConfigNotFound",
    "ConfigParseError",
)
_NO_REGION = ("NoRegionError", "InvalidRegionError")
_NO_ANSWER = ("ConnectionError", "HTTPClientError")
#: What a service that encrypts asks KMS for in the caller's name; its refusal names no action.
_KMS = "kms:Decrypt and kms:GenerateDataKey on the key that it is encrypted with"
_ACTION = re.compile(r"not authorized to perform: ([a-z0-9-]+:\w+)")


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the client's name, the operation, and where it went."""

    client: str
    operation: str
    region: str
    endpoint: str = ""

    @property
    def permission(self) -> str:
        """The IAM action that it takes, such as `ecs:DescribeServices`."""
        return f"{_PREFIXES.get(self.client, self.client)}:{self.operation}"

    @property
    def place(self) -> str:
        """Region, and the endpoint where it is not AWS's own."""
        return f"{self.region or 'no region'} at {self.endpoint}" if self.endpoint else self.region


@dataclass(frozen=True, slots=True)
class Trouble:
    """What to raise. `everywhere`: every other call would meet the same. `passing`: it may be over soon."""

    kind: type[Exception]
    message: str
    everywhere: bool = False
    passing: bool = False

    def problem(self) -> Exception:
        """A fresh exception: one that is raised twice would carry two tracebacks."""
        return self.kind(self.message)


def code_of(problem: Exception) -> str:
    """The error code of what AWS answered; empty for everything else."""
    response = getattr(problem, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def trouble(problem: Exception, call: Call) -> Trouble:
    """What an exception of botocore means.

    ExternalOutage needs a signal that AWS itself gave: a throttle or a 5xx. All else is the runner's: it says
    which permission, credential or setting to correct, and nothing of the platform.
    """
    code = code_of(problem)
    if code:
        return _answered(code, problem, call)
    name = type(problem).__name__
    kinds = {kind.__name__ for kind in type(problem).__mro__}
    if kinds.intersection(_NO_CREDENTIALS):
        return _setup(
            f"{call.permission}: no usable AWS credentials on this runner ({name})",
            "log in (`aws sso login`), or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            everywhere=True,
        )
    if kinds.intersection(_NO_REGION):
        return _setup(
            f"{call.permission}: {problem}", "set aws.region of the profile to a region", everywhere=True
        )
    if kinds.intersection(_NO_ANSWER):
        return _setup(
            f"{call.permission}: no answer from AWS in {call.place} ({name})",
            "check this runner's network and proxy, and aws.region and aws.endpoint_url of the profile",
            everywhere=True,
        )
    return _setup(f"{call.permission} in {call.place}: {name}: {problem}", "check [aws] of the profile")


def _answered(code: str, problem: Exception, call: Call) -> Trouble:
    response = problem.response  # type: ignore[attr-defined]  # there is a code
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = str(response["Error"].get("Message", ""))
    if code.startswith(_OUTAGE) or status >= 500:
        told = f"AWS answers {call.permission} in {call.place} with {code}: nothing was concluded"
        return Trouble(ExternalOutage, told, passing=True)
    if code.startswith((*_DENIED, "DecryptionFailure")):
        named = _ACTION.search(message)
        implied = _KMS if "KMS" in message or "Decrypt" in code else call.permission
        action = named.group(1) if named else implied
        return _setup(
            f"this runner may not {action} in {call.place} ({code})",
            f"grant it {action}; {POLICY} lists all that the suite needs",
        )
    if code.startswith(_CREDENTIALS):
        return _setup(
            f"{call.permission} in {call.place}: AWS does not accept this runner's credentials ({code})",
            "renew them (`aws sso login`), and check that they are of the right account",
            everywhere=True,
        )
    if code.startswith(_CLOCK):
        return _setup(
            f"{call.permission}: AWS finds this runner's clock wrong ({code})",
            "set the clock",
            everywhere=True,
        )
    return _setup(
        f"{call.permission} in {call.place}: {code}: {message}",
        "check aws.region and aws.prefix of the profile",
    )


def _setup(what: str, action: str, *, everywhere: bool = False) -> Trouble:
    return Trouble(SetupError, f"{what}\n  next: {action}", everywhere=everywhere)
