"""What stands between the suite and AWS, told apart: the runner's setup, or AWS itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_readiness import AwsCause, AwsFailure, ExternalOutage, SetupError, aws_failure

POLICY = "docs/iam-policy.json"
#: IAM's prefix of an action where it is not the client's name.
_PREFIXES = {"elbv2": "elasticloadbalancing"}
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


def explain(problem: Exception, call: Call) -> AwsError:
    """What an exception of botocore means.

    ExternalOutage needs a signal that AWS itself gave: a throttle or a 5xx. All else is the runner's: it says
    which permission, credential or setting to correct, and nothing of the platform.
    """
    failure = aws_failure(problem) or AwsFailure(AwsCause.OTHER, type(problem).__name__, str(problem))
    code, asked = failure.code, f"{call.permission} in {call.place}"
    match failure.cause:
        case AwsCause.OUTAGE:
            return AwsError(
                ExternalOutage, f"AWS answers {asked} with {code}: nothing was concluded", passing=True
            )
        case AwsCause.DENIED:
            action = _denied(failure, call)
            return _setup(
                f"this runner may not {action} in {call.place} ({code})",
                f"grant it {action}; {POLICY} lists all that the suite needs",
            )
        case AwsCause.CREDENTIALS:
            return _setup(
                f"{asked}: AWS does not accept this runner's credentials ({code})",
                "renew them (`aws sso login`), and check that they are of the right account",
                everywhere=True,
            )
        case AwsCause.CLOCK:
            return _setup(
                f"{call.permission}: AWS finds this runner's clock wrong ({code})",
                "set the clock",
                everywhere=True,
            )
        case AwsCause.NO_CREDENTIALS:
            return _setup(
                f"{call.permission}: no usable AWS credentials on this runner ({code})",
                "log in (`aws sso login`), or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                everywhere=True,
            )
        case AwsCause.NO_REGION:
            return _setup(
                f"{call.permission}: {failure.message}",
                "set aws.region of the profile to a region",
                everywhere=True,
            )
        case AwsCause.NO_ANSWER:
            return _setup(
                f"{call.permission}: no answer from AWS in {call.place} ({code})",
                "check this runner's network and proxy, and aws.region and aws.endpoint_url of the profile",
                everywhere=True,
            )
    settings = "aws.region and aws.prefix of the profile" if code_of(problem) else "[aws] of the profile"
    return _setup(f"{asked}: {code}: {failure.message}", f"check {settings}")


def _denied(failure: AwsFailure, call: Call) -> str:
    """The action to grant: the one that AWS names, else the one that the call implies."""
    named = _ACTION.search(failure.message)
    if named:
        return named.group(1)
    return _KMS if "KMS" in failure.message or "Decrypt" in failure.code else call.permission


def _setup(what: str, action: str, *, everywhere: bool = False) -> AwsError:
    return AwsError(SetupError, f"{what}\n  next: {action}", everywhere=everywhere)
