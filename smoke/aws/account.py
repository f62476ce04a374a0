"""The AWS account of the profile: clients, calls, and whether a refusal is an outage or a setup problem.

botocore limits only each single read, and takes a body of any length. So its requests are sent like all
others of the suite: within a total time and a limit of bytes.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pytest_readiness import (
    AwsCause,
    AwsFailure,
    Environment,
    ExternalOutage,
    SetupError,
    aws_failure,
    aws_session,
)

from smoke.network.connections import NotStrict, strict_json, trusting
from smoke.network.transport import ContractViolation, failed_in_handshake, http_pool

POLICY = "docs/iam-policy.json"
#: IAM's prefix of an action if it differs from the client's name.
_PREFIXES = {"efs": "elasticfilesystem", "elbv2": "elasticloadbalancing"}
#: IAM's name of an action if it differs from the operation's.
_ACTIONS = {"ListObjectsV2": "ListBucket"}
#: KMS permissions that an encrypting service uses on the caller's behalf; its refusal does not name them.
_KMS = "kms:Decrypt and kms:GenerateDataKey on the key that it is encrypted with"
_ACTION = re.compile(r"not authorized to perform: ([a-z0-9-]+:\w+)")
#: Outages of AWS itself, and what to do about them.
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
#: Problems of the runner, and what to do about them.
_SETUP = {
    AwsCause.DENIED: (
        "this runner may not {action} in {place} ({code})",
        f"grant it {{action}}; {POLICY} lists all that the suite needs",
    ),
    AwsCause.CREDENTIALS: (
        "{asked}: AWS does not accept this runner's credentials ({code})",
        "renew them (`aws sso login`), and check that they belong to the right account",
    ),
    AwsCause.UNKNOWN_KEY: (
        "{asked}: this runner's credentials are unknown there ({code})",
        "renew them (`aws sso login`); their account and partition (aws, aws-cn, …) must offer aws.region",
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
#: Causes that affect every other call as well.
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
        """The IAM action that it needs, such as `ecs:DescribeServices`."""
        action = _ACTIONS.get(self.operation, self.operation)
        return f"{_PREFIXES.get(self.client, self.client)}:{action}"

    @property
    def place(self) -> str:
        """Region, and the endpoint if it is not AWS's own."""
        return f"{self.region or 'no region'} at {self.endpoint}" if self.endpoint else self.region


@dataclass(frozen=True, slots=True)
class AwsError:
    """The exception to raise. `everywhere`: other calls would also fail. `passing`: it may be transient."""

    kind: type[Exception]
    message: str
    everywhere: bool = False
    passing: bool = False

    def exception(self) -> Exception:
        """A new exception: raising one twice would add up two tracebacks."""
        return self.kind(self.message)


def code_of(problem: Exception) -> str:
    """The error code in AWS's answer; empty for any other exception."""
    failure = aws_failure(problem)
    return failure.code if failure and isinstance(getattr(problem, "response", None), dict) else ""


def explain(problem: Exception, call: AwsCall) -> AwsError:
    """What an exception of botocore means.

    ExternalOutage needs a signal from AWS itself: a throttle or a 5xx. Everything else is the runner's fault
    and names the permission, credential or setting to correct; it says nothing about the platform.
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
    """The action to grant: the one that AWS names, or else the one that the call needs."""
    named = _ACTION.search(failure.message)
    if named:
        return named.group(1)
    return _KMS if "KMS" in failure.message or "Decrypt" in failure.code else call.permission


ANSWER_WITHIN_S = 10.0
ATTEMPTS = 3
AT_ONCE = 8
#: The AWS services that the checks call.
CLIENTS = (
    "acm", "application-autoscaling", "cloudfront", "cloudwatch", "ec2", "ecr", "ecs", "efs", "elbv2",
    "events", "firehose", "iam", "kms", "lambda", "logs", "rds", "route53", "route53profiles", "s3",
    "secretsmanager", "servicediscovery", "sns", "sqs", "ssm", "sts", "wafv2",
)  # fmt: skip
#: Seconds before a call that met an outage is sent again: otherwise every check would wait for the same
#: retries.
OUTAGE_HOLDS_S = 5.0
#: A page of log events may have a mebibyte, and more as JSON.
MAX_BODY = 8 * 1024 * 1024
_KINDS = re.compile("json|xml|cbor")

Item = TypeVar("Item")
Value = TypeVar("Value")


class AwsAccount:
    """Calls AWS. A refused call is not sent again: a run without access takes seconds, not minutes.

    `connect` makes a client of a service; the default is botocore with short timeouts and bounded retries.
    """

    def __init__(
        self, region: str, endpoint: str = "", *, connect: Callable[[str], Any] | None = None
    ) -> None:
        self.region = region
        self.endpoint = endpoint
        self._connect = connect or self._client_of
        self._clients: dict[str, Any] = {}
        self._session: Any = None
        self._sender: BoundedSender | None = None
        self._refusals: dict[str, tuple[AwsError, float]] = {}
        self._lock = threading.Lock()

    def ask(self, client: str, method: str, **parameters: Any) -> dict[str, Any]:
        """AWS's answer; ExternalOutage or SetupError if there is none, see `explain`."""
        answer = self.find(client, method, (), **parameters)
        assert answer is not None  # no code may mean absent
        return answer

    def insist(self, client: str, method: str, **parameters: Any) -> dict[str, Any]:
        """AWS's answer to a call that is sent even after a refusal: for clean-up."""
        answer = self._call(
            client, method, (), lambda made: getattr(made, method)(**parameters), insisting=True
        )
        assert answer is not None  # no code may mean absent
        return answer

    def find(
        self, client: str, method: str, absent: Sequence[str], **parameters: Any
    ) -> dict[str, Any] | None:
        """AWS's answer; None if one of the codes in `absent` says that the thing does not exist."""
        return self._call(client, method, absent, lambda made: getattr(made, method)(**parameters))

    def pages(
        self, client: str, method: str, *results: str, absent: Sequence[str] = (), **parameters: Any
    ) -> list[Any]:
        """The `results` of all pages in one list; empty if AWS answers with one of the codes `absent`."""

        def read(made: Any) -> dict[str, Any]:
            pages = made.get_paginator(method).paginate(**parameters)
            return {"": [item for page in pages for name in results for item in page.get(name) or ()]}

        answer = self._call(client, method, absent, read)
        return list(answer[""]) if answer is not None else []

    def forgetful(self) -> AwsAccount:
        """The same clients, without the remembered refusals."""
        return AwsAccount(self.region, self.endpoint, connect=self.client)

    def require_cluster(self, cluster: str) -> str:
        """The ARN of the platform's cluster: an account or region without it is the wrong one."""
        found = self.ask("ecs", "describe_clusters", clusters=[cluster])["clusters"]
        active = [str(each["clusterArn"]) for each in found if each["status"] == "ACTIVE"]
        if not active:
            place = AwsCall("ecs", "", self.region, self.endpoint).place
            raise SetupError(
                f"no cluster {cluster} in {place}: the platform does not run there\n"
                "  next: correct aws.region, aws.prefix or aws.endpoint_url, or use the platform's account"
            )
        return active[0]

    def _call(
        self,
        client: str,
        method: str,
        absent: Sequence[str],
        read: Callable[[Any], dict[str, Any]],
        *,
        insisting: bool = False,
    ) -> dict[str, Any] | None:
        import botocore.exceptions
        import botocore.parsers

        call = AwsCall(client, _operation(method), self.region, self.endpoint)
        for key in () if insisting else ("*", call.permission):
            known, until = self._refusals.get(key, (None, 0.0))
            if known is not None and time.monotonic() < until:
                raise known.exception()
        try:
            return read(self.client(client))
        except (
            botocore.exceptions.ClientError,
            botocore.exceptions.BotoCoreError,
            botocore.parsers.ResponseParserError,
        ) as problem:
            if code_of(problem) in absent:
                return None
            refusal = explain(problem, call)
        until = time.monotonic() + OUTAGE_HOLDS_S if refusal.passing else float("inf")
        alone = client == "s3"  # a bucket has its own policy, host and region
        if refusal.everywhere or refusal.passing or not alone:
            self._refusals["*" if refusal.everywhere and not alone else call.permission] = (refusal, until)
        # raised outside the handler, so that botocore's own exception is not repeated
        raise refusal.exception()

    def client(self, name: str) -> Any:
        """The client of a service, created on first use; threads may share a client, but not its creation."""
        with self._lock:
            if name not in self._clients:
                self._clients[name] = self._connect(name)
            return self._clients[name]

    def _client_of(self, name: str) -> Any:
        from botocore.config import Config

        if self._session is None:
            self._session = aws_session()
            self._sender = BoundedSender(
                self._session.get_config_variable("ca_bundle"), within=ANSWER_WITHIN_S
            )
        client = self._session.create_client(
            name,
            region_name=self.region or None,
            endpoint_url=self.endpoint or None,
            config=Config(
                retries={"mode": "adaptive", "total_max_attempts": ATTEMPTS},
                # a custom endpoint has no host for each kind of call
                inject_host_prefix=not self.endpoint,
            ),
        )
        client.meta.events.register("before-send", self._sender)
        return client


def read_descriptions() -> None:
    """Make botocore load its descriptions of all services that the checks use; sends nothing."""
    session = aws_session()
    session.set_credentials("none", "none")  # otherwise botocore looks for the runner's
    for name in CLIENTS:
        session.create_client(name, region_name="us-east-1")


def account_of(environment: Environment) -> AwsAccount:
    """The account of a profile's [aws]."""
    return AwsAccount(environment.aws.region, environment.aws.endpoint_url)


def at_once(read: Callable[[Item], Value], items: Iterable[Item]) -> list[Value]:
    """Read for all items concurrently; results in the items' order, or the first exception."""
    wanted = list(items)
    if len(wanted) < 2:
        return [read(item) for item in wanted]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(read, wanted))


def _operation(method: str) -> str:
    """The API's name of a method: `describe_db_instances` is DescribeDBInstances."""
    return "".join({"db": "DB", "acl": "ACL"}.get(word, word.capitalize()) for word in method.split("_"))


class BoundedSender:
    """A handler of botocore's event ``before-send``: its answer replaces botocore's own."""

    def __init__(self, ca_bundle: str | None, *, within: float) -> None:
        self._pool = http_pool(
            "pytest-readiness-smoke",
            proxies=True,
            answers_within=within,
            max_body=MAX_BODY,
            trust=trusting(ca_bundle) if ca_bundle else None,
            traced=False,  # AWS does not need it
        )

    def __call__(self, request: Any, **_: Any) -> Any:
        """The answer; botocore's corresponding exception if there is none."""
        from botocore import exceptions
        from botocore.awsrequest import AWSResponse
        from botocore.parsers import ResponseParserError

        details: dict[str, Any] = {"endpoint_url": request.url}
        try:
            answer = self._pool.request(
                request.method, request.url, headers=dict(request.headers), content=request.body
            )
            _require_readable(answer)
        except httpx.ConnectTimeout as error:
            raise exceptions.ConnectTimeoutError(**details, error=error) from error
        except httpx.TimeoutException as error:
            raise exceptions.ReadTimeoutError(**details, error=error) from error
        except httpx.ConnectError as error:
            kind = exceptions.SSLError if failed_in_handshake(error) else exceptions.EndpointConnectionError
            raise kind(**details, error=error) from error
        except ContractViolation as error:
            raise ResponseParserError(str(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise exceptions.ConnectionClosedError(**details, error=error) from error
        return AWSResponse(request.url, answer.status_code, answer.headers, _Read(answer.content))


class _Read:
    """A body that was already read, as botocore expects it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> list[bytes]:
        """The content, as one piece."""
        return [self._content]


def _require_readable(answer: httpx.Response) -> None:
    """ContractViolation for a body that botocore would fail on, or mistake for an empty answer."""
    kind = answer.headers.get("content-type", "")
    if answer.content and not _KINDS.search(kind):
        raise ContractViolation(f"expected an answer of an AWS API, got {kind[:80]!r}")
    if "json" in kind and answer.content:
        try:
            found = strict_json(answer.content)
        except NotStrict as problem:
            raise ContractViolation(f"expected JSON of an AWS API, got {problem}") from None
        if not isinstance(found, dict):
            raise ContractViolation("expected a JSON object of an AWS API, got another value")
    if "xml" in kind and b"<!" in answer.content:
        raise ContractViolation("expected XML of an AWS API, got one that declares its own document type")
