"""The load balancer's public side: TLS that is good unless altered, and a redirect to it."""

import http.client
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from stack.launch import Stack
from tests.stack.tools import poll, request


def _get(stack: Stack, name: str, path: str = "/") -> http.client.HTTPResponse:
    edge = stack.profile["edge"]
    address = urlsplit(edge[name])
    host = str(address.hostname)
    connection: http.client.HTTPConnection = http.client.HTTPConnection(host, address.port, timeout=5)
    if address.scheme == "https":
        context = ssl.create_default_context(cafile=edge["ca_file"])
        connection = http.client.HTTPSConnection(host, address.port, timeout=5, context=context)
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


@pytest.mark.parametrize(("service", "path"), [("freeside", "/health"), ("dixie", "/api/health")])
def test_a_public_service_answers_over_tls_and_redirects_without(
    stack: Stack, service: str, path: str
) -> None:
    assert _get(stack, f"{service}_url", path).status == 200
    redirect = _get(stack, f"{service}_plain_url", path)
    secure = stack.profile["edge"][f"{service}_url"]
    assert (redirect.status, redirect.headers["Location"]) == (301, secure + path)


def _refused(stack: Stack) -> str:
    try:
        _get(stack, "dixie_url")
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    return ""


@pytest.mark.parametrize(
    ("alteration", "params", "seen"),
    [
        ("certificate", {"days": -1}, lambda stack: "expired" in _refused(stack)),
        ("certificate", {"host": "another.example"}, lambda stack: "mismatch" in _refused(stack)),
        ("certificate", {"trusted": False}, lambda stack: "self-signed" in _refused(stack)),
        ("no-redirect", {}, lambda stack: _get(stack, "dixie_plain_url", "/api/health").status == 200),
    ],
)
def test_an_alteration_is_visible_and_can_be_undone(
    stack: Stack, alteration: str, params: dict[str, Any], seen: Callable[[Stack], bool]
) -> None:
    control = f"{stack.profile['aws']['endpoint_url']}/_stack/faults"
    assert not seen(stack)
    assert request("PUT", f"{control}/{alteration}", {"service": "dixie", **params})[0] == 200
    assert seen(stack)
    assert request("POST", f"{stack.control_url}/reset")[0] == 200
    assert poll(lambda: not seen(stack), within=5, what="the load balancer is as it was")
