"""Fills the emulator with what contract section 4 says: `python -m stack.aws.seed`, once at boot.

Reads STACK_AWS_ENDPOINT and STACK_ADDRESSES (NAME=HOST:PORT, comma-separated). Started together with the
emulator, it imports botocore while that comes up.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from stack.aws.inventory import (
    ACCOUNT,
    APP_METRICS,
    BALANCER,
    CALLERS,
    CLUSTER,
    DASHBOARDS,
    DATABASE,
    HEALTH,
    METRIC_FILTERS,
    MIGRATIONS,
    NAMESPACE,
    OPERATOR,
    OPERATOR_ACTIONS,
    OPERATOR_POLICY,
    PREFIX,
    REGION,
    REPOSITORIES,
    RETENTION_DAYS,
    SERVICES,
    SIGNERS,
    TOPIC,
    ZONE,
    Alarm,
    Clients,
    ControlClient,
    EcsService,
    alias_record,
    all_alarms,
    build_sha,
    clients,
    execution_role,
    let_in,
    operator_policy,
    policy,
    queue_policy,
    secret_id,
    task_definition,
    write_records,
)
from stack.host import answers_ok
from stack.supervisor import BOOT_DEADLINE_S, wait_until

#: AWS's own policy for roles that start tasks: it pulls images and writes logs.
STARTS_TASKS = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
ASSUMED_BY_ECS = policy(Principal={"Service": "ecs-tasks.amazonaws.com"}, Action="sts:AssumeRole")


@dataclass
class Network:
    """What the services need to know: ids and ARNs by service name.

    `targets` holds the values of the alarm dimensions TargetGroup and LoadBalancer.
    """

    subnets: list[str] = field(default_factory=list)
    public: list[str] = field(default_factory=list)
    security_groups: dict[str, str] = field(default_factory=dict)
    target_groups: dict[str, str] = field(default_factory=dict)
    registries: dict[str, str] = field(default_factory=dict)
    targets: dict[str, tuple[str, str]] = field(default_factory=dict)


def everything(aws: Clients, addresses: dict[str, str], control: ControlClient) -> None:
    """Create all of it; `addresses` maps a Cloud Map name to the HOST:PORT where the part answers."""
    names = [secret_id(service) for service in SIGNERS]
    arns = {name: aws("secretsmanager").describe_secret(SecretId=name)["ARN"] for name in names}
    net = _network(aws, addresses)
    _compute(aws, net, arns)
    _operator(aws, arns.values())
    alarms = all_alarms(net.targets)
    # Datapoints first: an alarm that finds none would be in ALARM for a moment, and notify.
    control.publish([metric.series() for metric in dict.fromkeys(alarm.metric for alarm in alarms)])
    _monitoring(aws, alarms)
    wait_until(lambda: _migrations_are_over(aws), time.monotonic() + BOOT_DEADLINE_S)
    control.remember()


def _operator(aws: Clients, secret_arns: Iterable[str]) -> None:
    trust = policy(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, Action="sts:AssumeRole")
    aws("iam").create_role(RoleName=OPERATOR, AssumeRolePolicyDocument=trust)
    aws("iam").put_role_policy(
        RoleName=OPERATOR,
        PolicyName=OPERATOR_POLICY,
        PolicyDocument=operator_policy(OPERATOR_ACTIONS, secret_arns),
    )


def _monitoring(aws: Clients, alarms: list[Alarm]) -> None:
    """Create topic, alarms and dashboards; the subscription last, so that the boot itself sends no alert."""
    topic = aws("sns").create_topic(Name=TOPIC)["TopicArn"]
    cloudwatch = aws("cloudwatch")
    for alarm in alarms:
        cloudwatch.put_metric_alarm(**alarm.request(topic))
    for name, pattern, value in METRIC_FILTERS:
        made = {"metricNamespace": APP_METRICS, "metricName": name, "metricValue": value, "defaultValue": 0}
        aws("logs").put_metric_filter(
            logGroupName=SERVICES[0].log_group,
            filterName=name,
            filterPattern=pattern,
            metricTransformations=[made],
        )
    for name in DASHBOARDS:
        body = json.dumps({"widgets": [_widget(alarm) for alarm in alarms]})
        cloudwatch.put_dashboard(DashboardName=name, DashboardBody=body)
    sqs = aws("sqs")
    allowed = {"Policy": queue_policy(topic)}
    queue = sqs.create_queue(QueueName=f"{TOPIC}-on-call", Attributes=allowed)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    aws("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=attributes["QueueArn"])


def _widget(alarm: Alarm) -> dict[str, object]:
    dimensions = [word for pair in alarm.metric.dimensions for word in pair]
    metric = [alarm.metric.namespace, alarm.metric.name, *dimensions]
    properties = {"title": alarm.name, "region": REGION, "metrics": [metric], "period": alarm.period}
    return {"type": "metric", "width": 6, "height": 6, "properties": properties}


def _network(aws: Clients, addresses: dict[str, str]) -> Network:
    """Create what surrounds the services: VPC, security groups, load balancer, Cloud Map."""
    net = Network()
    ec2 = aws("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    for zone, block in (("a", "10.0.1.0/24"), ("b", "10.0.2.0/24")):
        net.subnets.append(_subnet(ec2, vpc, zone, block))
    for zone, block in (("a", "10.0.3.0/24"), ("b", "10.0.4.0/24")):
        net.public.append(_subnet(ec2, vpc, zone, block))
    _ways_out(ec2, net, vpc)
    for service in SERVICES:
        group = ec2.create_security_group(
            GroupName=service.family, Description=f"Tasks of {service.name}", VpcId=vpc
        )
        net.security_groups[service.name] = group["GroupId"]
    for name in (BALANCER, "database"):
        group = ec2.create_security_group(GroupName=f"{PREFIX}-{name}", Description=name, VpcId=vpc)
        net.security_groups[name] = group["GroupId"]
    for to, callers in CALLERS.items():
        port = {service.name: service.port for service in SERVICES}.get(to, 5432)
        let_in(ec2, net.security_groups[to], [net.security_groups[each] for each in callers], port or 0)
    let_in(ec2, net.security_groups[BALANCER], ["0.0.0.0/0"], 443)
    balancer = _balancer(aws, net, vpc, addresses)
    _cloud_map(aws, net, vpc, addresses)
    _zone(aws("route53"), balancer)
    return net


def _subnet(ec2: Any, vpc: str, zone: str, block: str) -> str:
    made = ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=f"{REGION}{zone}")
    return str(made["Subnet"]["SubnetId"])


def _ways_out(ec2: Any, net: Network, vpc: str) -> None:
    """Give the public subnets a route to the internet, and those of the tasks one through a NAT gateway."""
    internet = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=internet, VpcId=vpc)
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = ec2.create_nat_gateway(SubnetId=net.public[0], AllocationId=address)["NatGateway"]["NatGatewayId"]
    for subnets, way in ((net.public, {"GatewayId": internet}), (net.subnets, {"NatGatewayId": nat})):
        table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", **way)
        for subnet in subnets:
            ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)


def _zone(route53: Any, leads_to: str) -> None:
    """Create the public zone, where each host points to the balancer."""
    zone = route53.create_hosted_zone(Name=ZONE, CallerReference=ZONE)["HostedZone"]["Id"]
    hosts = [service.public for service in SERVICES if service.public]
    write_records(route53, zone, *(alias_record(host, leads_to) for host in hosts))


def _balancer(aws: Clients, net: Network, vpc: str, addresses: dict[str, str]) -> str:
    """Create the balancer with its targets; return its DNS name."""
    elb = aws("elbv2")
    balancer = elb.create_load_balancer(
        Name=f"{PREFIX}-alb", Subnets=net.public, SecurityGroups=[net.security_groups[BALANCER]],
        Type="application",
    )  # fmt: skip
    balancer_arn = balancer["LoadBalancers"][0]["LoadBalancerArn"]
    public = [service for service in SERVICES if service.public]
    for service in public:
        group = elb.create_target_group(
            Name=f"{service.family}-tg", Protocol="HTTP", Port=service.port, VpcId=vpc, TargetType="ip",
            HealthCheckPath=service.health,
        )  # fmt: skip
        arn = group["TargetGroups"][0]["TargetGroupArn"]
        address = addresses[service.host].rpartition(":")[0]
        elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": address, "Port": service.port}])
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
    return str(balancer["LoadBalancers"][0]["DNSName"])


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


def _compute(aws: Clients, net: Network, secret_arns: dict[str, str]) -> None:
    """Create what runs, from images to ECS services and the database, and run both migrations once."""
    _images(aws("ecr"))
    _roles(aws("iam"), secret_arns)
    logs, ecs = aws("logs"), aws("ecs")
    ecs.create_cluster(clusterName=CLUSTER, settings=[{"name": "containerInsights", "value": "enabled"}])
    for service in SERVICES:
        logs.create_log_group(logGroupName=service.log_group)
        logs.put_retention_policy(logGroupName=service.log_group, retentionInDays=RETENTION_DAYS)
    for family, service in MIGRATIONS.items():
        ecs.register_task_definition(**task_definition(family, service, secret_arns, one_shot=True))
        ecs.run_task(cluster=CLUSTER, taskDefinition=family, launchType="FARGATE", startedBy="deploy-staging")
    for service in SERVICES:
        ecs.register_task_definition(**task_definition(service.family, service, secret_arns))
        ecs.create_service(**_service(service, net))
    aws("rds").create_db_instance(
        DBInstanceIdentifier=DATABASE,
        DBInstanceClass="db.t3.micro",
        Engine="postgres",
        EngineVersion="15.10",
        AllocatedStorage=20,
        MasterUsername="arrakis",
        ManageMasterUserPassword=True,
        VpcSecurityGroupIds=[net.security_groups["database"]],
    )


def _migrations_are_over(aws: Clients) -> bool:
    """Whether the last run of every migration has stopped."""
    ecs = aws("ecs")
    return all(
        ecs.list_tasks(cluster=CLUSTER, family=family, desiredStatus="STOPPED")["taskArns"]
        for family in MIGRATIONS
    )


def _images(ecr: Any) -> None:
    for build, name in REPOSITORIES.items():
        ecr.create_repository(repositoryName=name, imageTagMutability="IMMUTABLE")
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"digest": f"sha256:{build_sha(build):0<64}"},
            "layers": [],
        }
        ecr.put_image(repositoryName=name, imageManifest=json.dumps(manifest), imageTag=build_sha(build))


def _roles(iam: Any, secret_arns: dict[str, str]) -> None:
    owners = [(service.name, service.signer) for service in SERVICES]
    owners += [(f"{service.name}-migration", "") for service in MIGRATIONS.values()]
    for name, signer in owners:
        execution = execution_role(name)
        for role in (execution, f"{PREFIX}-{name}-task"):
            iam.create_role(RoleName=role, AssumeRolePolicyDocument=ASSUMED_BY_ECS)
        iam.attach_role_policy(RoleName=execution, PolicyArn=STARTS_TASKS)
        if signer:
            reads = policy(Action="secretsmanager:GetSecretValue", Resource=secret_arns[secret_id(signer)])
            iam.put_role_policy(RoleName=execution, PolicyName="own-secret", PolicyDocument=reads)


def _service(service: EcsService, net: Network) -> dict[str, Any]:
    request: dict[str, Any] = {
        "cluster": CLUSTER,
        "serviceName": service.family,
        "taskDefinition": service.family,
        "desiredCount": 1,
        "launchType": "FARGATE",
        "deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": True, "rollback": True}},
        "networkConfiguration": {
            "awsvpcConfiguration": {
                "subnets": net.subnets,
                "securityGroups": [net.security_groups[service.name]],
                "assignPublicIp": "DISABLED",
            }
        },
    }
    if service.name in net.target_groups:
        request["loadBalancers"] = [
            {
                "targetGroupArn": net.target_groups[service.name],
                "containerName": service.name,
                "containerPort": service.port,
            }
        ]
    if service.name in net.registries:
        request["serviceRegistries"] = [{"registryArn": net.registries[service.name]}]
    return request


def main() -> None:
    """Seed everything, then make the emulator remember it."""
    endpoint = os.environ["STACK_AWS_ENDPOINT"]
    addresses = dict(pair.split("=") for pair in os.environ["STACK_ADDRESSES"].split(","))
    aws = clients(endpoint)
    wait_until(lambda: answers_ok(endpoint + HEALTH), time.monotonic() + BOOT_DEADLINE_S)
    everything(aws, addresses, ControlClient(endpoint))


if __name__ == "__main__":
    main()
