"""What Terraform's provider and AWS demand of each resource of a platform.

Also of all files together: duplicate names, cycles, false conditions.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from smoke.source.checkout import Examined
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Body, Resource
from smoke.source.terraform.references import entries, items, referenced
from smoke.source.terraform.values import (
    Value,
    decoded,
    either,
    flat,
    hidden,
    is_known,
    malformed,
    number,
    options,
    size,
    text,
)

from .definitions import containers
from .entrances import Wrong
from .refusals import OF_TYPE, REGION, RULE, SCHEDULE, of_containers

_ARN = rf"arn:aws[\w-]*:[\w-]+:({REGION})?:(\d{{12}}|aws)?:.+"
#: An empty default is a placeholder for a value that is set when Terraform runs.
_SUBNET, _VPC = "(subnet-.+)?", "(vpc-.+)?"
_DESCRIPTION = r"[0-9A-Za-z_ .:/()#,@\[\]+=&;{}!$*-]{0,255}"  # what EC2 takes as a description
_BALANCED = "HTTPS?|TCP|TLS|UDP|TCP_UDP|GENEVE|QUIC|TCP_QUIC"


@dataclass(frozen=True, slots=True)
class Shape:
    """The required form of a block or a JSON object.

    `needs` are names of attributes or blocks, `a|b` meaning one of them; `values` are patterns that a known
    value, or each item of a list, must match; `within` are minimum and maximum numbers. `inside` are the
    shapes of blocks, and of objects in an attribute that is a list, an object or JSON.
    """

    needs: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    within: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    inside: Mapping[str, Shape] = field(default_factory=dict)


_LOGS = Shape(
    ("logDriver",),
    {"logDriver": "awslogs|splunk|awsfirelens|fluentd|gelf|journald|json-file|logentries|syslog|none"},
)
_CONTAINER = Shape(
    ("name", "image"),
    inside={
        "environment": Shape(("name",)),
        "secrets": Shape(("name", "valueFrom")),
        "portMappings": Shape(("containerPort|containerPortRange",), {"protocol": "tcp|udp"},
                              {"containerPort": (1, 65535)}),
        "healthCheck": Shape(("command",), within={
            "interval": (5, 300), "timeout": (2, 60), "retries": (1, 10), "startPeriod": (0, 300),
        }),
        "logConfiguration": _LOGS,
    },
)  # fmt: skip
_STATEMENT = Shape(
    ("Effect", "Action|NotAction"),
    {"Effect": "Allow|Deny", "Action": r"\*|[\w*-]+:[\w*?]+", "NotAction": r"\*|[\w*-]+:[\w*?]+"},
)
_TRUST = Shape(
    ("Statement",),
    {"Version": "2012-10-17|2008-10-17"},
    inside={"Statement": Shape((*_STATEMENT.needs, "Principal|NotPrincipal"), _STATEMENT.values)},
)
_POLICY = Shape(
    ("Statement",), _TRUST.values,
    inside={"Statement": Shape((*_STATEMENT.needs, "Resource|NotResource"), _STATEMENT.values)},
)  # fmt: skip
_ACTION = Shape(("type",), {
    "type": "forward|redirect|fixed-response|authenticate-cognito|authenticate-oidc|jwt-validation",
})  # fmt: skip
#: Arguments that create a database from another one, with its engine, size and user.
_COPY = "|snapshot_identifier|replicate_source_db|restore_to_point_in_time|s3_import"

SHAPES: Mapping[str, Shape] = {
    "aws_appautoscaling_target": Shape(
        ("max_capacity", "min_capacity", "resource_id", "scalable_dimension", "service_namespace"),
    ),
    "aws_appautoscaling_scheduled_action": Shape(values={"schedule": SCHEDULE}),
    "aws_scheduler_schedule": Shape(values={"schedule_expression": SCHEDULE}),
    "aws_cloudwatch_event_rule": Shape(values={"schedule_expression": RULE}),
    "aws_route53_key_signing_key": Shape(values={"key_management_service_arn": "arn:[^:]+:kms:us-east-1:.+"}),
    "aws_cloudwatch_composite_alarm": Shape(("alarm_name", "alarm_rule"), {"alarm_rule": r"\s*\S[\s\S]*"}),
    "aws_cloudwatch_dashboard": Shape(("dashboard_name", "dashboard_body"), inside={
        "dashboard_body": Shape(("widgets",), inside={
            "widgets": Shape(("type", "properties"), {"type": "metric|text|log|alarm|explorer|custom|trace"}),
        }),
    }),
    "aws_cloudwatch_log_metric_filter": Shape(
        ("name", "pattern", "log_group_name", "metric_transformation"),
        inside={"metric_transformation": Shape(("name", "namespace", "value"))},
    ),
    "aws_cloudwatch_metric_alarm": Shape(
        ("alarm_name", "comparison_operator", "evaluation_periods", "threshold|threshold_metric_id",
         "metric_query|metric_name", "metric_query|namespace", "metric_query|period",
         "metric_query|statistic|extended_statistic"),
        {
            "comparison_operator": "(Greater|Less)Than(OrEqualTo)?Threshold|GreaterThanUpperThreshold"
            "|LessThanLowerThreshold|LessThanLowerOrGreaterThanUpperThreshold",
            "treat_missing_data": "missing|ignore|breaching|notBreaching",
            "statistic": "SampleCount|Average|Sum|Minimum|Maximum",
        },
        {"evaluation_periods": (1, 86400)},
    ),
    "aws_cloudwatch_log_group": Shape(values={"retention_in_days": (
        "0|1|3|5|7|14|30|60|90|120|150|180|365|400|545|731|1096|1827|2192|2557|2922|3288|3653"
    )}),
    "aws_db_instance": Shape(
        ("instance_class", f"engine{_COPY}", f"allocated_storage{_COPY}", f"username{_COPY}",
         f"password|password_wo|manage_master_user_password{_COPY}"),
        {"instance_class": r"db\.[a-z0-9-]+(\.[a-z0-9-]+)*\.(micro|small|medium|\d*x?large|metal)",
         "engine": r"postgres|mysql|mariadb|(oracle|sqlserver|custom|db2|aurora)[\w-]*"},
        {"allocated_storage": (5, 65536)},
    ),
    "aws_ecr_repository": Shape(("name",), {"image_tag_mutability": "(IM)?MUTABLE(_WITH_EXCLUSION)?"}),
    "aws_ecs_cluster": Shape(("name",), inside={
        "setting": Shape(
            ("name", "value"), {"name": "containerInsights", "value": "enabled|disabled|enhanced"}
        ),
    }),
    "aws_ecs_service": Shape(
        ("name",),
        {"launch_type": "EC2|FARGATE|EXTERNAL", "scheduling_strategy": "REPLICA|DAEMON"},
        {"health_check_grace_period_seconds": (0, 2147483647)},
        {
            "network_configuration": Shape(("subnets",), {"subnets": _SUBNET}),
            "load_balancer": Shape(("container_name", "container_port", "target_group_arn|elb_name")),
            "service_registries": Shape(("registry_arn",)),
            "deployment_circuit_breaker": Shape(("enable", "rollback")),
        },
    ),
    "aws_ecs_task_definition": Shape(
        ("family", "container_definitions"),
        {"network_mode": "bridge|host|awsvpc|none",
         "requires_compatibilities": "EC2|FARGATE|EXTERNAL|MANAGED_INSTANCES"},
        inside={"container_definitions": _CONTAINER,
                "ephemeral_storage": Shape(("size_in_gib",), within={"size_in_gib": (21, 200)})},
    ),
    "aws_iam_policy_document": Shape(inside={
        "statement": Shape(
            values={"effect": "Allow|Deny", "actions": _STATEMENT.values["Action"]},
            inside={
                "principals": Shape(
                    ("type", "identifiers"), {"type": r"AWS|Service|Federated|CanonicalUser|\*"}
                ),
                "condition": Shape(("test", "variable", "values")),
            },
        ),
    }),
    "aws_iam_role": Shape(("assume_role_policy",), inside={"assume_role_policy": _TRUST}),
    "aws_iam_role_policy": Shape(("role", "policy"), inside={"policy": _POLICY}),
    "aws_iam_role_policy_attachment": Shape(("role", "policy_arn"), {"policy_arn": _ARN}),
    "aws_lb": Shape(("subnets|subnet_mapping",),
        {"load_balancer_type": "application|network|gateway", "subnets": _SUBNET},
    ),
    "aws_lb_listener": Shape(
        ("load_balancer_arn", "default_action"), {"protocol": _BALANCED, "certificate_arn": f"({_ARN})?"},
        {"port": (1, 65535)}, {"default_action": _ACTION},
    ),
    "aws_lb_listener_rule": Shape(
        ("listener_arn", "action", "condition"), within={"priority": (1, 50000)},
        inside={
            "action": _ACTION,
            "condition": Shape(
                ("host_header|http_header|http_request_method|path_pattern|query_string|source_ip",),
                inside={each: Shape(("values|regex_values",)) for each in ("host_header", "path_pattern")},
            ),
        },
    ),
    "aws_lb_target_group": Shape(
        values={"protocol": _BALANCED, "target_type": "instance|ip|lambda|alb", "vpc_id": _VPC},
        within={"port": (1, 65535)},
        inside={"health_check": Shape(within={
            "interval": (5, 300), "timeout": (2, 120), "healthy_threshold": (2, 10),
            "unhealthy_threshold": (2, 10),
        })},
    ),
    "aws_secretsmanager_secret": Shape(within={"recovery_window_in_days": (0, 30)}),
    "aws_security_group": Shape(values={"vpc_id": _VPC, "description": _DESCRIPTION}, inside={
        each: Shape(values={"description": _DESCRIPTION}) for each in ("ingress", "egress")
    }),
    "aws_security_group_rule": Shape(
        ("type", "from_port", "to_port", "protocol", "security_group_id",
         "cidr_blocks|ipv6_cidr_blocks|prefix_list_ids|self|source_security_group_id"),
        {"type": "ingress|egress", "cidr_blocks": r"[\d.]+/\d+", "description": _DESCRIPTION},
        {"from_port": (-1, 65535), "to_port": (-1, 65535)},
    ),
    "aws_service_discovery_private_dns_namespace": Shape(("name", "vpc"), {"vpc": _VPC}),
    "aws_service_discovery_service": Shape(("name",), inside={
        "dns_config": Shape(
            ("namespace_id", "dns_records"), {"routing_policy": "MULTIVALUE|WEIGHTED"},
            inside={"dns_records": Shape(("ttl", "type"), {"type": "A|AAAA|SRV|CNAME"})},
        ),
    }),
    "aws_lambda_permission": Shape(("action", "function_name", "principal")),
    "aws_sns_topic_policy": Shape(("arn", "policy")),
    "aws_sqs_queue": Shape(within={
        "delay_seconds": (0, 900), "message_retention_seconds": (60, 1209600),
        "receive_wait_time_seconds": (0, 20), "visibility_timeout_seconds": (0, 43200),
    }),
    "aws_sqs_queue_policy": Shape(("queue_url", "policy")),
    "aws_wafv2_web_acl": Shape(("scope", "default_action"), {"scope": "CLOUDFRONT|REGIONAL"}),
    "aws_wafv2_web_acl_association": Shape(("resource_arn", "web_acl_arn")),
    "aws_sns_topic_subscription": Shape(
        ("topic_arn", "protocol", "endpoint"),
        {"protocol": "application|email|email-json|firehose|https?|lambda|sms|sqs"},
    ),
}  # fmt: skip

#: The memory that Fargate has for each CPU, in MiB: lowest, highest, step.
FARGATE = {
    256: (512, 2048, 512), 512: (1024, 4096, 1024), 1024: (2048, 8192, 1024), 2048: (4096, 16384, 1024),
    4096: (8192, 30720, 1024), 8192: (16384, 61440, 4096), 16384: (32768, 122880, 8192),
}  # fmt: skip

#: Maximum characters of a name or a name prefix.
_LENGTHS = {
    "aws_cloudwatch_metric_alarm": {"alarm_name": 255},
    "aws_db_instance": {"identifier": 63},
    "aws_ecs_cluster": {"name": 255},
    "aws_ecs_service": {"name": 255},
    "aws_ecs_task_definition": {"family": 255},
    "aws_iam_role": {"name": 64, "name_prefix": 38},
    "aws_lb": {"name": 32, "name_prefix": 6},
    "aws_lb_target_group": {"name": 32, "name_prefix": 6},
    "aws_security_group": {"name": 255},
    "aws_sqs_queue": {"name": 80},
}
#: Pairs of which a resource may have only one: attributes, or an attribute and a block.
_APART = {
    "aws_cloudwatch_metric_alarm": (("statistic", "extended_statistic"),),
    "aws_db_instance": (("password", "manage_master_user_password"), ("password", "password_wo")),
    "aws_ecs_service": (("launch_type", "capacity_provider_strategy"),),
    "aws_security_group_rule": (
        ("source_security_group_id", "cidr_blocks"),
        ("source_security_group_id", "self"),
        ("cidr_blocks", "self"),
    ),
}


#: All arguments and blocks of some resources, and all entries of a container.
_NAMES: Mapping[str, str] = {
    "aws_appautoscaling_target": "max_capacity min_capacity resource_id role_arn scalable_dimension"
    " service_namespace suspended_state",
    "aws_cloudwatch_metric_alarm": "actions_enabled alarm_actions alarm_description alarm_name"
    " comparison_operator datapoints_to_alarm dimensions evaluate_low_sample_count_percentiles"
    " evaluation_periods extended_statistic insufficient_data_actions metric_name metric_query namespace"
    " ok_actions period statistic threshold threshold_metric_id treat_missing_data unit",
    "aws_ecs_service": "alarms availability_zone_rebalancing capacity_provider_strategy cluster"
    " deployment_circuit_breaker deployment_configuration deployment_controller deployment_maximum_percent"
    " deployment_minimum_healthy_percent desired_count enable_ecs_managed_tags enable_execute_command"
    " force_delete force_new_deployment health_check_grace_period_seconds iam_role launch_type load_balancer"
    " name network_configuration ordered_placement_strategy placement_constraints platform_version"
    " propagate_tags scheduling_strategy service_connect_configuration service_registries sigint_rollback"
    " task_definition triggers volume_configuration vpc_lattice_configurations wait_for_steady_state",
    "aws_ecs_task_definition": "container_definitions cpu enable_fault_injection ephemeral_storage"
    " execution_role_arn family inference_accelerator ipc_mode memory network_mode pid_mode"
    " placement_constraints proxy_configuration requires_compatibilities runtime_platform skip_destroy"
    " task_role_arn track_latest volume",
    "aws_lb_target_group": "connection_termination deregistration_delay health_check ip_address_type"
    " lambda_multi_value_headers_enabled load_balancing_algorithm_type load_balancing_anomaly_mitigation"
    " load_balancing_cross_zone_enabled name name_prefix port preserve_client_ip protocol protocol_version"
    " proxy_protocol_v2 slow_start stickiness target_control_port target_failover target_group_health"
    " target_health_state target_type vpc_id",
    "aws_security_group_rule": "cidr_blocks description from_port ipv6_cidr_blocks prefix_list_ids protocol"
    " security_group_id self source_security_group_id to_port type",
    "aws_service_discovery_service": "description dns_config force_destroy health_check_config"
    " health_check_custom_config name namespace_id type",
}
_OF_CONTAINER = (
    "name image repositoryCredentials cpu memory memoryReservation links portMappings essential"
    " entryPoint command environment environmentFiles mountPoints volumesFrom linuxParameters secrets"
    " dependsOn restartPolicy startTimeout stopTimeout versionConsistency hostname user"
    " workingDirectory disableNetworking privileged readonlyRootFilesystem dnsServers dnsSearchDomains"
    " extraHosts dockerSecurityOptions interactive pseudoTerminal dockerLabels ulimits logConfiguration"
    " healthCheck systemControls resourceRequirements firelensConfiguration credentialSpecs"
)
#: Comments and keys in a list of names.
_ASIDE = re.compile(r"\"[^\"\n]*\"|(?:#|//).*|/\*[\s\S]*?\*/")
#: How alike a wrong name and the right one are at least; less may be a new one.
_ALIKE = 0.87


def _misspelt(resource: Resource) -> Iterator[Wrong]:
    """Arguments that do not exist, and entries of a container that ECS ignores, each almost a known name."""
    if known := _NAMES.get(resource.type, "").split():
        ignored = [each.attributes["ignore_changes"].text for each in resource.block.nested("lifecycle")
                   if "ignore_changes" in each.attributes]  # fmt: skip
        names = [*resource.block.attributes, *(block.type for block in resource.block.blocks)]
        names += [block.labels[0] for block in resource.block.nested("dynamic") if block.labels]
        listed = _ASIDE.sub("", "\n".join(ignored))
        for name in dict.fromkeys((*names, *re.findall(r"(?<![\w.])[a-z]\w+", listed))):
            if meant := _meant(name, known):
                yield f"there is no {name}: it is called {meant}", resource.attribute(name)
    if resource.type == "aws_ecs_task_definition":
        known = _OF_CONTAINER.split()
        lower = {each.lower() for each in known}  # the provider reads names in any case
        for container in containers(resource)[0]:
            for name, value in container.entries.items():
                if name.lower() not in lower and (meant := _meant(name, known)):
                    yield f"a container's {name} is ignored: it is called {meant}", value


def _meant(name: str, known: Sequence[str]) -> str:
    """The known name that a wrong one is almost; empty if there is none."""
    return "" if name in known else next(iter(difflib.get_close_matches(name, known, 1, _ALIKE)), "")


def misshapen(configuration: Configuration) -> tuple[int, Examined]:
    """Return how many resources have a known shape, and where one violates it."""
    count, result = 0, Examined()
    for resource in configuration.resources:
        shape = SHAPES.get(resource.type)
        if shape is None or (resource.block.type == "data") != (resource.type == "aws_iam_policy_document"):
            continue
        count += 1
        wrong = list(_of_body(resource, shape))
        if resource.type == "aws_ecs_task_definition":
            wrong += _of_fargate(resource)
        if resource.type in OF_TYPE:
            wrong += OF_TYPE[resource.type](resource)
        wrong += [*_too_long(resource), *_apart(resource), *_misspelt(resource)]
        if resource.type == "aws_lb_target_group" and text(resource.attribute("target_type")) in ("", "ip"):
            wrong += _of_body(resource, Shape(("port", "protocol", "vpc_id")))
        found = [resource.finding(f"{resource.address}: {what}", at) for what, at in wrong]
        result.findings.extend(dict.fromkeys(found))
    return count, result


def _too_long(resource: Resource) -> Iterator[Wrong]:
    """Names with more characters than AWS allows."""
    for attribute, most in _LENGTHS.get(resource.type, {}).items():
        name = resource.attribute(attribute)
        if name is not None and is_known(name) and len(text(name)) > most:
            yield f"the {attribute} {text(name)} has more than {most} characters", name


def _apart(resource: Resource) -> Iterator[Wrong]:
    """Two settings that exclude each other; a setting that is off or empty does not count."""
    for pair in (*_APART.get(resource.type, ()), ("name", "name_prefix")):
        given = [value for name in pair if (value := resource.attribute(name)) is not None]
        blocks = any(resource.blocks(name) for name in pair)
        said = [flat(each).content if is_known(each) else referenced(each) for each in given]
        if len(given) + blocks > 1 and all(said):
            yield f"{' and '.join(pair)} exclude each other", given[0]


def _of_body(body: Body, shape: Shape) -> Iterator[Wrong]:
    blocks = {block.type for block in body.block.blocks}
    blocks |= {block.labels[0] for block in body.block.nested("dynamic") if block.labels}
    names = {name for each in shape.needs for name in each.split("|")}
    there = {name for name in names if name in blocks or body.attribute(name) is not None}
    yield from _lacking(shape, there)
    for name in {*shape.values, *shape.within, *shape.inside}:
        value = body.attribute(name)
        if value is not None:
            yield from _of_value(name, value, shape)
        elif name in shape.inside:
            for inner in body.blocks(name):
                for what, at in _of_body(inner, shape.inside[name]):
                    yield f"{name}: {what}", at or Value(None, inner.at)


def _lacking(shape: Shape, there: set[str]) -> Iterator[Wrong]:
    for each in shape.needs:
        if not there & set(each.split("|")):
            yield f"it has no {each.replace('|', ' or ')}", None


def _of_value(name: str, value: Value, shape: Shape) -> Iterator[Wrong]:
    pattern, bounds, inner = shape.values.get(name), shape.within.get(name), shape.inside.get(name)
    if inner is not None and any(map(malformed, options(value))):
        yield f"{name} is not valid JSON", value
    read = [decoded(each) or each for each in options(value)] if inner else [value]
    for each in itertools.chain.from_iterable(map(items, read)):
        if inner is not None:
            yield from ((f"{name}: {what}", at or each) for what, at in _of_object(each, inner))
        elif pattern is not None and is_known(each) and not re.fullmatch(pattern, text(each)):
            yield f"{name} is {text(each)}, which is not a valid value", each
        elif bounds is not None and is_known(each):
            found = number(each)
            if found is None or not bounds[0] <= found <= bounds[1]:
                yield f"{name} is {text(each)}, expected {bounds[0]:.10g} to {bounds[1]:.10g}", each


def _of_object(value: Value, shape: Shape) -> Iterator[Wrong]:
    found = {name: each for name, each in entries(value).items() if each.content is not None}
    if not found:
        if not hidden(value) and is_known(value):
            yield from _lacking(shape, set())
        return
    yield from _lacking(shape, {*found})
    for name in {*shape.values, *shape.within, *shape.inside} & found.keys():
        yield from _of_value(name, found[name], shape)


def _of_fargate(task: Resource) -> Iterator[Wrong]:
    """What Fargate, and any ECS, refuses of a task definition as a unit."""
    compatible = [text(each) for each in items(task.attribute("requires_compatibilities"))]
    if "FARGATE" in compatible:
        mode, cpu, memory = (task.attribute(name) for name in ("network_mode", "cpu", "memory"))
        if mode is None or (is_known(mode) and text(mode) != "awsvpc"):
            yield "Fargate needs network_mode awsvpc", mode
        yield from _sizes(cpu, memory)
        if task.attribute("execution_role_arn") is None:
            yield (
                "it has no execution_role_arn, but Fargate needs one to start a task with logs or secrets",
                None,
            )
    written = options(task.attribute("container_definitions"))
    listed = [read or each for each, read in zip(written, map(decoded, written), strict=True)]
    if listed:
        yield from of_containers(task, either(listed), fargate="FARGATE" in compatible)


def _sizes(cpu: Value | None, memory: Value | None) -> Iterator[Wrong]:
    for one in options(cpu):
        for other in options(memory):
            units, room = size(one), size(other)
            if units is None or room is None:
                continue
            low, high, step = FARGATE.get(int(units), (0, 0, 1))
            if units not in FARGATE or not low <= room <= high or room % step:
                yield f"Fargate does not offer a task of {units:g} CPU units with {room:g} MiB", one
    for name, value in (("cpu", cpu), ("memory", memory)):
        if value is None:
            yield f"Fargate needs its {name}", None
        for each in options(value):
            if is_known(each) and size(each) is None:
                yield f"{name} is {text(each)}, expected a number, or a size in vCPU or GB", each
