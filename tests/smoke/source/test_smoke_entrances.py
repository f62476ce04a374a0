"""Public entrances: certificates, ports and listener rules, and responses that bypass a service."""

import pytest

from smoke.source.infrastructure.connections import Address, connected
from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.infrastructure.network import reached
from tests.smoke.source.connected import GIVEN, OF_HTTP, OF_TCP, PLATFORM, earlier
from tests.smoke.source.terraform_files import Read


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
    expected = ["aws_lb_listener.https serves finn.example.org for finn on port 8443, not on 443"]
    assert found == (expected if wrong else [])


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
        (proved("", record("finn", "false")), "covers api.example.org, not finn"),
        (proved("", record("docs", "true")), "covers api.example.org, not finn"),
        (proved("", ALIASES.replace("NAMES", '"docs.example.org"')), "covers api.example.org, not finn"),
        (proved("").replace("aws_acm_certificate_validation.main.certificate_arn", "var.names"), ""),
        (proved(""), "the certificate of aws_lb_listener.https covers api.example.org, not finn"),
        (proved('"*.finn.example.org"'), "not finn.example.org"),
        (proved("", MORE.replace("finn.", "dixie.")), "covers api.example.org and dixie.example.org, not"),
        (on("443"), ""),
        (on("80", AT_443, "HTTP"), ""),
        (on("443", 'resource "aws_cloudfront_distribution" "front" {}', "HTTP"), ""),
        (on("443", protocol="HTTP"), "aws_lb_listener.https speaks plain HTTP on port 443"),
        (on("443").replace(OF_HTTP, OF_TCP), "speaks HTTPS and cannot forward to a group of TCP"),
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
def test_a_host_is_routed_as_the_files_say(read: Read, text: str, what: str) -> None:
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
def test_a_rule_for_other_paths_says_nothing_about_a_host(read: Read, text: str, what: str) -> None:
    configuration = read(text)
    defined = read_definitions(configuration, ["finn", "api"])
    address = {"finn": Address(public="finn.example.org", health="/health")}
    found = [each.what for each in connected(configuration, defined, address).findings]
    assert [what in each for each in found] == [True] * bool(what), found


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
    """A rule with a fixed response."""
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


WEIGHED = """      target_group {
        arn    = aws_lb_target_group.finn.arn
        weight = OWN
      }
      target_group {
        arn    = aws_lb_target_group.canary.arn
        weight = OTHER
      }"""
CANARY = """
resource "aws_lb_target_group" "canary" {
  target_type = "ip"
  protocol    = "HTTP"
  port        = 3000
  vpc_id      = var.vpc
}"""
OF_API = 'resource "aws_ecs_service" "api" {\n  load_balancer {\n    target_group_arn = GROUP\n  }'
LOGIN = """
  action {
    type  = "authenticate-oidc"
    order = 1
    authenticate_oidc {
      client_id = "x"
    }
  }"""
PERHAPS = """
  dynamic "action" {
    for_each = var.unset ? [1] : []
    content {
      type = "authenticate-oidc"
      authenticate_oidc {
        client_id = "x"
      }
    }
  }"""
WITH_TOKEN = """
resource "aws_lb_listener_rule" "token" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 10
  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.finn.arn
  }
  condition {
    host_header { values = ["finn.example.org"] }
  }
  condition {
    http_header {
      http_header_name = "Authorization"
      values           = ["Bearer *"]
    }
  }
}"""
ALLOWED = LOGIN.replace('"x"', '"x"\n      on_unauthenticated_request = "allow"')
ON_80 = """
resource "aws_lb_listener" "plain" {
  load_balancer_arn = aws_lb.main.arn
  port              = 80
  protocol          = "HTTP"
  default_action { type = "forward" }
}"""
ABROAD = '  certificate_arn   = "arn:aws:acm:eu-west-1:123456789012:certificate/1"'
HERE = '\nprovider "aws" {\n  region = "REGION"\n}'
PLAIN = ON_80.replace(
    'default_action { type = "forward" }',
    """default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.finn.arn
  }""",
)
WITHOUT_RULE = PLATFORM[: PLATFORM.index(RULE.partition("\n")[0])]
FOR_STAFF = (
    PLAIN.replace("= 80", "= 8443")
    .replace("\n  default_action", f"{LOGIN}\n  default_action")
    .replace("  action {", "  default_action {")
)
CHOSEN = "    target_group_arn = var.unset ? aws_lb_target_group.canary.arn : aws_lb_target_group.finn.arn"
MOVED = """aws_lb_target_group.finn.arn
    advanced_configuration { alternate_target_group_arn = aws_lb_target_group.canary.arn }
    container_name"""


def weighed(own: str, other: str, of_api: str = "") -> str:
    """The platform with two groups in the rule for finn; the second may be the API's."""
    group = "      target_group {\n        arn = aws_lb_target_group.finn.arn\n      }"
    assert group in PLATFORM
    text = PLATFORM.replace(group, WEIGHED.replace("OWN", own).replace("OTHER", other)) + CANARY
    balanced = OF_API.replace("GROUP", f"aws_lb_target_group.{of_api}.arn")
    return text.replace('resource "aws_ecs_service" "api" {', balanced) if of_api else text


def ruled(more: str) -> str:
    """The platform with more in its rule for finn, which is the first."""
    return PLATFORM.replace(RULE, f"{RULE}\n  priority = 100{more}")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (weighed("90", "10"), ""),
        (weighed("var.unset", "0"), ""),
        (weighed("100", "0", "canary"), ""),
        (weighed("50", "50", "finn"), ""),
        (weighed("0", "100").replace(
            RULE, f"{RULE}\n  lifecycle {{\n    ignore_changes = [action]\n  }}"), ""),
        (weighed("0", "100").replace("aws_lb_target_group.finn.arn\n    container_name", MOVED), ""),
        (weighed("50", "50", "canary").replace(WEIGHED.replace("OWN", "50").replace("OTHER", "50"), CHOSEN)
         .replace("    forward {\n", "").replace(f"{CHOSEN}\n    }}", CHOSEN), ""),
        (weighed("0", "100"), "no load balancer sends finn.example.org to finn"),
        (weighed("50", "50", "canary"), "aws_lb_listener_rule.finn sends a part of finn.example.org to api"),
        (ruled(ALLOWED), ""),
        (ruled(PERHAPS), ""),
        (ruled(LOGIN + PATH.replace("PATHS", '"/admin/*"')) + BESIDE.replace("/docs/*", "/*").replace(
            "group.other.arn", "group.finn.arn").replace("= 100", "= 200"), ""),
        (PLATFORM + FOR_STAFF, ""),
        (ruled(LOGIN) + WITH_TOKEN, ""),
        (ruled(LOGIN), "aws_lb_listener_rule.finn asks for a login at finn.example.org/health"),
        (PLATFORM + ON_80, ""),
        (WITHOUT_RULE.replace("aws_lb_target_group.other.arn", "var.unset") + PLAIN, ""),
        (PLATFORM.replace('["finn.example.org"]', "[var.unset]") + PLAIN, ""),
        (ruled("").replace("aws_lb_listener.https.arn", "aws_lb_listener.plain.arn")
         + ON_80.replace("aws_lb.main", "data.aws_lb.other") + 'data "aws_lb" "other" {}', ""),
        (ruled("").replace("aws_lb_listener.https.arn", "aws_lb_listener.plain.arn") + ON_80,
         "finn.example.org is routed only by aws_lb_listener.plain over plain HTTP"),
        (PLATFORM.replace(GIVEN, ABROAD) + HERE.replace("REGION", "eu-west-1"), ""),
        (PLATFORM.replace(GIVEN, ABROAD), ""),
        (PLATFORM.replace(GIVEN, f"{ABROAD.replace('=', '= var.unset ? var.unset :')}")
         + HERE.replace("REGION", "us-east-1"), ""),
        (PLATFORM.replace(GIVEN, ABROAD.replace(":acm:", ":iam:")) + HERE.replace("REGION", "us-east-1"), ""),
        (PLATFORM.replace(GIVEN, ABROAD) + HERE.replace("REGION", "us-east-1"),
         "aws_lb_listener.https is in us-east-1, but its certificate is in eu-west-1"),
    ],
)  # fmt: skip
def test_all_requests_for_a_host_must_reach_its_service(read: Read, text: str, what: str) -> None:
    configuration = read(text)
    defined = read_definitions(configuration, ["finn", "api"])
    address = {"finn": Address(public="finn.example.org", health="/health", paths=("/health",))}
    examined = connected(configuration, defined, address)
    found = [each.what for each in examined.findings if "aws_lb_target_group.finn" not in each.what]
    assert [what in each for each in found if "cluster" not in each] == [True] * bool(what), found


def test_the_region_of_a_module_that_is_given_its_providers_is_not_known(read: Read) -> None:
    call = 'module "inner" {\n  source = "./inner"\n  providers = { aws = aws.other }\n}'
    module = {"tf/inner/main.tf": PLATFORM.replace(GIVEN, ABROAD)}
    configuration = read(HERE.replace("REGION", "us-east-1"), call, files=module)
    defined = read_definitions(configuration, ["finn", "api"])
    found = connected(configuration, defined, {"finn": Address(public="finn.example.org")}).findings
    assert not [each for each in found if "certificate" in each.what]


BALANCER = """
resource "aws_security_group" "lb" {
  name = "lb"
  egress {
    from_port   = PORT
    to_port     = PORT
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }
}
resource "aws_security_group_rule" "from_lb" {
  type                     = "ingress"
  security_group_id        = aws_security_group.finn.id
  source_security_group_id = aws_security_group.FROM.id
  from_port                = 3000
  to_port                  = 3000
  protocol                 = "tcp"
}"""


@pytest.mark.parametrize(
    ("groups", "port", "source", "what"),
    [
        ("", "3000", "lb", ""),
        ("[aws_security_group.lb.id]", "3000", "lb", ""),
        ("[aws_security_group.lb.id]", "3001", "lb", "no security group of aws_lb.main lets it out to finn"),
        ("[aws_security_group.lb.id]", "3000", "api", "of finn lets aws_lb.main in on port 3000"),
        ("[var.unset]", "3000", "lb", "?"),
    ],
)
def test_services_must_admit_their_load_balancer(
    read: Read, groups: str, port: str, source: str, what: str
) -> None:
    given = f"\n  security_groups = {groups}\n" if groups else ""
    text = PLATFORM.replace('"main" { subnets = [', f'"main" {{{given} subnets = [')
    text = text.replace(' subnets = ["subnet-1", "subnet-2"] }', ' subnets = ["subnet-1", "subnet-2"]\n}')
    configuration = read(text + BALANCER.replace("PORT", port).replace("FROM", source))
    defined = read_definitions(configuration, ["finn", "api"])
    examined = reached(configuration, defined, {})[1]
    found = [each.what for each in examined.findings] + ["?"] * bool(examined.not_examined)
    assert [what in each for each in found] == [True] * bool(what), found


DATABASE = """
resource "aws_db_instance" "main" { vpc_security_group_ids = [aws_security_group.db.id] }
resource "aws_security_group" "db" {
  name = "db"
  INLINE
}
"""
INLINE = 'ingress {\n from_port = 5432\n to_port = 5432\n protocol = "tcp"\n cidr_blocks = [RANGES]\n }'
BESIDE = """
resource "aws_vpc_security_group_ingress_rule" "db" {
  COUNT
  security_group_id = aws_security_group.db.id
  ip_protocol       = "-1"
  cidr_ipv4         = RANGES
}
"""


@pytest.mark.parametrize(
    ("rules", "ranges", "count", "is_open"),
    [
        (INLINE, '"0.0.0.0/0"', "", True),
        (INLINE, '"0.0.0.0/1", "128.0.0.0/1"', "", True),
        (INLINE, '"10.0.0.0/8"', "", False),
        (INLINE, "var.unset", "", False),
        (BESIDE, '"0.0.0.0/0"', "", True),
        (BESIDE, '"0.0.0.0/0"', "count = 0", False),
        (BESIDE, '"0.0.0.0/0"', "count = var.unset ? 1 : 0", False),
        (BESIDE, '"172.16.0.0/12"', "", False),
    ],
)
def test_only_the_platform_may_reach_the_database(
    read: Read, rules: str, ranges: str, count: str, is_open: bool
) -> None:
    rules = rules.replace("RANGES", ranges).replace("COUNT", count)
    database = DATABASE.replace("INLINE", rules if "ingress {" in rules else "")
    configuration = read(PLATFORM + database + ("" if "ingress {" in rules else rules))
    defined = read_definitions(configuration, ["finn", "api"])
    found = [each.what for each in reached(configuration, defined, {})[1].findings]
    assert found == ["aws_security_group.db of database lets everyone in on port 5432"] * is_open


ZONE = """
resource "aws_route53_zone" "main" {
  name = "example.org"
}
resource "aws_lb" "other" { subnets = ["subnet-1", "subnet-2"] }
resource "aws_route53_record" "finn" {
  zone_id = aws_route53_zone.main.zone_id
  name    = "finn.example.org"
  type    = "A"
  TARGET
}
"""
TO = "alias {\n    name = aws_lb.{}.dns_name\n  }"
INSIDE = 'records = ["10.0.3.7"]'
SECOND = """
resource "aws_route53_record" "second" {
  zone_id = aws_route53_zone.main.zone_id
  name    = "finn.example.org"
  type    = "A"
  alias { name = aws_lb.main.dns_name }
}
"""
BY_MODULE = """
module "listener" {
  source   = "acme/listener/aws"
  balancer = aws_lb.other.arn
  group    = aws_lb_target_group.finn.arn
}
"""


def at(target: str) -> str:
    """The platform with a record of finn's host."""
    return PLATFORM + ZONE.replace("TARGET", target)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (at(TO.replace("{}", "main")), ""),
        (at(TO.replace("{}", "other")).replace('= "finn.example.org"', '= "docs.example.org"'), ""),
        (at(TO.replace("{}", "other")) + SECOND, ""),
        (at('records = ["3.10.3.7"]'), ""),
        (at("records = [var.unset]"), ""),
        (at('records = ["d1.cloudfront.net"]'), ""),
        (at(INSIDE).replace('"example.org"\n', '"example.org"\n  vpc {\n    vpc_id = var.vpc\n  }\n'), ""),
        (at(INSIDE).replace("aws_route53_zone.main.zone_id", "var.unset"), ""),
        (at(INSIDE).replace('"A"', '"TXT"'), ""),
        (at(TO.replace("{}", "other") + '\n  set_identifier = "b"'), ""),
        (at(INSIDE).replace("aws_route53_zone.main.zone_id", "data.aws_route53_zone.inside.zone_id")
         + 'data "aws_route53_zone" "inside" {\n  name   = "example.org"\n  vpc_id = var.vpc\n}', ""),
        (at(TO.replace("{}", "other")).replace('"example.org"', '"example.net"').replace(
            '"finn.example.org"\n  type', '"finn"\n  type'), ""),
        (at(TO.replace("{}", "other")).replace(
            '"aws_lb" "main" {', '"aws_lb" "main" {\n  internal = true\n'), ""),
        (at(TO.replace("{}", "other")) + BY_MODULE, ""),
        (at(TO.replace("{}", "other")).replace('"finn.example.org"\n  type', '"finn"\n  type'),
         "to aws_lb.other, which does not route to finn"),
        (at(TO.replace("{}", "other")), "to aws_lb.other, which does not route to finn"),
        (at(INSIDE), "points finn.example.org to 10.0.3.7, which the public cannot reach"),
    ],
)  # fmt: skip
def test_the_record_of_a_host_leads_to_its_balancer(read: Read, text: str, what: str) -> None:
    configuration = read(text)
    defined = read_definitions(configuration, ["finn", "api"])
    address = {"finn": Address(public="finn.example.org", health="/health")}
    found = [each.what for each in connected(configuration, defined, address).findings]
    assert [what in each for each in found] == [True] * bool(what), found


PLACE = 'set_identifier = "a"\n  geolocation_routing_policy {\n    %s\n  }\n  ' + TO.replace("{}", "main")


@pytest.mark.parametrize(
    ("place", "second", "what"),
    [
        ('country = "US"', "", "answer only callers in US"),
        ('continent = "EU"', "", "answer only callers in EU"),
        ('country = "US"', SECOND.replace("alias {", 'set_identifier = "b"\n  geolocation_routing_policy {\n'
                                          '    country = "*"\n  }\n  alias {'), ""),
        ('country = "US"', SECOND, ""),
        ('country = "US"', SECOND.replace('"finn.example.org"', "var.unset"), ""),
        ("country = var.unset", "", ""),
        ('country = "*"', "", ""),
    ],
)  # fmt: skip
def test_the_records_of_a_host_answer_all_places(read: Read, place: str, second: str, what: str) -> None:
    configuration = read(at(PLACE % place) + second)
    defined = read_definitions(configuration, ["finn", "api"])
    address = {"finn": Address(public="finn.example.org", health="/health")}
    found = [each.what for each in connected(configuration, defined, address).findings]
    assert [what in each for each in found] == [True] * bool(what), found
