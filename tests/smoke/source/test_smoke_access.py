"""One evaluator of IAM's statements and one of security groups' rules: True, False, or None if unknown."""

from ipaddress import ip_network
from typing import Any

import pytest

from smoke.source.access import GroupRule, admit_everyone, met, names, network_in

TAG = "aws:resourcetag/team"


@pytest.mark.parametrize(
    ("statement", "value", "expected"),
    [
        ({"Action": "ssm:Get*"}, "ssm:GetParameter", True),
        ({"Action": ["SSM:getparameter"]}, "ssm:GetParameter", True),
        ({"Action": "ssm:Put*"}, "ssm:GetParameter", False),
        ({"Action": "${action}"}, "ssm:GetParameter", None),
        ({"Action": ["${action}", "ssm:*"]}, "ssm:GetParameter", True),
        ({"Action": "sns:${action}"}, "ssm:GetParameter", False),
        ({"NotAction": "ssm:*"}, "ssm:GetParameter", False),
        ({"NotAction": "sns:*"}, "ssm:GetParameter", True),
        ({"NotAction": "${action}"}, "ssm:GetParameter", None),
        ({}, "ssm:GetParameter", False),
    ],
)
def test_a_statement_names_an_action(statement: dict[str, Any], value: str, expected: bool | None) -> None:
    assert names(statement, "Action", value) is expected


@pytest.mark.parametrize(
    ("operator", "value", "context", "expected"),
    [
        ("StringEquals", "dixie", {TAG: ["dixie"]}, True),
        ("StringEquals", "dix*", {TAG: ["dixie"]}, False),
        ("StringLike", ["finn", "dix*"], {TAG: ["dixie"]}, True),
        ("StringNotEquals", "dixie", {TAG: ["dixie"]}, False),
        ("StringNotEquals", "dixie", {TAG: []}, True),
        ("StringEquals", "dixie", {TAG: []}, False),
        ("StringEqualsIfExists", "dixie", {TAG: []}, True),
        ("ForAnyValue:StringEquals", "dixie", {TAG: ["dixie"]}, True),
        ("ForAnyValue:StringNotEquals", "dixie", {TAG: []}, False),
        ("ForAllValues:StringEquals", "dixie", {TAG: ["dixie"]}, None),
        ("StringEquals", "${aws:PrincipalTag/team}", {TAG: ["dixie"]}, None),
        ("StringEquals", "dixie", {TAG: ["dixie", "finn"]}, None),
        ("StringEquals", "dixie", {}, None),
        ("Null", "true", {TAG: []}, True),
    ],
)
def test_a_condition_is_met(operator: str, value: Any, context: Any, expected: bool | None) -> None:
    assert met({"Condition": {operator: {"aws:ResourceTag/team": value}}}, context) is expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (GroupRule("tcp", 443, 443, ["sg-1"]), True),
        (GroupRule("all", None, None, ["sg-1"]), True),
        (GroupRule("udp", 443, 443, ["sg-1"]), False),
        (GroupRule("tcp", 80, 442, ["sg-1"]), False),
        (GroupRule("tcp", None, 443, ["sg-1"]), None),
        (GroupRule(None, 443, 443, ["sg-1"]), None),
        (GroupRule(None, 443, 443, ["sg-2"]), False),
        (GroupRule("tcp", 443, 443, others=True), None),
        (GroupRule("tcp", 443, 443, ranges=[ip_network("0.0.0.0/0")]), True),
        (GroupRule("tcp", 443, 443, ranges=[ip_network("10.0.0.0/8")]), None),
    ],
)
def test_a_rule_lets_a_group_in(rule: GroupRule, expected: bool | None) -> None:
    assert rule.lets(443, {"sg-1"}) is expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([("tcp", 5432, ["0.0.0.0/0"])], True),
        ([("-1", None, ["::/0"])], True),
        ([("tcp", 5432, ["0.0.0.0/1"]), ("tcp", 5432, ["128.0.0.0/1"])], True),
        ([("tcp", 5432, ["0.0.0.0/1", "8000::/1"])], False),
        ([("tcp", 443, ["0.0.0.0/0"])], False),
        ([("udp", 5432, ["0.0.0.0/0"])], False),
        ([(None, 5432, ["0.0.0.0/0"])], False),
        ([("tcp", None, ["0.0.0.0/0"])], False),
        ([("tcp", 5432, ["10.0.0.0/8"])], False),
        ([], False),
    ],
)
def test_rules_that_certainly_admit_everyone(rules: Any, expected: bool) -> None:
    made = [GroupRule(kind, port, port, ranges=[*map(ip_network, ranges)]) for kind, port, ranges in rules]
    assert admit_everyone(made, 5432) is expected


def test_a_text_that_is_no_address_range_is_none() -> None:
    assert [network_in(each) for each in ("10.0.0.0/33", "sg-1", "${cidr}/16")] == [None, None, None]
