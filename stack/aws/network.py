"""Seeds what the services stand in: VPC, security groups, load balancer, Cloud Map."""

from dataclasses import dataclass, field
from typing import Any

from stack.aws.clients import Clients
from stack.aws.inventory import NAMESPACE, SERVICES, EcsService
from stack.aws.names import PREFIX


@dataclass
class Network:
    """What the services need to know: ids and ARNs by service name.

    `targets` holds the values of the alarm dimensions TargetGroup and LoadBalancer.
    """

    subnets: list[str] = field(default_factory=list)
    security_groups: dict[str, str] = field(default_factory=dict)
    target_groups: dict[str, str] = field(default_factory=dict)
    registries: dict[str, str] = field(default_factory=dict)
    targets: dict[str, tuple[str, str]] = field(default_factory=dict)


def seed(aws: Clients, addresses: dict[str, str]) -> Network:
    """Create the network; `addresses` maps a Cloud Map name to the HOST:PORT that it resolves to."""
    net = Network()
    ec2 = aws("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    for zone, block in (("a", "10.0.1.0/24"), ("b", "10.0.2.0/24")):
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=f"us-east-1{zone}")
        net.subnets.append(subnet["Subnet"]["SubnetId"])
    for service in SERVICES:
        group = ec2.create_security_group(
            GroupName=service.family, Description=f"Tasks of {service.name}", VpcId=vpc
        )
        net.security_groups[service.name] = group["GroupId"]
    _balancer(aws, net, vpc)
    _cloud_map(aws, net, vpc, addresses)
    return net


def _balancer(aws: Clients, net: Network, vpc: str) -> None:
    elb = aws("elbv2")
    balancer = elb.create_load_balancer(Name=f"{PREFIX}-alb", Subnets=net.subnets, Type="application")
    balancer_arn = balancer["LoadBalancers"][0]["LoadBalancerArn"]
    public = [service for service in SERVICES if service.public]
    for service in public:
        group = elb.create_target_group(
            Name=f"{service.family}-tg", Protocol="HTTP", Port=service.port, VpcId=vpc, TargetType="ip"
        )
        arn = group["TargetGroups"][0]["TargetGroupArn"]
        net.target_groups[service.name] = arn
        net.targets[service.name] = (arn.rpartition(":")[2], balancer_arn.partition(":loadbalancer/")[2])
    certificate = aws("acm").request_certificate(
        DomainName=public[0].public, SubjectAlternativeNames=[each.public for each in public[1:]]
    )
    secure = elb.create_listener(
        LoadBalancerArn=balancer_arn,
        Protocol="HTTPS",
        Port=443,
        Certificates=[{"CertificateArn": certificate["CertificateArn"]}],
        # The first one is where everything goes that no rule sends elsewhere.
        DefaultActions=[_forward(net, public[0])],
    )["Listeners"][0]["ListenerArn"]
    for priority, service in enumerate(public[1:], start=200):
        hosts = {"Field": "host-header", "HostHeaderConfig": {"Values": [service.public]}}
        elb.create_rule(
            ListenerArn=secure, Priority=priority, Conditions=[hosts], Actions=[_forward(net, service)]
        )
    redirect = {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"}
    elb.create_listener(
        LoadBalancerArn=balancer_arn,
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "redirect", "RedirectConfig": redirect}],
    )


def _forward(net: Network, service: EcsService) -> dict[str, str]:
    return {"Type": "forward", "TargetGroupArn": net.target_groups[service.name]}


def _cloud_map(aws: Clients, net: Network, vpc: str, addresses: dict[str, str]) -> None:
    discovery: Any = aws("servicediscovery")
    operation = discovery.create_private_dns_namespace(Name=NAMESPACE, Vpc=vpc)["OperationId"]
    namespace = discovery.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
    records = {"RoutingPolicy": "MULTIVALUE", "DnsRecords": [{"Type": "A", "TTL": 10}]}
    for service in SERVICES:
        if not service.host:
            continue
        created = discovery.create_service(Name=service.host, NamespaceId=namespace, DnsConfig=records)[
            "Service"
        ]
        net.registries[service.name] = created["Arn"]
        host, _, port = addresses[service.host].rpartition(":")
        discovery.register_instance(
            ServiceId=created["Id"],
            InstanceId=f"{service.host}-1",
            Attributes={"AWS_INSTANCE_IPV4": host, "AWS_INSTANCE_PORT": port},
        )
