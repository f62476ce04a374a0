"""G-1, phase services: how people reach the public services. Not applicable where all is plain HTTP."""

from urllib.parse import urlsplit

import httpx
import pytest
from pytest_readiness import Environment, Evidence

from smoke.aws.balancer import CERTIFICATE_DAYS
from smoke.platform.http import address_of, certificate_of, require_resolvable

pytestmark = [
    pytest.mark.goal("G-1"),
    pytest.mark.phase("services"),
    pytest.mark.p1,
    pytest.mark.requires("https"),
]

PUBLIC = ("freeside", "dixie")


@pytest.mark.parametrize("service", PUBLIC)
def test_certificate(environment: Environment, service: str, evidence: Evidence) -> None:
    """The certificate covers the host, is trusted, and lasts another two weeks."""
    url = environment.get(f"edge.{service}_url")
    found = certificate_of(url, environment.edge.ca_file)
    evidence.figure(f"names on the certificate of {urlsplit(url).hostname}", list(found.names))
    evidence.figure("days that it is valid", round(found.days, 1), "days", at_least=CERTIFICATE_DAYS)
    evidence.note(f"issued by {found.issuer}")
    assert found.days >= CERTIFICATE_DAYS, (
        f"the certificate of {urlsplit(url).hostname} ends in {found.days:.1f} days"
    )


@pytest.mark.parametrize("service", PUBLIC)
def test_http_redirects(
    environment: Environment, service: str, http: httpx.Client, evidence: Evidence
) -> None:
    """Plain HTTP only redirects to the same host over TLS, if anything listens at all.

    Load balancers decide by path, so the service's own routes are tried, too.
    """
    plain = environment.get(f"edge.{service}_plain_url")
    require_resolvable(plain)
    host, at = urlsplit(plain).hostname, address_of(environment, service)
    for path in ("/", at.path(at.health), at.path(at.jwks)):
        try:
            response = http.get(f"{plain}{path}", follow_redirects=False)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            evidence.figure(f"answer of {plain}", f"none: {error}")
            return
        evidence.exchange(response)
        target = urlsplit(response.headers.get("location", ""))
        got = f"{plain}{path} answers {response.status_code} without TLS"
        assert response.is_redirect, f"{got}, and does not redirect"
        assert (target.scheme, target.hostname) == ("https", host), (
            f"{plain}{path} redirects to {target.geturl()}, not to https://{host}"
        )
