"""Secrets, parameters and images: whether tasks are given them, and whether rotation works."""

import json
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from smoke.aws.reader import AwsReader
from smoke.aws.starting import overdue, unrotated
from tests.smoke.aws.fakes import (
    ALLOWED,
    KEY,
    NOON,
    READS,
    definition,
    examined,
    network,
    raising,
    role,
    scripted,
    secret,
)


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
    assert any("the JSON in" in each for each in told) is wrong
    assert not any(value in each for each in told)


DAYS = timedelta(days=1)
PENDING = {"1": ["AWSCURRENT"], "2": ["AWSPENDING"]}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"RotationEnabled": False, "NextRotationDate": NOON - 9 * DAYS}, ""),
        ({"NextRotationDate": NOON + DAYS}, ""),
        ({"NextRotationDate": NOON - DAYS / 2}, ""),
        ({"NextRotationDate": NOON - 2 * DAYS}, "was due for rotation by 2026-02-27, but was not rotated"),
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
