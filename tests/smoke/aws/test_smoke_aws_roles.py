"""Which trust policies let tasks act under a role, and what keeps tasks from starting."""

import json
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from smoke.aws.names import Names
from smoke.aws.policies import RolePolicies, is_anybodys, is_assumed
from smoke.aws.reader import AwsReader
from smoke.aws.starting import kept_from_starting, may_read, overdue, unrotated
from tests.smoke.aws.fakes import NOON, definition, raising, role, scripted, secret, service

TASKS = {"Service": "ecs-tasks.amazonaws.com"}
READS = "secretsmanager:GetSecretValue"
KEY = secret("p/finn/key")


def trust(principal: Any, effect: str = "Allow", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Principal": principal, "Action": "sts:AssumeRole", **more}


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


def network(gateway: str, *endpoints: str, service: str = "secretsmanager") -> dict[str, Any]:
    """A network whose only subnet has a default route to a gateway, and these endpoints."""
    table = {"RouteTableId": "rtb-1", "VpcId": "vpc-1", "Associations": [{"Main": True}]}
    routes = [{"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": gateway}]
    held = [{"VpcEndpointId": one, "VpcId": "vpc-1", "ServiceName": f"com.amazonaws.us-east-1.{service}"}
            for one in endpoints]  # fmt: skip
    return {
        "describe_subnets": lambda **_: {"Subnets": [{"SubnetId": "subnet-1", "VpcId": "vpc-1"}]},
        "describe_route_tables": lambda **_: {"RouteTables": [{**table, "Routes": routes}]},
        "describe_nat_gateways": lambda **_: {"NatGateways": []},
        "describe_vpc_endpoints": lambda **_: {"VpcEndpoints": held},
    }


def examined(
    *, statements: Any = (), own: str = "", home: str = "", answer: Any = None, finn: Any = None, **more: Any
) -> tuple[list[str], list[str]]:
    finn = finn or definition("finn", secrets={"KEY": KEY})
    found = {"Role": {"AssumeRolePolicyDocument": {"Statement": trust(TASKS)}}}
    account, _ = scripted(
        get_role=answer or (lambda **_: found),
        **{
            "get_resource_policy": lambda **_: {"ResourcePolicy": own} if own else {},
            "describe_secret": lambda **_: {"ARN": KEY},
            "describe_repositories": lambda **_: {"repositories": [{}]},
            **network("igw-1"),
            **more,
        },
    )
    arn = f"arn:aws:ecs:us-east-1:{home or finn.execution_role.split(':')[4]}:cluster/c"
    outside = {"finn": service("finn", subnets=("subnet-1",))}
    aws = SimpleNamespace(
        account=account,
        names=Names("p"),
        services=lambda: outside,
        definitions=lambda: {"finn": finn},
        once=lambda _, read: read(),
        owners=lambda _: {"finn": finn},
        policies=lambda _: RolePolicies({finn.execution_role: statements}),
        retention=lambda _: {"/ecs/p/finn": 30},
        cluster=lambda: arn,
    )
    _, result = kept_from_starting(cast(AwsReader, aws), ())
    return [each.what for each in result.findings], [each.what for each in result.not_examined]


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


ALLOWED = [{"Effect": "Allow", "Action": READS, "Resource": KEY}]
OWN_KEY = "arn:aws:kms:us-east-1:1:key/0a"
DECRYPTS = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"KmsKeyId": "alias/aws/secretsmanager"}, ""),
        ({"KmsKeyId": ""}, ""),
        ({"DeletedDate": NOON}, "is scheduled for deletion"),
        (None, "does not exist"),
    ],
)
def test_a_secret_that_a_task_is_given_is_there(told: dict[str, Any] | None, why: str) -> None:
    answer = raising("ResourceNotFoundException") if told is None else lambda **_: told
    findings, unread = examined(statements=ALLOWED, describe_secret=answer)
    assert findings == ([f"finn cannot start again: {KEY} {why}"] if why else [])
    assert unread == []


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
        f"anybody may assume {role(f'p-{each}')}, the role of finn"
        for each in ("execution-finn", "finn-task")
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


BY = "aws:PrincipalArn"
DENY = {"Effect": "Deny", "Action": READS, "Resource": "*"}
ACCOUNT = definition("finn").execution_role.split(":")[4]


@pytest.mark.parametrize(
    ("statement", "denied"),
    [
        ({"Principal": "*"}, True),
        ({"Principal": {"AWS": [f"arn:aws:iam::{ACCOUNT}:root"]}}, True),
        ({"Principal": {"AWS": definition("finn").execution_role}}, True),
        ({"Principal": {"AWS": role("p-other")}}, False),
        ({"Principal": {"Service": "lambda.amazonaws.com"}}, False),
        ({"Principal": "*", "Action": "secretsmanager:PutSecretValue"}, False),
        ({"Principal": "*", "Condition": {"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}}, False),
        ({"Principal": "*", "Condition": {"ArnNotEquals": {"aws:PrincipalArn": role("p-other")}}}, True),
        (
            {"Principal": "*", "Condition": {"ArnNotEquals": {"aws:PrincipalArn": role("p-execution-finn")}}},
            False,
        ),
    ],
)
def test_the_policy_of_a_secret_may_deny_it(statement: dict[str, Any], denied: bool) -> None:
    own = json.dumps({"Statement": [{**DENY, **statement}]})
    findings, unread = examined(statements=ALLOWED, own=own)
    assert (bool(findings), unread) == (denied, [])
    assert all("has a policy that denies it" in each for each in findings)


@pytest.mark.parametrize(
    ("fargate", "ways", "denied"),
    [
        (True, network("igw-1"), True),
        (True, network("igw-1", "vpce-0", service="ecr.api"), True),
        (True, network("igw-1", "vpce-0"), False),  # whose policy names another one is not decided
        (True, network("tgw-1"), False),  # where there may be an endpoint
        (True, {"describe_route_tables": lambda **_: {"RouteTables": []}}, False),  # another account's
        (False, network("igw-1"), False),  # its instance asks
    ],
)
def test_a_secret_may_be_for_an_endpoint_only(fargate: bool, ways: dict[str, Any], denied: bool) -> None:
    condition = {"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}
    own = json.dumps({"Statement": [{**DENY, "Principal": "*", "Condition": condition}]})
    starts = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    finn = definition("finn", secrets={"KEY": KEY}, fargate=fargate)
    findings, unread = examined(statements=[starts], own=own, finn=finn, **ways)
    assert (["has a policy that denies it" in each for each in findings], unread) == ([True] * denied, [])


@pytest.mark.parametrize(
    ("key", "state", "policy", "why"),
    [
        ("alias/aws/ssm", "Disabled", (), ""),
        ("key-1", "Enabled", [{"AWS": role("p-execution-finn")}], ""),
        ("key-1", "PendingDeletion", [{"AWS": role("p-execution-finn")}], "which is PendingDeletion"),
        ("key-1", "Enabled", [{"AWS": role("p-other")}], "may not use to decrypt"),
    ],
)
def test_a_role_decrypts_its_parameters(key: str, state: str, policy: list[Any], why: str) -> None:
    reads = {"Effect": "Allow", "Action": "ssm:GetParameters", "Resource": "*"}
    told = [{"Effect": "Allow", "Principal": one, "Action": "kms:*", "Resource": "*"} for one in policy]
    arn = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1"
    findings, _ = examined(
        statements=[reads],
        finn=definition("finn", secrets={"MODEL": PARAMETER}),
        describe_parameters=lambda **_: {"Parameters": [{"Name": "/p/model", "KeyId": key}]},
        describe_key=lambda **_: {"KeyMetadata": {"Arn": arn, "KeyState": state}},
        get_key_policy=lambda **_: {"Policy": json.dumps({"Statement": told})},
        list_grants=lambda **_: {"Grants": []},
    )
    assert [why in each for each in findings] == ([True] if why else [])


@pytest.mark.parametrize(
    ("encryption", "state", "why"),
    [
        ({"encryptionType": "AES256"}, "Disabled", ""),
        ({"encryptionType": "KMS", "kmsKey": "key-1"}, "Enabled", ""),
        (
            {"encryptionType": "KMS", "kmsKey": "key-1"},
            "Disabled",
            "p-finn is encrypted with key-1, which",
        ),
    ],
)
def test_an_image_is_encrypted_with_a_key(encryption: dict[str, str], state: str, why: str) -> None:
    image = f"{int(ACCOUNT):012}.dkr.ecr.us-east-1.amazonaws.com/p-finn:0123abc"
    starts = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    arn = f"arn:aws:ecs:us-east-1:{int(ACCOUNT):012}:key/1"
    findings, _ = examined(
        statements=[starts],
        home=f"{int(ACCOUNT):012}",
        finn=replace(
            definition("finn", secrets={}, image=image, fargate=True),
            execution_role="p-execution-finn",
            task_role="",
        ),
        describe_repositories=lambda **_: {"repositories": [{"encryptionConfiguration": encryption}]},
        describe_key=lambda **_: {"KeyMetadata": {"Arn": arn, "KeyState": state}},
        get_key_policy=lambda **_: {"Policy": "{}"},
        get_repository_policy=lambda **_: {},
    )
    assert [why in each for each in findings] == ([True] if why else [])


def test_a_repository_that_cannot_be_read_hides_no_missing_permission() -> None:
    image = f"{int(ACCOUNT):012}.dkr.ecr.us-east-1.amazonaws.com/p-finn:0123abc"
    findings, unread = examined(
        statements=[{"Effect": "Allow", "Action": "logs:*", "Resource": "*"}],
        home=f"{int(ACCOUNT):012}",
        finn=replace(
            definition("finn", secrets={}, image=image, fargate=True),
            execution_role="p-execution-finn",
            task_role="",
        ),
        describe_repositories=raising("AccessDenied"),
        get_repository_policy=lambda **_: {},
    )
    assert any("may not ecr:BatchGetImage of p-finn" in each for each in findings)
    assert ["ecr:DescribeRepositories" in each for each in unread] == [True]


@pytest.mark.parametrize(
    ("by", "gone"),
    [("us-east-1:1", True), ("us-east-1:2", False), ("eu-west-1:1", False), ("", False)],
)
def test_a_function_rotates_a_secret(by: str, gone: bool) -> None:
    finn = definition("finn", secrets={"KEY": secret("p/finn/key")})
    told = {"RotationEnabled": True, "RotationLambdaARN": f"arn:aws:lambda:{by}:function:f" if by else ""}
    account, _ = scripted(
        describe_secret=lambda **_: told, get_function_configuration=raising("ResourceNotFoundException")
    )
    aws = SimpleNamespace(
        account=account, owners=lambda _: {"finn": finn}, cluster=lambda: "arn:aws:ecs:us-east-1:1:cluster/c"
    )
    findings = unrotated(cast(AwsReader, aws), ()).findings
    assert ["which does not exist" in each.what for each in findings] == [True] * gone


@pytest.mark.parametrize(
    ("stages", "why"), [({"1": ["AWSCURRENT"]}, ""), ({"1": ["AWSPREVIOUS"]}, "no current version")]
)
def test_a_secret_has_a_current_version(stages: dict[str, list[str]], why: str) -> None:
    findings, _ = examined(statements=ALLOWED, describe_secret=lambda **_: {"VersionIdsToStages": stages})
    assert [why in each for each in findings] == ([True] if why else [])


PARAMETER = f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/p/model"


@pytest.mark.parametrize(
    ("given", "found", "more", "why"),
    [
        (PARAMETER, ["/p/model"], PARAMETER, ""),
        ("/p/model", ["/p/model"], PARAMETER, ""),
        (PARAMETER, [], PARAMETER, "does not exist"),
        ("model", [], "*", "does not exist"),
        (PARAMETER, ["/p/model"], PARAMETER.replace("model", "other"), f"may not read {PARAMETER}"),
        (PARAMETER.replace("us-east-1", "eu-west-1"), [], "*", ""),
    ],
)
def test_a_parameter_that_a_task_is_given(given: str, found: list[str], more: str, why: str) -> None:
    reads = {"Effect": "Allow", "Action": "ssm:GetParameters", "Resource": more}
    told = {"Parameters": [{"Name": each} for each in found]}
    finn = definition("finn", secrets={"MODEL": given})
    findings, _ = examined(statements=[reads], describe_parameters=lambda **_: told, finn=finn)
    assert [why in each for each in findings] == ([True] if why else [])


@pytest.mark.parametrize(("action", "starts"), [("*", True), ("s3:*", False)])
def test_a_permissions_boundary_limits_a_role(action: str, starts: bool) -> None:
    boundary = {"PermissionsBoundary": {"PermissionsBoundaryArn": "arn:aws:iam::1:policy/edge"}}
    found = {"AssumeRolePolicyDocument": {"Statement": trust(TASKS)}, **boundary}
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


IN_ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com/p-finn:0123abc"
PULLING = ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "logs:*"]


@pytest.mark.parametrize(
    ("actions", "denied", "repository", "found", "unclear"),
    [
        (PULLING, "", None, False, False),
        (["ecr:*", "logs:*"], "", None, False, False),
        (PULLING[:1] + PULLING[3:], "", None, True, False),
        (PULLING[:1] + PULLING[3:], "", "{}", False, True),
        (PULLING, "ecr:BatchGetImage", None, True, False),
        (PULLING, "ecr:BatchGetImage", "{}", True, False),
    ],
)
def test_a_role_pulls_images(
    actions: list[str], denied: str, repository: str | None, found: bool, unclear: bool
) -> None:
    absent = raising("RepositoryPolicyNotFoundException")
    own = [{"Effect": "Allow", "Action": actions, "Resource": "*"}]
    own += [{"Effect": "Deny", "Action": denied, "Resource": "*"}] if denied else []
    told, unread = examined(
        statements=own,
        finn=definition(
            "finn", image=IN_ECR, secrets={}, fargate=True,
            execution_role="arn:aws:iam::123456789012:role/p-execution-finn",
            task_role="arn:aws:iam::123456789012:role/p-finn-task",
        ),
        get_repository_policy=absent if repository is None else lambda **_: {"policyText": repository},
    )  # fmt: skip
    assert any("may not ecr:" in each for each in told) is found
    assert any("pull from it" in each for each in unread) is unclear


SIGNING = "arn:aws:secretsmanager:us-east-1:1:secret:p/finn/es256-private-key-AbCdEf"


@pytest.mark.parametrize(
    ("given", "value", "wrong"),
    [
        (SIGNING, "-----BEGIN", False),
        (f"{SIGNING}::AWSCURRENT:", "-----BEGIN", False),
        (f"{SIGNING}:privateKey::", '{"privateKey": "x"}', False),
        (f"{SIGNING}:privateKey::", '{"private_key": "x"}', True),
        (f"{SIGNING}:privateKey::", "-----BEGIN", True),
        (f"{secret('p/finn/database')}:url::", "x", False),  # no value is read from it
    ],
)
def test_a_secret_has_the_json_key_that_a_task_requests(given: str, value: str, wrong: bool) -> None:
    allowed = [{"Effect": "Allow", "Action": READS, "Resource": "*"}]
    told, _ = examined(
        statements=allowed,
        finn=definition("finn", secrets={"KEY": given}),
        get_secret_value=lambda **_: {"SecretString": value},
    )
    assert any("is no JSON with" in each for each in told) is wrong
    assert not any(value in each for each in told)


DAYS = timedelta(days=1)
PENDING = {"1": ["AWSCURRENT"], "2": ["AWSPENDING"]}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"RotationEnabled": False, "NextRotationDate": NOON - 9 * DAYS}, ""),
        ({"NextRotationDate": NOON + DAYS}, ""),
        ({"NextRotationDate": NOON - DAYS / 2}, ""),
        ({"NextRotationDate": NOON - 2 * DAYS}, "was to be rotated by 2026-02-27, but was not"),
        ({"VersionIdsToStages": PENDING, "LastChangedDate": NOON - DAYS / 2}, ""),
        ({"VersionIdsToStages": PENDING, "LastChangedDate": NOON - 2 * DAYS}, "AWSPENDING since 2026-02-27"),
        ({"VersionIdsToStages": {"1": ["AWSCURRENT", "AWSPENDING"]}, "LastChangedDate": NOON - 9 * DAYS}, ""),
        ({"VersionIdsToStages": {"1": ["AWSPENDING"]}}, ""),
        ({}, ""),
    ],
)
def test_a_rotation_that_failed(told: dict[str, Any], why: str) -> None:
    found = overdue({"RotationEnabled": True, **told}, NOON)
    assert why in found
    assert bool(found) is bool(why)
