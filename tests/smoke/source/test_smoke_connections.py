"""One service behind a load balancer, with its role and network: each way in which that does not fit."""

import pytest

from smoke.source.checkout import Examined
from smoke.source.connections import Address, accepted, connected, named, reached
from smoke.source.definitions import read as read_definitions
from smoke.source.shapes import misshapen
from smoke.source.tasks import starts
from tests.smoke.source.terraform_files import Read

PLATFORM = """
variable "unset" {}
variable "vpc" { default = "vpc-1" }
resource "aws_ecs_cluster" "main" { name = "p-cluster" }
resource "aws_ecr_repository" "finn" { name = "p-finn" }
resource "aws_secretsmanager_secret" "finn" { name = "p/finn/key" }
data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}
resource "aws_iam_role" "finn" {
  name               = "p-finn"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}
resource "aws_iam_role_policy_attachment" "finn" {
  role       = aws_iam_role.finn.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}
resource "aws_iam_role_policy" "finn" {
  role   = aws_iam_role.finn.id
  policy = jsonencode({ Version = "2012-10-17", Statement = [{
    Effect = "Allow", Action = "secretsmanager:GetSecretValue", Resource = aws_secretsmanager_secret.finn.arn
  }] })
}
resource "aws_ecs_task_definition" "finn" {
  family                   = "p-finn"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.finn.arn
  container_definitions = jsonencode([{
    name         = "finn"
    image        = "${aws_ecr_repository.finn.repository_url}:${var.unset}"
    portMappings = [{ containerPort = 3000 }]
    secrets      = [{ name = "KEY", valueFrom = aws_secretsmanager_secret.finn.arn }]
    healthCheck  = { command = ["CMD", "true"], interval = 30 }
    logConfiguration = { logDriver = "awslogs", options = {
      awslogs-group = "/ecs/p/finn", awslogs-region = "us-east-1", awslogs-stream-prefix = "finn"
    } }
  }])
}
resource "aws_security_group" "finn" { name = "finn" }
resource "aws_security_group" "api" { name = "api" }
resource "aws_security_group_rule" "out" {
  type              = "egress"
  security_group_id = aws_security_group.api.id
  cidr_blocks       = ["0.0.0.0/0"]
  from_port         = 0
  to_port           = 0
  protocol          = "-1"
}
resource "aws_security_group_rule" "in" {
  type                     = "ingress"
  security_group_id        = aws_security_group.finn.id
  source_security_group_id = aws_security_group.api.id
  from_port                = 3000
  to_port                  = 3000
  protocol                 = "tcp"
}
resource "aws_ecs_service" "finn" {
  name            = "p-finn"
  cluster         = aws_ecs_cluster.main.id
  task_definition = aws_ecs_task_definition.finn.arn
  network_configuration {
    subnets         = ["subnet-1"]
    security_groups = [aws_security_group.finn.id]
  }
  load_balancer {
    target_group_arn = aws_lb_target_group.finn.arn
    container_name   = "finn"
    container_port   = 3000
  }
  service_registries { registry_arn = aws_service_discovery_service.of["finn"].arn }
}
resource "aws_ecs_service" "api" {
  name            = "p-api"
  task_definition = "p-api"
  network_configuration {
    subnets         = ["subnet-1"]
    security_groups = [aws_security_group.api.id]
  }
}
resource "aws_service_discovery_private_dns_namespace" "main" {
  name = "p.local"
  vpc  = var.vpc
}
resource "aws_service_discovery_service" "of" {
  for_each = toset(["finn"])
  name     = each.key
  dns_config {
    namespace_id = aws_service_discovery_private_dns_namespace.main.id
    dns_records {
      ttl  = 10
      type = "A"
    }
  }
}
resource "aws_lb" "main" { subnets = ["subnet-1"] }
resource "aws_lb_target_group" "finn" {
  port        = 3000
  protocol    = "HTTP"
  vpc_id      = var.vpc
  target_type = "ip"
  health_check { path = "/health" }
}
resource "aws_lb_target_group" "other" { target_type = "lambda" }
resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.main.arn
  port              = 443
  protocol          = "HTTPS"
  certificate_arn   = var.unset
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.other.arn
  }
}
resource "aws_lb_listener_rule" "finn" {
  listener_arn = aws_lb_listener.https.arn
  action {
    type = "forward"
    forward {
      target_group {
        arn = aws_lb_target_group.finn.arn
      }
    }
  }
  condition {
    host_header { values = ["finn.example.org"] }
  }
}
"""
GIVEN = "  certificate_arn   = var.unset"
READS = "Resource = aws_secretsmanager_secret.finn.arn"
SOURCE = "source_security_group_id = aws_security_group.api.id"
DYNAMIC = """    dynamic "dns_records" {
      for_each = []
      content {}
    }
    other {"""
INLINE = """resource "aws_security_group" "api" {
  name = "api"
  egress {
    from_port       = 3000
    to_port         = 3000
    protocol        = "tcp"
    security_groups = [aws_security_group.finn.id]
  }
}"""
AS_LIST = """resource "aws_security_group" "api" {
  name   = "api"
  egress = [{ from_port = 3000, to_port = 3000, protocol = "tcp", cidr_blocks = ["0.0.0.0/0"] }]
}"""
OF_A_LIST = """
}
resource "aws_vpc_security_group_ingress_rule" "more" {
  security_group_id = aws_security_group.finn.id
  prefix_list_id    = "pl-1"
  from_port         = 3000
  to_port           = 3000
  ip_protocol       = "tcp"
}
resource "other" "rest" {"""
OF_HTTP = """  protocol    = "HTTP"
  vpc_id      = var.vpc
  target_type = "ip"
  health_check { path = "/health" }
}"""
OF_TCP = """  protocol    = "TCP"
  vpc_id      = var.vpc
  target_type = "ip"
}"""


def earlier(path: str, listener: str = "aws_lb_listener.https.arn", group: str = "other") -> str:
    """A rule for a path of all hosts, before that of finn."""
    return f"""resource "aws_lb_listener_rule" "paths" {{
  listener_arn = {listener}
  priority     = 100
  action {{
    type             = "forward"
    target_group_arn = aws_lb_target_group.{group}.arn
  }}
  condition {{
    path_pattern {{ values = ["{path}"] }}
  }}
}}
resource "aws_lb_target_group" "other" {{
  target_type = "ip"
  protocol    = "HTTP"
  port        = 80
  vpc_id      = var.vpc
}}
resource "aws_lb_listener_rule" "finn" {{"""


FINN = Address("finn", "p.local", "finn.example.org", "/health")


def findings(read: Read, find: str = "", replace: str = "") -> dict[str, Examined]:
    assert find in PLATFORM
    configuration = read(PLATFORM.replace(find, replace) if find else PLATFORM)
    defined = read_definitions(configuration, ["finn", "api"])
    return {
        "shape": misshapen(configuration)[1],
        "start": starts(configuration, defined),
        "address": connected(configuration, defined, {"finn": FINN}),
        "way": reached(configuration, defined, {"finn": ["api"]})[1],
        "name": named(configuration, {"aws_ecs_cluster": ["p-cluster"], "aws_ecs_service": ["p-finn"]}),
    }


@pytest.mark.parametrize(
    ("find", "replace", "rule", "what"),
    [
        ("", "", "", ""),
        # what AWS would refuse
        ('  from_port                = 3000\n', "", "shape", "it has no from_port"),
        ('protocol                 = "tcp"', 'protocol = null', "shape", "it has no protocol"),
        ('"CMD", "true"', '"curl", "-f"', "shape", "begins with CMD or CMD-SHELL"),
        ("interval = 30", "interval = 3", "shape", "expected 5 to 300"),
        ('awslogs-region = "us-east-1"', 'awslogs-region = "useast1"', "shape", "is not a region"),
        (', awslogs-stream-prefix = "finn"', "", "shape", "needs its option awslogs-stream-prefix"),
        ("memory                   = 512", "memory = 768", "shape", "256 CPU units with 768 MiB"),
        ('memory                   = 512', 'memory = "2048"', "", ""),
        ("cpu                      = 256", 'cpu = ".25 vCPU"', "", ""),
        ('network_mode             = "awsvpc"', "", "shape", "needs network_mode awsvpc"),
        ('Effect = "Allow"', 'Effect = "Permit"', "shape", "Effect is Permit"),
        ('Action = "secretsmanager:GetSecretValue"', 'Action = "GetSecretValue"', "shape", "Action is"),
        ('      type        = "Service"\n', "", "shape", "it has no type"),
        ('type = "A"', 'type = "PTR"', "shape", "type is PTR"),
        ("    dns_records {", DYNAMIC, "", ""),
        ('default = "vpc-1"', 'default = ""', "", ""),
        ('default = "vpc-1"', 'default = "staging"', "shape", "vpc is staging"),
        ('  protocol    = "HTTP"\n', "", "shape", "it has no protocol"),
        ("vpc_id      = var.vpc", 'vpc_id = "staging"', "shape", "vpc_id is staging"),
        ('subnets         = ["subnet-1"]', 'subnets = ["vpc-1"]', "shape", "subnets is vpc-1"),
        (GIVEN, "", "shape", "HTTPS needs a certificate_arn"),
        (GIVEN, "  certificate_arn = null", "", ""),
        (GIVEN, "  lifecycle {\n    ignore_changes = [certificate_arn]\n  }", "", ""),
        (GIVEN, '  certificate_arn = "vpc-1"', "shape", "certificate_arn is vpc-1"),
        (f'"HTTPS"\n{GIVEN}', "var.unset", "", ""),
        (f'443\n  protocol          = "HTTPS"\n{GIVEN}', '80\n  protocol = "HTTP"', "", ""),
        (f'"HTTPS"\n{GIVEN}', '"TCP"', "", ""),
        # what keeps a task from starting
        ('"ecs-tasks.amazonaws.com"', '"lambda.amazonaws.com"', "start", "may not be assumed by a task"),
        ('"ecs-tasks.amazonaws.com"', "var.unset", "? start", "may be assumed by a task"),
        ("role       = aws_iam_role.finn.name", 'role = "other"', "start", "may not pull an image"),
        ("/AmazonECSTaskExecutionRolePolicy", "/AWSXRayDaemonWriteAccess", "start", "may not write logs"),
        (READS, 'Resource = "arn:aws:secretsmanager:us-east-1:1:secret:p/x"',
         "start", "may not read the secret p/finn/key"),
        ('Effect = "Allow"', 'Effect = "Deny"', "start", "may not read the secret"),
        (READS, 'Resource = "arn:aws:secretsmanager:*:*:secret:p/finn/*"',
         "", ""),
        (READS, "Resource = var.unset", "? start", "may read the secret"),
        ('"sts:AssumeRole"', "var.unset", "? start", "may be assumed by a task"),
        ("role       = aws_iam_role.finn.name", "role = var.unset", "? start", "may pull an image"),
        ("role   = aws_iam_role.finn.id", "role = var.unset", "? start", "may read the secret"),
        ('Action = "secretsmanager:GetSecretValue"', "Action = var.unset", "? start", "may read the secret"),
        ('name               = "p-finn"', 'name = var.unset ? "p-finn" : var.region', "", ""),
        ('name               = "p-finn"', 'name = var.unset ? "p-finn" : "q-finn"', "", ""),
        ("execution_role_arn       = aws_iam_role.finn.arn", "execution_role_arn = var.unset", "? start",
         "the execution role of finn"),
        ('name               = "p-finn"', 'name = "p-${var.unset}"', "", ""),
        ('name               = "p-finn"', 'name = "${var.unset}-${var.region}"', "", ""),
        # what keeps it from being found
        ('container_name   = "finn"', 'container_name = "web"', "address", "finn has no container web"),
        ("container_port   = 3000", "container_port = 8080", "address", "finn does not listen on port 8080"),
        ('  target_type = "ip"\n  health', "  health", "address", "does not take IP addresses"),
        ('    name         = "finn"', "    name = var.unset", "", ""),
        ("[{ containerPort = 3000 }]", "var.unset", "", ""),
        ("containerPort = 3000 }", "containerPort = var.unset }", "", ""),
        ('path = "/health"', 'path = "/"', "address", "checks health at /,"),
        ('  health_check { path = "/health" }\n', "", "address", "checks health at /,"),
        ('health_check { path = "/health" }', 'health_check { protocol = "TCP" }', "", ""),
        ('path = "/health" }', 'path = "/health"\nport = "3001"\n}', "address", "health on port 3001,"),
        ('path = "/health" }', 'path = "/health"\nport = "traffic-port"\n}', "", ""),
        ('"CMD", "true"', '"CMD-SHELL", "wget -q http://localhost:3001/health || exit 1"', "address",
         "checks its health on port 3001, it listens on 3000"),
        ('"CMD", "true"', '"CMD", "curl", "http://127.0.0.1/health"', "address", "its health on port 80"),
        ('"CMD", "true"', '"CMD", "curl", "http://[::1]:3000/health?deep=1"', "", ""),
        ('"CMD", "true"', '"CMD", "curl", "http://localhost:${var.unset}/health"', "", ""),
        ('"CMD", "true"', '"CMD", "curl", "http://localhost:9090/live"', "", ""),
        (OF_HTTP, OF_TCP, "address", "it takes no target group of TCP"),
        ('path = "/health"', "path = var.unset", "", ""),
        ('name = "p.local"', 'name = "q.local"', "address", "found as finn.q.local, not as finn.p.local"),
        ("name     = each.key", 'name = "f"', "address", "not as finn.p.local"),
        ('  service_registries { registry_arn = aws_service_discovery_service.of["finn"].arn }\n', "",
         "address", "found under no name"),
        ('values = ["finn.example.org"]', 'values = ["x.example.org"]', "address", "no load balancer sends"),
        ('values = ["finn.example.org"]', 'values = ["*.example.org"]', "", ""),
        ('resource "aws_lb_listener_rule" "finn" {', earlier("/*"),
         "address", "sends finn.example.org/health to aws_lb_target_group.other, not to finn"),
        ('resource "aws_lb_listener_rule" "finn" {', earlier("/docs/*"), "", ""),
        ('resource "aws_lb_listener_rule" "finn" {', earlier("/*", "aws_lb_listener.test.arn"), "", ""),
        ('resource "aws_lb_listener_rule" "finn" {', earlier("/*", group="finn"), "", ""),
        ("arn = aws_lb_target_group.finn.arn\n      }", "arn = aws_lb_target_group.other.arn\n      }",
         "address", "no load balancer sends finn.example.org to finn"),
        ("  cluster         = aws_ecs_cluster.main.id\n", "", "address", "finn is in no cluster"),
        # what keeps it from being reached
        (SOURCE, SOURCE.replace("api", "finn"),
         "way", "no security group of finn lets api in on port 3000"),
        ('protocol                 = "tcp"', 'protocol = "udp"', "way", "lets api in"),
        ("to_port                  = 3000", "to_port = 3001", "", ""),
        (SOURCE, 'cidr_blocks = ["10.0.0.0/8"]', "? way", "lets api in"),
        (SOURCE, 'cidr_blocks = ["0.0.0.0/0"]', "", ""),
        (SOURCE, "source_security_group_id = var.unset", "? way",
         "lets api in"),
        ('type              = "egress"', 'type = "ingress"', "way", "of api lets it out to finn"),
        ('resource "aws_security_group" "api" { name = "api" }', INLINE, "", ""),
        ('resource "aws_security_group" "api" { name = "api" }\nresource "aws_security_group_rule" "out" {',
         AS_LIST + '\nresource "other" "out" {', "? way", "of api lets it out to finn"),
        (SOURCE, SOURCE.replace("api", "finn") + OF_A_LIST, "? way", "lets api in"),
        # names
        ('name = "p-cluster"', 'name = "cluster"', "name", "no aws_ecs_cluster is called p-cluster"),
        ('name = "p-cluster"', 'name = "p-${var.unset}"', "? name", "unless aws_ecs_cluster.main is"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_found(
    read: Read, find: str, replace: str, rule: str, what: str
) -> None:
    for name, examined in findings(read, find, replace).items():
        said = [each.what for each in examined.findings] + [
            f"? {each.what}" for each in examined.not_examined
        ]
        if name == rule.removeprefix("? "):
            assert any(what in each and each.startswith("?") == rule.startswith("?") for each in said), said
        elif not rule:
            assert said == [], name


def on(port: str, more: str = "", protocol: str = "HTTPS") -> str:
    """The platform with another port of its listener, and further resources."""
    text = PLATFORM.replace("port              = 443", f"port              = {port}")
    return text.replace('protocol          = "HTTPS"', f'protocol          = "{protocol}"') + more


AT_443 = """
resource "aws_lb_listener" "second" {
  load_balancer_arn = aws_lb.main.arn
  port              = 443
  protocol          = "HTTPS"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.finn.arn
  }
}
"""


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (on("443"), False),
        (on("8443"), True),
        (on("8443", protocol="HTTP"), False),
        (on("var.unset"), False),
        (on("8443", AT_443), False),
        (on("8443", AT_443.replace("443", "9443")), True),
        (on("8443", 'resource "aws_cloudfront_distribution" "front" {}'), False),
        (on("8443").replace('"main" { subnets', '"main" {\n  internal = true\n  subnets'), False),
    ],
)
def test_a_public_host_is_served_on_the_port_of_https(read: Read, text: str, wrong: bool) -> None:
    configuration = read(text)
    defined = read_definitions(configuration, ["finn", "api"])
    address = {"finn": Address(public="finn.example.org")}
    found = [each.what for each in connected(configuration, defined, address).findings if "port" in each.what]
    expected = ["aws_lb_listener.https takes finn.example.org for finn on port 8443, not on 443"]
    assert found == (expected if wrong else [])


ON_HOSTS = (
    PLATFORM.replace('["FARGATE"]', '["EC2"]')
    .replace('"awsvpc"', '"bridge"')
    .replace('target_type = "ip"\n  health', 'target_type = "instance"\n  health')
    .replace('path = "/health" }', 'path = "/health"\n    port = "8080"\n  }')
)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (ON_HOSTS, []),
        (
            ON_HOSTS.replace('"bridge"', '"awsvpc"'),
            ["does not take IP addresses", "checks health on port 8080"],
        ),
    ],
)
def test_a_task_on_the_network_of_its_host_is_found_by_its_instance(
    read: Read, text: str, wrong: list[str]
) -> None:
    configuration = read(text)
    defined = read_definitions(configuration, ["finn", "api"])
    found = [each.what for each in connected(configuration, defined, {"finn": FINN}).findings]
    assert [what in each for what, each in zip(wrong, found, strict=True)] == [True] * len(wrong), found


@pytest.mark.parametrize(
    ("codes", "found"),
    [
        ("200", True), ("200-299", True), ("302, 200", True), ("404", False), ("300-399,500", False),
        ("0", None), ("12", None), ("", None), ("ok", None),
    ],
)  # fmt: skip
def test_a_matcher_takes_what_it_lists(codes: str, found: bool | None) -> None:
    assert accepted(codes, 200) is found


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        (
            '{ path = "/health" }',
            '{\n    path = "/health"\n    matcher = "404"\n  }',
            "expects 404 of healthy",
        ),
        ('{ path = "/health" }', '{\n    path = "/health"\n    matcher = "200-399"\n  }', ""),
        ('{ path = "/health" }', '{\n    path = "/health"\n    matcher = var.unset\n  }', ""),
        (
            "containerPort = 3000",
            "containerPort = 5432",
            "listens on port 5432, the services know it by 3000",
        ),
        ("containerPort = 3000", "containerPort = var.unset", ""),
        ("[{ containerPort = 3000 }]", "[{ containerPort = 9000 }, { containerPort = 3000 }]", ""),
    ],
)
def test_a_service_is_asked_and_listens_as_the_contract_has_it(
    read: Read, before: str, after: str, wrong: str
) -> None:
    configuration = read(PLATFORM.replace(before, after))
    defined = read_definitions(configuration, ["finn", "api"])
    address = {"finn": Address("finn", "p.local", health="/health", port=3000)}
    found = [each.what for each in connected(configuration, defined, address).findings]
    told = [each for each in found if "of healthy" in each or "know it by" in each]
    assert [wrong in each for each in told] == [True] * bool(wrong)


TLS = """
resource "aws_acm_certificate" "main" {
  domain_name               = "api.example.org"
  subject_alternative_names = [NAMES]
}
resource "aws_acm_certificate_validation" "main" { certificate_arn = aws_acm_certificate.main.arn }
"""
PROVED = "  certificate_arn   = aws_acm_certificate_validation.main.certificate_arn"
MORE = """
resource "aws_acm_certificate" "more" { domain_name = "finn.example.org" }
resource "aws_lb_listener_certificate" "more" {
  listener_arn    = aws_lb_listener.https.arn
  certificate_arn = aws_acm_certificate.more.arn
}
"""


BY_DATA = """
data "aws_lb_listener" "https" { port = 443 }
""" + MORE.replace("aws_lb_listener.https", "data.aws_lb_listener.https")
OF_ZONE = """
data "aws_route53_zone" "main" { name = "finn.example.org." }
"""
ALIASES = 'resource "aws_cloudfront_distribution" "front" { aliases = [NAMES] }'
RECORD = 'resource "cloudflare_record" "front" {\n  name = "NAME"\n  proxied = PROXIED\n}'
FETCHED = 'module "cdn" { source = "terraform-aws-modules/cloudfront/aws" }'


def record(name: str, proxied: str) -> str:
    """A record of Cloudflare."""
    return RECORD.replace("NAME", name).replace("PROXIED", proxied)


def proved(names: str, more: str = "") -> str:
    """A listener on 443 with a certificate of `names`, and what else there is."""
    return on("443", TLS.replace("NAMES", names) + more).replace(GIVEN, PROVED)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (proved('"finn.example.org"'), ""),
        (proved('"*.example.org"'), ""),
        (proved("var.names"), ""),
        (proved("", MORE), ""),
        (proved("", MORE.replace("aws_acm_certificate.more.arn", "var.names")), ""),
        (proved("", MORE.replace('"aws_lb_', '"aws_alb_')), ""),
        (proved("", BY_DATA), ""),
        (proved("data.aws_route53_zone.main.name", OF_ZONE), ""),
        (proved("data.aws_route53_zone.main.name", OF_ZONE.replace("finn", "z")), "and z.example.org, not"),
        (proved("", 'resource "aws_cloudfront_distribution" "front" {}'), ""),
        (proved("", 'resource "cloudflare_record" "front" {}'), ""),
        (proved("", 'resource "aws_api_gateway_integration" "front" {}'), ""),
        (proved("", 'resource "aws_api_gateway_vpc_link" "front" {}'), ""),
        (proved("", 'resource "fastly_service_vcl" "front" {}'), ""),
        (proved("", FETCHED), ""),
        (proved("", record("finn", "true")), ""),
        (proved("", record("finn", "var.names")), ""),
        (proved("", record("${var.names}", "true")), ""),
        (proved("", record("@", "true")), ""),
        (proved("", ALIASES.replace("NAMES", '"docs.example.org", "*.example.org"')), ""),
        (proved("", ALIASES.replace("NAMES", "var.names")), ""),
        (proved("", record("finn", "false")), "is of api.example.org, not of finn"),
        (proved("", record("docs", "true")), "is of api.example.org, not of finn"),
        (proved("", ALIASES.replace("NAMES", '"docs.example.org"')), "is of api.example.org, not of finn"),
        (proved("").replace("aws_acm_certificate_validation.main.certificate_arn", "var.names"), ""),
        (proved(""), "the certificate of aws_lb_listener.https is of api.example.org, not of finn"),
        (proved('"*.finn.example.org"'), "not of finn.example.org"),
        (proved("", MORE.replace("finn.", "dixie.")), "is of api.example.org and dixie.example.org, not"),
        (on("443"), ""),
        (on("80", AT_443, "HTTP"), ""),
        (on("443", 'resource "aws_cloudfront_distribution" "front" {}', "HTTP"), ""),
        (on("443", protocol="HTTP"), "aws_lb_listener.https speaks plain HTTP on port 443"),
        (on("443").replace(OF_HTTP, OF_TCP), "speaks HTTPS: it takes no target group of TCP"),
        (on("443", protocol="TLS").replace(OF_HTTP, OF_TCP), ""),
    ],
)
def test_a_public_host_is_entered_by_https(read: Read, text: str, what: str) -> None:
    configuration = read(text, 'variable "names" {}')
    defined = read_definitions(configuration, ["finn", "api"])
    address = {"finn": Address(public="finn.example.org", health="/health")}
    found = [each.what for each in connected(configuration, defined, address).findings]
    assert [what in each for each in found] == [True] * bool(what), found


def of_host(values: str) -> str:
    """The platform with other hosts in the rule of finn."""
    return PLATFORM.replace('values = ["finn.example.org"]', values)


OF_ANY = PLATFORM.replace('host_header { values = ["finn.example.org"] }', 'path_pattern { values = ["/*"] }')
ALB = PLATFORM.replace("aws_lb", "aws_alb")
KIND = '  action {\n    type = "forward"\n    forward {'
GROUP_OF_FINN = "target_group_arn = aws_lb_target_group.finn.arn\n    container_name"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (of_host('regex_values = ["^finn\\\\.example\\\\.org$"]'), "? where finn.example.org leads"),
        (of_host("values = [var.unset]"), "? where finn.example.org leads: ${var.unset}"),
        (of_host('values = ["Finn.Example.org"]'), ""),
        (OF_ANY, ""),
        (OF_ANY.replace("/*", "/docs/*"), "no load balancer sends finn.example.org to finn"),
        (ALB, ""),
        (ALB.replace("finn.example.org", "docs.example.org"), "no load balancer sends finn.example.org"),
        (PLATFORM.replace(KIND, KIND.replace('"forward"', "var.unset")), "? where finn.example.org leads"),
        (PLATFORM.replace(GROUP_OF_FINN, "target_group_arn = var.unset\n    container_name"),
         "? where finn.example.org leads: ${var.unset}"),
    ],
)  # fmt: skip
def test_a_host_is_led_by_what_the_files_say(read: Read, text: str, what: str) -> None:
    configuration = read(text)
    defined = read_definitions(configuration, ["finn", "api"])
    examined = connected(
        configuration, defined, {"finn": Address(public="finn.example.org", health="/health")}
    )
    found = [each.what for each in examined.findings]
    found += [f"? {each.what}" for each in examined.not_examined if "the target group" not in each.what]
    assert [what in each for each in found] == [True] * bool(what), found


RULE = 'resource "aws_lb_listener_rule" "finn" {'
PATH = "  condition {\n    path_pattern { values = [PATHS] }\n  }\n"
BESIDE = (
    earlier("/docs/*")
    .removesuffix(RULE)
    .replace(
        "  condition {",
        """  condition {
    host_header { values = ["finn.example.org"] }
  }
  condition {""",
    )
)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (PLATFORM.replace(RULE, RULE + PATH.replace("PATHS", '"/health", "/v1/*"')), ""),
        (PLATFORM.replace(RULE, RULE + PATH.replace("PATHS", "var.unset")), ""),
        (PLATFORM.replace(RULE, RULE + PATH.replace("PATHS", '"/v1/*"')), "no load balancer sends finn"),
        (PLATFORM + BESIDE, ""),
        # a rule for some other path leaves a host to the listener's default
        (PLATFORM.replace(RULE, 'resource "other" "finn" {').replace(
            "arn = aws_lb_target_group.other.arn", "arn = aws_lb_target_group.finn.arn"
        ) + BESIDE, ""),
    ],
)  # fmt: skip
def test_a_rule_for_other_paths_says_nothing_of_a_host(read: Read, text: str, what: str) -> None:
    configuration = read(text)
    defined = read_definitions(configuration, ["finn", "api"])
    address = {"finn": Address(public="finn.example.org", health="/health")}
    found = [each.what for each in connected(configuration, defined, address).findings]
    assert [what in each for each in found] == [True] * bool(what), found


OWN_KEY = """
resource "aws_kms_key" "own" { POLICY }
resource "aws_kms_alias" "own" {
  name          = "alias/own"
  target_key_id = aws_kms_key.own.id
}
"""
OTHER_KEY = '\nresource "aws_kms_key" "other" {{}}\n'
GRANTED = OTHER_KEY + 'resource "aws_kms_grant" "of" {{ key_id = aws_kms_key.{}.key_id }}'
ELSEWHERE = OTHER_KEY + 'module "roles" {{\n  source = "terraform-aws-modules/iam/aws"\n  {}\n}}'
ANY_POLICY = 'policy = jsonencode({ Statement = [{ Effect = "Allow", Action = "kms:*", Resource = "*" }] })'
DECRYPTS = (
    READS.replace("secretsmanager:GetSecretValue", "X")
    + """
  }, { Effect = "Allow", Action = "kms:Decrypt", Resource = aws_kms_key.own.arn"""
)


@pytest.mark.parametrize(
    ("by", "policy", "reads", "count"),
    [
        ("aws_kms_key.own.arn", "", READS, 1),
        ("aws_kms_alias.own.arn", "", READS, 1),
        ('"alias/own"', "", READS, 1),
        ("aws_kms_key.own.arn", "", DECRYPTS, 0),
        ("aws_kms_key.own.arn", ANY_POLICY, READS, 0),
        ('"alias/aws/secretsmanager"', "", READS, 0),
        ("var.unset", "", READS, 0),
        ("aws_kms_key.own.arn", GRANTED.format("own"), READS, 0),
        ("aws_kms_key.own.arn", GRANTED.format("other"), READS, 1),
        ("aws_kms_key.own.arn", ELSEWHERE.format("role = aws_iam_role.finn.name"), READS, 0),
        ("aws_kms_key.own.arn", ELSEWHERE.format("key = aws_kms_key.own.arn"), READS, 0),
        ("aws_kms_key.own.arn", ELSEWHERE.format("key = aws_kms_key.other.arn"), READS, 1),
    ],
)
def test_a_task_decrypts_its_secrets(read: Read, by: str, policy: str, reads: str, count: int) -> None:
    text = PLATFORM.replace('name = "p/finn/key" }', f'name = "p/finn/key"\n  kms_key_id = {by}\n}}')
    own, beside = (policy, "") if policy.startswith("policy") else ("", policy)
    configuration = read(text.replace(READS, reads) + OWN_KEY.replace("POLICY", own) + beside)
    examined = starts(configuration, read_definitions(configuration, ["finn", "api"]))
    assert ["may not decrypt what aws_kms_key.own" in each.what for each in examined.findings] == [
        True
    ] * count


FIXED = """
    type = "fixed-response"
    fixed_response {
      content_type = "text/plain"
      status_code  = "503"
    }"""
SENT = """
    type = "redirect"
    redirect {
      host        = "HOST"
      status_code = "HTTP_302"
    }"""


def first(path: str, action: str, priority: str = "10") -> str:
    """A rule that answers by itself."""
    text = earlier(path).removesuffix(RULE).replace("= 100", f"= {priority}")
    forward = text[text.index('    type             = "forward"') : text.index("  }\n  condition")]
    return text.replace(forward, f"{action}\n")


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (first("/*", FIXED), "answers finn.example.org/health itself with a fixed"),
        (first("/v1/invoke", FIXED), "answers finn.example.org/v1/invoke itself"),
        (first("/v1/*", SENT.replace("HOST", "old.example.org")), "a redirect to old.example.org"),
        (first("/v1/*", SENT.replace("HOST", "#{host}")), ""),
        (first("/v1/*", SENT.replace("HOST", "FINN.example.org")), ""),
        (first("/v1/*", SENT.replace("HOST", "${var.unset}")), ""),
        (first("/docs/*", FIXED), ""),
        (first("/*", FIXED, "49999"), ""),
        (first("/*", FIXED) + "\n# finn's rank is open", ""),
        (first("/*", FIXED, "var.unset"), ""),
        (first("/*", FIXED).replace("aws_lb_listener.https.arn", "aws_lb_listener.plain.arn"), ""),
        (first("/*", FIXED).replace('"paths" {', '"paths" {\n  count = 0'), ""),
        (first("/*", FIXED).replace("  condition {", """  condition {
    http_request_method { values = ["OPTIONS"] }
  }
  condition {"""), ""),
    ],
)  # fmt: skip
def test_the_balancer_leaves_the_paths_of_a_service_to_it(read: Read, more: str, what: str) -> None:
    open_ = more.endswith("is open")
    configuration = read(
        PLATFORM.replace(RULE, f"{RULE}\n  priority = {'var.unset' if open_ else 200}") + more
    )
    defined = read_definitions(configuration, ["finn", "api"])
    address = {"finn": Address(public="finn.example.org", health="/health", paths=("/health", "/v1/invoke"))}
    found = [each.what for each in connected(configuration, defined, address).findings]
    assert [what in each for each in found] == [True] * bool(what), found
