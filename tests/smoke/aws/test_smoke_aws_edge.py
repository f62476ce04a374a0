"""What a web ACL refuses, how long a balancer waits, and where the record of a public host leads."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pytest_readiness import SetupError

from smoke.aws.balancer import BalancerRoute, expiring_of, target_group_of
from smoke.aws.edge import astray, hindered, idle_for, unanswered
from smoke.aws.reader import AwsReader
from smoke.aws.waf import PublicCall, read_global_acl, read_web_acl, refused
from tests.smoke.aws.fakes import scripted

INVOKE = PublicCall("POST", "/api/agents/invoke", "api.example.com")
HEALTH = PublicCall("GET", "/health", "api.example.com")


def text(value: bytes, *, at: str = "STARTS_WITH", field: Any = None, change: str = "NONE") -> dict[str, Any]:
    of = {"SearchString": value, "PositionalConstraint": at, "FieldToMatch": field or {"UriPath": {}}}
    return {"ByteMatchStatement": {**of, "TextTransformations": [{"Priority": 0, "Type": change}]}}


def rule(statement: dict[str, Any], action: str = "Block", priority: int = 1) -> dict[str, Any]:
    return {"Name": f"r{priority}", "Priority": priority, "Action": {action: {}}, "Statement": statement}


API, LIMIT = text(b"/api/"), {"RateBasedStatement": {"Limit": 100, "AggregateKeyType": "IP"}}
GROUP = {
    "Name": "g",
    "Priority": 0,
    "OverrideAction": {"None": {}},
    "Statement": {"RuleGroupReferenceStatement": {}},
}


def rate(limit: int, **more: Any) -> dict[str, Any]:
    return {"RateBasedStatement": {"Limit": limit, "AggregateKeyType": "IP", **more}}


def addresses(*ranges: str) -> dict[str, Any]:
    return {"IPSetReferenceStatement": {"ARN": "arn", "Addresses": [*ranges]}}


def countries(first: int) -> dict[str, Any]:
    return {"GeoMatchStatement": {"CountryCodes": [f"C{each}" for each in range(first, first + 50)]}}


def regex(written: str) -> dict[str, Any]:
    return {"RegexMatchStatement": {"RegexString": written, "FieldToMatch": {"UriPath": {}}}}


def answering(status: int) -> dict[str, Any]:
    return {"Block": {"CustomResponse": {"ResponseCode": status}}}


def group(*rules: Any, **more: Any) -> dict[str, Any]:
    return {**GROUP, "Statement": {"RuleGroupReferenceStatement": {"ARN": "arn", "Rules": [*rules]}}, **more}


GET = text(b"GET", at="EXACTLY", field={"Method": {}})
HOST = text(b"api.", field={"SingleHeader": {"Name": "Host"}})


@pytest.mark.parametrize(
    ("rules", "default", "hit"),
    [
        ([], "Allow", set()),
        ([], "Block", {INVOKE, HEALTH}),
        ([rule(API)], "Allow", {INVOKE}),
        ([rule(API, "Count")], "Allow", set()),
        ([rule(API, "Challenge")], "Allow", {INVOKE}),
        ([rule(API, "Allow")], "Block", {HEALTH}),
        ([rule(LIMIT)], "Allow", set()),
        ([GROUP], "Allow", set()),
        ([rule(LIMIT, "Allow")], "Block", set()),  # it may let them through
        ([rule(rate(10))], "Allow", {INVOKE}),  # nobody asks for health so often
        ([{**rule(rate(10)), "Action": answering(429)}], "Allow", set()),  # as the contract allows
        ([{**rule(rate(10)), "Action": answering(503)}], "Allow", {INVOKE}),
        ([rule(rate(40, EvaluationWindowSec=60))], "Allow", set()),
        ([rule(rate(10, ScopeDownStatement=API))], "Allow", {INVOKE}),
        ([rule(rate(10, ScopeDownStatement=text(b"/login")))], "Allow", set()),
        ([rule(rate(10, AggregateKeyType="CUSTOM_KEYS"))], "Allow", set()),
        ([rule(rate(10), "Count")], "Allow", set()),
        ([rule(addresses("0.0.0.0/1", "128.0.0.0/1"))], "Allow", {INVOKE, HEALTH}),
        ([rule(addresses("203.0.113.0/24"))], "Allow", set()),
        ([rule(addresses())], "Allow", set()),
        ([rule(addresses("203.0.113.0/24"), "Allow")], "Block", set()),  # an office, or the runner
        ([rule(addresses(), "Allow")], "Block", {INVOKE, HEALTH}),
        ([rule({"GeoMatchStatement": {"CountryCodes": ["CU", "IR"]}})], "Allow", set()),
        ([rule({"OrStatement": {"Statements": [countries(at) for at in range(0, 250, 50)]}})], "Allow",
         {INVOKE, HEALTH}),
        # all but fifty countries
        ([rule({"OrStatement": {"Statements": [countries(at) for at in range(0, 200, 50)]}})], "Allow",
         set()),
        ([group(rule(API))], "Allow", {INVOKE}),
        ([group(rule(API, "Allow"))], "Block", {HEALTH}),
        ([group(rule(API), OverrideAction={"Count": {}})], "Allow", set()),
        ([rule(API), rule({"GeoMatchStatement": {}}, "Allow", 0)], "Allow", set()),
        ([rule({"NotStatement": {"Statement": GET}})], "Allow", {INVOKE}),
        ([rule({"AndStatement": {"Statements": [API, GET]}})], "Allow", set()),
        ([rule({"AndStatement": {"Statements": [API, LIMIT]}})], "Allow", set()),
        ([rule({"OrStatement": {"Statements": [LIMIT, GET]}})], "Allow", {HEALTH}),
        ([rule(HOST)], "Allow", {INVOKE, HEALTH}),
        ([rule(text(b"/API", change="URL_DECODE"))], "Allow", set()),
        ([rule(text(b"invoke", at="CONTAINS_WORD", change="LOWERCASE"))], "Allow", {INVOKE}),
        ([rule(text(b"invoke", at="ENDS_WITH", change="BASE64_DECODE"))], "Allow", set()),
        ([rule(regex("^/api/agents"))], "Allow", {INVOKE}),
        ([rule(regex(r"^/api/agents\h"))], "Allow", set()),  # PCRE has more than Python
        ([rule(regex("^/[[:alpha:]]"))], "Allow", set()),
    ],
)  # fmt: skip
def test_what_a_web_acl_refuses(rules: list[Any], default: str, hit: set[PublicCall]) -> None:
    acl = {"Name": "edge", "Rules": rules, "DefaultAction": {default: {}}}
    found = "".join(refused(acl, [INVOKE, HEALTH]))
    assert {each for each in (INVOKE, HEALTH) if each.path in found} == hit


def test_a_web_acl_has_the_addresses_and_rules_that_it_refers_to() -> None:
    def arn(kind: str, scope: str = "regional") -> str:
        return f"arn:aws:wafv2:us-east-1:1:{scope}/{kind}/all/k"

    inside = {"IPSetReferenceStatement": {"ARN": arn("ipset")}}
    refers = {"RuleGroupReferenceStatement": {"ARN": arn("rulegroup")}}
    acl = {"Name": "edge", "DefaultAction": {"Allow": {}}, "Rules": [{**GROUP, "Statement": refers}]}
    account, client = scripted(
        get_web_acl_for_resource=lambda **_: {"WebACL": acl},
        get_web_acl=lambda **_: {"WebACL": acl},
        get_rule_group=lambda **_: {"RuleGroup": {"Rules": [rule(inside)]}},
        get_ip_set=lambda **_: {"IPSet": {"Addresses": ["0.0.0.0/1", "128.0.0.0/1"]}},
    )
    for read, of in ((read_web_acl, "lb"), (read_global_acl, arn("webacl", "global"))):
        found = read(account, of)
        assert found is not None
        assert [*refused(found, [HEALTH])] == ["the rule r1 of edge (WAF) refuses GET /health"]
    assert ("get_web_acl", {"Name": "all", "Scope": "CLOUDFRONT", "Id": "k"}) in client.asked
    assert read_global_acl(account, "") is None
    with pytest.raises(SetupError, match="which is in another region"):
        read_global_acl(account, arn("webacl").replace("us-east-1", "eu-west-1"))


@pytest.mark.parametrize(
    ("comparison", "size", "more", "path"),
    [
        ("GT", 4096, {}, "/api/agents/invoke of 131072 bytes"),
        ("GE", 8192, {}, "/api/agents/invoke of 131072 bytes"),
        ("GT", 8192, {"OversizeHandling": "MATCH"}, "/api/agents/invoke of 131072 bytes"),
        ("GT", 8192, {"OversizeHandling": "NO_MATCH"}, ""),
        ("GT", 8192, {"OversizeHandling": "CONTINUE"}, ""),  # WAF sees no more
        ("LT", 4096, {}, ""),
    ],
)
def test_a_web_acl_takes_long_prompts(comparison: str, size: int, more: dict[str, str], path: str) -> None:
    plain = [{"Priority": 0, "Type": "NONE"}]
    about = {"FieldToMatch": {"Body": more}, "Size": size, "TextTransformations": plain}
    statement = {"SizeConstraintStatement": {**about, "ComparisonOperator": comparison}}
    rule = {"Name": "size", "Priority": 0, "Action": {"Block": {}}, "Statement": statement}
    acl = {"Name": "edge", "Rules": [rule], "DefaultAction": {"Allow": {}}}
    found = "".join(refused(acl, [replace(INVOKE, most=131072), HEALTH]))
    assert found == (f"the rule size of edge (WAF) refuses POST {path}" if path else "")


@pytest.mark.parametrize(("seconds", "wrong"), [("60", False), ("15", False), ("14", True), (None, False)])
def test_how_long_a_balancer_waits(seconds: str | None, wrong: bool) -> None:
    told = [{"Key": "idle_timeout.timeout_seconds", "Value": seconds}] if seconds else []
    account, _ = scripted(describe_load_balancer_attributes=lambda **_: {"Attributes": told})
    assert bool(idle_for(account, "arn", "alb")) is wrong


def balancer(name: str, scheme: str) -> dict[str, str]:
    return {"LoadBalancerName": name, "Scheme": scheme, "DNSName": f"{name}-1.us-east-1.elb.amazonaws.com"}


PUBLIC, INSIDE = balancer("p", "internet-facing"), balancer("i", "internal")


@pytest.mark.parametrize(
    ("used", "end", "wrong"),
    [
        (PUBLIC, "dualstack.P-1.us-east-1.elb.amazonaws.com.", ""),
        (INSIDE, "i-1.us-east-1.elb.amazonaws.com", "which is internal"),
        (PUBLIC, "old-1.us-east-1.elb.amazonaws.com", "not a load balancer of this account"),
        (INSIDE, "old-1.us-east-1.elb.amazonaws.com", ""),  # of an earlier account
        (INSIDE, "p-1.us-east-1.elb.amazonaws.com", ""),  # an earlier balancer
        (PUBLIC, "old-1.eu-west-1.elb.amazonaws.com", ""),
        (PUBLIC, "203.0.113.9", ""),
    ],
)
def test_where_a_record_leads(used: dict[str, str], end: str, wrong: str) -> None:
    found = "".join(astray([used], [PUBLIC, INSIDE], [end], "us-east-1"))
    assert wrong in found if wrong else not found


def forwarding(action: dict[str, Any], port: int = 443) -> dict[str, Any]:
    rules = [{"IsDefault": True, "Priority": "default", "RuleArn": "l/1/r", "Actions": [action]}]
    return {
        "describe_listeners": lambda **_: {"Listeners": [{"Port": port, "ListenerArn": "l/1"}]},
        "describe_rules": lambda **_: {"Rules": rules},
    }


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (forwarding({"TargetGroupArn": "a"}), []),
        (forwarding({"TargetGroupArn": "empty"}), ["has nothing behind it for GET /health"]),
        (forwarding({"Type": "fixed-response"}), ["has nothing behind it for GET /health"]),
        (forwarding({"TargetGroupArn": "a"}, 80), ["has no listener on port 443"]),
    ],
)
def test_a_recorded_balancer_must_have_targets(answers: Any, why: list[str]) -> None:
    account, _ = scripted(**answers)
    aws = cast(AwsReader, SimpleNamespace(account=account, is_idle="empty".__eq__))
    old = {"LoadBalancerArn": "arn", "LoadBalancerName": "old"}
    assert unanswered(aws, old, [HEALTH]) == [f"its record leads to old, which {each}" for each in why]


STUCK = ("FAILED", "PENDING_VALIDATION")


@pytest.mark.parametrize(
    ("renewal", "why"),
    [
        ("SUCCESS", ""),
        ("PENDING_AUTO_RENEWAL", ""),
        ("FAILED", "not renewed"),
        ("PENDING_VALIDATION", "not renewed"),
    ],
)
def test_a_certificate_is_renewed(renewal: str, why: str) -> None:
    found = expiring_of({"Status": "ISSUED", "RenewalSummary": {"RenewalStatus": renewal}})
    assert why in found if why else not found


@pytest.mark.parametrize(
    ("told", "plain", "why"),
    [
        ({"Protocol": "HTTP", "ProtocolVersion": "HTTP1"}, True, []),
        ({"Protocol": "HTTPS"}, False, []),  # it may listen with TLS
        ({"Protocol": "HTTPS"}, True, ["tg forwards by HTTPS, but api listens without TLS"]),
        (
            {"Protocol": "HTTP", "ProtocolVersion": "GRPC"},
            True,
            ["tg forwards only gRPC, but api speaks JSON over HTTP"],
        ),
    ],
)
def test_how_a_balancer_forwards(told: dict[str, str], plain: bool, why: list[str]) -> None:
    group = target_group_of({"TargetGroupName": "tg", **told}, [])
    assert [*group.mistaken("api", {3000}, "/health", plain=plain)] == why


@pytest.mark.parametrize(
    ("end", "asked"), [("p-1.us-east-1.elb.amazonaws.com", True), ("d1.cloudfront.net", False)]
)
def test_a_listener_that_asks_for_certificates_refuses_the_public(end: str, asked: bool) -> None:
    told = {"Attributes": [{"Key": "idle_timeout.timeout_seconds", "Value": "60"}]}
    account, _ = scripted(
        describe_load_balancer_attributes=lambda **_: told, get_web_acl_for_resource=lambda **_: {}
    )
    described = {**PUBLIC, "Type": "application", "State": {"Code": "active"}}
    aws = SimpleNamespace(account=account, balancers=lambda: {"arn": described})
    route = BalancerRoute("tg", "arn", ("api.example.com",), listener="l/1", verifies=True)
    found = hindered(cast(AwsReader, aws), [route], [end], [HEALTH])
    wanted = ["its listener 1 asks callers for certificates"] if asked else []
    assert [each.what for each in found.findings] == wanted


@pytest.mark.parametrize("streamed", [True, False])
def test_only_streams_may_be_silent_for_long(streamed: bool) -> None:
    told = {"Attributes": [{"Key": "idle_timeout.timeout_seconds", "Value": "10"}]}
    account, _ = scripted(
        describe_load_balancer_attributes=lambda **_: told, get_web_acl_for_resource=lambda **_: {}
    )
    described = {**PUBLIC, "Type": "application", "State": {"Code": "active"}}
    aws = SimpleNamespace(account=account, balancers=lambda: {"arn": described})
    route = BalancerRoute("tg", "arn", ("api.example.com",), listener="l/1")
    calls = [replace(HEALTH, streamed=streamed)]
    found = hindered(cast(AwsReader, aws), [route], ["d1.cloudfront.net"], calls)
    assert bool(found.findings) is streamed
