"""Trouble between a check and the platform, by the names of exceptions: no client library is imported.

A table, so that what counts is seen at a glance. AWS and other third parties have rules of their own, in
``classify``.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping

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


def is_transport(exc: BaseException) -> bool:
    """Tell whether an exception alone says that the other side did not answer, or not properly."""
    if {kind.__name__ for kind in type(exc).__mro__} & (_OWN | _PROXY):
        return False
    if isinstance(exc, OSError) and exc.errno in _OF_THE_RUNNER:
        return False
    if isinstance(exc, TimeoutError) and raised_in(exc).startswith(_WAITING):
        return False
    return _names_transport(exc) or (isinstance(exc, OSError) and exc.errno in _ON_THE_WAY)


def is_runners(exc: BaseException) -> bool:
    """Tell whether an exception says that this runner lacks the way: network, files, proxy."""
    if _PROXY & {kind.__name__ for kind in type(exc).__mro__}:
        return True
    return isinstance(exc, OSError) and exc.errno in _OF_THE_RUNNER


def is_passing(exc: BaseException) -> bool:
    """Tell whether trouble may be over the next time: a timeout, a broken connection, a 502 to 504."""
    status = _status(exc)
    if status is not None:
        return status in _GATEWAY
    return is_transport(exc)


def is_database(exc: BaseException) -> bool:
    """Tell whether a database driver says that its server failed it: OperationalError, by PEP 249."""
    return any(
        kind.__name__ == "OperationalError" and not kind.__module__.startswith("sqlite3")
        for kind in type(exc).__mro__
    )


def raised_in(exc: BaseException) -> str:
    """Return the module that raised an exception, "" where it has not been raised."""
    return next((module for module, _, _ in reversed([*frames(exc)])), "")


def frames(exc: BaseException) -> Iterator[tuple[str, str, int]]:
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
