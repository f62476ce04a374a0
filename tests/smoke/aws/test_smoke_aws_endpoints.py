"""What keeps a task from AWS: the ways out of its security groups, and the endpoints of its network."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from smoke.aws.network import kept_from_aws
from smoke.aws.reader import AwsReader
from tests.smoke.aws.fakes import definition, scripted, secret, service

OUT = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
INSIDE = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}
LOCAL = {"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local"}
CONNECTED = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
TO_LIST = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "PrefixListIds": [{"PrefixListId": "pl-1"}]}
OTHER_PORT = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
ALL = ("ecr.api", "ecr.dkr", "s3", "logs", "secretsmanager")


def endpoint(name: str, **more: Any) -> dict[str, Any]:
    named = {"VpcEndpointId": f"vpce-{name}", "ServiceName": f"com.amazonaws.us-east-1.{name}"}
    more = {"VpcEndpointType": "Gateway", "RouteTableIds": ["rtb-1"]} | more if name == "s3" else more
    return named | {"VpcId": "vpc-1", "State": "available", "Groups": [{"GroupId": "sg-e"}]} | more


def says(resource: Any, effect: str = "Allow", principal: Any = "*") -> str:
    return json.dumps(
        {"Statement": [{"Effect": effect, "Principal": principal, "Action": "*", "Resource": resource}]}
    )


def found(
    *endpoints: dict[str, Any],
    egress: tuple[dict[str, Any], ...] = (OUT,),
    ingress: tuple[dict[str, Any], ...] = (),
) -> list[str]:
    groups = [
        {"GroupId": "sg-1", "IpPermissionsEgress": [*egress]},
        {"GroupId": "sg-e", "IpPermissions": [*ingress]},
    ]
    table = {"RouteTableId": "rtb-1", "VpcId": "vpc-1", "Associations": [{"Main": True}], "Routes": [LOCAL]}
    subnet = {"SubnetId": "subnet-1", "VpcId": "vpc-1", "CidrBlock": "10.0.1.0/24"}
    account, _ = scripted(
        describe_subnets=lambda **_: {"Subnets": [subnet]},
        describe_route_tables=lambda **_: {"RouteTables": [table]},
        describe_nat_gateways=lambda **_: {"NatGateways": []},
        describe_vpc_endpoints=lambda **_: {"VpcEndpoints": [*endpoints]},
        describe_security_groups=lambda **_: {"SecurityGroups": groups},
    )
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/p-api:0123abc"
    given = {"KEY": secret("p/api")}
    aws = SimpleNamespace(
        account=account,
        services=lambda: {"api": service("api", subnets=("subnet-1",), security_groups=("sg-1",))},
        definitions=lambda: {"api": definition("api", fargate=True, image=image, secrets=given)},
        once=lambda _, read: read(),
    )
    return [each.what for each in kept_from_aws(cast(AwsReader, aws)).findings]


@pytest.mark.parametrize(
    ("egress", "offered", "shut"),
    [
        ((OUT,), (), False),
        ((INSIDE,), (), True),
        ((INSIDE,), ALL, False),
        ((INSIDE,), ALL[1:], True),
        ((OTHER_PORT,), ALL, True),
        ((TO_LIST,), (), False),
        ((CONNECTED,), (), False),  # what it needs may be in a network beside its own
    ],
)
def test_a_group_lets_a_task_out_to_aws(egress: Any, offered: tuple[str, ...], shut: bool) -> None:
    told = found(*(endpoint(each) for each in offered), egress=egress)
    assert any("lets it out on port 443" in each for each in told) is shut


@pytest.mark.parametrize(
    ("told", "ingress", "why"),
    [
        (endpoint("secretsmanager", PrivateDnsEnabled=True), (), "does not let it in"),
        (endpoint("secretsmanager", PrivateDnsEnabled=False), (), ""),
        (endpoint("secretsmanager", PrivateDnsEnabled=True), (INSIDE,), ""),
        (endpoint("secretsmanager", PrivateDnsEnabled=True), (TO_LIST,), ""),
        (endpoint("secretsmanager", PrivateDnsEnabled=True, VpcId="vpc-2"), (), ""),
        (endpoint("kms", PrivateDnsEnabled=True), (), ""),
        (endpoint("s3", Groups=[], PolicyDocument=says("*")), (), ""),
        (endpoint("s3", Groups=[], PolicyDocument=says("arn:aws:s3:::own/*")), (), "s3:GetObject"),
        (endpoint("s3", Groups=[], PolicyDocument=says("x"), RouteTableIds=[]), (), ""),
        (endpoint("ecr.api", Groups=[], PolicyDocument=says("arn:aws:ecr:*"), PrivateDnsEnabled=True), (),
         "ecr:GetAuthorizationToken"),
        (endpoint("secretsmanager", Groups=[], PrivateDnsEnabled=True,
                  PolicyDocument=says(secret("p/api"), principal={"AWS": "arn:aws:iam::1:role/x"})), (), ""),
        (endpoint("secretsmanager", Groups=[], PrivateDnsEnabled=True,
                  PolicyDocument=says("*", "Deny", {"AWS": "arn:aws:iam::1:role/x"})), (), ""),
    ],
)  # fmt: skip
def test_what_an_endpoint_takes(told: dict[str, Any], ingress: Any, why: str) -> None:
    whys = found(told, ingress=ingress)
    assert why in "".join(whys) if why else not whys
