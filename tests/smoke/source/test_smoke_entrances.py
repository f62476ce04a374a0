"""How users enter: certificates, ports and rules of public hosts, and what answers in place of a service."""

import pytest

from smoke.source.connections import Address, connected
from smoke.source.definitions import read as read_definitions
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
    expected = ["aws_lb_listener.https takes finn.example.org for finn on port 8443, not on 443"]
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
