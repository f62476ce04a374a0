"""Requirements of a public host: TLS, a certificate with its name, suitable groups, access from outside."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from ipaddress import collapse_addresses, ip_network

from smoke.source.checkout import Finding
from smoke.source.rules import is_like
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Body, Resource
from smoke.source.terraform.references import declared, items, referenced
from smoke.source.terraform.values import Value, boolean, is_known, number, text

from .network import actions, balancers, forwards, unclear

HTTPS = 443
_TLS, _PLAIN = ("HTTPS", "TLS"), ("HTTP", "HTTPS")
_CERTIFICATE, _VALIDATED = "aws_acm_certificate", "aws_acm_certificate_validation"
_CLOUDFRONT, _RECORDS = "aws_cloudfront_distribution", ("cloudflare_record", "cloudflare_dns_record")
_OF_REGION = re.compile(r"arn:aws[\w-]*:acm:([a-z]{2}(?:-[a-z]+)+-\d):")
#: What is wrong with a resource, and the value that shows it.
Wrong = tuple[str, Value | None]
#: Resources that may be in front of a load balancer, and send a host's requests to any of its ports.
FRONTS = (
    _CLOUDFRONT, *_RECORDS, "aws_globalaccelerator_listener", "aws_apigatewayv2_integration",
    "aws_api_gateway_integration", "aws_api_gateway_vpc_link", "fastly_service_vcl",
)  # fmt: skip


def fronted(configuration: Configuration, host: str) -> bool:
    """Whether something may be in front of a host's load balancer."""
    return any(_takes(each, host) for type_ in FRONTS for each in configuration.of_type(type_))


def _takes(front: Resource, host: str) -> bool:
    """Whether such a resource may belong to a host: by its aliases, or as a proxied record."""
    if front.type == _CLOUDFRONT:
        names = [*items(front.attribute("aliases"))]
    elif front.type in _RECORDS:
        if boolean(front.attribute("proxied")) is False:
            return False
        names = [*items(front.attribute("name"))]
    else:
        return True
    written = [text(name).lower() if is_known(name) else "*" for name in names] or ["*"]
    short = front.type in _RECORDS  # a record may omit the zone's name, or be @ for it
    return any(
        is_like(host, name) or (short and (name == "@" or is_like(host, f"{name}.*"))) for name in written
    )


def entered(
    configuration: Configuration, host: str, ways: Sequence[tuple[Value, Resource | None]]
) -> Iterator[Finding]:
    """What keeps https clients from a host: `ways` are its target groups, each with its listener."""
    listeners = [at for _, at in ways if at is not None]
    yield from _unfit(ways)
    for each in dict.fromkeys(listeners):
        yield from _abroad(configuration, each)
    if len(listeners) < len(ways):
        return
    secured = [each for each in listeners if _speaks(each) not in ("HTTP", "TCP")]
    for each in listeners if not secured else ():
        if _speaks(each) == "HTTP" and number(each.attribute("port")) == HTTPS and _public(each):
            what = f"{each.address} speaks plain HTTP on port {HTTPS}, but clients use https for {host}"
            yield each.finding(what, each.attribute("protocol"))
    beside = _beside(configuration, listeners) if not secured else None
    if beside is not None:
        at = listeners[0]
        yield at.finding(
            f"{host} is routed only by {at.address} over plain HTTP, not by {beside.address} over HTTPS"
        )
    proved = [_names(configuration, each) for each in secured]
    if proved and all(names is not None and not _covers(names, host) for names in proved):
        held = " and ".join(sorted({name for names in proved for name in names or ()}))
        at = secured[0]
        what = f"the certificate of {at.address} covers {held}, not {host}"
        yield at.finding(what, at.attribute("certificate_arn"))


def _unfit(ways: Sequence[tuple[Value, Resource | None]]) -> Iterator[Finding]:
    """An HTTP balancer does not accept TCP target groups."""
    for value, listener in ways:
        group = referenced(value)
        protocol = group.attribute("protocol") if group is not None else None
        if group is None or listener is None or not is_known(protocol):
            continue
        if _speaks(listener) in _PLAIN and (said := text(protocol)) not in _PLAIN:
            what = f"{listener.address} speaks {_speaks(listener)} and cannot forward to a group of {said}"
            yield group.finding(f"{group.address}: {what}", protocol)


def _beside(configuration: Configuration, listeners: Sequence[Resource]) -> Resource | None:
    """The https listener of the same public balancer, if all of `listeners` speak plain HTTP.

    None if the files do not say the hosts and groups of each action.
    """
    balancers = {_balancer(each) for each in listeners}
    if not listeners or any(_speaks(each) != "HTTP" or not _public(each) for each in listeners):
        return None
    to = [referenced(value) for action, _ in actions(configuration) for value in forwards(action)]
    if next(unclear(configuration), None) or any(each is None or each.block.type == "data" for each in to):
        return None
    ends = [each for each in configuration.of_type("aws_lb_listener") if _speaks(each) == "HTTPS"]
    found = (each for each in ends if _balancer(each) in balancers and not each.uncertain)
    return next((each for each in found if number(each.attribute("port")) == HTTPS), None)


def recorded(
    configuration: Configuration, name: str, host: str, groups: Sequence[Resource]
) -> Iterator[Finding]:
    """Return the records of a public host that point to another balancer, or to an internal address.

    `groups` are its service's. One correct record is enough; records in private zones, in zones outside the
    files, and those that share a name with others, prove nothing. The caller of an internal balancer may be
    behind any other one.
    """
    leading = [balancers(configuration, group) for group in groups]
    found = [each for one in leading for each in one or ()]
    inside = all(_is(each, "internal") for each in found)
    own = {each.address for each in found} if None not in leading and not inside else set()
    wrong: list[Finding] = []
    yield from _unplaced(configuration, host)
    for record in configuration.of_type("aws_route53_record"):
        if _called(record) != host or record.uncertain or not _is_public(record):
            continue
        if text(record.attribute("type")) not in _LEADING or record.attribute("set_identifier") is not None:
            continue
        to = [*items(record.attribute("records"))]
        to += [each for alias in record.blocks("alias") for each in items(alias.attribute("name"))]
        at = [each for value in to if (each := referenced(value)) is not None]
        if to and all(_PRIVATE.match(text(value)) for value in to if is_known(value)) and not at:
            what = f"{record.address} points {host} to {text(to[0])}, which the public cannot reach"
            wrong += [record.finding(what, to[0])] if is_known(to[0]) else []
        elif own and at and all(_leads_astray(each, own) for each in at):
            what = f"{record.address} points {host} to {at[0].address}, which does not route to {name}"
            wrong.append(record.finding(what, to[0]))
        else:
            return
    yield from wrong


def _unplaced(configuration: Configuration, host: str) -> Iterator[Finding]:
    """A public host whose records answer callers of some places and no others."""
    records = configuration.of_type("aws_route53_record")
    if not all(is_known(each.attribute("name")) for each in records):
        return  # any of them may be the host's
    own = [each for each in records if _called(each) == host and text(each.attribute("type")) in _LEADING]
    policies = [block for each in own for block in each.blocks("geolocation_routing_policy")]
    named = [one.attribute(kind) for one in policies for kind in ("continent", "country")]
    places = [one for one in named if one is not None]
    sure = all(_is_public(each) and not each.uncertain for each in own) and all(map(is_known, places))
    callers = only_in(map(text, places)) if sure and len(policies) == len(own) else ""
    if own and callers:
        yield own[0].finding(f"the records of {host} answer only callers in {callers}")


def only_in(places: Iterable[str]) -> str:
    """The places whose callers get an answer, if callers elsewhere get none; `*` stands for any place.

    Records for all continents leave out only callers whose place is unknown.
    """
    found = {*places}
    return "" if "*" in found or found >= _CONTINENTS else " and ".join(sorted(found))


_CONTINENTS = {"AF", "AN", "AS", "EU", "NA", "OC", "SA"}
_LEADING = ("A", "AAAA", "CNAME")
_PRIVATE = re.compile(r"(?:10|127|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.[\d.]+\Z")


def _called(record: Resource) -> str:
    """The full name of a record: Terraform appends the zone's name unless it is there."""
    name, of = record.attribute("name"), record.attribute("zone_id")
    zone = referenced(of)
    said = text(name).lower().rstrip(".") if is_known(name) else ""
    end = text(zone.attribute("name")).lower().rstrip(".") if zone is not None else ""
    return said if said.endswith(end) or "${" in end else f"{said}.{end}"


def _leads_astray(to: Resource, own: Collection[str]) -> bool:
    """Whether a record's target is an application balancer that does not forward to the service's groups."""
    kind = text(to.attribute("load_balancer_type"))
    known = to.type == "aws_lb" and to.block.type != "data" and kind in ("", "application")
    return known and to.address not in own


def _is_public(record: Resource) -> bool:
    """Whether a record is in a public zone of the files."""
    zone = referenced(record.attribute("zone_id"))
    if zone is None or zone.type != "aws_route53_zone" or zone.blocks("vpc"):
        return False
    if zone.block.type == "data" and (zone.attribute("name") is None or zone.attribute("vpc_id") is not None):
        return False
    return _is_off(zone, "private_zone")


def _balancer(listener: Resource) -> str:
    of = referenced(listener.attribute("load_balancer_arn"))
    return of.address if of is not None else ""


def _abroad(configuration: Configuration, listener: Resource) -> Iterator[Finding]:
    """A certificate of another region, which the listener cannot use."""
    arn, region = listener.attribute("certificate_arn"), configuration.region(listener)
    found = [_OF_REGION.match(text(each)) for each in items(arn)]
    others = [each[1] for each in found if each is not None and each[1] != region]
    if region and others and len(others) == len(found):
        yield listener.finding(
            f"{listener.address} is in {region}, but its certificate is in {others[0]}", arn
        )


def _speaks(listener: Resource) -> str:
    return text(listener.attribute("protocol"))


def _public(listener: Resource) -> bool:
    """Whether the files say that a listener's balancer is public."""
    balancer = declared(listener.attribute("load_balancer_arn"))
    return balancer is not None and _is_off(balancer, "internal")


def _names(configuration: Configuration, listener: Resource) -> set[str] | None:
    """The names on a listener's certificates; None if the files do not say, or give it none."""
    arns = [listener.attribute("certificate_arn")]
    for each in configuration.of_type("aws_lb_listener_certificate"):
        of = referenced(each.attribute("listener_arn"))
        if of is not None and of.block.type == "data":
            of = None  # any listener may get it
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
    validated = declared(arn, _VALIDATED)
    certificate = declared(validated.attribute("certificate_arn") if validated else arn, _CERTIFICATE)
    if certificate is None:
        return None
    domain, further = (certificate.attribute(name) for name in ("domain_name", "subject_alternative_names"))
    values = [*items(domain), *items(further)]
    if domain is None or certificate.uncertain or not all(is_known(each) for each in values):
        return None
    # the name of a zone may be written with a dot at its end
    return {text(each).lower().rstrip(".") for each in values}


def _covers(names: set[str], host: str) -> bool:
    """Whether one of the names is a host's; a star stands for one label."""
    return host in names or f"*.{host.partition('.')[2]}" in names


#: The longest silence of a stream between two keepalives, in seconds.
SILENCE_S = 15
#: Other resources that forward a host's public requests to an internal load balancer.
_INWARD = (*FRONTS, "aws_apigatewayv2_vpc_link", "aws_vpclattice_target_group")


def open_to_the_public(
    configuration: Configuration, name: str, host: str, listeners: Sequence[Resource | None]
) -> Iterator[Finding]:
    """A public host's balancer must be reachable from outside, and must not cut off silent streams."""
    balancers = {}
    for listener in listeners:
        balancer = declared(listener.attribute("load_balancer_arn") if listener is not None else None)
        if balancer is not None:
            balancers[balancer.address] = balancer
    inside = [one for one in balancers.values() if _is(one, "internal")]
    fronts = any(configuration.of_type(type_) for type_ in _INWARD)
    fronts = fronts or len(configuration.of_type("aws_lb")) > len(inside)
    for balancer in inside if len(inside) == len(balancers) and not fronts else ():
        what = f"{balancer.address} is internal: {name} is not public at {host}"
        yield balancer.finding(what, balancer.attribute("internal"))
    for balancer in balancers.values():
        idle = balancer.attribute("idle_timeout")
        seconds = number(idle)
        if seconds is not None and seconds <= SILENCE_S:
            what = f"{balancer.address} closes a stream of {name} that is silent for {seconds:g} s"
            yield balancer.finding(f"{what}, but one may be silent for {SILENCE_S} s", idle)
        if not _is(balancer, "internal"):
            yield from _barred(configuration, balancer, name)
        for acl in _firewalls(configuration, balancer):
            what = f"{acl.address} blocks every request to {balancer.address}, on which {name} is public"
            yield acl.finding(what)


def _barred(configuration: Configuration, balancer: Resource, name: str) -> Iterator[Finding]:
    """Whether VPC Block Public Access bars a public balancer's region: no exclusion may be in the files."""
    excluded = configuration.of_type("aws_vpc_block_public_access_exclusion")
    if excluded or configuration.unread:
        return
    for one in configuration.of_type("aws_vpc_block_public_access_options"):
        mode, region = one.attribute("internet_gateway_block_mode"), configuration.region(balancer)
        barred = is_known(mode) and text(mode) in ("block-bidirectional", "block-ingress")
        if barred and not one.uncertain and region == configuration.region(one):
            what = f"{one.address} is {text(mode)}: nobody can reach {name} through {balancer.address}"
            yield one.finding(what, mode)


#: How a rule of WAF compares the paths of requests, all of which begin with a slash.
_ANY_PATH = ("STARTS_WITH", "CONTAINS")


def _hits_all(rule: Body) -> bool:
    """Whether a rule surely matches every request: by its path, or by an IP set with all of IPv4."""
    for statement in rule.blocks("statement"):
        for match in statement.blocks("byte_match_statement"):
            of_path = any(field.blocks("uri_path") for field in match.blocks("field_to_match"))
            how, said = match.attribute("positional_constraint"), match.attribute("search_string")
            if of_path and text(how) in _ANY_PATH and is_known(said) and text(said) == "/":
                return True
        for match in statement.blocks("ip_set_reference_statement"):
            listed = declared(match.attribute("arn"))
            kept = listed is None or listed.ignores("addresses")  # others set them
            ranges = [*items(listed.attribute("addresses"))] if listed is not None and not kept else []
            forwarded = match.blocks("ip_set_forwarded_ip_config")
            if ranges and all(map(is_known, ranges)) and not forwarded and is_everybody(map(text, ranges)):
                return True
    return False


def is_everybody(ranges: Iterable[str]) -> bool:
    """Whether address ranges together cover all of IPv4."""
    try:
        found = [each for each in (ip_network(one, strict=False) for one in ranges) if each.version == 4]
    except ValueError:
        return False  # what refers to it is refused elsewhere
    return any(each.prefixlen == 0 for each in collapse_addresses(found))


def _firewalls(configuration: Configuration, balancer: Resource) -> Iterator[Resource]:
    """The web ACLs of a balancer that block everything, and have no rule that may allow anything.

    They block by default, or by a rule that matches every request.
    """
    for one in configuration.of_type("aws_wafv2_web_acl_association"):
        acl, of = declared(one.attribute("web_acl_arn")), referenced(one.attribute("resource_arn"))
        if acl is None or of is None or of.address != balancer.address:
            continue
        rules = acl.blocks("rule")
        allows = any(action.blocks("allow") for rule in rules for action in rule.blocks("action"))
        others = any(each.type.startswith("aws_wafv2_web_acl_rule") for each in configuration.resources)
        elsewhere = others or acl.ignores("rule") or acl.attribute("rule_json") is not None
        elsewhere = elsewhere or any(
            rule.uncertain or statement.blocks("rule_group_reference_statement")
            for rule in rules
            for statement in rule.blocks("statement")
        )
        blocks = any(default.blocks("block") for default in acl.blocks("default_action")) or any(
            _hits_all(rule) for rule in rules for action in rule.blocks("action") if action.blocks("block")
        )
        if blocks and not allows and not elsewhere and not acl.uncertain and not one.uncertain:
            yield acl


def _is(block: Body, name: str) -> bool:
    return boolean(block.attribute(name)) is True


def _is_off(block: Body, name: str) -> bool:
    """Whether a switch is off, as it is if the block does not set it."""
    value = block.attribute(name)
    return value is None or boolean(value) is False


def of_listener(listener: Resource) -> Iterator[Wrong]:
    """TLS without a certificate, and a protocol of other balancers; a null here may be set by Terraform."""
    said = text(listener.attribute("protocol"))
    balancer = referenced(listener.attribute("load_balancer_arn"))
    of = balancer.attribute("load_balancer_type") if balancer is not None else None
    spoken = {
        "application": ("HTTP", "HTTPS"),
        "network": ("TCP", "TLS", "UDP", "TCP_UDP", "QUIC", "TCP_QUIC"),
    }
    if said and of is not None and said not in spoken.get(text(of), (said,)):
        yield f"a {text(of)} load balancer has no {said} listener", listener.attribute("protocol")
    block = listener.block
    kept = any("ignore_changes" in each.attributes for each in block.nested("lifecycle"))
    given = "certificate_arn" in block.attributes or listener.attribute("certificate_arn") is not None
    if said in ("HTTPS", "TLS") and not given and not kept:
        yield f"{said} needs a certificate_arn", listener.attribute("protocol")
    port = listener.attribute("port")
    for action in listener.blocks("default_action"):
        for to in action.blocks("redirect"):
            here = {"protocol": said, "port": text(port),
                    "host": "", "path": "", "query": ""}  # fmt: skip
            if text(action.attribute("type")) == "redirect" and all(map(partial(_stays, to), here.items())):
                yield f"it redirects {said} on port {here['port']} to itself", to.attribute("port")


#: A redirect's defaults, which keep the original; `path` includes its first slash.
_KEPT = {"host": "#{host}", "path": "/#{path}", "query": "#{query}"}


def _stays(redirect: Body, part: tuple[str, str]) -> bool:
    """Whether a redirect keeps a part of a URL, given by its name and current value."""
    name, here = part
    said = text(redirect.attribute(name))
    return said in ("", f"#{{{name}}}", _KEPT.get(name, here))


def of_balancer(balancer: Resource) -> Iterator[Wrong]:
    """An application load balancer in a single zone, except on an Outpost."""
    kind, subnets = text(balancer.attribute("load_balancer_type")), balancer.attribute("subnets")
    outpost = balancer.attribute("customer_owned_ipv4_pool") is not None
    if subnets is None or outpost or kind not in ("", "application") or not is_known(subnets):
        return
    if len({text(each) for each in items(subnets)} - {""}) == 1:
        yield "an application load balancer needs two subnets in two zones", subnets


def of_targets(group: Resource) -> Iterator[Wrong]:
    """An HTTP health check with a timeout above its interval."""
    http = text(group.attribute("protocol")) in ("HTTP", "HTTPS")
    for check in group.blocks("health_check") if http else ():
        named = {name: check.attribute(name) for name in ("interval", "timeout")}
        every, longest = (number(each) for each in named.values())
        if every is not None and longest is not None and longest >= every:
            yield f"health_check: timeout is {longest:g}, but its interval is {every:g}", named["timeout"]
