"""Routes out of the tasks' subnets, and the network ACLs between any two subnets."""

from dataclasses import replace
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, cast

import pytest

from smoke.aws.reader import AwsReader
from smoke.aws.subnets import AccessLists, Subnet, WaysOut, kept_in
from tests.smoke.aws.fakes import definition, scripted, service

LOCAL = {"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local", "State": "active"}
NAT = {"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1", "State": "active"}
NEEDED = ("ecr.api", "ecr.dkr", "s3", "logs", "secretsmanager")


def out(target: str, to: str = "0.0.0.0/0", **more: str) -> dict[str, str]:
    return {"DestinationCidrBlock": to, target: f"{target.lower()}-1", "State": "active", **more}


IGW = out("GatewayId", GatewayId="igw-1")


def endpoints(*names: str) -> list[dict[str, Any]]:
    return [
        {"VpcId": "vpc-1", "ServiceName": f"com.amazonaws.us-east-1.{each}", "State": "available"}
        for each in names
    ]


def examined(
    routes: list[dict[str, str]],
    *,
    offered: tuple[str, ...] = (),
    public: bool = False,
    nat: str = "available",
    further: tuple[dict[str, str], ...] = (out("GatewayId"),),
    image: str = "123456789012.dkr.ecr.us-east-1.amazonaws.com/p-api:0123abc",
    gateway_of: str = "",
    listed: tuple[dict[str, Any], ...] = (),
    owner: str = "1",
    mode: str = "off",
    excluded: tuple[tuple[str, str], ...] = (),
) -> tuple[list[str], list[str]]:
    tables = [
        {"RouteTableId": "rtb-1", "VpcId": "vpc-1", "Associations": [{"Main": True}],
         "Routes": [LOCAL, *routes]},
        {"RouteTableId": "rtb-2", "VpcId": "vpc-1", "Associations": [{"SubnetId": "subnet-9"}],
         "Routes": [LOCAL, *further]},
    ]  # fmt: skip
    found = [{"SubnetId": "subnet-1", "VpcId": "vpc-1", "CidrBlock": "10.0.1.0/24", "OwnerId": owner}]
    offers = endpoints(*offered)
    for each in offers if gateway_of else ():
        if each["ServiceName"].endswith(".s3"):
            each |= {"VpcEndpointType": "Gateway", "RouteTableIds": [gateway_of]}
    acl = {"NetworkAclId": "acl-1", "VpcId": "vpc-1", "Associations": [{"SubnetId": "subnet-1"}]}
    gateway = {"NatGatewayId": "nat-1", "VpcId": "vpc-1", "SubnetId": "subnet-9", "State": nat}
    account, _ = scripted(
        describe_subnets=lambda **_: {"Subnets": found},
        describe_route_tables=lambda **_: {"RouteTables": tables},
        describe_nat_gateways=lambda **_: {"NatGateways": [gateway]},
        describe_vpc_endpoints=lambda **_: {"VpcEndpoints": offers},
        describe_network_acls=lambda **_: {"NetworkAcls": [{**acl, "Entries": listed}] if listed else []},
        describe_vpc_block_public_access_options=lambda **_: {
            "VpcBlockPublicAccessOptions": {"InternetGatewayBlockMode": mode}
        },
        describe_vpc_block_public_access_exclusions=lambda **_: {
            "VpcBlockPublicAccessExclusions": [
                {"ResourceArn": f"arn:aws:ec2:us-east-1:1:{of}", "InternetGatewayExclusionMode": how,
                 "State": "create-complete"} for of, how in excluded]
        },
    )  # fmt: skip
    aws = SimpleNamespace(
        account=account,
        cluster=lambda: "arn:aws:ecs:us-east-1:1:cluster/c",
        services=lambda: {"api": service("api", subnets=("subnet-1",), public=public)},
        definitions=lambda: {"api": definition("api", fargate=True, image=image)},
        once=lambda _, read: read(),
    )
    result = kept_in(cast(AwsReader, aws))
    return [each.what for each in result.findings], [each.what for each in result.not_examined]


@pytest.mark.parametrize(
    "given",
    [
        {"routes": [NAT]},
        {"routes": [out("TransitGatewayId")]},
        {"routes": [out("NetworkInterfaceId", "0.0.0.0/1"), out("NetworkInterfaceId", "128.0.0.0/1")]},
        {"routes": [out("GatewayId", GatewayId="igw-1")], "public": True},
        {"routes": [out("GatewayId", GatewayId="vpce-1")]},  # a firewall
        {"routes": [], "offered": NEEDED},
        {"routes": [NAT], "mode": "block-ingress"},
        {"routes": [NAT], "mode": "block-bidirectional", "offered": NEEDED},
        {"routes": [NAT], "mode": "block-bidirectional", "excluded": (("subnet/subnet-9", "allow-egress"),)},
        {"routes": [IGW], "public": True, "mode": "block-ingress",
         "excluded": (("vpc/vpc-1", "allow-bidirectional"),)},
        {"routes": [NAT], "nat": "failed", "offered": NEEDED},
        {"routes": [{"DestinationPrefixListId": "pl-1", "TransitGatewayId": "tgw-1", "State": "active"}]},
    ],
)  # fmt: skip
def test_ways_out_of_a_subnet(given: dict[str, Any]) -> None:
    assert examined(**given) == ([], [])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            {"routes": []},
            "rtb-1 has no route out, and no VPC endpoint reaches ecr.api or ecr.dkr or s3 or logs or",
        ),
        (
            {"routes": [], "offered": NEEDED[:-1]},
            "rtb-1 has no route out, and no VPC endpoint reaches secretsmanager",
        ),
        ({"routes": [{**NAT, "State": "blackhole"}]}, "its route out leads to nat-1, which is gone"),
        ({"routes": [NAT], "nat": "failed"}, "its route out leads to nat-1, which is failed"),
        ({"routes": [NAT], "further": ()}, "its route out leads to nat-1, whose own subnet has no route out"),
        ({"routes": [out("GatewayId", GatewayId="igw-1")]}, "leads to igw-1, and it has no public address"),
        (
            {"routes": [NAT], "mode": "block-bidirectional"},
            "and VPC Block Public Access is block-bidirectional",
        ),
        (
            {"routes": [IGW], "public": True, "mode": "block-ingress"},
            "VPC Block Public Access is block-ingress",
        ),
        ({"routes": [], "offered": NEEDED, "image": "postgres:16"}, "no VPC endpoint reaches the internet"),
    ],
)
def test_subnets_without_a_way_out(given: dict[str, Any], why: str) -> None:
    (finding,), _ = examined(**given)
    assert finding.startswith("api cannot start again in subnet-1: ")
    assert why in finding


def test_what_a_task_needs_may_be_in_a_network_beside() -> None:
    findings, unread = examined([out("TransitGatewayId", "10.9.0.0/16")])
    assert (findings, unread) == ([], ["whether api reaches its registry from subnet-1"])


def test_what_another_account_has_in_a_shared_network_is_not_described() -> None:
    elsewhere = {**NAT, "NatGatewayId": "nat-of-its-owner"}
    assert examined([elsewhere], owner="2") == ([], [])
    assert examined([], owner="2") == ([], ["whether api reaches its registry from subnet-1"])


def entry(
    number: int, action: str, *, to: bool, of: str = "0.0.0.0/0", ports: tuple[int, int] = (0, 65535)
) -> Any:
    return {"RuleNumber": number, "Protocol": "6", "RuleAction": action, "Egress": to, "CidrBlock": of,
            "PortRange": {"From": ports[0], "To": ports[1]}}  # fmt: skip


OWN = entry(100, "allow", to=False, of="10.0.0.0/16")
OUT = entry(100, "allow", to=True)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"routes": [], "offered": NEEDED, "gateway_of": "rtb-1"}, ""),
        ({"routes": [], "offered": NEEDED, "gateway_of": "rtb-2"}, "no VPC endpoint reaches s3"),
        ({"routes": [NAT], "listed": (OUT, entry(100, "allow", to=False))}, ""),
        ({"routes": [NAT], "listed": (OUT, OWN)}, "acl-1 of subnet-1 blocks everything from the internet"),
        ({"routes": [NAT], "listed": (OUT, OWN, entry(110, "allow", to=False, ports=(1024, 65535)))}, ""),
        ({"routes": [NAT], "listed": (entry(100, "allow", to=False),)}, "blocks everything to the internet"),
        ({"routes": [NAT], "listed": (OUT, OWN), "offered": NEEDED}, ""),
        ({"routes": [out("TransitGatewayId")], "listed": (OUT, OWN)}, ""),  # whose network has endpoints
        (
            {
                "routes": [NAT, {**out("TransitGatewayId"), "DestinationCidrBlock": "10.0.0.0/8"}],
                "listed": (OUT, OWN),
            },
            "",
        ),
    ],
)
def test_what_leads_out_and_is_let_through(given: dict[str, Any], why: str) -> None:
    findings, unread = examined(**given)
    assert [why in each for each in findings] == ([True] if why else [])
    assert unread == []


@pytest.mark.parametrize(
    ("routes", "reached"),
    [
        ([out("GatewayId", GatewayId="igw-1")], True),
        ([out("GatewayId", GatewayId="vpce-1")], True),  # a firewall
        ([out("TransitGatewayId")], True),
        ([NAT], False),
        ([{**out("GatewayId"), "State": "blackhole"}], False),
        ([], False),
    ],
)
def test_whether_the_internet_reaches_a_subnet(routes: list[Any], reached: bool) -> None:
    table = {"RouteTableId": "rtb-1", "VpcId": "vpc-1", "Associations": [{"SubnetId": "subnet-1"}]}
    subnets = {"subnet-1": Subnet("vpc-1", 9, (ip_network("10.0.1.0/24"),))}
    ways = WaysOut(subnets, [{**table, "Routes": [LOCAL, *routes]}])
    assert (ways.unreached("subnet-1") == "") is reached
    assert ways.unreached("subnet-of-another") == ""
    barred = replace(ways, barred="block-ingress")
    assert barred.unreached("subnet-1") == "VPC Block Public Access is block-ingress for subnet-1"
    for mode, blocked in (("allow-egress", True), ("allow-bidirectional", not reached)):
        excluded = replace(barred, excluded={"vpc-1": mode})
        assert bool(excluded.unreached("subnet-1")) is blocked


@pytest.mark.parametrize(
    ("state", "counts"),
    [
        ("create-complete", True),
        ("update-failed", True),
        ("create-failed", False),
        ("delete-complete", False),
    ],
)
def test_an_exclusion_from_block_public_access_counts_while_it_is_there(state: str, counts: bool) -> None:
    mode, place = "allow-bidirectional", "arn:aws:ec2:us-east-1:1:vpc/vpc-1"
    listed = [{"ResourceArn": place, "InternetGatewayExclusionMode": mode, "State": state}]
    options = {"VpcBlockPublicAccessOptions": {"InternetGatewayBlockMode": "block-ingress"}}
    account, _ = scripted(
        describe_vpc_block_public_access_options=lambda **_: options,
        describe_vpc_block_public_access_exclusions=lambda **_: {"VpcBlockPublicAccessExclusions": listed},
    )
    assert WaysOut().with_barred(account).excluded == ({"vpc-1": mode} if counts else {})


BOTH = [entry(100, "allow", to=to) for to in (True, False)]
STRICT = [
    entry(number, "allow", to=to, of="10.0.0.0/16", ports=ports)
    for to in (True, False)
    for number, ports in ((100, (3000, 3001)), (110, (32768, 61000)))
]


@pytest.mark.parametrize(
    ("of_caller", "of_called", "why"),
    [
        (BOTH, BOTH, ""),
        (STRICT, STRICT, ""),
        ([], BOTH, "acl-1 of subnet-1 blocks everything to 10.0.2.0/24"),
        (BOTH, [], "acl-2 of subnet-2 blocks everything from 10.0.1.0/24"),
        (BOTH, [entry(100, "allow", to=False)], "acl-2 of subnet-2 blocks everything to 10.0.1.0/24"),
        ([entry(100, "allow", to=True)], BOTH, "acl-1 of subnet-1 blocks everything from 10.0.2.0/24"),
        (BOTH, [entry(90, "deny", to=False, of="10.0.1.0/24", ports=(3000, 3000)), *BOTH],
         "acl-2 of subnet-2 blocks everything from 10.0.1.0/24"),
        (BOTH, [entry(90, "deny", to=False, of="10.0.1.0/28"), *BOTH], ""),  # some callers come through
        (BOTH, [entry(110, "deny", to=False), *BOTH], ""),
    ],
)  # fmt: skip
def test_lists_between_subnets(of_caller: list[Any], of_called: list[Any], why: str) -> None:
    lists = [
        {"NetworkAclId": f"acl-{at}", "VpcId": "vpc-1", "Associations": [{"SubnetId": f"subnet-{at}"}],
         "Entries": entries}
        for at, entries in ((1, of_caller), (2, of_called))
    ]  # fmt: skip
    subnets = {f"subnet-{at}": Subnet("vpc-1", 9, (ip_network(f"10.0.{at}.0/24"),)) for at in (1, 2)}
    assert AccessLists(lists, subnets).closed(["subnet-1"], ["subnet-2"], [3000]) == why
    assert AccessLists(lists, subnets).closed(["subnet-1"], ["subnet-1"], [3000]) == ""
    assert AccessLists((), subnets).closed(["subnet-1"], ["subnet-2"], [3000]) == ""
