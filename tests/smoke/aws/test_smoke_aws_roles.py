"""Which trust policies let tasks act under a role, and what keeps tasks from starting."""

import json
from dataclasses import replace
from typing import Any

import pytest

from smoke.aws.policies import is_anybodys, is_assumed
from smoke.aws.starting import may_read
from tests.smoke.aws.fakes import (
    ALLOWED,
    KEY,
    READS,
    TASKS,
    definition,
    examined,
    raising,
    role,
    secret,
    trust,
)


@pytest.mark.parametrize(
    ("statement", "assumed"),
    [
        (trust(TASKS), True),
        ([trust(TASKS)], True),
        ([trust({"Service": ["ec2.amazonaws.com", "ecs-tasks.amazonaws.com"]})], True),
        ([trust(TASKS, Condition={"StringEquals": {"aws:SourceAccount": "1"}})], True),
        ([trust(TASKS), trust({"AWS": "arn:aws:iam::2:root"})], True),
        ([trust(TASKS), trust(TASKS, "Deny", Condition={"Bool": {"aws:SecureTransport": "false"}})], True),
        ([trust(TASKS, Action=["sts:*"])], True),
        ([trust({"AWS": "arn:aws:iam::2:root"})], False),
        ([trust({"Service": "ec2.amazonaws.com"})], False),
        ([trust(TASKS, Action="sts:TagSession")], False),
        ([trust(TASKS), trust(TASKS, "Deny")], False),
        ([], False),
        ([trust("*")], None),
        ([trust({"AWS": "*"})], None),
        ([trust(TASKS), trust("*", "Deny")], None),
    ],
)
def test_who_may_act_under_a_role(statement: Any, assumed: bool | None) -> None:
    assert is_assumed({"Statement": statement}) is assumed


@pytest.mark.parametrize(
    ("reference", "resource", "may"),
    [
        (KEY, KEY, True),
        (KEY, [KEY.rpartition("-")[0] + "-??????"], True),
        (KEY.rpartition("-")[0], KEY, True),
        (KEY.rpartition("-")[0], KEY.rpartition("-")[0] + "-??????", True),
        (KEY.rpartition("-")[0], "arn:aws:secretsmanager:us-east-1:1:secret:*/finn/key-??????", True),
        (KEY.rpartition("-")[0], KEY.replace("us-east-1", "*"), True),
        (KEY.rpartition("-")[0], secret("p/finn/other"), False),
        (KEY, "*", True),
        (KEY, secret("p/dixie/key"), False),
    ],
)
def test_a_secret_is_read_by_its_arn_with_and_without_the_suffix(
    reference: str, resource: Any, may: bool
) -> None:
    assert may_read([{"Effect": "Allow", "Action": READS, "Resource": resource}], reference) is may


def test_a_role_that_may_not_read_its_secret_starts_nothing() -> None:
    assert examined(statements=[{"Effect": "Allow", "Action": READS, "Resource": KEY}]) == ([], [])
    findings, unread = examined()
    assert findings == [f"finn cannot start again: {role('p-execution-finn')} may not read {KEY}"]
    assert unread == []


def test_what_a_policy_of_the_secret_allows_is_not_examined() -> None:
    findings, unread = examined(own='{"Statement": []}')
    assert findings == []
    assert unread == [f"whether the policy of {KEY} lets {role('p-execution-finn')} read it"]


@pytest.mark.parametrize(("roles", "denied"), [("p-*", False), ("q-*", True)])
def test_a_role_that_is_given_by_its_name_has_an_arn(roles: str, denied: bool) -> None:
    finn = replace(definition("finn", secrets={"KEY": KEY}), execution_role="p-execution-finn")
    others = {"ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::1:role/{roles}"}}
    policy = {"Effect": "Deny", "Principal": "*", "Action": READS, "Resource": "*", "Condition": others}
    findings, _ = examined(statements=ALLOWED, own=json.dumps({"Statement": [policy]}), home="1", finn=finn)
    assert any("has a policy that denies it" in each for each in findings) is denied


def test_a_role_of_another_account_is_not_examined() -> None:
    findings, unread = examined(home="999999999999")
    assert findings == []
    assert unread == [f"{role(f'p-{each}')} of finn" for each in ("execution-finn", "finn-task")]
    own = KEY.replace(":1:", ":999999999999:")
    findings, _ = examined(
        home="999999999999",
        finn=definition("finn", secrets={"KEY": own}),
        describe_secret=lambda **_: {"KmsKeyId": OWN_KEY},
    )
    assert findings == []


def test_what_a_policy_in_another_region_allows_is_not_examined() -> None:
    elsewhere = KEY.replace("us-east-1", "eu-west-1")
    findings, unread = examined(finn=definition("finn", secrets={"KEY": elsewhere}))
    assert findings == []
    assert unread == [f"whether {role('p-execution-finn')} may read {elsewhere} of another region"]


OWN_KEY = "arn:aws:kms:us-east-1:1:key/0a"
DECRYPTS = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}


@pytest.mark.parametrize(
    ("own", "principal", "key", "why"),
    [
        ([DECRYPTS], {"AWS": "arn:aws:iam::1:root"}, {}, ""),
        ([{**DECRYPTS, "Resource": OWN_KEY}], {"AWS": "arn:aws:iam::1:root"}, {}, ""),
        ([], {"AWS": [role("p-execution-finn"), "arn:aws:iam::1:root"]}, {}, ""),
        ([], "*", {}, ""),  # as Secrets Manager's own key says it, by conditions
        ([], {"AWS": "arn:aws:iam::1:root"}, {"KeyManager": "AWS"}, ""),
        (
            [],
            {"AWS": "arn:aws:iam::1:root"},
            {},
            f", which {role('p-execution-finn')} may not use to decrypt",
        ),
        ([DECRYPTS], "*", {"KeyState": "Disabled"}, ", which is Disabled"),
        ([DECRYPTS], "*", {"KeyState": "PendingDeletion"}, ", which is PendingDeletion"),
    ],
)
def test_a_role_decrypts_what_its_task_is_given(own: list[Any], principal: Any, key: Any, why: str) -> None:
    policy = json.dumps({"Statement": {**DECRYPTS, "Principal": principal}})
    findings, unread = examined(
        statements=[*ALLOWED, *own],
        describe_secret=lambda **_: {"KmsKeyId": "alias/own"},
        describe_key=lambda **_: {"KeyMetadata": {"Arn": OWN_KEY, **key}},
        get_key_policy=lambda **_: {"Policy": policy},
        list_grants=lambda **_: {"Grants": []},
    )
    wanted = [f"finn cannot start again: {KEY} is encrypted with {OWN_KEY}{why}"] if why else []
    assert (findings, unread) == (wanted, [])


ROOT = {"Principal": {"AWS": "arn:aws:iam::1:root"}}
ADMIN = {"Principal": {"AWS": role("admin")}}


def through(service: str) -> dict[str, Any]:
    return {
        **DECRYPTS,
        "Condition": {"StringEquals": {"kms:ViaService": f"{service}.us-east-1.amazonaws.com"}},
    }


@pytest.mark.parametrize(
    ("own", "told", "decrypts"),
    [
        (DECRYPTS, [ADMIN], False),  # what IAM says counts for nothing
        (DECRYPTS, [ADMIN, ROOT], True),
        (through("secretsmanager"), [ROOT], True),
        (through("ssm"), [ROOT], False),
        (DECRYPTS, [ROOT, {"Principal": "*", "Effect": "Deny"}], False),
        (DECRYPTS, [ROOT, {**ADMIN, "Effect": "Deny"}], True),
        (DECRYPTS, [ROOT, {"Principal": "*", "Effect": "Deny", "Condition": {
            "ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/p-execution-*"}}}], True),
        (DECRYPTS, [ROOT, {"Principal": "*", "Effect": "Deny", "Condition": {
            "StringNotEquals": {"kms:CallerAccount": "1"}}}], True),
        (DECRYPTS, [ROOT, {"Principal": "*", "Effect": "Deny", "Condition": {
            "StringNotEquals": {"aws:SourceVpce": "vpce-1"}}}], True),  # not known
    ],
)  # fmt: skip
def test_the_policy_of_a_key_and_that_of_a_role(own: Any, told: list[Any], decrypts: bool) -> None:
    policy = json.dumps({"Statement": [{**DECRYPTS, **each} for each in told]})
    findings, unread = examined(
        statements=[*ALLOWED, own],
        describe_secret=lambda **_: {"ARN": KEY, "KmsKeyId": "alias/own"},
        describe_key=lambda **_: {"KeyMetadata": {"Arn": OWN_KEY}},
        get_key_policy=lambda **_: {"Policy": policy},
        list_grants=lambda **_: {"Grants": []},
    )
    assert (findings == [], unread) == (decrypts, [])


def test_a_role_that_is_given_by_its_name_is_the_one_of_the_account() -> None:
    policy = json.dumps({"Statement": {**DECRYPTS, "Principal": {"AWS": role("p-execution")}}})
    finn = definition("finn", secrets={"KEY": KEY}, execution_role="p-execution", fargate=True)
    assert examined(
        home="1",
        finn=finn,
        statements=[*ALLOWED, {"Effect": "Allow", "Action": [TOKEN, *LOGS], "Resource": "*"}],
        describe_secret=lambda **_: {"KmsKeyId": "alias/own"},
        describe_key=lambda **_: {"KeyMetadata": {"Arn": OWN_KEY}},
        get_key_policy=lambda **_: {"Policy": policy},
    ) == ([], [])


@pytest.mark.parametrize(("operation", "decrypts"), [("Decrypt", True), ("Encrypt", False)])
def test_a_grant_lets_a_role_decrypt(operation: str, decrypts: bool) -> None:
    grant = {"GranteePrincipal": role("p-execution-finn"), "Operations": [operation]}
    findings, _ = examined(
        statements=ALLOWED,
        describe_secret=lambda **_: {"KmsKeyId": "alias/own"},
        describe_key=lambda **_: {"KeyMetadata": {"Arn": OWN_KEY}},
        get_key_policy=lambda **_: {"Policy": "{}"},
        list_grants=lambda **_: {"Grants": [grant]},
    )
    assert (findings == []) is decrypts


def test_what_the_key_of_another_account_lets_a_role_do_is_not_examined() -> None:
    findings, unread = examined(
        statements=ALLOWED,
        describe_secret=lambda **_: {"KmsKeyId": OWN_KEY},
        describe_key=lambda **_: {"KeyMetadata": {"Arn": OWN_KEY}},
        get_key_policy=raising("NotFoundException"),
    )
    assert findings == []
    assert len(unread) == 1
    assert "which is another account's" in unread[0]


TOKEN, LOGS = "ecr:GetAuthorizationToken", ["logs:CreateLogStream", "logs:PutLogEvents"]
GROUP = "arn:aws:logs:us-east-1:1:log-group:/ecs/p/finn"


@pytest.mark.parametrize(
    ("actions", "resource", "changed", "lacks"),
    [
        ([TOKEN, *LOGS], "*", {}, []),
        (["*"], "*", {}, []),
        ([TOKEN], "*", {}, [f"{each} in /ecs/p/finn" for each in LOGS]),
        (LOGS, "*", {}, [TOKEN]),
        (LOGS, "*", {"image": "public.ecr.aws/x/y:1.0"}, []),
        (LOGS, f"{GROUP}:*", {"image": "edoburu/pgbouncer:1.21.0"}, []),
        (LOGS, f"{GROUP}:log-stream:*", {"image": "x"}, []),
        (LOGS, f"{GROUP}:log-stream:finn/*", {"image": "x"}, []),
        (LOGS, "arn:aws:logs:*:*:log-group:/ecs/*:log-stream:finn/*", {"image": "x"}, []),
        (LOGS, f"{GROUP}-other:*", {"image": "x"}, [f"{each} in /ecs/p/finn" for each in LOGS]),
        ([TOKEN], "*", {"log_region": ""}, []),  # FireLens writes them
        ([], "*", {"fargate": False}, []),  # the instance pulls and logs
    ],
)
def test_a_role_pulls_images_and_writes_logs(
    actions: list[str], resource: str, changed: dict[str, Any], lacks: list[str]
) -> None:
    image = "111111111111.dkr.ecr.us-east-1.amazonaws.com/p-finn:0123abc"
    finn = definition("finn", **{"secrets": {}, "fargate": True, "image": image, **changed})
    allowed = {"Effect": "Allow", "Action": actions, "Resource": resource}
    findings, _ = examined(statements=[allowed], finn=finn)
    start = f"finn cannot start again: {finn.execution_role} may not"
    assert findings == [f"{start} {each}" for each in lacks]


def test_a_wildcard_principal_is_a_finding() -> None:
    document = {"Statement": [trust(TASKS), trust({"AWS": "*"})]}
    findings, _ = examined(
        statements=ALLOWED, answer=lambda **_: {"Role": {"AssumeRolePolicyDocument": document}}
    )
    assert findings == [
        f"anyone may assume {role(f'p-{each}')}, the role of finn" for each in ("execution-finn", "finn-task")
    ]
    theirs = {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}
    assert not is_anybodys({"Statement": {**trust({"AWS": "*"}), "Condition": theirs}})
    assert not is_anybodys({"Statement": [trust({"AWS": "arn:aws:iam::1:root"}), trust("*", "Deny")]})
    others = {"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}
    assert not is_anybodys({"Statement": [trust("*"), trust("*", "Deny", Condition=others)]})


def test_a_role_that_does_not_exist_is_a_finding_once_however_much_it_should_read() -> None:
    findings, unread = examined(answer=raising("NoSuchEntity"))
    assert findings == [
        f"finn cannot start again: its role {role(f'p-{each}')} does not exist"
        for each in ("execution-finn", "finn-task")
    ]
    assert unread == []


def conditioned(**condition: Any) -> list[dict[str, Any]]:
    return [{**ALLOWED[0], "Condition": condition}]


@pytest.mark.parametrize(
    ("statements", "may"),
    [
        (conditioned(StringEquals={"aws:PrincipalAccount": "1"}), True),
        (conditioned(StringEquals={"aws:RequestedRegion": ["eu-west-1", "us-east-1"]}), True),
        (conditioned(StringEquals={"aws:SourceVpce": "vpce-1"}), True),  # an endpoint may be on the way
        (conditioned(Bool={"aws:SecureTransport": "true"}), True),
        (conditioned(StringEquals={"aws:PrincipalAccount": "2"}), False),
        (conditioned(StringEquals={"aws:SourceAccount": "2"}), False),
        (conditioned(StringEquals={"aws:RequestedRegion": "eu-west-1"}), False),
        ([*ALLOWED, {**conditioned(StringNotEquals={"aws:RequestedRegion": "eu-west-1"})[0],
                     "Effect": "Deny"}], False),
        ([*ALLOWED, {**conditioned(Bool={"aws:SecureTransport": "false"})[0], "Effect": "Deny"}], True),
    ],
)  # fmt: skip
def test_a_condition_that_never_holds_lets_no_role_read(statements: list[Any], may: bool) -> None:
    findings, unread = examined(home="1", statements=statements)
    assert findings == (
        [] if may else [f"finn cannot start again: {role('p-execution-finn')} may not read {KEY}"]
    )
    assert unread == []


@pytest.mark.parametrize(
    ("condition", "assumed"),
    [
        ({"StringEquals": {"aws:SourceAccount": "1"}}, True),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:ecs:us-east-1:1:*"}}, True),
        (
            {"ArnLike": {"aws:SourceArn": "arn:aws:ecs:us-east-1:1:cluster/c"}},
            True,
        ),  # the ARN is not known
        ({"StringEquals": {"aws:SourceAccount": "2"}}, False),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:ecs:us-east-1:2:*"}}, False),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:ecs:eu-west-1:1:*"}}, False),
        (
            {"StringEquals": {"aws:SourceArn": "arn:aws:ecs:us-east-1:1:*"}},
            False,
        ),  # a star is no wildcard there
    ],
)
def test_a_trust_policy_that_never_holds_admits_no_task(condition: Any, assumed: bool) -> None:
    document = {"Statement": trust(TASKS, Condition=condition)}
    findings, unread = examined(
        home="1", statements=ALLOWED, answer=lambda **_: {"Role": {"AssumeRolePolicyDocument": document}}
    )
    assert (findings == []) is assumed
    assert all("cannot be assumed by a task" in each for each in findings)
    assert unread == []


def test_what_this_runner_may_not_read_keeps_nothing_else_from_being_examined() -> None:
    denied = raising("AccessDeniedException")
    findings, unread = examined(
        home="1", statements=[], describe_secret=denied, finn=definition("finn", secrets={"KEY": KEY})
    )
    assert findings == [f"finn cannot start again: {role('p-execution-finn')} may not read {KEY}"]
    assert "secretsmanager:DescribeSecret" in unread[0]
    findings, unread = examined(home="1", statements=ALLOWED, answer=denied)
    assert findings == []
    assert "iam:GetRole" in unread[0]


@pytest.mark.parametrize("code", ["AccessDeniedException", "NotFoundException"])
def test_a_key_of_another_account_that_cannot_be_described_is_not_examined(code: str) -> None:
    theirs = OWN_KEY.replace(":1:", ":2:")
    findings, unread = examined(
        home="1",
        statements=ALLOWED,
        describe_secret=lambda **_: {"KmsKeyId": theirs},
        describe_key=raising(code),
    )
    assert findings == []
    (why,) = unread
    assert why.startswith(f"whether the policy of {theirs}, which is another account's, lets ")


def test_a_secret_of_another_account_is_not_examined() -> None:
    theirs = KEY.replace(":1:", ":2:")
    denied = raising("AccessDeniedException")
    findings, unread = examined(
        home="1", finn=definition("finn", secrets={"KEY": theirs}), get_resource_policy=denied
    )
    assert findings == []
    assert unread == [f"whether {role('p-execution-finn')} may read {theirs} of another account"]


@pytest.mark.parametrize(("action", "starts"), [("*", True), ("s3:*", False)])
def test_a_permissions_boundary_limits_a_role(action: str, starts: bool) -> None:
    boundary = {"PermissionsBoundary": {"PermissionsBoundaryArn": "arn:aws:iam::1:policy/edge"}}
    found = {
        "Arn": "arn:aws:iam::1:role/p",
        "AssumeRolePolicyDocument": {"Statement": trust(TASKS)},
        **boundary,
    }
    document = {"Statement": {"Effect": "Allow", "Action": action, "Resource": "*"}}
    findings, _ = examined(
        statements=ALLOWED,
        answer=lambda **_: {"Role": found},
        get_policy=lambda **_: {"Policy": {"DefaultVersionId": "v1"}},
        get_policy_version=lambda **_: {"PolicyVersion": {"Document": document}},
    )
    assert (findings == []) is starts


@pytest.mark.parametrize(("group", "there"), [("/ecs/p/finn", True), ("/ecs/p/agent", False)])
def test_a_container_without_its_log_group_does_not_start(group: str, there: bool) -> None:
    finn = definition("finn", secrets={"KEY": KEY}, log_group=group)
    box = replace(finn.containers[0], needs_log_group=True)
    findings, _ = examined(statements=ALLOWED, finn=replace(finn, containers=(box,)))
    assert findings == ([] if there else [f"finn cannot start again: its log group {group} does not exist"])
