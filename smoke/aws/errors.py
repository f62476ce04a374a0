"""Error mapping: whether AWS itself is down or the runner's setup is at fault, and what to do about it."""

import re
from dataclasses import dataclass

from pytest_readiness import AwsCause, AwsFailure, ExternalOutage, SetupError, aws_failure

POLICY = "docs/iam-policy.json"
#: IAM's prefix of an action where it is not the client's name.
_PREFIXES = {"elbv2": "elasticloadbalancing"}
#: What a service that encrypts asks KMS for in the caller's name; its refusal names no action.
_KMS = "kms:Decrypt and kms:GenerateDataKey on the key that it is encrypted with"
_ACTION = re.compile(r"not authorized to perform: ([a-z0-9-]+:\w+)")
#: What keeps AWS itself from answering, and what to do about it.
_OUTAGE = {
    AwsCause.OUTAGE: (
        "AWS answers {asked} with {code}: inconclusive",
        "run the suite again when AWS has recovered (https://health.aws.amazon.com)",
    ),
    AwsCause.THROTTLED: (
        "AWS throttles {asked} ({code}): inconclusive",
        "run the suite again when fewer callers share the account's limit, or have the limit raised",
    ),
}
#: What is wrong on the runner, and what to do about it.
_SETUP = {
    AwsCause.DENIED: (
        "this runner may not {action} in {place} ({code})",
        f"grant it {{action}}; {POLICY} lists all that the suite needs",
    ),
    AwsCause.CREDENTIALS: (
        "{asked}: AWS does not accept this runner's credentials ({code})",
        "renew them (`aws sso login`), and check that they are of the right account",
    ),
    AwsCause.UNKNOWN_KEY: (
        "{asked}: this runner's credentials are unknown there ({code})",
        "renew them (`aws sso login`); their account and partition (aws, aws-cn, …) must have aws.region",
    ),
    AwsCause.CLOCK: (
        "{asked}: AWS finds this runner's clock wrong ({code})",
        "set the clock: `timedatectl` shows whether it is synchronised",
    ),
    AwsCause.NO_CREDENTIALS: (
        "{asked}: no usable AWS credentials on this runner ({code})",
        "log in (`aws sso login`), or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    AwsCause.NO_REGION: ("{asked}: {message}", "set aws.region of the profile to a region"),
    AwsCause.WRONG_REGION: (
        "{asked}: this region does not serve the request ({code}: {message})",
        "correct aws.region and aws.endpoint_url of the profile, or enable the region for the account",
    ),
    AwsCause.NO_ANSWER: (
        "{asked}: no answer from AWS ({code})",
        "check this runner's network and proxy, and aws.region and aws.endpoint_url of the profile",
    ),
}
#: Every other call would meet the same.
_EVERYWHERE = set(_SETUP) - {AwsCause.DENIED}


@dataclass(frozen=True, slots=True)
class AwsCall:
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
class AwsError:
    """What to raise. `everywhere`: every other call would meet the same. `passing`: it may be over soon."""

    kind: type[Exception]
    message: str
    everywhere: bool = False
    passing: bool = False

    def exception(self) -> Exception:
        """A fresh exception: one that is raised twice would carry two tracebacks."""
        return self.kind(self.message)


def code_of(problem: Exception) -> str:
    """The error code of what AWS answered; empty for everything else."""
    failure = aws_failure(problem)
    return failure.code if failure and isinstance(getattr(problem, "response", None), dict) else ""


def explain(problem: Exception, call: AwsCall) -> AwsError:
    """What an exception of botocore means.

    ExternalOutage needs a signal that AWS itself gave: a throttle or a 5xx. All else is the runner's: it says
    which permission, credential or setting to correct, and nothing of the platform.
    """
    failure = aws_failure(problem) or AwsFailure(AwsCause.OTHER, type(problem).__name__, str(problem))
    asked, place = f"{call.permission} in {call.place}", call.place
    if failure.cause in _OUTAGE:
        what, step = _OUTAGE[failure.cause]
        text = f"{what}\n  next: {step}".format(asked=asked, code=failure.code)
        return AwsError(ExternalOutage, text, passing=True)
    action = _denied(failure, call)
    settings = "aws.region and aws.prefix of the profile" if code_of(problem) else "[aws] of the profile"
    what, step = _SETUP.get(failure.cause, ("{asked}: {code}: {message}", "check {settings}"))
    facts = {"asked": asked, "place": place, "code": failure.code, "message": failure.message}
    text = f"{what}\n  next: {step}".format(**facts, action=action, settings=settings)
    return AwsError(SetupError, text, everywhere=failure.cause in _EVERYWHERE)


def _denied(failure: AwsFailure, call: AwsCall) -> str:
    """The action to grant: the one that AWS names, else the one that the call implies."""
    named = _ACTION.search(failure.message)
    if named:
        return named.group(1)
    return _KMS if "KMS" in failure.message or "Decrypt" in failure.code else call.permission
