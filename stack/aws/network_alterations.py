"""Alterations of the network and its edge: routes, network ACLs, endpoints, what balancers do, WAF, zones."""

from collections.abc import Mapping, Sequence
from typing import Any

from stack.aws import internals
from stack.aws.edge_alterations import cloudfront_in_front, record_leads
from stack.aws.emulator import Emulator
from stack.aws.inventory import (
    ACCOUNT,
    CLUSTER,
    NAMESPACE,
    PREFIX,
    REGION,
    SERVICES,
    ZONE,
    alias_record,
    dns_record,
    let_in,
    policy,
    record_of,
    role_arn,
    write_records,
    zone_of,
)
from stack.aws.platform_alterations import container_set, task_definition

#: The AWS services that Fargate tasks need to start, as suffixes of endpoint names.
STARTING = ("ecr.api", "ecr.dkr", "s3", "logs", "secretsmanager")


def way_out(_: Emulator, is_: str) -> None:
    """Make the route out of the tasks' subnets `gone` or a `blackhole`, or give their NAT gateway a state."""
    for table in internals.records("ec2._route_tables"):
        through = [each for each in table["Routes"] if each.get("NatGatewayId")]
        if is_ == "gone":
            table["Routes"] = [each for each in table["Routes"] if each not in through]
        for each in through if is_ == "blackhole" else ():
            each["State"] = "blackhole"
    for gateway in internals.records("ec2._nat_gateways") if is_ not in ("gone", "blackhole") else ():
        gateway["State"] = is_


def way_out_through(_: Emulator, **target: str) -> None:
    """Route the tasks' subnets out through something other than a NAT gateway."""
    for table in internals.records("ec2._route_tables"):
        for each in table["Routes"]:
            if each.pop("NatGatewayId", None):
                each |= target


def endpoints(
    emulator: Emulator, without: Sequence[str] = (), state: str = "available", *, routed: bool = True
) -> None:
    """Give the network endpoints of all that tasks ask when they start, but for some.

    If that of S3 is not `routed`, it is in no route table, and the subnets have no other way out.
    """
    if not routed:
        way_out(emulator, "gone")
    (network,) = {each["VpcId"] for each in internals.records("ec2._nat_gateways")}
    for name in {*STARTING} - {*without}:
        kind = "Gateway" if name == "s3" else "Interface"
        service = f"com.amazonaws.{REGION}.{name}"
        emulator.aws("ec2").create_vpc_endpoint(VpcId=network, ServiceName=service, VpcEndpointType=kind)
    tables = [each["RouteTableId"] for each in internals.records("ec2._route_tables")]
    for each in internals.records("ec2._vpc_endpoints"):
        each |= {"State": state, "RouteTableIds": tables if routed else []}


def endpoint(
    emulator: Emulator, name: str, lets_in: Sequence[str] = ("10.0.0.0/16",), resource: str = ""
) -> None:
    """Have an endpoint take all that the network asks a service of AWS, from some ranges of addresses.

    With a `resource`, its policy lets through what is about that alone.
    """
    (network,) = {each["VpcId"] for each in internals.records("ec2._nat_gateways")}
    kind, ec2 = "Gateway" if name == "s3" else "Interface", emulator.aws("ec2")
    service = f"com.amazonaws.{REGION}.{name}"
    made = ec2.create_vpc_endpoint(VpcId=network, ServiceName=service, VpcEndpointType=kind)["VpcEndpoint"]
    group = ec2.create_security_group(GroupName=f"endpoint-{name}", Description=name, VpcId=network)[
        "GroupId"
    ]
    if lets_in:
        let_in(ec2, group, lets_in, 443)
    document = policy(Principal="*", Action="*", Resource=resource)
    tables = [each["RouteTableId"] for each in internals.records("ec2._route_tables")]
    for each in internals.records("ec2._vpc_endpoints"):
        if each["VpcEndpointId"] == made["VpcEndpointId"]:
            each |= {"PolicyDocument": document} if resource else {}
            each |= (
                {"RouteTableIds": tables} if name == "s3" else {"PrivateDnsEnabled": True, "Groups": [group]}
            )


def access_list(_: Emulator, entries: Sequence[Mapping[str, Any]] = ()) -> None:
    """Leave only these entries in the network ACLs: without any, they deny everything."""
    for each in internals.records("ec2._network_acls"):
        each["Entries"] = [dict(entry) for entry in entries]


def subnet_gone(_: Emulator, service: str) -> None:
    """Leave a deleted subnet among those of a service."""
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    network = record["networkConfiguration"]["awsvpcConfiguration"]
    network["subnets"] = [*network["subnets"], "subnet-0123456789abcdef0"]


def balancer_is(_: Emulator, **settings: Any) -> None:
    """Change a property of the load balancer, such as its `Scheme` or `State`."""
    for each in internals.records("alb._lbs"):
        each |= settings


def balancer_inside(emulator: Emulator) -> None:
    """Place the load balancer in the subnets of the tasks."""
    (balancer,) = internals.records("alb._lbs")
    (record,) = [internals.service_record(CLUSTER, f"{PREFIX}-api")]
    subnets = record["networkConfiguration"]["awsvpcConfiguration"]["subnets"]
    emulator.aws("elbv2").set_subnets(LoadBalancerArn=balancer["LoadBalancerArn"], Subnets=subnets)


def balancer_attribute(emulator: Emulator, name: str, value: str) -> None:
    """Give the balancer an attribute, such as `idle_timeout.timeout_seconds`."""
    (balancer,) = internals.records("alb._lbs")
    attribute = {"Key": name, "Value": value}
    emulator.aws("elbv2").modify_load_balancer_attributes(
        LoadBalancerArn=balancer["LoadBalancerArn"], Attributes=[attribute]
    )


def web_acl(emulator: Emulator, **made: Any) -> None:
    """Associate a web ACL with the load balancer; `made` as for `_web_acl`."""
    arn = _web_acl(emulator, **made)
    (balancer,) = internals.records("alb._lbs")
    emulator.aws("wafv2").associate_web_acl(WebACLArn=arn, ResourceArn=balancer["LoadBalancerArn"])


def cloudfront_behind_acl(emulator: Emulator, host: str, **made: Any) -> None:
    """Put CloudFront in front of a host, with a web ACL; `made` as for `_web_acl`."""
    cloudfront_in_front(emulator, host, acl=_web_acl(emulator, scope="CLOUDFRONT", **made))


def _web_acl(
    emulator: Emulator,
    scope: str = "REGIONAL",
    default: str = "Allow",
    block: Mapping[str, Any] | None = None,
    addresses: Sequence[str] = (),
    *,
    usual: bool = False,
) -> str:
    """Make a web ACL that blocks by a statement, or by addresses, has the usual rules if asked; its ARN."""
    waf, rules = emulator.aws("wafv2"), list[dict[str, Any]]()
    seen = {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "edge"}
    managed = {"VendorName": "AWS", "Name": "AWSManagedRulesKnownBadInputsRuleSet"}
    rate = {"RateBasedStatement": {"Limit": 2000, "AggregateKeyType": "IP"}}
    if usual:
        group = {"ManagedRuleGroupStatement": managed}
        rules += [{"Name": "bad-inputs", "OverrideAction": {"None": {}}, "Statement": group}]
        rules += [{"Name": "rate", "Action": {"Block": {}}, "Statement": rate}]
    if block:
        rules += [{"Name": "by-hand", "Action": {"Block": {}}, "Statement": block}]
    if addresses:
        listed = waf.create_ip_set(
            Name="barred", Scope=scope, IPAddressVersion="IPV4", Addresses=[*addresses]
        )
        of = {"IPSetReferenceStatement": {"ARN": listed["Summary"]["ARN"]}}
        rules += [{"Name": "barred", "Action": {"Block": {}}, "Statement": of}]
    for priority, rule in enumerate(rules):
        rule |= {"Priority": priority, "VisibilityConfig": seen}
    made = waf.create_web_acl(
        Name="edge", Scope=scope, DefaultAction={default: {}}, Rules=rules, VisibilityConfig=seen
    )
    return str(made["Summary"]["ARN"])


def zone_inside(emulator: Emulator, name: str, leads_to: str = "") -> None:
    """Add a private zone to the tasks' VPC, in which every public host points somewhere, or none does."""
    (network,) = {each["VpcId"] for each in internals.records("ec2._nat_gateways")}
    route53 = emulator.aws("route53")
    zone = route53.create_hosted_zone(
        Name=name, CallerReference=f"{name} inside", VPC={"VPCRegion": REGION, "VPCId": network},
        HostedZoneConfig={"PrivateZone": True},
    )["HostedZone"]["Id"]  # fmt: skip
    hosts = [each.public for each in SERVICES if each.public and leads_to]
    write_records(route53, zone, *(alias_record(host, leads_to) for host in hosts))


def host_delegated(emulator: Emulator, host: str, to: str = "", before: str = "") -> None:
    """Have the public zone lead on to one for a host alone, in which it leads to the balancer or elsewhere.

    The record that the host had `before` was left behind.
    """
    route53 = emulator.aws("route53")
    (balancer,) = internals.records("alb._lbs")
    public = zone_of(route53)
    made = route53.create_hosted_zone(Name=host, CallerReference=host)
    left = [alias_record(host, before)] if before else []
    write_records(route53, public, dns_record(host, "NS", *made["DelegationSet"]["NameServers"]), *left)
    write_records(route53, made["HostedZone"]["Id"], alias_record(host, to or balancer["DNSName"]))


def host_by(emulator: Emulator, host: str, names: Mapping[str, str]) -> None:
    """Have the public zone know a host by other names than its own, each with what it leads to.

    `alb` is the load balancer.
    """
    route53 = emulator.aws("route53")
    (balancer,) = internals.records("alb._lbs")
    known = [
        dns_record(name, "CNAME", balancer["DNSName"] if to == "alb" else to) for name, to in names.items()
    ]
    write_records(route53, zone_of(route53), *known, instead_of=[record_of(route53, host)])


def zone_again(emulator: Emulator, host: str = "", to: str = "") -> None:
    """Leave a second public zone of the same name, in which a host leads elsewhere, or nothing does."""
    route53 = emulator.aws("route53")
    made = route53.create_hosted_zone(Name=ZONE, CallerReference="again")["HostedZone"]["Id"]
    write_records(route53, made, *([dns_record(host, "CNAME", to)] if host else []))


def connected(_: Emulator, service: str, port: int) -> None:
    """Have Service Connect instead of a registry make a service known by its name."""
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    record["serviceRegistries"] = []
    alias = {"port": port, "dnsName": f"{service}.{NAMESPACE}"}
    offered = {"portName": service, "discoveryName": service, "clientAliases": [alias]}
    connect = {"enabled": True, "namespace": NAMESPACE, "services": [offered]}
    for each in record["deployments"]:
        each["serviceConnectConfiguration"] = connect


def host_at_spare_balancer(emulator: Emulator, host: str) -> None:
    """Have the record of a host lead to another balancer of the account, which serves nothing any more."""
    (balancer,) = internals.records("alb._lbs")
    places = [each["SubnetId"] for each in internals.records("ec2._nat_gateways")]
    made = emulator.aws("elbv2").create_load_balancer(
        Name="spare", Subnets=places, SecurityGroups=balancer["SecurityGroups"], Type="application"
    )["LoadBalancers"]
    record_leads(emulator, host, made[0]["DNSName"])


def weighted(emulator: Emulator, host: str, weights: Mapping[str, int]) -> None:
    """Split a host's requests between names by weight; `alb` is the load balancer's own name."""
    route53 = emulator.aws("route53")
    (balancer,) = internals.records("alb._lbs")
    split = [
        alias_record(host, balancer["DNSName"] if to.startswith("alb") else to)
        | {"SetIdentifier": to, "Weight": weight}
        for to, weight in weights.items()
    ]
    write_records(route53, zone_of(route53), *split, instead_of=[record_of(route53, host)])


def placed(emulator: Emulator, host: str, places: Sequence[str], plain: str = "") -> None:
    """Have the record of a host answer only callers in these countries; `*` is everywhere else.

    `plain` is an IPv6 address that all others get.
    """
    route53 = emulator.aws("route53")
    old = record_of(route53, host)
    new = [{**old, "SetIdentifier": place, "GeoLocation": {"CountryCode": place}} for place in places]
    new += [dns_record(host, "AAAA", plain)] if plain else []
    write_records(route53, zone_of(route53), *new, instead_of=[old])


def failing_over(emulator: Emulator, host: str, to: str, seen: str = "Failure: no answer") -> None:
    """Give a host a spare, used while the health check of its own record fails: what checkers have `seen`."""
    route53 = emulator.aws("route53")
    old = record_of(route53, host)
    asks: Any = {"Type": "HTTPS", "FullyQualifiedDomainName": host, "ResourcePath": "/health"}
    check = route53.create_health_check(CallerReference=host, HealthCheckConfig=asks)["HealthCheck"]["Id"]
    main = {**old, "SetIdentifier": "main", "Failover": "PRIMARY", "HealthCheckId": check}
    spare = {**old, "SetIdentifier": "spare", "Failover": "SECONDARY"}
    spare["AliasTarget"] = {**old["AliasTarget"], "DNSName": to}
    write_records(route53, zone_of(route53), main, spare, instead_of=[old])
    report = f"<StatusReport><Status>{seen}</Status></StatusReport>"
    listed = f"<HealthCheckObservation><Region>eu-west-1</Region>{report}</HealthCheckObservation>"
    reports = f"<HealthCheckObservations>{listed}</HealthCheckObservations>"
    answer = f"<GetHealthCheckStatusResponse>{reports}</GetHealthCheckStatusResponse>"
    emulator.further.set_answer(f"healthcheck/{check}/status", answer)


def zone_signed(emulator: Emulator, host: str = ZONE, key: str = "ACTIVE", digest: str = "") -> None:
    """Sign the zone of a host with a key in some state, or not at all without a `key`.

    The zone above it has the `digest` of a key.
    """
    route53 = emulator.aws("route53")
    signs = "SIGNING" if key else "NOT_SIGNING"
    members = f"<Status><ServeSignature>{signs}</ServeSignature></Status>"
    of = f"<KeySigningKey><Name>k</Name><Status>{key}</Status><DSRecord>1 13 2 AB</DSRecord></KeySigningKey>"
    members += f"<KeySigningKeys>{of if key else ''}</KeySigningKeys>"
    path = f"hostedzone/{zone_of(route53, host).rpartition('/')[2]}/dnssec"
    emulator.further.set_answer(path, f"<GetDNSSECResponse>{members}</GetDNSSECResponse>")
    if digest:
        write_records(route53, zone_of(route53), dns_record(host, "DS", f"1 13 2 {digest}"))


def host_delegated_unsigned(emulator: Emulator, host: str) -> None:
    """Delegate a host to a zone of its own that is not signed, although the zone above has a key's digest."""
    host_delegated(emulator, host)
    zone_signed(emulator)
    zone_signed(emulator, host, key="", digest="CD")


def access_blocked(emulator: Emulator, mode: str, *, excluded: bool = False) -> None:
    """Turn on VPC Block Public Access, which may exclude the platform's network."""
    (network,) = {each["VpcId"] for each in internals.records("ec2._nat_gateways")}
    member = f"<internetGatewayBlockMode>{mode}</internetGatewayBlockMode>"
    options = f"<vpcBlockPublicAccessOptions>{member}</vpcBlockPublicAccessOptions>"
    of = f"<resourceArn>arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/{network}</resourceArn>"
    of += "<state>create-complete</state>"
    of += "<internetGatewayExclusionMode>allow-bidirectional</internetGatewayExclusionMode>"
    listed = f"<item>{of}</item>" if excluded else ""
    listed = f"<vpcBlockPublicAccessExclusionSet>{listed}</vpcBlockPublicAccessExclusionSet>"
    emulator.further.set_ec2_answer("DescribeVpcBlockPublicAccessOptions", options)
    emulator.further.set_ec2_answer("DescribeVpcBlockPublicAccessExclusions", listed)


def volume_mounted(emulator: Emulator, service: str, lacks: str = "") -> None:
    """Deploy a service that mounts a file system; it may lack its `target`, its `point` or `everything`."""
    efs, network = emulator.aws("efs"), internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    subnets = network["networkConfiguration"]["awsvpcConfiguration"]["subnets"]
    files = efs.create_file_system(CreationToken=service)["FileSystemId"]
    point = efs.create_access_point(ClientToken=service, FileSystemId=files)["AccessPointId"]
    for subnet in subnets if lacks not in ("target", "everything") else ():
        efs.create_mount_target(FileSystemId=files, SubnetId=subnet)
    if lacks in ("point", "everything"):
        efs.delete_access_point(AccessPointId=point)
    if lacks == "everything":
        efs.delete_file_system(FileSystemId=files)
    of = {"fileSystemId": files, "transitEncryption": "ENABLED",
          "authorizationConfig": {"accessPointId": point}}  # fmt: skip
    mounted = [{"sourceVolume": "data", "containerPath": "/data"}]
    task_definition(emulator, service, volumes=[{"name": "data", "efsVolumeConfiguration": of}])
    container_set(emulator, service, mountPoints=mounted)


def database_by_proxy(emulator: Emulator, state: str = "available") -> None:
    """Put an RDS proxy in some state in front of the database; the database admits only the proxy."""
    groups = {each["GroupName"]: each for each in internals.records("ec2._security_groups")}
    ec2, database, pooler = emulator.aws("ec2"), groups[f"{PREFIX}-database"], groups[f"{PREFIX}-pgbouncer"]
    name = f"{PREFIX}-proxy"
    made = ec2.create_security_group(GroupName=name, Description=name, VpcId=database["VpcId"])["GroupId"]
    let_in(ec2, made, [pooler["GroupId"]], 5432)
    database["IpPermissions"] = []
    let_in(ec2, database["GroupId"], [made], 5432)
    emulator.aws("rds").create_db_proxy(
        DBProxyName=name, EngineFamily="POSTGRESQL", DefaultAuthScheme="IAM_AUTH", RoleArn=role_arn(name),
        VpcSecurityGroupIds=[made],
        VpcSubnetIds=[each["SubnetId"] for each in internals.records("ec2._nat_gateways")],
    )  # fmt: skip
    for each in internals.records("rds._db_proxies"):
        each["Status"] = state


def names_unanswered(_: Emulator) -> None:
    """Stop name resolution in the VPC by disabling its DNS attribute."""
    for each in internals.records("ec2._vpcs"):
        each["EnableDnsSupport"] = False


def names_asked_of(emulator: Emulator, servers: Sequence[str]) -> None:
    """Have DHCP name other servers for DNS in every VPC."""
    ec2 = emulator.aws("ec2")
    made = ec2.create_dhcp_options(DhcpConfigurations=[{"Key": "domain-name-servers", "Values": [*servers]}])[
        "DhcpOptions"
    ]["DhcpOptionsId"]
    for each in internals.records("ec2._vpcs"):
        ec2.associate_dhcp_options(DhcpOptionsId=made, VpcId=each["VpcId"])
