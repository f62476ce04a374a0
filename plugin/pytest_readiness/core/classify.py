"""Whose fault an exception is, decided by names: importing a third-party library is not needed."""

from __future__ import annotations

import errno
import re
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from .errors import SafetyViolation
from .model import FailureClass

#: What an exception or a hook may name, worst first: one proof is enough for a group of exceptions. That a
#: failure is passing is seen on a rerun and never declared.
DECLARED = (
    FailureClass.PLATFORM_BUG,
    FailureClass.CHECK_ERROR,
    FailureClass.SETUP_ERROR,
    FailureClass.EXTERNAL_OUTAGE,
)

_RUNNER_TYPES = frozenset({"socket.gaierror", "socket.herror"})
#: What libpq and psycopg say of a name that does not resolve; they keep no exception of the resolver.
_RESOLVER_WORDS = ("could not translate host name", "failed to resolve host")
#: Modules of clients that keep in a call what they connect to.
_CONNECTS = ("socket", "http.client", "urllib3.connection", "urllib3.util.connection")
#: ``pytest.fail``, and what calls it in the name of a check: ``pytest.raises`` and ``pytest.warns``.
_FAIL = ("_pytest.outcomes", "_pytest.raises", "_pytest.recwarn")
#: Directories of libraries: what asserts there asserts something of its own.
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
#: Modules of libraries that assert for their callers: unittest, numpy.testing, hamcrest, playwright's expect.
_ASSERTS = re.compile(r"assert|expect|test|hamcrest", re.IGNORECASE)


def classify(exc: BaseException) -> FailureClass:
    """Return the class of a failure from its chain of exceptions.

    PLATFORM_BUG is a claim: it takes an assertion, an exception that declares it, or a failure of the
    transport for which the runner is not to blame. The first exception of the chain with a class decides: by
    its ``failure_class`` where it carries one, by type and error code where its library is known. All else is
    CHECK_ERROR: the check's own code did not foresee it.
    """
    suspect = False
    for link in _chain(exc):
        found = _class_of(link)
        if found is not None:
            return found
        suspect = suspect or _claims(link) or _is_transport(link) or _is_database(link)
    return FailureClass.PLATFORM_BUG if suspect else FailureClass.CHECK_ERROR


def is_passing(exc: BaseException) -> bool:
    """Tell whether a failure may be over the next time: trouble of the transport, and nothing else."""
    if isinstance(exc, BaseExceptionGroup):
        return all(map(is_passing, exc.exceptions))
    if classify(exc) in (FailureClass.SETUP_ERROR, FailureClass.CHECK_ERROR):
        return False
    return any(_is_passing_trouble(link) or _is_database(link) for link in _chain(exc))


def worst(failures: Sequence[BaseException]) -> BaseException:
    """Return the one of several failures that decides: a safety violation, else by class, else the first."""

    def rank(failure: BaseException) -> tuple[bool, int]:
        return not isinstance(failure, SafetyViolation), DECLARED.index(classify(failure))

    return min(failures, key=rank)


def place_of(exc: BaseException, root: str) -> str:
    """Return file and line in the project at ``root`` that raised an exception or called what did, or ""."""
    found = ""
    for module, path, line in _frames(exc):
        own = path.startswith(f"{root}/") and not _is_library(path)
        if own and not module.startswith("pytest_readiness"):
            found = f"{path.removeprefix(f'{root}/')}:{line}"
    if not found and isinstance(exc, BaseExceptionGroup):
        return next(filter(None, (place_of(member, root) for member in exc.exceptions)), "")
    return found


def peer_of(exc: BaseException) -> tuple[str, int | None] | None:
    """Return host and port that a failure of the network is about, None for any other or an unknown one.

    A resolver, a socket and a TLS handshake name neither in their errors: what called them knows.
    """
    for link in _chain(exc):
        names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(link).__mro__}
        if names & _RUNNER_TYPES or _is_transport(link) or _is_runners(link):
            for one in _chain(exc):
                if found := _asked_by(one):
                    return found
    return None


def _asked_by(exc: BaseException) -> tuple[str, int | None] | None:
    """Return host and port of the request that an exception carries, or of the connection that raised it."""
    try:  # httpx raises where a request is not set
        url = urlsplit(str(getattr(exc.request, "url", "")))  # type: ignore[attr-defined]
        if url.hostname:
            return url.hostname, url.port
    except (AttributeError, RuntimeError, ValueError):
        pass
    trace, found = exc.__traceback__, None
    while trace is not None:
        frame = trace.tb_frame
        if str(frame.f_globals.get("__name__")).startswith(_CONNECTS):
            known = frame.f_locals
            client, address = known.get("self"), known.get("address")
            host, port = (
                address[:2]
                if isinstance(address, tuple) and len(address) >= 2
                else (getattr(client, each, known.get(each)) for each in ("host", "port"))
            )
            if isinstance(host, str) and host:
                found = host, port if isinstance(port, int) else None
        trace = trace.tb_next
    return found


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it came from.

    What merely happened to be handled when it was raised excuses neither an assertion, which is about the
    platform, nor an error of the language, which is about the check; only an explicit ``from`` does.
    """
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        alone = isinstance(link, AssertionError) or _is_of_the_language(link)
        # `from None` is no reason to stop: httpcore hides the resolver's error behind it.
        link = link.__cause__ or (None if alone else link.__context__)


def _is_of_the_language(exc: BaseException) -> bool:
    return type(exc).__module__ == "builtins" and not isinstance(exc, OSError)


def _class_of(exc: BaseException) -> FailureClass | None:
    if isinstance(exc, BaseExceptionGroup):
        members = {classify(member) for member in exc.exceptions}
        return next(rank for rank in DECLARED if rank in members)
    declared = _declared(exc)
    if declared is not None:
        return declared
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(exc).__mro__}
    if names & _RUNNER_TYPES or _is_runners(exc):
        return FailureClass.SETUP_ERROR
    if (aws := aws_failure(exc)) is not None:
        return aws.failure_class or FailureClass.CHECK_ERROR
    if _is_database(exc) and any(words in str(exc) for words in _RESOLVER_WORDS):
        return FailureClass.SETUP_ERROR
    return None


def _declared(exc: BaseException) -> FailureClass | None:
    try:
        named = getattr(exc, "failure_class", None)
    except Exception:
        return None
    return FailureClass(named) if isinstance(named, str) and named in DECLARED else None


def _claims(exc: BaseException) -> bool:
    """Tell whether an exception asserts something of the platform, by its type and by who raised it."""
    if isinstance(exc, AssertionError):
        return type(exc) is not AssertionError or not _is_of_a_library(exc)
    if type(exc).__name__ != "Failed":
        return False
    callers = [module for module, _, _ in _frames(exc) if not module.startswith(_FAIL)]
    # pytest itself fails what it cannot run, such as a coroutine without a plugin for it
    return bool(callers) and not callers[-1].startswith(("_pytest.", "pytest_timeout"))


def _is_of_a_library(exc: BaseException) -> bool:
    raised = [*_frames(exc)][-1:]
    return any(
        _is_library(path) and (module.startswith("_pytest.") or not _ASSERTS.search(module))
        for module, path, _ in raised
    )


def _is_library(path: str) -> bool:
    return path.startswith(("<frozen", *_LIBRARIES)) or "site-packages" in path


class AwsCause(StrEnum):
    """What an AWS error shows. OTHER depends on what was asked: a name that does not exist, for example."""

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


#: Beginnings of the error codes that the services answer with; the first cause that matches decides.
_CODES: Mapping[AwsCause, tuple[str, ...]] = {
    AwsCause.THROTTLED: (
        "Throttl",
        "TooManyRequests",
        "RequestLimitExceeded",
        "RequestThrottled",
        "LimitExceededException",
        "SlowDown",
    ),
    AwsCause.OUTAGE: (
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
        "InvalidSecurity",
        "InvalidSignature",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    ),
    AwsCause.UNKNOWN_KEY: ("InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClient"),
    AwsCause.CLOCK: ("RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"),
    AwsCause.WRONG_REGION: ("AuthorizationHeaderMalformed", "OptInRequired", "PermanentRedirect"),
}
#: What a message says in place of its code: a wrong signature has several reasons.
_MESSAGES: Mapping[AwsCause, re.Pattern[str]] = {
    AwsCause.CLOCK: re.compile(r"[Ss]ignature (?:has )?expired|[Ss]ignature not yet current"),
    AwsCause.WRONG_REGION: re.compile(r"scoped to a valid region|scoped to correct region"),
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
    AwsCause.WRONG_REGION: frozenset({"UnknownRegionError", "UnknownEndpointError", "EndpointProviderError"}),
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
        outage = self.cause in (AwsCause.OUTAGE, AwsCause.THROTTLED)
        return FailureClass.EXTERNAL_OUTAGE if outage else FailureClass.SETUP_ERROR


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
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    cause = next((cause for cause, codes in _CODES.items() if code.startswith(codes)), AwsCause.OTHER)
    cause = next((said for said, text in _MESSAGES.items() if text.search(message)), cause)
    if isinstance(status, int) and status >= 500 and cause is not AwsCause.THROTTLED:
        cause = AwsCause.OUTAGE
    return AwsFailure(cause, code, message)


#: Beginning of a module -> exceptions with which its clients say that the other side did not answer properly.
#: What derives from them counts as well, unless ``_OWN`` names it.
_TRANSPORT: Mapping[str, frozenset[str]] = {
    "builtins": frozenset({"ConnectionError", "TimeoutError"}),
    "ssl": frozenset({"SSLError"}),
    "http.client": frozenset({"BadStatusLine", "IncompleteRead", "LineTooLong"}),
    "urllib.error": frozenset({"HTTPError", "ContentTooShortError"}),
    "httpx": frozenset({"RequestError", "HTTPStatusError"}),
    "httpcore": frozenset({"TimeoutException", "NetworkError", "ProtocolError"}),
    "requests": frozenset(
        {"ConnectionError", "Timeout", "HTTPError", "ChunkedEncodingError", "ContentDecodingError"}
        | {"TooManyRedirects", "RetryError"}
    ),
    "urllib3": frozenset(
        {"MaxRetryError", "TimeoutError", "NewConnectionError", "ProtocolError", "SSLError", "DecodeError"}
    ),
    "aiohttp": frozenset({"ClientConnectionError", "ClientPayloadError", "ClientResponseError"}),
    "websockets": frozenset({"ConnectionClosed", "InvalidHandshake", "ProtocolError"}),
    "websocket": frozenset({"WebSocketConnectionClosedException", "WebSocketBadStatusException"}),
    "grpc": frozenset({"RpcError"}),
    "redis": frozenset({"ConnectionError", "TimeoutError"}),
}
#: Exceptions of the same libraries that say how they were used, not what came of it.
_OWN = frozenset(
    {"UnsupportedProtocol", "LocalProtocolError", "PoolTimeout", "InvalidURL", "InvalidProxyURL"}
    | {"InvalidSchema", "MissingSchema", "LocationValueError", "LocationParseError", "InvalidUrlClientError"}
)
#: Between this runner and its proxy.
_PROXY = frozenset({"ProxyError"})
#: What the operating system says of the way to the other side; most have a class of their own.
_ON_THE_WAY = frozenset({errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.ENETRESET})
#: What it says of this machine.
_OF_THE_RUNNER = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS}
)
#: Modules that wait for something on this machine; their TimeoutError says nothing of the platform.
_WAITING = ("asyncio", "concurrent", "multiprocessing", "queue", "threading", "subprocess")
#: What a gateway answers for a service that it does not reach.
_GATEWAY = frozenset({502, 503, 504})


def _is_transport(exc: BaseException) -> bool:
    """Tell whether an exception alone says that the other side did not answer, or not properly."""
    if {kind.__name__ for kind in type(exc).__mro__} & (_OWN | _PROXY):
        return False
    if isinstance(exc, OSError) and exc.errno in _OF_THE_RUNNER:
        return False
    if isinstance(exc, TimeoutError) and raised_in(exc).startswith(_WAITING):
        return False
    return _names_transport(exc) or (isinstance(exc, OSError) and exc.errno in _ON_THE_WAY)


def _is_runners(exc: BaseException) -> bool:
    """Tell whether an exception says that this runner lacks the way: network, files, proxy."""
    if _PROXY & {kind.__name__ for kind in type(exc).__mro__}:
        return True
    return isinstance(exc, OSError) and exc.errno in _OF_THE_RUNNER


def _is_passing_trouble(exc: BaseException) -> bool:
    """Tell whether trouble may be over the next time: a timeout, a broken connection, a 502 to 504."""
    status = _status(exc)
    if status is not None:
        return status in _GATEWAY
    return _is_transport(exc)


def _is_database(exc: BaseException) -> bool:
    """Tell whether a database driver says that its server failed it: OperationalError, by PEP 249."""
    return any(
        kind.__name__ == "OperationalError" and not kind.__module__.startswith("sqlite3")
        for kind in type(exc).__mro__
    )


def raised_in(exc: BaseException) -> str:
    """Return the module that raised an exception, "" where it has not been raised."""
    return next((module for module, _, _ in reversed([*_frames(exc)])), "")


def _frames(exc: BaseException) -> Iterator[tuple[str, str, int]]:
    """Yield module, file and line of every frame that an exception came through, the raising one last."""
    trace = exc.__traceback__
    while trace is not None:
        yield (
            str(trace.tb_frame.f_globals.get("__name__", "")),
            trace.tb_frame.f_code.co_filename,
            trace.tb_lineno,
        )
        trace = trace.tb_next


def _names_transport(exc: BaseException) -> bool:
    for kind in type(exc).__mro__:
        module = kind.__module__
        while module:
            if kind.__name__ in _TRANSPORT.get(module, ()):
                return True
            module = module.rpartition(".")[0]
    return False


def _status(exc: BaseException) -> int | None:
    """Return the status of the answer that an exception is about, wherever its library keeps it."""
    answer = getattr(exc, "response", None)
    if isinstance(answer, Mapping):  # botocore
        answer = answer.get("ResponseMetadata")
        found = answer.get("HTTPStatusCode") if isinstance(answer, Mapping) else None
    else:
        about = exc if answer is None else answer
        found = next(
            (
                value
                for name in ("status_code", "status", "code")
                if isinstance(value := getattr(about, name, None), int)
            ),
            None,
        )
    return found if isinstance(found, int) and not isinstance(found, bool) else None
