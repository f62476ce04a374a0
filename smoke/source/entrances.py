"""What listeners of a public host must be: of TLS, with a certificate of its name, of the group's kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .checkout import Finding
from .iam import fits
from .references import items, referenced
from .terraform import Configuration, Resource
from .values import Value, boolean, flat, is_known, number, text

HTTPS = 443
_TLS, _PLAIN = ("HTTPS", "TLS"), ("HTTP", "HTTPS")
_CERTIFICATE, _VALIDATED = "aws_acm_certificate", "aws_acm_certificate_validation"
_CLOUDFRONT, _RECORDS = "aws_cloudfront_distribution", ("cloudflare_record", "cloudflare_dns_record")
#: What may stand before a load balancer, and take a host's requests to any port of it.
FRONTS = (
    _CLOUDFRONT, *_RECORDS, "aws_globalaccelerator_listener", "aws_apigatewayv2_integration",
    "aws_api_gateway_integration", "aws_api_gateway_vpc_link", "fastly_service_vcl",
)  # fmt: skip


def fronted(configuration: Configuration, host: str) -> bool:
    """Whether something may stand before the load balancer of a host."""
    return any(_takes(each, host) for type_ in FRONTS for each in configuration.of_type(type_))


def _takes(front: Resource, host: str) -> bool:
    """Whether a front may be one of a host: by its aliases, or as a record that is not for DNS alone."""
    if front.type == _CLOUDFRONT:
        names = [*items(front.attribute("aliases"))]
    elif front.type in _RECORDS:
        proxied = front.attribute("proxied")
        if proxied is not None and boolean(proxied) is False:
            return False
        names = [*items(front.attribute("name"))]
    else:
        return True
    written = [text(flat(name)).lower() if is_known(name) else "*" for name in names] or ["*"]
    short = front.type in _RECORDS  # one may leave out the name of its zone, or be @ for it
    return any(fits(host, name) or (short and (name == "@" or fits(host, f"{name}.*"))) for name in written)


def entered(
    configuration: Configuration, host: str, ways: Sequence[tuple[Value, Resource | None]]
) -> Iterator[Finding]:
    """What keeps a client of https from a host: `ways` are its target groups, each with its listener."""
    listeners = [at for _, at in ways if at is not None]
    yield from _unfit(ways)
    if len(listeners) < len(ways):
        return
    secured = [each for each in listeners if _speaks(each) not in ("HTTP", "TCP")]
    for each in listeners if not secured else ():
        port = each.attribute("port")
        if _speaks(each) == "HTTP" and port is not None and number(flat(port)) == HTTPS and _public(each):
            what = f"{each.address} speaks plain HTTP on port {HTTPS}, where {host} is asked by https"
            yield each.finding(what, each.attribute("protocol"))
    proved = [_names(configuration, each) for each in secured]
    if proved and all(names is not None and not _covers(names, host) for names in proved):
        held = " and ".join(sorted({name for names in proved for name in names or ()}))
        at = secured[0]
        what = f"the certificate of {at.address} is of {held}, not of {host}"
        yield at.finding(what, at.attribute("certificate_arn"))


def _unfit(ways: Sequence[tuple[Value, Resource | None]]) -> Iterator[Finding]:
    """A balancer of HTTP takes no target group of TCP."""
    for value, listener in ways:
        group = referenced(value)
        protocol = group.attribute("protocol") if group is not None else None
        if group is None or listener is None or protocol is None or not is_known(protocol):
            continue
        said = text(flat(protocol))
        if _speaks(listener) in _PLAIN and said not in _PLAIN:
            what = f"{listener.address} speaks {_speaks(listener)}: it takes no target group of {said}"
            yield group.finding(f"{group.address}: {what}", protocol)


def _speaks(listener: Resource) -> str:
    protocol = listener.attribute("protocol")
    return text(flat(protocol)) if protocol is not None else ""


def _public(listener: Resource) -> bool:
    """Whether the files say that a listener's balancer is one that the public reaches."""
    arn = listener.attribute("load_balancer_arn")
    balancer = referenced(arn) if arn is not None else None
    if balancer is None or balancer.block.type == "data":
        return False
    internal = balancer.attribute("internal")
    return internal is None or boolean(internal) is False


def _names(configuration: Configuration, listener: Resource) -> set[str] | None:
    """The names that a listener can prove; None where the files do not say, or give it no certificate."""
    arns = [listener.attribute("certificate_arn")]
    for each in configuration.of_type("aws_lb_listener_certificate"):
        at = each.attribute("listener_arn")
        of = referenced(at) if at is not None else None
        if of is not None and of.block.type == "data":
            of = None  # which may be any listener
        if of is None or of.address == listener.address:
            arns.append(each.attribute("certificate_arn") if of is not None and not each.uncertain else None)
    found: set[str] = set()
    for arn in arns:
        names = _of_certificate(arn)
        if names is None:
            return None
        found |= names
    return found


def _of_certificate(arn: Value | None) -> set[str] | None:
    certificate = referenced(arn) if arn is not None else None
    if certificate is not None and certificate.type == _VALIDATED:
        inner = certificate.attribute("certificate_arn")
        certificate = referenced(inner) if inner is not None else None
    if certificate is None or certificate.type != _CERTIFICATE or certificate.block.type == "data":
        return None
    domain, further = (certificate.attribute(name) for name in ("domain_name", "subject_alternative_names"))
    values = [*items(domain), *items(further)]
    if domain is None or certificate.uncertain or not all(is_known(each) for each in values):
        return None
    # the name of a zone may be written with a dot at its end
    return {text(flat(each)).lower().rstrip(".") for each in values}


def _covers(names: set[str], host: str) -> bool:
    """Whether one of the names is a host's; a star stands for one label."""
    return host in names or f"*.{host.partition('.')[2]}" in names
