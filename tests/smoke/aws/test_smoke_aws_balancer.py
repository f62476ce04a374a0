"""Load balancers: which host's requests go where, and which targets get them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from smoke.aws.balancer import (
    FIXED,
    BalancerRoute,
    TargetGroup,
    ailing,
    crowded,
    expiring_of,
    idle,
    port_of,
    read_routes,
    routes_of,
    routes_to,
    target_group_of,
)
from smoke.aws.edge import diverted, is_fronted, unserved
from smoke.aws.inventory import columns, seen_of
from smoke.aws.names import Names
from smoke.aws.waf import PublicCall
from tests.smoke.aws.fakes import NOON, UNDER_WAY, definition, scripted, service


def rule(group: str, *hosts: str, default: bool = False, weighted: bool = False) -> dict[str, Any]:
    action = (
        {"ForwardConfig": {"TargetGroups": [{"TargetGroupArn": group}]}}
        if weighted
        else {"TargetGroupArn": group}
    )
    conditions = [{"Field": "host-header", "HostHeaderConfig": {"Values": list(hosts)}}] if hosts else []
    return {"IsDefault": default, "Conditions": conditions, "Actions": [action]}


def test_the_default_route_takes_the_certificates_hosts_that_no_rule_takes() -> None:
    rules = [rule("api", default=True), rule("dixie", "dixie.example", weighted=True)]
    found = routes_of(rules, "lb", ["api.example", "dixie.example"])
    assert found == [
        BalancerRoute("api", "lb", ("api.example",)),
        BalancerRoute("dixie", "lb", ("dixie.example",)),
    ]
    assert routes_of([{"IsDefault": True, "Actions": [{"Type": "redirect"}]}], "lb", ["x"]) == []
    partly = rule("api", "api.example")
    partly["Conditions"].append(PATHS)
    (first, *_) = routes_of([rules[0], partly], "lb", ["api.example"])
    assert first.hosts == ("api.example",)
    assert routes_to(found, ["dixie"]) == [found[1]]
    assert routes_to(found, []) == []


def test_a_target_group_that_two_listeners_reach_is_known_by_its_hosts() -> None:
    plain, secure = BalancerRoute("api", "lb", ()), BalancerRoute("api", "lb", ("api.example",))
    assert routes_to([plain, secure], ["api"]) == [secure, plain]


def ranked(
    priority: object, group: str, *conditions: dict[str, Any], listener: str = "rule/lb/1"
) -> dict[str, Any]:
    made = rule(group, default=priority == "default")
    return made | {"Priority": priority, "Conditions": [*conditions], "RuleArn": f"{listener}/{priority}"}


HOST = {"Field": "host-header", "HostHeaderConfig": {"Values": ["dixie.example"]}}
PATHS = {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/x", "/api/*"]}}
LOGIN = {"Type": "authenticate-oidc", "AuthenticateOidcConfig": {"Issuer": "https://id.example"}}
LETS_BY = {"AuthenticateCognitoConfig": {"OnUnauthenticatedRequest": "allow"}}
ADMIN = {"Field": "path-pattern", "Values": ["/admin/*"]}
WWW = {"Field": "host-header", "Values": ["www.example"]}
AWAY = {"Type": "redirect", "RedirectConfig": {"Host": "old.fly.dev"}}
HOME = {"Type": "redirect", "RedirectConfig": {"Host": "dixie.example", "Protocol": "HTTPS"}}
TO_TLS = {"Type": "redirect", "RedirectConfig": {"Host": "#{host}", "Protocol": "HTTPS"}}
MOVED = {"Type": "redirect", "RedirectConfig": {"Path": "/v2/#{path}"}}
EXPRESSION = {"RegexValues": ["^/?admin"]}
HEALTH, METRICS = ([PublicCall("GET", path, "dixie.example", True)] for path in ("/api/health", "/metrics"))
ELSE = {"Field": "query-string", "QueryStringConfig": {"Values": [{"Value": "x"}]}}


def from_addresses(*ranges: str) -> dict[str, Any]:
    return {"Field": "source-ip", "SourceIpConfig": {"Values": [*ranges]}}


def with_header(name: str, value: str) -> dict[str, Any]:
    return {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": name, "Values": [value]}}


@pytest.mark.parametrize(
    ("other", "taken"),
    [
        (ranked("100", "api", PATHS), True),
        (ranked("100", "api", PATHS, HOST), True),
        (ranked("100", "api", {"Field": "path-pattern", "Values": ["/api/health"]}), True),
        (ranked("300", "api", PATHS), False),
        ({**ranked("100", "", PATHS), "Actions": [{"Type": "fixed-response"}]}, True),
        ({**ranked("100", "", PATHS, ELSE), "Actions": [{"Type": "fixed-response"}]}, False),
        ({**ranked("100", "", PATHS), "Actions": [{"Type": "redirect"}]}, False),
        ({**ranked("100", "", HOST), "Actions": [AWAY]}, True),
        ({**ranked("100", "", PATHS, HOST), "Actions": [AWAY]}, True),
        ({**ranked("100", "", WWW), "Actions": [AWAY]}, False),
        ({**ranked("100", "", HOST), "Actions": [HOME]}, False),
        ({**ranked("100", "", HOST), "Actions": [TO_TLS]}, False),
        ({**ranked("100", "", HOST), "Actions": [{"Type": "fixed-response"}]}, True),
        (ranked("100", "api", HOST), True),
        (ranked("100", "api", {"Field": "host-header", "Values": ["*.example"]}), True),
        (ranked("100", "api", {"Field": "host-header", "Values": ["*.api.example"]}), False),
        (ranked("100", "api", HOST, ELSE), False),
        (ranked("300", "api", HOST), False),
        (ranked("100", "dixie-green", HOST), False),
        ({**ranked("100", "", HOST), "Actions": [LOGIN, {"TargetGroupArn": "dixie"}]}, True),
        ({**ranked("100", "", HOST), "Actions": [LETS_BY, {"TargetGroupArn": "dixie"}]}, False),
        ({**ranked("100", "", HOST, ADMIN), "Actions": [LOGIN, {"TargetGroupArn": "dixie"}]}, False),
        (ranked("100", "api", PATHS, ELSE), False),
        (ranked("100", "api", PATHS, {"Field": "host-header", "Values": ["api.example"]}), False),
        (ranked("100", "dixie-green", PATHS), False),
        (ranked("100", "api", {"Field": "path-pattern", "Values": ["/docs/*"]}), False),
        (ranked("100", "api", PATHS, listener="rule/lb/2"), False),
        (ranked("100", "api", {"Field": "path-pattern", "PathPatternConfig": EXPRESSION}), False),
        (ranked("100", "api", {"Field": "host-header", "HostHeaderConfig": EXPRESSION}), False),
        (ranked("100", "api", {"Field": "http-request-method", "Values": ["GET"]}), True),
        (ranked("100", "api", HOST, {"Field": "http-request-method", "Values": ["OPTIONS"]}), False),
        (ranked("100", "api", from_addresses("0.0.0.0/1", "128.0.0.0/1")), True),
        (ranked("100", "api", from_addresses("203.0.113.0/24", "::/0")), False),
        (ranked("100", "api", with_header("User-Agent", "*")), True),
        (ranked("100", "api", with_header("User-Agent", "bot*")), False),
        (ranked("100", "api", with_header("Host", "Dixie.*")), True),
        (ranked("100", "api", with_header("Authorization", "Bearer *")), True),
        (ranked("100", "api", with_header("Authorization", "Basic *")), False),
        (ranked("100", "api", with_header("X-Canary", "*")), False),
        (ranked("100", "empty", HOST), True),
        ({**ranked("100", "", PATHS), "Actions": [MOVED]}, True),
    ],
)
def test_an_earlier_rule_takes_what_is_for_another_service(other: dict[str, Any], taken: bool) -> None:
    own = ranked("200", "dixie", HOST)
    routes = routes_of([own, other, ranked("default", "api")], "lb", [])
    found = diverted(routes, HEALTH, ["dixie"], {"api"}, "empty".__eq__)
    assert (found is not None) is taken


def test_what_an_own_rule_took_before_is_not_taken() -> None:
    rules = [ranked("1", "dixie", PATHS, HOST), ranked("2", "api", HOST), ranked("3", "dixie", HOST)]
    routes = routes_of(rules, "lb", [])
    assert diverted(routes, HEALTH, ["dixie"], {"api"}, "empty".__eq__) is None
    assert diverted(routes, METRICS, ["dixie"], {"api"}) is not None


@pytest.mark.parametrize(
    ("more", "taken"),
    [
        ((), False),
        ((with_header("X-Origin", "s"),), False),  # by which a balancer recognises CloudFront
        ((with_header("Host", "www.example"),), True),
    ],
)
def test_what_stands_before_the_balancer_may_make_calls_fit(more: Any, taken: bool) -> None:
    closed = {**ranked("default", ""), "Actions": [{"Type": "fixed-response"}]}
    routes = routes_of([ranked("100", "dixie", HOST, *more), closed], "lb", [])
    assert (diverted(routes, HEALTH, ["dixie"], ()) is not None) is taken


@pytest.mark.parametrize(
    ("second", "weight", "taken"),
    [("api", 50, True), ("api", 0, False), ("dixie-green", 50, False)],
)
def test_a_rule_may_share_requests_with_what_is_anothers(second: str, weight: int, taken: bool) -> None:
    groups = [{"TargetGroupArn": "dixie", "Weight": 50}, {"TargetGroupArn": second, "Weight": weight}]
    shares = ranked("200", "", HOST) | {"Actions": [{"ForwardConfig": {"TargetGroups": groups}}]}
    routes = routes_of([shares, ranked("default", "api")], "lb", [])
    assert (diverted(routes, HEALTH, ["dixie"], {"api"}, "empty".__eq__) is not None) is taken


@pytest.mark.parametrize(
    ("hosts", "certified", "declared", "seen"),
    [
        (["dixie.*"], [], "dixie.example", "dixie.example"),
        (["*"], [], "dixie.example", "dixie.example"),
        (["api.*"], [], "dixie.example", "api.*"),
        ([], ["*.example"], "dixie.example", "dixie.example"),
        ([], ["*"], "dixie.example", "dixie.example"),  # a certificate that is not ACM's
        ([], ["api.example"], "dixie.example", "api.example"),
    ],
)
def test_a_pattern_of_hosts_is_an_address(
    hosts: list[str], certified: list[str], declared: str, seen: str
) -> None:
    (route,) = routes_of([rule("dixie", *hosts, default=not hosts)], "lb", certified)
    found = seen_of(service("dixie", target_groups=("dixie",)), definition("dixie"), [route], {})
    row = {"cpu": 0, "memory": 0, "image": "", "url": declared}
    assert columns(row, found)["url"] == (declared, seen)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, ""),
        ({"Status": "ISSUED", "NotAfter": NOON + timedelta(days=15)}, ""),
        ({"Status": "ISSUED", "NotAfter": NOON + timedelta(days=5)}, "ends on 2026-03-06"),
        ({"Status": "EXPIRED"}, "is EXPIRED"),
        ({"Status": "PENDING_VALIDATION"}, "is PENDING_VALIDATION"),
    ],
)
def test_a_certificate_lasts_two_weeks(told: dict[str, Any], why: str) -> None:
    assert expiring_of(told, NOON) == why


def test_a_balancer_with_another_name_is_found_by_its_target_groups() -> None:
    balancers = [{"LoadBalancerArn": f"lb-{name}", "LoadBalancerName": name} for name in ("all", "p-a", "x")]

    account, _ = scripted(
        describe_target_groups=lambda TargetGroupArns: {"TargetGroups": [{"LoadBalancerArns": ["lb-all"]}]},
        describe_load_balancers=lambda **_: {"LoadBalancers": balancers},
        describe_listeners=lambda LoadBalancerArn: {
            "Listeners": [{"ListenerArn": LoadBalancerArn, "LoadBalancerArn": LoadBalancerArn}]
        },
        describe_rules=lambda ListenerArn: {"Rules": [rule("api", "api.example")]},
    )
    found = read_routes(account, Names("p"), ["api"])
    assert [route.balancer for route in found] == ["lb-all", "lb-p-a"]


def certified(protocol: str, *others: str) -> BalancerRoute:
    """The route of a listener with an expired `dixie.example` certificate and these others."""
    listener = {"ListenerArn": "l", "LoadBalancerArn": "lb", "Protocol": protocol, "Port": 443}
    account, _ = scripted(
        describe_load_balancers=lambda **_: {
            "LoadBalancers": [{"LoadBalancerArn": "lb", "LoadBalancerName": "p-a"}]
        },
        describe_listeners=lambda **_: {
            "Listeners": [listener | {"Certificates": [{"CertificateArn": "arn:aws:acm:dixie.example"}]}]
        },
        describe_rules=lambda **_: {"Rules": [rule("dixie", default=True)]},
        describe_certificate=lambda CertificateArn: {
            "Certificate": {
                "DomainName": CertificateArn.rpartition(":")[2].removeprefix("new."),
                "Status": "ISSUED" if ":new." in CertificateArn else "EXPIRED",
            }
        },
        describe_listener_certificates=lambda **_: {
            "Certificates": [{"CertificateArn": f"arn:aws:acm:{each}"} for each in others]
        },
    )
    (route,) = read_routes(account, Names("p"))
    return route


@pytest.mark.parametrize(
    ("others", "expiring"),
    [
        ((), {"dixie.example": "is EXPIRED"}),
        (("api.example", "new.api.example"), {"dixie.example": "is EXPIRED"}),
        (("dixie.example",), {"dixie.example": "is EXPIRED"}),
        (("new.dixie.example",), {}),
        (("new.*.example",), {}),
    ],
)
def test_another_certificate_of_the_listener_may_be_good(
    others: tuple[str, ...], expiring: dict[str, str]
) -> None:
    found = certified("HTTPS", *others)
    assert {name: why for name, why in found.expiring.items() if name == "dixie.example"} == expiring
    assert found.serves("dixie.example")


def test_a_default_route_has_the_hosts_of_all_certificates_of_its_listener() -> None:
    found = certified("HTTPS", "new.api.example", "new.*.web.example")
    assert {"dixie.example", "api.example", "*.web.example"} == {*found.hosts} == {*found.proved}


@pytest.mark.parametrize(
    ("proved", "host", "proves"),
    [
        (("api.example",), "api.example", True),
        (("x", "*.EXAMPLE"), "api.example", True),
        (("*",), "api.example", True),  # a certificate of IAM's
        (("*.example",), "a.api.example", False),
        (("example",), "api.example", False),
        (("dixie.example",), "api.example", False),
    ],
)
def test_a_certificate_proves_its_names(proved: tuple[str, ...], host: str, proves: bool) -> None:
    assert BalancerRoute("t", "lb", (), proved=proved).proves(host) is proves


POSTS = {"AllowedMethods": {"Items": ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"]}}
READS = {"AllowedMethods": {"Items": ["GET", "HEAD"]}}
CREDENTIALS = "Authorization"
KEEPS_NOTHING = {"CachePolicyId": "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"}
KEEPS = {"CachePolicyId": "658327ea-f89d-4fab-a63d-7e88639e58f6"}
CALLS = [
    PublicCall("GET", "/health", "api.example"),
    PublicCall("POST", "/api/invoke", "api.example", True),
    PublicCall("GET", "/api/budget", "api.example", True),
]
STREAM = PublicCall("POST", "/api/stream", "api.example", True, streamed=True)


@pytest.mark.parametrize(
    ("distribution", "wrong"),
    [
        ({"DefaultCacheBehavior": {**POSTS, **KEEPS_NOTHING, "OriginRequestPolicyId": "of-ones-own"}}, 0),
        ({"DefaultCacheBehavior": {**POSTS, **KEEPS_NOTHING, "FunctionAssociations": {"Quantity": 1}}}, 0),
        ({"DefaultCacheBehavior": {**POSTS, **KEEPS_NOTHING, "FunctionAssociations": {"Quantity": 0}}}, 1),
        ({"DefaultCacheBehavior": {**POSTS, "ForwardedValues": {"Headers": {"Items": [CREDENTIALS]}}}}, 0),
        ({"DefaultCacheBehavior": {**POSTS, "ForwardedValues": {"Headers": {"Quantity": 0}}}}, 1),
        ({"DefaultCacheBehavior": {**POSTS, "ForwardedValues": {"Headers": {"Items": ["*"]}}}}, 0),
        ({"DefaultCacheBehavior": {**POSTS, "CachePolicyId": "of-ones-own"}}, 0),
        ({"DefaultCacheBehavior": {**READS, **KEEPS},
          "CacheBehaviors": {"Items": [{"PathPattern": "api/*", **POSTS, "CachePolicyId": "x"}]}}, 0),
        ({"DefaultCacheBehavior": READS}, 1),
        ({"DefaultCacheBehavior": {**POSTS, **KEEPS}}, 1),
        ({"DefaultCacheBehavior": {**POSTS, "DefaultTTL": 86400}}, 1),
        ({"DefaultCacheBehavior": POSTS, "Enabled": False}, 1),
        ({"DefaultCacheBehavior": POSTS, "CacheBehaviors": {"Items": [{"PathPattern": "/a*", **READS}]}}, 1),
    ],
)  # fmt: skip
def test_cloudfront_lets_calls_through_and_keeps_nobodys_answers(distribution: Any, wrong: int) -> None:
    assert len([*unserved(distribution, CALLS)]) == wrong


@pytest.mark.parametrize(
    ("origin", "wrong"),
    [
        ({"CustomOriginConfig": {"OriginReadTimeout": 30}}, 0),
        ({"CustomOriginConfig": {"OriginReadTimeout": 15}}, 0),
        ({"CustomOriginConfig": {"OriginReadTimeout": 5}}, 1),
        ({"Id": "unused", "CustomOriginConfig": {"OriginReadTimeout": 5}}, 0),
        ({"VpcOriginConfig": {"VpcOriginId": "vo_1", "OriginReadTimeout": 5}}, 1),
        ({"S3OriginConfig": {}}, 0),
    ],
)
def test_how_long_cloudfront_waits(origin: dict[str, Any], wrong: int) -> None:
    behaviour = {**POSTS, "CachePolicyId": "of-ones-own", "TargetOriginId": "alb"}
    used = {"Id": "alb", "DomainName": "alb.example", **origin}
    distribution = {"DefaultCacheBehavior": behaviour, "Origins": {"Items": [used]}}
    assert len([*unserved(distribution, [*CALLS, STREAM])]) == wrong
    assert [*unserved(distribution, CALLS)] == []  # no stream passes


@pytest.mark.parametrize(
    ("ends", "fronted"),
    [
        (["d111.cloudfront.net."], True),
        (["a1b2.awsglobalaccelerator.com"], True),
        (["x.edgekey.net"], True),
        (["dualstack.p-alb-1.us-east-1.elb.amazonaws.com."], False),
        (["p-nlb-1.elb.us-east-1.amazonaws.com"], False),
        (["192.0.2.7"], False),
        ([], False),
    ],
)
def test_what_is_in_front_of_a_balancer(ends: list[str], fronted: bool) -> None:
    assert is_fronted(ends) is fronted


def test_a_listener_that_passes_tls_on_may_have_any_host() -> None:
    assert certified("TCP").serves("dixie.example")


def test_a_target_group_with_weight_zero_is_not_a_route() -> None:
    weighted = [{"TargetGroupArn": "blue", "Weight": 0}, {"TargetGroupArn": "green", "Weight": 100}]
    action = {"TargetGroupArn": "blue", "ForwardConfig": {"TargetGroups": weighted}}
    assert [route.target_group for route in routes_of([{"Actions": [action]}], "lb", [])] == ["green"]


@pytest.mark.parametrize(
    ("redirect", "circles"),
    [
        ({"Protocol": "HTTPS", "Port": "443"}, True),
        (
            {"Protocol": "HTTPS", "Host": "#{host}", "Path": "/#{path}", "Query": "#{query}", "Port": "443"},
            True,
        ),
        ({"Protocol": "HTTPS", "Port": "8443"}, True),
        ({"Protocol": "HTTPS", "Port": "443", "Query": "seen=1"}, True),
        ({"Protocol": "HTTP", "Port": "80"}, True),
        ({"Protocol": "HTTP"}, True),
    ],
)
def test_a_redirect_of_https_leads_nowhere_useful(redirect: dict[str, str], circles: bool) -> None:
    rules = [{"Actions": [{"Type": "redirect", "RedirectConfig": redirect}]}]
    found = routes_of(rules, "lb", [], {"Protocol": "HTTPS", "Port": 443})
    assert [route.target_group for route in found] == ([FIXED] if circles else [])
    assert routes_of(rules, "lb", [], {"Protocol": "HTTP", "Port": 80}) == []
    moved = {"Protocol": "HTTPS", "Port": 8443}  # callers are told the usual port
    assert bool(routes_of(rules, "lb", [], moved)) == (redirect.get("Port") != "443")


def test_the_dimensions_of_a_route() -> None:
    start = "arn:aws:elasticloadbalancing:us-east-1:1"
    found = BalancerRoute(f"{start}:targetgroup/p-api-tg/0a", f"{start}:loadbalancer/app/p-alb/1b", ())
    assert found.dimensions == {"TargetGroup": "targetgroup/p-api-tg/0a", "LoadBalancer": "app/p-alb/1b"}


def group(**changed: Any) -> TargetGroup:
    return TargetGroup(**{"name": "p-api-tg", "port": 0, "path": "/health",
                          "targets": {"10.0.0.1:3000": "healthy"}, **changed})  # fmt: skip


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (group(), []),
        (group(port=3000, path="/health?deep=1"), []),
        (group(path=""), []),
        (group(port=9000), ["p-api-tg checks health on port 9000, but api listens on 3000"]),
        (group(codes="200-299"), []),
        (group(codes="404"), ["p-api-tg expects 404 from healthy targets, but api answers 200"]),
        (group(path="/healthz"), ["p-api-tg checks health at /healthz, but api reports it at /health"]),
    ],
)
def test_a_target_group_asks_where_the_service_answers(found: TargetGroup, why: list[str]) -> None:
    assert [*found.mistaken("api", {3000}, "/health")] == why


def test_one_healthy_target_of_any_group_is_enough() -> None:
    failed = {"10.0.0.1:3000": "unhealthy Target.FailedHealthChecks"}
    assert idle([group(targets={}), group()]) == ""
    assert idle([group(targets={"10.0.0.1:3000": "unavailable Target.HealthCheckDisabled"})]) == ""
    assert idle([]) == ""
    assert idle([group(targets={})]) == "no target of p-api-tg is healthy: it has none"
    assert idle([group(targets=failed)]).endswith("10.0.0.1:3000 is unhealthy Target.FailedHealthChecks")


@pytest.mark.parametrize(
    ("targets", "changed", "more"),
    [
        ({"a": "healthy"}, {}, False),
        ({"a": "healthy", "b": "healthy"}, {}, True),
        ({"a": "healthy", "b": "draining"}, {}, False),
        ({"a": "healthy", "b": "unhealthy Target.Timeout"}, {}, False),
        ({"a": "healthy", "b": "healthy"}, {"running": 2, "desired": 2}, False),
        ({"a": "healthy", "b": "healthy"}, {"desired": 2}, False),  # it scales
        ({"a": "healthy", "b": "healthy"}, {"deployments": (*UNDER_WAY, *UNDER_WAY)}, False),
        ({"a": "healthy", "b": "healthy"}, {"deployments": UNDER_WAY}, False),
        ({"10.0.0.1:3000": "healthy", "10.0.0.1:3001": "healthy"}, {}, False),  # one task, two ports
        ({"i-1:3000": "healthy", "i-1:3001": "healthy"}, {}, True),  # one instance, two tasks
    ],
)
def test_a_target_group_has_no_more_targets_than_tasks(
    targets: dict[str, str], changed: dict[str, Any], more: bool
) -> None:
    found, api = group(targets=targets, arn="tg"), service("api", target_groups=("tg",), **changed)
    assert bool(crowded([found], [api])) is more
    canary = service("api-canary", target_groups=("tg",))
    assert not crowded([found], [api, canary])


@pytest.mark.parametrize(
    ("target", "addresses", "other"),
    [
        ("10.0.0.1:3000", {"10.0.0.1", "10.0.0.9"}, False),
        ("10.0.0.2:3000", {"10.0.0.1"}, True),
        ("10.0.0.2:3000", None, False),  # tasks that have no address of their own
        ("i-1:3000", {"10.0.0.1"}, False),
    ],
)
def test_a_target_is_one_of_the_tasks(target: str, addresses: Any, other: bool) -> None:
    found, api = group(targets={target: "healthy"}, arn="tg"), service("api", target_groups=("tg",))
    assert bool(crowded([found], [api], lambda _: addresses)) is other
    assert not crowded([found], [replace(api, desired=2)], lambda _: addresses)


def test_a_target_group_of_tcp_has_no_path() -> None:
    described = {"TargetGroupName": "g", "HealthCheckPort": "traffic-port", "HealthCheckProtocol": "TCP"}
    health = [{"Target": {"Id": "10.0.0.1", "Port": 80}, "TargetHealth": {"State": "initial"}}]
    assert target_group_of(described, health) == group(name="g", path="", targets={"10.0.0.1:80": "initial"})
    asked = described | {"HealthCheckPort": "9000", "HealthCheckProtocol": "HTTPS", "HealthCheckPath": "/x",
                         "Matcher": {"HttpCode": "404"}}  # fmt: skip
    found = target_group_of(asked, [])
    assert (found.port, found.path, found.codes) == (9000, "/x", "404")


@pytest.mark.parametrize(
    ("listener", "scheme", "port"),
    [
        ({"Port": 443, "Protocol": "HTTPS"}, "internet-facing", 443),
        ({"Port": 8443, "Protocol": "HTTPS"}, "internet-facing", 8443),
        ({"Port": 8443, "Protocol": "HTTPS"}, "internal", 443),
        ({"Port": 80, "Protocol": "HTTP"}, "internet-facing", 443),
    ],
)
def test_tls_for_the_public_on_another_port_is_another_address(
    listener: dict[str, Any], scheme: str, port: int
) -> None:
    assert port_of(listener, scheme) == port
    route = BalancerRoute("api", "lb", ("api.example",), port=port)
    assert route.addresses == ["api.example" if port == 443 else "api.example on port 8443"]


@pytest.mark.parametrize(
    ("states", "changed", "why"),
    [
        (["healthy", "healthy"], {}, ""),
        (["healthy", "unhealthy Target.Timeout"], {}, "10.0.0.1:3000 of tg is unhealthy Target.Timeout"),
        (["healthy", "draining", "initial", "unused Target.NotInUse"], {}, ""),
        (["healthy", "unhealthy"], {"running": 1}, ""),
        (["healthy", "unhealthy"], {"deployments": UNDER_WAY}, ""),
    ],
)
def test_targets_fail_their_health_checks(states: list[str], changed: dict[str, Any], why: str) -> None:
    group = TargetGroup("tg", 0, "", {f"10.0.0.{at}:3000": each for at, each in enumerate(states)})
    api = service("api", **{"desired": 2, "running": 2, **changed})
    assert ailing([group], [api]) == why
