"""Security groups that are in use, subnets, and the networks in which a private zone is known."""

import json
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pytest_readiness import SetupError

from smoke.aws.balancer import BalancerRoute, describe_balancers
from smoke.aws.databases import describe_databases
from smoke.aws.names import Names, Registry
from smoke.aws.network import Party, kept_from_aws, lets, only_inside, reached
from smoke.aws.reader import AwsReader
from smoke.aws.subnets import roomless
from smoke.aws.zones import unresolved
from tests.smoke.aws.fakes import definition, raising, scripted, secret, service

PUBLIC = {"api": "api.example.com"}
ALB = "p-alb-1.us-east-1.elb.amazonaws.com"


def rule(port: int = 3000, **other: Any) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **other}


def pair(*groups: str) -> dict[str, Any]:
    return {"UserIdGroupPairs": [{"GroupId": each} for each in groups]}


def ranges(*written: str) -> dict[str, Any]:
    v6 = [{"CidrIpv6": each} for each in written if ":" in each]
    return {"IpRanges": [{"CidrIp": each} for each in written if ":" not in each], "Ipv6Ranges": v6}


ALL = {"IpProtocol": "-1", **ranges("0.0.0.0/0")}
OPEN = {
    "NetworkAclId": "acl-1",
    "VpcId": "vpc-1",
    "IsDefault": True,
    "Entries": [
        {"RuleNumber": 100, "Protocol": "-1", "RuleAction": "allow", "Egress": out, "CidrBlock": "0.0.0.0/0"}
        for out in (True, False)
    ],
}


def account(
    *,
    finn: list[dict[str, Any]] | None = None,
    out: list[dict[str, Any]] | None = None,
    database: list[dict[str, Any]] | None = None,
    addresses: str = "10.0.1.9",
    api: dict[str, str] | None = None,
    finn_service: dict[str, Any] | None = None,
    registries: dict[str, Registry] | None = None,
    **answers: Any,
) -> AwsReader:
    """An account where the api calls Finn, and PgBouncer the database; Finn is behind a balancer."""
    held = {
        "sg-api": ([], [ALL] if out is None else out),
        "sg-finn": ([rule(**pair("sg-api", "sg-alb"))] if finn is None else finn, [ALL]),
        "sg-pgbouncer": ([], [ALL]),
        "sg-database": ([rule(5432, **pair("sg-pgbouncer"))] if database is None else database, []),
        "sg-alb": ([], [ALL]),
    }
    groups = [
        {"GroupId": each, "IpPermissions": into, "IpPermissionsEgress": from_it}
        for each, (into, from_it) in held.items()
    ]
    subnet = {"SubnetId": "subnet-1", "VpcId": "vpc-1", "CidrBlock": "10.0.1.0/24"}
    instance = {"DBInstanceIdentifier": "p", "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-database"}]}
    balancer: dict[str, Any] = {"LoadBalancerArn": "alb", "LoadBalancerName": "p-alb", "DNSName": ALB}
    balancer |= {"SecurityGroups": ["sg-alb"], "AvailabilityZones": [{"SubnetId": "subnet-1"}]}
    registered = {"Attributes": {"AWS_INSTANCE_IPV4": addresses}}
    found, _ = scripted(
        **{
            "describe_route_tables": lambda **_: {"RouteTables": []},
            "describe_network_acls": lambda **_: {"NetworkAcls": [OPEN]},
            "describe_vpc_attribute": lambda Attribute, **_: {f"E{Attribute[1:]}": {"Value": True}},
            "describe_vpcs": lambda **_: {
                "Vpcs": [
                    {"DhcpOptionsId": "dopt-1", "CidrBlockAssociationSet": [{"CidrBlock": "11.0.0.0/16"}]}
                ]
            },
            "describe_dhcp_options": raising("InvalidDhcpOptionID.NotFound"),
            "describe_db_proxies": lambda **_: {"DBProxies": []},
            "list_hosted_zones": lambda **_: {"HostedZones": []},
            "list_profile_associations": lambda **_: {"ProfileAssociations": []},
            "describe_security_groups": lambda **_: {"SecurityGroups": groups},
            "describe_subnets": lambda **_: {"Subnets": [subnet]},
            "describe_db_instances": lambda **_: {"DBInstances": [instance]},
            "describe_load_balancers": lambda **_: {"LoadBalancers": [balancer]},
            "discover_instances": lambda **_: {"Instances": [registered]},
            **answers,
        }
    )
    services = {
        "api": service("api", subnets=("subnet-1",)),
        "finn": service("finn", target_groups=("tg",), subnets=("subnet-1",), **(finn_service or {})),
        "pgbouncer": service("pgbouncer", subnets=("subnet-1",)),
    }
    tasks = {
        "api": definition("api", environment=api or {}),
        "finn": definition("finn"),
        "pgbouncer": definition("pgbouncer", ports=(6432,)),
    }
    aws = SimpleNamespace(
        account=found,
        names=Names("p"),
        services=lambda: services,
        service=services.__getitem__,
        definitions=lambda: tasks,
        definition=tasks.__getitem__,
        routes=lambda: [BalancerRoute("tg", "alb", ("finn.example.com",))],
        balancers=lambda: describe_balancers(found),
        registries=lambda: registries or {},
        instances=lambda: describe_databases(found, "p"),
        once=lambda _, read: read(),
    )
    return cast(AwsReader, aws)


KEPT_OUT = "no security group of finn lets api in"
REACH = {"finn": ["api"], "database": ["pgbouncer"]}


def examined(aws: AwsReader) -> tuple[list[str], list[str]]:
    _, result = reached(aws, REACH, {"finn": "finn.example.com"})
    return [each.what for each in result.findings], [each.what for each in result.not_examined]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"finn": [rule(**pair("sg-other", "sg-api")), rule(**pair("sg-alb"))]},
        {"finn": [ALL]},
        {"finn": [{"IpProtocol": "-1", **pair("sg-api")}, {"IpProtocol": "6", "FromPort": 0, "ToPort": 65535,
                                                          **pair("sg-alb")}]},
        {"finn": [rule(**ranges("10.0.0.0/16")), rule(**pair("sg-alb"))]},  # the subnets of the api
        {"out": [rule(**pair("sg-finn"))]},
        {"out": [rule(**ranges("10.0.1.0/24"))]},
        {"finn": [rule(**pair("sg-alb"))], "addresses": "internal-finn.elb.amazonaws.com"},
        {"finn": [rule(**pair("sg-alb"))], "api": {"FINN_URL": "https://finn.example.com"}},
        {"finn": [rule(**pair("sg-alb"))], "finn_service": {"aliases": ("finn:3000",)}},  # Service Connect
        {"database": [rule(5432, **pair("sg-pgbouncer", "sg-bastion")), rule(22, **ranges("0.0.0.0/0"))]},
    ],
)  # fmt: skip
def test_groups_that_admit_every_caller_have_no_finding(changed: dict[str, Any]) -> None:
    assert examined(account(**changed)) == ([], [])


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        ({"finn": [rule(**pair("sg-alb"))]}, "no security group of finn lets api in on port 3000"),
        ({"finn": [rule(3001, **pair("sg-api")), rule(**pair("sg-alb"))]}, KEPT_OUT),
        ({"finn": [{**rule(**pair("sg-api")), "IpProtocol": "udp"}, rule(**pair("sg-alb"))]},
         KEPT_OUT),
        ({"finn": [rule(**ranges("10.9.0.0/16")), rule(**pair("sg-alb"))]}, KEPT_OUT),
        ({"finn": [rule(**pair("sg-api"))]}, "no security group of finn lets p-alb in"),
        ({"out": []}, "no security group of api lets it out to finn"),
        ({"database": []}, "no security group of database lets pgbouncer in on port 5432"),
        ({"database": [rule(5432, **ranges("0.0.0.0/0"))]}, "sg-database of database lets everyone in on"),
        ({"database": [rule(5432, **pair("sg-pgbouncer"), Ipv6Ranges=[{"CidrIpv6": "::/0"}])]},
         "sg-database of database lets everyone in"),
    ],
)  # fmt: skip
def test_groups_that_block_a_caller_or_admit_everybody_are_findings(
    changed: dict[str, Any], finding: str
) -> None:
    findings, _ = examined(account(**changed))
    assert len(findings) == 1
    assert findings[0].startswith(finding)


@pytest.mark.parametrize(
    "finn",
    [
        [rule(PrefixListIds=[{"PrefixListId": "pl-1"}]), rule(**pair("sg-alb"))],
        [rule(**ranges("10.0.1.0/28")), rule(**pair("sg-alb"))],  # some of the subnet's addresses
    ],
)
def test_ranges_that_may_hold_a_caller_are_not_examined(finn: list[dict[str, Any]]) -> None:
    findings, unread = examined(account(finn=finn))
    assert findings == []
    assert unread == ["whether no security group of finn lets api in on port 3000"]


@pytest.mark.parametrize(("left", "full"), [((0,), True), ((0, 3), False), ((), True)])
def test_a_service_needs_one_subnet_with_an_address_left(left: tuple[int, ...], full: bool) -> None:
    subnets = [
        {"SubnetId": f"subnet-{number}", "CidrBlock": "10.0.1.0/24", "AvailableIpAddressCount": count}
        for number, count in enumerate(left, start=1)
    ]
    aws = account(describe_subnets=lambda **_: {"Subnets": subnets})
    for name, each in [*aws.services().items()]:
        cast(dict[str, Any], aws.services())[name] = service(each.name, subnets=("subnet-1", "subnet-2"))
    findings = roomless(aws).findings
    assert bool(findings) is full
    assert all("cannot start again" in each.what for each in findings)


def known_in(*networks: str, kind: str = "DNS_PRIVATE") -> dict[str, Any]:
    space = {"Name": "p.local", "Type": kind, "Properties": {"DnsProperties": {"HostedZoneId": "Z1"}}}
    return {
        "list_namespaces": lambda **_: {"Namespaces": [{"Name": "q.local"}, space]},
        "get_hosted_zone": lambda **_: {"VPCs": [{"VPCId": each} for each in networks]},
    }


@pytest.mark.parametrize(
    ("answers", "known"),
    [
        (known_in("vpc-1"), True),
        (known_in("vpc-0", "vpc-1"), True),
        (known_in("vpc-0", kind="HTTP"), True),  # no DNS
        (known_in("vpc-0"), False),
        (known_in(), False),
    ],
)
def test_a_private_zone_is_known_where_tasks_run(answers: dict[str, Any], known: bool) -> None:
    assert (unresolved(account(**answers), "finn") == "") is known


def entry(*kinds: str) -> dict[str, Any]:
    return {
        "registries": {"arn": Registry("finn.p.local", frozenset(kinds))},
        "finn_service": {"registries": ("arn",)},
        "list_namespaces": lambda **_: {"Namespaces": []},
    }


def private(name: str, *records: dict[str, Any], network: str = "vpc-1") -> dict[str, Any]:
    told = {"Name": f"{name}.", "Id": "Z2", "Config": {"PrivateZone": True}}
    return {
        "list_hosted_zones": lambda **_: {"HostedZones": [told]},
        "list_resource_record_sets": lambda **_: {"ResourceRecordSets": [*records]},
        "get_hosted_zone": lambda **_: {"VPCs": [{"VPCId": network}]},
    }


ADDRESS = {"Name": "finn.p.local.", "Type": "A", "ResourceRecords": [{"Value": "10.0.1.9"}]}


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (entry("A"), ""),
        (entry("SRV", "AAAA"), ""),
        (entry("SRV"), "creates only SRV records"),
        (entry(), "creates no records"),
        ({**entry("SRV"), **private("p.local", ADDRESS)}, ""),
        ({**entry("A"), **private("p.local")}, ""),
        ({**entry("A"), **private("finn.p.local")}, "the private zone finn.p.local"),
        ({**entry("A"), **private("finn.p.local", ADDRESS)}, ""),
        ({**entry("A"), **private("finn.p.local", network="vpc-2")}, ""),
        ({**entry("A"), **private("dixie.p.local")}, ""),
    ],
)
def test_a_private_name_has_an_address(answers: dict[str, Any], why: str) -> None:
    found = unresolved(account(**answers), "finn")
    assert why in found if why else not found


def test_an_account_whose_groups_this_runner_may_not_read_is_not_examined() -> None:
    with pytest.raises(SetupError, match="ec2:DescribeSecurityGroups"):
        examined(account(describe_security_groups=raising("UnauthorizedOperation")))


def test_a_proxy_may_be_in_front_of_the_database() -> None:
    groups = [rule(5432, **pair("sg-finn"))]
    proxy = {"DBProxyName": "p-proxy", "VpcSecurityGroupIds": ["sg-api"]}

    def proxied(**_: Any) -> dict[str, Any]:
        return {"DBProxies": [proxy]}

    findings, _ = examined(account(database=groups, describe_db_proxies=proxied))
    assert findings == ["no security group of database lets pgbouncer in on port 5432 (sg-database)"]
    proxy["VpcSecurityGroupIds"] = ["sg-finn"]
    let_in = [rule(**pair("sg-api", "sg-alb")), rule(5432, **pair("sg-pgbouncer"))]
    assert examined(account(database=groups, finn=let_in, describe_db_proxies=proxied)) == ([], [])
    proxy["Status"] = "suspended"
    assert examined(account(database=groups, finn=let_in, describe_db_proxies=proxied))[0] == findings


@pytest.mark.parametrize("off", ["EnableDnsSupport", "EnableDnsHostnames"])
def test_a_network_without_dns_answers_no_private_name(off: str) -> None:
    def told(Attribute: str, **_: Any) -> dict[str, Any]:  # as botocore names it
        return {off: {"Value": False}} if Attribute == f"e{off[1:]}" else {}

    assert off[1:] in unresolved(account(**known_in("vpc-1"), describe_vpc_attribute=told), "finn")


@pytest.mark.parametrize(
    ("servers", "lost"),
    [
        (["AmazonProvidedDNS"], False),
        (["10.0.0.2", "1.1.1.1"], False),
        (["169.254.169.253"], False),
        (["11.0.0.2"], False),  # of a network with public addresses
        (["1.1.1.1", "8.8.8.8"], True),
    ],
)
def test_public_servers_know_no_private_zone(servers: list[str], lost: bool) -> None:
    said = {"Key": "domain-name-servers", "Values": [{"Value": each} for each in servers]}
    answer = {"DhcpOptions": [{"DhcpConfigurations": [{"Key": "domain-name", "Values": []}, said]}]}
    found = unresolved(account(**known_in("vpc-1"), describe_dhcp_options=lambda **_: answer), "finn")
    assert ("name 1.1.1.1 and 8.8.8.8, which know no private zone" in found) is lost


@pytest.mark.parametrize("networks", [[{"DhcpOptionsId": "default"}], [{}], []])
def test_a_network_without_dhcp_options_is_not_asked_for_them(networks: list[dict[str, Any]]) -> None:
    asked = raising("InvalidDhcpOptionsId.Malformed")
    reader = account(
        **known_in("vpc-1"), describe_vpcs=lambda **_: {"Vpcs": networks}, describe_dhcp_options=asked
    )
    assert unresolved(reader, "finn") == unresolved(account(**known_in("vpc-1")), "finn")


def test_a_profile_may_make_a_zone_known() -> None:
    found = {"ProfileAssociations": [{"ProfileId": "rp-1"}]}
    with pytest.raises(SetupError, match="the Route 53 profile rp-1"):
        unresolved(account(**known_in(), list_profile_associations=lambda **_: found), "finn")


def test_a_public_balancer_lets_somebody_in() -> None:
    findings, _ = examined(account(**facing_the_internet("sg-alb")))
    assert findings == ["the public does not reach p-alb: no security group lets anyone in on port 443"]


@pytest.mark.parametrize(
    ("given", "barred"),
    [
        ({"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, False),
        ({"Ipv6Ranges": [{"CidrIpv6": "::/0"}]}, False),
        ({"IpRanges": [{"CidrIp": "198.51.100.0/22"}]}, False),  # an office
        ({"IpRanges": [{"CidrIp": "10.0.0.0/8"}, {"CidrIp": "192.168.0.0/16"}]}, True),
        ({"IpRanges": [{"CidrIp": "10.0.0.0/8"}], "PrefixListIds": [{"PrefixListId": "pl-1"}]}, False),
        ({"UserIdGroupPairs": [{"GroupId": "sg-nlb"}]}, True),
    ],
)
def test_groups_that_let_in_only_private_addresses(given: dict[str, Any], barred: bool) -> None:
    assert bool(only_inside([given])) is barred


def test_a_balancer_without_ipv6_addresses_needs_a_rule_for_ipv4() -> None:
    every = {"Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
    assert only_inside([every], dual=False) == "its security groups let in only ::/0"
    assert not only_inside([{**every, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}], dual=False)
    rule = {"IpProtocol": "-1", **every}
    assert lets([rule], Party("api", ("sg-1",), (ip_network("10.0.0.0/24"),)), 443) is False
    assert lets([rule], Party("api", ("sg-1",), (ip_network("2001:db8::/64"),)), 443) is True


def facing_the_internet(*groups: str) -> dict[str, Any]:
    balancer: dict[str, Any] = {"LoadBalancerArn": "alb", "LoadBalancerName": "p-alb", "DNSName": ALB}
    places = [{"SubnetId": "subnet-1"}]
    balancer |= {"SecurityGroups": [*groups], "Scheme": "internet-facing", "AvailabilityZones": places}
    return {"describe_load_balancers": lambda **_: {"LoadBalancers": [balancer]}}


@pytest.mark.parametrize(
    ("led", "blamed"),
    [
        ([ALB], True),
        ([f"dualstack.{ALB}."], True),
        (["192.0.2.1"], None),  # of the balancer itself, or of what is in front
        (["a0123456789abcdef.awsglobalaccelerator.com"], False),
        (["d111111abcdef8.cloudfront.net"], False),  # an origin in the VPC
        ([], None),
    ],
)
def test_a_balancer_in_a_private_subnet_needs_a_proxy_in_front(led: list[str], blamed: bool | None) -> None:
    values = [{"Value": each} for each in led]
    records = [{"Name": "finn.example.com.", "Type": "A", "ResourceRecords": values}]
    inside = {"RouteTableId": "rtb-1", "VpcId": "vpc-1", "Associations": [{"Main": True}], "Routes": [LOCAL]}
    found = examined(
        account(
            finn=[rule(**pair("sg-api", "sg-finn")), rule(443, **ranges("0.0.0.0/0"))],
            describe_route_tables=lambda **_: {"RouteTables": [inside]},
            list_hosted_zones=lambda **_: {"HostedZones": [{"Id": "Z1", "Name": "example.com."}]},
            list_resource_record_sets=lambda **_: {"ResourceRecordSets": records},
            **facing_the_internet("sg-finn"),
        )
    )
    why = "rtb-1 of subnet-1 has no route to an internet gateway"
    unclear = f"whether the public reaches p-alb, perhaps through a proxy: {why}"
    assert found == (
        [f"the public does not reach p-alb: {why}"] if blamed else [], [unclear] if blamed is None else []
    )  # fmt: skip


def test_a_balancer_without_security_groups_lets_everybody_in() -> None:
    records = [{"Name": "finn.example.com.", "Type": "A", "ResourceRecords": [{"Value": ALB}]}]
    aws = account(
        list_hosted_zones=lambda **_: {"HostedZones": [{"Id": "Z1", "Name": "example.com."}]},
        list_resource_record_sets=lambda **_: {"ResourceRecordSets": records},
        describe_vpc_block_public_access_options=raising("InvalidAction"),
        **facing_the_internet(),
    )
    assert examined(aws) == ([], [])


def test_dns_matters_only_for_a_balancer_without_a_way_in() -> None:
    open_to_all = [rule(**pair("sg-api", "sg-finn")), rule(443, **ranges("0.0.0.0/0"))]
    hidden = {"list_hosted_zones": raising("AccessDenied"), **facing_the_internet("sg-finn")}
    assert examined(account(finn=open_to_all, **hidden)) == ([], [])


def test_routes_are_followed_without_permission_to_read_block_public_access() -> None:
    records = [{"Name": "finn.example.com.", "Type": "A", "ResourceRecords": [{"Value": ALB}]}]
    inside = {"RouteTableId": "rtb-1", "VpcId": "vpc-1", "Associations": [{"Main": True}], "Routes": [LOCAL]}
    found, unread = examined(
        account(
            finn=[rule(**pair("sg-api", "sg-finn")), rule(443, **ranges("0.0.0.0/0"))],
            describe_route_tables=lambda **_: {"RouteTables": [inside]},
            describe_vpc_block_public_access_options=raising("UnauthorizedOperation"),
            list_hosted_zones=lambda **_: {"HostedZones": [{"Id": "Z1", "Name": "example.com."}]},
            list_resource_record_sets=lambda **_: {"ResourceRecordSets": records},
            **facing_the_internet("sg-finn"),
        )
    )
    why = "rtb-1 of subnet-1 has no route to an internet gateway"
    assert found == [f"the public does not reach p-alb: {why}"]
    assert ["BlockPublicAccess" in each for each in unread] == [True]


OUT = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
INSIDE = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}
LOCAL = {"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local"}
CONNECTED = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
TO_LIST = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "PrefixListIds": [{"PrefixListId": "pl-1"}]}
OTHER_PORT = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
NEEDED = ("ecr.api", "ecr.dkr", "s3", "logs", "secretsmanager")


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
        ((INSIDE,), NEEDED, False),
        ((INSIDE,), NEEDED[1:], True),
        ((OTHER_PORT,), NEEDED, True),
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
