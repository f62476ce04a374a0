"""What services share, by what they use and by what their roles may read."""

from typing import Any

import pytest

from smoke.aws.independence import (
    EXECUTION_ROLE,
    LOGS,
    NETWORK,
    OWN,
    SECRET,
    RolePolicies,
    Use,
    allows,
    communal,
    lacking,
    read_policies,
    secret_of,
    shared,
    uses_of,
)
from smoke.source.definitions import Ownership
from tests.smoke.aws.told import definition, role, scripted, secret, service

GROUPS = Ownership(
    {"freeside": ["api", "worker", "freeside-migration"], "finn": ["finn"], "dixie": ["dixie"]}
)
FREESIDE = secret("p/freeside/es256-private-key")
FINN = secret("p/finn/es256-private-key")
NOBODY = RolePolicies({})
READS = "secretsmanager:GetSecretValue"


def uses(name: str, policies: RolePolicies = NOBODY, **changed: Any) -> list[Use]:
    groups = {"security_groups": (changed.pop("security_group"),)} if "security_group" in changed else {}
    return uses_of(name, definition(name, **changed), service(name, **groups), policies)


def test_what_has_everything_for_itself_shares_nothing() -> None:
    found = [*uses("api", secrets={"KEY": FREESIDE}), *uses("finn"), *uses("dixie")]
    assert shared(found, GROUPS, [*OWN, SECRET]) == {}
    assert [lacking(found, GROUPS, group, ["api", "finn", "dixie"]) for group in GROUPS.groups] == [
        [],
        [],
        [],
    ]


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"family": "p-dixie"}, "task family p-dixie"),
        ({"execution_role": role("p-execution-dixie")}, "execution role p-execution-dixie"),
        ({"task_role": role("p-dixie-task")}, "task role p-dixie-task"),
        ({"log_group": "/ecs/p/dixie"}, "log group /ecs/p/dixie"),
        ({"security_group": "sg-dixie"}, "security group sg-dixie"),
    ],
)
def test_a_thing_in_common_concerns_both(changed: dict[str, Any], kind: str) -> None:
    told = [f"dixie and finn have the {kind} in common"]
    assert shared([*uses("finn", **changed), *uses("dixie")], GROUPS, OWN) == {"finn": told, "dixie": told}


def test_members_of_one_definition_may_share_and_a_stranger_may_not() -> None:
    together = [*uses("api", log_group="/x"), *uses("worker", log_group="/x")]
    assert shared(together, GROUPS, [LOGS]) == {}
    stranger = [*uses("finn", log_group="/x"), *uses("pgbouncer", log_group="/x")]
    assert set(shared(stranger, GROUPS, [LOGS])) == {"finn", "pgbouncer"}
    assert set(shared(together, Ownership({}), [LOGS])) == {"api", "worker"}


def test_a_secret_of_another_counts_though_that_one_does_not_refer_to_it() -> None:
    found = shared(uses("finn", secrets={"KEY": FINN, "OTHER": FREESIDE}), GROUPS, [SECRET])
    assert set(found) == {"finn", "freeside"}
    assert found["finn"] == ["finn uses the secret p/freeside/es256-private-key-AbCdEf of freeside"]


def test_a_secret_that_a_role_may_read_counts_like_one_that_is_given() -> None:
    statements = {role("p-execution-finn"): [{"Effect": "Allow", "Action": READS, "Resource": FREESIDE}]}
    found = uses("finn", RolePolicies(statements, frozenset({FREESIDE, FINN})))
    assert "finn may read the secret" in shared(found, GROUPS, [SECRET])["freeside"][0]


def test_a_secret_of_nobody_in_particular() -> None:
    redis = secret("p/redis")
    found = [*uses("finn", secrets={"R": redis}), *uses("dixie", secrets={"R": redis})]
    assert shared(found, GROUPS, [SECRET]) == {}
    assert communal(found, GROUPS) == ["the secret p/redis-AbCdEf serves dixie and finn"]
    assert communal(uses("finn", secrets={"R": redis}), GROUPS) == []


def test_what_is_missing_is_named() -> None:
    bare = uses("finn", execution_role="", log_group="", secrets={})
    told = lacking(bare, GROUPS, "finn", ["finn"])
    assert told == [f"finn has no {EXECUTION_ROLE}", f"finn has no {LOGS}", "finn has no secret of its own"]
    nothing = lacking([], GROUPS, "dixie", ["dixie"])
    assert f"dixie has no {NETWORK}" in nothing


@pytest.mark.parametrize(
    ("told", "identity"),
    [
        (FINN, FINN),
        (f"{FINN}:privateKey::", FINN),
        ("arn:aws:ssm:us-east-1:1:parameter/finn/x", "arn:aws:ssm:us-east-1:1:parameter/finn/x"),
        ("p/finn/key", "p/finn/key"),
    ],
)
def test_which_secret_a_reference_names(told: str, identity: str) -> None:
    assert secret_of(told) == identity


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
        ({"Action": "*", "Resource": FREESIDE}, False),
        ({"Action": "secretsmanager:DescribeSecret", "Resource": "*"}, False),
        ({"NotAction": "iam:*", "Resource": "*"}, True),
        ({"NotAction": "secretsmanager:*", "Resource": "*"}, False),
        ({"Action": READS, "NotResource": FINN}, False),
        ({"Action": READS, "NotResource": FREESIDE}, True),
        ({"Action": READS}, False),
    ],
)
def test_what_a_statement_allows(statement: dict[str, Any], may: bool) -> None:
    assert allows([{"Effect": "Allow", **statement}], READS, FINN) is may


def test_a_denial_wins_unless_it_has_a_condition() -> None:
    allow = {"Effect": "Allow", "Action": READS, "Resource": "*"}
    deny = {"Effect": "Deny", "Action": READS, "Resource": "*"}
    assert not allows([allow, deny], READS, FINN)
    assert allows([allow, {**deny, "Condition": {"Bool": {}}}], READS, FINN)
    assert not allows([deny], READS, FINN)
    assert not allows([], READS, FINN)


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
    assert found.statements == {role("path/p-finn"): [statement, statement]}
    assert found.readable([role("path/p-finn")]) == [FINN]
    assert ("list_role_policies", {"RoleName": "p-finn"}) in client.asked
    assert (
        "get_policy_version",
        {"PolicyArn": "arn:aws:iam::1:policy/own", "VersionId": "v3"},
    ) in client.asked
