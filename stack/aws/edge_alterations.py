"""Alterations of the ways to the platform: load balancer, certificates, Route 53, Cloud Map."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from stack.aws import internals
from stack.aws.emulator import Emulator
from stack.aws.inventory import (
    ACCOUNT,
    BALANCER,
    CLUSTER,
    PREFIX,
    REGION,
    alias_record,
    dns_record,
    let_in,
    write_records,
    zone_of,
)
from stack.host import LOOPBACK

METHODS = ("GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE")


def public_host(emulator: Emulator, service: str, host: str) -> None:
    """Make the load balancer route another host's requests to a service; its own go to the default."""
    elb = emulator.aws("elbv2")
    (balancer,) = elb.describe_load_balancers(Names=[f"{PREFIX}-alb"])["LoadBalancers"]
    (group,) = elb.describe_target_groups(Names=[f"{PREFIX}-{service}-tg"])["TargetGroups"]
    for listener in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]:
        for rule in elb.describe_rules(ListenerArn=listener["ListenerArn"])["Rules"]:
            if rule["Conditions"] and rule["Actions"][0]["TargetGroupArn"] == group["TargetGroupArn"]:
                hosts = {"Field": "host-header", "HostHeaderConfig": {"Values": [host]}}
                elb.modify_rule(RuleArn=rule["RuleArn"], Conditions=[hosts])


def targets_asked(emulator: Emulator, service: str, **settings: Any) -> None:
    """Change a target group's health check; settings as ModifyTargetGroup names them."""
    elb = emulator.aws("elbv2")
    elb.modify_target_group(TargetGroupArn=_target_group(elb, service), **settings)


def targets_by(_: Emulator, protocol: str) -> None:
    """Make the target groups forward over another protocol."""
    for each in internals.records("alb._tgs"):
        each["Protocol"] = protocol


def targets_gone(emulator: Emulator, service: str) -> None:
    """Leave a target group without targets."""
    elb = emulator.aws("elbv2")
    arn = _target_group(elb, service)
    found = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    elb.deregister_targets(TargetGroupArn=arn, Targets=[each["Target"] for each in found])


def group_closed(_: Emulator, of: str, to: str = "", direction: str = "IpPermissions") -> None:
    """Close the security group of a service, `alb` or `database`, in or out, to all or to one party."""
    found = {each["GroupName"]: each for each in internals.records("ec2._security_groups")}
    group, gone = found[f"{PREFIX}-{of}"], found[f"{PREFIX}-{to}"]["GroupId"] if to else ""
    for rule in group[direction]:
        left = [each for each in rule.get("UserIdGroupPairs", ()) if to and each["GroupId"] != gone]
        rule |= {"IpRanges": [], "UserIdGroupPairs": left}


def group_open(emulator: Emulator, of: str, port: int, to: str = "0.0.0.0/0") -> None:
    """Let a range of addresses into the security group of a service, or of the `database`."""
    ec2 = emulator.aws("ec2")
    found = {each["GroupName"]: each["GroupId"] for each in ec2.describe_security_groups()["SecurityGroups"]}
    let_in(ec2, found[f"{PREFIX}-{of}"], [to], port)


def group_lets_in_only(emulator: Emulator, of: str, port: int, to: str) -> None:
    """Let only a range of addresses into the security group of a service or `alb`, on one port."""
    group_closed(emulator, of)
    group_open(emulator, of, port, to)


def group_lets_out(emulator: Emulator, of: str, to: str) -> None:
    """Let a service's security group out only to a range of addresses."""
    group_closed(emulator, of, direction="IpPermissionsEgress")
    ec2 = emulator.aws("ec2")
    (found,) = [
        each for each in internals.records("ec2._security_groups") if each["GroupName"] == f"{PREFIX}-{of}"
    ]
    rule = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": to}]}
    ec2.authorize_security_group_egress(GroupId=found["GroupId"], IpPermissions=[rule])


def subnets_full(_: Emulator) -> None:
    """Leave no free address in any subnet."""
    for record in internals.records("ec2._subnets"):
        record["AvailableIpAddressCount"] = 0


def namespace_elsewhere(_: Emulator) -> None:
    """Move Cloud Map's private zone to another VPC."""
    for record in internals.records("route53._zones"):
        for network in record.get("vpcs", ()):
            network["VPCId"] = "vpc-0a1b2c3d"


def registered_as(emulator: Emulator, service: str, host: str) -> None:
    """Make ECS register a service's tasks under another service's name instead of its own."""
    (found,) = [
        each for each in emulator.aws("servicediscovery").list_services()["Services"] if each["Name"] == host
    ]
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    record["serviceRegistries"] = [{"registryArn": found["Arn"]}]


def registry_gone(_: Emulator, service: str) -> None:
    """Make a service refer to a deleted Cloud Map service."""
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    (registry,) = record["serviceRegistries"]
    record["serviceRegistries"] = [{**registry, "registryArn": f"{registry['registryArn'][:-8]}00000000"}]


def host_missing(emulator: Emulator, host: str) -> None:
    """Take a host's only instance out of Cloud Map: its name resolves to nothing."""
    discovery = emulator.aws("servicediscovery")
    (service,) = [each for each in discovery.list_services()["Services"] if each["Name"] == host]
    for instance in discovery.list_instances(ServiceId=service["Id"])["Instances"]:
        discovery.deregister_instance(ServiceId=service["Id"], InstanceId=instance["Id"])


def host_recorded(_: Emulator, host: str, kinds: Sequence[str]) -> None:
    """Make a host's entry in Cloud Map create DNS records of these types."""
    for each in internals.records("servicediscovery._services"):
        if each["Name"] == host:
            each["DnsConfig"]["DnsRecords"] = [{"Type": kind, "TTL": 10} for kind in kinds]


def host_kept(_: Emulator, host: str, seconds: int) -> None:
    """Let callers keep an address of a host for so long."""
    for each in internals.records("servicediscovery._services"):
        if each["Name"] == host:
            for record in each["DnsConfig"]["DnsRecords"]:
                record["TTL"] = seconds


def host_alias(emulator: Emulator, host: str) -> None:
    """Point a host's name to an internal load balancer in front of its tasks."""
    host_missing(emulator, host)
    discovery = emulator.aws("servicediscovery")
    (service,) = [each for each in discovery.list_services()["Services"] if each["Name"] == host]
    balancer = {"AWS_ALIAS_DNS_NAME": f"internal-{host}-0123456789.{REGION}.elb.amazonaws.com"}
    discovery.register_instance(ServiceId=service["Id"], InstanceId=f"{host}-alias", Attributes=balancer)


def address_left(emulator: Emulator, host: str) -> None:
    """Keep the address of a stopped task in Cloud Map, next to the current ones."""
    discovery = emulator.aws("servicediscovery")
    (service,) = [each for each in discovery.list_services()["Services"] if each["Name"] == host]
    gone = {"AWS_INSTANCE_IPV4": "10.0.1.250", "AWS_INSTANCE_PORT": "3000"}
    discovery.register_instance(ServiceId=service["Id"], InstanceId=f"{host}-0", Attributes=gone)


def targets_foreign(emulator: Emulator, service: str) -> None:
    """Add a healthy target to a service's target group that is not one of its tasks."""
    elb = emulator.aws("elbv2")
    foreign = {"Id": "10.0.1.250", "Port": 3000}
    elb.register_targets(TargetGroupArn=_target_group(elb, service), Targets=[foreign])


def targets_ailing(emulator: Emulator, service: str) -> None:
    """Run a second task of a service, whose target fails its health checks."""
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    emulator.aws("ecs").update_service(cluster=CLUSTER, service=record["serviceName"], desiredCount=2)
    elb, address = emulator.aws("elbv2"), "10.0.1.251"
    elb.register_targets(TargetGroupArn=_target_group(elb, service), Targets=[{"Id": address, "Port": 3000}])
    targets: list[Any] = internals.records("alb._targets")  # a list for each group
    for each in (one for listed in targets for one in listed if one["Id"] == address):
        each["State"] = "unhealthy"


def targets_registered(_: Emulator, service: str, port: int) -> None:
    """Have ECS register a service's tasks with their target groups by another port."""
    for each in internals.service_record(CLUSTER, f"{PREFIX}-{service}")["loadBalancers"]:
        each["containerPort"] = port


def targets_shared(emulator: Emulator, service: str, of: str) -> None:
    """Register a service's tasks in another service's target group as well."""
    elb = emulator.aws("elbv2")
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    more = {"targetGroupArn": _target_group(elb, of), "containerName": service, "containerPort": 3000}
    record["loadBalancers"] = [*record.get("loadBalancers", ()), more]


def listener_moved(emulator: Emulator, port: int) -> None:
    """Make the load balancer serve https on another port, open to everybody."""
    elb = emulator.aws("elbv2")
    elb.modify_listener(ListenerArn=_secure_listener(elb), Port=port)
    group_open(emulator, BALANCER, port)


def certificate(
    emulator: Emulator, service: str, host: str = LOOPBACK, days: int = 90, trusted: bool = True
) -> None:
    """Have the load balancer present another certificate for a public service (`freeside`, `dixie`)."""
    emulator.load_balancer.certificate(service, host, days, trusted=trusted)


def cloudfront_in_front(
    emulator: Emulator,
    host: str,
    methods: Sequence[str] = METHODS,
    policy: str = "",
    origin: str = "",
    acl: str = "",
    *,
    whole: bool = True,
    waits_s: int = 30,
) -> None:
    """Point a host's DNS record to CloudFront, which passes these methods on to the balancer or another.

    Calls arrive `whole`, with all of their headers, or without those that CloudFront removes. It `waits_s`
    seconds for more of an answer.
    """
    (balancer,) = internals.records("alb._lbs")
    led = {"Id": "alb", "DomainName": origin or balancer["DNSName"]}
    custom = {"HTTPPort": 80, "HTTPSPort": 443, "OriginProtocolPolicy": "https-only"}
    custom |= {"OriginReadTimeout": waits_s}
    behaviour = {
        "TargetOriginId": "alb",
        "ViewerProtocolPolicy": "https-only",
        "CachePolicyId": policy or "4135ea2d-6df8-44a3-9df3-4b5a84be39ad",  # CachingDisabled
        "AllowedMethods": {"Quantity": len(methods), "Items": [*methods]},
        **({"OriginRequestPolicyId": "216adef6-5c7f-47e4-b989-5492eafa07d3"} if whole else {}),  # AllViewer
    }
    made = emulator.aws("cloudfront").create_distribution(
        DistributionConfig={
            "CallerReference": host,
            "Comment": "",
            "Enabled": True,
            "WebACLId": acl,
            "Aliases": {"Quantity": 1, "Items": [host]},
            "Origins": {"Quantity": 1, "Items": [{**led, "CustomOriginConfig": custom}]},
            "DefaultCacheBehavior": behaviour,
        }
    )["Distribution"]
    record_leads(emulator, host, made["DomainName"])


def record_leads(emulator: Emulator, host: str, to: str) -> None:
    """Point a host's DNS record somewhere else."""
    route53 = emulator.aws("route53")
    write_records(route53, zone_of(route53), alias_record(host, to))


def certificate_in_acm(
    _: Emulator, status: str = "issued", days: int = 90, names: Sequence[str] = ()
) -> None:
    """Give the load balancer's certificate another status, other names, or an expiry in this many days."""
    ends = datetime.now(UTC) + timedelta(days=days)
    for record in internals.records("acm._certificates"):
        record |= {"Status": status.upper(), "NotAfter": f"{ends:%Y-%m-%dT%H:%M:%SZ}"}
        if names:
            record |= {"DomainName": names[0], "SubjectAlternativeNames": [*names]}


def balancer_rule(
    emulator: Emulator, hosts: Sequence[str], service: str = "", redirect: str = "", paths: Sequence[str] = ()
) -> None:
    """Add a rule before all others that routes hosts to a service, redirects them, or answers them itself."""
    elb = emulator.aws("elbv2")
    action: dict[str, Any] = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}
    if service:
        action = {"Type": "forward", "TargetGroupArn": _target_group(elb, service)}
    elif redirect:
        to = {"Host": redirect, "Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_302"}
        action = {"Type": "redirect", "RedirectConfig": to}
    conditions = [{"Field": "host-header", "HostHeaderConfig": {"Values": [*hosts]}}]
    if paths:
        conditions.append({"Field": "path-pattern", "PathPatternConfig": {"Values": [*paths]}})
    elb.create_rule(ListenerArn=_secure_listener(elb), Priority=50, Conditions=conditions, Actions=[action])


def balancer_asks_to_log_in(emulator: Emulator, host: str) -> None:
    """Make a host's rule demand a login at an identity provider before it forwards requests."""
    elb = emulator.aws("elbv2")
    pages = ("AuthorizationEndpoint", "TokenEndpoint", "UserInfoEndpoint")
    provider = {name: f"https://id.example.com/{name}" for name in pages}
    config = {"Issuer": "https://id.example.com", "ClientId": "staging", "ClientSecret": "x", **provider}
    login = {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": config}
    for rule in elb.describe_rules(ListenerArn=_secure_listener(elb))["Rules"]:
        if any(host in each.get("HostHeaderConfig", {}).get("Values", ()) for each in rule["Conditions"]):
            forward = {**rule["Actions"][0], "Order": 2}
            elb.modify_rule(RuleArn=rule["RuleArn"], Actions=[login, forward])


def balancer_shared(emulator: Emulator) -> None:
    """Make the load balancer the account's shared one: its name, host patterns, an IAM certificate."""
    elb = emulator.aws("elbv2")
    listener, bought = _secure_listener(elb), f"arn:aws:iam::{ACCOUNT}:server-certificate/all"
    elb.modify_listener(ListenerArn=listener, Certificates=[{"CertificateArn": bought}])
    for rule in elb.describe_rules(ListenerArn=listener)["Rules"]:
        if rule["Conditions"]:
            hosts = {"Field": "host-header", "HostHeaderConfig": {"Values": ["dixie.*.arrakis.community"]}}
            elb.modify_rule(RuleArn=rule["RuleArn"], Conditions=[hosts])
    for balancer in internals.records("alb._lbs"):
        balancer["LoadBalancerName"] = "shared-public"


def paths_diverted(
    emulator: Emulator,
    paths: Sequence[str] = (),
    service: str = "",
    conditions: Sequence[Mapping[str, Any]] = (),
    redirect: Mapping[str, str] | None = None,
) -> None:
    """Have the load balancer send paths of all hosts to a service, before it looks at the hosts.

    Or what meets other conditions. The service `nobody` has no tasks; without one it answers by itself, or
    redirects them.
    """
    elb = emulator.aws("elbv2")
    action: dict[str, Any] = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}
    if service == "nobody":
        elb.create_target_group(Name=f"{PREFIX}-{service}-tg", Protocol="HTTP", Port=80, TargetType="ip")
    if service:
        action = {"Type": "forward", "TargetGroupArn": _target_group(elb, service)}
    elif redirect:
        action = {"Type": "redirect", "RedirectConfig": {**redirect, "StatusCode": "HTTP_301"}}
    found = [*conditions]
    if paths:
        found.append({"Field": "path-pattern", "PathPatternConfig": {"Values": [*paths]}})
    elb.create_rule(ListenerArn=_secure_listener(elb), Priority=100, Conditions=found, Actions=[action])
    for rule in internals.records("alb._rules"):
        if rule["Priority"] == "100":  # the emulator does not take query strings
            rule["Conditions"] = [old | one for old, one in zip(rule["Conditions"], found, strict=True)]


def no_redirect(emulator: Emulator, service: str, *, root: bool = True) -> None:
    """Make the load balancer also serve a public service over plain HTTP, its root only with ``root``."""
    emulator.load_balancer.serve_plain(service, root=root)


def record_added(emulator: Emulator, name: str, value: str) -> None:
    """Add an alias of DNS to the public zone."""
    route53 = emulator.aws("route53")
    write_records(route53, zone_of(route53), dns_record(name, "CNAME", value))


def _target_group(elb: Any, service: str) -> str:
    (group,) = elb.describe_target_groups(Names=[f"{PREFIX}-{service}-tg"])["TargetGroups"]
    return str(group["TargetGroupArn"])


def _secure_listener(elb: Any) -> str:
    (balancer,) = elb.describe_load_balancers(Names=[f"{PREFIX}-alb"])["LoadBalancers"]
    listeners = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    return next(str(each["ListenerArn"]) for each in listeners if each["Protocol"] == "HTTPS")
