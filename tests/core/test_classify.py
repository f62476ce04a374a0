"""Classifying exceptions: the real ones of the libraries that suites use."""

import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable
from http.client import HTTPConnection, HTTPSConnection
from typing import Any

import botocore.exceptions as aws
import httpx
import pytest
from botocore.config import Config
from botocore.errorfactory import ClientExceptionsFactory
from botocore.session import get_session
from pytest_readiness import ExternalOutage, NothingMeasured, SafetyViolation, SetupError
from pytest_readiness.core.classify import classify
from pytest_readiness.core.errors import ProfileError
from pytest_readiness.core.network import peer_of

DNS = socket.gaierror(-2, "Name or service not known")


def client_error(code: str, status: int = 400) -> aws.ClientError:
    response: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return aws.ClientError(response, "DescribeAlarms")


def raised(error: BaseException, *, cause: Any = None, context: Any = None) -> BaseException:
    if cause is not None:
        error.__cause__ = cause
    error.__context__ = context
    return error


class OperationalError(Exception):
    """Has the name that database drivers use."""


class Unforeseen(Exception):
    """An exception of a suite's own."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AssertionError("1 != 2"), "PLATFORM_BUG"),
        (ValueError("not JSON"), "CHECK_ERROR"),
        (ConnectionRefusedError(), "PLATFORM_BUG"),
        (httpx.ReadTimeout("slow"), "PLATFORM_BUG"),
        (ssl.SSLCertVerificationError("self-signed"), "PLATFORM_BUG"),
        (SafetyViolation("accepted"), "PLATFORM_BUG"),
        (ExternalOutage("provider"), "EXTERNAL_OUTAGE"),
        (SetupError("no key"), "SETUP_ERROR"),
        (NothingMeasured("no request"), "CHECK_ERROR"),
        (ProfileError("missing"), "SETUP_ERROR"),
        (DNS, "SETUP_ERROR"),
        (aws.NoCredentialsError(), "SETUP_ERROR"),
        (aws.NoRegionError(), "SETUP_ERROR"),
        (aws.ProfileNotFound(profile="x"), "SETUP_ERROR"),
        (client_error("AccessDenied", 403), "SETUP_ERROR"),
        (client_error("AccessDeniedException", 400), "SETUP_ERROR"),
        (client_error("ExpiredToken", 403), "SETUP_ERROR"),
        (client_error("ExpiredTokenException"), "SETUP_ERROR"),
        (client_error("UnrecognizedClientException"), "SETUP_ERROR"),
        (client_error("InvalidClientTokenId", 403), "SETUP_ERROR"),
        (client_error("SignatureDoesNotMatch", 403), "SETUP_ERROR"),
        (client_error("RequestTimeTooSkewed", 403), "SETUP_ERROR"),
        (client_error("InvalidSecurityToken", 403), "SETUP_ERROR"),
        (client_error("AuthorizationErrorException"), "SETUP_ERROR"),
        (client_error("DecryptionFailure"), "SETUP_ERROR"),
        (aws.ConnectTimeoutError(endpoint_url="https://ecs"), "SETUP_ERROR"),
        (client_error("ThrottledRequest"), "EXTERNAL_OUTAGE"),
        (client_error("LimitExceededException"), "EXTERNAL_OUTAGE"),
        (client_error("ServerException"), "EXTERNAL_OUTAGE"),
        (client_error("Throttling"), "EXTERNAL_OUTAGE"),
        (client_error("ThrottlingException"), "EXTERNAL_OUTAGE"),
        (client_error("TooManyRequestsException", 429), "EXTERNAL_OUTAGE"),
        (client_error("Whatever", 503), "EXTERNAL_OUTAGE"),
        (client_error("ResourceNotFoundException"), "CHECK_ERROR"),
        (client_error("ClusterNotFoundException"), "CHECK_ERROR"),
        (OperationalError("could not translate host name 'db'"), "SETUP_ERROR"),
        (OperationalError("failed to resolve host 'db'"), "SETUP_ERROR"),
        (OperationalError("connection refused"), "PLATFORM_BUG"),
        (RuntimeError("could not translate host name 'db'"), "CHECK_ERROR"),
        (raised(httpx.ConnectError("no"), cause=raised(OSError("x"), context=DNS)), "SETUP_ERROR"),
        (raised(AssertionError("x"), context=DNS), "PLATFORM_BUG"),
        (raised(AssertionError("x"), cause=DNS), "SETUP_ERROR"),
        (raised(SafetyViolation("x"), context=ExternalOutage("y")), "PLATFORM_BUG"),
        (raised(SafetyViolation("x"), cause=ExternalOutage("y")), "PLATFORM_BUG"),
        (raised(ValueError("x"), context=ExternalOutage("y")), "CHECK_ERROR"),
        (raised(ValueError("x"), cause=ExternalOutage("y")), "EXTERNAL_OUTAGE"),
        (raised(Unforeseen("x"), context=ExternalOutage("y")), "EXTERNAL_OUTAGE"),
        (ExceptionGroup("g", [ExternalOutage("x"), ExternalOutage("y")]), "EXTERNAL_OUTAGE"),
        (ExceptionGroup("g", [ExternalOutage("x"), SetupError("y")]), "SETUP_ERROR"),
        (ExceptionGroup("g", [ExternalOutage("x"), ValueError("y")]), "CHECK_ERROR"),
        (ExceptionGroup("g", [AssertionError("x"), ValueError("y")]), "PLATFORM_BUG"),
        (ExceptionGroup("g", [TypeError("x"), SetupError("y")]), "CHECK_ERROR"),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), "CHECK_ERROR"),
    ],
)
def test_classes(error: BaseException, expected: str) -> None:
    assert classify(error) == expected


def test_a_modelled_error_of_a_service_counts_as_the_client_error_that_it_is() -> None:
    model = get_session().get_service_model("secretsmanager")
    kind: Any = ClientExceptionsFactory().create_client_exceptions(model).InternalServiceError
    response: Any = {"Error": {"Code": "InternalServiceError"}, "ResponseMetadata": {"HTTPStatusCode": 500}}
    assert classify(kind(response, "GetSecretValue")) == "EXTERNAL_OUTAGE"


@pytest.fixture
def no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise DNS

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_resolver")
def test_a_name_that_does_not_resolve_through_httpx() -> None:
    with pytest.raises(httpx.ConnectError) as caught:
        httpx.get("http://name.invalid/")
    assert classify(caught.value) == "SETUP_ERROR"


@pytest.mark.usefixtures("no_resolver")
def test_a_name_that_does_not_resolve_through_botocore() -> None:
    session = get_session()
    session.set_credentials("id", "secret")
    client: Any = session.create_client(
        "sts",
        region_name="xx-nowhere-1",
        endpoint_url="https://sts.name.invalid",
        config=Config(retries={"max_attempts": 0}),
    )
    with pytest.raises(aws.EndpointConnectionError) as caught:
        client.get_caller_identity()
    assert classify(caught.value) == "SETUP_ERROR"


def test_a_cyclic_exception_chain_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert classify(first) == "CHECK_ERROR"


def test_a_cause_that_is_false_counts() -> None:
    class NoKeys(SetupError):
        def __len__(self) -> int:
            return 0

    error = RuntimeError("x")
    error.__cause__ = NoKeys("no keys")
    assert classify(error) == "SETUP_ERROR"


def test_a_client_error_without_a_response_says_nothing() -> None:
    error = client_error("AccessDenied")
    error.response = None
    assert classify(error) == "CHECK_ERROR"


def test_an_unknown_failure_class_is_ignored() -> None:
    error = ValueError("x")
    error.failure_class = "NOBODY"  # type: ignore[attr-defined]
    assert classify(error) == "CHECK_ERROR"


def failure(call: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # any exception will do
        call()
    return caught.value


@pytest.mark.parametrize(
    "call",
    [
        lambda: socket.create_connection(("nowhere.invalid", 8443)),
        lambda: urllib.request.urlopen("http://nowhere.invalid:8443/health"),
        lambda: httpx.get("http://nowhere.invalid:8443/health"),
        lambda: HTTPConnection("nowhere.invalid", 8443).connect(),
    ],
)
def test_a_network_failure_names_its_host(call: Callable[[], object]) -> None:
    assert peer_of(failure(call)) == ("nowhere.invalid", 8443)


def test_a_refused_connection_names_its_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert peer_of(failure(lambda: socket.create_connection(("127.0.0.1", port)))) == ("127.0.0.1", port)


def test_a_failed_handshake_names_its_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        assert peer_of(failure(HTTPSConnection("127.0.0.1", port, timeout=5).connect)) == ("127.0.0.1", port)


@pytest.mark.parametrize(
    "error", [AssertionError("no"), ValueError("no"), socket.gaierror(-2, "no"), SetupError("no")]
)
def test_other_failures_are_about_no_host(error: BaseException) -> None:
    assert peer_of(error) is None
