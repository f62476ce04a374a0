"""What a running service uses, and what its roles may read."""

from typing import Any

import pytest

from smoke.aws.policies import RolePolicies, read_policies
from smoke.aws.reader import secret_of, uses_of
from smoke.source.access import allows
from smoke.source.rules import OWN, SECRET, Use
from tests.smoke.aws.fakes import definition, role, scripted, secret, service

FREESIDE = secret("p/freeside/es256-private-key")
FINN = secret("p/finn/es256-private-key")
NOBODY = RolePolicies({})
READS = "secretsmanager:GetSecretValue"


def uses(name: str, policies: RolePolicies = NOBODY, **changed: Any) -> list[Use]:
    groups = {"security_groups": (changed.pop("security_group"),)} if "security_group" in changed else {}
    return uses_of(name, definition(name, **changed), service(name, **groups), policies)


def by_kind(found: list[Use]) -> dict[str, list[tuple[str, str]]]:
    return {kind: [(use.name, use.how) for use in found if use.kind == kind] for kind in (*OWN, SECRET)}


def test_what_a_service_uses_is_named() -> None:
    found = by_kind(uses("finn", secrets={"KEY": FINN}, task_role=role("p-finn-task")))
    assert found == {
        "task family": [("p-finn", "uses")],
        "execution role": [("p-execution-finn", "uses")],
        "task role": [("p-finn-task", "uses")],
        "security group": [("sg-finn", "uses")],
        "log group": [("/ecs/p/finn", "uses")],
        "secret": [("p/finn/es256-private-key-AbCdEf", "uses")],
    }
    assert by_kind(uses("finn", execution_role="", log_group="", secrets={}))["execution role"] == []


@pytest.mark.parametrize(
    ("action", "how"),
    [
        (READS, "may read"),
        ("secretsmanager:PutSecretValue", "may put"),
        ("secretsmanager:*", "may read"),
        ("secretsmanager:Put*", "may put"),
    ],
)
def test_a_secret_that_a_role_may_read_or_put_counts_like_one_that_is_given(action: str, how: str) -> None:
    statements = {role("p-execution-finn"): [{"Effect": "Allow", "Action": action, "Resource": FREESIDE}]}
    found = uses("finn", RolePolicies(statements, frozenset({FREESIDE, FINN})))
    assert ("p/freeside/es256-private-key-AbCdEf", how) in by_kind(found)[SECRET]


@pytest.mark.parametrize(
    ("reference", "identity"),
    [
        (FINN, FINN),
        (f"{FINN}:privateKey::", FINN),
        ("arn:aws:ssm:us-east-1:1:parameter/finn/x", "arn:aws:ssm:us-east-1:1:parameter/finn/x"),
        ("p/finn/key", "p/finn/key"),
    ],
)
def test_which_secret_a_reference_names(reference: str, identity: str) -> None:
    assert secret_of(reference) == identity


@pytest.mark.parametrize(
    ("statement", "may"),
    [
        ({"Action": READS, "Resource": FINN}, True),
        ({"Action": [READS, "kms:Decrypt"], "Resource": ["x", FINN]}, True),
        ({"Action": "secretsmanager:Get*", "Resource": "*"}, True),
        (
            {
                "Action": "SecretsManager:getsecretvalue",
                "Resource": "arn:aws:secretsmanager:*:secret:p/finn/*",
            },
            True,
        ),
        ({"Action": READS, "Resource": "arn:aws:secretsmanager:us-east-1:1:secret:p/[f]inn/*"}, False),
        ({"Action": "*", "Resource": FREESIDE}, False),
        ({"Action": "secretsmanager:DescribeSecret", "Resource": "*"}, False),
        ({"NotAction": "iam:*", "Resource": "*"}, True),
        ({"NotAction": "secretsmanager:*", "Resource": "*"}, False),
        ({"Action": READS, "NotResource": FINN}, False),
        ({"Action": READS, "NotResource": FREESIDE}, True),
        ({"Action": READS}, False),
        ({"Action": READS, "Resource": FINN.replace("/finn/", "/${aws:PrincipalTag/product}/")}, True),
    ],
)
def test_what_a_statement_allows(statement: dict[str, Any], may: bool) -> None:
    assert allows([{"Effect": "Allow", **statement}], READS, FINN) is may


def test_a_denial_wins_unless_it_has_a_condition() -> None:
    allow = {"Effect": "Allow", "Action": READS, "Resource": "*"}
    deny = {"Effect": "Deny", "Action": READS, "Resource": "*"}
    assert not allows([allow, deny], READS, FINN)
    assert allows([allow, {**deny, "Condition": {"Bool": {"aws:x": "true"}}}], READS, FINN)
    assert allows([allow, {**deny, "Resource": "arn:aws:secretsmanager:*:secret:p/${aws:x}/*"}], READS, FINN)
    assert not allows([deny], READS, FINN)
    assert not allows([], READS, FINN)


@pytest.mark.parametrize(
    "chosen",
    [
        {"Resource": "arn:aws:secretsmanager:us-east-1:1:secret:p/${aws:PrincipalTag/product}/*"},
        {"Condition": {"StringEquals": {"aws:ResourceTag/product": "${aws:PrincipalTag/product}"}}},
        {"Condition": {"StringEquals": {"secretsmanager:ResourceTag/product": "dixie"}}},
        {
            "Condition": {
                "StringLike": {"secretsmanager:SecretId": "arn:aws:secretsmanager:*:secret:p/dixie/*"}
            }
        },
    ],
)
def test_a_policy_whose_conditions_choose_secrets_is_not_examined(chosen: dict[str, Any]) -> None:
    statement = {"Effect": "Allow", "Action": READS, "Resource": "*", **chosen}
    held = RolePolicies({"r": [statement]}, frozenset([FINN]))
    assert held.usable(["r"]) == {}
    assert held.unclear(["r"]) == [FINN]
    (*_, use) = uses_of("dixie", definition("dixie", execution_role="r", task_role=""), None, held)
    assert use.why == "whether conditions let its roles read p/finn/es256-private-key-AbCdEf"
    everything = {**statement, "Resource": "*", "Condition": {}}
    open_to_all = RolePolicies({"r": [everything]}, frozenset([FINN]))
    assert open_to_all.usable(["r"]) == {FINN: "may read"}
    assert open_to_all.unclear(["r"]) == []
    barred = {"Effect": "Deny", "Action": READS, "Resource": "*", **chosen}
    held = RolePolicies({"r": [everything, barred]}, frozenset([FINN]))
    assert (held.usable(["r"]), held.unclear(["r"])) == ({}, [FINN])


def test_policies_of_a_role_are_its_own_and_those_attached_but_not_amazons() -> None:
    statement = {"Effect": "Allow", "Action": READS, "Resource": FINN}
    account, client = scripted(
        list_role_policies=lambda **_: {"PolicyNames": ["inline"]},
        list_attached_role_policies=lambda **_: {
            "AttachedPolicies": [
                {"PolicyArn": "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"},
                {"PolicyArn": "arn:aws:iam::1:policy/own"},
            ]
        },
        get_role_policy=lambda **_: {"PolicyDocument": {"Statement": statement}},
        get_policy=lambda **_: {"Policy": {"DefaultVersionId": "v3"}},
        get_policy_version=lambda **_: {"PolicyVersion": {"Document": {"Statement": [statement]}}},
    )
    found = read_policies(account, ["", role("path/p-finn")], [FINN])
    inline, starting, managed = found.statements[role("path/p-finn")]
    assert (inline, managed) == (statement, statement)
    assert allows([starting], "ecr:GetAuthorizationToken", "*")
    assert not allows([starting], READS, FINN)
    assert found.usable([role("path/p-finn")]) == {FINN: "may read"}
    assert ("list_role_policies", {"RoleName": "p-finn"}) in client.asked
    assert (
        "get_policy_version",
        {"PolicyArn": "arn:aws:iam::1:policy/own", "VersionId": "v3"},
    ) in client.asked


@pytest.mark.parametrize(
    ("condition", "reads"),
    [
        ({"StringEquals": {"aws:PrincipalTag/Team": "finn"}}, True),
        ({"StringEquals": {"aws:principaltag/team": ["dixie", "finn"]}}, True),
        ({"StringEquals": {"aws:PrincipalTag/team": "dixie"}}, False),
        ({"StringEquals": {"aws:PrincipalTag/stage": "prod"}}, False),
        ({"StringEqualsIfExists": {"aws:PrincipalTag/stage": "prod"}}, True),
        ({"StringNotEquals": {"aws:PrincipalTag/stage": "prod"}}, True),
        ({"Null": {"aws:PrincipalTag/stage": "false"}}, False),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::1:role/path/p-*"}}, True),
        ({"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::1:role/p-dixie"}}, False),
        ({"StringEquals": {"aws:PrincipalType": "User"}}, False),
        ({"StringLike": {"aws:username": "*"}}, False),
        ({"StringEquals": {"aws:PrincipalTag/team": "${aws:ResourceTag/team}"}}, True),  # not known
        ({"StringEquals": {"aws:PrincipalOrgID": "o-1"}, "Bool": {"aws:SecureTransport": "true"}}, True),
        ({"StringEquals": {"aws:PrincipalTag/team": "dixie", "aws:PrincipalOrgID": "o-1"}}, False),
    ],
)
def test_a_statement_applies_to_roles_that_meet_its_conditions(
    condition: dict[str, Any], reads: bool
) -> None:
    statement = {"Effect": "Allow", "Action": READS, "Resource": FINN, "Condition": condition}
    arn = "arn:aws:iam::1:role/path/p-finn"
    described = {"Arn": arn, "Tags": [{"Key": "team", "Value": "finn"}]}
    account, _ = scripted(
        list_role_policies=lambda **_: {"PolicyNames": ["inline"]},
        list_attached_role_policies=lambda **_: {"AttachedPolicies": []},
        get_role_policy=lambda **_: {"PolicyDocument": {"Statement": statement}},
        get_role=lambda **_: {"Role": described},
    )
    found = read_policies(account, [arn], [FINN])
    assert allows(found.statements[arn], READS, FINN) is reads


def trusting(effect: str = "Allow", **more: Any) -> dict[str, Any]:
    return {"Statement": [{"Effect": effect, "Action": "sts:AssumeRole", **more}]}


A, B = role("p-execution-finn"), role("p-execution-freeside")
ROOT = {"AWS": f"{A.partition(':role/')[0]}:root"}
ACTS = {"Effect": "Allow", "Action": "sts:*", "Resource": B}


@pytest.mark.parametrize(
    ("trust", "own", "lent"),
    [
        (trusting(Principal={"AWS": A}), [], True),
        (trusting(Principal={"AWS": [A, "arn:aws:iam::2:root"]}), [], True),
        (trusting(Principal=ROOT), [ACTS], True),
        (trusting(Principal=ROOT), [], False),
        (trusting(Principal=ROOT, Condition={"StringEquals": {"aws:PrincipalArn": "x"}}), [ACTS], False),
        (trusting("Deny", Principal={"AWS": A}), [ACTS], False),
        (trusting(Principal={"Service": "ecs-tasks.amazonaws.com"}), [ACTS], False),
        (trusting(Principal="*"), [], False),
        (None, [ACTS], False),
    ],
)
def test_a_role_may_do_what_another_that_trusts_it_may(
    trust: dict[str, Any] | None, own: list[dict[str, Any]], lent: bool
) -> None:
    reads = {"Effect": "Allow", "Action": READS, "Resource": FREESIDE}
    held = RolePolicies({A: own, B: [reads]}, frozenset({FREESIDE})).lent({A: None, B: trust})
    assert held.usable([A]) == ({FREESIDE: "may read"} if lent else {})
    assert held.usable([B]) == {FREESIDE: "may read"}
