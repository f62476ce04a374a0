"""Errors of AWS calls: never the platform's fault, and always with a fix."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore import exceptions
from botocore.stub import Stubber
from pytest_readiness import AwsCause, AwsFailure, ExternalOutage, SetupError
from pytest_readiness.core.classify import classify

from smoke.aws.account import OUTAGE_HOLDS_S, AwsAccount, AwsCall, AwsError, at_once, explain
from tests.smoke.aws.fakes import scripted

Stubbed = tuple[AwsAccount, Stubber]


@pytest.fixture
def ecs() -> Iterator[Stubbed]:
    session: Any = botocore.session.get_session()
    session.set_credentials("key", "secret")
    client = session.create_client("ecs", region_name="eu-west-3")
    with Stubber(client) as stubber:
        yield AwsAccount("eu-west-3", connect=lambda name: client), stubber


def refuse(stubbed: Stubbed, code: str, message: str = "", status: int = 400) -> Exception:
    account, stubber = stubbed
    stubber.add_client_error("describe_services", code, message, status)
    with pytest.raises((SetupError, ExternalOutage)) as caught:
        account.ask("ecs", "describe_services", cluster="c", services=["s"])
    assert len(str(caught.value).splitlines()) <= 3
    return caught.value


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ThrottlingException", 400),
        ("Throttling", 400),
        ("TooManyRequestsException", 429),
        ("RequestLimitExceeded", 503),
        ("ServerException", 500),
        ("InternalFailure", 500),
        ("SomethingNew", 502),
    ],
)
def test_a_throttle_and_a_5xx_are_an_outage_that_says_which_call(
    ecs: Stubbed, code: str, status: int
) -> None:
    problem = refuse(ecs, code, status=status)
    assert type(problem) is ExternalOutage
    assert "ecs:DescribeServices" in str(problem)
    assert code in str(problem)


@pytest.mark.parametrize(
    "code", ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"]
)
def test_a_refusal_names_the_permission_to_grant(ecs: Stubbed, code: str) -> None:
    problem = refuse(ecs, code)
    assert type(problem) is SetupError
    assert "may not ecs:DescribeServices" in str(problem)
    assert "next: grant it ecs:DescribeServices; docs/iam-policy.json" in str(problem)


def test_the_permission_that_aws_names_wins(ecs: Stubbed) -> None:
    message = "User: arn:aws:iam::1:user/ci is not authorized to perform: ecs:ListTasks on resource: *"
    assert "grant it ecs:ListTasks" in str(refuse(ecs, "AccessDeniedException", message))


@pytest.mark.parametrize(
    ("code", "action"),
    [
        ("ExpiredTokenException", "renew them"),
        ("UnrecognizedClientException", "renew them"),
        ("InvalidClientTokenId", "renew them"),
        ("InvalidAccessKeyId", "aws-cn"),
        ("RequestTimeTooSkewed", "set the clock"),
        ("RequestExpired", "set the clock"),
        ("OptInRequired", "enable the region"),
        ("AuthorizationHeaderMalformed", "correct aws.region"),
        ("ClusterNotFoundException", "aws.region and aws.prefix"),
        ("ValidationException", "aws.region and aws.prefix"),
    ],
)
def test_credentials_clock_and_region_are_the_runners_fault(ecs: Stubbed, code: str, action: str) -> None:
    problem = refuse(ecs, code)
    assert type(problem) is SetupError
    assert code in str(problem)
    assert action in str(problem)


@pytest.mark.parametrize(
    ("message", "step"),
    [
        ("Signature expired: 20260301T120000Z is now earlier than 20260301T121500Z", "set the clock"),
        ("Signature not yet current: 20260301T123000Z is still later than 20260301T121500Z", "set the clock"),
        ("Credential should be scoped to a valid region, not 'us-east-1'.", "correct aws.region"),
        ("The request signature we calculated does not match the signature you provided", "renew them"),
    ],
)
@pytest.mark.parametrize("code", ["InvalidSignatureException", "SignatureDoesNotMatch"])
def test_a_wrong_signature_has_several_reasons(ecs: Stubbed, code: str, message: str, step: str) -> None:
    assert step in str(refuse(ecs, code, message))


@pytest.mark.parametrize(
    ("code", "step"),
    [
        ("ThrottlingException", "fewer callers"),
        ("RequestLimitExceeded", "fewer"),
        ("ServerException", "recovered"),
    ],
)
def test_a_throttle_and_an_outage_have_their_own_next_steps(ecs: Stubbed, code: str, step: str) -> None:
    assert step in str(refuse(ecs, code, status=503))


def test_every_cause_has_its_own_next_step() -> None:
    actions = {
        cause: next(iter(str(error.exception()).splitlines()[1:]), "")
        for cause in AwsCause
        for error in [_explained(cause)]
    }
    assert len(set(actions.values())) == len(AwsCause)
    assert all(each.startswith("  next: ") for each in actions.values())


def _explained(cause: AwsCause) -> AwsError:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("smoke.aws.account.aws_failure", lambda _: AwsFailure(cause, "Code", "message"))
        return explain(RuntimeError(), AwsCall("ecs", "DescribeServices", "eu-west-3"))


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (exceptions.NoCredentialsError(), "no usable AWS credentials"),
        (exceptions.PartialCredentialsError(provider="env", cred_var="x"), "no usable AWS credentials"),
        (exceptions.UnauthorizedSSOTokenError(), "aws sso login"),
        (exceptions.ProfileNotFound(profile="nobody"), "AWS_PROFILE"),
        (exceptions.NoRegionError(), "set aws.region"),
        (exceptions.EndpointProviderError(msg="no such partition"), "correct aws.region"),
        (exceptions.UnknownRegionError(region_name="moon", error_msg="x"), "correct aws.region"),
        (exceptions.EndpointConnectionError(endpoint_url="https://x"), "aws.endpoint_url"),
        (exceptions.ConnectTimeoutError(endpoint_url="https://x"), "network and proxy"),
        (exceptions.ReadTimeoutError(endpoint_url="https://x"), "network and proxy"),
        (exceptions.ParamValidationError(report="cluster"), "check [aws]"),
    ],
)
def test_what_never_reached_aws_is_the_runners(raised: Exception, expected: str) -> None:
    def fail(**_: Any) -> Any:
        raise raised

    account, _ = scripted(list_topics=fail)
    with pytest.raises(SetupError, match="sns:ListTopics") as caught:
        account.pages("sns", "list_topics", "Topics")
    assert expected in str(caught.value)


def test_an_expected_absence_is_not_an_error(ecs: Stubbed) -> None:
    account, stubber = ecs
    stubber.add_client_error("describe_task_definition", "ClientException", "Unable to describe")
    asked = account.find("ecs", "describe_task_definition", ("ClientException",), taskDefinition="t")
    assert asked is None


def test_a_refusal_is_not_asked_about_again(ecs: Stubbed) -> None:
    account, stubber = ecs
    refuse(ecs, "AccessDeniedException")
    with pytest.raises(SetupError, match="ecs:DescribeServices"):
        account.ask("ecs", "describe_services", cluster="c", services=["s"])
    stubber.add_response("describe_clusters", {"clusters": []})
    assert account.ask("ecs", "describe_clusters")["clusters"] == [], "another permission"


def test_bad_credentials_stop_every_call(ecs: Stubbed) -> None:
    account, _ = ecs
    refuse(ecs, "ExpiredTokenException")
    with pytest.raises(SetupError, match="ExpiredToken"):
        account.ask("ecs", "describe_clusters")


def test_an_outage_is_asked_about_again_after_a_while(ecs: Stubbed, monkeypatch: pytest.MonkeyPatch) -> None:
    account, stubber = ecs
    refuse(ecs, "ThrottlingException")
    with pytest.raises(ExternalOutage):
        account.ask("ecs", "describe_services", cluster="c", services=["s"])
    later = time.monotonic() + OUTAGE_HOLDS_S
    monkeypatch.setattr("smoke.aws.account.time.monotonic", lambda: later)
    stubber.add_response("describe_services", {"services": []})
    assert account.ask("ecs", "describe_services", cluster="c", services=["s"])["services"] == []


def test_what_must_be_undone_is_asked_whatever_was_refused_before(ecs: Stubbed) -> None:
    account, stubber = ecs
    refuse(ecs, "ThrottlingException")
    stubber.add_response("describe_services", {"services": []})
    assert account.insist("ecs", "describe_services", cluster="c", services=["s"])["services"] == []


@pytest.mark.parametrize("found", [[], [{"clusterArn": "arn", "status": "INACTIVE"}]])
def test_a_region_without_the_cluster_is_the_wrong_one(found: list[Any]) -> None:
    account, _ = scripted(describe_clusters=lambda **_: {"clusters": found})
    with pytest.raises(SetupError, match=r"no cluster p-cluster in us-east-1.*\n  next: correct aws.region"):
        account.require_cluster("p-cluster")


def test_creating_a_client_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    client = AwsAccount("eu-west-3", "http://127.0.0.1:1").client("servicediscovery")
    assert (client.meta.region_name, client.meta.endpoint_url) == ("eu-west-3", "http://127.0.0.1:1")
    config = client.meta.config
    assert config.retries == {"mode": "adaptive", "total_max_attempts": 3}
    assert config.inject_host_prefix is False


def test_reads_at_once_keep_their_order_and_their_first_failure() -> None:
    assert at_once(lambda n: n * n, [3, 1, 2]) == [9, 1, 4]
    assert at_once(lambda n: n, []) == []
    with pytest.raises(ZeroDivisionError):
        at_once(lambda n: 1 // n, [1, 0])


@pytest.mark.parametrize("cause", sorted({*AwsCause} - {AwsCause.OTHER}))
def test_the_suite_and_the_plugin_agree_on_each_cause(
    cause: AwsCause, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = AwsFailure(cause, "Code", "message")
    with monkeypatch.context() as patched:
        patched.setattr("smoke.aws.account.aws_failure", lambda _: failure)
        raised = explain(RuntimeError(), AwsCall("ecs", "DescribeServices", "eu-west-3")).exception()
        patched.setattr("pytest_readiness.core.classify.aws_failure", lambda _: failure)
        assert classify(RuntimeError()) == (
            "EXTERNAL_OUTAGE" if type(raised) is ExternalOutage else "SETUP_ERROR"
        )
