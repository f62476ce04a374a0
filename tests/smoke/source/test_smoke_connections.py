"""A service behind a load balancer, with its role and network, and each mismatch between them."""

import pytest

from smoke.source.infrastructure.connections import Address, accepted, connected
from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.infrastructure.starting import starts
from tests.smoke.source.connected import FINN, GIVEN, OF_HTTP, OF_TCP, PLATFORM, earlier, findings
from tests.smoke.source.terraform_files import Read

OWN_ARN = "arn:aws:secretsmanager:us-east-1:${var.unset}:secret:p/finn/key"
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
        (READS, f'Resource = "{OWN_ARN}-??????"', "", ""),
        (READS, 'Resource = [join("", [aws_secretsmanager_secret.finn.arn])]', "", ""),
        (READS, f'Resource = "{OWN_ARN}-a1B2c3"', "", ""),
        (READS, f'Resource = "{OWN_ARN}*"', "", ""),
        (READS, 'Resource = "${aws_secretsmanager_secret.finn.arn}*"', "", ""),
        (READS, f'Resource = "{OWN_ARN}"', "start", "may not read the secret p/finn/key"),
        (READS, 'Resource = "${aws_secretsmanager_secret.finn.arn}-??????"', "start", "may not read"),
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
        ('  target_type = "ip"\n  health', "  health", "address", "does not accept IP targets"),
        ('    name         = "finn"', "    name = var.unset", "", ""),
        ("[{ containerPort = 3000 }]", "var.unset", "", ""),
        ("containerPort = 3000 }", "containerPort = var.unset }", "", ""),
        ('path = "/health"', 'path = "/"', "address", "checks health at /,"),
        ('  health_check { path = "/health" }\n', "", "address", "checks health at /,"),
        ('health_check { path = "/health" }', 'health_check { protocol = "TCP" }', "", ""),
        ('path = "/health" }', 'path = "/health"\nport = "3001"\n}', "address", "health on port 3001,"),
        ('path = "/health" }', 'path = "/health"\nport = "traffic-port"\n}', "", ""),
        ('"CMD", "true"', '"CMD-SHELL", "wget -q http://localhost:3001/health || exit 1"', "address",
         "checks its health on port 3001, but it listens on 3000"),
        ('"CMD", "true"', '"CMD", "curl", "http://127.0.0.1/health"', "address", "its health on port 80"),
        ('"CMD", "true"', '"CMD", "curl", "http://[::1]:3000/health?deep=1"', "", ""),
        ('"CMD", "true"', '"CMD", "curl", "http://localhost:${var.unset}/health"', "", ""),
        ('"CMD", "true"', '"CMD", "curl", "http://localhost:9090/live"', "", ""),
        (OF_HTTP, OF_TCP, "address", "cannot forward to a group of TCP"),
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
        ("  cluster         = aws_ecs_cluster.main.id\n", "", "address", "finn is not in a cluster"),
        # what keeps it from being reached
        (SOURCE, SOURCE.replace("api", "finn"),
         "way", "no security group of finn lets api in on port 3000"),
        ('protocol                 = "tcp"', 'protocol = "udp"', "way", "lets api in"),
        ("to_port                  = 3000", "to_port = 3001", "", ""),
        (SOURCE, 'cidr_blocks = ["10.0.0.0/8"]', "? way", "lets api in"),
        (SOURCE, "cidr_blocks = [aws_vpc.main.cidr_block]", "? way", "lets api in"),
        ("[{ containerPort = 3000 }]", "[{ containerPort = 3000 }, { containerPort = 9090 }]", "", ""),
        (SOURCE, 'cidr_blocks = ["0.0.0.0/0"]', "", ""),
        (SOURCE, "source_security_group_id = var.unset", "? way",
         "lets api in"),
        ('type              = "egress"', 'type = "ingress"', "way", "of api lets it out to finn"),
        ('type              = "egress"', "type = var.unset", "? way", "of api lets it out to finn"),
        ("group_id = aws_security_group.api.id", "group_id = var.unset", "? way", "lets it out"),
        ('"p.local"', 'var.unset ? "p.local" : "q.local"', "", ""),
        ('resource "aws_security_group" "api" { name = "api" }', INLINE, "", ""),
        ('resource "aws_security_group" "api" { name = "api" }\nresource "aws_security_group_rule" "out" {',
         AS_LIST + '\nresource "other" "out" {', "? way", "of api lets it out to finn"),
        (SOURCE, SOURCE.replace("api", "finn") + OF_A_LIST, "? way", "lets api in"),
        # names
        ('name = "p-cluster"', 'name = "cluster"', "name", "there is no aws_ecs_cluster called p-cluster"),
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
            ["does not accept IP targets", "checks health on port 8080"],
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
            "expects 404 from healthy",
        ),
        ('{ path = "/health" }', '{\n    path = "/health"\n    matcher = "200-399"\n  }', ""),
        ('{ path = "/health" }', '{\n    path = "/health"\n    matcher = var.unset\n  }', ""),
        (
            "containerPort = 3000",
            "containerPort = 5432",
            "listens on port 5432, but the services use 3000",
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
    told = [each for each in found if "healthy targets" in each or "services use" in each]
    assert [wrong in each for each in told] == [True] * bool(wrong)


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


GROUP_OF_FINN, ZONE_OF_FINN = 'security_group" "finn" { name = "finn" }', "  vpc  = var.vpc\n"


@pytest.mark.parametrize(
    ("group", "zone", "more", "found"),
    [
        ("var.vpc", "var.vpc", "", False),
        ('"vpc-2"', "var.vpc", "", True),
        ('"vpc-2"', "var.vpc", 'resource "aws_route53_zone_association" "a" {}', False),  # lent to it
        ("aws_vpc.a.id", "aws_vpc.b.id", 'resource "aws_vpc" "a" {}\nresource "aws_vpc" "b" {}', True),
        ("aws_vpc.a.id", "var.vpc", 'resource "aws_vpc" "a" {}', False),  # which may have that id
        ("data.aws_vpc.a.id", "var.vpc", 'data "aws_vpc" "a" {}', False),
        ("var.unset", "var.vpc", "", False),
    ],
)
def test_a_private_zone_is_in_the_network_of_its_services(
    read: Read, group: str, zone: str, more: str, found: bool
) -> None:
    text = PLATFORM.replace(GROUP_OF_FINN, f'security_group" "finn" {{\n  vpc_id = {group}\n}}')
    text = text.replace(ZONE_OF_FINN, f"  vpc  = {zone}\n")
    configuration = read(text, more)
    defined = read_definitions(configuration, ["finn", "api"])
    examined = connected(configuration, defined, {"finn": FINN})
    assert any("is not in the network of finn" in each.what for each in examined.findings) == found


@pytest.mark.parametrize(
    ("version", "part", "found"),
    [
        ('"1.3.0"', ":url::", True),
        ('"1.3.0"', "", False),
        ('"1.4.0"', ":url::", False),
        ('"LATEST"', ":url::", False),
        ("var.unset", ":url::", False),
    ],
)
def test_an_old_fargate_is_asked_for_whole_secrets(read: Read, version: str, part: str, found: bool) -> None:
    service = 'resource "aws_ecs_service" "finn" {'
    key = "valueFrom = aws_secretsmanager_secret.finn.arn"
    assert service in PLATFORM
    assert key in PLATFORM
    asked = 'valueFrom = "${aws_secretsmanager_secret.finn.arn}' + part + '"'
    configuration = read(
        PLATFORM.replace(service, f"{service}\n  platform_version = {version}").replace(key, asked)
    )
    examined = starts(configuration, read_definitions(configuration, ["finn", "api"]))
    old = "which Fargate 1.3.0 does not support"
    assert [old in each.what for each in examined.findings] == [True] * found


@pytest.mark.parametrize("family", ['"WINDOWS_SERVER_2022_CORE"', "var.unset"])
def test_the_first_fargate_of_windows_is_not_old(read: Read, family: str) -> None:
    service = 'resource "aws_ecs_service" "finn" {'
    task = 'resource "aws_ecs_task_definition" "finn" {'
    windows = f"{task}\n  runtime_platform {{\n    operating_system_family = {family}\n  }}\n"
    key = "valueFrom = aws_secretsmanager_secret.finn.arn"
    asked = 'valueFrom = "${aws_secretsmanager_secret.finn.arn}:url::"'
    text = PLATFORM.replace(service, f'{service}\n  platform_version = "1.0.0"').replace(key, asked)
    old = read(text)
    assert starts(old, read_definitions(old, ["finn", "api"])).findings
    configuration = read(text.replace(task, windows))
    assert not starts(configuration, read_definitions(configuration, ["finn", "api"])).findings
