"""What AWS refuses, or cannot run, because the values of one resource do not fit together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from smoke.source.terraform.evaluate import Resource
from smoke.source.terraform.references import choices, entries, items, objects, referenced
from smoke.source.terraform.values import (
    Symbol,
    Value,
    flat,
    hidden,
    is_known,
    known_text,
    number,
    options,
    settle,
    size,
    text,
)

from .databases import of_version
from .entrances import Wrong, of_balancer, of_listener, of_targets

REGION = r"[a-z]{2}(-[a-z]+)+-\d"
#: AWS's schedules. Its cron has six fields, Unix's five; a rule of EventBridge also needs `?` for one of the
#: two days, and the unit of a rate in the singular or the plural.
_CRON = r"cron\(\s*(\S+\s+){5}\S+\s*\)"
SCHEDULE = rf"at\(.+\)|rate\([1-9]\d* (minute|hour|day)s?\)|{_CRON}"
RULE = r"|rate\((1 (minute|hour|day)|(?!1 )[1-9]\d* (minute|hour|day)s)\)|(?=[^?]*\s\?\s[^?]*\Z)" + _CRON


def of_containers(task: Resource, listed: Value, *, fargate: bool) -> Iterator[Wrong]:
    """What ECS refuses of a list of containers: of each one, and of each alternative of the list."""
    volumes = _volumes(task)
    memory, mode = task.attribute("memory"), text(task.attribute("network_mode"))
    rules = (_together, _among, *([_beside] if mode == "awsvpc" else []))
    lists = ([*map(entries, each)] for each in choices(listed))
    every = [dict(wrong for rule in rules for wrong in rule(chosen)) for chosen in lists]
    for what, at in every[0].items() if every else ():
        if all(what in each for each in every):
            yield what, at
    for container in objects(listed):
        yield from _of_logs(container, fargate)
        yield from _of_container(container, size(memory))
        yield from _of_host(container, mode, fargate)
        yield from _unsupported(container) if fargate else ()
        yield from _of_words(container)
        yield from _of_mounts(container, volumes)


#: Start or part of a valid endpoint, by the subscription's protocol.
_ENDPOINTS = {
    "email": "[^@:]+@[^@:]+", "email-json": "[^@:]+@[^@:]+", "http": "http://.+", "https": "https://.+",
    "lambda": r"arn:aws[\w-]*:lambda:.+", "sqs": r"arn:aws[\w-]*:sqs:.+",
    "firehose": r"arn:aws[\w-]*:firehose:.+", "sms": r"\+?[\d -]+",
}  # fmt: skip
#: Attributes of a queue or a function that are not its ARN.
_NO_ARNS = {
    "aws_sqs_queue": ("id", "url", "name"),
    "aws_lambda_function": ("id", "function_name", "invoke_arn"),
}
_KINDS = {"aws_sqs_queue": "sqs", "aws_lambda_function": "lambda", "aws_lambda_alias": "lambda"}


def _of_endpoint(subscription: Resource) -> Iterator[Wrong]:
    """An endpoint that does not fit its protocol."""
    protocol, endpoint = (subscription.attribute(name) for name in ("protocol", "endpoint"))
    if protocol is None or endpoint is None or not is_known(protocol) or not text(endpoint):
        return
    said, resource = text(protocol), referenced(endpoint)
    kind = _KINDS.get(resource.type) if resource is not None else None
    if kind is not None and kind != said:
        yield f"{said} does not deliver to {resource.address if resource is not None else ''}", endpoint
    elif isinstance(to := settle(endpoint).content, Symbol) and resource is not None and to.path:
        if to.path[0] in _NO_ARNS.get(resource.type, ()):
            yield f"{said} needs the ARN of {resource.address}, not its {to.path[0]}", endpoint
    elif kind is None and is_known(endpoint) and not re.fullmatch(_ENDPOINTS.get(said, ".*"), text(endpoint)):
        yield f"{said} does not deliver to {text(endpoint)}", endpoint


def _of_container(container: Mapping[str, Value], room: float | None) -> Iterator[Wrong]:
    """Values of another type, a name that is both variable and secret, more memory than the task has."""
    ports = objects(container.get("portMappings"))
    for name, kind, value in (
        ("essential", "a boolean", container.get("essential")),
        *((name, "a number", each.get(name)) for each in ports for name in ("containerPort", "hostPort")),
    ):
        if value is not None and isinstance(value.content, str) and value.content:
            yield f"{name} is the text {value.content!r}, expected {kind}", value
    for one in objects(container.get("environment")):
        value = one.get("value")
        if value is not None and isinstance(value.content, (bool, int, float)):
            yield (f"{text(one.get('name'))} is {text(value)} without quotes; a variable is a string", value)
        elif value is not None and _NO_URL.match(text(value)):
            yield f"{text(one.get('name'))} is {text(value)}, which is not a URL", value
    for name in sorted(_names(container.get("environment")) & _names(container.get("secrets"))):
        yield f"{name} is both a variable and a secret of one container", container.get("secrets")
    for name in ("memory", "memoryReservation"):
        wanted = number(container.get(name))
        if wanted is not None and room is not None and wanted > room:
            yield f"a container has a {name} of {wanted:g} MiB in a task of {room:g}", container[name]


#: The beginning of a URL with a mistake behind its scheme.
_NO_URL = re.compile(r"https?(?://|:/(?![/$])|;//)")


def _names(listed: Value | None) -> set[str]:
    """The names in each alternative of a list."""
    every = [
        {text(name) for each in chosen if (name := entries(each).get("name"))} for chosen in choices(listed)
    ]
    return set.intersection(*every) if every else set()


#: Conditions of `dependsOn` that are true once a container has ended.
_ENDS = ("COMPLETE", "SUCCESS")


def _together(containers: Sequence[Mapping[str, Value]]) -> Iterator[Wrong]:
    """Containers without an essential one, and two of one name."""
    marks = [each.get("essential") for each in containers]
    if marks and all(mark is not None and flat(mark).content is False for mark in marks):
        yield "no container is essential", None
    named: dict[str, Mapping[str, Value]] = {}
    for container in containers:
        name = container.get("name")
        if is_known(name) and named.setdefault(text(name), container) is not container:
            yield f"two containers are called {text(name)}", name


def _among(containers: Sequence[Mapping[str, Value]]) -> Iterator[Wrong]:
    """Containers that need another one which is not in the task, or cannot do what they need."""
    if any("name" not in each or not is_known(each["name"]) for each in containers):
        return
    named = {text(each["name"]): each for each in containers}
    for name, container in named.items():
        for one in objects(container.get("volumesFrom")):
            of = one.get("sourceContainer")
            if is_known(of) and text(of) not in named:
                yield f"{name} mounts the volumes of {text(of)}, which is not a container of the task", of
        yield from _of_waits(name, container, named)
        driver = entries(container.get("logConfiguration")).get("logDriver")
        if text(driver) == "awsfirelens" and not any("firelensConfiguration" in each for each in containers):
            yield f"{name} logs to awsfirelens, but no container has a firelensConfiguration", driver


def _of_waits(
    name: str, container: Mapping[str, Value], named: Mapping[str, Mapping[str, Value]]
) -> Iterator[Wrong]:
    """What a container waits for that is not there, or never comes."""
    for one in objects(container.get("dependsOn")):
        on, condition = one.get("containerName"), text(one.get("condition"))
        if not is_known(on):
            continue
        other = named.get(text(on))
        if other is None:
            yield f"{name} waits for {text(on)}, which is not a container of the task", on
        elif condition == "HEALTHY" and "healthCheck" not in other:
            yield f"{name} waits for {text(on)} to be healthy, which has no health check", on
        elif condition in _ENDS and "essential" in other and flat(other["essential"]).content is True:
            yield f"{name} waits for the end of {text(on)}, which is essential: then the task stops", on


def _beside(containers: Sequence[Mapping[str, Value]]) -> Iterator[Wrong]:
    """Containers that share a network, and listen on the same port while both run."""
    held: dict[tuple[float, str], str] = {}
    apart = {
        text(name)
        for container in containers
        for one in objects(container.get("dependsOn"))
        if text(one.get("condition")) in _ENDS
        for name in (container.get("name"), one.get("containerName"))
    }
    for container in containers:
        name = text(container.get("name"))
        for one in objects(container.get("portMappings")) if name not in apart else ():
            port = number(one.get("containerPort"))
            first = held.setdefault((port, text(one.get("protocol")) or "tcp"), name) if port else name
            if first != name and "${" not in first + name:
                yield f"{first} and {name} listen on port {port:g} of one task", one["containerPort"]


def _of_host(container: Mapping[str, Value], mode: str, fargate: bool) -> Iterator[Wrong]:
    """What the host refuses: a different host port in awsvpc mode, a long stop timeout on Fargate."""
    for one in objects(container.get("portMappings")):
        inner, outer = (number(one.get(name)) for name in _PORTS)
        if mode == "awsvpc" and inner and outer and inner != outer:
            yield (
                f"hostPort is {outer:g}, but in awsvpc mode it must be the containerPort, {inner:g}",
                one["hostPort"],
            )
    stop = number(container.get("stopTimeout"))
    if fargate and stop is not None and stop > _STOP_S:
        yield f"stopTimeout is {stop:g}, but Fargate waits at most {_STOP_S} s", container["stopTimeout"]


#: Container settings, and Linux settings, that Fargate does not support.
_NOT_OF_FARGATE = (
    "privileged", "links", "extraHosts", "dnsServers", "dnsSearchDomains", "dockerSecurityOptions",
    "disableNetworking",
)  # fmt: skip
_NOT_OF_LINUX = ("maxSwap", "swappiness", "devices", "sharedMemorySize")
#: Log drivers, and the one capability to add, that Fargate supports.
_DRIVERS, _CAPABILITY = ("awslogs", "splunk", "awsfirelens"), "SYS_PTRACE"


def _unsupported(container: Mapping[str, Value]) -> Iterator[Wrong]:
    """Container entries that Fargate refuses, unless they are empty or off."""
    linux = entries(container.get("linuxParameters"))
    asked = [(name, each[name]) for each, names in ((container, _NOT_OF_FARGATE), (linux, _NOT_OF_LINUX))
             for name in names if name in each]  # fmt: skip
    for name, value in asked:
        if is_known(value) and flat(value).content not in (None, False, "", ()):
            yield f"Fargate does not support {name}", value
    driver = entries(container.get("logConfiguration")).get("logDriver")
    if is_known(driver) and text(driver) not in _DRIVERS:
        yield f"Fargate does not support the log driver {text(driver)}, only {', '.join(_DRIVERS)}", driver
    for added in items(entries(linux.get("capabilities")).get("add")):
        if is_known(added) and text(added) != _CAPABILITY:
            yield f"Fargate cannot add the capability {text(added)}, only {_CAPABILITY}", added


#: Programs that do nothing useful without an argument.
_RUNTIMES = re.compile(r"(\S*/)?(node|nodejs|deno|bun|python3?|ruby|java|npm|npx|pnpm|yarn|wget|curl|nc)")
_SHELL = re.compile(r"(\S*/)?(ba|da|a|z)?sh")
#: A shell and its -c, which run the next word.
_UP_TO_TEXT = 2
_WITH_ARGUMENTS = re.compile(r"\S+\s(.*\s)?(-{1,2}[A-Za-z]|https?://).*", re.DOTALL)


def _of_words(container: Mapping[str, Value]) -> Iterator[Wrong]:
    """Commands divided into words as their program does not expect: a shell takes one text."""
    check = entries(container.get("healthCheck")).get("command")
    for words in choices(check):
        said = [text(word) if is_known(word) else "$" for word in words]
        if said[:1] == ["CMD-SHELL"] and _lost(said[1:]):
            yield f"a CMD-SHELL health check must be one string: of this one, only {said[1]} runs", words[1]
        elif said[:1] == ["CMD"] and len(said) == 2 and _WITH_ARGUMENTS.fullmatch(said[1]):
            yield f"a CMD health check needs one string per word: there is no program {said[1]}", words[1]
    program, arguments = (choices(container.get(name)) for name in ("entryPoint", "command"))
    both = [[*one, *other] for one in program for other in arguments if len(one) == _UP_TO_TEXT]
    for name, listed in (("command", arguments), ("entryPoint", program), ("entryPoint and command", both)):
        for words in listed:
            said = [text(word) if is_known(word) else "$" for word in words]
            shell = len(said) > 1 and _SHELL.fullmatch(said[0]) and re.fullmatch(r"-[a-z]*c", said[1])
            if shell and _lost(said[2:]):
                yield f"{name}: a shell takes one string after {said[1]}, so only {said[2]} runs", words[2]
    for name in ("command", "entryPoint"):
        for each in options(container.get(name)):
            if is_known(each) and isinstance(flat(each).content, str):
                yield f"{name} is one string: ECS takes a list of words", each


def _lost(said: Sequence[str]) -> bool:
    """Whether a shell with these words runs a program without its arguments."""
    return len(said) > 1 and _RUNTIMES.fullmatch(said[0]) is not None


def _volumes(task: Resource) -> set[str] | None:
    """The names of a task's volumes; None if the files do not say all of them."""
    blocks = task.blocks("volume")
    names = [name for each in blocks if (name := each.attribute("name")) is not None]
    hidden_ones = any(not is_known(name) for name in names) or len(names) < len(blocks)
    unread = any(
        not is_known(task.environment.value(each.attributes["for_each"]))
        for each in task.block.nested("dynamic")
        if each.labels == ("volume",) and "for_each" in each.attributes
    )
    return None if hidden_ones or unread or task.block.unread else {text(name) for name in names}


def _of_mounts(container: Mapping[str, Value], volumes: set[str] | None) -> Iterator[Wrong]:
    """A volume that the task lacks, and a soft limit above its hard limit."""
    for one in objects(container.get("mountPoints")):
        source = one.get("sourceVolume")
        named = known_text(source)
        if volumes is not None and named and named not in volumes:
            yield f"there is no volume {named} to mount", source
    for one in objects(container.get("ulimits")):
        soft, hard = (number(one.get(name)) for name in ("softLimit", "hardLimit"))
        if soft is not None and hard is not None and soft > hard != _UNLIMITED:
            yield f"a ulimit has a softLimit of {soft:g} and a hardLimit of {hard:g}", one["softLimit"]


_PORTS = ("containerPort", "hostPort")
#: Value of an unlimited ulimit.
_UNLIMITED = -1
#: Maximum stop timeout on Fargate.
_STOP_S = 120


def _of_scaling(target: Resource) -> Iterator[Wrong]:
    """A range with a maximum below its minimum."""
    low, high = (target.attribute(name) for name in ("min_capacity", "max_capacity"))
    least, most = (number(each) for each in (low, high))
    if least is not None and most is not None and least > most:
        yield f"min_capacity is {least:g}, but max_capacity is {most:g}", low


def _of_service(service: Resource) -> Iterator[Wrong]:
    """A Fargate service with a task for EC2, or with ECS Exec but no task role; EC2 instances have one."""
    launch, of = service.attribute("launch_type"), service.attribute("task_definition")
    kind = service.attribute("scheduling_strategy")
    if text(launch) == "FARGATE" and text(kind) == "DAEMON":
        yield "Fargate does not support the scheduling strategy DAEMON", kind
    for name in ("ordered_placement_strategy", "placement_constraints") if text(launch) == "FARGATE" else ():
        yield from ((f"Fargate does not support {name}", Value(None, each.at))
                    for each in service.blocks(name) if not each.uncertain)  # fmt: skip
    task = referenced(of)
    exec_, kept = service.attribute("enable_execute_command"), service.ignores("task_definition")
    bare = task is not None and task.block.type == "resource" and "task_role_arn" not in task.block.attributes
    providers = (each.attribute("capacity_provider") for each in service.blocks("capacity_provider_strategy"))
    on_fargate = any(text(each) in ("FARGATE", "FARGATE_SPOT") for each in (launch, *providers))
    asked = on_fargate and not kept and exec_ is not None and flat(exec_).content is True
    if task is not None and bare and asked:
        yield f"enable_execute_command needs a task_role_arn, which {task.address} lacks", exec_
    made = task.attribute("requires_compatibilities") if task is not None else None
    if launch is None or made is None or task is None or not (is_known(launch) and is_known(made)):
        return
    kinds = {text(each) for each in items(made)}
    if kinds and text(launch) == "FARGATE" and "FARGATE" not in kinds:
        yield f"launch_type is FARGATE, but {task.address} is for {' and '.join(sorted(kinds))}", launch


def _of_registration(service: Resource) -> Iterator[Wrong]:
    """A Route 53 health check in a private zone, which it cannot reach, and a record of several names."""
    for block in service.blocks("dns_config"):
        types = [each.attribute("type") for each in block.blocks("dns_records")]
        policy, given = text(block.attribute("routing_policy")), "routing_policy" in block.block.attributes
        if "CNAME" in map(text, types) and (policy == "MULTIVALUE" or not given):
            yield "a CNAME record needs the routing_policy WEIGHTED", types[0]
        zone = referenced(block.attribute("namespace_id"))
        if zone is not None and zone.type == "aws_service_discovery_private_dns_namespace":
            for check in service.blocks("health_check_config"):
                if not check.uncertain:
                    yield "a private namespace does not support health_check_config", Value(None, check.at)


def _of_filter(filter_: Resource) -> Iterator[Wrong]:
    """A JSON pattern without its closing brace, and a default value together with dimensions."""
    pattern = filter_.attribute("pattern")
    written = text(pattern).strip() if pattern is not None else ""
    if is_known(pattern) and written.startswith("{") and not written.endswith("}"):
        yield f"pattern is {written}, which has no closing brace", pattern
    for made in filter_.blocks("metric_transformation"):
        default, by = made.attribute("default_value"), made.attribute("dimensions")
        given = is_known(default) and flat(default).content not in (None, "")
        if given and entries(by):
            yield "metric_transformation: default_value and dimensions exclude each other", default


#: A metric's id in an expression, and what else begins with a small letter there.
_ID = re.compile(r"(?<![\w.$])(?!(?:and|or|not)\b)[a-z]\w*\b(?!\s*\()")
_TEXT = re.compile(r"'[^']*'|\"[^\"]*\"")
_QUERY = re.compile(r"\b(?:SELECT|SEARCH|INSIGHT_RULE_METRIC|LAMBDA)\b", re.IGNORECASE)


def _of_math(alarm: Resource) -> Iterator[Wrong]:
    """Metric math with an id that no query has, or with other than one result."""
    queries = alarm.blocks("metric_query")
    ids = {text(value) for each in queries if (value := each.attribute("id")) is not None}
    plain = all(re.fullmatch(r"\w+", each) for each in ids)
    if alarm.uncertain or alarm.block.nested("dynamic") or not plain:
        return
    for query in queries:
        value = query.attribute("expression")
        if not is_known(value) or _QUERY.search(text(value)):
            continue
        for name in dict.fromkeys(_ID.findall(_TEXT.sub("", text(value)))):
            if name not in ids:
                yield f"an expression uses the id {name}, which no metric_query has", value
    given = [value for each in queries if (value := each.attribute("return_data")) is not None]
    results = [value for value in given if text(value) == "true"]
    known = all(map(is_known, given))
    if known and len(results) != 1 < len(queries) and alarm.attribute("threshold_metric_id") is None:
        yield f"{len(results)} queries return data, expected one", next(iter(results), None)


def _of_logs(container: Mapping[str, Value], fargate: bool) -> Iterator[Wrong]:
    """Missing awslogs options, and a health check that is not a command."""
    logs = entries(container.get("logConfiguration"))
    if text(logs.get("logDriver")) == "awslogs":
        configured = entries(logs.get("options"))
        wanted = ["awslogs-group", "awslogs-region", *(["awslogs-stream-prefix"] if fargate else [])]
        for name in wanted:
            if name not in configured and not hidden(logs.get("options")):
                yield f"awslogs needs its option {name}", container.get("logConfiguration")
        region = configured.get("awslogs-region")
        if is_known(region) and not re.fullmatch(REGION, text(region)):
            yield f"awslogs-region is {text(region)}, which is not a region", region
    command = entries(container.get("healthCheck")).get("command")
    first = next(items(command), None)
    if is_known(first) and text(first) not in ("CMD", "CMD-SHELL", "NONE"):
        yield f"a health check begins with CMD or CMD-SHELL, not {text(first)}", first


#: Minimum days for which a deleted secret can be restored, unless it is deleted at once.
_WINDOW = 7


def _of_secret(secret: Resource) -> Iterator[Wrong]:
    """A recovery window that is neither 0 nor long enough."""
    days = number(window := secret.attribute("recovery_window_in_days"))
    if days is not None and 0 < days < _WINDOW:
        yield f"recovery_window_in_days is {days:g}, expected 0 or {_WINDOW} to 30", window


def _of_firewall(association: Resource) -> Iterator[Wrong]:
    """A CloudFront web ACL for a regional resource."""
    by = association.attribute("web_acl_arn")
    acl = referenced(by)
    if acl is not None and text(acl.attribute("scope")) == "CLOUDFRONT":
        yield f"{acl.address} is for CloudFront and cannot protect a regional resource", by


OF_TYPE: Mapping[str, Callable[[Resource], Iterator[Wrong]]] = {
    "aws_appautoscaling_target": _of_scaling,
    "aws_cloudwatch_log_metric_filter": _of_filter,
    "aws_cloudwatch_metric_alarm": _of_math,
    "aws_db_instance": of_version,
    "aws_ecs_service": _of_service,
    "aws_lb": of_balancer,
    "aws_lb_listener": of_listener,
    "aws_lb_target_group": of_targets,
    "aws_secretsmanager_secret": _of_secret,
    "aws_service_discovery_service": _of_registration,
    "aws_wafv2_web_acl_association": _of_firewall,
    "aws_sns_topic_subscription": _of_endpoint,
}
