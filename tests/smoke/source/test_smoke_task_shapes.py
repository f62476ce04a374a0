"""Task sizes and containers that AWS accepts, in the styles that people write."""

import pytest

from tests.smoke.source.terraform_files import Read, wrong

TASK = """
resource "aws_ecs_task_definition" "t" {
  family                   = "x"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = CPU
  memory                   = MEMORY
  execution_role_arn       = "arn:aws:iam::111111111111:role/x"
  container_definitions    = jsonencode(CONTAINERS)
}
"""
CONTAINERS = '[{ name = "a", image = "b" }]'


@pytest.mark.parametrize(
    ("cpu", "memory", "what"),
    [
        ('"1 vCPU"', '"2 GB"', ""),
        ('"1vcpu"', '"3gb"', ""),
        ('".25 vCPU"', '"0.5 GB"', ""),
        ('"1 vCPU"', "2048", ""),
        ("256", '"1024"', ""),
        ('"1 vCPU"', '"64 GB"', "not offer a task of 1024 CPU units with 65536 MiB"),
        ('"3 vCPU"', '"8 GB"', "not offer a task of 3072 CPU units"),
        ('"one"', '"512"', "cpu is one, expected"),
        ("var.unset", '"2 gigabytes"', "memory is 2 gigabytes, expected"),
    ],
)
def test_the_size_of_a_task_is_one_of_fargate(read: Read, cpu: str, memory: str, what: str) -> None:
    task = TASK.replace("CPU", cpu).replace("MEMORY", memory).replace("CONTAINERS", CONTAINERS)
    found = wrong(read, 'variable "unset" {}', task)
    assert [what in each for each in found] == [True] * bool(what)


@pytest.mark.parametrize(
    ("containers", "count"),
    [
        (CONTAINERS.replace("}", ", logConfiguration = null, environment = null, secrets = null }"), 0),
        (CONTAINERS.replace("}", ", portMappings = null, healthCheck = null, essential = null }"), 0),
        (CONTAINERS.replace("}", ', logConfiguration = { logDriver = "splunk", options = null } }'), 0),
        (CONTAINERS.replace("}", ', logConfiguration = { logDriver = "awslogs", options = null } }'), 3),
        (CONTAINERS.replace("}", ", healthCheck = { command = null } }"), 1),
        (CONTAINERS.replace("]", ', { name = "c", image = "d", essential = false }]'), 0),
    ],
)
def test_null_counts_as_absent(read: Read, containers: str, count: int) -> None:
    task = TASK.replace("CPU", "256").replace("MEMORY", "512").replace("CONTAINERS", containers)
    assert len(wrong(read, task)) == count


@pytest.mark.parametrize(
    ("container", "what"),
    [
        (
            'environment = [{ name = "K", value = "1" }], secrets = [{ name = "K", valueFrom = "arn" }]',
            "K is both a variable",
        ),
        ('environment = [{ name = "L", value = "1" }], secrets = [{ name = "K", valueFrom = "arn" }]', ""),
        (
            (
                'environment = [merge({ name = "K", value = "1" }, var.unset ? { value = "2" } : {})], '
                'secrets = [{ name = "K", valueFrom = "arn" }]'
            ),
            "K is both a variable",
        ),
        (
            (
                'environment = var.unset ? [{ name = "K", value = "1" }] : [], '
                'secrets = var.unset ? [] : [{ name = "K", valueFrom = "arn" }]'
            ),
            "",
        ),
        ("memory = 1024", "a memory of 1024 MiB in a task of 512"),
        ("memoryReservation = 512", ""),
    ],
)
def test_a_container_fits_into_its_task(read: Read, container: str, what: str) -> None:
    containers = CONTAINERS.replace("}", f", {container} }}")
    task = TASK.replace("CPU", "256").replace("MEMORY", "512").replace("CONTAINERS", containers)
    found = wrong(read, 'variable "unset" {}', task)
    assert [what in each for each in found] == [True] * bool(what)


SIDECAR = '{ name = "s", image = "c", essential = false }'
LISTENS = "{ portMappings = [{ containerPort = 3000 }] }"
OF_UDP = LISTENS.replace("3000", '3000, protocol = "udp"')
AFTER = 'dependsOn = [{ containerName = "s", condition = "SUCCESS" }]'
NAMESAKE = SIDECAR.replace('"s"', '"a"')


@pytest.mark.parametrize(
    ("own", "beside", "what"),
    [
        ('dependsOn = [{ containerName = "s", condition = "START" }]', SIDECAR, ""),
        ('dependsOn = [{ containerName = "s", condition = "START" }]', "var.sidecar", ""),
        ('dependsOn = [{ containerName = var.unset, condition = "START" }]', SIDECAR, ""),
        ('dependsOn = [{ containerName = "x", condition = "START" }]', SIDECAR, "a waits for x, which is no"),
        ('dependsOn = [{ containerName = "s", condition = "HEALTHY" }]', SIDECAR, "a waits for s to be"),
        (
            'dependsOn = [{ containerName = "s", condition = "HEALTHY" }]',
            SIDECAR.replace("}", ', healthCheck = { command = ["CMD", "true"] } }'),
            "",
        ),
        (AFTER, SIDECAR, ""),
        (AFTER, SIDECAR.replace("false", "var.unset"), ""),
        (AFTER, SIDECAR.replace("false", "true"), "waits for the end of s, which is essential"),
        (
            'logConfiguration = { logDriver = "awsfirelens" }',
            SIDECAR.replace("}", ', firelensConfiguration = { type = "fluentbit" } }'),
            "",
        ),
        ("essential = true", NAMESAKE, "two containers are called a"),
        ("portMappings = [{ containerPort = 3000, hostPort = 3000 }]", SIDECAR, ""),
        ("portMappings = [{ containerPort = 3000, hostPort = var.unset }]", SIDECAR, ""),
        (
            "portMappings = [{ containerPort = 3000, hostPort = 80 }]",
            SIDECAR,
            "hostPort is 80, but in awsvpc",
        ),
        (
            'dependsOn = [{ containerName = "s", condition = "START" }]',
            f"var.unset ? {SIDECAR} : null",
            "",
        ),
        ("essential = true", 'var.unset ? { name = "s", image = "c" } : ' + SIDECAR, ""),
        ("essential = true", f'var.unset ? {SIDECAR} : {{ name = "a", image = "c" }}', ""),
        (
            "essential = true",
            f'merge({NAMESAKE}, var.unset ? {{ user = "u" }} : {{}})',
            "two containers are called a",
        ),
        ("essential = true", f"merge({SIDECAR}, var.unset ? {{ essential = true }} : {{}})", ""),
        ("portMappings = [{ containerPort = 3000 }]", f"merge({SIDECAR}, {LISTENS})", "listen on port 3000"),
        ("portMappings = [{ containerPort = 3000 }]", f"merge({SIDECAR}, {OF_UDP})", ""),
        (f"portMappings = [{{ containerPort = 3000 }}], {AFTER}", f"merge({SIDECAR}, {LISTENS})", ""),
        ("stopTimeout = 120", SIDECAR, ""),
        ("stopTimeout = 121", SIDECAR, "Fargate waits at most 120 s"),
    ],
)
def test_containers_go_together(read: Read, own: str, beside: str, what: str) -> None:
    containers = f'concat([{{ name = "a", image = "b", {own} }}], [{beside}])'
    task = TASK.replace("CPU", "256").replace("MEMORY", "512").replace("CONTAINERS", containers)
    found = wrong(read, 'variable "sidecar" {}\nvariable "unset" {}', task)
    assert [what in each for each in found] == [True] * bool(what)


@pytest.mark.parametrize(
    ("container", "what"),
    [
        ('healthCheck = { command = ["CMD-SHELL", "wget -q http://localhost/ || exit 1"] }', ""),
        ('healthCheck = { command = ["CMD-SHELL", "pg_isready", "-q"] }', ""),
        ('healthCheck = { command = ["CMD-SHELL", "wget", "-q", "http://localhost/"] }', "only wget runs"),
        ('healthCheck = { command = ["CMD", "wget", "-q", "http://localhost/"] }', ""),
        ('healthCheck = { command = ["CMD", "/opt/my app/check"] }', ""),
        ('healthCheck = { command = ["CMD", "wget -q http://localhost/"] }', "there is no program wget -q"),
        ('healthCheck = { command = ["CMD", var.unset] }', ""),
        ('command = ["sh", "-c", "node dist/worker.js"]', ""),
        ('command = ["sh", "-c", "exec \\"$@\\"", "--", "node", "dist/worker.js"]', ""),
        ('command = ["/bin/sh", "-ec", "./start.sh", "worker"]', ""),
        ('command = ["sh", "-c", var.unset, "dist/worker.js"]', ""),
        ('command = ["sh", "-c", "node", "dist/worker.js"]', "after -c, so only node runs"),
        ('entryPoint = ["sh", "-c"], command = ["node", "dist/worker.js"]', "after -c, so only node runs"),
        ('entryPoint = ["sh", "-c"], command = ["node dist/worker.js"]', ""),
        ('entryPoint = ["sh", "-c", "exec \\"$0\\" \\"$@\\""], command = ["node", "dist/worker.js"]', ""),
        ('command = "node dist/worker.js"', "command is one string: ECS takes a list of words"),
        ('entryPoint = "/entry.sh"', "entryPoint is one string"),
        ("command = var.unset", ""),
        ("command = null", ""),
        ('entryPoint = ["/bin/bash", "-lc", "node", "dist/worker.js"]', "after -lc, so only node runs"),
        ('mountPoints = [{ sourceVolume = "data", containerPath = "/data" }]', ""),
        ('mountPoints = [{ sourceVolume = "cache", containerPath = "/data" }]', "no volume cache to mount"),
        ('mountPoints = [{ sourceVolume = var.unset, containerPath = "/data" }]', ""),
        ('ulimits = [{ name = "nofile", softLimit = 1024, hardLimit = 1024 }]', ""),
        ('ulimits = [{ name = "memlock", softLimit = 65536, hardLimit = -1 }]', ""),
        ('ulimits = [{ name = "nofile", softLimit = 65536, hardLimit = 1024 }]', "a softLimit of 65536"),
        ('environment = [{ name = "PORT", value = "3000" }]', ""),
        ('environment = [{ name = "PORT", value = var.unset }]', ""),
        ('environment = [{ name = "PORT", value = tostring(3000) }]', ""),
        ('environment = [{ name = "PORT", value = 3000 }]', "PORT is 3000 without quotes"),
        ('environment = [{ name = "DEBUG", value = true }]', "DEBUG is true without quotes"),
        ("privileged = false, dnsServers = [], extraHosts = null", ""),
        ("privileged = true", "Fargate does not support privileged"),
        ("linuxParameters = { initProcessEnabled = true }", ""),
        ("linuxParameters = { swappiness = 60 }", "Fargate does not support swappiness"),
        ('linuxParameters = { capabilities = { add = ["SYS_PTRACE"], drop = ["ALL"] } }', ""),
        ("linuxParameters = { capabilities = { add = var.unset } }", ""),
        (
            'linuxParameters = { capabilities = { add = ["NET_ADMIN"] } }',
            "cannot add the capability NET_ADMIN",
        ),
        ('logConfiguration = { logDriver = "splunk" }', ""),
        ("logConfiguration = { logDriver = var.unset }", ""),
        (
            'logConfiguration = { logDriver = "json-file" }',
            "Fargate does not support the log driver json-file",
        ),
        ('logConfiguration = { logDriver = "awsfirelens" }', "no container has a firelensConfiguration"),
        ('volumesFrom = [{ sourceContainer = "a" }]', ""),
        ("volumesFrom = [{ sourceContainer = var.unset }]", ""),
        ('volumesFrom = [{ sourceContainer = "b" }]', "the volumes of b, which is not a container"),
    ],
)
def test_a_container_can_run_its_command(read: Read, container: str, what: str) -> None:
    task = TASK.replace("CPU", "256").replace("MEMORY", "512")
    task = task.replace("CONTAINERS", CONTAINERS.replace("}", f", {container} }}"))
    volume = 'network_mode = "awsvpc"\n  volume {\n    name = "data"\n  }'
    found = wrong(read, 'variable "unset" {}', task.replace('network_mode             = "awsvpc"', volume))
    assert [what in each for each in found] == [True] * bool(what)


@pytest.mark.parametrize("names", ["var.unset", '[var.unset, "cache"]'])
def test_volumes_that_the_files_leave_open_may_be_mounted(read: Read, names: str) -> None:
    mounted = ', mountPoints = [{ sourceVolume = "cache", containerPath = "/data" }] }'
    task = TASK.replace("CPU", "256").replace("MEMORY", "512")
    task = task.replace("CONTAINERS", CONTAINERS.replace("}", mounted))
    content = "content {\n      name = volume.value\n    }"
    volume = f'dynamic "volume" {{\n    for_each = {names}\n    {content}\n  }}'
    text = task.replace('network_mode             = "awsvpc"', f'network_mode = "awsvpc"\n  {volume}')
    assert wrong(read, 'variable "unset" {}', text) == []


@pytest.mark.parametrize(
    ("made", "launch", "count"),
    [
        ('["FARGATE"]', '"FARGATE"', 0),
        ('["EC2", "FARGATE"]', '"FARGATE"', 0),
        ("var.unset", '"FARGATE"', 0),
        ('["EC2"]', "var.unset", 0),
        ('["EC2"]', "null", 0),
        ('["FARGATE"]', '"EC2"', 0),
        ('["EC2"]', '"FARGATE"', 1),
    ],
)
def test_a_task_is_made_for_how_it_is_launched(read: Read, made: str, launch: str, count: int) -> None:
    task = TASK.replace("CPU", "256").replace("MEMORY", "512").replace("CONTAINERS", CONTAINERS)
    service = f"""
variable "unset" {{}}
resource "aws_ecs_service" "s" {{
  name            = "s"
  task_definition = aws_ecs_task_definition.t.arn
  launch_type     = {launch}
}}"""
    assert len(wrong(read, task.replace('["FARGATE"]', made), service)) == count


def test_a_host_has_its_own_ports_outside_of_awsvpc(read: Read) -> None:
    containers = CONTAINERS.replace("}", ", portMappings = [{ containerPort = 3000, hostPort = 80 }] }")
    task = TASK.replace('"awsvpc"', '"bridge"').replace('"FARGATE"', '"EC2"')
    task = task.replace("CPU", "256").replace("MEMORY", "512").replace("CONTAINERS", containers)
    assert wrong(read, task) == []


@pytest.mark.parametrize(
    ("sidecar", "what"), [(SIDECAR, ""), ('{ name = "s", essential = false }', "it has no image")]
)
def test_a_sidecar_may_be_left_out(read: Read, sidecar: str, what: str) -> None:
    own = '{ name = "a", image = "b", dependsOn = [{ containerName = "s", condition = "START" }] }'
    listed = f"concat([{own}], var.unset ? [{sidecar}] : [])"
    task = TASK.replace("CPU", "256").replace("MEMORY", "512").replace("CONTAINERS", listed)
    found = wrong(read, 'variable "unset" {}', task)
    assert [what in each for each in found] == [True] * bool(what)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("port_mappings = []", "port_mappings is ignored: it is called portMappings"),
        ("environments = []", "environments is ignored: it is called environment"),
        ("Environment = []", ""),
        ("volumes = []", ""),
        ("environmentFiles = []", ""),
    ],
)
def test_an_entry_of_a_container_has_its_name(read: Read, entry: str, what: str) -> None:
    task = TASK.replace("CPU", "256").replace("MEMORY", "512")
    found = wrong(read, task.replace("CONTAINERS", CONTAINERS.replace("}", f", {entry} }}")))
    assert [what in each for each in found] == [True] * bool(what)


@pytest.mark.parametrize(
    ("containers", "what"),
    [
        ('[{ name = "a", image = "b", essential = "true" }]', "essential is the text 'true'"),
        ('[{ name = "a", image = "b", essential = var.on }]', ""),
        ('[{ name = "a", image = "b", portMappings = [{ containerPort = "80" }] }]', "expected a number"),
        ('[{ name = "a", image = "b", portMappings = [{ containerPort = var.port }] }]', ""),
        ('[{ name = "a", image = "b", portMappings = [{ containerPort = var.ports.http }] }]', ""),
        ('[{ name = "a", image = "b", environment = [{ name = "U", value = "http//b" }] }]', "is not a URL"),
        ('[{ name = "a", image = "b", environment = [{ name = "U", value = "http:/b" }] }]', "is not a URL"),
        ('[{ name = "a", image = "b", environment = [{ name = "U", value = "https:" }] }]', ""),
        ('[{ name = "a", image = "b", environment = [{ name = "U", value = "http:/${var.h}" }] }]', ""),
        ('[{ name = "a", image = "b", environment = [{ name = "U", value = "http://b" }] }]', ""),
    ],
)
def test_values_of_a_container_have_their_types(read: Read, containers: str, what: str) -> None:
    given = 'variable "port" {\n  type = number\n  default = "80"\n}\nvariable "on" {\n  default = true\n}'
    given += '\nvariable "ports" {\n  type = object({ http = optional(number, "80") })\n  default = {}\n}'
    task = TASK.replace("CPU", "256").replace("MEMORY", "512").replace("CONTAINERS", containers)
    found = wrong(read, given, task)
    assert [what in each for each in found] == [True] * bool(what), found


EXEC = """
resource "aws_ecs_service" "s" {
  name                   = "s"
  task_definition        = aws_ecs_task_definition.t.arn
  launch_type            = "FARGATE"
  enable_execute_command = true
}
"""
BALANCED = """
resource "aws_lb" "l" {
  load_balancer_type = "KIND"
  subnets            = ["subnet-1", "subnet-2"]
}
resource "aws_lb_listener" "l" {
  load_balancer_arn = aws_lb.l.arn
  port              = 80
  protocol          = "PROTOCOL"
  default_action { type = "forward" }
}
"""
RECORDS = """
resource "aws_service_discovery_service" "s" {
  name = "s"
  dns_config {
    namespace_id   = "ns-1"
    routing_policy = "POLICY"
    dns_records {
      ttl  = 10
      type = "CNAME"
    }
  }
}
"""
TASK_OF_EXEC = TASK.replace("CPU", "256").replace("MEMORY", "512").replace("CONTAINERS", CONTAINERS)
SPOT = EXEC.replace(
    'launch_type            = "FARGATE"', 'capacity_provider_strategy { capacity_provider = "FARGATE_SPOT" }'
)
NO_ROLE = 'variable "role" { default = null }\n'
ROLE = "  task_role_arn            = aws_iam_role.r.arn\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (EXEC + TASK_OF_EXEC, "needs a task_role_arn"),
        (EXEC + TASK_OF_EXEC.replace("  cpu", f"{ROLE}  cpu"), ""),
        (EXEC + TASK_OF_EXEC.replace("  cpu", "  task_role_arn = var.role\n  cpu") + NO_ROLE, ""),
        (EXEC.replace("FARGATE", "EC2") + TASK_OF_EXEC.replace("FARGATE", "EC2"), ""),
        (SPOT + TASK_OF_EXEC, "needs a task_role_arn"),
        (EXEC.replace("true", "false") + TASK_OF_EXEC, ""),
        (
            EXEC.replace("true\n", "true\n  lifecycle { ignore_changes = [task_definition] }\n")
            + TASK_OF_EXEC,
            "",
        ),
        (
            BALANCED.replace("KIND", "network").replace("PROTOCOL", "HTTP"),
            "a network load balancer has no HTTP",
        ),
        (BALANCED.replace("KIND", "application").replace("PROTOCOL", "TCP"), "balancer has no TCP listener"),
        (BALANCED.replace("KIND", "network").replace("PROTOCOL", "TCP"), ""),
        (BALANCED.replace("KIND", "application").replace("PROTOCOL", "HTTP"), ""),
        (RECORDS.replace("POLICY", "MULTIVALUE"), "needs the routing_policy WEIGHTED"),
        (RECORDS.replace("POLICY", "WEIGHTED"), ""),
        (RECORDS.replace('"POLICY"', "var.role") + NO_ROLE, ""),
        (RECORDS.replace('    routing_policy = "POLICY"\n', ""), "needs the routing_policy WEIGHTED"),
    ],
)
def test_parts_of_a_service_fit_together(read: Read, text: str, what: str) -> None:
    found = wrong(read, text)
    assert [what in each for each in found] == [True] * bool(what), found
