"""Decides which host a network failure is about, and whether the runner or the other side is at fault.

It uses names and the frames of known clients, without importing third-party libraries.
"""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
from collections.abc import Iterator, Mapping
from traceback import walk_tb
from types import FrameType
from urllib.parse import urlsplit

from .formats import text_of

_RESOLVER = frozenset({"socket.gaierror", "socket.herror"})
#: Texts with which database and gRPC clients report a runner without a resolver or network; they keep only
#: text.
_NO_WAY_WORDS = (
    *("could not translate host name", "failed to resolve host", "DNS resolution failed"),
    *("Name or service not known", "Temporary failure in name resolution", "Network is unreachable"),
)
#: Modules of clients that store in a frame the address to which they connect.
_CONNECTS = ("socket", "http.client", "urllib3.connection", "urllib3.util.connection")


def peer_of(exc: BaseException) -> tuple[str, int | None] | None:
    """Return host and port of a network failure; None for other failures, or if they are unknown.

    Errors of a resolver, a socket or a TLS handshake contain neither; the calling frames do.
    """
    for link in chain(exc):
        if is_transport(link) or is_of_the_runner(link):
            for one in chain(exc):
                if found := _asked_by(one):
                    return found
    return None


def environment_of(exc: BaseException, environ: Mapping[str, str] = os.environ) -> str:
    """Return the part of this runner's environment that failed, with its variable; "" for other failures."""
    found = [*filter(None, (_environment_of(link, environ) for link in chain(exc)))]
    return max(found, key=len, default="")  # one of them may know the proxy's address


def _environment_of(exc: BaseException, environ: Mapping[str, str]) -> str:
    """Return the proxy or the certificates that an exception itself is about."""
    if _is_untrusting(exc):
        named = ((name, environ[name]) for name in _CERTIFICATES if environ.get(name))
        return next((f"{name} (no {path})" for name, path in named if not os.path.exists(path)), "")
    proxies = _proxies(environ)
    if not proxies:
        return ""
    address = _connecting_to(exc) if _names_transport(exc) or isinstance(exc, OSError) else None
    if address in proxies:
        host, port = address
        return f"this runner's proxy {host}:{port} ({proxies[address]})"
    if _is_of_a_proxy(exc):
        return f"this runner's proxy ({', '.join(dict.fromkeys(proxies.values()))})"
    return ""


#: Environment variables that give AWS's tools and libraries access.
AWS_VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"),
)
#: Variables that name the certificates which clients trust.
_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR")
#: OpenSSL's verification errors for an unknown issuer: 18 to 21.
_UNKNOWN_ISSUER = range(18, 22)
_LOG_IN_AT_PROXY = 407
_USUAL_PORTS = {"https": 443, "socks5": 1080, "socks5h": 1080}


def _is_untrusting(exc: BaseException) -> bool:
    """Tell whether a client rejects a certificate's issuer, or cannot read its file of certificates."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return getattr(exc, "verify_code", 0) in _UNKNOWN_ISSUER
    is_of_a_file = isinstance(exc, FileNotFoundError) or (type(exc) is OSError and exc.errno is None)
    return is_of_a_file and raised_in(exc).startswith(("ssl", "requests."))


def _proxies(environ: Mapping[str, str]) -> dict[tuple[str, int | None], str]:
    """Return host and port of each proxy, with the variables that name it; lower-case ones win."""
    found: dict[tuple[str, int | None], str] = {}
    for name in sorted(environ, key=lambda name: (name.isupper(), name)):
        kind, _, rest = name.lower().rpartition("_")
        if rest != "proxy" or kind in ("", "no") or not (value := environ[name].strip()):
            continue
        address = _address(value)
        names = found.get(address, "")
        if name.lower() not in names:
            found[address] = ", ".join(filter(None, (names, name)))
    return found


def _address(url: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        return parts.hostname or "", parts.port or _USUAL_PORTS.get(parts.scheme, 80)
    except ValueError:  # not a URL
        return url, None


def _connecting_to(exc: BaseException) -> tuple[str, int | None] | None:
    """Return host and port of the connection being made, from the client's own frames."""
    for frame in _walk(exc):
        known, function = frame.f_locals, frame.f_code.co_name
        address = known.get("address")
        if function == "create_connection" and isinstance(address, tuple) and len(address) >= 2:
            return address[0], address[1]
        if function == "connect_tcp" and "host" in known and "port" in known:
            return known["host"], known["port"]
    return None


#: Functions of clients, by module: failures below them concern the proxy or its address.
_TO_PROXY = frozenset(
    {("http.client", "_tunnel"), ("urllib3.connection", "_tunnel"), ("urllib.request", "proxy_open")}
    | {("httpx._client", "_get_proxy_map"), ("httpx._client", "_init_proxy_transport")}
    | {("httpx._utils", "__init__"), ("requests.utils", "prepend_scheme_if_needed")}
    | {("requests.adapters", "proxy_manager_for"), ("aiohttp.helpers", "proxies_from_env")}
    | {("aiohttp.connector", "_create_proxy_connection")}
)


def _is_of_a_proxy(exc: BaseException) -> bool:
    """Tell by name or frames whether a client was still connecting to its proxy, or talked only to it.

    Once the tunnel is established, the handshake and everything after it concern the platform.
    """
    if _PROXY & {kind.__name__ for kind in type(exc).__mro__}:
        return True
    if (status := _status(exc)) is not None:
        return status == _LOG_IN_AT_PROXY
    passed = [*_walk(exc)]
    if any(frame.f_code.co_name in ("start_tls", "_start_tls_connection") for frame in passed):
        return False
    return any(map(_is_on_its_way, passed))


def _is_on_its_way(frame: FrameType) -> bool:
    module, known = str(frame.f_globals.get("__name__", "")), frame.f_locals
    if (module, frame.f_code.co_name) in _TO_PROXY:
        return True
    if module == "urllib.request" and frame.f_code.co_name == "do_open":
        return bool(known["req"].has_proxy())
    if module.startswith("httpcore.") and frame.f_code.co_name in ("handle_request", "handle_async_request"):
        forwards = "Forward" in type(known.get("self")).__name__
        return forwards or ("connect_request" in known and "connect_response" not in known)
    return False


def _asked_by(exc: BaseException) -> tuple[str, int | None] | None:
    """Return host and port of an exception's request, or of the connection that raised it."""
    try:  # httpx raises if no request is set
        url = urlsplit(str(getattr(exc.request, "url", "")))  # type: ignore[attr-defined]
        if url.hostname:
            return url.hostname, url.port
    except (AttributeError, RuntimeError, ValueError):
        pass
    found = None
    for frame in _walk(exc):
        if str(frame.f_globals.get("__name__")).startswith(_CONNECTS):
            known = frame.f_locals
            client, address = known.get("self"), known.get("address")
            host, port = (
                address[:2]
                if isinstance(address, tuple) and len(address) >= 2
                else (
                    getattr(client, f"_tunnel_{each}", None) or getattr(client, each, known.get(each))
                    for each in ("host", "port")
                )
            )
            if isinstance(host, str) and host:
                found = host, port if isinstance(port, int) else None
    return found


def chain(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and the exceptions that caused it.

    For an assertion, which is about the platform, or an error of Python itself, which is about the check,
    only an explicit ``from`` counts, not an exception that was merely being handled.
    """
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        of_the_language = type(link).__module__ == "builtins" and not isinstance(link, OSError)
        alone = isinstance(link, AssertionError) or of_the_language
        # `from None` does not end the chain: httpcore hides the resolver's error behind it.
        handled = None if alone else link.__context__
        link = handled if link.__cause__ is None else link.__cause__  # an exception may be false


#: How many links of a very long chain of exceptions are kept at each end.
_ENDS = 20


@contextlib.contextmanager
def shortened(exc: BaseException) -> Iterator[None]:
    """Leave out the middle of a very long chain for now: pytest would take minutes to show it.

    The links at its ends, which say what failed and why, are kept. Afterwards the chain is complete again,
    because any of its links may decide who is at fault.
    """
    links: dict[int, BaseException] = {}
    link: BaseException | None = exc
    with contextlib.suppress(Exception):  # pytest will not be able to show it either
        while link is not None and id(link) not in links:
            links[id(link)] = link
            handled = None if link.__suppress_context__ else link.__context__
            link = handled if link.__cause__ is None else link.__cause__
    if (left_out := len(links) - 2 * _ENDS) <= 0:
        yield
        return
    last, following = [*links.values()][_ENDS - 1], [*links.values()][-_ENDS]
    name = "__context__" if last.__cause__ is None else "__cause__"
    before, noted = getattr(last, name), False
    try:
        setattr(last, name, following)
        with contextlib.suppress(TypeError):  # the check gave it notes of its own that are not a list
            last.add_note(f"{left_out:,} further exceptions of this chain are left out here")
            noted = True
        yield
    finally:
        setattr(last, name, before)
        if noted:
            last.__notes__.pop()


def give_text(exc: BaseException) -> None:
    """Give an exception a text if its own cannot be read: other plugins would crash on it."""
    kind = type(exc)
    try:
        str(exc), repr(exc)
    except KeyboardInterrupt:
        raise
    except BaseException:
        text = text_of(exc)
        members = {"__str__": lambda _: text, "__repr__": lambda _: text, "__module__": kind.__module__}
        with contextlib.suppress(TypeError):  # not every class lets its objects have another
            exc.__class__ = type(kind.__name__, (kind,), {**members, "__slots__": ()})


#: Prefix of a module -> exceptions with which its clients say that the other side did not answer properly.
#: Derived exceptions count as well, unless ``_OWN`` names them.
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
#: Exceptions of the same libraries about wrong use, not about the answer.
_OWN = frozenset(
    {"UnsupportedProtocol", "LocalProtocolError", "PoolTimeout", "InvalidURL", "InvalidProxyURL"}
    | {"InvalidSchema", "MissingSchema", "LocationValueError", "LocationParseError", "InvalidUrlClientError"}
)
#: Between this runner and its proxy.
_PROXY = frozenset(
    {"ProxyError", "ClientProxyConnectionError", "ClientHttpProxyError", "InvalidProxyURL"}
    | {"ProxySchemeUnknown", "ProxySchemeUnsupported"}
)
#: The operating system's error codes for the way to the other side; most have their own class.
_ON_THE_WAY = frozenset({errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.ENETRESET})
#: Its error codes for this machine.
_OF_THE_RUNNER = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS}
)
#: Modules that wait for something on this machine; their TimeoutError says nothing about the platform.
_WAITING = ("asyncio", "concurrent", "multiprocessing", "queue", "threading", "subprocess")
#: Statuses of a gateway that does not reach a service.
_GATEWAY = frozenset({502, 503, 504})


def is_transport(exc: BaseException) -> bool:
    """Tell whether an exception by itself says that the other side did not answer, or not properly."""
    if {kind.__name__ for kind in type(exc).__mro__} & (_OWN | _PROXY):
        return False
    if isinstance(exc, OSError) and exc.errno in _OF_THE_RUNNER:
        return False
    if isinstance(exc, TimeoutError) and raised_in(exc).startswith(_WAITING):
        return False
    return _names_transport(exc) or (isinstance(exc, OSError) and exc.errno in _ON_THE_WAY)


def is_of_the_runner(exc: BaseException, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether an exception by itself says that this runner is at fault: a name, a proxy, a network."""
    kinds = type(exc).__mro__
    if _PROXY & {kind.__name__ for kind in kinds} or _environment_of(exc, environ):
        return True
    if isinstance(exc, OSError) and exc.errno in _OF_THE_RUNNER:
        return True
    if _RESOLVER & {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}:
        return True
    return (is_database(exc) or _names_transport(exc)) and any(words in str(exc) for words in _NO_WAY_WORDS)


def is_passing_trouble(exc: BaseException) -> bool:
    """Tell whether a failure may be transient: a timeout, a broken connection, a 502 to 504."""
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
    """Return the module that raised an exception, "" if it was not raised."""
    return next((module for module, _, _ in reversed([*frames(exc)])), "")


def _walk(exc: BaseException) -> Iterator[FrameType]:
    """Yield the frames that an exception came through, the raising one last."""
    for frame, _ in walk_tb(exc.__traceback__):
        yield frame


def frames(exc: BaseException) -> Iterator[tuple[str, str, int]]:
    """Yield module, file and line of every frame that an exception came through, the raising one last."""
    for frame, line in walk_tb(exc.__traceback__):
        yield str(frame.f_globals.get("__name__", "")), frame.f_code.co_filename, line


def _names_transport(exc: BaseException) -> bool:
    for kind in type(exc).__mro__:
        module = kind.__module__
        while module:
            if kind.__name__ in _TRANSPORT.get(module, ()):
                return True
            module = module.rpartition(".")[0]
    return False


def _status(exc: BaseException) -> int | None:
    """Return the status of the answer in an exception, from the attribute that its library uses."""
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
